"""Pictures of what lies over the Checkpoints screen: comparison, time-lapse, blind test."""

import shutil
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from lab_harness import MakeApp, press, until
from listed_runs import damaged_runs, is_read, runs_in_several_tokenizers, whole
from pictures import LOOKS, TOKEN_LOOKS, Look, Pictured
from playground_script import ScriptedEngine
from scripted_texts import ScriptedWriting
from textual.pilot import Pilot

from shakespeare_tui.config.schema import Config
from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.checkpoints.compare import CompareScreen
from shakespeare_tui.ui.checkpoints.writing import WritingScreen

Taking = Callable[..., Awaitable[None]]


@pytest.fixture
def take(pictured: Pictured, make_app: MakeApp, runs_root: Path) -> Taking:
    """``await take(*keys, then=(), ready=…, ascii=False)``: pressed when all is read, and ready."""
    damaged_runs(runs_root)
    config = Config().model_dump(mode="json")
    config["model"]["dropout"] = 0.2
    config["training"]["learning_rate"] = 3e-4
    path = runs_root / "quick-1-fork-1" / "config.yaml"
    path.write_text(config_to_yaml(Config.model_validate(config)))

    async def pictures(
        *keys: str,
        then: tuple[str, ...] = (),
        ready: Callable[[LabApp], bool] = whole,
        ascii: bool = False,  # noqa: A002
        looks: Iterable[Look] = LOOKS,
    ) -> None:
        engine = ScriptedEngine(write=ScriptedWriting())
        app = make_app("checkpoints", ascii=ascii, engine=engine)

        async def prepare(pilot: Pilot[int]) -> None:
            await until(lambda: is_read(app))
            await pilot.pause()
            await press(pilot, *keys)
            await until(lambda: isinstance(app.screen, WritingScreen))
            if then:
                await until(lambda: whole(app))
                await press(pilot, *then)
            await until(lambda: ready(app))

        await pictured(app, prepare, looks)

    return pictures


MARK_TWO = ("down", "down", "space", "down", "down", "space", "c")


def has_curves(app: LabApp) -> bool:
    return whole(app) and isinstance(app.screen, CompareScreen) and bool(app.screen.curves)


async def test_texts(take: Taking) -> None:
    await take(*MARK_TWO)


async def test_measures(take: Taking) -> None:
    await take(*MARK_TWO, then=("tab",))


async def test_curves(take: Taking) -> None:
    await take(*MARK_TWO, then=("tab", "tab"), ready=has_curves)


async def test_several_tokenizers(take: Taking, runs_root: Path) -> None:
    shutil.rmtree(runs_root)
    runs_in_several_tokenizers(runs_root)
    await take("down", "space", *["down"] * 5, "space", "c", then=("tab",), looks=TOKEN_LOOKS)


async def test_curves_in_several_tokenizers(take: Taking, runs_root: Path) -> None:
    shutil.rmtree(runs_root)
    runs_in_several_tokenizers(runs_root)
    keys = ("down", "space", *["down"] * 5, "space", "c")
    await take(*keys, then=("tab", "tab"), ready=has_curves, looks=TOKEN_LOOKS)


async def test_settings(take: Taking) -> None:
    await take(*MARK_TWO, then=("shift+tab",))


async def test_timelapse(take: Taking) -> None:
    await take("down", "down", "l")


async def test_timelapse_in_ascii(take: Taking) -> None:
    await take("down", "down", "l", ascii=True)


async def test_blind_test(take: Taking) -> None:
    await take("v", then=("left",))
