"""The Data screen: fetch, import, measure, choose, and look at a corpus from every side."""

import contextlib
import hashlib
import http.server
import json
import random
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from held_scan import HeldScans
from lab_harness import MakeApp, press, shown
from lab_harness import until as until_soon
from textual.events import Key
from textual.widgets import Input

from shakespeare_tui.config.draft import Origin
from shakespeare_tui.config.load import parse_config
from shakespeare_tui.data.catalogue import CATALOGUE, CorpusEntry, UrlSource
from shakespeare_tui.data.inspect.scan import ScanState, inspect_corpus, scan_corpus
from shakespeare_tui.data.source import locate_corpus
from shakespeare_tui.data.tokenizers.byte_pair import BytePairTokenizer
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer
from shakespeare_tui.data.tokens import open_tokenizer, split_tokens
from shakespeare_tui.data.windows import TextDataset, WindowSampler, gather_windows
from shakespeare_tui.paths import shipped_folder
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.data.corpus_list import CorpusList
from shakespeare_tui.ui.data.detail import TABS, CorpusDetail, CorpusTabs
from shakespeare_tui.ui.data.report import overview_lines
from shakespeare_tui.ui.data.screen import CorpusProgress
from shakespeare_tui.ui.settings import memory_settings
from shakespeare_tui.ui.widgets.pane_tabs import PaneTabs
from shakespeare_tui.ui.widgets.text_page import TextPage

PATIENCE_SECONDS = 20
CONTENT = b"".join(b"line %d of the corpus\n" % i for i in range(20_000))
WIDE = (140, 45)
OWN = "data.own_corpora"


@pytest.fixture(autouse=True)
def bare_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without corpora; nothing is fetched from anywhere but this machine."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("no_proxy", "*")
    return folder


@pytest.fixture
def open_app(make_app: MakeApp) -> Callable[..., LabApp]:
    """The app with texts of one's own on the list."""

    def make(*own: Path, **choices: Any) -> LabApp:
        places = {OWN: "\n".join(map(str, own))}
        return make_app("data", settings=memory_settings(places=places), **choices)

    return make


OpenApp = Callable[..., LabApp]


async def until(condition: Callable[[], object]) -> None:
    await until_soon(condition, PATIENCE_SECONDS)


def is_listed(app: LabApp) -> bool:
    return "Searching" not in shown(app) and "…" not in shown(app).splitlines()[2]


def is_measured(app: LabApp) -> bool:
    """Whether everything is known about the corpus under the highlight, and shown."""
    state = app.screen.query_one(CorpusDetail).state
    spec = app.screen.query_one(CorpusList).highlighted_spec
    if state is None or spec not in (state.source.name, state.source.title):
        return False
    is_busy = any(line.display for line in app.screen.query(CorpusProgress))
    is_shown = any(found.lines for found in app.screen.query("#overview").results(TextPage))
    return state.phase == "done" and is_shown and not is_busy


async def look_at(app: LabApp, spec: str) -> None:
    """Put the highlight on a corpus."""
    corpora = app.screen.query_one(CorpusList)
    await until(lambda: spec in [option.id for option in corpora.options])
    await until(lambda: is_listed(app))
    corpora.highlight(spec)


async def measure(app: LabApp, spec: str) -> None:
    """Put the highlight on a corpus and wait until everything is known about it."""
    await look_at(app, spec)
    await until(lambda: is_measured(app))


def page(app: LabApp, name: str) -> str:
    """All lines of a page, also those that are scrolled out of sight."""
    return "\n".join(app.screen.query_one(f"#{name}", TextPage).lines)


class TestList:
    async def test_a_bare_machine_is_told_what_to_press(self, make_app: MakeApp) -> None:
        app = make_app()
        async with app.run_test() as pilot:
            await until(lambda: "not fetched" in shown(app))
            await pilot.pause()
            screen = shown(app)
            assert "Press f to download it (1.1 MB)" in screen
            assert "karpathy/char-rnn" in screen and "public domain" in screen
            assert "86c4e6aa" in screen
            assert "Fetch" in screen.splitlines()[-1]
            assert "[ ] Tabs" not in screen.splitlines()[-1]

    @pytest.mark.parametrize("size", [(80, 24), WIDE, (200, 60)])
    async def test_size_licence_and_hash_state_are_listed(
        self, make_app: MakeApp, size: tuple[int, int]
    ) -> None:
        app = make_app()
        async with app.run_test(size=size):
            await until(lambda: "shipped" in shown(app))
            for text in ("sample", "28.5 kB", "CC0-1.0", "tiny_shakespeare", "not fetched"):
                assert text in shown(app)

    async def test_a_wrong_file_under_a_known_name_is_refused(
        self, make_app: MakeApp, bare_folder: Path
    ) -> None:
        (bare_folder / "data").mkdir()
        (bare_folder / "data" / "tiny_shakespeare.txt").write_text("not Shakespeare")
        app = make_app()
        async with app.run_test(size=WIDE):
            await until(lambda: "refused" in shown(app))
            assert "its SHA-256 differs" in " ".join(shown(app).split())

    async def test_files_that_come_while_the_lab_is_open_are_found(
        self, make_app: MakeApp, bare_folder: Path
    ) -> None:
        app = make_app()
        async with app.run_test(size=WIDE) as pilot:
            await until(lambda: is_listed(app))
            (bare_folder / "data").mkdir()
            (bare_folder / "data" / "late.txt").write_text("words that came late")
            await pilot.press("4", "1")
            await until(lambda: "late.txt" in shown(app))


