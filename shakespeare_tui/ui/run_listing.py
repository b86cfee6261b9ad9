"""Runs and checkpoints as the screens list them, read off the UI thread."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shakespeare_tui.core.losses import Loss
    from shakespeare_tui.core.run_summary import RunSummary


@dataclass(frozen=True, kw_only=True)
class CheckpointRow:
    """A checkpoint in figures; ``marks`` are ``best`` and ``last`` as far as they apply."""

    reference: str
    step: int
    loss: "Loss | None"
    size_bytes: int
    time: float
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRow:
    """A run and its checkpoints, latest first; ``time`` is when it was last written."""

    summary: "RunSummary"
    time: float
    checkpoints: list[CheckpointRow] = field(default_factory=list)


def list_run_rows(root: Path) -> list[RunRow]:
    """All runs below ``root``, newest first; damage shows in a run's summary, never as an error."""
    from shakespeare_tui.core.run_summary import summarise_run
    from shakespeare_tui.core.runs import list_runs

    rows = []
    for run in list_runs(root):
        try:
            summary = summarise_run(run)
            written = time.time() - summary.age_seconds
            rows.append(RunRow(summary, written, _checkpoint_rows(run.path)))
        except OSError:
            # The folder went away while it was read.
            continue
    return rows


def _checkpoint_rows(path: Path) -> list[CheckpointRow]:
    from shakespeare_tui.core.errors import UserError
    from shakespeare_tui.core.runs import RunFolder

    run = RunFolder(path)
    try:
        named = run.index()
    except UserError:
        named = {}
    rows = []
    for checkpoint in reversed(run.checkpoints()):
        info = checkpoint.info
        rows.append(
            CheckpointRow(
                reference=checkpoint.reference,
                step=info.step,
                loss=info.loss,
                size_bytes=checkpoint.size_bytes,
                time=info.time,
                marks=tuple(name for name in ("best", "last") if named.get(name) == info.step),
            )
        )
    return rows
