"""Mirostat: truncation that steers the text's mean surprise to a target (arXiv:2007.14966).

Surprise is in bits and under the distribution as it comes to the step, before its own truncation,
as in the paper; llama.cpp takes it after, and so ends above the target.

The targets are for characters. A good model of these plays needs about 2.1 bits a character, and
drawing from all of its distribution has that mean surprise: above, nothing is ever truncated. The
usual target of 5 bits is for words.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.core.sampling.arrays import FloatArray, IntArray, keep, softmax
from shakespeare_tui.core.sampling.kinds import Step, real, register, whole
from shakespeare_tui.core.sampling.situation import Situation

_TINY = np.finfo(np.float32).tiny
_LARGEST_EXPONENT = 60.0


class SurpriseLimits:
    """The largest surprise μ, in bits, that each stream allows at present: float64 [B]."""

    def __init__(self, streams: int, start: float) -> None:
        self.bits: NDArray[np.float64] = np.full(streams, start)

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on with the limit of stream ``rows[i]``."""
        self.bits = self.bits[rows]


class MirostatStep(Step):
    """What both versions share: the limit and how it is corrected."""

    target: float
    rate: float

    def start(self, streams: int) -> SurpriseLimits:
        """Begin at twice the target."""
        return SurpriseLimits(streams, 2 * self.target)

    def observe(self, state: SurpriseLimits, chosen: IntArray, logits: FloatArray) -> None:
        """Lower the limits where ``chosen`` [B] surprised more than the target; raise the others.

        Args:
            state: Limits μ [B]; each loses rate · (surprise − target).
            chosen: Tokens drawn.
            logits: As they came to this step [B, V].
        """
        probabilities = softmax(logits)[np.arange(len(chosen)), chosen]
        surprise = -np.log2(np.maximum(probabilities, _TINY))
        state.bits = state.bits - self.rate * (surprise - self.target)


@register("mirostat", title="Mirostat 2", paper="arXiv:2007.14966")
@dataclass(frozen=True)
class Mirostat(MirostatStep):
    """Steer the mean surprise to a target, by dropping tokens that surprise more than a limit.

    Some 65 characters are drawn before the limit has settled at a rate of 0.1.
    """

    target: float = real(1.8, 0, 20, 0.1, "Mean surprise to reach, in bits a token.")
    rate: float = real(0.1, 0, 1, 0.02, "How fast the limit follows.")

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """Keep those of ``logits`` [B, V] whose surprise is within their stream's limit."""
        probabilities = softmax(logits)
        least = np.exp2(-np.clip(situation.state.bits, 0, None)).astype(np.float32)
        top = np.maximum.reduce(probabilities, axis=1)
        return keep(logits, probabilities >= np.minimum(least, top)[:, None])


@register("mirostat1", title="Mirostat 1", paper="arXiv:2007.14966")
@dataclass(frozen=True)
class Mirostat1(MirostatStep):
    """Steer the mean surprise to a target, by a top-k from a fitted Zipf's law.

    Characters follow Zipf's law badly; Mirostat 2 makes no such assumption.
    """

    target: float = real(1.8, 0, 20, 0.1, "Mean surprise to reach, in bits a token.")
    rate: float = real(0.1, 0, 1, 0.02, "How fast the limit follows.")
    m: int = whole(100, 2, 100_000, 1, "How many of the likeliest tokens the law is fitted to.")

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """Keep the k likeliest of each row of ``logits`` [B, V], each with its own k."""
        ordered = np.sort(logits, axis=1)[:, ::-1]
        kept = self._kept(ordered.astype(np.float64), situation.state.bits)
        least = ordered[np.arange(len(kept)), kept - 1]
        return keep(logits, logits >= least[:, None])

    def _kept(self, ordered: NDArray[np.float64], limits: NDArray[np.float64]) -> IntArray:
        """The k [B] that fits ``limits`` [B], for logits [B, V] in falling order."""
        vocab_size = ordered.shape[1]
        left = (ordered > -np.inf).sum(axis=1)
        exponent = _zipf_exponent(ordered[:, : self.m])
        excess = exponent - 1
        logarithm = np.log(np.maximum(left, 2))
        # (s − 1) / (1 − N^−(s − 1)), whose limit at s = 1 is 1 / ln N.
        powers = np.clip(-excess * logarithm, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
        is_flat = abs(powers) < 1e-9
        ratio = np.where(is_flat, 1 / logarithm, excess / np.where(is_flat, 1, -np.expm1(powers)))
        bits = (np.log2(ratio) + limits) / np.maximum(exponent, 1e-6)
        k = np.exp2(np.clip(bits, 0, math.log2(vocab_size) + 1)).astype(np.int64)
        return np.clip(k, 1, vocab_size)


def _zipf_exponent(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """The exponent s [B] fitted to logits [B, m] in falling order: Σ t·b / Σ t²."""
    is_left = ordered[:, 1:] > -np.inf
    # b is how much falls from one rank to the next, t how much would fall at s = 1.
    falls = np.where(is_left, ordered[:, :-1], 0) - np.where(is_left, ordered[:, 1:], 0)
    ranks = np.arange(1, ordered.shape[1])
    expected = np.log((ranks + 1) / ranks) * is_left
    squares = (expected**2).sum(axis=1)
    fitted: NDArray[np.float64] = (expected * falls).sum(axis=1) / np.where(squares > 0, squares, 1)
    return fitted
