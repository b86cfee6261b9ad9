"""The tables of the Experiments screen: all experiments, and the runs of one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from rich.cells import cell_len
from textual.binding import Binding, BindingType

from shakespeare_tui.experiments.plan import short_name
from shakespeare_tui.experiments.table import METRICS, TRIAL_LOOKS, ExperimentTable, RunRow
from shakespeare_tui.formatting import (
    format_accuracy,
    format_count,
    format_duration,
    format_loss,
)
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.losses import BITS_PER_BYTE, differ_in_tokenizer
from shakespeare_tui.runs.series import TRAIN_LOSS_STEPS
from shakespeare_tui.ui.widgets.line_table import LEAD, LineTable, Part, TableColumn
from shakespeare_tui.ui.widgets.text_glyphs import fitted

BEST = "★"


@dataclass(frozen=True)
class ExperimentLine:
    """An experiment in the list; ``table`` is None where ``problem`` says why it is damaged."""

    key: str
    table: ExperimentTable | None
    problem: str = ""


class ExperimentsTable(LineTable[ExperimentLine]):
    """All experiments, the newest first."""

    def fit_columns(self, width: int) -> Sequence[TableColumn]:
        """Name, progress and state; the best and the question where there is room."""
        longest = max((len(line.key) for line in self.lines), default=0)
        columns = [
            TableColumn("name", "Experiment", max(10, min(longest, width // 3)), False),
            TableColumn("runs", "Runs", 7),
            TableColumn("state", "State", 15, False),
        ]
        left = width - LEAD - sum(column.width + 1 for column in columns)
        if left >= 60:
            columns.append(TableColumn("best", "Best", min(40, left // 2), False))
            left -= columns[-1].width + 1
        if left >= 10:
            columns.append(TableColumn("question", "Question", left, False))
        return columns

    def parts_of(self, line: ExperimentLine) -> Sequence[Part]:
        """The cells of a line."""
        if line.table is None:
            width = sum(column.width + 1 for column in self.columns) - 1
            return [(fitted(f"{line.key}  {line.problem}", width), "damaged")]
        return [
            (" " * (n > 0) + fitted(text, column.width, is_right=column.is_right), style)
            for n, column in enumerate(self.columns)
            for text, style in [_experiment_cell(line.table, column.name)]
        ]


def _experiment_cell(table: ExperimentTable, name: str) -> Part:
    match name:
        case "name":
            return table.name, "run"
        case "runs":
            return f"{table.count('finished', 'pruned')}/{table.planned}", "value"
        case "state":
            return standing(table)
        case "best":
            labels = [variant.variant.label for variant in table.best]
            return f"{BEST} {', '.join(labels)}" if labels else "-", "best" if labels else "muted"
    return table.experiment.question, "muted"


def standing(table: ExperimentTable) -> Part:
    """How an experiment goes, with its sign and tone."""
    words = table.standing
    state = {"training": "training", "failed": "failed", "finished": "finished"}.get(
        words.rpartition(" ")[2], "waiting" if words == "not begun" else "stopped"
    )
    sign, tone = TRIAL_LOOKS[state]
    return f"{sign} {words}", tone


# --- the runs of one -----------------------------------------------------------------------------


@dataclass(frozen=True)
class RunLine:
    """A run of the experiment that is open.

    Attributes:
        row: What is known of it.
        is_best: Whether its variant is the best on its text.
        is_drawn: Whether its curve is.
    """

    row: RunRow
    is_best: bool
    is_drawn: bool

    @property
    def key(self) -> str:
        return self.row.trial.run


@dataclass(frozen=True)
class Field:
    """What a column shows of a run.

    Attributes:
        name: What it is sorted by.
        title: At its head.
        text: As it is shown.
        value: What it is sorted by; None comes last.
        is_number: Whether it stands on the right.
    """

    name: str
    title: str
    text: Callable[[RunRow], str]
    value: Callable[[RunRow], Any]
    is_number: bool = True


def _figure(
    name: str, title: str, value: Callable[[RunRow], float | None], form: Callable[[float], str]
) -> Field:
    def text(row: RunRow) -> str:
        found = value(row)
        return "-" if found is None or not math.isfinite(found) else form(found)

    return Field(name, title, text, value)


_VAL = Field(
    "val_loss",
    "Val",
    lambda row: row.loss.short if row.loss else "-",
    lambda row: row.loss.value if row.loss else None,
)
_FIGURES = (
    _VAL,
    _figure("bits_per_byte", "Bits/B", lambda row: row.bits_per_byte, format_loss),
    _figure("train_loss", "Train", lambda row: row.train_loss, format_loss),
    _figure("gap", "Gap", lambda row: row.gap, format_loss),
    _figure("accuracy", "Acc.", lambda row: row.accuracy, format_accuracy),
    _figure("perplexity", "Perpl.", METRICS["perplexity"].value, "{:.2f}".format),
    _figure("steps", "Steps", lambda row: row.figures.step or None, "{:,.0f}".format),
    _figure("parameters", "Params", lambda row: row.parameters, format_count),
    _figure("tokens", "Tokens", lambda row: row.tokens or None, format_count),
    _figure(
        "tokens_per_second", "Tok/s", lambda row: row.figures.tokens_per_second, "{:,.0f}".format
    ),
    _figure("seconds", "Time", lambda row: row.seconds, format_duration),
)
CURVE = "curve"
_LONGEST_SETTING = 14
_LONGEST_NAME = 20


def fields_of(table: ExperimentTable) -> list[Field]:
    """The columns behind run and state: what differs, then the figures, the metric first."""
    fields = []
    if any(row.trial.variant.arm for row in table.rows):
        fields.append(_text_field("arm", "Arm", lambda row: row.trial.variant.arm or "-"))
    fields += [_setting_field(path) for path in table.differing]
    if len({row.trial.seed for row in table.rows}) > 1:
        fields.append(Field("seed", "Seed", lambda r: str(r.trial.seed), lambda r: r.trial.seed))
    units = [judgement.unit for judgement in table.judgements]
    is_mixed = differ_in_tokenizer(row.unit for row in table.rows if row.losses)
    figures = [f for f in _FIGURES if f.name != "bits_per_byte" or is_mixed]
    metric = "bits_per_byte" if BITS_PER_BYTE in units else table.experiment.metric
    figures.sort(key=lambda field: field.name != metric)
    curve = Field(CURVE, "Curve", lambda row: "", lambda row: None, is_number=False)
    return [*fields, *figures[:1], curve, *figures[1:]]


def _text_field(name: str, title: str, text: Callable[[RunRow], str]) -> Field:
    return Field(name, title, text, text, is_number=False)


def _setting_field(path: str) -> Field:
    title = short_name(path)

    def value(row: RunRow) -> Any:
        found = (row.config.by_path() | row.config.effective_values())[path]
        return found if isinstance(found, int | float) else str(found)

    return Field(path, title, lambda row: row.texts[path] or "empty", value)


def sorted_lines(
    lines: Sequence[RunLine], field: Field | None, *, is_descending: bool
) -> list[RunLine]:
    """The lines by a field, what is not known last; None leaves the order of the experiment."""
    if field is None:
        return list(lines)
    known = [line for line in lines if field.value(line.row) is not None]
    rest = [line for line in lines if field.value(line.row) is None]

    def key(line: RunLine) -> tuple[bool, Any]:
        value = field.value(line.row)
        return isinstance(value, str), value

    known.sort(key=key, reverse=is_descending)
    return known + rest


class RunsTable(LineTable[RunLine]):
    """The runs of one experiment; columns that find no room are reached by the arrows.

    Args:
        colour_of: The colour of a run's curve, by its key.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "shift(-1)", "Columns to the left", show=False, id="experiments.left"),
        Binding("right", "shift(1)", "Columns to the right", show=False, id="experiments.right"),
    ]

    def __init__(self, colour_of: Callable[[str], str], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._colour_of = colour_of
        self.fields: Sequence[Field] = ()
        self._by_name: Mapping[str, Field] = {}
        self._first = 0
        self._is_cut = False

    def show_fields(self, fields: Sequence[Field]) -> None:
        """Have other columns."""
        self.fields, self._by_name = fields, {field.name: field for field in fields}
        self._first = min(self._first, max(0, len(fields) - 1))

    def fit_columns(self, width: int) -> Sequence[TableColumn]:
        """Best, run and state always; of the rest what fits, from the first that is wanted."""
        longest = max((cell_len(line.row.name) for line in self.lines), default=0)
        is_wide = width >= 70
        columns = [
            TableColumn("", "", 1, False),
            TableColumn("run", "Run", max(4, min(longest, _LONGEST_NAME, width // 3)), False),
            TableColumn("state", "State" if is_wide else "", 10 if is_wide else 5, False),
        ]
        used = LEAD + sum(column.width + 1 for column in columns)
        shown = self.fields[self._first :]
        for number, field in enumerate(shown):
            column = self._column(field)
            # The last one needs no room for the sign that more follow.
            room = width - used - 2 * (number < len(shown) - 1)
            if column.width > room:
                break
            columns.append(column)
            used += column.width + 1
        self._is_cut = len(columns) - 3 < len(shown)
        if self._is_cut:
            columns.append(TableColumn("", "›", 1, False))
        if self._first:
            columns[0] = TableColumn("", "‹", 1, False)
        return columns

    def _column(self, field: Field) -> TableColumn:
        if field.name == CURVE:
            return TableColumn(field.name, field.title, 10, False)
        longest = max((cell_len(field.text(line.row)) for line in self.lines), default=0)
        # A title keeps room for the arrow of what is sorted.
        width = max(len(field.title) + 1, min(longest, _LONGEST_SETTING))
        return TableColumn(field.name, field.title, width, field.is_number)

    def action_shift(self, by: int) -> None:
        """Bring other columns into view."""
        if by < 0 or self._is_cut:
            self._first = max(0, min(self._first + by, len(self.fields) - 1))
            self.refit()

    def bring(self, name: str) -> None:
        """Bring a column into view."""
        names = [field.name for field in self.fields]
        if name not in names:
            self._first = 0
        elif not any(column.name == name for column in self.columns):
            self._first = names.index(name)
        self.refit()

    def lead_parts(self, line: RunLine, *, is_cursor: bool) -> Sequence[Part]:
        """The cursor, and the curve's colour where it is drawn."""
        mark = ("● ", self._colour_of(line.key)) if line.is_drawn else ("○ ", "muted")
        return [("▶" if is_cursor else " ", "sorted"), mark]

    def parts_of(self, line: RunLine) -> Sequence[Part]:
        """The cells of a line."""
        parts: list[Part] = []
        for number, column in enumerate(self.columns):
            text, style = self._cell(line, column, number)
            text = fitted(text, column.width, is_right=column.is_right)
            parts.append((" " * (number > 0) + text, style))
        return parts

    def _cell(self, line: RunLine, column: TableColumn, number: int) -> Part:
        row = line.row
        if number == 0:
            return BEST if line.is_best else "", "best"
        if column.name == "run":
            return row.name, "best" if line.is_best else "run"
        if column.name == "state":
            sign, tone = TRIAL_LOOKS[row.state]
            if row.state == "training" and row.figures.share is not None:
                return f"{sign} {row.figures.share:.0%}", tone
            return f"{sign} {row.state}" if column.width > 5 else sign, tone
        if column.name == CURVE:
            style = self._colour_of(line.key) if line.is_drawn else "muted"
            return sparkline(row.history, column.width), style
        if not column.name:
            return "", ""
        field = self._by_name[column.name]
        text = field.text(row)
        if text == "-":
            return text, "muted"
        is_metric = line.is_best and column.name in (_VAL.name, "bits_per_byte")
        return text, "best" if is_metric else "value"


_BARS = "▁▂▃▄▅▆▇█"


def sparkline(history: RunHistory, width: int) -> str:
    """The running mean of the training loss in a line, from its highest to its lowest value."""
    window = history.smoothed_loss(TRAIN_LOSS_STEPS).window()
    is_finite = np.isfinite(window.values)
    steps, values = window.steps[is_finite], window.values[is_finite]
    if len(values) < 2:
        return ""
    at = np.linspace(steps[0], steps[-1], min(width, len(values)))
    means = np.interp(at, steps, values)
    low, high = float(means.min()), float(means.max())
    levels = (means - low) / max(high - low, 1e-9) * (len(_BARS) - 1)
    return "".join(_BARS[level] for level in np.rint(levels).astype(int).tolist())
