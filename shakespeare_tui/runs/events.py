"""The typed events that training emits, and their one-line JSON form.

Every reader of a run (live screen, console, ``events.jsonl``, attached or replayed screen) consumes
these and nothing else.
"""

import dataclasses
import json
import math
import time as clock
from dataclasses import dataclass, field
from typing import Any, ClassVar

from shakespeare_tui.loose_values import parse_json

ROLL_BACK = "RollBack"
"""The ``CommandApplied`` after which everything later than its step no longer counts."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a run; ``time`` is Unix seconds."""

    time: float = field(default_factory=clock.time)
    registry: ClassVar[dict[str, "type[Event]"]] = {}

    def __init_subclass__(cls) -> None:
        """Make every event readable back by its class name."""
        Event.registry[cls.__name__] = cls

    def to_json(self) -> str:
        """One line of JSON without a newline; non-finite numbers become null."""
        body = {f.name: _finite(getattr(self, f.name)) for f in dataclasses.fields(self)}
        return json.dumps({"type": type(self).__name__, **body}, ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A run began; ``config`` is the resolved config, ``parameters`` the trainable count."""

    run: str
    config: dict[str, Any]
    parameters: int
    device: str
    corpus: str = ""
    characters: int = 0
    vocab_size: int = 0
    precision: str = "float32"
    baselines: dict[str, float] = field(default_factory=dict)
    """Reference losses in nats per token on the validation split: uniform, unigram, bigram, …"""


@dataclass(frozen=True, kw_only=True)
class StepCompleted(Event):
    """One optimiser step; ``loss`` in nats per token, None where it was not finite."""

    step: int
    loss: float | None
    learning_rate: float
    grad_norm: float | None
    tokens_per_second: float
    elapsed_seconds: float


@dataclass(frozen=True, kw_only=True)
class EvalCompleted(Event):
    """Losses in nats per token under the named ``protocol``; accuracy is of the next token.

    The training split may have been measured by another: ``train_protocol``, where it is known.
    """

    step: int
    train_loss: float | None
    val_loss: float | None
    protocol: str
    accuracy: float | None = None
    train_protocol: str = ""


@dataclass(frozen=True, kw_only=True)
class EvalProgressed(Event):
    """A long evaluation has read ``done`` of ``total`` tokens."""

    step: int
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class CheckpointEvaluated(Event):
    """A checkpoint on disk, of this step or an earlier one, was measured under ``protocol``."""

    step: int
    val_loss: float | None
    protocol: str
    accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class SampleGenerated(Event):
    """Text from a fixed prompt and seed; ``text`` is the continuation without the prompt."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint is on disk; ``path`` is relative to the run folder."""

    step: int
    path: str
    val_loss: float | None
    best: bool = False


@dataclass(frozen=True, kw_only=True)
class DiagnosisRaised(Event):
    """The doctor's reading changed: ``evidence`` in numbers, ``advice`` is what to try."""

    step: int
    kind: str
    evidence: str
    advice: str


@dataclass(frozen=True, kw_only=True)
class CommandApplied(Event):
    """A command took effect before ``step`` + 1."""

    step: int
    command: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """The run ended in order: completed, target, patience, stopped or interrupted."""

    step: int
    reason: str
    val_loss: float | None
    protocol: str = "exact"


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """The run could not go on; ``error`` is one line for the user."""

    step: int
    error: str


def event_from_json(line: str | bytes) -> Event | None:
    """Read one line of ``events.jsonl``; None for a type this version does not know.

    Fields that this version does not know are dropped, so that newer logs stay readable.

    Raises:
        ValueError: The line is not a JSON object with the fields of its type.
    """
    record = parse_json(line)
    if not isinstance(record, dict):
        raise ValueError("an event is a JSON object")
    event_type = Event.registry.get(str(record.pop("type", "")))
    if event_type is None:
        return None
    known = {f.name for f in dataclasses.fields(event_type)}
    try:
        return event_type(**{name: value for name, value in record.items() if name in known})
    except TypeError as error:
        raise ValueError(str(error)) from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
