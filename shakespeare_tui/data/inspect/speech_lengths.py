"""How the lengths of a play's speeches are distributed."""

from collections.abc import Mapping
from dataclasses import dataclass

from shakespeare_tui.data.inspect.speeches import SpeechScanner

MAX_CHARACTERS = 16_000_000
"""Lengths are taken from the beginning of a longer text, which bounds the time."""

_EDGES = (0, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


@dataclass(frozen=True)
class LengthBin:
    """Speeches from ``least`` to ``most`` characters long; ``most`` is None in the last bin."""

    least: int
    most: int | None
    speeches: int


class SpeechLengthScanner(SpeechScanner):
    """Finds speeches and keeps the count of every length."""

    def __init__(self, max_characters: int = MAX_CHARACTERS) -> None:
        super().__init__()
        self._room = max_characters
        self.is_whole = True
        """False where the text goes on beyond the limit."""

    def feed(self, text: str) -> None:
        """Go on with the next piece of the text."""
        self.is_whole = self.is_whole and len(text) <= self._room
        text = text[: self._room]
        self._room -= len(text)
        if text:
            super().feed(text)

    def lengths(self) -> dict[int, int]:
        """Number of speeches by length in characters, the one under way left out."""
        return dict(self._lengths)


def length_bins(lengths: Mapping[int, int]) -> list[LengthBin]:
    """A histogram with bins that widen, empty ones at both ends left out."""
    counts = [0] * len(_EDGES)
    for length, count in lengths.items():
        place = sum(length > edge for edge in _EDGES[1:])
        counts[place] += count
    bins = [
        LengthBin(
            0 if place == 0 else low + 1,
            _EDGES[place + 1] if place + 1 < len(_EDGES) else None,
            counts[place],
        )
        for place, low in enumerate(_EDGES)
    ]
    filled = [place for place, item in enumerate(bins) if item.speeches]
    return bins[filled[0] : filled[-1] + 1] if filled else []
