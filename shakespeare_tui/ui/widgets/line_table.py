"""A table of which only the lines in view are drawn: a cursor, marks, titles that sort."""

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from shakespeare_tui.ui.widgets.plot import part_style
from shakespeare_tui.ui.widgets.text_glyphs import fitted
from shakespeare_tui.visible_text import visible

Part = tuple[str, str]
"""A text and the name of its style, or a colour as ``#rrggbb``."""

LEAD = 3
"""Cells for the cursor, the mark, and a blank."""


class TableLine(Protocol):
    """A line of a table."""

    @property
    def key(self) -> str:
        """What tells it from all other lines."""
        ...


@dataclass(frozen=True)
class TableColumn:
    """A column; ``name`` is the figure that it is sorted by."""

    name: str
    title: str
    width: int
    is_right: bool = True


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


def cut(parts: Sequence[Part], width: int) -> list[Part]:
    """As much of the parts as fits, filled up with blanks."""
    cut_off: list[Part] = []
    left = width
    for text, style in ((visible(text), style) for text, style in parts):
        fits = fitted(text, left) if cell_len(text) > left else text
        cut_off.append((fits, style))
        left -= cell_len(fits)
    return [*cut_off, (" " * left, "")]


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
_Line = TypeVar("_Line", bound=TableLine)


