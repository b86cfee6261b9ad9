"""The table of checkpoints, of which only the lines in view are drawn, and the filter above it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input, Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import (
    format_accuracy,
    format_bytes,
    format_count,
    format_duration,
    format_loss,
)
from shakespeare_tui.runs.compare.items import CheckpointItem
from shakespeare_tui.runs.compare.query import Query, parse_query
from shakespeare_tui.runs.compare.recommendation import Recommendation
from shakespeare_tui.runs.compare.settings import (
    Texts,
    describe_differences,
    describe_fine_tuning,
    preset_of,
    preset_texts,
)
from shakespeare_tui.runs.folder import pretrained_hint
from shakespeare_tui.runs.history import one_line
from shakespeare_tui.runs.losses import differ_in_tokenizer, perplexity
from shakespeare_tui.runs.state import STATE_LOOKS
from shakespeare_tui.ui.advice_in_keys import in_lab
from shakespeare_tui.ui.widgets.plot import part_style
from shakespeare_tui.ui.widgets.text_glyphs import fitted
from shakespeare_tui.visible_text import visible

Part = tuple[str, str]
"""A text and the name of its style."""

LEAD = 3
"""Cells for the cursor, the mark, and a blank."""
_NAME_SHARE = 0.3
_SMALLEST_NAME = 14


@dataclass(frozen=True)
class TableLine:
    """One line: a run's heading, or a checkpoint."""

    kind: Literal["run", "checkpoint"]
    item: CheckpointItem

    @property
    def key(self) -> str:
        """What tells it from all other lines."""
        return f"{self.item.run.name}@" if self.kind == "run" else self.item.key


@dataclass(frozen=True)
class TableColumn:
    """A column; ``name`` is the figure that it is sorted by."""

    name: str
    title: str
    width: int
    is_right: bool = True


_FIGURES = (
    TableColumn("val", "Val", 7),
    TableColumn("train", "Train", 7),
    TableColumn("ppl", "Perpl.", 7),
    TableColumn("accuracy", "Acc.", 6),
    TableColumn("elo", "Elo", 8),
    TableColumn("size", "Size", 8),
    TableColumn("age", "Age", 7),
)
_WIDE_FIGURES = (
    TableColumn("gap", "Gap", 7),
    TableColumn("protocol", "Protocol", 10, False),
)


_SHORTEST_ABOUT = len("best last")
_PER_BYTE = TableColumn("bits", "Bits/B", 7)


def columns_for(
    width: int, longest_name: int, *, is_mixed: bool = False, is_rated: bool = False
) -> tuple[TableColumn, ...]:
    """The columns that fit into ``width`` cells; the last takes what is left.

    Where tokenizers differ (``is_mixed``), losses stand in bits per byte, too. Where there is
    little room, ratings are left out unless there are some (``is_rated``), and sizes.
    """
    is_wide = width >= 120
    name = TableColumn(
        "run",
        "Checkpoint",
        max(_SMALLEST_NAME, min(longest_name, int(width * _NAME_SHARE))),
        False,
    )
    figures = list(_FIGURES)
    if is_wide:
        figures[2:2] = _WIDE_FIGURES[:1]
        figures.append(_WIDE_FIGURES[1])
    if is_mixed:
        figures.insert(1, _PER_BYTE)
    least = ["elo"] * (not is_rated) + ["size"]
    while least and LEAD + name.width + _taken(figures) + 1 + _SHORTEST_ABOUT > width:
        figures = [figure for figure in figures if figure.name != least[0]]
        del least[0]
    chosen, used = [name], LEAD + name.width
    for figure in figures:
        if used + 1 + figure.width <= width:
            chosen.append(figure)
            used += 1 + figure.width
    left = width - used - 1
    if left >= 4:
        chosen.append(TableColumn("about", "", left, False))
    return tuple(chosen)


def _taken(columns: Sequence[TableColumn]) -> int:
    return sum(1 + column.width for column in columns)


