"""A scrolling list drawn line by line, with a cursor on entries that may take several lines."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

CURSOR = "▸"
_MOST_STRIPS = 1000

Part = tuple[str, str]
"""Text, and the name of its style: a component class without ``config-lines--``, or empty."""


@dataclass(frozen=True)
class Line:
    """One line; lines of the same ``key`` are one entry, those without one are passed over.

    An entry's first line begins with a blank, where the cursor's mark goes.
    """

    parts: tuple[Part, ...]
    key: str | None = None


class ConfigLines(ScrollView, can_focus=True):
    """Shows what ``build_lines`` makes of the width there is; subclasses override that."""

    DEFAULT_CSS: ClassVar[str] = """
    ConfigLines {
        height: 1fr;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
        overflow-x: hidden;
        background: $background;
    }
    ConfigLines > .config-lines--title { color: $accent; text-style: bold; }
    ConfigLines > .config-lines--rule { color: $border-blurred; }
    ConfigLines > .config-lines--muted { color: $text-muted; }
    ConfigLines > .config-lines--value { color: $foreground; text-style: bold; }
    ConfigLines > .config-lines--changed { color: $accent; text-style: bold; }
    ConfigLines > .config-lines--error { color: $error; }
    ConfigLines > .config-lines--cursor { background: $block-cursor-blurred-background; }
    ConfigLines:focus > .config-lines--cursor { background: $block-cursor-background; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "config-lines--title",
        "config-lines--rule",
        "config-lines--muted",
        "config-lines--value",
        "config-lines--changed",
        "config-lines--error",
        "config-lines--cursor",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="config.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="config.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="config.page_up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="config.page_down"),
        Binding("home,g", "jump(0)", "First", show=False, id="config.first"),
        Binding("end,G", "jump(-1)", "Last", show=False, id="config.last"),
    ]

    @dataclass
    class Moved(Message):
        """The cursor is on another entry; None where there are no entries."""

        lines: "ConfigLines"
        key: str | None

        @property
        def control(self) -> "ConfigLines":
            """The list."""
            return self.lines

    @dataclass
    class Chosen(Message):
        """The entry under the cursor was clicked."""

        lines: "ConfigLines"
        key: str

        @property
        def control(self) -> "ConfigLines":
            """The list."""
            return self.lines

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: list[Line] = []
        self._keys: list[str] = []
        self._cursor: str | None = None
        self._strips: dict[tuple[Line, bool, bool], Strip] = {}

    # --- for subclasses ------------------------------------------------------------------------

    @abstractmethod
    def build_lines(self, width: int) -> Sequence[Line]:
        """All lines for a width in cells."""

    @property
    def cursor(self) -> str | None:
        """The key of the entry under the cursor."""
        return self._cursor

    @property
    def keys(self) -> list[str]:
        """The entries from top to bottom."""
        return self._keys

    def rebuild(self) -> None:
        """Make the lines anew; the cursor stays on its entry, or goes to the nearest left."""
        before = self._keys
        width = self.scrollable_content_region.width
        if width != self.virtual_size.width:
            self._strips.clear()
        self._lines = list(self.build_lines(width))
        self._keys = list(dict.fromkeys(line.key for line in self._lines if line.key is not None))
        self.virtual_size = Size(width, len(self._lines))
        if self._cursor not in self._keys:
            place = before.index(self._cursor) if self._cursor in before else 0
            self._set_cursor(self._keys[min(place, len(self._keys) - 1)] if self._keys else None)
        self.refresh()

    def line_of(self, key: str) -> int:
        """The first line of an entry.

        Raises:
            ValueError: There is no such entry now.
        """
        for number, line in enumerate(self._lines):
            if line.key == key:
                return number
        raise ValueError(key)

    # --- cursor --------------------------------------------------------------------------------

    def move_to(self, key: str) -> None:
        """Put the cursor on an entry, if it is there, and show all of it."""
        if key in self._keys:
            self._set_cursor(key)
            self._show_cursor()

    def _set_cursor(self, key: str | None) -> None:
        if key != self._cursor:
            left, self._cursor = self._cursor, key
            self.post_message(self.Moved(self, key))
            for number, line in enumerate(self._lines):
                if line.key is not None and line.key in (left, key):
                    self.refresh_line(number)

    def _show_cursor(self) -> None:
        if self._cursor is None:
            return
        first = self.line_of(self._cursor)
        count = sum(line.key == self._cursor for line in self._lines)
        top = first
        # The headings above come along.
        while top > 0 and self._lines[top - 1].key is None:
            top -= 1
        height = first + count - top
        if height <= self.scrollable_content_region.height:
            first, count = top, height
        region = Region(0, first, 1, count)
        self.scroll_to_region(region, animate=False, force=True, immediate=True)

    def action_move(self, by: int) -> None:
        """Go up or down by entries."""
        if self._cursor is not None:
            place = self._keys.index(self._cursor) + by
            self.move_to(self._keys[max(0, min(place, len(self._keys) - 1))])

    def action_page(self, by: int) -> None:
        """Go up or down by what fits."""
        self.action_move(by * max(1, self.scrollable_content_region.height - 1))

    def action_jump(self, to: int) -> None:
        """Go to the first or the last entry."""
        if self._keys:
            self.move_to(self._keys[to])

    def on_click(self, event: events.Click) -> None:
        """Move the cursor; a click on the entry under it chooses it."""
        offset = event.get_content_offset(self)
        number = -1 if offset is None else offset.y + self.scroll_offset.y
        key = self._lines[number].key if 0 <= number < len(self._lines) else None
        if key is None:
            return
        if key == self._cursor:
            self.post_message(self.Chosen(self, key))
        else:
            self._set_cursor(key)

    def on_resize(self) -> None:
        self.rebuild()
        self._show_cursor()

    # --- drawing -------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        number = y + self.scroll_offset.y
        line = self._lines[number] if number < len(self._lines) else Line(())
        is_cursor = line.key is not None and line.key == self._cursor
        is_first = is_cursor and (number == 0 or self._lines[number - 1].key != line.key)
        drawn = (line, is_cursor, is_first)
        strip = self._strips.get(drawn)
        if strip is None:
            if len(self._strips) > _MOST_STRIPS:
                self._strips.clear()
            strip = self._strips[drawn] = self._draw(line, is_cursor, is_first)
        return strip

    def _draw(self, line: Line, is_cursor: bool, is_first: bool) -> Strip:
        width = self.scrollable_content_region.width
        base = self.rich_style
        behind = self.get_component_rich_style("config-lines--cursor") if is_cursor else base
        behind = Style(color=base.color, bgcolor=behind.bgcolor)
        segments = [Segment(text, behind + self._style(name)) for text, name in line.parts]
        if is_first:
            # A mark beside the colour, for those who see none.
            head, *rest = segments
            mark = Segment(CURSOR, behind + self._style("title"))
            segments = [mark, Segment(head.text[1:], head.style), *rest]
        return Strip(segments).adjust_cell_length(width, behind).crop(0, width)

    def notify_style_update(self) -> None:
        """Draw anew in other colours: of a theme, or with the focus gone."""
        self._strips.clear()
        super().notify_style_update()

    def _style(self, name: str) -> Style:
        if not name:
            return Style.null()
        style = self.get_component_rich_style(f"config-lines--{name}")
        # Only the ink: what is behind belongs to the line.
        return Style(color=style.color, bold=style.bold)
