"""What a screen shows of a run, built from its events in memory that does not grow with it."""

import copy
import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from shakespeare_tui.chart_axes import Axis
from shakespeare_tui.data.tokenizers.kinds import token_noun
from shakespeare_tui.diagnosis import Doctor, Reading
from shakespeare_tui.files import as_number
from shakespeare_tui.formatting import format_duration, format_rate
from shakespeare_tui.runs.events import (
    ROLL_BACK,
    CheckpointEvaluated,
    CheckpointSaved,
    CommandApplied,
    DiagnosisRaised,
    EvalCompleted,
    EvalProgressed,
    Event,
    LayerStatistics,
    RunFailed,
    RunFinished,
    RunStarted,
    SampleGenerated,
    StepCompleted,
)
from shakespeare_tui.runs.length import RunLength
from shakespeare_tui.runs.losses import Loss, TokenUnit, best_of
from shakespeare_tui.runs.series import (
    SMOOTHING_STEPS,
    BoundedList,
    SmoothedSeries,
    StepSeries,
    Window,
    reduce_columns,
)
from shakespeare_tui.runs.state import RunState, state_after

MarkerKind = Literal["checkpoint", "best", "sample", "diagnosis", "command"]


@dataclass(frozen=True, slots=True)
class Marker:
    """Something worth a mark on the chart; ``text`` is a single line."""

    step: int
    kind: MarkerKind
    text: str


def describe_command(event: CommandApplied) -> str:
    """A command with its arguments as a person reads it, on a single line."""
    arguments = event.arguments
    match event.command:
        case "SetLearningRate":
            rate = as_number(arguments.get("learning_rate"))
            return "learning rate" if rate is None else f"learning rate {format_rate(rate, 3)}"
        case "ExtendRun":
            steps, minutes = as_number(arguments.get("steps")), as_number(arguments.get("minutes"))
            if steps:
                return f"extended by {steps:,.0f} steps"
            return f"extended by {format_duration(60 * (minutes or 0))}"
        case "AddNote":
            return f"note: {one_line(str(arguments.get('text', '')))}"
        case "RollBack":
            return f"went back to step {event.step:,}"
        case "SaveCheckpoint":
            return "checkpoint asked for"
        case "GenerateSample":
            return "sample asked for"
        case other:
            return other.lower()


def one_line(text: str, longest: int = 60) -> str:
    """``text`` without line breaks, cut off where it is longer than ``longest``."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


STEP_SERIES = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "elapsed_seconds")
"""Series with a point for every step, named as the fields of ``StepCompleted``."""
EVALUATION_SERIES = ("val_loss", "train_loss", "accuracy")
"""Series with a point for every evaluation under the run's usual protocol."""
OTHER_EVALUATIONS = {"other_val_loss": "val_loss", "other_accuracy": "accuracy"}
"""Series of those under any other protocol, such as the exact one at the end."""

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
        for name in (*EVALUATION_SERIES, *OTHER_EVALUATIONS):
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
        is_usual = event.protocol == self.protocol
        names = {name: name for name in EVALUATION_SERIES} if is_usual else OTHER_EVALUATIONS
        for name, field in names.items():
            self._series[name].truncate(event.step - 1)
            self._series[name].extend([event.step], [getattr(event, field)])

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
        """One of ``STEP_SERIES``, ``EVALUATION_SERIES`` and ``OTHER_EVALUATIONS``."""
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
        ends = {name: self._series[name].window(0, step) for name in EVALUATION_SERIES}
        if len(ends["val_loss"]) == 0:
            return None
        values = {name: float(end.values[-1]) for name, end in ends.items()}
        accuracy = values["accuracy"]
        return EvalCompleted(
            time=time,
            step=int(ends["val_loss"].steps[-1]),
            val_loss=values["val_loss"],
            train_loss=values["train_loss"],
            accuracy=accuracy if math.isfinite(accuracy) else None,
            protocol=self.protocol or "",
        )


Phase = Literal["empty", "running", "paused", "finished", "failed"]

_LONGEST_TEXT = 8000
_MOST_ITEMS = 1000


