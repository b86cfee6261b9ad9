"""Pictures of the Experiments screen: empty, the list, one experiment, a plan."""

from pathlib import Path

import pytest
from lab_harness import MakeApp, press, shown, until
from listed_experiments import fail, in_training
from pictures import LOOKS, Pictured
from textual.pilot import Pilot

from shakespeare_tui.experiments.folder import ExperimentFolder

SOME = (LOOKS[0], LOOKS[2])
"""Dark where it is small, light where it is large."""


async def test_empty(pictured: Pictured, make_app: MakeApp) -> None:
    app = make_app("experiments")

    async def prepare(pilot: Pilot[int]) -> None:
        await until(lambda: "There are no experiments yet" in shown(app))

    await pictured(app, prepare, SOME)


async def test_list(pictured: Pictured, make_app: MakeApp, widths: ExperimentFolder) -> None:
    broken = widths.path.parent / "broken"
    broken.mkdir()
    (broken / "experiment.json").write_text("{")
    app = make_app("experiments")
    app.services.experiments_root = widths.path.parent.relative_to(Path.cwd())

    async def prepare(pilot: Pilot[int]) -> None:
        await until(lambda: "4/6" in shown(app))
        app.screen.query_one("#experiments").go_to("widths")  # type: ignore[attr-defined]

    await pictured(app, prepare, SOME)


async def test_one_experiment(
    pictured: Pictured, make_app: MakeApp, widths: ExperimentFolder, runs_root: Path
) -> None:
    live = in_training(widths, runs_root, "widths-5")
    fail(widths, runs_root, "widths-6")
    app = make_app("experiments")

    async def prepare(pilot: Pilot[int]) -> None:
        await until(lambda: "widths" in shown(app))
        await press(pilot, "enter", "o", "o", "o", "o", "o", "down")
        await until(lambda: "58%" in shown(app))

    with live.locked():
        await pictured(app, prepare)


async def test_what_a_setting_does(
    pictured: Pictured, make_app: MakeApp, widths: ExperimentFolder
) -> None:
    app = make_app("experiments")

    async def prepare(pilot: Pilot[int]) -> None:
        await until(lambda: "widths" in shown(app))
        await press(pilot, "enter", "tab", "tab")
        await until(lambda: "val loss by d_model" in shown(app))

    await pictured(app, prepare, SOME)


@pytest.fixture(autouse=True)
def in_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are shown from here."""
    monkeypatch.chdir(tmp_path)
