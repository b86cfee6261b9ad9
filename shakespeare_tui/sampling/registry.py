"""The declaration of steps: name, help, paper and parameters, each told once.

Parsing, the command line's help and the screens are made from ``STEP_KINDS``. A new strategy is a
frozen dataclass under ``register``: its fields, made by ``whole`` and ``real``, are its parameters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeVar

from shakespeare_tui.config.problems import show_value
from shakespeare_tui.errors import UserError
from shakespeare_tui.sampling.context import SamplingContext, StepState
from shakespeare_tui.sampling.logits import FloatArray, IntArray

Method = Literal["sample", "greedy", "beam", "contrastive"]
Value = int | float


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One number that a step is configured by.

    Attributes:
        name: As it is written in a strategy.
        type: ``int`` or ``float``.
        default: Its value where none is written.
        low: The least value, or the limit above which values begin (``excludes_low``).
        high: The largest value.
        excludes_low: Whether ``low`` itself is out of range.
        nudge: A sensible change at one press of a key.
        help: One sentence.
        unit: ``nats per token``; empty for a plain number.
    """

    name: str
    type: type[int] | type[float]
    default: Value
    low: Value
    high: Value
    excludes_low: bool
    nudge: Value
    help: str
    unit: str

    @property
    def range(self) -> str:
        """``from 0 to 100``, or ``above 0 and at most 100``; with the unit, if there is one."""
        low, high = format_value(self.low), format_value(self.high)
        words = f"above {low} and at most {high}" if self.excludes_low else f"from {low} to {high}"
        return f"{words} {self.unit}".rstrip()

    def check(self, value: Value | str, owner: str) -> Value:
        """Return ``value`` as this parameter's type.

        Args:
            value: A number, or a number as it was typed.
            owner: The step's name, for the message.

        Raises:
            UserError: It is no number or out of range.
        """
        number = _as_number(value)
        is_good = not math.isnan(number) and self.low <= number <= self.high
        if self.excludes_low:
            is_good = is_good and number != self.low
        if self.type is int:
            is_good = is_good and float(number).is_integer()
        if is_good:
            return self.type(number)
        noun = "a whole number" if self.type is int else "a number"
        name = owner if self.name == owner else f"{owner}'s {self.name}"
        raise UserError(f"{name} must be {noun} {self.range}, got {show_value(value)}")


def _as_number(value: Value | str) -> float:
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def format_value(value: Value) -> str:
    """A number as it stands in a strategy: the shortest text that reads back as the same."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        return str(int(value))
    return repr(value)


@dataclass(frozen=True)
class StepKind:
    """What there is to know of a kind of step before one is configured.

    Attributes:
        name: The word that stands for it in a strategy.
        title: Its name for people.
        help: One sentence on what it does.
        paper: ``arXiv:NUMBER``, or the program that it comes from; empty where it has none.
        method: For a step that says how tokens are chosen, the method; None for one that
            reshapes the distribution.
        parameters: The first is the value after ``name=``; the others are options.
        make: Builds the step from its parameters by name.
    """

    name: str
    title: str
    help: str
    paper: str
    method: Method | None
    parameters: tuple[Parameter, ...]
    make: Callable[..., "Step"]

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name; the step's own name stands for the first."""
        if name == self.name and self.parameters:
            return self.parameters[0]
        return next((each for each in self.parameters if each.name == name), None)


STEP_KINDS: dict[str, StepKind] = {}


class Step:
    """One step of a strategy, configured; subclasses are frozen dataclasses under ``register``."""

    kind: ClassVar[StepKind]

    def __post_init__(self) -> None:
        """Check every parameter.

        Raises:
            UserError: One is out of range.
        """
        for parameter in self.kind.parameters:
            given = getattr(self, parameter.name)
            object.__setattr__(self, parameter.name, parameter.check(given, self.kind.name))

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Reshape ``logits`` [B, V] without writing to them; −inf drops a token, never the last."""
        raise NotImplementedError

    def start(self, streams: int) -> StepState | None:
        """What is remembered of ``streams`` streams before their first token; None is nothing."""
        return None

    def observe(self, state: Any, chosen: IntArray, logits: FloatArray) -> None:
        """Note that ``chosen`` [B] was drawn where this step had been given ``logits`` [B, V]."""

    def remembered(self, state: Any, stream: int) -> float | None:
        """What ``state`` holds of a stream that cannot be read off its text; None is nothing."""
        return None

    def recall(self, remembered: float | None) -> StepState | None:
        """The state of one stream of which this was ``remembered``; of None, as at the start."""
        return self.start(1)

    def note(self, context: SamplingContext, vocab_size: int) -> str:
        """What chance or memory told this step of the one stream here, in a few words."""
        return ""

    @property
    def values(self) -> dict[str, Value]:
        """Every parameter by name."""
        return {each.name: getattr(self, each.name) for each in self.kind.parameters}

    @property
    def text(self) -> str:
        """The step as it is written: its value, then the options that are not at their default."""
        parts = [self.kind.name]
        for place, parameter in enumerate(self.kind.parameters):
            value = getattr(self, parameter.name)
            if place == 0:
                parts[0] += f"={format_value(value)}"
            elif value != parameter.default:
                parts.append(f"{parameter.name}={format_value(value)}")
        return ",".join(parts)


StepType = TypeVar("StepType", bound=type[Step])


def register(
    name: str, *, title: str, paper: str = "", method: Method | None = None
) -> Callable[[StepType], StepType]:
    """Declare a step: its help is the first sentence of the class's docstring."""

    def declare(step: StepType) -> StepType:
        summary = (step.__doc__ or "").partition("\n")[0]
        parameters = tuple(
            Parameter(name=each.name, **each.metadata)
            for each in fields(step)  # type: ignore[arg-type]
        )
        step.kind = StepKind(name, title, summary, paper, method, parameters, step)
        STEP_KINDS[name] = step.kind
        return step

    return declare


def whole(default: int, low: int, high: int, nudge: int, help: str) -> Any:  # noqa: A002
    """Declare a whole number from ``low`` to ``high``."""
    return field(
        default=default,
        metadata={
            "type": int,
            "default": default,
            "low": low,
            "high": high,
            "excludes_low": False,
            "nudge": nudge,
            "help": help,
            "unit": "",
        },
    )


def real(
    default: float,
    low: float,
    high: float,
    nudge: float,
    help: str,  # noqa: A002
    *,
    excludes_low: bool = False,
    unit: str = "",
) -> Any:
    """Declare a number from ``low`` (or, with ``excludes_low``, from above it) to ``high``."""
    return field(
        default=default,
        metadata={
            "type": float,
            "default": default,
            "low": low,
            "high": high,
            "excludes_low": excludes_low,
            "nudge": nudge,
            "help": help,
            "unit": unit,
        },
    )