def header_parts(
    columns: Sequence[TableColumn], sorted_by: str | None, is_descending: bool
) -> list[Part]:
    """The titles; the one that is sorted by has an arrow."""
    parts: list[Part] = [(" " * LEAD, "header")]
    for number, column in enumerate(columns):
        title = column.title
        is_sorted = column.name == sorted_by
        if is_sorted:
            title = f"{title}{'▼' if is_descending else '▲'}"
        text = fitted(title, column.width, is_right=column.is_right)
        parts.append((" " * (number > 0) + text, "sorted" if is_sorted else "header"))
    return parts


def line_parts(
    line: TableLine, columns: Sequence[TableColumn], *, now: float, is_grouped: bool
) -> list[Part]:
    """A line without what stands before its name."""
    width = sum(column.width + 1 for column in columns) - 1
    if line.kind == "run":
        return run_parts(line.item, width)
    item = line.item
    if item.problem is not None:
        name = _name(item, is_grouped)
        return [(fitted(f"{name}  {one_line(item.problem, 500)}", width), "damaged")]
    parts: list[Part] = []
    for number, column in enumerate(columns):
        text, style = _cell(item, column.name, now, is_grouped)
        text = fitted(text, column.width, is_right=column.is_right)
        parts.append((" " * (number > 0) + text, style))
    return parts


def run_parts(item: CheckpointItem, width: int) -> list[Part]:
    """A run's heading: its name, what became of it, where it came from, what is special in it."""
    run = item.run
    if run.info is None or (run.problem and not run.checkpoints):
        problem = one_line(run.problem or "", 500)
        return [(fitted(f"{run.name}  {problem}", width), "damaged")]
    sign, tone = STATE_LOOKS[run.state]
    facts = [format_count(run.info.parameters), run.info.corpus, origin(item), settings_text(item)]
    parts: list[Part] = [(run.name, "run")]
    if run.problem:
        parts.append((f"  {one_line(run.problem, 200)}", "damaged"))
    else:
        parts.append((f"  {sign} {run.state}", tone))
    if not run.checkpoints:
        parts.append((" · no checkpoint yet", "muted"))
    parts.append((f" · {' · '.join(filter(None, facts))}", "muted"))
    if run.notes.note:
        parts.append((f"  “{one_line(run.notes.note, 200)}”", "note"))
    return cut(parts, width)


def origin(item: CheckpointItem) -> str:
    """Where a run's weights came from; empty where it began with none."""
    if item.parent:
        return f"from {item.parent}"
    source = item.run.info.pretrained if item.run.info else None
    return f"imported from {source}" if source else ""


def settings_text(item: CheckpointItem) -> str:
    """The preset that the run began with, and what differs from it."""
    if item.config is None:
        return ""
    if item.run.info and item.run.info.pretrained:
        return describe_fine_tuning(item.config) if item.parent else ""
    preset = preset_of(item.run.name, item.run.former_names, item.config)
    differences = describe_differences(item.config, preset_texts(preset))
    return f"{preset} {differences}".strip()


def cut(parts: Sequence[Part], width: int) -> list[Part]:
    """As much of the parts as fits, filled up with blanks."""
    cut_off: list[Part] = []
    left = width
    for text, style in ((visible(text), style) for text, style in parts):
        fits = fitted(text, left) if cell_len(text) > left else text
        cut_off.append((fits, style))
        left -= cell_len(fits)
    return [*cut_off, (" " * left, "")]


def _name(item: CheckpointItem, is_grouped: bool) -> str:
    checkpoint = item.checkpoint
    if checkpoint is None:
        return item.run.name
    if not is_grouped:
        return item.key
    return f"  {checkpoint.step:,}" if checkpoint.step >= 0 else f"  {checkpoint.name}"


def _cell(item: CheckpointItem, name: str, now: float, is_grouped: bool) -> Part:
    checkpoint = item.checkpoint
    if name == "run":
        return _name(item, is_grouped), "value"
    if checkpoint is None or checkpoint.info is None:
        return "", "muted"
    style = "best" if checkpoint.is_best and name in ("val", "bits") else "value"
    match name:
        case "val":
            return item.loss.short if item.loss else "-", style
        case "bits":
            return format_loss(item.bits_per_byte), style
        case "train":
            return format_loss(item.train_loss), "value"
        case "gap":
            return format_loss(item.gap), "value"
        case "ppl":
            figure = perplexity(item.val_loss)
            return "-" if figure is None else f"{figure:.2f}", "value"
        case "accuracy":
            return format_accuracy(item.accuracy), "value"
        case "elo":
            return str(item.rating) if item.rating else "-", "value" if item.rating else "muted"
        case "size":
            return format_bytes(checkpoint.size_bytes), "muted"
        case "age":
            return format_duration(now - item.time), "muted"
        case "protocol":
            return (item.loss.protocol if item.loss else "") or "-", "muted"
    marks = " ".join(["best"] * checkpoint.is_best + ["last"] * checkpoint.is_last)
    about = "" if is_grouped else settings_text(item)
    return f"{marks} {about}".strip(), "best" if checkpoint.is_best and is_grouped else "muted"


