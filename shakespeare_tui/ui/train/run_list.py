"""The runs beside the chart: which are laid over it, which one the others are measured against."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from shakespeare_tui.runs.catalog import RunEntry
from shakespeare_tui.runs.compare.settings import settings_rows
from shakespeare_tui.runs.history import one_line
from shakespeare_tui.runs.state import STATE_LOOKS
from shakespeare_tui.ui.widgets.line_table import LEAD, LineTable, Part, TableColumn
from shakespeare_tui.ui.widgets.text_glyphs import fitted
from shakespeare_tui.visible_text import visible

_MOST_DIFFERENCES = 12
_REFERENCE = "◆"


@dataclass(frozen=True)
class ListedRun:
    """A run in the list.

    Attributes:
        entry: What the catalogue says of it.
        is_drawn: Whether its curve is laid over the chart.
        is_shown: Whether the screen shows this run.
        is_reference: Whether the others are measured against it.
    """

    entry: RunEntry
    is_drawn: bool = False
    is_shown: bool = False
    is_reference: bool = False

    @property
    def key(self) -> str:
        return self.entry.name


class RunListTable(LineTable[ListedRun]):
    """Names and losses of all runs, the newest first.

    Args:
        colour_of: The colour of a run's curve, by its name.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "toggle_curve", "Curve", id="run_list.toggle"),
        Binding("enter", "open", "Show", id="run_list.show"),
        Binding("i", "pin", "Reference", id="run_list.pin"),
    ]

    @dataclass
    class Toggled(Message):
        """The curve of a run is to be drawn, or left out."""

        name: str

    @dataclass
    class Pinned(Message):
        """The others are to be measured against a run, or against the one that is shown."""

        name: str

    def __init__(self, colour_of: Callable[[str], str], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._colour_of = colour_of

    def fit_columns(self, width: int) -> Sequence[TableColumn]:
        """State, name and validation loss."""
        name = max(4, width - LEAD - 2 - 1 - 8)
        return (
            TableColumn("state", "", 1, False),
            TableColumn("run", "Run", name, False),
            TableColumn("val", "Val", 7),
        )

    def lead_parts(self, line: ListedRun, *, is_cursor: bool) -> Sequence[Part]:
        """The cursor, and the curve's colour; a diamond is the reference."""
        mark = _REFERENCE if line.is_reference else "●"
        drawn = (f"{mark} ", self._colour_of(line.key)) if line.is_drawn else ("○ ", "muted")
        if line.is_shown:
            drawn = (f"{_REFERENCE if line.is_reference else '▸'} ", "sorted")
        return [("▶" if is_cursor else " ", "sorted"), drawn]

    def parts_of(self, line: ListedRun) -> Sequence[Part]:
        """The cells of a line."""
        entry = line.entry
        sign, tone = STATE_LOOKS[entry.state]
        texts = (
            (sign, tone),
            (entry.name, "damaged" if entry.problem else "run" if line.is_shown else "value"),
            (entry.loss.short if entry.loss else "-", "value" if entry.loss else "muted"),
        )
        return [
            (" " * (n > 0) + fitted(text, column.width, is_right=column.is_right), style)
            for n, (column, (text, style)) in enumerate(zip(self.columns, texts, strict=True))
        ]

    def action_toggle_curve(self) -> None:
        """Draw the curve under the cursor, or leave it out; go on to the next run."""
        if (line := self._usable) is not None and not line.is_shown:
            self.post_message(self.Toggled(line.key))
            self.action_move(1)

    def action_open(self) -> None:
        """Show the run under the cursor."""
        if self._usable is not None:
            self.post_message(self.Chosen(self))

    def action_pin(self) -> None:
        """Measure the others against the run under the cursor, or no longer."""
        if (line := self._usable) is not None:
            self.post_message(self.Pinned(line.key))

    @property
    def _usable(self) -> ListedRun | None:
        line = self.chosen
        return line if line is not None and line.entry.problem is None else None


class RunList(Vertical):
    """The table, and below it in what the run under the cursor differs from the reference.

    Args:
        colour_of: The colour of a run's curve, by its name.
    """

    DEFAULT_CSS: ClassVar[str] = """
    RunList { width: 34; height: 1fr; }
    RunList > #difference {
        height: auto;
        max-height: 50%;
        padding: 0 1;
        border-top: solid $border-blurred;
    }
    """

    def __init__(self, colour_of: Callable[[str], str], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes="pane")
        self._colour_of = colour_of
        self._reference: ListedRun | None = None

    def compose(self) -> ComposeResult:
        yield RunListTable(self._colour_of, id="runs")
        yield Static("", id="difference", markup=False)

    def show(
        self,
        entries: Sequence[RunEntry],
        drawn: Collection[str],
        *,
        shown: str,
        reference: str,
    ) -> None:
        """Show the runs.

        Args:
            entries: All there are.
            drawn: Those whose curves are laid over the chart.
            shown: The run that the screen shows.
            reference: The one that the others are measured against; empty: the one shown.
        """
        lines = [
            ListedRun(
                entry,
                is_drawn=entry.name in drawn,
                is_shown=entry.name == shown,
                is_reference=entry.name == reference,
            )
            for entry in entries
        ]
        against = reference or shown
        self._reference = next((line for line in lines if line.key == against), None)
        table = self.query_one(RunListTable)
        table.show(lines, (), empty="no runs yet")
        self._show_difference()

    @on(LineTable.Moved)
    def _show_difference(self) -> None:
        line = self.query_one(RunListTable).chosen
        text = Content("")
        if line is not None and line.entry.problem is not None:
            text = Content.styled(visible(one_line(line.entry.problem, 200)), "$error")
        elif line is not None and self._reference is not None:
            text = _difference(line.entry, self._reference.entry)
        self.query_one("#difference", Static).update(text)


def _difference(entry: RunEntry, reference: RunEntry) -> Content:
    """A line for each setting that differs: its value in the reference, and here."""
    if entry.name == reference.name:
        words = "space: curve · i: reference · enter: show"
        return Content.styled(words, "$text-muted")
    head = Content.styled(f"against {visible(reference.name)}", "$text-muted")
    if entry.texts is None or reference.texts is None:
        return Content.assemble(head, "\n", ("settings not read", "$text-muted"))
    rows = settings_rows([reference.texts, entry.texts])
    lines = [
        Content.assemble(
            (f"{path.partition('.')[2]} ", "$text-muted"), f"{before} → ", (after, "bold")
        )
        for path, (before, after), _ in rows[:_MOST_DIFFERENCES]
    ]
    if len(rows) > _MOST_DIFFERENCES:
        more = f"and {len(rows) - _MOST_DIFFERENCES} more"
        lines.append(Content.styled(more, "$text-muted"))
    if not rows:
        lines.append(Content.styled("the same settings", "$text-muted"))
    ours, theirs = entry.loss, reference.loss
    if ours is not None and theirs is not None and ours.protocol == theirs.protocol:
        distance = f"{ours.value - theirs.value:+.4f}"
        lines.insert(0, Content.assemble(("val loss ", "$text-muted"), (distance, "bold")))
    return Content("\n").join([head, *lines])
