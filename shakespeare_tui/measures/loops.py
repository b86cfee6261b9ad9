"""Find the longest loop of a text: a stretch in which one unit is repeated back to back.

In the field's terms: the longest run (Kolpakov and Kucherov 1999). Exact, in O(n log² n): a loop
of period p covers two neighbouring multiples of p, and how far the text agrees with itself around
such a pair follows from the names of its substrings of 1, 2, 4, … characters (Karp, Miller and
Rosenberg 1972).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Loop:
    """A stretch of text that repeats its first ``unit_length`` characters until it ends."""

    start: int
    length: int
    """Characters, at least twice the unit's; the last repetition may be cut short."""
    unit_length: int


def longest_loop(text: str) -> Loop | None:
    """The longest loop, the first of equally long ones; None where nothing is repeated at once."""
    n = len(text)
    if n < 2:
        return None
    names = _names(text)
    # Every pair of neighbouring multiples of every period up to n / 2: about n · ln n of them.
    periods = np.arange(1, n // 2 + 1)
    pairs = (n - 1) // periods
    period = np.repeat(periods, pairs)
    number = np.arange(len(period)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    left = number * period
    # A loop covers both characters of the pair, which therefore are equal.
    is_equal = names[0][left] == names[0][left + period]
    left, period = left[is_equal], period[is_equal]
    forward = _agreement(names, left, left + period)
    backward = _agreement_before(names, left, left + period)
    length = forward + backward + period
    length[forward + backward < period] = 0
    start = left - backward
    if not length.any():
        return None
    best = int(np.lexsort((period, start, -length))[0])
    return Loop(int(start[best]), int(length[best]), int(period[best]))


def _names(text: str) -> list[_Ids]:
    """For each level k, numbers that are equal where substrings of 2^k characters are.

    Level k has shape [n − 2^k + 1].
    """
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    levels = [np.unique(points, return_inverse=True)[1].astype(np.int64)]
    width = 1
    while 2 * width <= len(text):
        first, second = levels[-1][:-width], levels[-1][width:]
        joined = first * (int(levels[-1].max()) + 1) + second
        levels.append(np.unique(joined, return_inverse=True)[1].astype(np.int64))
        width *= 2
    return levels


def _agreement(names: list[_Ids], left: _Ids, right: _Ids) -> _Ids:
    """Characters for which the text from ``left`` on equals itself from ``right`` > ``left`` on."""
    agreed = np.zeros(len(left), np.int64)
    for level in reversed(names):
        equal = np.flatnonzero(right + agreed < len(level))
        a, b = left[equal] + agreed[equal], right[equal] + agreed[equal]
        width = len(names[0]) - len(level) + 1
        agreed[equal[level[a] == level[b]]] += width
    return agreed


def _agreement_before(names: list[_Ids], left: _Ids, right: _Ids) -> _Ids:
    """Characters for which the text up to ``left`` equals itself up to ``right``, from the end."""
    agreed = np.zeros(len(left), np.int64)
    for level in reversed(names):
        width = len(names[0]) - len(level) + 1
        inside = np.flatnonzero(left - agreed >= width)
        a = left[inside] - agreed[inside] - width
        b = right[inside] - agreed[inside] - width
        agreed[inside[level[a] == level[b]]] += width
    return agreed
