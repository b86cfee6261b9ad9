"""Draw the lines of a text view: number, part, text, or characters above their token ids."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style

from shakespeare_tui.ui.data.text_layout import ScreenLine
from shakespeare_tui.ui.widgets.text_glyphs import glyphs, sign

# The mark left of the training part and of the validation part: not by colour alone.
_PART_MARKS = ("│", "┃")
_ASCII_PART_MARKS = ("|", "#")


@dataclass(frozen=True)
class TextPainter:
    """How lines are drawn.

    Attributes:
        style: Gives the style of a part: number, training, validation, sign, id or split.
        number_cells: Cells of a line number.
        id_cells: Cells of a character with its id.
        ids: Token ids by character.
        split: Number of the first validation character.
        is_ascii: Draw in ASCII.
    """

    style: Callable[[str], Style]
    number_cells: int
    id_cells: int
    ids: Mapping[str, int]
    split: int | None
    is_ascii: bool

    def segments(self, line: ScreenLine, width: int) -> list[Segment]:
        """What stands in a line of ``width`` cells."""
        if line.kind == "split":
            return [self._rule(width)]
        is_numbered = line.is_first and line.row.is_line_start
        number = f"{line.row.line + 1:,}" if is_numbered else ""
        mark = (_ASCII_PART_MARKS if self.is_ascii else _PART_MARKS)[line.is_validation]
        part = "validation" if line.is_validation else "training"
        return [
            Segment(number.rjust(self.number_cells), self.style("number")),
            Segment(f" {mark} ", self.style(part)),
            *self._content(line),
        ]

    def _rule(self, width: int) -> Segment:
        rule = ("-" if self.is_ascii else "─") * width
        label = f" validation begins, character {self.split:,} "
        return Segment(f"{rule[: self.number_cells + 1]}{label}{rule}"[:width], self.style("split"))

    def _content(self, line: ScreenLine) -> list[Segment]:
        text = line.row.text[line.start : line.stop]
        if line.kind == "text":
            return [Segment(glyphs(text))]
        if line.kind == "ids":
            numbers = "".join(str(self.ids.get(c, "?")).rjust(self.id_cells) for c in text)
            return [Segment(numbers, self.style("id"))]
        style = self.style("sign")
        return [self._spread(character, style) for character in text]

    def _spread(self, character: str, style: Style) -> Segment:
        shown = sign(character, self.is_ascii)
        blank = " " * (self.id_cells - Segment(shown).cell_length)
        return Segment(blank + shown, None if shown == character else style)
