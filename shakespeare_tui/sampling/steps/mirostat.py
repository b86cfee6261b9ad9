"""Mirostat: truncation that steers the text's mean surprise to a target (arXiv:2007.14966).

Surprise is under the distribution as it comes to the step, before its own truncation, as in the
paper; llama.cpp takes it after, and so ends above the target. It is in nats, as losses and surprise
are everywhere here; the paper and other programs count bits, of which a nat is 1.44.

The targets are for characters. A good model of these plays has a loss of about 1.5 nats, and
drawing from all of its distribution has that mean surprise: above, nothing is ever truncated. The
usual target of 5 bits, 3.5 nats, is for words.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.sampling.context import SamplingContext
from shakespeare_tui.sampling.logits import FloatArray, IntArray, keep, softmax
from shakespeare_tui.sampling.registry import Step, real, register, whole

_UNIT = "nats per token"
_TARGET = (
    "Mean surprise to reach, τ, in nats per token; the paper counts bits: 1 bit is 0.693 nats."
)
_TINY = np.finfo(np.float32).tiny
_LARGEST_EXPONENT = 60.0


class SurpriseLimits:
    """The largest surprise μ, in nats, that each stream allows at present: float64 [B]."""

    def __init__(self, streams: int, start: float) -> None:
        self.nats: NDArray[np.float64] = np.full(streams, start)

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on with the limit of stream ``rows[i]``."""
        self.nats = self.nats[rows]


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
        surprise = -np.log(np.maximum(probabilities, _TINY))
        state.nats = state.nats - self.rate * (surprise - self.target)

    def remembered(self, state: SurpriseLimits, stream: int) -> float:
        """The limit μ, nats."""
        return float(state.nats[stream])

    def recall(self, remembered: float | None) -> SurpriseLimits:
        """The limit as it was."""
        return self.start(1) if remembered is None else SurpriseLimits(1, remembered)

    def note(self, context: SamplingContext, vocab_size: int) -> str:
        """The limit."""
        return f"μ {context.state.nats[0]:.2f} nats"


@register("mirostat", title="Mirostat 2", paper="arXiv:2007.14966")
@dataclass(frozen=True)
class Mirostat(MirostatStep):
    """Steer the mean surprise to τ nats per token, dropping tokens that surprise more than a limit.

    Some 65 characters are drawn before the limit has settled at a rate of 0.1.
    """

    target: float = real(1.25, 0, 20, 0.05, _TARGET, unit=_UNIT)
    rate: float = real(0.1, 0, 1, 0.02, "Learning rate of the surprise limit mu.")

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Keep those of ``logits`` [B, V] whose surprise is within their stream's limit."""
        probabilities = softmax(logits)
        least = np.exp(-np.clip(context.state.nats, 0, None)).astype(np.float32)
        top = np.maximum.reduce(probabilities, axis=1)
        return keep(logits, probabilities >= np.minimum(least, top)[:, None])


@register("mirostat1", title="Mirostat 1", paper="arXiv:2007.14966")
@dataclass(frozen=True)
class Mirostat1(MirostatStep):
    """Steer the mean surprise to τ nats per token, by a top-k from a fitted Zipf's law.

    Characters follow Zipf's law badly; Mirostat 2 makes no such assumption.
    """

    target: float = real(1.25, 0, 20, 0.05, _TARGET, unit=_UNIT)
    rate: float = real(0.1, 0, 1, 0.02, "Learning rate of the surprise limit mu.")
    m: int = whole(
        100, 2, 100_000, 1, "How many of the most likely tokens Zipf's law is fitted to."
    )

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Keep the k likeliest of each row of ``logits`` [B, V], each with its own k."""
        ordered = np.sort(logits, axis=1)[:, ::-1]
        kept = self._kept(ordered.astype(np.float64), context.state.nats)
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
        nats = (np.log(ratio) + limits) / np.maximum(exponent, 1e-6)
        k = np.exp(np.clip(nats, 0, math.log(vocab_size) + 1)).astype(np.int64)
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
