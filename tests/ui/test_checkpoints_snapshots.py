"""Pictures of the Checkpoints place: empty, with runs, and with a damaged one."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_harness import NOW, MakeApp, shown, until
from streams import finished_run, make_run
from textual.pilot import Pilot

from shakespeare_tui.core.runs import RunFolder

SIZES = [(80, 24), (140, 45)]
THEMES = ["lab-dark", "lab-light"]
Snapshot = Callable[..., bool]

pytestmark = [
    pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}"),
    pytest.mark.parametrize("theme", THEMES),
]


def save(run: RunFolder, step: int, val_loss: float, age_seconds: float) -> None:
    """A checkpoint's figures, and as many bytes as it would have."""
    folder = run.checkpoint_folder(step)
    folder.mkdir()
    figures = {
        "format": 1,
        "step": step,
        "val_loss": val_loss,
        "train_loss": val_loss - 0.11,
        "protocol": "subset-64",
        "time": NOW - age_seconds,
        "elapsed_seconds": step / 20,
    }
    (folder / "info.json").write_text(json.dumps(figures))
    (folder / "weights.safetensors").write_bytes(bytes(3_100_000))


def runs(root: Path) -> None:
    """Two runs: the later one forked from the earlier."""
    for age_seconds, name, losses in (
        (7200, "quick-1", {1000: 1.8123, 1500: 1.6544, 2000: 1.5871}),
        (900, "quick-1-fork-1", {500: 1.5902, 1000: 1.5433, 1500: 1.5512}),
    ):
        run = make_run(root, name, finished_run(max(losses), run=name))
        for step, loss in losses.items():
            save(run, step, loss, age_seconds + max(losses) - step)
        run.write_index(best=min(losses, key=lambda s: losses[s]), last=max(losses))
        record = json.loads((run.path / "run.json").read_text())
        if name != "quick-1":
            record["parent"] = "quick-1@2000"
        (run.path / "run.json").write_text(json.dumps(record))
        os.utime(run.path / "run.json", (NOW - age_seconds, NOW - age_seconds))


@pytest.fixture
def pictured(
    snap_compare: Snapshot, make_app: MakeApp, size: tuple[int, int], theme: str
) -> Callable[..., bool]:
    def compare(wait_for: str, *keys: str) -> bool:
        app = make_app("checkpoints", theme=theme)

        async def prepare(pilot: Pilot[int]) -> None:
            await until(lambda: wait_for in shown(app))
            await pilot.press(*keys)
            await pilot.pause()

        return snap_compare(app, terminal_size=size, run_before=prepare)

    return compare


def test_empty(pictured: Callable[..., bool]) -> None:
    assert pictured("There are no runs yet")


def test_runs(pictured: Callable[..., bool], runs_root: Path) -> None:
    runs(runs_root)
    assert pictured("quick-1-fork-1", "tab", "down")


def test_a_damaged_run(pictured: Callable[..., bool], runs_root: Path) -> None:
    runs(runs_root)
    record = runs_root / "quick-1" / "run.json"
    record.write_text('{"format": 99, "name": "[b]quick-1[/b]"}')
    os.utime(record, (NOW - 7200, NOW - 7200))
    os.utime(record.parent, (NOW - 7200, NOW - 7200))
    assert pictured("damaged", "end")
