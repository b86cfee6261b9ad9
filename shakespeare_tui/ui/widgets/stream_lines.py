"""The lines of a text that grows at its end: what is appended never touches earlier lines."""

from bisect import bisect_right
from itertools import accumulate

from shakespeare_tui.ui.widgets.text_glyphs import cell_widths, wrap


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