class LineTable(ScrollView, Generic[_Line], can_focus=True):
    """Lines with a cursor, marks, and a header that says what they are sorted by."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"line-table--{name}" for name in _STYLES}
    DEFAULT_CSS: ClassVar[str] = """
    LineTable {
        height: 1fr;
        background: $background;
        overflow-x: hidden;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
    }
    LineTable > .line-table--header { color: $text-muted; }
    LineTable > .line-table--sorted { color: $accent; text-style: bold; }
    LineTable > .line-table--run { color: $accent; text-style: bold; }
    LineTable > .line-table--value { color: $foreground; }
    LineTable > .line-table--muted { color: $text-muted; }
    LineTable > .line-table--best { color: $success; text-style: bold; }
    LineTable > .line-table--note { color: $warning; }
    LineTable > .line-table--damaged { color: $text-muted; text-style: italic; }
    LineTable > .line-table--success { color: $success; }
    LineTable > .line-table--warning { color: $warning; }
    LineTable > .line-table--error { color: $error; }
    LineTable > .line-table--mark { color: $warning; text-style: bold; }
    LineTable > .line-table--cursor { background: $block-cursor-blurred-background; }
    LineTable:focus > .line-table--cursor { background: $block-cursor-background; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="table.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="table.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="table.page_up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="table.page_down"),
        Binding("home", "jump(0)", "First", show=False, id="table.first"),
        Binding("end", "jump(-1)", "Last", show=False, id="table.last"),
    ]

    @dataclass
    class Moved(Message):
        """The cursor is on another line."""

        table: Widget

        @property
        def control(self) -> Widget:
            """The table."""
            return self.table

    @dataclass
    class Chosen(Message):
        """The line under the cursor was clicked once more."""

        table: Widget

        @property
        def control(self) -> Widget:
            """The table."""
            return self.table

    @dataclass
    class HeaderClicked(Message):
        """A title was clicked."""

        table: Widget
        name: str

        @property
        def control(self) -> Widget:
            """The table."""
            return self.table

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.lines: Sequence[_Line] = ()
        self.columns: Sequence[TableColumn] = ()
        self.sorted_by: str | None = None
        self._marked: Collection[str] = ()
        self._cursor = 0
        self._empty = ""
        self._is_descending = False

    # --- for subclasses ------------------------------------------------------------------------

    @abstractmethod
    def fit_columns(self, width: int) -> Sequence[TableColumn]:
        """The columns that fit into so many cells."""

    @abstractmethod
    def parts_of(self, line: _Line) -> Sequence[Part]:
        """A line without what stands before its first column."""

    def lead_parts(self, line: _Line, *, is_cursor: bool) -> Sequence[Part]:
        """What stands before the first column: the cursor, and the mark."""
        return [
            ("▶" if is_cursor else " ", "sorted"),
            ("● " if line.key in self._marked else "  ", "mark"),
        ]

    def heading_of(self, number: int) -> int:
        """The line that is scrolled into view with one: its heading, or itself."""
        return number

    # --- what is shown -------------------------------------------------------------------------

    def show(
        self,
        lines: Sequence[_Line],
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
        self.lines, self._marked, self._empty = lines, marked, empty
        self.sorted_by, self._is_descending = sorted_by, is_descending
        cursor = min(self._cursor, max(0, len(lines) - 1))
        if before is not None:
            keys = [line.key for line in lines]
            if before.key in keys:
                cursor = keys.index(before.key)
        self.refit()
        self._set_cursor(cursor)

    def mark(self, marked: Collection[str]) -> None:
        """Mark other lines, by their keys."""
        self._marked = marked
        self.refresh()

    @property
    def chosen(self) -> _Line | None:
        """The line under the cursor."""
        return self.lines[self._cursor] if self._cursor < len(self.lines) else None

    def go_to(self, key: str) -> bool:
        """Put the cursor on a line, if it is there."""
        for number, line in enumerate(self.lines):
            if line.key == key:
                self._set_cursor(number)
                return True
        return False

    def refit(self) -> None:
        """Choose the columns anew."""
        width = self.scrollable_content_region.width
        self.columns = self.fit_columns(width)
        self.virtual_size = Size(width, len(self.lines) + 1)
        self.refresh()

    # --- cursor --------------------------------------------------------------------------------

    def _set_cursor(self, number: int) -> None:
        self._cursor = max(0, min(number, len(self.lines) - 1)) if self.lines else 0
        # The heading comes along with its first line, the header stays above all.
        top = self.heading_of(self._cursor)
        self.scroll_to_region(
            Region(0, top, 1, self._cursor - top + 2), animate=False, force=True, immediate=True
        )
        self.refresh()
        self.post_message(self.Moved(self))

    def action_move(self, by: int) -> None:
        """Go up or down."""
        self._set_cursor(self._cursor + by)

    def action_page(self, by: int) -> None:
        """Go up or down by what fits."""
        self._set_cursor(self._cursor + by * max(1, self.scrollable_content_region.height - 2))

    def action_jump(self, to: int) -> None:
        """Go to the first or the last line."""
        self._set_cursor(0 if to == 0 else len(self.lines) - 1)

    def on_click(self, event: events.Click) -> None:
        """Move the cursor; a click on the line under it chooses it, one on a title sorts."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            name = self._column_at(offset.x)
            if name:
                self.post_message(self.HeaderClicked(self, name))
            return
        number = offset.y - 1 + self.scroll_offset.y
        if number == self._cursor and self.lines:
            self.post_message(self.Chosen(self))
        elif number < len(self.lines):
            self._set_cursor(number)

    def _column_at(self, x: int) -> str:
        start = LEAD
        for column in self.columns:
            if start <= x < start + column.width + 1:
                return column.name if column.title else ""
            start += column.width + 1
        return ""

    def on_resize(self) -> None:
        self.refit()
        self._set_cursor(self._cursor)

    # --- drawing -------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """The header, or a line of the table."""
        base = self.rich_style
        if y == 0:
            parts = header_parts(self.columns, self.sorted_by, self._is_descending)
            return self._strip(parts, base)
        number = y - 1 + self.scroll_offset.y
        if not self.lines and number == 0:
            return self._strip([(" " * LEAD, ""), (self._empty, "muted")], base)
        if number >= len(self.lines):
            return Strip.blank(self.scrollable_content_region.width, base)
        line = self.lines[number]
        is_cursor = number == self._cursor
        behind = base
        if is_cursor:
            cursor = part_style(self, "line-table--cursor")
            shade = self.get_component_rich_style("line-table--cursor").bgcolor
            behind = Style(color=base.color, bgcolor=shade or cursor.bgcolor)
        lead = self.lead_parts(line, is_cursor=is_cursor)
        return self._strip([*lead, *self.parts_of(line)], behind)

    def _strip(self, parts: Sequence[Part], behind: Style) -> Strip:
        segments = [
            Segment(text, behind + self._ink(style) if style else behind) for text, style in parts
        ]
        width = self.scrollable_content_region.width
        return Strip(segments).adjust_cell_length(width, behind).crop(0, width)

    def _ink(self, name: str) -> Style:
        if name.startswith("#"):
            return Style(color=name, bold=True)
        style = part_style(self, f"line-table--{name}")
        return Style(color=style.color, bold=style.bold, italic=style.italic)
