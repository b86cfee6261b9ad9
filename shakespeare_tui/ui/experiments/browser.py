"""Which experiments there are, and the one that is open: read, sorted, its curves chosen."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.folder import ExperimentFolder, list_experiments
from shakespeare_tui.experiments.table import METRICS, ExperimentReader, ExperimentTable, RunRow
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.ui.experiments.tables import CURVE, ExperimentLine, Field, fields_of

MOST_CURVES = 5
"""Curves that are drawn unasked: as many as there are colours for them."""


@dataclass(frozen=True)
class Listing:
    """What the folder of experiments held when it was read."""

    lines: list[ExperimentLine]


class ExperimentBrowser:
    """All experiments, and how one of them is looked at.

    Attributes:
        lines: All experiments, as they were read last.
        opened: The one that is open; None shows the list.
        table: Its runs; None before they are read.
        fields: What its table has columns for.
        sorted_by: The name of one of them, or ``run``; None is the order of the experiment.
    """

    def __init__(self) -> None:
        self._readers: dict[Path, ExperimentReader] = {}
        self._copies: dict[tuple[Path, str], tuple[int, RunHistory]] = {}
        self._chosen_curves: dict[str, set[str]] = {}
        self.lines: list[ExperimentLine] = []
        self.opened: ExperimentFolder | None = None
        self.table: ExperimentTable | None = None
        self.fields: list[Field] = []
        self.sorted_by: str | None = None
        self.is_descending = False

    # --- reading, in a thread ------------------------------------------------------------------

    def read_all(self, root: Path, runs_root: Path) -> Listing:
        """Read the list; for a thread."""
        lines = []
        for folder in list_experiments(root):
            try:
                lines.append(ExperimentLine(folder.name, self.read_one(folder, runs_root)))
            except UserError as error:  # the others are none the worse
                lines.append(ExperimentLine(folder.name, None, str(error)))
        return Listing(lines)

    def read_one(self, folder: ExperimentFolder, runs_root: Path) -> ExperimentTable:
        """Read one experiment; for a thread, one at a time.

        Raises:
            UserError: It is damaged.
        """
        if folder.path not in self._readers:
            self._readers[folder.path] = ExperimentReader(folder, runs_root)
        table = self._readers[folder.path].read()
        rows = tuple(
            dataclasses.replace(row, history=self._copy(folder.path, row)) for row in table.rows
        )
        return dataclasses.replace(table, rows=rows)

    def _copy(self, path: Path, row: RunRow) -> RunHistory:
        """What is drawn meanwhile does not change: the reader goes on with its own history."""
        key = path, row.trial.run
        known = self._copies.get(key)
        if known is None or known[0] != row.history.revision:
            known = self._copies[key] = row.history.revision, row.history.copy()
        return known[1]

    # --- what is shown -------------------------------------------------------------------------

    def open(self, folder: ExperimentFolder | None) -> None:
        """Look at one experiment, or at the list."""
        self.opened = folder
        self.table, self.fields, self.sorted_by = None, [], None
        self.is_descending = False

    def take(self, table: ExperimentTable) -> None:
        """Show the open experiment as it was read."""
        self.table, self.fields = table, fields_of(table)
        if self.sorted_by is not None and self.field_of(self.sorted_by) is None:
            self.sorted_by = None

    def field_of(self, name: str) -> Field | None:
        """What a column shows, by its name; the run's name and state are columns, too."""
        ends = (
            Field("run", "Run", lambda row: row.name, lambda row: row.name),
            Field("state", "State", lambda row: row.state, lambda row: row.state),
        )
        return next((field for field in (*ends, *self.fields) if field.name == name), None)

    # --- order ---------------------------------------------------------------------------------

    def sort_by(self, name: str | None) -> None:
        """Sort by a column; by the same as before, the other way round."""
        if name is not None and name == self.sorted_by:
            self.is_descending = not self.is_descending
            return
        self.sorted_by = name
        metric = None if name is None else METRICS.get(name)
        self.is_descending = metric is not None and metric.is_greatest_best

    def sort_by_next(self) -> None:
        """Sort by the next column that is shown; after the last, by none."""
        fields = [field.name for field in self.fields if field.name != CURVE]
        names = [None, "run", "state", *fields]
        here = names.index(self.sorted_by) if self.sorted_by in names else 0
        self.sort_by(names[(here + 1) % len(names)])

    # --- curves --------------------------------------------------------------------------------

    @property
    def curves(self) -> set[str]:
        """The runs whose curves are drawn: what was chosen, or the best and those in training."""
        if self.opened is None or self.table is None:
            return set()
        chosen = self._chosen_curves.get(self.opened.name)
        return set(self._usual_curves()) if chosen is None else chosen

    def _usual_curves(self) -> list[str]:
        assert self.table is not None
        begun = [row for row in self.table.rows if row.history.last_step]
        if len(begun) <= MOST_CURVES:
            return [row.trial.run for row in begun]
        best = [
            row.trial.run
            for judgement in self.table.judgements
            for variant in judgement.ranked
            for row in variant.finished
        ]
        training = [row.trial.run for row in begun if row.state in ("training", "paused")]
        every = [row.trial.run for row in begun]
        return list(dict.fromkeys([*training, *best, *every]))[:MOST_CURVES]

    def toggle_curve(self, run: str) -> None:
        """Draw the curve of a run, or leave it out."""
        if self.opened is not None:
            self._chosen_curves[self.opened.name] = self.curves ^ {run}

    def change_curves(self) -> str:
        """All curves; then none; then those that are drawn unasked. What it is, in a word."""
        assert self.opened is not None and self.table is not None
        every = {row.trial.run for row in self.table.rows}
        chosen = self._chosen_curves.get(self.opened.name)
        if chosen is None or (chosen and chosen != every):
            self._chosen_curves[self.opened.name] = every
            return "all curves"
        if chosen:
            self._chosen_curves[self.opened.name] = set()
            return "no curve but that under the cursor"
        del self._chosen_curves[self.opened.name]
        return f"the curves of the best {MOST_CURVES}, and of what is in training"
