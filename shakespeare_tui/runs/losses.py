"""Losses with the protocol they were measured by, and which of several is the lowest.

Losses of different protocols do not compare. What was measured exactly counts by its exact loss.
Losses per token of different tokenizers do not compare either: those are taken in bits per byte.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar, get_args

from shakespeare_tui.formatting import format_loss

EXACT = "exact"
"""Every token of the split but its first, once."""
NANOGPT = "nanogpt"
"""Random windows, as nanoGPT evaluates."""

BITS_PER_BYTE = "bits per byte"

Quantity = Literal["loss", "perplexity", "accuracy"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
"""What charts show over the steps; one pass over the validation text measures all three."""

T = TypeVar("T")


def perplexity(loss: float | None) -> float | None:
    """Exponential of the ``loss`` in nats; None where there is none or it has no finite value."""
    if loss is None or not math.isfinite(loss) or loss > 700:
        return None
    return math.exp(loss)


def bits_per_character(loss: float, characters_per_token: float) -> float | None:
    """A loss in nats per token as bits per character of the text that it is about.

    None where that is not known: where there are 0 characters in a token.
    """
    if not characters_per_token:
        return None
    return loss / math.log(2) / characters_per_token


def bits_per_byte(loss: float, bytes_per_token: float) -> float:
    """A loss in nats per token by the bytes of text that it is about, in UTF-8.

    Args:
        loss: Mean over the tokens of a text.
        bytes_per_token: Of that text.
    """
    return loss / math.log(2) / bytes_per_token


def bits(
    loss: float, characters_per_token: float, bytes_per_token: float | None
) -> tuple[float | None, str]:
    """A loss in nats per token by the text that it is about, and the short name of the unit.

    By characters where each is a token; by bytes, which compare across tokenizers, elsewhere. None
    where neither is known.
    """
    if characters_per_token == 1 or not bytes_per_token:
        return bits_per_character(loss, characters_per_token), "bits/char"
    return bits_per_byte(loss, bytes_per_token), "bits/byte"


@dataclass(frozen=True, slots=True)
class TokenUnit:
    """What losses per token are counted in.

    Attributes:
        tokenizer: Tells tokenizers apart.
        bytes_per_token: On the validation split; None where it is not known.
    """

    tokenizer: str
    bytes_per_token: float | None


@dataclass(frozen=True, slots=True)
class Loss:
    """A mean cross-entropy in nats per token under ``protocol``; empty where that is unknown.

    ``unit`` is another where losses of different tokenizers are compared. ``accuracy`` was measured
    with it: the share of tokens that the model held for the likeliest; older runs do not tell it.
    """

    value: float
    protocol: str
    unit: str = ""
    accuracy: float | None = field(default=None, compare=False)

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
        value = f"{format_loss(self.value)} {self.unit}".strip()
        return f"{value}, {self.protocol or 'protocol unknown'}"


def losses(
    value: float | None,
    protocol: str | None,
    exact: float | None = None,
    *,
    accuracy: float | None = None,
    exact_accuracy: float | None = None,
) -> list[Loss]:
    """What was measured of something, the figure that counts first; empty if nothing was."""
    found = []
    if exact is not None and math.isfinite(exact):
        found.append(Loss(exact, EXACT, accuracy=exact_accuracy))
    if value is not None and math.isfinite(value) and not (found and protocol == EXACT):
        found.append(Loss(value, protocol or "", accuracy=accuracy))
    return found


def in_one_unit(
    items: Iterable[T],
    losses_of: Callable[[T], Sequence[Loss]],
    unit_of: Callable[[T], TokenUnit],
) -> Callable[[T], Sequence[Loss]]:
    """The losses of each as they compare: in bits per byte where tokenizers differ.

    Something whose bytes per token are not known then has none.
    """
    if not differ_in_tokenizer(map(unit_of, items)):
        return losses_of

    def in_bits(item: T) -> Sequence[Loss]:
        size = unit_of(item).bytes_per_token
        if size is None:
            return []
        return [
            replace(loss, value=bits_per_byte(loss.value, size), unit=BITS_PER_BYTE)
            for loss in losses_of(item)
        ]

    return in_bits


def differ_in_tokenizer(units: Iterable[TokenUnit]) -> bool:
    """Whether losses per token in these units do not compare."""
    return len({unit.tokenizer for unit in units}) > 1


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
