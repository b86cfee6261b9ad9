"""A page of lines that scrolls; lines are made for its width, and only those in view are drawn."""

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

_EIGHTHS = "▏▎▍▌▋▊▉█"
_GAP_CELLS = 4
LABEL_CELLS = 12


def heading(text: str) -> Content:
    """The title of a section."""
    return Content.styled(text, "bold $accent")


def muted(text: str) -> Content:
    """Text that steps back."""
    return Content.styled(text, "$text-muted")


def pair(label: str, value: str | Content, width: int, cells: int = LABEL_CELLS) -> Content:
    """A label and what it stands for; a value that is too long ends in an ellipsis."""
    content = value if isinstance(value, Content) else Content(value)
    room = max(1, width - cells)
    return Content.assemble(
        (label.ljust(cells), "$text-muted"), content.truncate(room, ellipsis=True)
    )


def pair_lines(label: str, value: str, width: int, cells: int = LABEL_CELLS) -> list[Content]:
    """A label and a value that takes as many lines as it needs."""
    lines = wrap_words(value, max(8, width - cells))
    first = [pair(label, lines[0], width, cells)]
    return first + [Content(" " * cells + line) for line in lines[1:]]


def wrap_words(text: str, width: int) -> list[str]:
    """Running text in lines; a word that is longer than a line is cut."""
    import textwrap

    return textwrap.wrap(text, max(1, width), break_on_hyphens=False) or [""]


def paragraph(text: str, width: int, style: str = "") -> list[Content]:
    """Running text in lines."""
    return [Content.styled(line, style) for line in wrap_words(text, width)]


def bar(share: float, cells: int, is_ascii: bool) -> str:
    """A bar of up to ``cells`` cells for a share from 0 to 1, in eighths of a cell."""
    length = min(max(share, 0.0), 1.0) * cells
    if is_ascii:
        return "#" * round(length)
    full, eighths = divmod(round(8 * length), 8)
    if not full and not eighths and share > 0:
        eighths = 1
    return _EIGHTHS[-1] * full + (_EIGHTHS[eighths - 1] if eighths else "")


def beside(left: Sequence[Content], right: Sequence[Content], left_cells: int) -> list[Content]:
    """Two columns; ``left_cells`` is the width of the first, the gap not included."""
    blank = Content("")
    return [
        Content.assemble(_fit(a, left_cells), " " * _GAP_CELLS, b)
        for a, b in zip_longest(left, right, fillvalue=blank)
    ]


def _fit(content: Content, cells: int) -> Content:
    cut = content.truncate(cells, ellipsis=True)
    return cut.pad_right(cells - cut.cell_length)


def column_widths(width: int) -> tuple[int, int]:
    """The widths of two equal columns with the gap of ``beside`` between them."""
    left = (width - _GAP_CELLS) // 2
    return left, width - _GAP_CELLS - left


def sections(*parts: Iterable[Content]) -> list[Content]:
    """Sections with a blank line between them; empty ones are left out."""
    lines: list[Content] = []
    for part in parts:
        section = list(part)
        if section:
            lines += [Content(""), *section] if lines else section
    return lines


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
        width = self.scrollable_content_region.width
        number = y + self.scroll_offset.y
        style = self.visual_style
        if number >= len(self._lines):
            return Strip.blank(width, style.rich_style)
        strips = Visual.to_strips(self, self._lines[number], width, 1, style, pad=True)
        return strips[0] if strips else Strip.blank(width, style.rich_style)