class TestFigures:
    async def test_the_overview_has_the_figures_of_data_inspect(self, make_app: MakeApp) -> None:
        app = make_app()
        async with app.run_test(size=WIDE):
            await measure(app, "sample")
            source = locate_corpus("sample")
            assert source is not None
            report = inspect_corpus(source)
            text = page(app, "overview")
            for number in (
                report.statistics.characters,
                report.statistics.lines,
                report.split.train,
                report.split.validation,
            ):
                assert f"{number:,}" in text
            for loss in report.baselines.losses.values():
                assert f"{loss:.4f}" in text
            assert report.sha256[:32] in text
            assert report.statistics.first_lines[1] in text
            assert "with reservations" in text  # 28 kB are little

    async def test_characters_in_both_orders_and_on_both_scales(self, make_app: MakeApp) -> None:
        app = make_app()
        async with app.run_test(size=(80, 24)) as pilot:
            await measure(app, "sample")
            await pilot.press("right_square_bracket")
            await pilot.pause()
            text = (shipped_folder("data") / "sample.txt").read_text("utf-8")

            def rows() -> list[list[str]]:
                return [line.split() for line in page(app, "characters").splitlines()[2:]]

            by_count = rows()
            assert len(by_count) == len(set(text))
            assert by_count[0][:2] == ["space", "U+0020"]
            assert by_count[0][3] == f"{text.count(' '):,}"
            assert [int(row[3].replace(",", "")) for row in by_count] == sorted(
                (text.count(c) for c in set(text)), reverse=True
            )
            await pilot.press("o")
            assert [row[1] for row in rows()] == [f"U+{ord(c):04X}" for c in sorted(set(text))]
            assert [int(row[2]) for row in rows()] == list(range(len(set(text))))
            linear = page(app, "characters").count("█")
            await pilot.press("l")
            assert page(app, "characters").count("█") > linear

    async def test_speakers_and_lengths_of_a_play(
        self, open_app: OpenApp, bare_folder: Path
    ) -> None:
        play = bare_folder / "play.txt"
        play.write_text("ANN:\nten chars.\n\nBOB:\n" + "x" * 300 + "\n\n" + "ANN:\nyes\n\n" * 3)
        app = open_app(play)
        async with app.run_test(size=(80, 40)) as pilot:
            await measure(app, str(play))
            await pilot.press(*["right_square_bracket"] * 3)
            await pilot.pause()
            lines = [line.split() for line in page(app, "speakers").splitlines()]
            assert ["speeches", "5"] in lines and ["speakers", "2"] in lines
            assert ["BOB", "1", "300", "300"] in [line[:4] for line in lines]
            assert ["ANN", "4", "19", "5"] in [line[:4] for line in lines]
            assert ["0–10", "4", "80.0%"] in [line[:3] for line in lines]
            assert ["201–500", "1", "20.0%"] in [line[:3] for line in lines]

    async def test_the_zipf_plot_names_its_slopes_and_words(self, make_app: MakeApp) -> None:
        app = make_app()
        async with app.run_test(size=WIDE) as pilot:
            await measure(app, "sample")
            await pilot.press("right_square_bracket", "right_square_bracket")
            await until(lambda: "slope -" in shown(app))
            screen = shown(app)
            assert "slope -1" in screen and "characters" in screen
            assert "Most frequent words" in screen

    async def test_text_from_a_file_is_never_markup(
        self, open_app: OpenApp, bare_folder: Path
    ) -> None:
        path = bare_folder / "[red]x[bold] [].txt"
        path.write_text("[BOLD]ANN[/BOLD]:\n[red]red[/red] [/] [link=x]\n\n" * 60)
        app = open_app(path)
        async with app.run_test(size=WIDE) as pilot:
            await measure(app, str(path))
            assert "[red]x[bold] [].txt" in shown(app)
            seen = ""
            for _ in range(6):
                await pilot.press("right_square_bracket")
                await pilot.pause()
                seen += shown(app)
            assert "[red]red[/red] [/] [link=x]" in seen

    async def test_copies_the_figures_as_data_inspect_prints_them(self, make_app: MakeApp) -> None:
        app = make_app()
        async with app.run_test() as pilot:
            await measure(app, "sample")
            await pilot.press("y")
            await pilot.pause()
            source = locate_corpus("sample")
            assert source is not None
            expected = json.loads(json.dumps(inspect_corpus(source).to_json()))
            assert json.loads(app.clipboard) == expected

    async def test_a_changed_file_is_measured_again(
        self, open_app: OpenApp, bare_folder: Path
    ) -> None:
        path = bare_folder / "text.txt"
        path.write_text("few words " * 200)
        app = open_app(path)
        async with app.run_test() as pilot:
            await measure(app, str(path))
            assert "2,000" in page(app, "overview")
            path.write_text("more words " * 300)
            await pilot.press("2", "1")
            await until(lambda: is_measured(app) and "3,300" in page(app, "overview"))


