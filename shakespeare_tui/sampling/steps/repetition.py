"""Summaries of the text that steps keep up as it grows, instead of reading it again each token."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.sampling.arrays import FloatArray, IntArray
from shakespeare_tui.sampling.context import Situation

_LEAST_CAPACITY = 256


class RunningSummary(ABC):
    """One row of numbers for each stream, brought forward by one token at a time.

    Drafts beyond the settled text go into a copy. A text that did not simply grow by one token is
    read anew, so that the summary is always a function of the text alone.
    """

    def __init__(self) -> None:
        self._rows: NDArray[Any] | None = None
        self._length = 0

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on with the summary of stream ``rows[i]``."""
        if self._rows is not None:
            self._rows = self._rows[rows]

    def of(self, situation: Situation, vocab_size: int) -> NDArray[Any]:
        """The summary of the situation's text; not to be written to."""
        tokens, settled = situation.tokens, situation.settled
        rows = self._rows
        if rows is None or len(rows) != len(tokens) or settled - self._length not in (0, 1):
            rows = self._read(tokens[:, :settled], vocab_size)
        elif settled == self._length + 1:
            rows = self._advance(rows, tokens, self._length)
        self._rows, self._length = rows, settled
        if tokens.shape[1] > settled:
            rows = rows.copy()
            for place in range(settled, tokens.shape[1]):
                rows = self._advance(rows, tokens, place)
        return rows

    @abstractmethod
    def _read(self, tokens: IntArray, vocab_size: int) -> NDArray[Any]:
        """Summarise a whole text [B, L]."""

    @abstractmethod
    def _advance(self, rows: NDArray[Any], tokens: IntArray, place: int) -> NDArray[Any]:
        """Take in ``tokens[:, place]``, the next one; may write to ``rows``."""


class TokenCounts(RunningSummary):
    """How often each token stands among the last ones: float32 [B, V].

    A new token costs one addition, and one subtraction where another leaves the window.
    """

    def __init__(self, window: int) -> None:
        """Count the last ``window`` tokens, or with 0 the whole text."""
        super().__init__()
        self._window = window

    def _read(self, tokens: IntArray, vocab_size: int) -> FloatArray:
        streams = len(tokens)
        seen = tokens[:, -self._window :] if self._window else tokens
        flat = seen + np.arange(streams)[:, None] * vocab_size
        counts = np.bincount(flat.ravel(), minlength=streams * vocab_size)
        return counts.reshape(streams, vocab_size).astype(np.float32)

    def _advance(self, rows: FloatArray, tokens: IntArray, place: int) -> FloatArray:
        streams = np.arange(len(tokens))
        rows[streams, tokens[:, place]] += 1
        if 0 < self._window <= place:
            rows[streams, tokens[:, place - self._window]] -= 1
        return rows


class EndMatches(RunningSummary):
    """How far back the end of the text repeats the text that stands some distance earlier.

    Column d − 1 of the int32 array [B, ≥ L] is the number of last tokens that equal those d places
    before them; the token that followed there is ``tokens[:, L - d]``. A new token lengthens each
    such match by one or ends it, whatever the text was before: one comparison with the text.
    """

    def __init__(self, window: int, longest: int) -> None:
        """Look back over ``window`` tokens, or with 0 over the whole text.

        Args:
            window: The greatest distance.
            longest: Matches longer than this may be told as shorter, but not than this.
        """
        super().__init__()
        self._window, self._longest = window, longest

    def distances(self, length: int) -> int:
        """How many columns count, in a text of ``length`` tokens."""
        return min(length, self._window) if self._window else length

    def _read(self, tokens: IntArray, vocab_size: int) -> NDArray[np.int32]:
        streams, length = tokens.shape
        rows = np.zeros((streams, max(_LEAST_CAPACITY, self.distances(length))), dtype=np.int32)
        for place in range(max(0, length - self._longest), length):
            rows = self._advance(rows, tokens, place)
        return rows

    def _advance(self, rows: NDArray[np.int32], tokens: IntArray, place: int) -> NDArray[np.int32]:
        if rows.shape[1] < self.distances(place + 1):
            rows = np.concatenate([rows, np.zeros_like(rows)], axis=1)
        count = self.distances(place)
        earlier = tokens[:, place - count : place][:, ::-1]
        lengths = rows[:, :count]
        lengths += 1
        lengths *= earlier == tokens[:, place, None]
        return rows
