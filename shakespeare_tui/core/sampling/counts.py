"""How often each token stands in the text of each stream, kept up as the text grows."""

import numpy as np

from shakespeare_tui.core.sampling.arrays import FloatArray, IntArray
from shakespeare_tui.core.sampling.situation import Situation


class TokenCounts:
    """Running counts of the last tokens of every stream.

    A new token costs one addition (and one subtraction where the text is longer than the window),
    however long the text is. Drafts beyond the settled text are counted in a copy.
    """

    def __init__(self, window: int) -> None:
        """Count the last ``window`` tokens, or with 0 the whole text."""
        self._window = window
        self._counts: FloatArray = np.zeros((0, 0), np.float32)
        self._length = 0

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on with the counts of stream ``rows[i]``."""
        self._counts = self._counts[rows]

    def of(self, situation: Situation, vocab_size: int) -> FloatArray:
        """The counts [B, V] in the situation's text; not to be written to."""
        tokens, settled = situation.tokens, situation.settled
        if settled != self._length:
            self._catch_up(tokens, settled, vocab_size)
        length = tokens.shape[1]
        if length == settled:
            return self._counts
        counts = self._counts.copy()
        for place in range(settled, length):
            self._add(counts, tokens, place)
        return counts

    def _catch_up(self, tokens: IntArray, settled: int, vocab_size: int) -> None:
        if self._counts.shape != (len(tokens), vocab_size) or settled != self._length + 1:
            self._counts = self._count_all(tokens[:, :settled], vocab_size)
        else:
            self._add(self._counts, tokens, self._length)
        self._length = settled

    def _count_all(self, tokens: IntArray, vocab_size: int) -> FloatArray:
        seen = tokens[:, -self._window :] if self._window else tokens
        rows = np.arange(len(tokens))[:, None] * vocab_size
        counts = np.bincount((seen + rows).ravel(), minlength=len(tokens) * vocab_size)
        return counts.reshape(len(tokens), vocab_size).astype(np.float32)

    def _add(self, counts: FloatArray, tokens: IntArray, place: int) -> None:
        rows = np.arange(len(tokens))
        counts[rows, tokens[:, place]] += 1
        if 0 < self._window <= place:
            counts[rows, tokens[:, place - self._window]] -= 1