@pytest.fixture
def gate() -> Iterator[HeldScans]:
    """A scan that stops after ten pieces of five thousand bytes."""
    gate = HeldScans(10)
    yield gate
    gate.opened.set()


@pytest.fixture
def long_text(bare_folder: Path) -> Path:
    path = bare_folder / "long.txt"
    path.write_bytes(CONTENT)
    return path


class TestLargeFiles:
    async def test_figures_and_text_are_there_while_it_is_read(
        self, open_app: OpenApp, gate: HeldScans, long_text: Path
    ) -> None:
        app = open_app(long_text, engine=gate)
        async with app.run_test(size=WIDE) as pilot:
            await look_at(app, str(long_text))
            await until(lambda: "50,000" in page_if_there(app))
            assert "figures are those of the text" in shown(app)
            assert "reading long.txt" in shown(app)
            await pilot.press(*["right_square_bracket"] * 4, "end")
            await pilot.pause()
            assert "so far · lines" in shown(app)
            assert CONTENT[:50_000].decode().splitlines()[-2] in shown(app)
            gate.opened.set()
            await until(lambda: is_measured(app))
            await pilot.press("end")
            assert "line 19999 of the corpus" in shown(app)
            assert "validation part" in shown(app)

    async def test_x_calls_the_reading_off_and_r_reads_anew(
        self, open_app: OpenApp, gate: HeldScans, long_text: Path
    ) -> None:
        app = open_app(long_text, engine=gate)
        async with app.run_test(size=WIDE) as pilot:
            await look_at(app, str(long_text))
            await until(lambda: "reading long.txt" in shown(app))
            await pilot.press("x")
            gate.opened.set()
            await until(lambda: "reading was cancelled" in shown(app))
            await pilot.press("r")
            await until(lambda: is_measured(app))
            assert f"{len(CONTENT):,}" in page(app, "overview")

    async def test_moving_on_leaves_the_scan_behind(
        self, open_app: OpenApp, gate: HeldScans, long_text: Path
    ) -> None:
        app = open_app(long_text, engine=gate)
        async with app.run_test(size=WIDE):
            await look_at(app, str(long_text))
            await until(lambda: "reading long.txt" in shown(app))
            await look_at(app, "sample")
            gate.opened.set()
            await until(lambda: is_measured(app))
            assert "CC0-1.0" in page(app, "overview")
            await look_at(app, str(long_text))
            await until(lambda: f"{len(CONTENT):,}" in page(app, "overview"))

    async def test_leaving_ends_the_thread(
        self, open_app: OpenApp, gate: HeldScans, long_text: Path
    ) -> None:
        app = open_app(long_text, engine=gate)
        async with app.run_test() as pilot:
            await look_at(app, str(long_text))
            await until(lambda: "reading long.txt" in shown(app))
            await pilot.press("q")
        gate.opened.set()
        await until(lambda: "scan" not in {thread.name for thread in threading.enumerate()})

    @pytest.mark.slow
    async def test_resizes_keys_and_switches_at_random(
        self, open_app: OpenApp, gate: HeldScans, long_text: Path
    ) -> None:
        app = open_app(long_text, engine=gate)
        rng = random.Random(3)
        keys = ["right_square_bracket", "left_square_bracket", "down", "end", "home", "t", "s"]
        keys += ["pagedown", "o", "l", "plus", "minus", "full_stop", "comma", "right", "escape"]
        keys += ["up", "2", "1", "r", "x", "tab", "G", "greater_than_sign"]
        async with app.run_test(size=WIDE) as pilot:
            for count in range(36):
                await pilot.press(rng.choice(keys))
                if count == 18:
                    gate.opened.set()
                if count % 3 == 0:
                    await pilot.resize_terminal(rng.randint(20, 160), rng.randint(6, 50))
            await pilot.resize_terminal(*WIDE)
            await pilot.press("escape", "1", "escape")
            await measure(app, str(long_text))


