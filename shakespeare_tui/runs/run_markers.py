"""What is marked on the chart of a run, and in which words."""

from dataclasses import dataclass
from typing import Literal

from shakespeare_tui.diagnosis.findings import format_rate
from shakespeare_tui.formatting import format_duration
from shakespeare_tui.loose_values import as_number
from shakespeare_tui.runs.events import CommandApplied

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
