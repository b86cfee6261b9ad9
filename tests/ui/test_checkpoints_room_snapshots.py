"""Pictures of what lies over the Checkpoints place: comparison, time-lapse, taste test."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lab_harness import MakeApp, until
from scripted_texts import ScriptedWriting
from test_checkpoints_room import whole
from test_checkpoints_snapshots import LOOKS, is_read, room
from textual.pilot import Pilot

from shakespeare_tui.core.config import Config
from shakespeare_tui.core.config_loading import config_to_yaml
from shakespeare_tui.ui import bridge_generation
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.screens.comparing import ComparingScreen

pytestmark = pytest.mark.parametrize(("size", "theme"), LOOKS)


@pytest.fixture
def pictured(
    snap_compare: Callable[..., bool],
    make_app: MakeApp,
    size: tuple[int, int],
    theme: str,
    runs_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., bool]:
    """``pictured(*keys, then=(), ready=…, ascii=False)``: pressed when all is read, and written."""
    monkeypatch.setattr(bridge_generation, "write_columns", ScriptedWriting())
    room(runs_root)
    config = Config().model_dump(mode="json")
    config["model"]["dropout"] = 0.2
    config["training"]["learning_rate"] = 3e-4
    path = runs_root / "quick-1-fork-1" / "config.yaml"
    path.write_text(config_to_yaml(Config.model_validate(config)))

    def compare(
        *keys: str,
        then: tuple[str, ...] = (),
        ready: Callable[[LabApp], bool] = lambda app: True,
        ascii: bool = False,  # noqa: A002
    ) -> bool:
        app = make_app("checkpoints", theme=theme, ascii=ascii)

        async def prepare(pilot: Pilot[int]) -> None:
            await until(lambda: is_read(app))
            await pilot.pause()
            await pilot.press(*keys)
            await until(lambda: whole(app))
            await pilot.pause()
            await pilot.press(*then)
            await until(lambda: ready(app) and whole(app))
            await pilot.pause()

        return snap_compare(app, terminal_size=size, run_before=prepare)

    return compare


MARK_TWO = ("down", "down", "space", "down", "down", "space", "c")


def has_curves(app: LabApp) -> bool:
    return isinstance(app.screen, ComparingScreen) and bool(app.screen.curves)


def test_texts(pictured: Callable[..., bool]) -> None:
    assert pictured(*MARK_TWO)


def test_measures(pictured: Callable[..., bool]) -> None:
    assert pictured(*MARK_TWO, then=("tab",))


def test_curves(pictured: Callable[..., bool]) -> None:
    assert pictured(*MARK_TWO, then=("tab", "tab"), ready=has_curves)


def test_settings(pictured: Callable[..., bool]) -> None:
    assert pictured(*MARK_TWO, then=("shift+tab",))


def test_lapse(pictured: Callable[..., bool]) -> None:
    assert pictured("down", "down", "l")


def test_lapse_in_ascii(pictured: Callable[..., bool]) -> None:
    assert pictured("down", "down", "l", ascii=True)


def test_taste(pictured: Callable[..., bool]) -> None:
    assert pictured("v", then=("left",))