def page_if_there(app: LabApp) -> str:
    return "\n".join("\n".join(found.lines) for found in app.screen.query(TextPage))


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, at /stalls only its half until it is let go."""

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            self.wfile.flush()
            if self.path == "/stalls":
                self.server.released.wait(10)  # type: ignore[attr-defined]
            self.wfile.write(CONTENT[len(CONTENT) // 2 :])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """``offer(path)``: put a corpus called lines into the catalogue, served by this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.released = threading.Event()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def make(path: str) -> None:
        url = f"http://127.0.0.1:{server.server_address[1]}{path}"
        digest = hashlib.sha256(CONTENT).hexdigest()
        entry = CorpusEntry("lines", "Lines", "CC0", len(CONTENT), digest, (UrlSource(url),))
        monkeypatch.setitem(CATALOGUE, "lines", entry)

    yield make
    server.released.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


class TestFetch:
    async def test_f_fetches_verifies_and_measures(
        self, make_app: MakeApp, offer: Callable[[str], None]
    ) -> None:
        offer("/good")
        app = make_app()
        async with app.run_test(size=WIDE) as pilot:
            await look_at(app, "lines")
            await until(lambda: "Press f" in shown(app))
            await pilot.press("f")
            await until(lambda: is_measured(app))
            assert "verified" in shown(app)
            assert f"{len(CONTENT):,}" in page(app, "overview")

    async def test_a_fetch_shows_how_far_it_is_and_x_calls_it_off(
        self, make_app: MakeApp, offer: Callable[[str], None], tmp_path: Path
    ) -> None:
        offer("/stalls")
        app = make_app()
        async with app.run_test(size=WIDE) as pilot:
            await look_at(app, "lines")
            await until(lambda: "Press f" in shown(app))
            await pilot.press("enter")
            await until(lambda: re.search(r"fetching lines .* [1-4]\d% .* of 488.9 kB", shown(app)))
            assert "Cancel" in shown(app).splitlines()[-1]
            # The fetch belongs to the place: going elsewhere and back leaves it alone.
            await pilot.press("4", "1")
            await until(lambda: "fetching lines" in shown(app))
            await pilot.press("x")
            await until(lambda: "fetching lines" not in shown(app))
            await until(lambda: "Press f" in shown(app))
        left = [path.name for path in (tmp_path / "cache" / "corpora").iterdir()]
        assert [name for name in left if not name.endswith(".lock")] == []

    async def test_a_failed_fetch_is_said_in_one_notice(
        self, make_app: MakeApp, offer: Callable[[str], None]
    ) -> None:
        offer("/missing")
        app = make_app()
        async with app.run_test(size=WIDE, notifications=True) as pilot:
            await look_at(app, "lines")
            await until(lambda: "Press f" in shown(app))
            await pilot.press("f")
            await until(lambda: "404" in shown(app))
            assert "Press f to download it" in shown(app)


@pytest.mark.parametrize(
    "text", ["a" * 5000, "To be or not to be.\n" * 999], ids=["one letter", "a sentence"]
)
def test_no_bar_is_cut_at_any_width(tmp_path: Path, text: str) -> None:
    from shakespeare_tui.data.available import AvailableCorpus

    path = tmp_path / "a.txt"
    path.write_text(text)
    source = locate_corpus(str(path))
    assert source is not None
    states: list[ScanState] = []
    scan_corpus(source, states.append, threading.Event(), 0.1)
    item = AvailableCorpus(spec="a", title="a", licence="", origin="a", status="own")
    for width in range(40, 200):
        for line in overview_lines(item, states[-1], width, is_ascii=False):
            if "█" in line.plain:
                assert "…" not in line.plain and line.cell_length <= width


