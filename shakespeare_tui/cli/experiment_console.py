"""Tell how an experiment goes: a bar for the whole and each run in training, or lines in a pipe."""

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from shakespeare_tui.cli.console import say
from shakespeare_tui.experiments.folder import ExperimentFolder
from shakespeare_tui.experiments.runner import Job, Outcome
from shakespeare_tui.experiments.table import OVER, ExperimentTable
from shakespeare_tui.formatting import counted, format_duration, format_loss
from shakespeare_tui.runs.figures import run_figures
from shakespeare_tui.visible_text import visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SECONDS_BETWEEN_LINES = 60.0


class ExperimentConsole:
    """A runner's listener; what it says goes to stderr.

    Args:
        folder: The experiment's.
        jobs: The most runs at a time.
    """

    def __init__(self, folder: ExperimentFolder, jobs: int) -> None:
        self._folder, self._jobs = folder, jobs
        self._stack = contextlib.ExitStack()
        self._bar: Progress | None = None
        self._whole: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said_at = time.monotonic()
        self._left = ""

    def __enter__(self) -> Self:
        """Show bars where stderr is a terminal."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[told]}", markup=False),
            )
            self._bar = self._stack.enter_context(
                Progress(
                    *columns,
                    console=Console(stderr=True, highlight=False),
                    transient=True,
                    redirect_stdout=False,
                    refresh_per_second=2,
                )
            )
            self._whole = self._bar.add_task(visible(self._folder.name), total=1.0, told="")
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def started(self, job: Job) -> None:
        """Say which run begins or goes on."""
        trial = job.trial
        how = "resuming" if job.is_resumed else "training"
        if job.process is None:
            how = "in training already:"
        self._say(f"{how} {trial.run}: {trial.variant.label}, seed {trial.seed}")
        if self._bar is not None:
            self._tasks[trial.run] = self._bar.add_task(visible(trial.run), total=1.0, told="")

    def ended(self, job: Job, outcome: Outcome, reason: str) -> None:
        """Say what became of a run."""
        figures = run_figures(job.history)
        words = {"pruned": "given up early", "again": "to be resumed"}.get(outcome, outcome)
        parts = [f"{job.trial.run} {words}" + (f": {reason}" if reason else "")]
        if outcome in ("finished", "pruned") and figures.val is not None:
            parts.append(f"val loss {format_loss(figures.val.value)} ({figures.val.protocol})")
        if outcome == "finished":
            parts.append(format_duration(figures.elapsed_seconds))
        self._say(", ".join(parts))
        if self._bar is not None and (task := self._tasks.pop(job.trial.run, None)) is not None:
            self._bar.remove_task(task)

    def progressed(self, jobs: Sequence[Job], table: ExperimentTable | None) -> None:
        """Show how far the runs are, and the whole where it was read anew."""
        if self._bar is not None:
            for job in jobs:
                self._show(job)
        if table is None:
            return
        done, left = table.count(*OVER), table.seconds_left(self._jobs)
        self._left = "" if left is None else f", about {format_duration(left)} left"
        if self._bar is not None and self._whole is not None:
            spent = sum(row.figures.elapsed_seconds for row in table.rows) / self._jobs
            share = done / max(1, table.planned)
            if left is not None and spent + left > 0:
                share = spent / (spent + left)
            told = f"{done} of {table.planned} runs{self._left}"
            self._bar.update(self._whole, completed=share, told=told)
        elif time.monotonic() - self._said_at > _SECONDS_BETWEEN_LINES:
            running = "; ".join(f"{job.trial.run} {_standing(job)}" for job in jobs)
            waits = running or f"waiting for {counted(table.planned - done, 'run')} of others"
            self._say(f"{done} of {table.planned} runs{self._left}: {waits}")

    def _show(self, job: Job) -> None:
        assert self._bar is not None
        task, share = self._tasks.get(job.trial.run), run_figures(job.history).share
        if task is not None:
            self._bar.update(task, completed=share or 0.0, told=_standing(job))

    def _say(self, text: str) -> None:
        self._said_at = time.monotonic()
        if self._bar is not None:
            self._bar.console.print(visible(text), markup=False)
        else:
            say(text)


def _standing(job: Job) -> str:
    """``step 1,200, val loss 1.6211, 42s left``, or ``measuring the loss: 40%`` for the time."""
    figures = run_figures(job.history)
    if not figures.step:
        return "reading the teachers" if job.trial.teachers else "starting"
    parts = [f"step {figures.step:,}"]
    if figures.val is not None:
        parts.append(f"val loss {format_loss(figures.val.value)}")
    if (at := job.history.evaluating) is not None:
        parts.append(f"measuring the loss: {at.done / at.total:.0%}")
    elif figures.seconds_left is not None:
        parts.append(f"{format_duration(figures.seconds_left)} left")
    return ", ".join(parts)
