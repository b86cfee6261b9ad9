"""Which checkpoint to take: the lowest validation loss, and what speaks against it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from shakespeare_tui.core.diagnosis.rules import OVERFITTING_GAP
from shakespeare_tui.core.formatting import format_loss
from shakespeare_tui.core.room.items import CheckpointItem

NOISE = 0.005
"""Losses nearer than this many nats are as good as equal: another seed moves them as far."""
COPIED_SHARE = 0.25
"""A sample of which a larger share stands in the training text is recited rather than written."""
LONGEST_COPY = 100
"""Characters: a single copy this long is a recital, too."""

_SMALLEST_GAP = 0.05
_COPY_BEGINS_AT = 20


@dataclass(frozen=True)
class Copies:
    """What a sample of a checkpoint has copied: its longest copy and the share inside copies."""

    longest: int
    share: float

    @property
    def is_recital(self) -> bool:
        """Whether so much is copied that the losses flatter."""
        return self.share > COPIED_SHARE or self.longest >= LONGEST_COPY


@dataclass(frozen=True)
class Recommendation:
    """A checkpoint, why it is taken, what speaks against it, and what else could be."""

    item: CheckpointItem
    reason: str
    warnings: tuple[str, ...] = ()
    alternative: CheckpointItem | None = None


def recommend(
    items: Iterable[CheckpointItem], copies: Mapping[str, Copies] | None = None
) -> Recommendation | None:
    """The best checkpoint by validation loss among those that compare.

    Losses on different texts or under different protocols do not compare: the largest group that
    does is looked at. None where nothing has been evaluated.

    Args:
        items: The checkpoints to choose from.
        copies: What samples of them copied from the training text, by ``RUN@STEP``.
    """
    copies = copies or {}
    evaluated = [item for item in items if item.val_loss is not None]
    if not evaluated:
        return None
    group, _ = Counter(map(_group, evaluated)).most_common(1)[0]
    comparable = sorted(
        (item for item in evaluated if _group(item) == group), key=lambda item: _loss(item)
    )
    best = comparable[0]
    warnings = [*_gap_warnings(best, comparable), *_copy_warnings(best, copies)]
    alternative = None
    if warnings:
        alternative = next(
            (
                item
                for item in comparable[1:]
                if not _gap_warnings(item, comparable) and not _copy_warnings(item, copies)
            ),
            None,
        )
    return Recommendation(best, _reason(best, comparable), tuple(warnings), alternative)


def _group(item: CheckpointItem) -> tuple[str, str]:
    assert item.run.info is not None and item.checkpoint is not None
    assert item.checkpoint.info is not None
    return item.run.info.corpus_sha256, item.checkpoint.info.protocol or ""


def _loss(item: CheckpointItem) -> float:
    assert item.val_loss is not None
    return item.val_loss


def _reason(best: CheckpointItem, comparable: list[CheckpointItem]) -> str:
    protocol = _group(best)[1] or "protocol unknown"
    loss = f"{format_loss(best.val_loss)} ({protocol})"
    if len(comparable) == 1:
        return f"the only checkpoint that was evaluated: {loss}"
    text = f"lowest validation loss of {len(comparable):,}: {loss}"
    others = [item for item in comparable if item.run.name != best.run.name]
    second, whose = (others[0], "the next run's best") if others else (comparable[1], "the next")
    behind = _loss(second) - _loss(best)
    if behind < NOISE:
        return f"{text}; {second.key} is as good ({behind:.4f} behind, within noise)"
    return f"{text}, {behind:.4f} below {second.key}, {whose}"


def _gap_warnings(item: CheckpointItem, comparable: list[CheckpointItem]) -> list[str]:
    if item.gap is None or item.train_loss is None:
        return []
    if item.gap <= max(OVERFITTING_GAP * item.train_loss, _SMALLEST_GAP):
        return []
    share = f" ({item.gap / item.train_loss:.0%})" if item.train_loss > 0 else ""
    text = f"overfitted: validation is {item.gap:.2f}{share} above training"
    later = [
        other
        for other in comparable
        if other.run.name == item.run.name and _step(other) > _step(item)
    ]
    if later and min(map(_loss, later)) > _loss(item) + NOISE:
        text += ", and later steps of the run are worse"
    return [text]


def _step(item: CheckpointItem) -> int:
    return item.checkpoint.step if item.checkpoint else -1


def _copy_warnings(item: CheckpointItem, copies: Mapping[str, Copies]) -> list[str]:
    found = copies.get(item.key)
    if found is None or not found.is_recital:
        return []
    return [
        f"memorised: {found.share:.0%} of a sample lies in copies of {_COPY_BEGINS_AT} characters "
        f"or more, the longest of {found.longest:,}"
    ]
