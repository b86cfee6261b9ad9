"""What a person may type to steer a run, turned into commands."""

import math
import re

from shakespeare_tui.diagnosis.findings import format_rate
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import parse_duration, ungrouped
from shakespeare_tui.loose_values import as_number
from shakespeare_tui.runs.commands import AddNote, ExtendRun, GenerateSample, SetLearningRate
from shakespeare_tui.runs.history import RunHistory

_HIGHEST_RATE = 100.0
_MOST_STEPS = 100_000_000
_MOST_MINUTES = 100_000.0


def peak_learning_rate(history: RunHistory) -> float | None:
    """The schedule's peak, after what commands made of it."""
    training = history.config.get("training")
    peak = as_number(training.get("learning_rate")) if isinstance(training, dict) else None
    for command in history.commands:
        arguments = command.arguments
        if command.command == SetLearningRate.__name__:
            peak = as_number(arguments.get("learning_rate")) or peak
    return peak


def parse_learning_rate(text: str, peak: float | None) -> SetLearningRate:
    """A peak rate such as ``5e-4``, or a factor of the present one such as ``x0.5``.

    Raises:
        UserError: It is neither.
    """
    text = text.strip().lower()
    is_factor = text[:1] in ("x", "*", "×")
    try:
        rate = float(text[1:] if is_factor else text)
    except ValueError:
        raise UserError("write an LR such as 5e-4, or a factor such as x0.5") from None
    if is_factor:
        if peak is None:
            raise UserError("the current LR is unknown: write an LR such as 5e-4")
        rate *= peak
    if not math.isfinite(rate) or not 0 < rate <= _HIGHEST_RATE:
        raise UserError(f"a learning rate is above 0 and at most {_HIGHEST_RATE:g}")
    return SetLearningRate(learning_rate=float(format_rate(rate, 6)))


def is_timed(history: RunHistory) -> bool:
    """Whether the run's length is a time budget instead of a number of steps."""
    training = history.config.get("training")
    return isinstance(training, dict) and as_number(training.get("minutes")) is not None


def parse_extension(text: str, *, timed: bool) -> ExtendRun:
    """Steps such as ``500``, or, for a run with a time budget, a duration such as ``2m``.

    Raises:
        UserError: It is no length, or not of the run's kind.
    """
    written = text.strip().lower().removeprefix("+").strip()
    seconds = parse_duration(written)
    if seconds is not None and not timed:
        raise UserError("this run is measured in steps: write a number of steps such as 500")
    number = re.fullmatch(r"(.*?)\s*steps?", written)
    if number and timed:
        raise UserError("this run has a time budget: write a duration such as 2m or 90s")
    try:
        amount = float(ungrouped(number[1] if number else written))
    except ValueError:
        amount = math.nan
    if timed:
        minutes = amount if seconds is None else seconds / 60
        if math.isnan(minutes):
            raise UserError("write a duration such as 2m or 90s")
        if not 0 < minutes <= _MOST_MINUTES:
            raise UserError(f"write more than 0 and at most {_MOST_MINUTES:,.0f} minutes")
        return ExtendRun(minutes=minutes)
    if not 1 <= amount <= _MOST_STEPS or amount != int(amount):
        raise UserError(f"write a whole number of steps, from 1 to {_MOST_STEPS:,}")
    return ExtendRun(steps=int(amount))


def parse_prompt(text: str) -> GenerateSample:
    r"""A prompt; ``\n`` stands for a new line. Empty asks for the config's own prompts."""
    return GenerateSample(prompt=text.replace("\\n", "\n"))


def parse_note(text: str) -> AddNote:
    """A remark.

    Raises:
        UserError: It is empty.
    """
    if not text.strip():
        raise UserError("write a few words, or press escape")
    return AddNote(text=text.strip())


def extension_overrides(history: RunHistory, extension: ExtendRun) -> tuple[str, ...]:
    """The settings with which a finished run goes on for ``extension`` longer."""
    training = history.config.get("training")
    values = training if isinstance(training, dict) else {}
    if extension.minutes:
        minutes = (as_number(values.get("minutes")) or 0.0) + extension.minutes
        return (f"training.minutes={minutes:g}",)
    planned = int(as_number(values.get("max_steps")) or 0)
    # Steps added during the run are part of its checkpoint and count on top.
    reached = max(planned, history.last_step - history.extra_steps)
    return (f"training.max_steps={reached + extension.steps}",)
