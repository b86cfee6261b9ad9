"""Pictures of what lies over the places: help, the palette, the question before leaving; ASCII."""

from collections.abc import Callable

import pytest
from lab_harness import MakeApp, ScriptedTrainer, until
from streams import healthy_run
from textual.pilot import Pilot

from shakespeare_tui.core.config import Config
from shakespeare_tui.ui.dialogs.leave import LeaveDialog
from shakespeare_tui.ui.training import TrainingController

Snapshot = Callable[..., bool]
Scripted = Callable[..., tuple[TrainingController, ScriptedTrainer]]


@pytest.mark.parametrize("theme", ["lab-dark", "lab-light", "lab-contrast"])
def test_help(snap_compare: Snapshot, make_app: MakeApp, theme: str) -> None:
    assert snap_compare(make_app("playground", theme=theme), press=["question_mark"])


def test_the_palette(snap_compare: Snapshot, make_app: MakeApp) -> None:
    app = make_app("playground")

    async def prepare(pilot: Pilot[int]) -> None:
        await pilot.press("ctrl+p", *"theme")
        await pilot.pause(0.5)

    assert snap_compare(app, run_before=prepare)


@pytest.mark.parametrize("size", [(80, 24), (140, 45)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_question_before_leaving(
    snap_compare: Snapshot, make_app: MakeApp, scripted: Scripted, size: tuple[int, int]
) -> None:
    training, _ = scripted(healthy_run(500))
    app = make_app("checkpoints", training=training)

    async def prepare(pilot: Pilot[int]) -> None:
        training.start(Config())
        await until(lambda: training.history.last_step == 500)
        await pilot.press("q")
        await until(lambda: isinstance(app.screen, LeaveDialog))
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=prepare)


def test_ascii(snap_compare: Snapshot, make_app: MakeApp) -> None:
    assert snap_compare(make_app("playground", ascii=True), press=["question_mark"])