class TestImport:
    async def test_a_path_is_completed_imported_judged_and_remembered(
        self, open_app: OpenApp, bare_folder: Path
    ) -> None:
        (bare_folder / "texts").mkdir()
        (bare_folder / "texts" / "my novel.txt").write_text("It was a dark night.\n" * 40_000)
        app = open_app()
        async with app.run_test(size=WIDE) as pilot:
            await until(lambda: is_listed(app))
            await pilot.press("i")
            await pilot.pause()
            # All at once: the suggestions come later than the keys.
            for key in ("t", "e", "tab", "tab", "enter"):
                app.post_message(Key(key, key if len(key) == 1 else None))
            await until(lambda: app.screen.query(CorpusDetail) and is_measured(app))
            path = bare_folder / "texts" / "my novel.txt"
            assert app.screen.query_one(CorpusList).highlighted_spec == str(path)
            text = page(app, "overview")
            assert "ready for training" in text and "ASCII" in text and "840,000" in text
            assert app.settings.get(OWN, "") == str(path)

    @pytest.mark.parametrize("typed", ["nov", "novel.tx", "novel.txt"])
    async def test_enter_takes_the_only_thing_that_it_can_become(
        self, open_app: OpenApp, bare_folder: Path, typed: str
    ) -> None:
        (bare_folder / "novel.txt").write_text("It was a dark night.\n" * 400)
        app = open_app()
        async with app.run_test(size=WIDE) as pilot:
            await until(lambda: is_listed(app))
            await pilot.press("i")
            await pilot.pause()
            for key in (*typed.replace(".", "_"), "enter"):
                app.post_message(Key(key, "." if key == "_" else key if len(key) == 1 else None))
            await until(lambda: app.screen.query(CorpusDetail) and is_measured(app))
            path = bare_folder / "novel.txt"
            assert app.screen.query_one(CorpusList).highlighted_spec == str(path)

    async def test_a_folder_of_one_file_and_one_rare_character_are_singular(
        self, open_app: OpenApp, bare_folder: Path
    ) -> None:
        (bare_folder / "texts").mkdir()
        (bare_folder / "texts" / "a.txt").write_text("To be or not to be.\n" * 99 + "X")
        app = open_app(bare_folder / "texts")
        async with app.run_test(size=(80, 24)):
            await measure(app, str(bare_folder / "texts"))
            assert "1 file in" in page(app, "overview")
            assert "1 of them occurs at most 10 times: X" in " ".join(page(app, "overview").split())

    async def test_arrows_choose_among_suggestions(
        self, open_app: OpenApp, bare_folder: Path
    ) -> None:
        for name in ("a.txt", "b.txt", "c.txt"):
            (bare_folder / name).write_text(f"{name} " * 500)
        app = open_app()
        async with app.run_test(size=WIDE) as pilot:
            await until(lambda: is_listed(app))
            await pilot.press("i")
            await until(lambda: "c.txt" in shown(app))
            await pilot.press("down", "down", "enter")
            await until(lambda: is_measured(app))
            assert app.screen.query_one(CorpusList).highlighted_spec == str(bare_folder / "b.txt")

    @pytest.mark.parametrize(
        ("typed", "words"),
        [
            ("missing.txt", "there is no file or folder missing.txt"),
            ("bare", "has no text files"),
            ("empty.txt", "is empty"),
            ("m.gguf", "m.gguf is a model and no text"),
            ("theirs", "theirs is a model and no text"),
        ],
    )
    async def test_what_cannot_be_imported_is_said_beside_the_field(
        self, open_app: OpenApp, bare_folder: Path, typed: str, words: str
    ) -> None:
        (bare_folder / "empty.txt").touch()
        (bare_folder / "bare").mkdir()
        (bare_folder / "m.gguf").write_bytes(b"GGUF")
        (bare_folder / "theirs").mkdir()
        for name in ("config.json", "pytorch_model.bin", "README.md"):
            (bare_folder / "theirs" / name).write_text("{}")
        app = open_app()
        async with app.run_test(size=WIDE) as pilot:
            await until(lambda: is_listed(app))
            await pilot.press("i")
            app.screen.query_one(Input).value = typed
            await pilot.pause()
            await pilot.press("enter")
            await until(lambda: words in " ".join(shown(app).split()))
            await pilot.press("escape")
            await pilot.pause()
            assert app.settings.get(OWN, "") == ""

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (bytes(range(256)) * 10, ["is not UTF-8 text", "binary"]),
            ("Être ou ne pas être\n".encode("cp1252") * 9, ["Windows-1252", "iconv -f"]),
        ],
        ids=["binary", "latin-1"],
    )
    async def test_a_file_that_is_no_text_gets_a_clear_verdict(
        self, open_app: OpenApp, bare_folder: Path, content: bytes, words: list[str]
    ) -> None:
        path = bare_folder / "strange.txt"
        path.write_bytes(content)
        app = open_app(path)
        async with app.run_test(size=WIDE) as pilot:
            await look_at(app, str(path))
            await until(lambda: "not usable as it is" in shown(app))
            verdict = " ".join(page(app, "waiting").split())
            assert all(word in verdict for word in words)
            assert "refused" in shown(app)
            await pilot.press("u")
            assert app.services.draft.text("data.corpus") == "tiny_shakespeare"

    async def test_refused_corpora_stay_refused_however_many_are_looked_at(
        self, open_app: OpenApp, bare_folder: Path
    ) -> None:
        bad = bare_folder / "bad.txt"
        bad.write_bytes(bytes(range(256)) * 10)
        good = [bare_folder / f"good-{number}.txt" for number in range(8)]
        for path in good:
            path.write_text("To be or not to be.\n" * 99)
        app = open_app(bad, *good)
        async with app.run_test(size=WIDE) as pilot:
            await look_at(app, str(bad))
            await until(lambda: "refused" in shown(app))
            for path in good:
                await measure(app, str(path))
            assert "refused" in shown(app)
            await pilot.press("2")
            await pilot.press("1")
            await pilot.pause()
            assert "refused" in shown(app)

    async def test_delete_takes_it_off_the_list_and_leaves_the_file(
        self, open_app: OpenApp, long_text: Path
    ) -> None:
        app = open_app(long_text)
        async with app.run_test(size=WIDE) as pilot:
            await measure(app, str(long_text))
            await pilot.press("delete")
            await until(lambda: "long.txt" not in shown(app))
            assert app.settings.get(OWN, "?") == ""
            assert long_text.exists()


