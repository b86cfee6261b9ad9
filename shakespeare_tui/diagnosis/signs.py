"""Everything that the doctor has measured of a run so far."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from shakespeare_tui.config.schema import Config
from shakespeare_tui.diagnosis.statistics import EvalCurve, Evaluation, TrainCurve
from shakespeare_tui.runs.events import EvalCompleted, StepCompleted

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
