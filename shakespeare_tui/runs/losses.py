"""Losses with the protocol they were measured by, and which of several is the lowest.

Losses of different protocols do not compare. What was measured exactly counts by its exact loss.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shakespeare_tui.formatting import format_loss

EXACT = "exact"
"""Every token of the split but its first, once."""
NANOGPT = "nanogpt"
"""Random windows, as nanoGPT evaluates."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Loss:
    """A mean cross-entropy in nats per token under ``protocol``; empty where that is unknown."""

    value: float
    protocol: str

    @property
    def is_exact(self) -> bool:
        """Whether the whole split was measured."""
        return self.protocol == EXACT

    @property
    def short(self) -> str:
        """``1.5347`` where it is exact, ``~1.5347`` where it stands for an exact figure."""
        return format_loss(self.value) if self.is_exact else f"~{format_loss(self.value)}"

    def __str__(self) -> str:
        """``1.5347, exact``: for where there is room for the protocol."""
        return f"{format_loss(self.value)}, {self.protocol or 'protocol unknown'}"


def losses(value: float | None, protocol: str | None, exact: float | None = None) -> list[Loss]:
    """What was measured of something, the figure that counts first; empty if nothing was."""
    found = [Loss(exact, EXACT)] if exact is not None and math.isfinite(exact) else []
    if value is not None and math.isfinite(value) and not (found and protocol == EXACT):
        found.append(Loss(value, protocol or ""))
    return found


def difference(ours: Sequence[Loss], theirs: Sequence[Loss]) -> float | None:
    """How far we lie above them, by exact figures where both have one; None if none compare."""
    values = {loss.protocol: loss.value for loss in theirs}
    return next((o.value - values[o.protocol] for o in ours if o.protocol in values), None)


@dataclass(frozen=True)
class Ranking(Generic[T]):
    """Things that compare, lowest loss first, and those that were measured differently.

    Attributes:
        protocol: What they are ranked by.
        ranked: The first of equals first.
        left_out: Measured, but not under ``protocol``.
    """

    protocol: str
    ranked: tuple[T, ...]
    left_out: tuple[T, ...]


def rank_by_loss(
    items: Iterable[T], losses_of: Callable[[T], Sequence[Loss]], prefer: str | None = None
) -> Ranking[T] | None:
    """Rank by a protocol that all share; by the exact figures, if any, where they share none.

    The lowest of all must also be the lowest by exact figures, where it has one. Without exact
    figures and a shared protocol, ``prefer`` or else the most common protocol decides.

    Args:
        items: What to rank; of those without any loss nothing is said.
        losses_of: The losses of one.
        prefer: A protocol.

    Returns:
        None where nothing was measured.
    """
    figures = [
        (item, {loss.protocol: loss.value for loss in found})
        for item in items
        if (found := losses_of(item))
    ]
    if not figures:
        return None
    counts = Counter(protocol for _, values in figures for protocol in values)
    protocol = _protocol(counts, len(figures), prefer)
    compared = [pair for pair in figures if protocol in pair[1]]
    compared.sort(key=lambda pair: pair[1][protocol])
    if EXACT in compared[0][1]:
        exact = [pair for pair in compared if EXACT in pair[1]]
        best = min(exact, key=lambda pair: pair[1][EXACT])
        compared = [best, *(pair for pair in compared if pair is not best)]
    return Ranking(
        protocol,
        tuple(item for item, _ in compared),
        tuple(item for item, values in figures if protocol not in values),
    )


def _protocol(counts: Counter[str], total: int, prefer: str | None) -> str:
    shared = [protocol for protocol, count in counts.items() if count == total]
    if EXACT in shared or (EXACT in counts and not shared):
        return EXACT
    if prefer in (shared or counts):
        return str(prefer)
    return shared[0] if shared else counts.most_common(1)[0][0]


def best_of(
    items: Iterable[T], losses_of: Callable[[T], Sequence[Loss]], prefer: str | None = None
) -> T | None:
    """The first of ``rank_by_loss``; None where nothing was measured."""
    ranking = rank_by_loss(items, losses_of, prefer)
    return ranking.ranked[0] if ranking else None