class TestUse:
    @pytest.mark.parametrize("key", ["u", "enter"])
    async def test_the_corpus_is_taken_for_training(self, make_app: MakeApp, key: str) -> None:
        app = make_app()
        async with app.run_test(size=WIDE) as pilot:
            await measure(app, "sample")
            await pilot.press(key)
            await pilot.pause()
            assert app.services.draft.text("data.corpus") == "sample"
            assert app.services.draft.runnable.config.data.corpus == "sample"
            marked = [line for line in shown(app).splitlines() if "●" in line]
            assert len(marked) == 1 and "sample" in marked[0]

    async def test_the_config_has_the_corpus_and_can_undo_it(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=WIDE) as pilot:
            await until(lambda: "tiny_shakespeare" in shown(app))
            await press(pilot, "1")
            await measure(app, "sample")
            await press(pilot, "u", "2")
            await until(lambda: re.search(r"● corpus +sample ", shown(app)))
            await press(pilot, "u")
            await until(lambda: re.search(r" corpus +tiny_shakespeare ", shown(app)))
            assert app.services.draft.runnable.config.data.corpus == "tiny_shakespeare"

    async def test_one_character_repeated_is_not_taken_and_the_reason_is_said(
        self, open_app: OpenApp, bare_folder: Path
    ) -> None:
        path = bare_folder / "aaa.txt"
        path.write_text("a" * 5000)
        app = open_app(path)
        async with app.run_test(size=WIDE, notifications=True) as pilot:
            await measure(app, str(path))
            assert "one character repeated" in page(app, "overview")
            for _ in range(6):
                await pilot.press("right_square_bracket")
                await pilot.pause()
            await pilot.press("escape", "u")
            await until(lambda: app._notifications)
            (notice,) = app._notifications
            assert "nothing to learn; choose a text" in notice.message
            assert app.services.draft.text("data.corpus") == "tiny_shakespeare"

    async def test_a_config_with_errors_takes_the_corpus_and_says_so(
        self, make_app: MakeApp
    ) -> None:
        app = make_app()
        draft = app.services.draft
        draft.set_text("training.batch_size", "many")
        async with app.run_test(size=WIDE, notifications=True) as pilot:
            await measure(app, "sample")
            await pilot.press("u")
            await until(lambda: "the config takes" in shown(app))
            assert draft.text("data.corpus") == "sample"
            assert draft.runnable.config is not None
            assert draft.runnable.config.data.corpus == "tiny_shakespeare"

    async def test_one_click_looks_and_two_take(self, make_app: MakeApp) -> None:
        app = make_app()
        async with app.run_test() as pilot:
            await until(lambda: "shipped" in shown(app))
            row = next(n for n, line in enumerate(shown(app).splitlines()) if "shipped" in line)
            await pilot.click(offset=(10, row))
            await until(lambda: is_measured(app))
            assert app.services.draft.text("data.corpus") == "tiny_shakespeare"
            await pilot.click(offset=(10, row), times=2)
            await until(lambda: app.services.draft.text("data.corpus") == "sample")

    async def test_the_corpus_of_the_draft_is_marked_and_highlighted(
        self, make_app: MakeApp
    ) -> None:
        app = make_app()
        app.services.draft.set_text("data.corpus", "sample")
        async with app.run_test(size=WIDE):
            await until(lambda: is_measured(app))
            assert app.screen.query_one(CorpusList).highlighted_spec == "sample"


def shown_ids(app: LabApp) -> list[int]:
    """Of the window's inputs and targets, line by line."""
    rows = [line.split() for line in page(app, "window-page").splitlines()]
    return [int(word) for row in rows if row[:1] == ["id"] for word in row[1:]]


