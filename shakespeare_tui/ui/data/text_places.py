"""Places in a text whose rows wrap: how far one can scroll, and where so many lines lead."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from shakespeare_tui.ui.data.text_layout import TextLayout

if TYPE_CHECKING:
    from shakespeare_tui.data.inspect.line_index import Row

Place = tuple[int, int]
"""A row, and which of the lines that it is wrapped into."""

ReadRows = Callable[[int, int], "list[Row]"]
"""Gives the rows from one number up to another, as far as there are any."""


def end_place(read: ReadRows, layout: TextLayout, n_rows: int, height: int) -> Place:
    """The place from which the last lines of a text fill ``height`` lines of the screen."""
    room = height
    for row in reversed(read(n_rows - height, n_rows)):
        n_lines = len(layout.lines(row))
        if n_lines >= room:
            return row.number, n_lines - room
        room -= n_lines
    return 0, 0


def moved_place(read: ReadRows, layout: TextLayout, place: Place, n_lines: int) -> Place | None:
    """The place ``n_lines`` lines of the screen further on, or back where it is negative.

    None lies behind the end of the text.
    """
    row, line = place
    if n_lines > 0:
        line += n_lines
        for item in read(row, row + n_lines + 1):
            height = len(layout.lines(item))
            if line < height:
                return item.number, line
            line -= height
        return None
    line += n_lines
    for item in reversed(read(row + n_lines, row)):
        if line >= 0:
            break
        row = item.number
        line += len(layout.lines(item))
    return row, max(0, line)
