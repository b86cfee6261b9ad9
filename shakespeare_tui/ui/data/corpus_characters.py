"""The bar chart of a corpus's characters, by frequency or by code point."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from textual.content import Content

from shakespeare_tui.data.inspect.verdict import RARE_OCCURRENCES, character_name
from shakespeare_tui.formatting import counted
from shakespeare_tui.ui.widgets.text_lines import bar

if TYPE_CHECKING:
    from shakespeare_tui.data.inspect.characters import TextStatistics

_NAME_CELLS = 8
_LONGEST_BAR_CELLS = 100


class CharacterLines(Sequence[Content]):
    """The lines of the chart, each made when it is looked at: some vocabularies are large.

    Args:
        statistics: The figures.
        width: Cells of a line.
        by_code_point: The order of the tokens instead of the most frequent first.
        is_log: Bars by the logarithm of the count.
        is_ascii: Bars in ASCII.
    """

    def __init__(
        self,
        statistics: "TextStatistics",
        width: int,
        *,
        by_code_point: bool,
        is_log: bool,
        is_ascii: bool,
    ) -> None:
        self._statistics = statistics
        self._is_log, self._is_ascii = is_log, is_ascii
        counts = statistics.counts
        if by_code_point:
            self._order = np.arange(len(counts))
        else:
            self._order = np.argsort(-counts, kind="stable")
        self._largest = int(counts.max()) if len(counts) else 1
        self._cells = max(9, len(f"{self._largest:,}") + 1)
        room = width - _NAME_CELLS - 8 - 5 - self._cells - 9 - 7
        self._bar_cells = max(0, min(_LONGEST_BAR_CELLS, room))
        self._is_narrow = width < _NAME_CELLS + 8 + 5 + self._cells + 9 + 7
        order = "code point" if by_code_point else "frequency"
        rare = int((counts <= RARE_OCCURRENCES).sum())
        self._head = (
            Content.assemble(
                counted(len(counts), "character"),
                (
                    f" by {order} · {rare:,} rare (at most {RARE_OCCURRENCES} times)"
                    + (" · bars by logarithm" if is_log else ""),
                    "$text-muted",
                ),
            ).truncate(width, ellipsis=True),
            Content.styled(
                f"{'':<{_NAME_CELLS}}{'code':<8}{'id':>5}{'count':>{self._cells}}{'share':>9}",
                "$text-muted",
            ),
        )

    def __len__(self) -> int:
        return len(self._order) + len(self._head)

    @overload
    def __getitem__(self, index: int) -> Content: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Content]: ...

    def __getitem__(self, index: int | slice) -> Content | Sequence[Content]:
        """A line, or several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if index < len(self._head):
            return self._head[index]
        return self._line(int(self._order[index - len(self._head)]))

    def _line(self, token: int) -> Content:
        statistics = self._statistics
        character = statistics.vocabulary[token]
        count = int(statistics.counts[token])
        share = count / statistics.characters
        name = Content(character_name(character))
        is_rare = count <= RARE_OCCURRENCES
        return Content.assemble(
            name.pad_right(_NAME_CELLS - name.cell_length),
            (f"U+{ord(character):04X}".ljust(8), "$text-muted"),
            (f"{token:>5}", "$text-muted"),
            f"{count:>{self._cells},}{share:>9.2%}  ",
            (bar(self._length(count), self._bar_cells, self._is_ascii), "$accent"),
            (" rare" if is_rare else "", "$warning"),
        )

    def _length(self, count: int) -> float:
        if self._is_log:
            return math.log(count + 1) / math.log(self._largest + 1)
        return count / self._largest
