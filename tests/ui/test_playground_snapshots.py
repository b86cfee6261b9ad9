"""Pictures of the Playground place: empty, writing, and with a field that is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lab_harness import MakeApp, shown, until
from test_checkpoints_snapshots import runs
from textual.pilot import Pilot
from textual.widgets import Input

from shakespeare_tui.ui import bridge
from shakespeare_tui.ui.generation import GenerationJob, GenerationRequest

SIZES = [(80, 24), (140, 45)]
THEMES = ["lab-dark", "lab-light"]
Snapshot = Callable[..., bool]
TEXT = """
What is the king that shall be [so much] spoke,
And let the world upon my heart be done.

JULIET:
I would not have thee [b]stay[/b], nor bid thee go:
The morning is a lark that will not sing."""

pytestmark = [
    pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}"),
    pytest.mark.parametrize("theme", THEMES),
]


def write(request: GenerationRequest, job: GenerationJob) -> None:
    job.add(TEXT, len(TEXT), 0.125)
    job.end("done")


def test_empty(
    snap_compare: Snapshot, make_app: MakeApp, size: tuple[int, int], theme: str
) -> None:
    assert snap_compare(make_app("playground", theme=theme), terminal_size=size)


def test_written(
    snap_compare: Snapshot,
    make_app: MakeApp,
    runs_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    theme: str,
) -> None:
    runs(runs_root)
    monkeypatch.setattr(bridge, "write_text", write)
    app = make_app("playground", theme=theme)

    async def prepare(pilot: Pilot[int]) -> None:
        await until(lambda: app.screen.chosen)  # type: ignore[attr-defined]
        await pilot.press("g")
        await until(lambda: "tokens/s" in shown(app))
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=prepare)


def test_a_wrong_value(
    snap_compare: Snapshot,
    make_app: MakeApp,
    runs_root: Path,
    size: tuple[int, int],
    theme: str,
) -> None:
    runs(runs_root)
    app = make_app("playground", theme=theme)

    async def prepare(pilot: Pilot[int]) -> None:
        await until(lambda: app.screen.chosen)  # type: ignore[attr-defined]
        field = app.screen.query_one("#top_p", Input)
        field.focus()
        field.value = "1.5"
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=prepare)
