"""Whether an event that was read from a log has values that readers can rely on.

A log may have been written by another version, by another program, or by hand: what is not sound is
passed over like a line that is no JSON.
"""

import math
import types
import typing

from shakespeare_tui.runs.events import Event, RunStarted, StepCompleted, event_from_json

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
        return all(map(_is_finite, event.baselines.values()))
    return True


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
