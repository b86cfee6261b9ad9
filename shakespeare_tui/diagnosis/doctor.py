"""The doctor: follows a run event by event and raises each diagnosis when it sets in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from shakespeare_tui.config.schema import Config
from shakespeare_tui.diagnosis import findings as wording
from shakespeare_tui.diagnosis import rules
from shakespeare_tui.diagnosis.findings import Finding
from shakespeare_tui.diagnosis.statistics import Signs, finite
from shakespeare_tui.runs.events import (
    ROLL_BACK,
    CommandApplied,
    DiagnosisRaised,
    EvalCompleted,
    Event,
    LayerStatistics,
    RunFailed,
    RunFinished,
    RunStarted,
    StepCompleted,
)

Diagnosis = Literal[
    "nan",
    "exploding",
    "exploding_gradients",
    "not_learning",
    "vanishing_gradients",
    "updates_too_large",
    "updates_too_small",
    "memorising",
    "overfitting",
    "plateau",
]
Kind = Literal[Diagnosis, "starting", "improving"]

_GRAVEST_FIRST: tuple[Diagnosis, ...] = get_args(Diagnosis)
_STEPS_TO_TRUST_AGAIN = 20
_FINDINGS: dict[Kind, Callable[[Signs], Finding]] = {
    "exploding": wording.exploding,
    "exploding_gradients": wording.exploding_gradients,
    "not_learning": wording.not_learning,
    "vanishing_gradients": wording.vanishing_gradients,
    "updates_too_large": wording.updates_too_large,
    "updates_too_small": wording.updates_too_small,
    "memorising": wording.memorising,
    "overfitting": wording.overfitting,
    "plateau": wording.plateau,
    "improving": wording.improving,
    "starting": wording.starting,
}


@dataclass(frozen=True, slots=True)
class Reading:
    """The doctor's current verdict, for a screen; every text is a single line."""

    kind: Kind
    headline: str
    evidence: str
    advice: str
    since_step: int | None = None
    """The step at which a diagnosis set in; None while nothing is wrong."""