@dataclass(frozen=True, slots=True)
class Best:
    """The step with the lowest validation loss, and the figure of it that counts."""

    step: int
    loss: Loss


class RunHistory:
    """Everything about one run that a reader of its stream shows.

    Not safe for use by several threads at once. ``revision`` changes with every event, so that a
    screen draws only what is new.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything, as before the first event."""
        self.revision += 1
        self.started: RunStarted | None = None
        self.finished: RunFinished | None = None
        self.failed: RunFailed | None = None
        self.phase: Phase = "empty"
        self.config: dict[str, Any] = {}
        self.last: StepCompleted | None = None
        self.last_evaluation: EvalCompleted | None = None
        self.last_time = 0.0
        """When the latest event happened, Unix seconds."""
        self.extra_steps = 0
        self.extra_minutes = 0.0
        self.samples: BoundedList[SampleGenerated] = BoundedList(400)
        self.diagnoses: BoundedList[DiagnosisRaised] = BoundedList(_MOST_ITEMS)
        self.commands: BoundedList[CommandApplied] = BoundedList(_MOST_ITEMS)
        self.markers: BoundedList[Marker] = BoundedList(4 * _MOST_ITEMS)
        self.layers: BoundedList[LayerStatistics] = BoundedList(_MOST_ITEMS)
        self._curves = RunCurves()
        self._doctor: Doctor | None = None
        self.evaluating: EvalProgressed | None = None
        """How far a long evaluation is, while one is under way."""
        self._evaluated: dict[int, dict[str, Loss]] = {}
        """Validation losses by step, in ascending order, and protocol."""
        self._best: tuple[int, Best | None] | None = None
        """The best as of a revision."""

    def copy(self) -> "RunHistory":
        """Another history that stands where this one does."""
        return copy.deepcopy(self)

    def take_over(self, other: "RunHistory") -> None:
        """Stand where ``other`` does; it is left as it is."""
        revision = self.revision + 1
        self.__dict__.update(other.copy().__dict__)
        self.revision = revision

    # --- events ------------------------------------------------------------------------------

    def extend(self, events: Iterable[Event]) -> None:
        """Take in several events in order."""
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take in one event."""
        self.revision += 1
        self.last_time = event.time
        self.evaluating = event if isinstance(event, EvalProgressed) else None
        if isinstance(event, StepCompleted):
            self._on_step(event)
        elif isinstance(event, EvalCompleted):
            self._on_evaluation(event)
        elif isinstance(event, LayerStatistics):
            self._on_layers(event)
        elif isinstance(event, CheckpointEvaluated):
            self._note_loss(event)
        elif isinstance(event, SampleGenerated):
            shortened = dataclasses.replace(event, text=_shortened(event.text))
            self.samples.append(shortened)
            self._mark(event.step, "sample", f"sample {one_line(event.prompt)!r}")
        elif isinstance(event, CheckpointSaved):
            what = "best checkpoint" if event.best else "checkpoint"
            self._mark(event.step, "best" if event.best else "checkpoint", what)
        elif isinstance(event, DiagnosisRaised):
            self.diagnoses.append(event)
            self._mark(event.step, "diagnosis", event.kind.replace("_", " "))
        elif isinstance(event, CommandApplied):
            self._on_command(event)
        elif isinstance(event, RunStarted):
            self._on_start(event)
        elif isinstance(event, RunFinished):
            self.finished, self.failed, self.phase = event, None, "finished"
        elif isinstance(event, RunFailed):
            self.failed, self.finished, self.phase = event, None, "failed"
        if self._doctor is not None:
            self._doctor.observe(event)

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Take a newer config than ``RunStarted`` told, as where a run was resumed with changes."""
        self.config = dict(config)
        if self._doctor is not None:
            self._doctor.observe_config(config)
        self.revision += 1

    def _on_start(self, event: RunStarted) -> None:
        self.reset()
        self.started, self.config, self.phase = event, dict(event.config), "running"
        self.last_time = event.time
        section = event.config.get("training")
        training = section if isinstance(section, dict) else {}
        self._doctor = Doctor(
            vocab_size=event.vocab_size,
            baselines=event.baselines,
            learning_rate=as_number(training.get("learning_rate")) or 1e-3,
            warmup_steps=int(as_number(training.get("warmup_steps")) or 0),
        )

    def _on_step(self, event: StepCompleted) -> None:
        if self.last is not None and event.step <= self.last.step:
            self.drop_after(event.step - 1)
        self.last, self.finished, self.failed, self.phase = event, None, None, "running"
        self._curves.add_step(event)

    def _on_layers(self, event: LayerStatistics) -> None:
        before = self.layers[-1].layers if len(self.layers) else []
        if before == event.layers:
            # The names of a deep model are longer than its figures: kept once.
            event = dataclasses.replace(event, layers=before)
        if len(self.layers) and self.layers[-1].step >= event.step:
            self.layers.keep_only(lambda item: item.step < event.step)
        self.layers.append(event)

    def _on_evaluation(self, event: EvalCompleted) -> None:
        self.last_evaluation = event
        self._curves.add_evaluation(event)
        self._note_loss(event)

    def _note_loss(self, event: EvalCompleted | CheckpointEvaluated) -> None:
        if event.val_loss is None:
            return
        step, protocol = event.step, event.protocol
        is_latest = not self._evaluated or step >= next(reversed(self._evaluated))
        loss = Loss(event.val_loss, protocol, accuracy=event.accuracy)
        self._evaluated.setdefault(step, {})[protocol] = loss
        if not is_latest:
            self._evaluated = dict(sorted(self._evaluated.items()))
        if len(self._evaluated) > 2 * _MOST_ITEMS and (best := self.best) is not None:
            kept = {best.step, *[*self._evaluated][-_MOST_ITEMS:]}
            self._evaluated = {s: found for s, found in self._evaluated.items() if s in kept}

    def _losses_of(self, step: int) -> list[Loss]:
        return sorted(self._evaluated[step].values(), key=lambda loss: not loss.is_exact)

    def _on_command(self, event: CommandApplied) -> None:
        if event.command == ROLL_BACK:
            self.drop_after(event.step)
        elif event.command == "Pause":
            self.phase = "paused"
        elif event.command in ("Resume", "Stop"):
            self.phase = "running"
        elif event.command == "ExtendRun":
            self._extend_run(event, 1)
        self.commands.append(event)
        self._mark(event.step, "command", describe_command(event))

    def _extend_run(self, command: CommandApplied, sign: int) -> None:
        self.extra_steps += sign * int(as_number(command.arguments.get("steps")) or 0)
        self.extra_minutes += sign * (as_number(command.arguments.get("minutes")) or 0.0)

    def _mark(self, step: int, kind: MarkerKind, text: str) -> None:
        self.markers.append(Marker(step, kind, text))

    def drop_after(self, step: int) -> None:
        """Forget what came after ``step``: the run went back to it."""
        self.revision += 1
        self._curves.truncate(step)
        self.samples.keep_only(lambda item: item.step <= step)
        self.diagnoses.keep_only(lambda item: item.step <= step)
        for command in self.commands:
            if command.step > step and command.command == "ExtendRun":
                self._extend_run(command, -1)
        self.commands.keep_only(lambda item: item.step <= step)
        self.markers.keep_only(lambda item: item.step <= step)
        self.layers.keep_only(lambda item: item.step <= step)
        self._evaluated = {s: found for s, found in self._evaluated.items() if s <= step}
        if self.last_evaluation is not None and self.last_evaluation.step > step:
            self.last_evaluation = self._curves.evaluation_before(step, self.last_time)
        if self.last is not None and self.last.step > step:
            self.last = self._curves.step_before(step, self.last_time)

    # --- readings ----------------------------------------------------------------------------

    @property
    def ending(self) -> RunState | None:
        """How the run ended; None where it goes on, or where nothing tells of its end."""
        event = self.finished or self.failed
        return None if event is None else state_after(event)

    @property
    def reading(self) -> Reading | None:
        """The doctor's current verdict; None before the run began."""
        return self._doctor.reading if self._doctor is not None else None

    @property
    def baselines(self) -> dict[str, float]:
        """Reference losses in nats per token, by name."""
        return self.started.baselines if self.started else {}

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary, 0 where it is not known."""
        return self.started.vocab_size if self.started else 0

    @property
    def token_noun(self) -> str:
        """What its losses are by: ``token`` or ``word``."""
        data = self.config.get("data")
        return token_noun(data.get("tokenizer") if isinstance(data, dict) else None)

    @property
    def characters_per_token(self) -> float:
        """Of the validation text; 1 where each is a token, 0 where tokens do not say that text."""
        return self.started.characters_per_token if self.started else 1.0

    @property
    def unit(self) -> TokenUnit:
        """What its losses are counted in."""
        if self.started is None:
            return TokenUnit("", None)
        tokenizer = self.started.tokenizer_sha256 or str(self.started.vocab_size)
        return TokenUnit(tokenizer, self.started.bytes_per_token or None)

    @property
    def last_step(self) -> int:
        """The latest step, 0 before the first."""
        return self.last.step if self.last else 0

    @property
    def planned_steps(self) -> int | None:
        """The run's length with what commands added; None under a time budget, or not known."""
        length = self.length
        if length is None or length.budget_minutes is not None:
            return None
        return max(length.last_step, self.last_step)

    @property
    def planned_minutes(self) -> float | None:
        """The run's time budget with what commands added; None where there is none."""
        return None if self.length is None else self.length.budget_minutes

    @property
    def length(self) -> RunLength | None:
        """Where the run ends, as far as its events have come; None where it is not known."""
        max_steps = self._training_setting("max_steps")
        if max_steps is None:
            return None
        minutes = self._training_setting("minutes")
        return RunLength(int(max_steps), minutes, self.extra_steps, self.extra_minutes)

    def _training_setting(self, name: str) -> float | None:
        training = self.config.get("training")
        return as_number(training.get(name)) if isinstance(training, dict) else None

    @property
    def best(self) -> Best | None:
        """The step with the lowest validation loss of those that compare; see ``best_of``."""
        if self._best is None or self._best[0] != self.revision:
            latest = self._losses_of(next(reversed(self._evaluated))) if self._evaluated else []
            prefer = latest[-1].protocol if latest else None
            step = best_of(self._evaluated, self._losses_of, prefer)
            best = None if step is None else Best(step, self._losses_of(step)[0])
            self._best = self.revision, best
        return self._best[1]

    @property
    def failure(self) -> str:
        """Why the run failed, in one line; what the doctor explains is left to the doctor."""
        if self.failed is None:
            return ""
        reading = self.reading
        if reading is not None and reading.kind == "nan":
            return "training diverged: the Doctor part says why and what to try"
        return self.failed.error

    @property
    def usual_protocol(self) -> str:
        """How the points of the series ``val_loss`` were measured."""
        return self._curves.protocol or ""

    def series(self, name: str) -> StepSeries:
        """As ``RunCurves.series``."""
        return self._curves.series(name)

    def smoothed_loss(self, smoothing_steps: int) -> StepSeries:
        """The training loss's exponential mean; a time constant of ``SMOOTHING_STEPS``."""
        return self._curves.smoothed_loss(smoothing_steps)

    def series_window(
        self,
        name: str,
        start_step: int,
        end_step: int,
        columns: int,
        *,
        smoothing_steps: int = 1,
        is_log: bool = False,
    ) -> Window:
        """A series between two steps, at most two points a column: the smallest and the largest.

        Args:
            name: The series; ``loss`` may be smoothed.
            start_step: The first step; at least 1 where ``is_log``.
            end_step: The last step.
            columns: Columns of the chart.
            smoothing_steps: Time constant of the mean, of ``SMOOTHING_STEPS``.
            is_log: Whether columns have equal factors of steps instead of equal numbers.

        Returns:
            The points, and one neighbour on either side for the lines that leave the window.
        """
        return self._curves.window(
            name, start_step, end_step, columns, smoothing_steps=smoothing_steps, is_log=is_log
        )


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"
