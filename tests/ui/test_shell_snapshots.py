"""Pictures of what lies over the screens: help, the palette, the question before leaving; ASCII."""

from collections.abc import Callable

import pytest
from lab_harness import MakeApp, ScriptedTrainer, press, shown, until
from pictures import LOOKS, Look, Pictured
from streams import healthy_run
from textual.pilot import Pilot

from shakespeare_tui.config.schema import Config
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.engine.training import TrainingController
from shakespeare_tui.ui.quitting import LeaveDialog

Scripted = Callable[..., tuple[TrainingController, ScriptedTrainer]]

CONTRASTS = (Look(80, 24, "lab-contrast"), Look(140, 45, "lab-contrast-light"))


async def ask_for_help(pilot: Pilot[int]) -> None:
    await press(pilot, "question_mark")


async def test_help(pictured: Pictured, make_app: MakeApp) -> None:
    await pictured(make_app("playground"), ask_for_help, looks=LOOKS + CONTRASTS)


async def test_help_in_ascii(pictured: Pictured, make_app: MakeApp) -> None:
    await pictured(make_app("playground", ascii=True), ask_for_help)


async def test_help_without_colours(
    pictured: Pictured, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    await pictured(make_app("playground"), ask_for_help)


async def test_the_palette(pictured: Pictured, make_app: MakeApp) -> None:
    async def prepare(pilot: Pilot[int]) -> None:
        await press(pilot, "ctrl+p", *"theme")
        await until(lambda: "high contrast" in shown(pilot.app))  # type: ignore[arg-type]

    # The palette closes when a theme is chosen, and offers the others.
    for theme in ("lab-dark", "lab-light"):
        looks = [look for look in LOOKS if look.theme == theme]
        await pictured(make_app("playground", theme=theme), prepare, looks=looks)


async def test_the_question_before_leaving(
    pictured: Pictured, make_app: MakeApp, scripted: Scripted
) -> None:
    training, _ = scripted(healthy_run(500))
    app = make_app("checkpoints", training=training)

    async def prepare(pilot: Pilot[int]) -> None:
        training.start(TrainingRequest(root=app.services.runs_root, config=Config()))
        await until(lambda: training.history.last_step == 500)
        await press(pilot, "q")
        await until(lambda: isinstance(app.screen, LeaveDialog))

    await pictured(app, prepare)
