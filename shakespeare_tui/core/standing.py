"""A finished run's place among the runs that compare with it."""

from dataclasses import dataclass
from pathlib import Path

from shakespeare_tui.core.errors import UserError
from shakespeare_tui.core.event_log import last_event
from shakespeare_tui.core.events import RunFinished
from shakespeare_tui.core.runs import RunFolder, list_runs


@dataclass(frozen=True)
class Standing:
    """Where a run stands among the finished runs on its corpus, by final validation loss.

    Attributes:
        place: 1 is the lowest loss.
        runs: How many compare: same corpus, same protocol.
        best_name: The run with the lowest loss.
        best_loss: Its loss in nats per token.
    """

    place: int
    runs: int
    best_name: str
    best_loss: float


def standing_of(run: RunFolder, root: Path) -> Standing | None:
    """Compare a finished run with all below ``root``; None where it has no final loss.

    Losses under different protocols, or on different texts, do not compare and are left out.
    """
    mine = _result(run)
    if mine is None:
        return None
    losses = {run.name: mine[2]}
    for other in list_runs(root):
        result = _result(other)
        if result is not None and result[:2] == mine[:2]:
            losses[other.name] = result[2]
    best_name = min(losses, key=lambda name: losses[name])
    place = 1 + sum(loss < mine[2] for loss in losses.values())
    return Standing(place, len(losses), best_name, losses[best_name])


def _result(run: RunFolder) -> tuple[str, str, float] | None:
    """Corpus hash, protocol and final loss of a finished run."""
    try:
        event = last_event(run.events_path)
        if not isinstance(event, RunFinished) or event.val_loss is None:
            return None
        return run.info().corpus_sha256, event.protocol, event.val_loss
    except (UserError, OSError):
        return None