class TestWindows:
    async def open_windows(self, app: LabApp, pilot: object) -> None:
        await measure(app, "sample")
        app.screen.query_one(CorpusTabs).open_tab("windows")
        await until(lambda: "window 1 " in shown(app))

    @pytest.mark.parametrize("order", ["random", "shuffled"])
    async def test_windows_come_as_training_takes_them(self, order: str, make_app: MakeApp) -> None:
        app = make_app()
        app.services.draft.load(
            Origin("config", "a test's", parse_config("", "-", [f"data.windows={order}"]))
        )
        text = (shipped_folder("data") / "sample.txt").read_text("utf-8")
        tokens = CharTokenizer(text).encode(text)[: int(0.9 * len(text))]
        training = app.services.draft.runnable.config.training
        sampler = WindowSampler(
            len(tokens), 20, training.batch_size, training.seed, 7 if order == "shuffled" else None
        )
        async with app.run_test(size=WIDE) as pilot:
            await self.open_windows(app, pilot)
            app.screen.query_one("#seq-len", Input).value = "20"
            app.screen.query_one("#stride", Input).value = "7"
            app.screen.query_one("#window-page").focus()
            await pilot.press("right", "right", "right")
            await until(lambda: "window 4" in shown(app))
            rows = [line.split() for line in page(app, "window-page").splitlines()]
            ids = [[int(word) for word in row[1:]] for row in rows if row[:1] == ["id"]]
            (window,) = gather_windows(tokens, sampler.starts(0)[3:4], 20)
            assert ids == [window[:-1].tolist(), window[1:].tolist()]
            characters = {row[0]: row[1:] for row in rows if row and row[0] in ("input", "target")}
            assert characters["input"][1:] == characters["target"][:-1]
            await pilot.press("less_than_sign")
            await until(lambda: "window 1 " in shown(app))
            if order == "shuffled":
                n = f"{sampler.windows_an_epoch():,}"
                await pilot.press(*["greater_than_sign"] * 11)
                await until(lambda: f"window {n} of {n} an epoch" in shown(app))

    async def test_windows_of_byte_pairs_are_those_of_training(self, make_app: MakeApp) -> None:
        config = parse_config("", "-", ["data.tokenizer=bpe", "data.vocab_size=300"])
        source = locate_corpus("sample")
        assert source is not None
        tokenizer = open_tokenizer(config.tokens, source)
        text = (shipped_folder("data") / "sample.txt").read_text("utf-8")
        tokens, _ = split_tokens(tokenizer.encode(text), 0.1, 20, tokenizer)
        app = make_app()
        app.services.draft.load(Origin("config", "a test's", config))
        async with app.run_test(size=WIDE) as pilot:
            await self.open_windows(app, pilot)
            app.screen.query_one("#seq-len", Input).value = "20"
            app.screen.query_one("#window-page").focus()
            await until(lambda: "tokens " in shown(app) and len(shown_ids(app)) == 40)
            sampler = replace(config.window_cut, seq_len=20).sampler(len(tokens))
            (window,) = gather_windows(tokens, sampler.starts(0)[:1], 20)
            assert sorted(shown_ids(app)) == sorted([*window[:-1].tolist(), *window[1:].tolist()])
            assert "asked for the token below it" in " ".join(shown(app).split())

    async def test_overlap_and_gaps_are_explained(self, make_app: MakeApp) -> None:
        app = make_app()
        app.services.draft.load(
            Origin("config", "a test's", parse_config("", "-", ["data.windows=shuffled"]))
        )
        async with app.run_test(size=WIDE) as pilot:
            await self.open_windows(app, pilot)
            for stride, words in (
                ("32", "Neighbours share 32 of 64 characters"),
                ("64", "without overlap"),
                ("100", "36 characters between neighbours are in no window"),
            ):
                app.screen.query_one("#seq-len", Input).value = "64"
                app.screen.query_one("#stride", Input).value = stride
                await pilot.pause()
                assert words in " ".join(page(app, "window-page").split())

    async def test_keys_change_both_and_wrong_values_are_refused(self, make_app: MakeApp) -> None:
        app = make_app()
        async with app.run_test(size=WIDE) as pilot:
            await self.open_windows(app, pilot)
            fields = [app.screen.query_one(name, Input) for name in ("#seq-len", "#stride")]
            config = app.services.draft.runnable.config
            assert [field.value for field in fields] == [str(config.seq_len)] * 2
            app.screen.query_one("#window-page").focus()
            await pilot.press("minus", "comma", "comma")
            assert [field.value for field in fields] == [
                str(config.seq_len // 2),
                str(config.seq_len // 4),
            ]
            fields[0].value = "0"
            await pilot.pause()
            assert "seq_len is a whole number from 1" in shown(app)
            fields[0].value = "100000"
            await pilot.pause()
            assert "too short" in shown(app)

    async def test_the_last_window_is_the_last_that_fits(self) -> None:
        tokens = np.arange(100, dtype=np.uint8)
        dataset = TextDataset(tokens, 10, 7)
        inputs, targets = dataset[len(dataset) - 1]
        assert targets[-1] <= 99 < targets[-1] + 7 and len(inputs) == 10


class TestTokens:
    async def test_two_tokenizers_stand_side_by_side(self, make_app: MakeApp) -> None:
        app = make_app()
        async with app.run_test(size=WIDE) as pilot:
            await measure(app, "sample")
            app.screen.query_one(CorpusTabs).open_tab("tokens")
            text = (shipped_folder("data") / "sample.txt").read_text(encoding="utf-8")
            pairs = BytePairTokenizer.from_corpus([text[: int(0.9 * len(text))]])
            first, *rest = pairs.encode(text).tolist()
            n_tokens = 1 + len(rest)
            await until(lambda: f"tokens      {n_tokens:,}" in shown(app))
            assert "First␣Fisher:" in shown(app)
            await pilot.press("t")
            await until(lambda: f"{pairs.decode([first])} {first} " in shown(app))
            await pilot.press("b", "b")
            await until(lambda: f"tokens      {len(text):,}" in shown(app))
            await pilot.press("minus")
            await until(lambda: "bpe: vocabulary of 288" in shown(app))

    async def test_merges_and_the_vocabulary(self, make_app: MakeApp) -> None:
        app = make_app()
        async with app.run_test(size=WIDE) as pilot:
            await measure(app, "sample")
            app.screen.query_one(CorpusTabs).open_tab("tokens")
            await until(lambda: "bytes/token" in shown(app))
            await pilot.press("o")
            await until(lambda: "The longest" in shown(app) and "THESSALY" in shown(app))
            await pilot.press("o")
            await until(lambda: "The commonest" in shown(app))
            await pilot.press("o")
            await until(lambda: re.search(r" 1  \S+ \+ \S+", shown(app)))
            await pilot.press("slash", *"THESS")
            await until(lambda: "THESSALY" in shown(app) and "QUILTER" not in shown(app))
            await pilot.press("enter", "c", "o")
            await until(lambda: "char: " in shown(app))


class TestKeyboard:
    async def test_brackets_walk_the_tabs_and_escape_returns_to_the_list(
        self, make_app: MakeApp
    ) -> None:
        app = make_app()
        async with app.run_test() as pilot:
            await measure(app, "sample")
            tabs = app.screen.query_one(CorpusTabs)
            seen = []
            for _ in TABS:
                seen.append(tabs.tab)
                await pilot.press("right_square_bracket")
                await pilot.pause()
            assert len(set(seen)) == len(TABS) and tabs.tab == seen[0]
            await pilot.press("left_square_bracket")
            assert tabs.tab == seen[-1]
            await pilot.press("escape")
            assert isinstance(app.focused, CorpusList)

    @pytest.mark.parametrize(("size", "n_presses"), [((80, 24), 4), ((80, 24), 13), (WIDE, 5)])
    async def test_keys_that_come_at_once_are_all_counted(
        self, make_app: MakeApp, size: tuple[int, int], n_presses: int
    ) -> None:
        app = make_app()
        async with app.run_test(size=size) as pilot:
            await look_at(app, "sample")
            # As soon as there are tabs, maybe before they are mounted.
            detail = app.screen.query_one(CorpusDetail)
            await until(lambda: detail.state is not None and detail.state.source.name == "sample")
            for _ in range(n_presses):
                app.post_message(Key("right_square_bracket", "]"))
            tabs = app.screen.query_one(CorpusTabs)
            wanted = TABS[n_presses % len(TABS)][0]
            await until(lambda: tabs.tab == wanted)
            await pilot.pause()
            assert tabs.tab == wanted
            assert app.focused in tabs.query_one(f"#{wanted}").walk_children(with_self=True)

    async def test_a_click_on_a_tab_brings_its_keys(self, make_app: MakeApp) -> None:
        app = make_app()
        async with app.run_test(size=(80, 24)) as pilot:
            await measure(app, "sample")
            strip, tabs = app.screen.query_one(PaneTabs), app.screen.query_one(CorpusTabs)
            for name, title, key in (
                ("characters", "Characters", "o"),
                ("text", "Text", "t"),
                ("windows", "Windows", "right"),
            ):
                place = strip.render().plain.index(title) + 2
                await pilot.click(PaneTabs, offset=(place, 0))
                assert tabs.tab == name
                await pilot.pause()
                before = shown(app)
                await pilot.press(key)
                await until(lambda before=before: shown(app) != before)

    async def test_a_copy_of_the_sample_in_data_wins(
        self, make_app: MakeApp, bare_folder: Path
    ) -> None:
        (bare_folder / "data").mkdir()
        shutil.copy(shipped_folder("data") / "sample.txt", bare_folder / "data" / "sample.txt")
        app = make_app()
        async with app.run_test(size=WIDE):
            await measure(app, "sample")
            assert str(Path("data") / "sample.txt") in page(app, "overview")