def recommendation_text(advice: Recommendation, note: str) -> Content:
    """The recommended checkpoint, why it is, what speaks against it; ``note`` comes last."""
    text = Content.assemble(
        ("★ ", "bold $success"), (advice.item.key, "bold"), f"  {advice.reason}"
    )
    for warning in advice.warnings:
        text = text + Content.assemble("\n", ("! ", "bold $warning"), (warning, "$warning"))
    if advice.alternative is not None:
        loss = advice.alternative.loss
        text = text + Content(f"; without that: {advice.alternative.key} ({loss})")
    for line in advice.left_out:
        text = text + Content.styled(f"\n{in_lab(line)}", "$text-muted")
    if note:
        text = text + Content.styled(f"\n{note}", "$text-muted")
    return text


def about_text(line: TableLine, marked: tuple[str, Texts] | None) -> Content:
    """What a line's cells have no room for.

    Args:
        line: The line.
        marked: The run of the first marked checkpoint and its settings, to compare with.
    """
    item = line.item
    run = item.run
    problem = item.problem if line.kind == "checkpoint" else run.problem
    if problem is not None:
        return Content.styled(problem, "$error")
    facts = [item.key if line.kind == "checkpoint" else run.name, origin(item)]
    if run.info and run.info.pretrained and item.parent:
        facts.append(pretrained_hint(run.info.pretrained))
    if item.config is not None:
        facts.append(settings_text(item))
        if marked is not None and marked[0] != run.name:
            differences = describe_differences(item.config, marked[1])
            facts.append(f"against {marked[0]}: {differences or 'the same settings'}")
    if item.rating is not None and line.kind == "checkpoint":
        games = item.rating.games
        facts.append(f"Elo {item.rating} by {games} verdict{'s' if games != 1 else ''}")
    if run.notes.note:
        facts.append(f"“{run.notes.note}”")
    return Content.styled(" · ".join(filter(None, facts)), "$text-muted")


_STEP_CELLS = 12
_STYLES = (
    "header",
    "sorted",
    "run",
    "value",
    "muted",
    "best",
    "note",
    "damaged",
    "success",
    "warning",
    "error",
    "cursor",
    "mark",
)