class Doctor:
    """Reads a run's events in order; the same events always give the same state.

    Needs constant time an event and constant memory. A resumed run feeds its earlier events to a
    fresh doctor, live screens and replays feed it the stream they show. After a ``RollBack`` the
    training loss is judged afresh from the step that the run went back to.

    Args:
        vocab_size: Tokens in the vocabulary.
        baselines: Losses of counting alone in nats per token, by name, as far as they are known.
        learning_rate: Peak learning rate of the config.
        warmup_steps: Steps at the start that are not judged, except for a blow-up.
        config: What the advice goes by; by default that of the ``RunStarted``.
    """

    def __init__(
        self,
        vocab_size: int,
        baselines: Mapping[str, float],
        learning_rate: float,
        warmup_steps: int,
        config: Config | None = None,
    ) -> None:
        self._signs = Signs(vocab_size, baselines, learning_rate, warmup_steps, config)
        self._is_config_given = config is not None
        self._since: dict[Diagnosis, int] = {}
        self._failure: Finding | None = None
        self._finite_steps = 0

    def observe(self, event: Event) -> list[DiagnosisRaised]:
        """Take in one event and return the diagnoses that set in with it, gravest first.

        A ``RunStarted`` lets the advice name the config's own values.
        """
        if isinstance(event, StepCompleted):
            return self._observe_step(event)
        if isinstance(event, EvalCompleted):
            return self._observe_evaluation(event)
        if isinstance(event, LayerStatistics):
            return self._observe_layers(event)
        if isinstance(event, CommandApplied):
            self._observe_command(event)
        elif isinstance(event, DiagnosisRaised):
            self._observe_diagnosis(event)
        elif isinstance(event, RunStarted) and not self._is_config_given:
            self._signs.observe_config(event.config)
        elif isinstance(event, RunFinished | RunFailed):
            self._signs.is_over = True
        return []

    def observe_config(self, config: Mapping[str, Any]) -> None:
        """Go by a newer config, as where a run was resumed with changes."""
        self._signs.observe_config(config)

    def advice_on_failure(self) -> str:
        """What to try where a loss or a gradient was not finite."""
        return wording.advice_on_failure(self._signs)

    @property
    def reading(self) -> Reading:
        """The gravest diagnosis that holds, with today's numbers; else how training is doing."""
        for diagnosis in _GRAVEST_FIRST:
            if diagnosis in self._since:
                finding, since_step = self._finding(diagnosis), self._since[diagnosis]
                return _reading(diagnosis, finding, since_step)
        kind: Kind = "starting" if self._signs.is_warming_up else "improving"
        return _reading(kind, _FINDINGS[kind](self._signs), None)

    def _finding(self, kind: Diagnosis) -> Finding:
        if kind == "nan" and self._failure is not None:
            return self._failure
        return _FINDINGS[kind](self._signs)

    # --- events ------------------------------------------------------------------------------

    def _observe_step(self, event: StepCompleted) -> list[DiagnosisRaised]:
        signs = self._signs
        loss = finite(event.loss)
        if loss is None:
            return self._observe_failure(event)
        if event.step < signs.train.last_step:
            self._go_back(event.step - 1)
        self._finite_steps += 1
        if self._finite_steps >= _STEPS_TO_TRUST_AGAIN:
            self._since.pop("nan", None)
        is_trend_due = signs.observe_step(event, loss)
        raised = self._judge("exploding", rules.is_exploding, event)
        if "exploding" not in self._since:
            signs.train.learn_grad_norm()
        if is_trend_due:
            raised += self._judge("not_learning", self._is_not_learning, event)
            raised += self._judge("plateau", self._is_plateau, event)
        return raised

    def _observe_failure(self, event: StepCompleted) -> list[DiagnosisRaised]:
        self._finite_steps = 0
        if "nan" not in self._since:
            self._failure = wording.nan(self._signs, event.step)
        return self._judge("nan", lambda signs, holds: True, event)

    def _observe_evaluation(self, event: EvalCompleted) -> list[DiagnosisRaised]:
        if not self._signs.observe_evaluation(event):
            return []
        memorising = self._judge("memorising", rules.is_memorising, event)
        overfitting = self._judge("overfitting", rules.is_overfitting, event)
        # Memorising says all that overfitting would.
        return (memorising or overfitting) + self._judge("plateau", self._is_plateau, event)

    def _observe_layers(self, event: LayerStatistics) -> list[DiagnosisRaised]:
        signs = self._signs
        if not signs.layers.observe(event) or signs.is_warming_up:
            return []
        raised = self._judge("exploding_gradients", self._is_gradient_exploding, event)
        if "exploding_gradients" not in self._since:
            signs.layers.learn_usual()
        raised += self._judge("vanishing_gradients", rules.is_vanishing, event)
        raised += self._judge("updates_too_large", rules.is_update_too_large, event)
        return raised + self._judge("updates_too_small", rules.is_update_too_small, event)

    def _observe_command(self, event: CommandApplied) -> None:
        signs = self._signs
        if event.command == ROLL_BACK:
            self._go_back(event.step)
            scale = event.arguments.get("rate_scale")
            if isinstance(scale, (int, float)):
                signs.change_peak(event.step, scale * signs.configured_rate)
        elif event.command == "SetLearningRate":
            rate = event.arguments.get("learning_rate")
            if isinstance(rate, (int, float)) and rate > 0:
                signs.change_peak(event.step, rate)

    def _observe_diagnosis(self, event: DiagnosisRaised) -> None:
        """The trainer reports a step that it did not apply; no ``StepCompleted`` tells of it."""
        if event.kind == "nan":
            self._finite_steps = 0
            self._since.setdefault("nan", event.step)
            self._failure = wording.refused(event.evidence, event.advice)

    def _go_back(self, step: int) -> None:
        self._signs.restart()
        self._signs.forget_evaluations_after(step)
        self._since = {kind: since for kind, since in self._since.items() if kind == "nan"}

    # --- judging -----------------------------------------------------------------------------

    def _is_gradient_exploding(self, signs: Signs, holds: bool) -> bool:
        # A loss that has shot up says all that its gradients would.
        return "exploding" not in self._since and rules.is_gradient_exploding(signs, holds)

    def _is_not_learning(self, signs: Signs, holds: bool) -> bool:
        # A model that blew up is not slow to learn: it needs other advice.
        return "exploding" not in self._since and rules.is_not_learning(signs, holds)

    def _is_plateau(self, signs: Signs, holds: bool) -> bool:
        # What explains a standing loss better, and needs other advice, goes before.
        is_explained = any(kind != "plateau" for kind in self._since)
        return not is_explained and rules.is_plateau(signs, holds)

    def _judge(
        self,
        kind: Diagnosis,
        rule: Callable[[Signs, bool], bool],
        event: StepCompleted | EvalCompleted | LayerStatistics,
    ) -> list[DiagnosisRaised]:
        """Note whether ``kind`` holds, and report it where it has just set in."""
        if not rule(self._signs, kind in self._since):
            self._since.pop(kind, None)
            return []
        if kind in self._since:
            return []
        self._since[kind] = event.step
        finding = self._finding(kind)
        return [
            DiagnosisRaised(
                time=event.time,
                step=event.step,
                kind=kind,
                evidence=finding.evidence,
                advice=finding.advice,
            )
        ]


def _reading(kind: Kind, finding: Finding, since_step: int | None) -> Reading:
    return Reading(kind, finding.headline, finding.evidence, finding.advice, since_step)
