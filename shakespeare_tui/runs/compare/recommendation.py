"""Which checkpoint to take: the lowest validation loss, and what speaks against it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from shakespeare_tui.measures import LEAST_COPY_CHARACTERS, Memorisation
from shakespeare_tui.runs.compare.items import CheckpointItem
from shakespeare_tui.runs.folder import pretrained_hint
from shakespeare_tui.runs.losses import Loss, best_of, difference, in_one_unit, rank_by_loss

NOISE = 0.005
"""Losses nearer than this many nats are as good as equal: another seed moves them as far."""
COPIED_SHARE = 0.25
"""A sample of which a larger share stands in the training text is recited rather than written."""
LONGEST_COPY = 100
"""Characters: a single copy this long is a recital, too."""

_OVERFITTING_GAP = 0.2
"""A share of the training loss."""
_SMALLEST_GAP = 0.05
_MOST_NAMED = 3


@dataclass(frozen=True)
class Recommendation:
    """A checkpoint, why it is taken, what speaks against it, and what else could be.

    Attributes:
        left_out: What does not compare with it, one reason a line.
    """

    item: CheckpointItem
    reason: str
    warnings: tuple[str, ...] = ()
    alternative: CheckpointItem | None = None
    left_out: tuple[str, ...] = ()


def recommend(
    items: Iterable[CheckpointItem], copies: Mapping[str, Memorisation] | None = None
) -> Recommendation | None:
    """The best checkpoint by validation loss among those that compare.

    The best of each run is compared with those of the others. Losses on different texts or under
    different protocols do not compare, and those of different tokenizers in bits per byte only; see
    ``rank_by_loss`` and ``in_one_unit``. Of several texts the one with the most
    evaluated checkpoints is looked at. None where nothing has been evaluated.

    Args:
        items: The checkpoints to choose from.
        copies: What samples of them copied from the training text, by ``RUN@STEP``.
    """
    copies = copies or {}
    evaluated = [item for item in items if item.losses]
    if not evaluated:
        return None
    corpus = Counter(map(_corpus, evaluated)).most_common(1)[0][0]
    on_corpus = [item for item in evaluated if _corpus(item) == corpus]
    losses_of = in_one_unit(on_corpus, lambda item: item.losses, lambda item: item.unit)
    ranking = rank_by_loss(_best_of_each_run(on_corpus), losses_of)
    if ranking is None:  # of several tokenizers, and how long their tokens are is not known
        return None
    best = ranking.ranked[0]
    apart = {item.run.name for item in ranking.left_out}
    behind = [
        (difference(losses_of(item), losses_of(best)), item)
        for item in on_corpus
        if item is not best and item.run.name not in apart
    ]
    known = [(nats, item) for nats, item in behind if nats is not None and nats >= 0]
    others = [item for _, item in sorted(known, key=lambda pair: pair[0])]

    def warnings_of(item: CheckpointItem) -> list[str]:
        found = (*_gap_warnings(item, on_corpus), *_copy_warnings(item, copies))
        return [*found, *_pretrained_warnings(item)]

    warnings = warnings_of(best)
    alternative = None
    if warnings:
        alternative = next((item for item in others if not warnings_of(item)), None)
    elsewhere = [item for item in evaluated if _corpus(item) != corpus]
    otherwise = [(item, losses_of(item)[0]) for item in ranking.left_out]
    left_out = _left_out(otherwise, _best_of_each_run(elsewhere), ranking.protocol)
    return Recommendation(
        best, _reason(best, others, losses_of), tuple(warnings), alternative, left_out
    )


def _corpus(item: CheckpointItem) -> str:
    return item.run.info.corpus_sha256 if item.run.info else ""


def _best_of_each_run(items: Iterable[CheckpointItem]) -> list[CheckpointItem]:
    by_run: dict[str, list[CheckpointItem]] = {}
    for item in items:
        by_run.setdefault(item.run.name, []).append(item)
    best = []
    for of_run in by_run.values():
        of_run.sort(key=_step)
        found = best_of(of_run, lambda item: item.losses, of_run[-1].losses[-1].protocol)
        best += [found] if found else []
    return best


def _reason(
    best: CheckpointItem,
    others: list[CheckpointItem],
    losses_of: Callable[[CheckpointItem], Sequence[Loss]],
) -> str:
    loss = losses_of(best)[0]
    if not others:
        return f"the only checkpoint evaluated this way: {loss}"
    text = f"lowest validation loss of {len(others) + 1:,}: {loss}"
    of_others = [item for item in others if item.run.name != best.run.name]
    second, whose = (of_others[0], "the next run's best") if of_others else (others[0], "the next")
    behind = difference(losses_of(second), losses_of(best)) or 0.0
    if behind < NOISE:
        return f"{text}; {second.key} is as good ({behind:.4f} behind, within noise)"
    return f"{text}; {behind:.4f} below {second.key}, {whose}"


def _left_out(
    otherwise: Sequence[tuple[CheckpointItem, Loss]],
    elsewhere: Iterable[CheckpointItem],
    protocol: str,
) -> tuple[str, ...]:
    lines = []
    if otherwise:
        named = _named([f"{item.key} ({loss})" for item, loss in otherwise])
        lines.append(
            f"not compared, since not measured by {protocol}: {named}; "
            f"shakespeare-tui eval {otherwise[0][0].key} measures it exactly"
        )
    names = [item.run.name for item in elsewhere]
    if names:
        lines.append(f"not compared, since on another corpus: {_named(names)}")
    return tuple(lines)


def _named(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _gap_warnings(item: CheckpointItem, comparable: list[CheckpointItem]) -> list[str]:
    if item.gap is None or item.train_loss is None:
        return []
    if item.gap <= max(_OVERFITTING_GAP * item.train_loss, _SMALLEST_GAP):
        return []
    share = f" ({item.gap / item.train_loss:.0%})" if item.train_loss > 0 else ""
    text = f"overfitted: validation is {item.gap:.2f}{share} above training"
    later = [
        behind
        for other in comparable
        if other.run.name == item.run.name and _step(other) > _step(item)
        if (behind := difference(other.losses, item.losses)) is not None
    ]
    if later and min(later) > NOISE:
        text += ", and later steps of the run are worse"
    return [text]


def _step(item: CheckpointItem) -> int:
    return item.checkpoint.step if item.checkpoint else -1


def _pretrained_warnings(item: CheckpointItem) -> list[str]:
    source = item.run.info.pretrained if item.run.info else None
    return [pretrained_hint(source)] if source else []


def _copy_warnings(item: CheckpointItem, copies: Mapping[str, Memorisation]) -> list[str]:
    found = copies.get(item.key)
    if found is None or not (found.share > COPIED_SHARE or found.longest >= LONGEST_COPY):
        return []
    return [
        f"memorised: {found.share:.0%} of a sample lies in copies of {LEAST_COPY_CHARACTERS} "
        f"characters or more, the longest of {found.longest:,}"
    ]