class CheckpointTable(ScrollView, can_focus=True):
    """Lines with a cursor, marks, and a header that says what they are sorted by."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"checkpoint-table--{name}" for name in _STYLES}
    DEFAULT_CSS: ClassVar[str] = """
    CheckpointTable {
        height: 1fr;
        background: $background;
        overflow-x: hidden;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
    }
    CheckpointTable > .checkpoint-table--header { color: $text-muted; }
    CheckpointTable > .checkpoint-table--sorted { color: $accent; text-style: bold; }
    CheckpointTable > .checkpoint-table--run { color: $accent; text-style: bold; }
    CheckpointTable > .checkpoint-table--value { color: $foreground; }
    CheckpointTable > .checkpoint-table--muted { color: $text-muted; }
    CheckpointTable > .checkpoint-table--best { color: $success; text-style: bold; }
    CheckpointTable > .checkpoint-table--note { color: $warning; }
    CheckpointTable > .checkpoint-table--damaged { color: $text-muted; text-style: italic; }
    CheckpointTable > .checkpoint-table--success { color: $success; }
    CheckpointTable > .checkpoint-table--warning { color: $warning; }
    CheckpointTable > .checkpoint-table--error { color: $error; }
    CheckpointTable > .checkpoint-table--mark { color: $warning; text-style: bold; }
    CheckpointTable > .checkpoint-table--cursor { background: $block-cursor-blurred-background; }
    CheckpointTable:focus > .checkpoint-table--cursor { background: $block-cursor-background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="checkpoints.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="checkpoints.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="checkpoints.page_up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="checkpoints.page_down"),
        Binding("home", "jump(0)", "First", show=False, id="checkpoints.first"),
        Binding("end", "jump(-1)", "Last", show=False, id="checkpoints.last"),
    ]

    class Moved(Message):
        """The cursor is on another line."""

    class Chosen(Message):
        """The line under the cursor was clicked once more."""

    class HeaderClicked(Message):
        """A title was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, clock: Callable[[], float], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._clock = clock
        self._lines: Sequence[TableLine] = ()
        self._columns: tuple[TableColumn, ...] = ()
        self._marked: Collection[str] = ()
        self._cursor = 0
        self._empty = ""
        self._sorted_by: str | None = None
        self._is_descending = False

    # --- what is shown -------------------------------------------------------------------------

    def show(
        self,
        lines: Sequence[TableLine],
        marked: Collection[str],
        *,
        sorted_by: str | None = None,
        is_descending: bool = False,
        empty: str = "",
    ) -> None:
        """Show other lines; the cursor stays on the one it was on, if that is still there.

        ``empty`` is said where there are none.
        """
        before = self.chosen
        self._lines, self._marked, self._empty = lines, marked, empty
        self._sorted_by, self._is_descending = sorted_by, is_descending
        cursor = min(self._cursor, max(0, len(lines) - 1))
        if before is not None:
            keys = [line.key for line in lines]
            if before.key in keys:
                cursor = keys.index(before.key)
        self._refit()
        self._set_cursor(cursor)

    def mark(self, marked: Collection[str]) -> None:
        """Mark other lines, by their keys."""
        self._marked = marked
        self.refresh()

    @property
    def chosen(self) -> TableLine | None:
        """The line under the cursor."""
        return self._lines[self._cursor] if self._cursor < len(self._lines) else None

    @property
    def is_grouped(self) -> bool:
        """Whether checkpoints stand below their runs."""
        return self._sorted_by is None

    def go_to(self, key: str) -> bool:
        """Put the cursor on a line, if it is there."""
        for number, line in enumerate(self._lines):
            if line.key == key:
                self._set_cursor(number)
                return True
        return False

    def _refit(self) -> None:
        width = self.scrollable_content_region.width
        longest = _STEP_CELLS
        if not self.is_grouped:
            longest = max((len(line.key) for line in self._lines), default=0)
        is_mixed = differ_in_tokenizer(line.item.unit for line in self._lines if line.item.losses)
        is_rated = any(line.item.rating for line in self._lines)
        self._columns = columns_for(width, longest, is_mixed=is_mixed, is_rated=is_rated)
        self.virtual_size = Size(width, len(self._lines) + 1)
        self.refresh()

    # --- cursor --------------------------------------------------------------------------------

    def _set_cursor(self, number: int) -> None:
        self._cursor = max(0, min(number, len(self._lines) - 1)) if self._lines else 0
        top = self._cursor
        # The run's heading comes along with its first checkpoint, the header stays above all.
        if top and self._lines[top - 1].kind == "run":
            top -= 1
        self.scroll_to_region(
            Region(0, top, 1, self._cursor - top + 2), animate=False, force=True, immediate=True
        )
        self.refresh()
        self.post_message(self.Moved())

    def action_move(self, by: int) -> None:
        """Go up or down."""
        self._set_cursor(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Go up or down by what fits."""
        self._set_cursor(self._cursor + by * max(1, self.scrollable_content_region.height - 2))

    def action_jump(self, to: int) -> None:
        """Go to the first or the last line."""
        self._set_cursor(0 if to == 0 else len(self._lines) - 1)

    def on_click(self, event: events.Click) -> None:
        """Move the cursor; a click on the line under it chooses it, one on a title sorts."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            name = self._column_at(offset.x)
            if name:
                self.post_message(self.HeaderClicked(name))
            return
        number = offset.y - 1 + self.scroll_offset.y
        if number == self._cursor and self._lines:
            self.post_message(self.Chosen())
        elif number < len(self._lines):
            self._set_cursor(number)

    def _column_at(self, x: int) -> str:
        start = LEAD
        for column in self._columns:
            if start <= x < start + column.width + 1:
                return column.name if column.title else ""
            start += column.width + 1
        return ""

    def on_resize(self) -> None:
        self._refit()
        self._set_cursor(self._cursor)

    # --- drawing -------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """The header, or a line of the table."""
        base = self.rich_style
        if y == 0:
            parts = header_parts(self._columns, self._sorted_by, self._is_descending)
            return self._strip(parts, base)
        number = y - 1 + self.scroll_offset.y
        if not self._lines and number == 0:
            return self._strip([(" " * LEAD, ""), (self._empty, "muted")], base)
        if number >= len(self._lines):
            return Strip.blank(self.scrollable_content_region.width, base)
        line = self._lines[number]
        is_cursor = number == self._cursor
        behind = base
        if is_cursor:
            cursor = part_style(self, "checkpoint-table--cursor")
            shade = self.get_component_rich_style("checkpoint-table--cursor").bgcolor
            behind = Style(color=base.color, bgcolor=shade or cursor.bgcolor)
        lead: list[Part] = [
            ("▶" if is_cursor else " ", "sorted"),
            ("● " if line.key in self._marked else "  ", "mark"),
        ]
        cells = line_parts(line, self._columns, now=self._clock(), is_grouped=self.is_grouped)
        return self._strip([*lead, *cells], behind)

    def _strip(self, parts: Sequence[Part], behind: Style) -> Strip:
        segments = [
            Segment(text, behind + self._ink(style) if style else behind) for text, style in parts
        ]
        width = self.scrollable_content_region.width
        return Strip(segments).adjust_cell_length(width, behind).crop(0, width)

    def _ink(self, name: str) -> Style:
        style = part_style(self, f"checkpoint-table--{name}")
        return Style(color=style.color, bold=style.bold, italic=style.italic)


class FilterBar(Vertical):
    """A field for a query, told at once; of a wrong one, what stands before the wrong term.

    Args:
        example: What may be written, shown while the field is empty.
    """

    DEFAULT_CSS: ClassVar[str] = """
    FilterBar { height: auto; padding: 0 1; background: $panel; }
    FilterBar > Horizontal { height: 1; }
    FilterBar #filter-label { width: auto; color: $text-muted; }
    FilterBar Input { width: 1fr; min-width: 20; margin: 0 1; background: $panel; }
    FilterBar #filter-note { width: auto; color: $text-muted; }
    FilterBar > #filter-error { height: auto; color: $error; display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "leave", "To the list", show=False, id="filter.down"),
        Binding("escape", "leave", "To the list", id="filter.leave"),
    ]

    class Changed(Message):
        """Another query is in force."""

        def __init__(self, query: Query) -> None:
            super().__init__()
            self.query = query

    class Left(Message):
        """The field was left for the list."""

    def __init__(self, example: str) -> None:
        super().__init__()
        self._example = example
        self.error = ""

    def compose(self) -> ComposeResult:
        """Label, field, note, and below them what is wrong."""
        with Horizontal():
            yield Static("Filter /", id="filter-label", markup=False)
            yield Input(placeholder=self._example, compact=True, select_on_focus=False)
            yield Static("", id="filter-note", markup=False)
        yield Static("", id="filter-error", markup=False)

    @property
    def text(self) -> str:
        """What is written."""
        return self.query_one(Input).value

    def clear(self) -> None:
        """Take the query away."""
        self.query_one(Input).value = ""

    def edit(self) -> None:
        """Write in the field."""
        self.query_one(Input).focus()

    def tell(self, note: str) -> None:
        """Say how much is left, and what is wrong with the query."""
        self.query_one("#filter-note", Static).update(Content(note))
        line = self.query_one("#filter-error", Static)
        line.update(Content(self.error))
        line.display = bool(self.error)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.error, text = "", event.value
        while True:
            try:
                query = parse_query(text)
                break
            except UserError as error:
                self.error = self.error or str(error)
                text = text.rstrip().rpartition(" ")[0]
        self.post_message(self.Changed(query))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_leave()

    def action_leave(self) -> None:
        """Go to the list."""
        self.post_message(self.Left())
