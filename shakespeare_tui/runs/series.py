"""A series over training steps in bounded memory: exact at both ends, envelopes in between.

A chart has a few hundred columns, so what it shows of a million points is their smallest and
largest value in each column. This keeps what such a chart can show and lets go of the rest.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")


class BoundedList(Generic[Item]):
    """Items in order; of those older than the newest half, evenly spaced ones are kept.

    The first item is never dropped to make room.

    Args:
        limit: The most items that are kept, at least 8.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbered: list[tuple[int, Item]] = []
        self._appended = 0
        self._stride = 1

    def append(self, item: Item) -> None:
        """Add an item at the end."""
        self._numbered.append((self._appended, item))
        self._appended += 1
        if len(self._numbered) > self._limit:
            self._thin_out()

    def _thin_out(self) -> None:
        newest = self._numbered[-(self._limit // 2) :]
        old = self._numbered[: len(self._numbered) - len(newest)]
        while len(old) > 3 * self._limit // 8:
            old = [entry for entry in old if entry[0] % self._stride == 0]
            if len(old) > 3 * self._limit // 8:
                self._stride *= 2
        self._numbered = old + newest

    def keep_only(self, is_kept: Callable[[Item], bool]) -> None:
        """Drop all items but those."""
        self._numbered = [entry for entry in self._numbered if is_kept(entry[1])]

    def __len__(self) -> int:
        return len(self._numbered)

    def __iter__(self) -> Iterator[Item]:
        return (item for _, item in self._numbered)

    def __reversed__(self) -> Iterator[Item]:
        return (item for _, item in reversed(self._numbered))

    def __getitem__(self, index: int) -> Item:
        return self._numbered[index][1]

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """A list of its own of the same items, which nobody changes."""
        twin = type(self)(self._limit)
        twin._numbered = self._numbered.copy()
        twin._appended, twin._stride = self._appended, self._stride
        return twin


_GROUP_POINTS = 8
_KEPT_OF_GROUP = 2


@dataclass(frozen=True)
class Window:
    """Part of a series, ready to be drawn.

    Attributes:
        steps: Steps in ascending order, int64, shape [n].
        values: The values there, float64, shape [n]; NaN is a gap.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.steps)


class _Buffer:
    """Points in order of their steps, in arrays that grow by doubling up to ``capacity``."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._steps = np.empty(min(256, capacity), np.int64)
        self._values = np.empty(min(256, capacity), np.float64)
        self.length = 0

    @property
    def steps(self) -> NDArray[np.int64]:
        return self._steps[: self.length]

    @property
    def values(self) -> NDArray[np.float64]:
        return self._values[: self.length]

    @property
    def space(self) -> int:
        return self._capacity - self.length

    def append(self, steps: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        end = self.length + len(steps)
        if end > len(self._steps):
            size = min(self._capacity, max(end, 2 * len(self._steps)))
            self._steps = np.resize(self._steps, size)
            self._values = np.resize(self._values, size)
        self._steps[self.length : end] = steps
        self._values[self.length : end] = values
        self.length = end

    def take_first(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        steps, values = self.steps[:count].copy(), self.values[:count].copy()
        rest = self.length - count
        self._steps[:rest] = self._steps[count : self.length]
        self._values[:rest] = self._values[count : self.length]
        self.length = rest
        return steps, values

    def truncate(self, step: int) -> None:
        self.length = int(np.searchsorted(self.steps, step, side="right"))


class StepSeries:
    """One value a step: the first and the latest steps exactly, the rest as min/max envelopes.

    Points that leave the exact tail are condensed eight to two, their smallest and largest, again
    and again as they grow older; memory grows with the logarithm of their number. Every point that
    is kept is one that was appended, and the smallest and largest of all are never lost.

    Args:
        capacity: Points of each resolution; a multiple of 16.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = capacity
        self._head = _Buffer(capacity // 2)
        self._levels = [_Buffer(capacity)]

    def extend(self, steps: Sequence[int], values: Sequence[float | None]) -> None:
        """Add points in ascending order, all later than what is there.

        None and non-finite values become gaps.
        """
        new_steps = np.asarray(steps, np.int64)
        new_values = np.asarray(values, np.float64)
        new_values = np.where(np.isfinite(new_values), new_values, np.nan)
        for start in range(0, len(new_steps), self._capacity // 2):
            part = slice(start, start + self._capacity // 2)
            self._append(new_steps[part], new_values[part])

    def _append(self, steps: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        # A head that was cut back fills up again only where nothing condensed follows it.
        in_head = self._head.space if not any(level.length for level in self._levels) else 0
        self._head.append(steps[:in_head], values[:in_head])
        self._add(0, steps[in_head:], values[in_head:])

    def truncate(self, step: int) -> None:
        """Drop every point later than ``step``."""
        for buffer in (self._head, *self._levels):
            buffer.truncate(step)

    def last(self) -> float | None:
        """The last finite value; None where there is none."""
        values = self.window().values
        finite = values[np.isfinite(values)]
        return float(finite[-1]) if len(finite) else None

    def window(
        self, start_step: int = 0, end_step: int | None = None, neighbours: int = 0
    ) -> Window:
        """Every kept point from ``start_step`` to ``end_step``, both included.

        Args:
            start_step: The first step.
            end_step: The last step; None is the last there is.
            neighbours: How many points beyond either end to add, for lines that leave the window.
        """
        buffers = (self._head, *reversed(self._levels))
        steps = np.concatenate([buffer.steps for buffer in buffers])
        values = np.concatenate([buffer.values for buffer in buffers])
        first = int(np.searchsorted(steps, start_step, side="left"))
        last = len(steps)
        if end_step is not None:
            last = int(np.searchsorted(steps, end_step, side="right"))
        kept = slice(max(0, first - neighbours), last + neighbours)
        return Window(steps[kept], values[kept])

    def _add(self, index: int, steps: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        if index == len(self._levels):
            self._levels.append(_Buffer(self._capacity))
        level = self._levels[index]
        if level.space < len(steps):
            groups = -(-level.length // (2 * _GROUP_POINTS))
            oldest = level.take_first(groups * _GROUP_POINTS)
            self._add(index + 1, *_condense(*oldest))
        level.append(steps, values)


def _condense(
    steps: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Keep of every eight points the smallest and the largest, in order of their steps."""
    grouped = values.reshape(-1, _GROUP_POINTS)
    lowest = np.argmin(np.where(np.isnan(grouped), np.inf, grouped), axis=1)
    highest = np.argmax(np.where(np.isnan(grouped), -np.inf, grouped), axis=1)
    # Equal values: two points that are not the same one.
    highest = np.where(lowest == highest, _GROUP_POINTS - 1, highest)
    lowest = np.where(lowest == highest, 0, lowest)
    kept = np.sort(np.stack([lowest, highest], axis=1), axis=1)
    kept += np.arange(len(grouped))[:, None] * _GROUP_POINTS
    flat = kept.reshape(_KEPT_OF_GROUP * len(grouped))
    return steps[flat], values[flat]


def reduce_columns(window: Window, positions: NDArray[np.float64]) -> Window:
    """Keep of every column the smallest and the largest value, in order of their steps.

    A column of one or two points keeps both; one that holds nothing but gaps keeps a gap.

    Args:
        window: The points.
        positions: Where each point lies in columns, ascending, shape [n]; the integer part is the
            column.
    """
    if len(window) == 0:
        return window
    columns = np.floor(positions).astype(np.int64)
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    counts = np.diff(starts, append=len(columns))
    group = np.repeat(np.arange(len(starts)), counts)
    is_gap = np.isnan(window.values)
    lowest = np.minimum.reduceat(np.where(is_gap, np.inf, window.values), starts)
    highest = np.maximum.reduceat(np.where(is_gap, -np.inf, window.values), starts)
    kept = counts[group] <= _KEPT_OF_GROUP
    for extreme in (lowest, highest):
        matches = np.flatnonzero(window.values == extreme[group])
        _, firsts = np.unique(group[matches], return_index=True)
        kept[matches[firsts]] = True
    kept[starts[np.isposinf(lowest)]] = True
    return Window(window.steps[kept], window.values[kept])


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
