"""The axes of a chart: where a value lies, which value lies somewhere, and what ticks to write."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_LARGEST_FACTOR = 1e6
"""What a logarithmic axis spans at most: a loss of nearly 0 would leave no room for the others."""
_PAD_SHARE = 0.04
_LEAST_SPAN = 1e-9
_MOST_DIGITS = 3


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high`` laid out over ``size`` cells.

    Attributes:
        low: The value at position 0.
        high: The value at position ``size``.
        size: Length in cells.
        is_log: Whether equal factors, not equal differences, take equal room; what is not above
            zero then lies at ``low``, which must be.
    """

    low: float
    high: float
    size: int
    is_log: bool = False

    @classmethod
    def covering(cls, low: float, high: float, size: int, *, is_log: bool = False) -> "Axis":
        """An axis with a little room beyond ``low`` and ``high``, which may be equal or zero.

        It is linear where nothing above zero is there to take the logarithm of.
        """
        if is_log and high > 0:
            low = max(low, high / _LARGEST_FACTOR)
            pad = max(high / low, 1.5) ** _PAD_SHARE
            return cls(low / pad, high * pad, size, True)
        span = max(high - low, 0.02 * abs(high))
        span = span if span > _LEAST_SPAN else 1.0
        middle = (low + high) / 2
        padded = (0.5 + _PAD_SHARE) * span
        # Losses and counts are not negative, nor is their axis.
        return cls(max(middle - padded, min(low, 0.0)), middle + padded, size)

    def position(self, values: ArrayLike) -> NDArray[np.float64]:
        """Where ``values`` lie, in cells from the start; NaN stays NaN."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        array = np.asarray(values, np.float64)
        if self.is_log:
            array = np.log10(np.where(array <= 0, self.low, array))
        return (array - low) * (self.size / (high - low))

    def shortfall(self, value: float) -> float:
        """How far ``value`` lies below the axis, as a share of its length; infinite if never."""
        if self.is_log and value <= 0:
            return math.inf
        return -float(self.position(value)) / self.size

    def cell(self, value: float) -> int:
        """The cell of ``value``, brought into the axis where it lies outside."""
        return max(0, min(self.size - 1, math.floor(float(self.position(value)))))

    def value(self, position: float) -> float:
        """The value at ``position`` cells from the start."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        scaled = low + (high - low) * position / self.size
        return float(10.0**scaled) if self.is_log else scaled

    def ticks(self, most: int) -> list[float]:
        """Round values in the axis, at most ``most`` of them and at least one."""
        most = max(1, most)
        if self.is_log and self.high / self.low >= 10:
            found = self._decades(most)
            if len(found) >= 2:
                return found
        return self._evenly(most)

    def _evenly(self, most: int) -> list[float]:
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / most))
        for scale in (1, 2, 2.5, 5, 10, 20, 25, 50):
            step = scale * power
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            if last - first < most:
                return [round(index * step, 12) for index in range(first, last + 1)] or [self.low]
        return [self.low]

    def _decades(self, most: int) -> list[float]:
        first = math.floor(math.log10(self.low) + 1e-9)
        last = math.floor(math.log10(self.high) + 1e-9)
        for multiples in ((1, 2, 5), (1, 3), (1,)):
            values = [m * 10.0**power for power in range(first, last + 1) for m in multiples]
            inside = [value for value in values if self.low <= value <= self.high * (1 + 1e-9)]
            if len(inside) <= most:
                return inside
        every = -(-len(inside) // most)
        return inside[::every]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def tick_labels(ticks: Sequence[float], width: int) -> list[str]:
    """The ticks of one axis as text, all in one format of at most ``width`` characters, 5 or more.

    Equal digits after the point where they fit (``0.5``, ``1.0``), else as many as each needs
    (``0.01``, ``100``), and powers of ten where some are tiny or enormous (``1e-7``). Ticks that
    lie closer together than that are written alike.
    """
    sizes = [abs(tick) for tick in ticks if tick]
    if sizes and (min(sizes) < 10**-_MOST_DIGITS or max(sizes) >= 10**width):
        return [_power(tick) for tick in ticks]
    digits = next(
        (n for n in range(1, _MOST_DIGITS) if all(round(t, n) == t for t in ticks)), _MOST_DIGITS
    )
    whole = len(f"{max(sizes, default=0):.0f}")
    for labels in ([f"{t:.{digits}f}" for t in ticks], [f"{t:g}" for t in ticks]):
        if all(len(label) <= width for label in labels):
            return labels
    return [f"{tick:.{max(0, width - whole - 1)}f}" for tick in ticks]


def _power(value: float) -> str:
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}" if value else "0"
