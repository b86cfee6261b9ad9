"""The table of checkpoints: only the lines on the screen are ever drawn, however many there are."""

from collections.abc import Callable, Collection, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from shakespeare_tui.ui.checkpoints.checkpoint_cells import (
    LEAD,
    Part,
    TableColumn,
    TableLine,
    columns_for,
    header_parts,
    line_parts,
)
from shakespeare_tui.ui.widgets.component_style import part_style

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
        self._columns = columns_for(width, longest)
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
        """Choose the columns anew."""
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
