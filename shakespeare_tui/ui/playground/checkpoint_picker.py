"""Which checkpoint texts are written with: the list, kept up to date, and the choice from it."""

from collections.abc import Sequence
from pathlib import Path

from shakespeare_tui.runs.catalog import CheckpointEntry, RunCatalog, RunEntry
from shakespeare_tui.runs.losses import Loss, TokenUnit, in_one_unit
from shakespeare_tui.ui.widgets.choice_dialog import Choice


class CheckpointPicker:
    """Chooses among all checkpoints: what was asked for, else the best of the newest run.

    Attributes:
        chosen: ``RUN@STEP``; None where there is no checkpoint.
    """

    def __init__(self) -> None:
        self.chosen: str | None = None
        self._wanted: str | None = None
        self._runs: list[RunEntry] = []
        self._catalog: RunCatalog | None = None

    def read(self, runs_root: Path) -> list[RunEntry]:
        """The runs' folders as they are; may take seconds and chooses nothing: for a thread."""
        if self._catalog is None:
            self._catalog = RunCatalog(runs_root)
        return self._catalog.entries()

    def take(self, runs: list[RunEntry]) -> None:
        """Choose among what was read; what was chosen before stays, if it is there."""
        self._runs = runs
        wanted = self._wanted or self.chosen
        is_there = wanted in [entry.reference for entry in self._usable]
        self.chosen = wanted if is_there else _best(runs)
        self._wanted = None

    def want(self, reference: str) -> None:
        """Choose ``RUN@STEP`` with the next list."""
        self._wanted = reference

    def before(self, reference: str) -> str | None:
        """What a checkpoint was trained from: its run's parent, else the first that the run has.

        None where it is that itself.
        """
        usable = {entry.reference for entry in self._usable}
        for run in self._runs:
            own = [entry.reference for entry in run.checkpoints if entry.reference in usable]
            if reference in own:
                parent = run.info.parent if run.info else None
                found = parent if parent in usable else own[-1]
                return found if found != reference else None
        return None

    @property
    def is_empty(self) -> bool:
        """Whether no checkpoint can be used."""
        return not self._usable

    @property
    def choices(self) -> list[Choice]:
        """All checkpoints, and below them the runs that are damaged."""
        both = [(run, entry) for run in self._runs for entry in run.checkpoints]
        losses_of = in_one_unit(both, _losses, lambda pair: _unit(pair[0]))
        checkpoints = [
            Choice(
                "checkpoint",
                entry.reference,
                _about(run, entry, next(iter(losses_of((run, entry))), None)),
                entry.problem is not None,
            )
            for run, entry in both
        ]
        damaged = [
            Choice("damaged", run.name, run.problem, is_damaged=True)
            for run in self._runs
            if run.problem is not None and not run.checkpoints
        ]
        return checkpoints + damaged

    @property
    def _usable(self) -> list[CheckpointEntry]:
        return [entry for run in self._runs for entry in run.checkpoints if entry.info is not None]


def _losses(pair: tuple[RunEntry, CheckpointEntry]) -> Sequence[Loss]:
    return pair[1].info.losses if pair[1].info else []


def _unit(run: RunEntry) -> TokenUnit:
    return run.info.unit if run.info else TokenUnit("", None)


def _about(run: RunEntry, entry: CheckpointEntry, loss: Loss | None) -> str:
    if entry.problem is not None:
        return entry.problem
    # What it may have read is said where losses are compared.
    is_pretrained = run.info is not None and run.info.pretrained is not None
    marks = ["best"] * entry.is_best + ["last"] * entry.is_last + ["pretrained"] * is_pretrained
    return " · ".join((f"val loss {loss or '-'}", *marks))


def _best(runs: list[RunEntry]) -> str | None:
    """The best checkpoint of the newest run that has one."""
    return next((best.reference for run in runs if (best := run.best) is not None), None)
