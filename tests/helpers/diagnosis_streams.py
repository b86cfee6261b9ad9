"""Event streams for the doctor's tests: recorded runs and made-up ones."""

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from shakespeare_tui.diagnosis import Doctor
from shakespeare_tui.runs.events import DiagnosisRaised, EvalCompleted, Event, StepCompleted

BASELINES = {"uniform": 4.174, "unigram": 3.347, "bigram": 2.49}
"""Of Tiny Shakespeare."""
CURVES = Path(__file__).parents[1] / "diagnosis" / "curves"


def step_event(step: int, loss: float | None, rate: float = 1e-3, grad_norm: float | None = 1.0):
    return StepCompleted(
        time=float(step),
        step=step,
        loss=loss,
        learning_rate=rate,
        grad_norm=grad_norm,
        tokens_per_second=1e4,
        elapsed_seconds=float(step),
    )


def eval_event(step: int, train: float | None, val: float, protocol: str = "subset"):
    return EvalCompleted(
        time=float(step), step=step, train_loss=train, val_loss=val, protocol=protocol
    )


def recorded(name: str) -> dict:
    return json.loads((CURVES / f"{name}.json").read_text())


def events_of(curve: dict) -> list[Event]:
    """The stream of a recorded run; an evaluation comes after the step that it is of."""
    events: list[Event] = [step_event(*point) for point in curve["steps"]]
    events += [eval_event(*point) for point in curve["evals"]]
    return sorted(events, key=lambda event: (event.time, isinstance(event, EvalCompleted)))


def doctor_for(curve: dict | None = None) -> Doctor:
    curve = curve or {
        "vocab_size": 65,
        "unigram_loss": 3.347,
        "learning_rate": 1e-3,
        "warmup_steps": 50,
    }
    keys = ("vocab_size", "learning_rate", "warmup_steps")
    return Doctor(baselines=BASELINES, **{key: curve[key] for key in keys})


def observe(doctor: Doctor, events: Iterable[Event]) -> list[DiagnosisRaised]:
    return [raised for event in events for raised in doctor.observe(event)]


def kinds(raised: list[DiagnosisRaised]) -> list[str]:
    return [diagnosis.kind for diagnosis in raised]


def noisy(
    level: float, steps: Iterable[int], seed: int = 0, rate: float = 1e-3
) -> Iterator[StepCompleted]:
    generator = random.Random(seed)
    return (step_event(step, level + generator.gauss(0, 0.05), rate) for step in steps)


def falling(steps: Iterable[int], seed: int = 0) -> Iterator[StepCompleted]:
    """A made-up healthy run: from 4.2 towards 1.4."""
    generator = random.Random(seed)
    for step in steps:
        yield step_event(step, 1.4 + 2.8 * (1 + step / 60) ** -0.7 + generator.gauss(0, 0.05))
