"""Reference losses: how well n-gram statistics alone predict the validation split."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shakespeare_tui.errors import check_cancelled, never

_Integers = npt.NDArray[np.integer]
_Ids = npt.NDArray[np.int64]
_Reals = npt.NDArray[np.float64]

ADDITIVE_COUNT = 0.01
"""Added to every count of the unigram and bigram models."""

MAX_TOKENS = 2_000_000
"""Tokens that reference losses are taken from at most, which bounds their memory to 250 MB."""

BASELINE_ORDERS = {"unigram": 1, "bigram": 2, "5-gram": 5}
"""The n-gram models whose losses are given, simplest first."""

HIGHEST_BASELINE_ORDER = max(BASELINE_ORDERS.values())
"""Training tokens that reference losses need at least."""

_FALLBACK_DISCOUNTS = (0.0, 0.5, 1.0, 1.5)
_HIGHEST_ADDITIVE_ORDER = 2
_DENSE_CELLS_PER_KEY = 8


def baselines(
    train: _Integers,
    val: _Integers,
    vocab_size: int,
    max_tokens: int = MAX_TOKENS,
    cancelled: Callable[[], bool] = never,
) -> dict[str, float]:
    """Reference losses in nats per token, keyed ``uniform``, ``unigram``, ``bigram``, ``5-gram``.

    ``uniform`` is ln(``vocab_size``); the others are ``ngram_loss`` of order 1, 2 and 5. Of a
    longer corpus only ``max_tokens`` tokens are used, those on both sides of the split;
    memory-mapped arrays are read no further.

    Raises:
        ValueError: As ``ngram_loss``.
        CancelledError: ``cancelled``, polled between passes, became true.
    """
    n_train, n_val = capped_split(len(train), len(val), max_tokens)
    nearest = train[len(train) - n_train :], val[:n_val]
    losses = {
        name: ngram_loss(*nearest, vocab_size, order, cancelled)
        for name, order in BASELINE_ORDERS.items()
    }
    return {"uniform": math.log(vocab_size), **losses}


def ngram_loss(
    train: _Integers,
    val: _Integers,
    vocab_size: int,
    order: int,
    cancelled: Callable[[], bool] = never,
) -> float:
    """Mean negative log-likelihood of ``val`` under an n-gram model counted on ``train``.

    Orders 1 and 2 are the plain textbook models with ``ADDITIVE_COUNT`` added to every count.
    Higher orders are interpolated modified Kneser–Ney (Chen & Goodman 1998, "An Empirical Study of
    Smoothing Techniques for Language Modeling", TR-10-98), the lowest level interpolated with the
    uniform distribution; where the counts of counts give no usable discounts, 0.5, 1 and 1.5 stand
    in. Every token of ``val`` is predicted once; the context of the first ones reaches back into
    ``train``, which precedes ``val`` in time. Time and memory grow with the number of tokens.

    Args:
        train: (n_train,) token ids below ``vocab_size``.
        val: (n_val,) token ids below ``vocab_size``.
        vocab_size: Number of distinct tokens; no array has this size squared.
        order: Length of the n-gram, its predicted token included; at least 1.
        cancelled: Polled between passes.

    Returns:
        Nats per token.

    Raises:
        ValueError: An array is empty or shorter than a context, or ``order`` is below 1.
        CancelledError: ``cancelled`` became true.
    """
    probabilities = ngram_probabilities(train, val, vocab_size, order, cancelled)
    return -float(np.log(probabilities).mean()) + 0.0


def capped_split(n_train: int, n_val: int, max_tokens: int = MAX_TOKENS) -> tuple[int, int]:
    """Sizes of the parts, reduced to at most ``max_tokens`` together.

    Both keep their share, but the training part gets half of ``max_tokens`` where it has that many.
    """
    n_tokens = n_train + n_val
    if n_tokens <= max_tokens:
        return n_train, n_val
    room_for_val = max_tokens - min(n_train, max_tokens // 2)
    n_val_kept = min(max(1, max_tokens * n_val // n_tokens), n_val, room_for_val)
    return min(n_train, max_tokens - n_val_kept), n_val_kept


def ngram_probabilities(
    train: _Integers,
    val: _Integers,
    vocab_size: int,
    order: int,
    cancelled: Callable[[], bool] = never,
) -> _Reals:
    """Probability of each token of ``val`` under the model of ``ngram_loss``, shape (n_val,).

    Raises:
        ValueError: As ``ngram_loss``.
        CancelledError: As ``ngram_loss``.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, not {order}")
    if len(val) == 0 or len(train) < order:
        raise ValueError(f"{len(train)} training and {len(val)} validation tokens are too few")
    grams = _Grams.of_order_one(train, val, vocab_size)
    if order <= _HIGHEST_ADDITIVE_ORDER:
        for _ in range(1, order):
            check_cancelled(cancelled, "measuring the n-gram baselines")
            grams = grams.next_order()
        return _additive(grams)
    probabilities = np.full(len(val), 1 / vocab_size)
    for level in range(1, order + 1):
        check_cancelled(cancelled, "measuring the n-gram baselines")
        longer = grams.next_order() if level < order else None
        counts = grams.counts if longer is None else grams.continuation_counts(longer)
        probabilities = _interpolate(grams, counts, probabilities)
        if longer is not None:
            grams = longer
    return probabilities


@dataclass(frozen=True)
class _Grams:
    """All n-grams of one order in ``train`` followed by ``val``, numbered without gaps.

    Numbering order by order keeps every key below (number of tokens) × ``vocab_size``, so that
    neither a high order nor a large vocabulary overflows 64 bits or needs a dense table.
    """

    order: int
    vocab_size: int
    n_train: int
    tokens: _Ids
    """(n,) training and validation tokens."""
    ids: _Ids
    """(n - order + 1,) number of the n-gram that ends at token ``order - 1 + i``."""
    contexts: _Ids
    """(n_ids,) for each n-gram, the number of its first ``order - 1`` tokens."""
    n_contexts: int

    @classmethod
    def of_order_one(cls, train: _Integers, val: _Integers, vocab_size: int) -> "_Grams":
        tokens = np.concatenate([train, val]).astype(np.int64)
        contexts = np.zeros(vocab_size, np.int64)
        return cls(1, vocab_size, len(train), tokens, tokens, contexts, 1)

    def next_order(self) -> "_Grams":
        keys = self.ids[:-1] * self.vocab_size
        keys += self.tokens[self.order :]
        distinct, ids = _renumber(keys)
        contexts = distinct // self.vocab_size
        return _Grams(
            self.order + 1,
            self.vocab_size,
            self.n_train,
            self.tokens,
            ids,
            contexts,
            len(self.contexts),
        )

    @property
    def n_train_ids(self) -> int:
        return self.n_train - self.order + 1

    @property
    def val_ids(self) -> _Ids:
        """(n_val,) the n-gram that ends at each validation token."""
        return self.ids[self.n_train_ids :]

    @property
    def counts(self) -> _Ids:
        """(n_ids,) occurrences of each n-gram in ``train``."""
        return np.bincount(self.ids[: self.n_train_ids], minlength=len(self.contexts))

    def continuation_counts(self, longer: "_Grams") -> _Ids:
        """(n_ids,) how many different tokens precede each n-gram in ``train``."""
        endings = np.empty(len(longer.contexts), np.int64)
        endings[longer.ids] = self.ids[1:]
        return np.bincount(endings[longer.counts > 0], minlength=len(self.contexts))


def _additive(grams: _Grams) -> _Reals:
    counts = grams.counts
    totals = np.bincount(grams.contexts, weights=counts, minlength=grams.n_contexts)
    ids = grams.val_ids
    seen = counts[ids] + ADDITIVE_COUNT
    probabilities: _Reals = seen / (totals[grams.contexts[ids]] + ADDITIVE_COUNT * grams.vocab_size)
    return probabilities


def _interpolate(grams: _Grams, counts: _Ids, lower: _Reals) -> _Reals:
    """Discount ``counts`` and give the mass that this frees to the ``lower`` order."""
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    totals = np.bincount(grams.contexts, weights=counts, minlength=grams.n_contexts)
    freed = np.bincount(grams.contexts, weights=discounts, minlength=grams.n_contexts)
    ids = grams.val_ids
    contexts = grams.contexts[ids]
    total = totals[contexts]
    kept = (counts - discounts)[ids]
    known = total > 0
    return np.where(known, (kept + freed[contexts] * lower) / np.where(known, total, 1), lower)


def _discounts(counts: _Ids) -> _Reals:
    """What to take off a count of 0, 1, 2 and 3 or more, shape (4,)."""
    n1, n2, n3, n4 = np.bincount(counts, minlength=5)[1:5]
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        found = (0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if all(0 < discount <= count for count, discount in enumerate(found) if count):
            return np.array(found)
    return np.array(_FALLBACK_DISCOUNTS)


def _renumber(keys: _Ids) -> tuple[_Ids, _Ids]:
    """The sorted distinct keys, and for each key its place among them."""
    n_cells = int(keys.max()) + 1
    if n_cells > _DENSE_CELLS_PER_KEY * len(keys):
        distinct, ids = np.unique(keys, return_inverse=True)
        return distinct, ids.astype(np.int64)
    present = np.zeros(n_cells, bool)
    present[keys] = True
    places = np.cumsum(present, dtype=np.int32)
    places -= 1
    return np.flatnonzero(present), places[keys].astype(np.int64)
