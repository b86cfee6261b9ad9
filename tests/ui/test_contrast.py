"""Every word on every screen can be read in every theme: a contrast of 4.5 and more."""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from checkpoint_trees import add_run_with_losses
from lab_harness import MakeApp, press, shown, until
from listed_experiments import experiment
from rich.cells import cell_len
from rich.style import Style
from streams import busy_run, finished_run, make_run
from textual.color import Color
from textual.pilot import Pilot
from textual.screen import ModalScreen

from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.data.corpus_list import CorpusList
from shakespeare_tui.ui.themes import THEMES
from shakespeare_tui.ui.train.screen import TrainScreen

LEAST = 4.5
NAMES = [theme.name for theme in THEMES]


@cache
def contrast(one: Color, other: Color) -> float:
    """WCAG 2's contrast ratio, from its definition."""

    def luminance(colour: Color) -> float:
        channels = [c / 255 for c in (colour.r, colour.g, colour.b)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def faint_words(app: LabApp) -> Iterator[str]:
    """The words on the screen whose contrast is too low."""
    # What a dialog lies over is meant to step back.
    screen = app.screen
    regions = [child.region for child in screen.children if child.display]
    for y, strip in enumerate(screen._compositor.render_strips()):
        column = 0
        for text, style, _ in strip:
            start, column = column, column + cell_len(text)
            if not any(c.isascii() and c.isalnum() for c in text):
                continue
            if isinstance(screen, ModalScreen) and not any(r.contains(start, y) for r in regions):
                continue
            fore, back = _colours(style)
            ratio = contrast(fore, back)
            if ratio < LEAST:
                yield f"{ratio:.1f} {fore.hex} on {back.hex} row {y}: {text.strip()!r}"


@cache
def _colours(style: Style | None) -> tuple[Color, Color]:
    assert style is not None and style.color is not None and style.bgcolor is not None
    fore, back = Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)
    return (back, fore) if style.reverse else (fore, back)


@pytest.fixture
def runs(runs_root: Path) -> None:
    make_run(runs_root, "done-1", finished_run(600, run="done-1"))
    make_run(runs_root, "busy-1", busy_run(1000))
    add_run_with_losses(runs_root, "tree-1", {100: 2.0, 200: 1.8, 300: 1.7})


async def in_themes(pilot: Pilot[int], names: Iterable[str]) -> list[str]:
    found = []
    app = pilot.app
    assert isinstance(app, LabApp)
    for name in names:
        app.looks.choose_theme(name)
        await pilot.pause()
        found += [f"{name}: {line}" for line in faint_words(app)]
    return found


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("size", "names"),
    [
        ((140, 45), NAMES[:2]),
        pytest.param((140, 45), NAMES[2:], marks=pytest.mark.slow),
        # What is smaller takes the same colours from a theme.
        pytest.param((80, 24), NAMES, marks=pytest.mark.slow),
    ],
    ids=["140x45", "140x45-others", "80x24"],
)
@pytest.mark.parametrize(
    ("place", "walks"),
    [
        ("data", ((), ("right_square_bracket",), *(("right_square_bracket",),) * 4, ("i",))),
        ("config", ((), ("down", "enter", "x"), ("escape", "d"), ("escape", "p"))),
        ("train", ((), ("tab",), ("tab",), ("w",))),
        ("playground", ((), ("p",), ("escape", "e"), ("escape", "question_mark"))),
        ("checkpoints", ((), ("down", "space", "down"), ("slash",), ("escape", "n"))),
        ("experiments", ((), ("enter",), ("end", "o"), ("tab", "tab"))),
    ],
)
async def test_every_word_can_be_read(
    make_app: MakeApp,
    runs_root: Path,
    size: tuple[int, int],
    names: Iterable[str],
    place: str,
    walks: tuple[tuple[str, ...], ...],
) -> None:
    app = make_app(place)
    async with app.run_test(size=size, notifications=True) as pilot:
        if place == "train":
            assert isinstance(app.screen, TrainScreen)
            app.screen.open_run(RunFolder(runs_root / "busy-1"))
            await until(lambda: app.screen.has_class("-replay"))
        elif place == "experiments":
            experiment(runs_root.parent)
            await until(lambda: "widths" in shown(app))
        elif place == "data":
            await until(lambda: "shipped" in shown(app))
            app.screen.query_one(CorpusList).highlight("sample")
            await until(lambda: app.screen.query("CorpusTabs"))
        app.say("a notice of the lab")
        app.say("a problem of the lab", is_error=True)
        faint = []
        for keys in walks:
            await press(pilot, *keys)
            faint += await in_themes(pilot, names)
        assert not faint, "\n".join(dict.fromkeys(faint))


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
async def test_notices_cover_neither_questions_nor_the_doctor_nor_help(
    make_app: MakeApp, runs_root: Path, size: tuple[int, int]
) -> None:
    app = make_app("train")
    async with app.run_test(size=size, notifications=True) as pilot:
        assert isinstance(app.screen, TrainScreen)
        app.screen.open_run(RunFolder(runs_root / "done-1"))
        await until(lambda: app.screen.has_class("-ended"))
        await press(pilot, "tab", "s")
        app.say("a notice")
        app.say("a long problem " * 12, is_error=True)
        await until(lambda: len(app.screen.query("Toast")) == 2)
        await pilot.pause()
        for selector in ("AskBar", "DoctorPane", "SamplesPane", "ResultCard", "StatusLine"):
            for toast in app.screen.query("Toast"):
                assert not toast.region.overlaps(app.screen.query_one(selector).region), selector
        await press(pilot, "escape", "question_mark")
        await until(lambda: isinstance(app.screen, ModalScreen) and app.screen.query("Toast"))
        await pilot.pause()
        for toast in app.screen.query("Toast"):
            assert not toast.region.overlaps(app.screen.query_one("VerticalScroll").region)
