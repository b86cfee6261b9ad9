"""What became of a run: the words for it, and how they look wherever they are shown."""

from collections.abc import Iterable, Mapping
from typing import Literal

from shakespeare_tui.runs.events import (
    PRUNED,
    CommandApplied,
    Event,
    RunFailed,
    RunFinished,
    StepCompleted,
)

RunState = Literal["training", "paused", "stopped", "finished", "failed", "interrupted", "damaged"]
Tone = Literal["success", "warning", "error", "muted"]

STATE_LOOKS: Mapping[RunState, tuple[str, Tone]] = {
    "training": ("▶", "success"),
    "paused": ("=", "warning"),
    "stopped": ("▪", "warning"),
    "finished": ("✓", "success"),
    "failed": ("✕", "error"),
    "interrupted": ("!", "warning"),
    "damaged": ("?", "muted"),
}
"""A sign and a tone for each state."""

END_REASONS: Mapping[str, str] = {
    "target": "reached its target loss",
    "train_target": "reached its target for the training loss",
    "patience": "early: validation no longer improved",
}
"""Why a run ended before its length was done, by the reason in ``RunFinished``."""


def state_after(event: Event | None) -> RunState:
    """The state of a run that nobody trains, from the last event of its log."""
    if isinstance(event, RunFinished):
        if event.reason in ("stopped", PRUNED):
            return "stopped"
        return "interrupted" if event.is_early else "finished"
    return "failed" if isinstance(event, RunFailed) else "interrupted"


def state_in_training(latest_first: Iterable[Event]) -> RunState:
    """The state of a run that is being trained, from the end of its log."""
    for event in latest_first:
        if isinstance(event, StepCompleted):
            break
        if isinstance(event, CommandApplied) and event.command in ("Pause", "Resume", "Stop"):
            return "paused" if event.command == "Pause" else "training"
    return "training"
