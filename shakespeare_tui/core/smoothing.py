"""Exponential means of a series at several time constants at once."""

import math
from collections.abc import Sequence

import numpy as np

from shakespeare_tui.core.decimation import StepSeries

SMOOTHING_STEPS = (1, 5, 10, 25, 50, 100, 250, 500, 1000)
"""The time constants on offer, in steps; 1 is the series itself."""


class SmoothedSeries:
    """The exponential mean of a series with bias correction, in bounded memory.

    The mean of step ``t`` is that of all steps up to it, the weight of each falling by
    ``1 - 1/smoothing_steps`` a step; dividing by the sum of the weights keeps the first steps from
    being drawn towards zero (Kingma and Ba, 2014, section 3). Weights follow steps, not points, so
    that a thinned log reads as a full one does.

    Args:
        smoothing_steps: The time constant.
        capacity: As for ``StepSeries``.
    """

    def __init__(self, smoothing_steps: int, capacity: int = 2048) -> None:
        self._decay = 1 - 1 / smoothing_steps
        self.series = StepSeries(capacity)
        self._total = 0.0
        self._weight = 0.0
        self._last_step = 0

    def extend(self, steps: Sequence[int], values: Sequence[float | None]) -> None:
        """Take in points in ascending order; gaps stay gaps and do not enter the mean."""
        means = []
        total, weight, last_step, decay = self._total, self._weight, self._last_step, self._decay
        for step, value in zip(steps, values, strict=True):
            if value is None or not math.isfinite(value):
                means.append(math.nan)
                continue
            share = decay if step == last_step + 1 else decay ** max(1, step - last_step)
            total = share * total + (1 - share) * value
            weight = share * weight + (1 - share)
            last_step = step
            means.append(total / weight)
        self._total, self._weight, self._last_step = total, weight, last_step
        self.series.extend(steps, means)

    def truncate(self, step: int) -> None:
        """Forget every point later than ``step`` and go on from the mean there."""
        self.series.truncate(step)
        kept = self.series.window()
        finite = np.flatnonzero(np.isfinite(kept.values))
        if len(finite) == 0:
            self._total = self._weight = 0.0
            self._last_step = 0
            return
        self._last_step = int(kept.steps[finite[-1]])
        self._weight = 1 - self._decay**self._last_step
        self._total = float(kept.values[finite[-1]]) * self._weight
