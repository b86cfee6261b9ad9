"""The numbers of a run over its steps, in memory that does not grow with it."""

import math

import numpy as np

from shakespeare_tui.chart_axes import Axis
from shakespeare_tui.runs.events import EvalCompleted, StepCompleted
from shakespeare_tui.runs.series import StepSeries, Window, reduce_columns
from shakespeare_tui.runs.smoothing import SMOOTHING_STEPS, SmoothedSeries

STEP_SERIES = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "elapsed_seconds")
"""Series with a point for every step, named as the fields of ``StepCompleted``."""
EVALUATION_SERIES = ("val_loss", "train_loss")
"""Series with a point for every evaluation under the run's usual protocol."""
OTHER_EVALUATIONS = "other_val_loss"
"""Validation losses under any other protocol, such as the exact one at the end."""

_PENDING_STEPS = 512
_LOSS_CAPACITY = 32768
"""The training loss is what is zoomed into."""
_EVALUATIONS_CAPACITY = 2048


class RunCurves:
    """The series of one run, the training loss also smoothed.

    Attributes:
        protocol: The run's usual way to evaluate: that of its first evaluation.
    """

    def __init__(self) -> None:
        self.protocol: str | None = None
        self._series = {name: StepSeries() for name in STEP_SERIES}
        self._series["loss"] = StepSeries(_LOSS_CAPACITY)
        for name in (*EVALUATION_SERIES, OTHER_EVALUATIONS):
            self._series[name] = StepSeries(_EVALUATIONS_CAPACITY)
        self._smoothed = {steps: SmoothedSeries(steps) for steps in SMOOTHING_STEPS[1:]}
        self._pending: list[StepCompleted] = []

    def add_step(self, event: StepCompleted) -> None:
        """Take in a step, later than all before it."""
        self._pending.append(event)
        if len(self._pending) >= _PENDING_STEPS:
            self._settle()

    def add_evaluation(self, event: EvalCompleted) -> None:
        """Take in an evaluation; of a step that is evaluated again the last one counts."""
        if self.protocol is None:
            self.protocol = event.protocol
        names = EVALUATION_SERIES if event.protocol == self.protocol else (OTHER_EVALUATIONS,)
        for name in names:
            value = event.train_loss if name == "train_loss" else event.val_loss
            self._series[name].truncate(event.step - 1)
            self._series[name].extend([event.step], [value])

    def truncate(self, step: int) -> None:
        """Forget every point later than ``step``."""
        self._settle()
        for series in self._series.values():
            series.truncate(step)
        for smoothed in self._smoothed.values():
            smoothed.truncate(step)

    def _settle(self) -> None:
        """Move waiting steps into the series, many at a time."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        steps = [event.step for event in pending]
        for name in STEP_SERIES:
            self._series[name].extend(steps, [getattr(event, name) for event in pending])
        losses = [event.loss for event in pending]
        for smoothed in self._smoothed.values():
            smoothed.extend(steps, losses)

    # --- readings ----------------------------------------------------------------------------

    def series(self, name: str) -> StepSeries:
        """One of ``STEP_SERIES``, ``EVALUATION_SERIES`` or ``OTHER_EVALUATIONS``."""
        self._settle()
        return self._series[name]

    def smoothed_loss(self, smoothing_steps: int) -> StepSeries:
        """The training loss's exponential mean; a time constant of ``SMOOTHING_STEPS``."""
        self._settle()
        if smoothing_steps == 1:
            return self._series["loss"]
        return self._smoothed[smoothing_steps].series

    def window(
        self,
        name: str,
        start_step: int,
        end_step: int,
        columns: int,
        *,
        smoothing_steps: int = 1,
        is_log: bool = False,
    ) -> Window:
        """As ``RunHistory.series_window``."""
        series = self.smoothed_loss(smoothing_steps) if name == "loss" else self.series(name)
        window = series.window(start_step, end_step, neighbours=1)
        axis = Axis(start_step, max(end_step, start_step + 1), columns, is_log)
        positions = axis.position(window.steps)
        # The last step belongs to the last column.
        is_inside = window.steps <= end_step
        positions[is_inside] = np.minimum(positions[is_inside], np.nextafter(columns, 0))
        return reduce_columns(window, positions)

    def step_before(self, step: int, time: float) -> StepCompleted | None:
        """The last kept step up to ``step``, as the event that brought it; None before the first.

        Args:
            step: The step.
            time: The event's time, which series do not keep.
        """
        ends = {name: self.series(name).window(0, step) for name in STEP_SERIES}
        if len(ends["loss"]) == 0:
            return None
        values = {name: float(end.values[-1]) for name, end in ends.items()}
        loss, grad_norm = values.pop("loss"), values.pop("grad_norm")
        return StepCompleted(
            time=time,
            step=int(ends["loss"].steps[-1]),
            loss=loss if math.isfinite(loss) else None,
            grad_norm=grad_norm if math.isfinite(grad_norm) else None,
            **values,
        )

    def evaluation_before(self, step: int, time: float) -> EvalCompleted | None:
        """The last evaluation up to ``step`` under the usual protocol; None before the first."""
        val = self._series["val_loss"].window(0, step)
        train = self._series["train_loss"].window(0, step)
        if len(val) == 0:
            return None
        return EvalCompleted(
            time=time,
            step=int(val.steps[-1]),
            val_loss=float(val.values[-1]),
            train_loss=float(train.values[-1]),
            protocol=self.protocol or "",
        )
