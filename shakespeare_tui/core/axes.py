"""The axes of a chart: where a value lies, which value lies somewhere, and what ticks to write."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


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

    def position(self, values: ArrayLike) -> NDArray[np.float64]:
        """Where ``values`` lie, in cells from the start; NaN stays NaN."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        array = np.asarray(values, np.float64)
        if self.is_log:
            array = np.log10(np.where(array <= 0, self.low, array))
        return (array - low) * (self.size / (high - low))

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
