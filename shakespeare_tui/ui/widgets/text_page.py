"""A page of lines that scrolls; lines are made for its width, and only those in view are drawn."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

PageBuilder = Callable[[int], Sequence[Content]]
"""Makes the lines for a width in cells."""


class TextPage(ScrollView, can_focus=True):
    """Shows lines of plain content."""

    DEFAULT_CSS: ClassVar[str] = """
    TextPage {
        height: 1fr;
        padding: 0 1;
        overflow-x: hidden;
        scrollbar-gutter: stable;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", "Up", show=False, id="page.up"),
        Binding("j", "scroll_down", "Down", show=False, id="page.down"),
        Binding("g", "scroll_home", "Top", show=False, id="page.top"),
        Binding("G", "scroll_end", "Bottom", show=False, id="page.bottom"),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._builder: PageBuilder | None = None
        self._lines: Sequence[Content] = ()
        self._is_stale = True

    def show(self, builder: PageBuilder) -> None:
        """Show other lines; they are made when the page is seen."""
        self._builder = builder
        self.make_anew()

    def make_anew(self) -> None:
        """Make the lines again: what they depend on has changed."""
        self._is_stale = True
        self._rebuild()

    @property
    def lines(self) -> list[str]:
        """What is shown, without styles."""
        return [line.plain for line in self._lines]

    def on_resize(self) -> None:
        """Make the lines for the new width."""
        self.make_anew()

    def _rebuild(self) -> None:
        width = self.scrollable_content_region.width
        if self._builder is None or not width or not self._is_stale:
            return
        self._is_stale = False
        self._lines = self._builder(width)
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """A line of the page."""
        width = self.scrollable_content_region.width
        number = y + self.scroll_offset.y
        style = self.visual_style
        if number >= len(self._lines):
            return Strip.blank(width, style.rich_style)
        strips = Visual.to_strips(self, self._lines[number], width, 1, style, pad=True)
        return strips[0] if strips else Strip.blank(width, style.rich_style)
