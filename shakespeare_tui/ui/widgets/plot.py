"""Draw curves into a grid of character cells."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual.filter import ANSIToTruecolor, DimFilter, LineFilter
from textual.strip import Strip
from textual.widget import Widget


def part_style(widget: Widget, name: str) -> Style:
    """A component class as a Rich style, see-through colours laid on the widget's background."""
    styles = widget.get_component_styles(name)
    _, background = widget.background_colors
    color = background + styles.color if not styles.auto_color else widget.colors[3]
    return styles.text_style + Style(color=color.rich_color)


BRAILLE = "braille"
_DOTS_ACROSS, _DOTS_UP = 2, 4
_FIRST_BRAILLE = 0x2800
_BRAILLE_BITS = np.array([[0x40, 0x80], [0x04, 0x20], [0x02, 0x10], [0x01, 0x08]])
"""What each dot adds to the first character of the Braille block, by row from the bottom."""

_BLANK = " "


@dataclass(frozen=True)
class Curve:
    """Points to draw, in cells from the lower left corner of the plot.

    Attributes:
        x: Cells from the left, ascending, shape [n].
        y: Cells from the bottom, shape [n]; NaN is a gap.
        style: How its cells look.
        mark: A single character for every cell, or ``BRAILLE`` for eight dots a cell.
        is_line: Whether neighbouring points are joined.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    style: Style
    mark: str = BRAILLE
    is_line: bool = True


class Canvas:
    """A grid of characters and their styles, ``width`` by ``height`` cells, row 0 on top."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.characters = [[_BLANK] * width for _ in range(height)]
        self.styles: list[list[Style | None]] = [[None] * width for _ in range(height)]

    def write(self, column: int, row: int, text: str, style: Style | None = None) -> None:
        """Write over what is there; what lies outside is left out."""
        if not 0 <= row < self.height:
            return
        for offset, character in enumerate(text, start=column):
            if 0 <= offset < self.width:
                self.characters[row][offset] = character
                self.styles[row][offset] = style

    def write_behind(self, column: int, row: int, text: str, style: Style | None = None) -> None:
        """Write into blank cells only."""
        if not 0 <= row < self.height:
            return
        for offset, character in enumerate(text, start=column):
            if 0 <= offset < self.width and self.characters[row][offset] == _BLANK:
                self.characters[row][offset] = character
                self.styles[row][offset] = style

    def is_blank(self, column: int, row: int, length: int) -> bool:
        """Whether nothing stands in ``length`` cells from ``column`` on."""
        if not (0 <= row < self.height and column >= 0 and column + length <= self.width):
            return False
        return all(c == _BLANK for c in self.characters[row][column : column + length])

    def paste(self, other: "Canvas", column: int, row: int) -> None:
        """Put another canvas in the place of the cells that are there, as far as it fits."""
        width = max(0, min(other.width, self.width - column))
        for offset in range(min(other.height, self.height - row)):
            cells = slice(column, column + width)
            self.characters[row + offset][cells] = other.characters[offset][:width]
            self.styles[row + offset][cells] = other.styles[offset][:width]

    def copy(self) -> "Canvas":
        """Another canvas with the same cells."""
        twin = Canvas(self.width, 0)
        twin.height = self.height
        twin.characters = [row.copy() for row in self.characters]
        twin.styles = [row.copy() for row in self.styles]
        return twin

    def strips(self) -> list[Strip]:
        """The rows as Textual draws them."""
        return [
            Strip(_segments(characters, styles), self.width)
            for characters, styles in zip(self.characters, self.styles, strict=True)
        ]

    def text(self) -> str:
        """The characters alone, a line a row."""
        return "\n".join("".join(row).rstrip() for row in self.characters)


def _segments(characters: list[str], styles: list[Style | None]) -> list[Segment]:
    segments, start = [], 0
    for column in range(1, len(characters) + 1):
        if column == len(characters) or styles[column] is not styles[start]:
            segments.append(Segment("".join(characters[start:column]), styles[start]))
            start = column
    return segments


def draw_curves(curves: Sequence[Curve], width: int, height: int) -> Canvas:
    """Draw curves one over the other, the last on top."""
    canvas = Canvas(width, height)
    if width < 2 or height < 2:
        return canvas
    for curve in curves:
        for column, row, mark in zip(*_cells(curve, width, height), strict=True):
            canvas.write(column, height - 1 - row, mark, curve.style)
    return canvas


def _cells(curve: Curve, width: int, height: int) -> tuple[list[int], list[int], list[str]]:
    """The cells that a curve touches: columns, rows from the bottom, and their characters."""
    across, up = (_DOTS_ACROSS, _DOTS_UP) if curve.mark == BRAILLE else (1, 1)
    x, y = np.floor(curve.x * across), np.floor(curve.y * up)
    # Lines are drawn dot by dot: none may lead to the far end of the universe.
    y = np.clip(y, -up, up * (height + 1))
    x, y = _joined(x, y) if curve.is_line else (x[np.isfinite(y)], y[np.isfinite(y)])
    is_inside = (x >= 0) & (x < across * width) & (y >= 0) & (y < up * height)
    columns, rows = x[is_inside].astype(np.int64), y[is_inside].astype(np.int64)
    bits = _BRAILLE_BITS[rows % up, columns % across]
    cells, which = np.unique(columns // across + width * (rows // up), return_inverse=True)
    marks = [curve.mark] * len(cells)
    if curve.mark == BRAILLE:
        dots = np.zeros(len(cells), np.int64)
        np.bitwise_or.at(dots, which, bits)
        marks = [chr(_FIRST_BRAILLE + d) for d in dots.tolist()]
    return (cells % width).tolist(), (cells // width).tolist(), marks


def _joined(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All dots of the lines between neighbouring points; a gap joins nothing."""
    single = np.isfinite(y)
    is_line = single[:-1] & single[1:]
    x0, y0 = x[:-1][is_line], y[:-1][is_line]
    dx, dy = x[1:][is_line] - x0, y[1:][is_line] - y0
    counts = np.maximum(np.abs(dx), np.abs(dy)).astype(np.int64) + 1
    line = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(line)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = place / np.maximum(counts - 1, 1)[line]
    dots_x = np.concatenate([x[single], np.round(x0[line] + share * dx[line])])
    dots_y = np.concatenate([y[single], np.round(y0[line] + share * dy[line])])
    return dots_x, dots_y


class Chart(Widget):
    """A widget that shows a canvas; subclasses override ``draw``."""

    _strips: list[Strip] | None = None

    @abstractmethod
    def draw(self) -> "Canvas":
        """The picture, as large as the widget."""

    def redraw(self) -> None:
        """Draw anew at the next refresh of the screen."""
        self.forget()
        self.refresh()

    def forget(self) -> None:
        """Let go of what was drawn."""
        self._strips = None

    def render_line(self, y: int) -> Strip:
        """A line of the picture, which is drawn only when something changed."""
        if self._strips is None:
            style = self.rich_style
            self._strips = [strip.apply_style(style) for strip in self.draw().strips()]
        if y >= len(self._strips):
            return Strip.blank(self.size.width, self.rich_style)
        return self._strips[y]

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Leave out Textual's filters of colours that no chart has: they go over every cell."""
        needless = (ANSIToTruecolor, DimFilter)
        return [f for f in super().get_line_filters() if not isinstance(f, needless)]

    def notify_style_update(self) -> None:
        """Colours changed."""
        super().notify_style_update()
        self.forget()

    def on_resize(self) -> None:
        """Another size needs another picture; the one so far may be on the screen already."""
        self.redraw()
