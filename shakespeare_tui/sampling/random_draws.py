"""Uniform numbers by (seed, stream, place), and tokens drawn with them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.errors import UserError
from shakespeare_tui.sampling.logits import FloatArray, IntArray

MOST_SEED = 2**63 - 1

# Numbers are made by the block; Philox makes four at each count of its counter.
_BLOCK = 64
_COUNTS_A_BLOCK = _BLOCK // 4
# Times a sum it stays below that sum, also when rounded, so that no draw falls past the end.
_LARGEST_UNIFORM = 1 - 2.0**-52


class Uniforms:
    """One number in [0, 1) for every stream and every place.

    A stream's numbers depend on the seed and its own index alone, so that a stream is the same
    however many run beside it, and strategies compare under common random numbers. The generator
    counts (Philox, doi:10.1145/2063384.2063405), so that any place can be had in any order.
    """

    def __init__(self, seed: int, streams: Sequence[int], purpose: int = 0) -> None:
        """Numbers for ``streams`` by their indices; each ``purpose`` has a sequence of its own.

        Raises:
            UserError: The seed is out of range.
        """
        if not 0 <= seed <= MOST_SEED:
            raise UserError(f"the seed must be from 0 to 2^63 - 1, got {seed}")
        self._seed, self._purpose = seed, purpose
        self._streams = list(streams)
        self._block = -1
        self._numbers = np.empty((_BLOCK, 0))

    def at(self, place: int) -> NDArray[np.float64]:
        """The numbers [B] of the ``place``-th token, counted from 0."""
        block, row = divmod(place, _BLOCK)
        if block != self._block:
            self._fill(block)
        numbers: NDArray[np.float64] = self._numbers[row]
        return numbers

    def between(self, first: int, last: int) -> NDArray[np.float64]:
        """The numbers [T, B] of the tokens from the ``first``-th to the one before ``last``."""
        parts = []
        while first < last:
            row = first % _BLOCK
            self.at(first)
            parts.append(self._numbers[row : row + last - first])
            first += len(parts[-1])
        return np.concatenate(parts) if parts else self._numbers[:0]

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on with the numbers of stream ``rows[i]``."""
        self._streams = [self._streams[row] for row in rows]
        self._block = -1

    def _fill(self, block: int) -> None:
        counter = [block * _COUNTS_A_BLOCK, 0, 0, self._purpose]
        self._numbers = np.empty((_BLOCK, len(self._streams)))
        for column, stream in enumerate(self._streams):
            bits = np.random.Philox(key=[self._seed, stream], counter=counter)
            self._numbers[:, column] = np.random.Generator(bits).random(_BLOCK)
        np.minimum(self._numbers, _LARGEST_UNIFORM, out=self._numbers)
        self._block = block


def draw(probabilities: FloatArray, uniforms: NDArray[np.float64]) -> IntArray:
    """Invert the sum of each row of ``probabilities`` [B, V] at ``uniforms`` [B]; returns [B]."""
    sums = np.add.accumulate(probabilities, axis=1, dtype=np.float64)
    # Scaled to the sum, which rounding leaves near 1. A token of no probability never exceeds it
    # first, so none is drawn.
    passed = sums > (uniforms * sums[:, -1])[:, None]
    return np.asarray(passed.argmax(axis=1))
