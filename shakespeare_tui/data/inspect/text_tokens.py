"""The tokens of a text of any size, found row by row where they are looked at."""

from dataclasses import dataclass, field

from shakespeare_tui.data.inspect.line_index import LineIndex, Row
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer, shown_token

_NEAREST_CUT, _FARTHEST_CUT = 64, 4096  # characters
_KEPT_ROWS = 512


@dataclass(frozen=True, slots=True)
class PlacedToken:
    """A token and its place.

    Attributes:
        id: Of the vocabulary.
        start: Its first character in the whole text.
        stop: Behind its last one; ``start`` where it only goes on with the character before.
        shown: Its text, or its bytes as ``<E2><82>`` where they are none.
    """

    id: int
    start: int
    stop: int
    shown: str


@dataclass(frozen=True, eq=False)
class TextTokens:
    """Which tokens lie in the rows of a text.

    A row is encoded with what stands around it, as far as the nearest places across which no token
    reaches, so that its tokens are those of the whole text; where there is no such place within a
    few thousand characters, they may differ from these at first.
    """

    index: LineIndex
    tokenizer: Tokenizer
    _rows: dict[int, list[PlacedToken]] = field(default_factory=dict, repr=False)

    @property
    def are_characters(self) -> bool:
        """Whether every token is one character."""
        return self.tokenizer.name == "char"

    def of_row(self, row: Row) -> list[PlacedToken]:
        """The tokens that reach into a row; the first may begin before it.

        Raises:
            UserError: The text cannot be read any more, or not be expressed.
        """
        found = self._rows.get(row.number)
        if found is None:
            while len(self._rows) >= _KEPT_ROWS:
                self._rows.pop(next(iter(self._rows)))
            found = self._rows[row.number] = self._encoded(row)
        return found

    def _encoded(self, row: Row) -> list[PlacedToken]:
        first, text = self._surroundings(row)
        ids, starts = self.tokenizer.encode_in_place(text, is_beginning=first == 0)
        places = (starts + first).tolist()
        return [
            PlacedToken(token, start, stop, shown_token(self.tokenizer, token))
            for token, start, stop in zip(ids.tolist(), places, places[1:], strict=False)
            if start < row.stop and (stop > row.start or start >= row.start)
        ]

    def _surroundings(self, row: Row) -> tuple[int, str]:
        """The text from one cut to another with the row within, and where it begins."""
        reach = _NEAREST_CUT
        while True:
            first = max(0, row.start - reach)
            last = min(self.index.n_characters, row.stop + reach)
            text = self.index.text(first, last)
            begin, end = row.start - first, row.stop - first
            cuts = self.tokenizer.cuts(text)
            before = max((cut for cut in cuts if cut <= begin), default=None)
            behind = min((cut for cut in cuts if cut >= end), default=None)
            is_whole = (before is not None or first == 0) and (
                behind is not None or last == self.index.n_characters
            )
            if is_whole or reach >= _FARTHEST_CUT:
                return first + (before or 0), text[before or 0 : behind]
            reach *= 4
