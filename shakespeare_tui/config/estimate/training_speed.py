"""How fast a run trains, and what an evaluation will cost at that speed."""

import math
from collections import deque
from collections.abc import Iterable

SPEED_STEPS = 20
"""Steps over which the speed is averaged."""
MOST_OF_BUDGET = 0.2
"""The largest share of a time budget that goes to what comes after the last step."""

_TRAINING_PASS = 3.0
"""A training pass over a forward pass: the backward pass costs twice the forward one."""
_FLOAT32_PASS = 2.0
"""A pass in float32 over one in half the precision: from 1.2 on a plain CPU to 4 with AMX."""


def mean_speed(speeds: Iterable[float]) -> float | None:
    """The speed over several steps of as many tokens each; None where nothing was measured."""
    seconds = [1 / speed for speed in speeds if math.isfinite(speed) and speed > 0]
    return len(seconds) / sum(seconds) if seconds else None


class SpeedMeter:
    """The speed over the last ``SPEED_STEPS`` steps that were observed."""

    def __init__(self) -> None:
        self._speeds: deque[float] = deque(maxlen=SPEED_STEPS)

    def observe(self, tokens_per_second: float) -> None:
        """Take in a step."""
        self._speeds.append(tokens_per_second)

    @property
    def is_steady(self) -> bool:
        """Whether there are enough steps: the first ones are slow."""
        return len(self._speeds) == SPEED_STEPS

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained a second, evaluations and samples left out; 0 before the first step."""
        return mean_speed(self._speeds) or 0.0


def evaluation_seconds(
    tokens: float, tokens_per_second: float, *, is_rounded: bool = False
) -> float:
    """About how long it takes to evaluate ``tokens``.

    Args:
        tokens: How many.
        tokens_per_second: The speed of training.
        is_rounded: Whether training runs in less than the float32 of the evaluation.
    """
    if tokens_per_second <= 0:
        return 0.0
    return tokens / (_TRAINING_PASS * tokens_per_second) * (_FLOAT32_PASS if is_rounded else 1.0)
