"""Exponential means of a series at several time constants at once."""

import math
from collections.abc import Sequence

import numpy as np

from shakespeare_tui.runs.series import StepSeries

SMOOTHING_STEPS = (1, 5, 10, 25, 50, 100, 250, 500, 1000)
"""The time constants on offer, in steps; 1 is the series itself."""


TRAIN_LOSS_STEPS = 25
"""The time constant of what is called the train loss wherever one number stands for it."""


class RunningMean:
    """The exponential mean of values that belong to steps, with bias correction, as one number.

    The mean of step ``t`` is that of all steps up to it, the weight of each falling by
    ``1 - 1/smoothing_steps`` a step; dividing by the sum of the weights keeps the first steps from
    being drawn towards zero (Kingma and Ba, 2014, section 3). Weights follow steps, not points, so
    that a thinned log reads as a full one does.

    Args:
        smoothing_steps: The time constant.
    """

    def __init__(self, smoothing_steps: int) -> None:
        self._decay = 1 - 1 / smoothing_steps
        self._total = 0.0
        self._weight = 0.0
        self._last_step = 0

    def observe(self, step: int, value: float) -> float:
        """Take in a finite value, later than all before it, and return the mean."""
        decay = self._decay
        share = decay if step == self._last_step + 1 else decay ** max(1, step - self._last_step)
        self._total = share * self._total + (1 - share) * value
        self._weight = share * self._weight + (1 - share)
        self._last_step = step
        return self._total / self._weight

    def restart(self, step: int, mean: float | None) -> None:
        """Stand where it did at ``step``; None forgets everything."""
        self._last_step = step if mean is not None else 0
        self._weight = 1 - self._decay**self._last_step
        self._total = (mean or 0.0) * self._weight


class SmoothedSeries:
    """The ``RunningMean`` of a series at each of its steps, in bounded memory.

    Args:
        smoothing_steps: The time constant.
        capacity: As for ``StepSeries``.
    """

    def __init__(self, smoothing_steps: int, capacity: int = 2048) -> None:
        self.series = StepSeries(capacity)
        self._mean = RunningMean(smoothing_steps)

    def extend(self, steps: Sequence[int], values: Sequence[float | None]) -> None:
        """Take in points in ascending order; gaps stay gaps and do not enter the mean."""
        observe = self._mean.observe
        self.series.extend(
            steps,
            [
                math.nan if value is None or not math.isfinite(value) else observe(step, value)
                for step, value in zip(steps, values, strict=True)
            ],
        )

    def truncate(self, step: int) -> None:
        """Forget every point later than ``step`` and go on from the mean there."""
        self.series.truncate(step)
        kept = self.series.window()
        finite = np.flatnonzero(np.isfinite(kept.values))
        if len(finite) == 0:
            self._mean.restart(0, None)
        else:
            self._mean.restart(int(kept.steps[finite[-1]]), float(kept.values[finite[-1]]))
