"""The typed events that training emits, and their one-line JSON form.

Every reader of a run (live screen, console, ``events.jsonl``, attached or replayed screen) consumes
these and nothing else.
"""

import dataclasses
import json
import math
import time as clock
import types
import typing
from dataclasses import dataclass, field
from typing import Any, ClassVar

from shakespeare_tui.files import parse_json

ROLL_BACK = "RollBack"
"""The ``CommandApplied`` after which everything later than its step no longer counts."""
PRUNED = "pruned"
"""The ``reason`` of a run that a search ended early, because it would not have won."""


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
    train_tokens: int = 0
    val_tokens: int = 0
    """Of the two parts of the corpus; 0 in logs that are older."""
    precision: str = "float32"
    baselines: dict[str, float] = field(default_factory=dict)
    """Reference losses in nats per token on the validation split: uniform, unigram, bigram, …"""
    tokens: int = 0
    """Of the corpus; 0 in older logs, when each was a character."""
    characters_per_token: float = 1.0
    """On the validation split; 0 where the tokens do not say its text."""
    tokenizer_sha256: str = ""
    bytes_per_token: float = 0.0
    """As in ``RunInfo``; empty and 0 in older logs, and 0 where that has none."""
    pretrained: str = ""
    """As in ``RunInfo``; empty where nothing was imported, and in older logs."""
    teachers: list[str] = field(default_factory=list)
    """The checkpoints that it learns from beside the text; losses are those of the text alone."""

    @property
    def corpus_tokens(self) -> int:
        """Tokens of the whole corpus."""
        return self.tokens or self.characters


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
class LayerStatistics(Event):
    """How strongly a step taught each layer, and how far it moved it; frozen layers are left out.

    The lists run alike, in the order of the forward pass: ``embedding`` (positions too),
    ``blocks.0.attention``, ``blocks.0.feedforward``, …, ``head`` (the last norm, and the output
    matrix where it is not the embedding's). Norms are Euclidean over all of a layer's parameters
    that learn.
    """

    step: int
    layers: list[str]
    grad_norms: list[float | None]
    """‖g‖₂ of the whole batch, before clipping."""
    update_ratios: list[float | None]
    """‖Δw‖₂ / ‖w‖₂ of what the optimiser did, weight decay included; None where w was zero."""


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
    """The run ended in order, for a ``reason``.

    It is completed, target, train_target, patience, stopped, interrupted or pruned.
    """

    step: int
    reason: str
    val_loss: float | None
    protocol: str = "exact"
    accuracy: float | None = None
    """Measured with ``val_loss``; older runs do not tell it."""

    @property
    def is_early(self) -> bool:
        """Whether it was ended before what its config asks for."""
        return self.reason in ("stopped", "interrupted", PRUNED)


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


_LARGEST_INTEGER = 2**53
_NUMBER = (int, float, types.NoneType)
_known: dict[type[Event], list[tuple[str, tuple[type, ...]]]] = {}


def sound_event(line: str | bytes) -> Event | None:
    """The event in a line of a log; None where the line holds none, or one that is not sound."""
    try:
        event = event_from_json(line)
    except ValueError:
        return None
    return event if event is not None and is_sound(event) else None


def is_sound(event: Event) -> bool:
    """Whether every field has its declared type, and numbers fit into 64 bits.

    Numbers may be None, which stands for what was not finite.
    """
    if isinstance(event, StepCompleted):
        # The one that comes a million times.
        return (
            _is_count(event.step)
            and _is_time(event.time)
            and _is_number(event.loss)
            and _is_number(event.learning_rate)
            and _is_number(event.grad_norm)
            and _is_number(event.tokens_per_second)
            and _is_number(event.elapsed_seconds)
        )
    if not _is_time(event.time):
        return False
    for name, kinds in _declared(type(event)):
        value = getattr(event, name)
        if not isinstance(value, kinds):
            return False
        if isinstance(value, int) and not isinstance(value, bool) and not _is_count(value):
            return False
    if isinstance(event, RunStarted):
        return all(map(_is_finite, event.baselines.values())) and _are_texts(event.teachers)
    if isinstance(event, LayerStatistics):
        return (
            len(event.layers) == len(event.grad_norms) == len(event.update_ratios)
            and _are_texts(event.layers)
            and all(map(_is_number, event.grad_norms))
            and all(map(_is_number, event.update_ratios))
        )
    return True


def _are_texts(values: list[str]) -> bool:
    return all(type(value) is str for value in values)


def _declared(kind: type[Event]) -> list[tuple[str, tuple[type, ...]]]:
    """Names and possible types of an event's fields, ``time`` left out."""
    if kind in _known:
        return _known[kind]
    declared = []
    for name, hint in typing.get_type_hints(kind).items():
        parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        plain = tuple(typing.get_origin(part) or part for part in parts)
        if name not in ("time", "registry"):
            declared.append((name, _NUMBER if float in plain else plain))
    _known[kind] = declared
    return declared


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _LARGEST_INTEGER


def _is_number(value: object) -> bool:
    if value is None or type(value) is float:
        return True
    return type(value) is int and -_LARGEST_INTEGER < value < _LARGEST_INTEGER


def _is_finite(value: object) -> bool:
    return _is_number(value) and value is not None and math.isfinite(typing.cast(float, value))


def _is_time(value: object) -> bool:
    return _is_finite(value)
