"""Running statistics of the loss curves, in memory that does not grow with the run.

Time constants are in steps, not in events, so that a thinned log reads as a full one does.
"""

import dataclasses
import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from shakespeare_tui.config.schema import Config
from shakespeare_tui.models.parameters import block_of
from shakespeare_tui.runs.events import EvalCompleted, LayerStatistics, StepCompleted
from shakespeare_tui.runs.series import TRAIN_LOSS_STEPS, RunningMean

BUCKET_STEPS = 50
"""Steps whose losses are averaged into one point of the trend."""
HORIZON_STEPS = 2000
"""How far back the trend is compared."""

_TREND_WIDTH_STEPS = 500
_NOISE_EVENTS = 50
_RECENT_EVENTS = 5
SMALLEST_RISE = 0.02
"""Nats above the best: less is the noise of evaluations."""
_NORMAL_SD_PER_MEAN_DIFFERENCE = math.sqrt(math.pi) / 2
"""A normal variable's standard deviation over the mean distance of two draws."""


@dataclass(slots=True)
class _Bucket:
    index: int
    total: float
    count: int

    @property
    def mean(self) -> float:
        return self.total / self.count


class TrainCurve:
    """The training loss: level, noise, lowest level and trend.

    Args:
        ceiling: Losses enter the running means at no more than this many nats, so that one
            enormous batch does not hide hundreds of good ones after it.
    """

    def __init__(self, ceiling: float) -> None:
        self._ceiling = ceiling
        self.last_step = 0
        self.first: float | None = None
        """The first loss seen."""
        self.smoothed = 0.0
        """What is called the train loss: the mean over about ``TRAIN_LOSS_STEPS``."""
        self._mean = RunningMean(TRAIN_LOSS_STEPS)
        self.noise = 0.0
        """Standard deviation of a single batch around the trend."""
        self.lowest = math.inf
        """The lowest ``smoothed`` so far, reached at ``lowest_step``."""
        self.lowest_step = 0
        self.last_loss = math.nan
        self.last_grad_norm: float | None = None
        self.usual_grad_norm: float | None = None
        """Geometric running mean of the gradient norm."""
        self._events = 0
        self._recent: deque[float] = deque(maxlen=_RECENT_EVENTS)
        self._closed: deque[_Bucket] = deque(
            maxlen=(HORIZON_STEPS + _TREND_WIDTH_STEPS) // BUCKET_STEPS
        )
        self._open: _Bucket | None = None

    def observe(self, step: int, loss: float, grad_norm: float | None) -> bool:
        """Take in one finite loss; whether the trend gained a point by it."""
        capped = min(loss, self._ceiling)
        self._events += 1
        if self.first is None:
            self.first = loss
        else:
            self._update_noise(abs(capped - min(self.last_loss, self._ceiling)))
        self.smoothed = self._mean.observe(step, capped)
        if self.smoothed < self.lowest:
            self.lowest, self.lowest_step = self.smoothed, step
        self._recent.append(loss)
        self.last_step, self.last_loss, self.last_grad_norm = step, loss, grad_norm
        return self._add_to_trend(step, capped)

    def learn_grad_norm(self) -> None:
        """Count the last gradient norm as usual; the caller leaves out the steps of a spike."""
        grad_norm = self.last_grad_norm
        if grad_norm is None or grad_norm <= 0:
            return
        if self.usual_grad_norm is None:
            self.usual_grad_norm = grad_norm
        else:
            self.usual_grad_norm *= (grad_norm / self.usual_grad_norm) ** (1 / _NOISE_EVENTS)

    def recent_median(self) -> float | None:
        """Median of the last five losses; None before there are five."""
        if len(self._recent) < _RECENT_EVENTS:
            return None
        return sorted(self._recent)[_RECENT_EVENTS // 2]

    def recent_highest(self) -> float:
        """The highest of the last five losses; infinite before there are five."""
        return max(self._recent) if len(self._recent) == _RECENT_EVENTS else math.inf

    def fall_over(self, distance_steps: int, width_steps: int = 100) -> float | None:
        """How much lower the loss is than ``distance_steps`` ago, in nats; None if unknown.

        Compares medians of bucket means over ``width_steps`` at either end.
        """
        ends = self._ends(distance_steps, width_steps)
        if ends is None:
            return None
        old, new = ([bucket.mean for bucket in end] for end in ends)
        return statistics.median(old) - statistics.median(new)

    def long_fall(self) -> float | None:
        """``fall_over`` the horizon; None also where the noise of batches would decide it."""
        ends = self._ends(HORIZON_STEPS, _TREND_WIDTH_STEPS)
        if ends is None:
            return None
        old, new = (sum(bucket.count for bucket in end) for end in ends)
        standard_error = self.noise * math.sqrt(1 / old + 1 / new)
        if standard_error > 0.01:
            return None
        return self.fall_over(HORIZON_STEPS, _TREND_WIDTH_STEPS)

    def _ends(self, distance_steps: int, width_steps: int) -> tuple[list[_Bucket], ...] | None:
        """The closed buckets at either end of the span; None unless both ends are half full."""
        if not self._closed:
            return None
        width = width_steps // BUCKET_STEPS
        last = self._closed[-1].index
        ends = tuple(
            [bucket for bucket in self._closed if end - width < bucket.index <= end]
            for end in (last - distance_steps // BUCKET_STEPS, last)
        )
        return ends if all(2 * len(end) >= width for end in ends) else None

    def _update_noise(self, difference: float) -> None:
        if self._events > 20:
            # A spike must not raise the very bar that it is measured against.
            difference = min(difference, 5 * self.noise)
        sample = difference * _NORMAL_SD_PER_MEAN_DIFFERENCE
        self.noise += (sample - self.noise) / min(self._events - 1, _NOISE_EVENTS)

    def _add_to_trend(self, step: int, loss: float) -> bool:
        index = (step - 1) // BUCKET_STEPS
        bucket = self._open
        if bucket is not None and bucket.index == index:
            bucket.total += loss
            bucket.count += 1
            return False
        self._open = _Bucket(index, loss, 1)
        if bucket is None:
            return False
        self._closed.append(bucket)
        return True


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluation, and the best validation loss up to and including it."""

    step: int
    train: float
    val: float
    best: float
    best_step: int
    best_train: float
    """The training loss of that evaluation."""
    number: int = 1
    """How many there were under this protocol, this one included."""
    rises: int = 0
    """How many in a row, up to this one, were clearly above the best."""

    @property
    def gap(self) -> float:
        """How far validation lies above train, as a share of train."""
        return (self.val - self.train) / self.train if self.train > 0 else 0.0


class EvalCurve:
    """The evaluations of one protocol: the latest, the best, and those of the last 2,000 steps."""

    def __init__(self) -> None:
        self._window: deque[Evaluation] = deque()

    @property
    def latest(self) -> Evaluation | None:
        """The newest evaluation."""
        return self._window[-1] if self._window else None

    @property
    def count(self) -> int:
        """How many evaluations are held."""
        return len(self._window)

    def observe(self, step: int, train: float, val: float) -> Evaluation:
        """Take in one evaluation; a later one of the same step replaces the earlier."""
        self.forget_after(step - 1)
        before = self.latest
        number = before.number + 1 if before else 1
        if before is None or val < before.best:
            evaluation = Evaluation(step, train, val, val, step, train, number)
        else:
            evaluation = dataclasses.replace(
                before,
                step=step,
                train=train,
                val=val,
                number=number,
                rises=before.rises + 1 if val > before.best + SMALLEST_RISE else 0,
            )
        self._window.append(evaluation)
        # One that is older than the horizon stays, to compare with.
        while len(self._window) > 1 and self._window[1].step <= step - HORIZON_STEPS:
            self._window.popleft()
        return evaluation

    def improvement(self) -> float | None:
        """By how much the best loss fell in the last 2,000 steps; None if they are not covered.

        Where evaluations lie further apart, the fall is scaled to 2,000 steps.
        """
        if not self._window:
            return None
        old, new = self._window[0], self._window[-1]
        distance = new.step - old.step
        if distance < HORIZON_STEPS:
            return None
        return (old.best - new.best) * HORIZON_STEPS / distance

    def forget_after(self, step: int) -> None:
        """Drop every evaluation later than ``step``."""
        while self._window and self._window[-1].step > step:
            self._window.pop()


_MEASUREMENTS = 5
_MEASURED_APART_STEPS = 20
_USUAL_MEASUREMENTS = 20
_SILENCE = 1e-12
"""Takes the place of a norm of 0, which has no logarithm."""


class LayerCurves:
    """Gradients and updates of the layers, as medians over the last measurements.

    Those at a hundred steps and more count: of measurements that lie closer together than twenty
    steps some are left out.
    """

    def __init__(self) -> None:
        self._recent: deque[LayerStatistics] = deque(maxlen=_MEASUREMENTS)
        self.gradients: dict[str, float] = {}
        """‖g‖₂ by layer; empty until there are enough."""
        self.ratios: dict[str, float] = {}
        """‖Δw‖₂ / ‖w‖₂ by layer."""
        self.usual: dict[str, float] = {}
        """Geometric running mean of ‖g‖₂ by layer."""

    def observe(self, event: LayerStatistics) -> bool:
        """Take in a measurement; whether there is something to judge."""
        if self._recent and event.step - self._recent[-1].step < _MEASURED_APART_STEPS:
            return False
        if self._recent and self._recent[-1].layers != event.layers:
            self._recent.clear()
        self._recent.append(event)
        if len(self._recent) < _MEASUREMENTS:
            return False
        self.gradients = self._medians([each.grad_norms for each in self._recent])
        self.ratios = self._medians([each.update_ratios for each in self._recent])
        return True

    def _medians(self, measured: list[list[float | None]]) -> dict[str, float]:
        medians = {}
        for layer, values in zip(self._recent[-1].layers, zip(*measured, strict=True), strict=True):
            known = [value for value in map(finite, values) if value is not None]
            if known:
                medians[layer] = max(statistics.median(known), _SILENCE)
        return medians

    def learn_usual(self) -> None:
        """Count the gradients as usual; the caller leaves out those that have blown up."""
        for layer, norm in self.gradients.items():
            usual = self.usual.setdefault(layer, norm)
            self.usual[layer] = usual * (norm / usual) ** (1 / _USUAL_MEASUREMENTS)

    @property
    def blocks(self) -> list[tuple[int, float]]:
        """The gradient of each block, first to last: its number, and the mean of its layers'."""
        found: dict[int, list[float]] = {}
        for layer, norm in self.gradients.items():
            if (number := block_of(layer)) is not None:
                found.setdefault(number, []).append(norm)
        return [(n, statistics.geometric_mean(found[n])) for n in sorted(found)]

    @property
    def block_ratios(self) -> dict[str, float]:
        """The update ratios of the layers in blocks: those of embeddings and norms are others."""
        return {name: ratio for name, ratio in self.ratios.items() if block_of(name) is not None}


_SHORTEST_START_STEPS = 20
_RISE = 1.001
"""A rate this many times the highest so far counts as still rising."""


class Signs:
    """The curves, the learning rate and the reference losses that rules and wording read.

    Args:
        vocab_size: Tokens in the vocabulary.
        baselines: Losses of counting alone in nats per token, by name, as far as they are known.
        learning_rate: The config's peak rate.
        warmup_steps: Steps that are not judged.
        config: The config of a run that goes on with another than its log begins with.
    """

    def __init__(
        self,
        vocab_size: int,
        baselines: Mapping[str, float],
        learning_rate: float,
        warmup_steps: int,
        config: Config | None = None,
    ) -> None:
        self.uniform_loss = math.log(max(vocab_size, 2))
        self.baselines = baselines
        self.warmup_steps = warmup_steps
        self.configured_rate = learning_rate
        self.peak_rate = learning_rate
        """The schedule's peak after what commands made of it."""
        self.rate = 0.0
        """The last step's learning rate."""
        self.config = config
        self.is_over = False
        """Whether the run has ended: nothing more can be done in it."""
        self.restart()
        self._evals: dict[str, EvalCurve] = {}
        self._protocol: str | None = None

    def restart(self) -> None:
        """Forget the training loss, as where a run went back to an earlier step."""
        self.train = TrainCurve(ceiling=2 * self.uniform_loss)
        self.layers = LayerCurves()
        self.rate_at_lowest = 0.0
        """The learning rate of the step at which the loss was lowest."""
        self._highest_rate = 0.0
        self._settled_step = self.warmup_steps

    def forget_evaluations_after(self, step: int) -> None:
        """Drop every evaluation later than ``step``."""
        for curve in self._evals.values():
            curve.forget_after(step)

    def observe_config(self, config: Mapping[str, Any]) -> None:
        """Take a config for the advice; one of another version is left out."""
        try:
            self.config = Config.model_validate(config)
        except ValidationError:
            self.config = None

    def observe_step(self, event: StepCompleted, loss: float) -> bool:
        """Take in a step of finite ``loss``; whether the trend gained a point by it."""
        self.is_over = False
        self.rate = event.learning_rate
        if self.rate > _RISE * self._highest_rate:
            # A rate that still rises is not judged yet.
            self._highest_rate = self.rate
            self._settled_step = max(self._settled_step, event.step)
        is_trend_due = self.train.observe(event.step, loss, finite(event.grad_norm))
        if self.train.lowest_step == event.step:
            self.rate_at_lowest = self.rate
        return is_trend_due

    def observe_evaluation(self, event: EvalCompleted) -> bool:
        """Take in an evaluation; False where it holds nothing to judge."""
        val, train = finite(event.val_loss), finite(event.train_loss)
        if train is None and self.train.first is not None:
            train = self.train.smoothed
        if val is None or train is None:
            return False
        self._protocol = event.protocol
        self._evals.setdefault(event.protocol, EvalCurve()).observe(event.step, train, val)
        return True

    def change_peak(self, step: int, peak_rate: float) -> None:
        """A command set another peak rate; what it does is judged from here."""
        self.peak_rate = peak_rate
        self._settled_step = max(self._settled_step, step)

    @property
    def is_warming_up(self) -> bool:
        """Whether it is too early to judge anything but a blow-up."""
        return self.train.last_step <= max(self.warmup_steps, _SHORTEST_START_STEPS)

    @property
    def settled_steps(self) -> int:
        """Steps since the learning rate last rose."""
        return self.train.last_step - self._settled_step

    @property
    def is_rate_decayed(self) -> bool:
        """Whether the schedule has brought the rate to half its peak or less."""
        return self.rate <= 0.5 * self.peak_rate

    @property
    def evaluations(self) -> EvalCurve | None:
        """The evaluations of the protocol that was used last."""
        return self._evals.get(self._protocol) if self._protocol is not None else None

    @property
    def evaluation(self) -> Evaluation | None:
        """The last evaluation."""
        return self.evaluations.latest if self.evaluations is not None else None

    @property
    def is_first_evaluation(self) -> bool:
        """Whether the last evaluation is the only one to go by in its protocol."""
        return self.evaluations is not None and self.evaluations.count == 1

    @property
    def highest_normal_loss(self) -> float:
        """The worst loss of a fresh model in nats: above it, training has made things worse."""
        return max(self.uniform_loss, self.train.first or 0.0)


def finite(value: float | None) -> float | None:
    """``value``, or None where it is NaN or infinite, as it would be read from a log."""
    return value if value is not None and math.isfinite(value) else None
