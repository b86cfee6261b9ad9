"""One line about each run, read from its folder without loading any weights."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shakespeare_tui.core.errors import UserError
from shakespeare_tui.core.event_log import last_event
from shakespeare_tui.core.events import RunFailed, RunFinished
from shakespeare_tui.core.formatting import perplexity
from shakespeare_tui.core.losses import Loss
from shakespeare_tui.core.runs import RunFolder, list_runs

RunState = Literal["training", "completed", "stopped", "failed", "broken off", "damaged"]


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run in figures; ``problem`` says why a damaged one cannot be read."""

    name: str
    path: str
    state: RunState
    step: int | None = None
    val_loss: float | None = None
    protocol: str | None = None
    perplexity: float | None = None
    parameters: int | None = None
    corpus: str | None = None
    parent: str | None = None
    age_seconds: float
    problem: str | None = None

    @property
    def loss(self) -> Loss | None:
        """Its validation loss: that of its best checkpoint."""
        return None if self.val_loss is None else Loss(self.val_loss, self.protocol or "")


def summarise_run(run: RunFolder) -> RunSummary:
    """Read a run's figures; damage becomes part of the summary, never an error."""
    age = time.time() - run.path.stat().st_mtime
    try:
        info = run.info()
        index = run.index()
        last = run.checkpoint(index["last"]) if "last" in index else None
        best = run.checkpoint(index["best"]) if "best" in index else last
        event = last_event(run.events_path)
    except (UserError, OSError) as error:
        return RunSummary(
            name=run.name, path=str(run.path), state="damaged", age_seconds=age, problem=str(error)
        )
    loss = best.info.loss if best else None
    return RunSummary(
        name=run.name,
        path=str(run.path),
        state=run_state(run, event),
        step=last.info.step if last else None,
        val_loss=loss.value if loss else None,
        protocol=loss.protocol if loss else None,
        perplexity=perplexity(loss.value if loss else None),
        parameters=info.parameters,
        corpus=info.corpus,
        parent=info.parent,
        age_seconds=time.time() - (last.info.time if last else info.created),
    )


def summarise_runs(root: Path) -> list[RunSummary]:
    """All runs below ``root``, newest first."""
    return [summarise_run(run) for run in list_runs(root)]


def run_state(run: RunFolder, event: object) -> RunState:
    """What became of a run, from its lock and the last event of its log."""
    if run.is_locked():
        return "training"
    if isinstance(event, RunFinished):
        return "stopped" if event.reason in ("stopped", "interrupted") else "completed"
    return "failed" if isinstance(event, RunFailed) else "broken off"
