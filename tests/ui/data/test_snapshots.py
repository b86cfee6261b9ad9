"""Pictures of the Data screen: nothing fetched, measured, being read, a file that is not text."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from held_scan import HeldScans
from lab_harness import MakeApp, press, shown, until
from pictures import TOKEN_LOOKS, Pictured, Prepare
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from shakespeare_tui.config.draft import Origin
from shakespeare_tui.config.schema import Config
from shakespeare_tui.paths import shipped_folder
from shakespeare_tui.ui.data.corpus_list import CorpusList
from shakespeare_tui.ui.data.detail import CorpusDetail, CorpusTabs
from shakespeare_tui.ui.data.screen import CorpusProgress
from shakespeare_tui.ui.widgets.text_page import TextPage

BROKEN = str(Path("data") / "broken.txt")


@pytest.fixture(autouse=True)
def same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with the sample, and a file that is no text, by relative paths."""
    data = tmp_path / "work" / "data"
    data.mkdir(parents=True)
    shutil.copy(shipped_folder("data") / "sample.txt", data / "sample.txt")
    (data / "broken.txt").write_bytes("Être ou ne pas être\n".encode("cp1252") * 50)
    monkeypatch.chdir(data.parent)


def is_in_the_tab(screen: Screen[Any]) -> bool:
    """Whether the focus has followed to the tab that is seen."""
    tabs = screen.query_one(CorpusTabs)
    return screen.focused in tabs.query_one(f"#{tabs.tab}").walk_children(with_self=True)


def before(spec: str, *keys: str) -> Prepare:
    """Look at a corpus, wait until it is measured, and press keys."""

    async def prepare(pilot: Pilot[Any]) -> None:
        screen = pilot.app.screen
        corpora = screen.query_one(CorpusList)
        await until(lambda: BROKEN in [option.id for option in corpora.options])
        corpora.highlight(spec)

        def is_still() -> bool:
            state = screen.query_one(CorpusDetail).state
            if spec == "sample" and (state is None or state.phase != "done"):
                return False
            if spec == BROKEN and "Verdict" not in shown(pilot.app):
                return False
            if any(line.display for line in screen.query(CorpusProgress)):
                return False
            if not any(found.display and found.lines for found in screen.query(TextPage)):
                return False
            picture = shown(pilot.app)
            return "Reading" not in picture and "Looking" not in picture

        await until(is_still)
        await pilot.pause()
        for key in keys:
            await press(pilot, key)
            await until(lambda: is_in_the_tab(screen))
        for field, value in (("#seq-len", "16"), ("#stride", "8")):
            for found in screen.query(field).results(Input):
                found.value = value
        await pilot.pause()
        await until(lambda: "Reading" not in shown(pilot.app))

    return prepare


NEXT = "right_square_bracket"
VIEWS = {
    "absent": before("tiny_shakespeare"),
    "overview": before("sample"),
    "characters": before("sample", NEXT),
    "zipf": before("sample", NEXT, NEXT),
    "speakers": before("sample", *[NEXT] * 3),
    "text": before("sample", *[NEXT] * 4, "s"),
    "ids": before("sample", *[NEXT] * 4, "s", "t"),
    "windows": before("sample", *[NEXT] * 5, "right"),
    "tokens": before("sample", *[NEXT] * 6, "b", "b", "o"),
    "error": before(BROKEN),
}


@pytest.mark.parametrize("view", VIEWS)
async def test_picture(view: str, make_app: MakeApp, pictured: Pictured) -> None:
    app = make_app("data")
    app.services.draft.load(Origin("config", "a test's", Config()))
    await pictured(app, VIEWS[view])


def pressing(*keys: str) -> Prepare:
    async def prepare(pilot: Pilot[Any]) -> None:
        await press(pilot, *keys)
        await until(lambda: not any(words in shown(pilot.app) for words in ("sought", "Encoding")))

    return prepare


async def test_byte_pairs(make_app: MakeApp, pictured: Pictured) -> None:
    data = {"tokenizer": "bpe", "vocab_size": 300, "seq_len": 16}
    config = Config.model_validate({"data": data})
    app = make_app("data")
    app.services.draft.load(Origin("config", "a test's", config))
    states = {
        "text": before("sample", *[NEXT] * 4),
        "cursor": pressing("s", *["right"] * 5),
        "ids": pressing("t"),
        "windows": pressing(NEXT, "right"),
    }
    await pictured(app, states, TOKEN_LOOKS)


async def test_picture_in_ascii(make_app: MakeApp, pictured: Pictured) -> None:
    app = make_app("data", ascii=True)
    app.services.draft.load(Origin("config", "a test's", Config()))
    await pictured(app, VIEWS["zipf"])


async def test_picture_while_it_is_read(make_app: MakeApp, pictured: Pictured) -> None:
    held = HeldScans(4)
    app = make_app("data", engine=held)
    app.services.draft.load(Origin("config", "a test's", Config()))

    async def prepare(pilot: Pilot[Any]) -> None:
        corpora = pilot.app.screen.query_one(CorpusList)
        await until(lambda: BROKEN in [option.id for option in corpora.options])
        corpora.highlight("sample")

        def is_at_the_gate() -> bool:
            state = pilot.app.screen.query_one(CorpusDetail).state
            return state is not None and state.statistics.characters == 20_000

        await until(is_at_the_gate)
        await until(lambda: "20,000" in shown(pilot.app) and "reading" in shown(pilot.app))

    try:
        await pictured(app, prepare)
    finally:
        held.opened.set()
