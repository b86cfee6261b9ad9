"""Lay rows of a text out as lines of a screen: wrapped, with the split, with token ids."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shakespeare_tui.ui.widgets.text_glyphs import wrap

if TYPE_CHECKING:
    from shakespeare_tui.data.inspect.line_index import Row

Kind = Literal["text", "characters", "ids", "split"]


@dataclass(frozen=True, slots=True)
class ScreenLine:
    """A line of the screen.

    Attributes:
        kind: Wrapped text; characters spread out above their ids; these ids; or the split's mark.
        row: The row it belongs to.
        start: First character in the row's text.
        stop: Behind its last character.
        is_first: Whether it begins the row.
        is_validation: Whether it lies behind the split.
    """

    kind: Kind
    row: "Row"
    start: int = 0
    stop: int = 0
    is_first: bool = False
    is_validation: bool = False


@dataclass(frozen=True, slots=True)
class TextLayout:
    """How rows are laid out.

    Attributes:
        width: Cells at hand for the text.
        split: Number of the first validation character; None while it is not known.
        id_cells: Cells that a character with its id takes; 0 shows plain text.
    """

    width: int
    split: int | None = None
    id_cells: int = 0

    def lines(self, row: "Row") -> list[ScreenLine]:
        """The lines that a row takes; at least one."""
        split = self.split
        if split is None or not row.start <= split < row.stop:
            return self._part(row, 0, len(row.text), split is not None and row.start > split)
        cut = split - row.start
        before = self._part(row, 0, cut, False) if cut else []
        return [*before, ScreenLine("split", row), *self._part(row, cut, len(row.text), True)]

    def _part(self, row: "Row", start: int, stop: int, is_validation: bool) -> list[ScreenLine]:
        if self.id_cells:
            per_line = max(1, self.width // self.id_cells)
            cuts = range(start, max(stop, start + 1), per_line)
            spans = [(cut, min(cut + per_line, stop)) for cut in cuts]
            kinds: tuple[Kind, ...] = ("characters", "ids")
        else:
            spans = [(start + a, start + b) for a, b in wrap(row.text[start:stop], self.width)]
            kinds = ("text",)
        return [
            ScreenLine(kind, row, a, b, a == 0 and kind != "ids", is_validation)
            for a, b in spans
            for kind in kinds
        ]
