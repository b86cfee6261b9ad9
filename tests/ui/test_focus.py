"""Wherever one types, escape brings the keys of the screen back."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoint_trees import add_run_with_losses
from lab_harness import MakeApp, press, shown, until
from streams import finished_run, make_run
from textual.pilot import Pilot
from textual.widgets import Input

from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.checkpoints.table import CheckpointTable
from shakespeare_tui.ui.config.form import ConfigForm
from shakespeare_tui.ui.data.corpus_list import CorpusList
from shakespeare_tui.ui.data.detail import CorpusTabs
from shakespeare_tui.ui.lab_screen import SCREENS, LabScreen
from shakespeare_tui.ui.train.screen import TrainScreen
from shakespeare_tui.ui.widgets.loss_chart import LossChart
from shakespeare_tui.ui.widgets.stream_text import StreamText

SIZE = (140, 45)


def place_of(app: LabApp) -> LabScreen:
    assert isinstance(app.screen, LabScreen)
    return app.screen


async def arrows_move_the_list(pilot: Pilot[int]) -> None:
    corpora = pilot.app.screen.query_one(CorpusList)
    # Before the list is complete there may be nowhere to go.
    await until(lambda: "sample" in [option.id for option in corpora.options])
    for _ in range(10):
        before = corpora.highlighted
        await press(pilot, "up" if before else "down")
        # Once it is complete the highlight goes to what is trained on, wherever it was.
        with contextlib.suppress(AssertionError):
            await until(lambda was=before: corpora.highlighted != was, 2)  # type: ignore[misc]
            return
    raise AssertionError("the arrows did not move the list")


async def arrows_move_the_rows(pilot: Pilot[int]) -> None:
    form = pilot.app.screen.query_one(ConfigForm)
    before = form.cursor
    await press(pilot, "down")
    await until(lambda: form.cursor != before)
    await press(pilot, "slash")
    await until(lambda: pilot.app.focused is form.query_one("#config-filter"))
    await press(pilot, "escape")


async def arrows_read_the_chart(pilot: Pilot[int]) -> None:
    chart = pilot.app.screen.query_one(LossChart)
    await press(pilot, "left")
    await until(lambda: chart.cursor is not None)


async def arrows_move_the_table(pilot: Pilot[int]) -> None:
    table = pilot.app.screen.query_one(CheckpointTable)
    before = table.chosen
    await press(pilot, "down")
    await until(lambda: table.chosen != before)


async def the_differences_have_the_focus(pilot: Pilot[int]) -> None:
    # The second escape came to the differences, and led back to the form.
    await until(lambda: pilot.app.focused is pilot.app.screen.query_one(ConfigForm).rows)


async def the_text_has_the_focus(pilot: Pilot[int]) -> None:
    await until(lambda: isinstance(pilot.app.focused, StreamText))


Check = Callable[[Pilot[int]], object]

FIELDS: list[tuple[str, list[tuple[tuple[str, ...], Check]]]] = [
    ("data", [(("i",), arrows_move_the_list)]),
    (
        "config",
        [
            *(((key,), arrows_move_the_rows) for key in ("slash", "enter", "p", "o", "w")),
            (("d", "c"), the_differences_have_the_focus),
        ],
    ),
    ("train", [(("s",), arrows_read_the_chart)]),
    (
        "playground",
        [((key,), the_text_has_the_focus) for key in ("p", "e", "l", "number_sign", "h", "v")],
    ),
    ("checkpoints", [((key,), arrows_move_the_table) for key in ("slash", "n", "a")]),
]
HOMES = [
    ("data", arrows_move_the_list),
    ("config", arrows_move_the_rows),
    ("train", arrows_read_the_chart),
    ("playground", the_text_has_the_focus),
    ("checkpoints", arrows_move_the_table),
]


@pytest.fixture
def runs(runs_root: Path) -> None:
    make_run(runs_root, "done-1", finished_run(300, run="done-1"))
    add_run_with_losses(runs_root, "tree-1", {100: 2.0, 200: 1.8, 300: 1.7})


async def open_place(app: LabApp, place: str, runs_root: Path) -> None:
    if place == "train":
        assert isinstance(app.screen, TrainScreen)
        app.screen.open_run(RunFolder(runs_root / "done-1"))
        await until(lambda: app.screen.has_class("-ended"))
    elif place == "checkpoints":
        await until(lambda: isinstance(app.focused, CheckpointTable))
    else:
        await until(lambda: app.focused is not None)


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(("place", "fields"), FIELDS)
async def test_escape_leads_from_a_field_to_what_the_arrows_move(
    make_app: MakeApp, runs_root: Path, place: str, fields: list[tuple[tuple[str, ...], Check]]
) -> None:
    app = make_app(place)
    elsewhere, key = ("config", "2") if place == "data" else ("data", "1")
    back = str(SCREENS.index(place) + 1)
    async with app.run_test(size=SIZE) as pilot:
        await open_place(app, place, runs_root)
        for number, (keys, check) in enumerate(fields):
            if number:
                await press(pilot, back)
                await until(lambda: app.current_mode == place)
            await press(pilot, *keys)
            await until(lambda: hasattr(app.focused, "cursor_blink"))
            await press(pilot, "x", "1", "escape", "escape")
            screen = place_of(app)
            assert place == screen.MODE
            await check(pilot)  # type: ignore[misc]
            await press(pilot, key)
            await until(lambda: app.current_mode == elsewhere)


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(("place", "check"), HOMES)
async def test_escape_out_of_turn_and_lost_focus_do_no_harm(
    make_app: MakeApp, runs_root: Path, place: str, check: Check
) -> None:
    app = make_app(place)
    async with app.run_test(size=SIZE) as pilot:
        await open_place(app, place, runs_root)
        await press(pilot, "escape", "escape", "escape")
        await check(pilot)  # type: ignore[misc]
        app.screen.set_focus(None)
        await press(pilot, "escape")
        await check(pilot)  # type: ignore[misc]


@pytest.mark.parametrize("field", ["seq-len", "stride"])
async def test_escape_leads_from_the_fields_of_the_windows_to_the_list(
    make_app: MakeApp, field: str
) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        corpora = app.screen.query_one(CorpusList)
        await until(lambda: "sample" in [option.id for option in corpora.options])
        await until(lambda: "Searching" not in shown(app))
        corpora.highlight("sample")
        await until(lambda: app.screen.query("CorpusTabs"))
        app.screen.query_one(CorpusTabs).open_tab("windows")
        await until(lambda: any(pane.region for pane in app.screen.query("#windows")))
        app.screen.query_one(f"#{field}", Input).focus()
        await press(pilot, "5", "escape")
        await arrows_move_the_list(pilot)


@pytest.mark.usefixtures("runs")
async def test_a_question_whose_asker_has_gone_gives_the_focus_back(
    make_app: MakeApp, runs_root: Path
) -> None:
    app = make_app("train")
    async with app.run_test(size=SIZE) as pilot:
        await open_place(app, "train", runs_root)
        app.screen.query_one("#result").focus()
        await press(pilot, "s")
        await until(lambda: isinstance(app.focused, Input))
        app.screen.query_one("#result").display = False
        await press(pilot, "escape")
        await arrows_read_the_chart(pilot)
