"""Word counts for a rank–frequency plot (Zipf 1949), in bounded memory."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_CHARACTERS = 16_000_000
"""Words are counted in the beginning of a longer text, which bounds memory and time."""

_LONGEST_WORD_CHARACTERS = 100
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_POINTS_OF_A_SLOPE = 200
_FEWEST_POINTS_OF_A_SLOPE = 3

_Counts = npt.NDArray[np.int64]
_Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WordCounts:
    """Words of the text so far; case does not count."""

    counts: _Counts
    """(distinct,) occurrences, most frequent first."""
    top: tuple[tuple[str, int], ...]
    """The most frequent words."""
    is_whole: bool
    """False where the text goes on beyond ``MAX_CHARACTERS``."""


def words_of(text: str) -> list[str]:
    """The words of a text in order, in lower case."""
    return _WORD.findall(text.lower())


class WordCounter:
    """Counts words of a text that comes in pieces."""

    def __init__(self, max_characters: int = MAX_CHARACTERS) -> None:
        self._room = max_characters
        self._words: Counter[str] = Counter()
        self._carry = ""
        self._is_whole = True
        self._snapshot: WordCounts | None = None

    def feed(self, text: str) -> None:
        """Go on with the next piece of the text."""
        self._is_whole = self._is_whole and len(text) <= self._room
        text = text[: self._room]
        if not text:
            return
        self._room -= len(text)
        buffer = self._carry + text.lower()
        cut = len(buffer)
        # A word may go on in the next piece.
        while (
            cut and len(buffer) - cut < _LONGEST_WORD_CHARACTERS and not buffer[cut - 1].isspace()
        ):
            cut -= 1
        self._carry = buffer[cut:]
        self._words.update(_WORD.findall(buffer, 0, cut))
        self._snapshot = None

    def snapshot(self, top: int = 20) -> WordCounts:
        """The counts so far, with the ``top`` most frequent words."""
        if self._snapshot is None or self._snapshot.is_whole != self._is_whole:
            words = self._words.copy()
            words.update(_WORD.findall(self._carry))
            counts = np.sort(np.fromiter(words.values(), np.int64, len(words)))[::-1]
            self._snapshot = WordCounts(counts, tuple(words.most_common(top)), self._is_whole)
        return self._snapshot


def thin_ranks(counts: _Counts, n_points: int) -> tuple[_Counts, _Counts]:
    """Ranks (from 1) and counts of at most ``n_points`` places, evenly spaced in log rank.

    Args:
        counts: (n,) descending.
        n_points: At least 2.
    """
    if len(counts) == 0:
        return counts, counts
    ranks = np.unique(np.round(np.geomspace(1, len(counts), n_points)).astype(np.int64))
    return ranks, counts[ranks - 1]


def zipf_slope(counts: _Counts) -> float | None:
    """Slope of log count over log rank, by least squares on points evenly spaced in log rank.

    None where there are too few different ranks. Zipf's law says about -1 for words.
    """
    ranks, heights = thin_ranks(counts, _POINTS_OF_A_SLOPE)
    if len(ranks) < _FEWEST_POINTS_OF_A_SLOPE:
        return None
    x, y = np.log(ranks), np.log(heights)
    x = x - x.mean()
    return float((x @ (y - y.mean())) / (x @ x))
