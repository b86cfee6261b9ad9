"""From the Playground to files: exports of columns and branches, batches, long texts."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_harness import MakeApp, press, shown, until
from listed_runs import runs
from playground_script import TEXT, ScriptedEngine, write
from textual.widgets import Input

from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.playground.batch import read_speakers
from shakespeare_tui.ui.playground.screen import PlaygroundScreen
from shakespeare_tui.ui.playground.surprise import SurprisePanel
from shakespeare_tui.ui.widgets.path_dialog import PathDialog
from shakespeare_tui.ui.widgets.stream_text import StreamText

Write = Callable[[GenerationRequest, GenerationJob], None]


def place(app: LabApp) -> PlaygroundScreen:
    assert isinstance(app.screen, PlaygroundScreen)
    return app.screen


@pytest.fixture
def scripted_place(
    make_app: MakeApp, runs_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., LabApp]:
    def make(write_with: Write = write) -> LabApp:
        runs(runs_root)
        monkeypatch.chdir(tmp_path)
        return make_app("playground", engine=ScriptedEngine(write=write_with))

    return make


async def test_o_exports_all_columns(scripted_place: Callable[..., LabApp], tmp_path: Path) -> None:
    app = scripted_place()
    async with app.run_test(size=(140, 45), notifications=True) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "o")
        await until(lambda: "there is no text yet" in shown(app))
        await press(pilot, "g")
        await until(lambda: place(app).columns.strip.columns[2].measures is not None)
        await press(pilot, "n", "o", *["backspace"] * 40, *"all.json", "enter")
        await until(lambda: "3 texts are in all.json" in shown(app))
    columns = json.loads((tmp_path / "all.json").read_text())["columns"]
    assert [column["strategy"] for column in columns] == list(
        ("temperature=0.8", "temperature=0.8 top_k=20", "greedy")
    )
    assert columns[0]["prompt"] == "ROMEO:"
    assert columns[0]["text"].startswith(TEXT)
    assert columns[1]["settings"] == {"temperature": 0.8, "top_k": 20, "seed": 43}
    assert columns[1]["measures"]["memorisation"]["longest"] == 33
    assert columns[0]["checkpoint"] == "quick-1-fork-1@1000"


async def test_in_the_surprise_view_all_branches_are_exported(
    scripted_place: Callable[..., LabApp], tmp_path: Path
) -> None:
    app = scripted_place()
    async with app.run_test(size=(140, 45), notifications=True) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "g")
        await until(lambda: TEXT in place(app).columns.strip.columns[0].stream.text)
        await press(pilot, "s")
        view = app.screen.query_one(SurprisePanel)
        await until(lambda: view.xray is not None)
        await press(pilot, "enter", "2")
        await until(lambda: len(view.branches) == 2 and view.branches[2].scored)
        await press(pilot, "o", *["backspace"] * 40, *"tree", "enter")
        await until(lambda: "2 texts are in tree.md" in shown(app))
    assert (tmp_path / "tree.md").read_text().count("## quick-1-fork-1@1000") == 2


async def test_a_batch_writes_every_speaker_into_one_file(
    scripted_place: Callable[..., LabApp], tmp_path: Path
) -> None:
    app = scripted_place()
    async with app.run_test(size=(140, 45)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "f", *["backspace"] * 20, *"ROMEO, LADY\\nX:,", "enter")
        await press(pilot, *["backspace"] * 20, *"all.json", "enter")
        await until(lambda: "all.json holds 2 texts" in shown(app))
    columns = json.loads((tmp_path / "all.json").read_text())["columns"]
    assert [column["prompt"] for column in columns] == ["ROMEO:", "LADY\nX:"]
    assert columns[1]["text"].startswith(TEXT)


async def test_a_stopped_batch_leaves_no_file(
    scripted_place: Callable[..., LabApp], tmp_path: Path
) -> None:
    def endless(request: GenerationRequest, job: GenerationJob) -> None:
        while not job.stop_requested():
            time.sleep(0.01)
        raise CancelledError

    app = scripted_place(endless)
    async with app.run_test(size=(140, 45)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "f", "enter", "enter")
        await until(lambda: "batch: ROMEO: 1 of 2" in shown(app))
        await press(pilot, "x")
        await until(lambda: "no file was written" in shown(app))
    assert not (tmp_path / "speakers.md").exists()


def test_speakers_come_from_names_or_from_a_file(tmp_path: Path) -> None:
    assert read_speakers(" ROMEO ,KING: ") == ["ROMEO:", "KING:"]
    (tmp_path / "speakers.txt").write_text("ROMEO\n\nFirst Citizen:\\nBefore\n")
    assert read_speakers(str(tmp_path / "speakers.txt")) == ["ROMEO:", "First Citizen:\nBefore"]
    with pytest.raises(UserError, match="at least one"):
        read_speakers(" , ")
    with pytest.raises(UserError, match="too many"):
        read_speakers(",".join(["A"] * 1001))


def calls_to_draw(stream: StreamText) -> int:
    """How many functions are called while text comes and is scrolled."""
    counts: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, argument: counts.update([event]))
    try:
        for _ in range(50):
            stream.append("x")
            stream.scroll_relative(y=-1, animate=False, immediate=True)
            for line in range(stream.size.height):
                stream.render_line(line)
    finally:
        sys.setprofile(None)
    return counts["call"] + counts["c_call"]


@pytest.mark.slow
async def test_a_hundred_thousand_characters_stream_and_scroll_smoothly(
    scripted_place: Callable[..., LabApp],
) -> None:
    """What the screen does for a piece of text does not grow with the text."""

    def long(request: GenerationRequest, job: GenerationJob) -> None:
        for _ in range(200):
            job.add(["to be or not to be\n" * 26 + "Hamlet"] * 3, 1.0)
            time.sleep(0.002)

    app = scripted_place(long)
    async with app.run_test(size=(140, 45)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "g")
        column = place(app).columns.strip.columns[0]
        await until(lambda: len(column.stream.text) > 90_000, 20)
        await until(lambda: not place(app).columns.is_busy)
        await until(lambda: len(column.stream.text) == 100_006)
        assert column.stream.scroll_y == column.stream.max_scroll_y > 4_000
        await pilot.resize_terminal(100, 40)
        await until(lambda: column.stream.size.width < 60)
        await until(lambda: column.stream.scroll_y == column.stream.max_scroll_y > 5_000)
        of_long = calls_to_draw(column.stream)
        column.stream.begin("ROMEO:\n" + "to be or not to be\n" * 100, 6)
        assert of_long < 1.5 * calls_to_draw(column.stream)


async def test_an_export_asks_before_it_replaces_and_takes_names_as_they_are(
    scripted_place: Callable[..., LabApp], tmp_path: Path
) -> None:
    app = scripted_place()
    async with app.run_test(size=(140, 45), notifications=True) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "g")
        await until(lambda: place(app).columns.strip.columns[2].measures is not None)
        await press(pilot, "n", "o")
        await until(lambda: isinstance(app.screen, PathDialog))
        suggested = tmp_path / app.screen.query_one(Input).value
        suggested.write_text("mine")
        await press(pilot, "enter")
        await until(lambda: "exists; enter again replaces it" in shown(app))
        assert suggested.read_text() == "mine"
        suggested.chmod(0o444)
        await press(pilot, "enter")
        await until(lambda: "is read-only" in shown(app))
        await press(pilot, *["backspace"] * 40, *"x.pdf", "enter")
        await until(lambda: "the ending must be .md, .txt or .json, not .pdf" in shown(app))
        suggested.chmod(0o600)
        await press(pilot, *["backspace"] * 40, *suggested.stem, "enter", "enter")
        await until(lambda: suggested.read_text() != "mine")
    assert suggested.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [suggested.name]
