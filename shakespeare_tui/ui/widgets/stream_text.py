"""A text of any length as it grows: only lines in view are drawn, only the last line is broken."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from shakespeare_tui.ui.widgets.plot import part_style
from shakespeare_tui.ui.widgets.text_glyphs import cell_widths, glyph, wrap


class StreamLines:
    """A text and where its lines begin at a width.

    A line breaks behind a newline and, behind a space where there is one, where it is full. Once a
    line is full, nothing that follows moves its end; so only the last line is ever broken anew.

    Attributes:
        text: The whole text.
        width: Cells of a line.
    """

    def __init__(self, width: int = 1) -> None:
        self.text = ""
        self.width = width
        self._starts = [0]

    def __len__(self) -> int:
        return len(self._starts)

    def append(self, piece: str) -> None:
        """Let the text go on."""
        self.text += piece
        self._break_from(self._starts.pop())

    def set_text(self, text: str) -> None:
        """Take another text."""
        self.text, self._starts = text, []
        self._break_from(0)

    def set_width(self, width: int) -> None:
        """Break all lines anew."""
        if width != self.width:
            self.width = width
            self.set_text(self.text)

    def _break_from(self, start: int) -> None:
        for line in self.text[start:].splitlines(keepends=True) if start < len(self.text) else ():
            self._starts += [start + first for first, _ in wrap(line, self.width)]
            start += len(line)
        if not self._starts or self.text.endswith("\n"):
            self._starts.append(start)

    def span(self, line: int) -> tuple[int, int]:
        """The first character of a line, and the one behind its last."""
        is_last = line + 1 >= len(self._starts)
        return self._starts[line], len(self.text) if is_last else self._starts[line + 1]

    def line_of(self, position: int) -> int:
        """The line that a character stands in."""
        return max(0, bisect_right(self._starts, position) - 1)

    def column_of(self, position: int) -> int:
        """Cells before a character in its line."""
        start, _ = self.span(self.line_of(position))
        return sum(cell_widths(self.text[start:position]))

    def position_at(self, line: int, column: int) -> int:
        """The character at or before a cell of a line; of a short line, its last."""
        line = min(max(line, 0), len(self) - 1)
        start, stop = self.span(line)
        ends = list(accumulate(cell_widths(self.text[start:stop])))
        place = start + bisect_right(ends, column)
        return max(start, min(place, stop - 1))


Span = tuple[int, int]


class StreamText(ScrollView, can_focus=True):
    """Shows a text, its prompt set off and copied passages underlined.

    Whoever looks at the end stays there while the text grows; whoever scrolled back is left alone.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "stream-text--prompt",
        "stream-text--copy",
        "stream-text--advice",
    }
    DEFAULT_CSS: ClassVar[str] = """
    StreamText {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        scrollbar-gutter: stable;
    }
    StreamText > .stream-text--prompt { color: $accent; text-style: bold; }
    StreamText > .stream-text--copy { text-style: underline; }
    StreamText > .stream-text--advice { color: $text-muted; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self.lines = StreamLines()
        self.prompt_length = 0
        self._is_at_end = True
        self._copies: Sequence[Span] = ()
        self._notice = ""
        self._styles: dict[tuple[str, ...], Style] = {}

    @property
    def text(self) -> str:
        """The whole text, prompt included."""
        return self.lines.text

    # --- what is shown -------------------------------------------------------------------------

    def advise(self, advice: str) -> None:
        """Say something below the text, in place of it where there is none; empty says nothing."""
        self._notice = advice
        self._fit()

    def begin(self, text: str, prompt_length: int) -> None:
        """Show another text from its beginning on; its first characters are the prompt."""
        self._notice, self._copies = "", ()
        self.prompt_length = prompt_length
        self.lines.set_text(text)
        self.scroll_now(0)
        self._is_at_end = True
        self._fit()

    def append(self, piece: str) -> None:
        """Let the text go on."""
        if not piece:
            return
        is_at_end = self._is_at_end
        self.lines.append(piece)
        self._fit()
        if is_at_end:
            self.scroll_now(self.max_scroll_y)

    def mark_copies(self, copies: Sequence[Span]) -> None:
        """Underline these spans."""
        self._copies = copies
        self.refresh()

    def on_resize(self) -> None:
        """Break the lines for the new width, and stay where one was."""
        is_at_end = self._is_at_end
        self.lines.set_width(max(1, self.scrollable_content_region.width))
        self._fit()
        self.keep_in_view(is_at_end)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Note whether one looks at the end, before the next change of sizes."""
        super().watch_scroll_y(old_value, new_value)
        self._is_at_end = new_value >= self.max_scroll_y

    def keep_in_view(self, is_at_end: bool) -> None:
        """Go to what is to be seen after the lines were broken anew."""
        self.scroll_now(self.max_scroll_y if is_at_end else min(self.scroll_y, self.max_scroll_y))

    def scroll_now(self, y: float) -> None:
        """Go to a line at once."""
        # Forced: the bar that allows it comes with the next layout only.
        self.scroll_to(y=y, animate=False, immediate=True, force=True)

    def notify_style_update(self) -> None:
        """Colours have changed."""
        super().notify_style_update()
        self._styles.clear()

    def _notice_lines(self) -> list[str]:
        if not self._notice:
            return []
        width = self.lines.width
        return [
            line[start:stop]
            for line in self._notice.split("\n")
            for start, stop in wrap(line, width)
        ]

    def _fit(self) -> None:
        n_lines = (len(self.lines) if self.text else 0) + len(self._notice_lines())
        size = Size(self.lines.width, n_lines)
        if size != self.virtual_size:
            self.virtual_size = size
            # A text that fills its place exactly has the sizes that Textual expects of a view that
            # never scrolled: it would leave a bar there that was needed at another width.
            if n_lines == self.container_size.height:
                self.show_vertical_scrollbar = False
        self.refresh()

    # --- drawing -------------------------------------------------------------------------------

    def parts_of(self, start: int, stop: int) -> list[tuple[str, ...]]:
        """The parts of the look of each character in a span of the text."""
        copied = {
            place
            for first, end in self._copies
            for place in range(max(first, start), min(end, stop))
        }
        return [
            (("prompt",) if place < self.prompt_length else ())
            + (("copy",) if place in copied else ())
            for place in range(start, stop)
        ]

    def look(self, parts: tuple[str, ...]) -> Style:
        """How characters are drawn whose look has these parts."""
        style = self._styles.get(parts)
        if style is None:
            style = self.rich_style
            for part in parts:
                style = style + self.style_of(part)
            self._styles[parts] = style
        return style

    def style_of(self, part: str) -> Style:
        """How one part of a look is drawn."""
        if part == "copy":
            return Style(underline=True)
        return part_style(self, f"stream-text--{part}")

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        number = y + self.scroll_offset.y
        n_text = len(self.lines) if self.text else 0
        if number < n_text:
            strip = Strip(self.segments(*self.lines.span(number)))
        else:
            notice = self._notice_lines()[number - n_text : number - n_text + 1]
            strip = Strip([Segment(line, self.look(("advice",))) for line in notice])
        return strip.adjust_cell_length(width, self.look(()))

    def segments(self, start: int, stop: int) -> list[Segment]:
        """A line of the text as it is drawn."""
        cells = zip(self.lines.text[start:stop], self.parts_of(start, stop), strict=True)
        return [
            Segment("".join(self.shown_character(c, parts) for c, _ in run), self.look(parts))
            for parts, run in groupby(cells, key=lambda cell: cell[1])
        ]

    def shown_character(self, character: str, parts: tuple[str, ...] = ()) -> str:
        """What stands for a character; a newline is only seen by what it does."""
        return "" if character == "\n" else glyph(character)
