"""Steps that drop the unlikely tokens, each by its own measure of unlikely.

Each keeps the likeliest token whatever its parameters. Tokens already dropped stay dropped.
"""

import math
from dataclasses import dataclass

import numpy as np

from shakespeare_tui.sampling.context import SamplingContext
from shakespeare_tui.sampling.logits import FloatArray, entropy, keep, softmax
from shakespeare_tui.sampling.registry import Step, real, register, whole


@register("top_k", title="Top-k", paper="arXiv:1805.04833")
@dataclass(frozen=True)
class TopK(Step):
    """Keep the k likeliest tokens.

    Tokens as likely as the k-th stay with it, as in ``transformers``. Of some 65 characters, 10 to
    20 are nearly all that ever fit.
    """

    k: int = whole(20, 1, 1_000_000, 1, "How many tokens to keep.")

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Keep the ``k`` largest of each row of ``logits`` [B, V]."""
        others = logits.shape[1] - self.k
        if others <= 0:
            return logits
        least = np.partition(logits, others, axis=1)[:, others, None]
        return keep(logits, logits >= least)


@register("top_p", title="Top-p (nucleus)", paper="arXiv:1904.09751")
@dataclass(frozen=True)
class TopP(Step):
    """Keep the smallest set of tokens whose probability reaches p; 1 keeps all.

    Where equals stand at the edge of the set, those with the lower ids stay.
    """

    p: float = real(0.95, 0, 1, 0.05, "Cumulative probability to keep.", excludes_low=True)

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Keep each row's smallest set of ``logits`` [B, V] with mass ``p`` or more."""
        if self.p >= 1:
            return logits
        ordered = np.sort(logits, axis=1)[:, ::-1]
        powers = np.exp(ordered - ordered[:, :1])
        mass = np.add.accumulate(powers, axis=1, dtype=np.float64)
        last = (mass >= self.p * mass[:, -1:]).argmax(axis=1)
        least = ordered[np.arange(len(ordered)), last][:, None]
        is_kept = logits >= least
        if np.count_nonzero(is_kept) != sum(last.tolist()) + len(last):
            is_above = logits > least
            is_equal = is_kept & ~is_above
            free = last[:, None] + 1 - np.add.reduce(is_above, axis=1, keepdims=True)
            is_kept = is_above | (is_equal & (np.add.accumulate(is_equal, axis=1) <= free))
        return keep(logits, is_kept)


@register("min_p", title="Min-p", paper="arXiv:2407.01082")
@dataclass(frozen=True)
class MinP(Step):
    """Keep tokens at least min_p times as likely as the likeliest; 0 keeps all."""

    share: float = real(0.1, 0, 1, 0.02, "Minimum probability, as a fraction of the top token's.")

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Keep those of ``logits`` [B, V] within ``log(share)`` of their row's largest."""
        if self.share == 0:
            return logits
        least = np.maximum.reduce(logits, axis=1, keepdims=True) + math.log(self.share)
        return keep(logits, logits >= least)


@register("top_nsigma", title="Top-nσ", paper="arXiv:2411.07641")
@dataclass(frozen=True)
class TopNSigma(Step):
    """Keep tokens whose logit is within n standard deviations of the largest.

    Both scale with the temperature, so that the kept set does not depend on it. The deviation is
    over the tokens that are left, each counted once, as in llama.cpp.
    """

    n: float = real(1.0, 0, 100, 0.1, "Number of standard deviations below the largest logit.")

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Keep those of ``logits`` [B, V] at or above their row's largest − n · σ."""
        is_left = logits > -np.inf
        top = np.maximum.reduce(logits, axis=1, keepdims=True)
        # In double precision, in which no square of a float32 overflows.
        below = np.where(is_left, logits - top, 0).astype(np.float64)
        left = np.add.reduce(is_left, axis=1, keepdims=True)
        mean = np.add.reduce(below, axis=1, keepdims=True) / left
        spread = np.add.reduce((below - mean) ** 2 * is_left, axis=1, keepdims=True) / left
        return keep(logits, is_left & (below >= -self.n * np.sqrt(spread)))


@register("typical", title="Locally typical", paper="arXiv:2202.00666")
@dataclass(frozen=True)
class Typical(Step):
    """Keep the tokens whose surprise is nearest to the entropy, until they reach a probability.

    Tokens as near as the last stay with it, as in ``transformers``. Characters are often all but
    certain; then the likeliest is the typical one, and this differs little from top-p.
    """

    mass: float = real(0.9, 0, 1, 0.05, "Cumulative probability to keep.", excludes_low=True)

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Keep each row's most typical of ``logits`` [B, V]."""
        if self.mass >= 1:
            return logits
        probabilities = softmax(logits)
        below = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
        surprise = np.log(np.add.reduce(np.exp(below), axis=1, keepdims=True)) - below
        distance = abs(surprise - entropy(probabilities)[:, None])
        rows = np.arange(len(logits))[:, None]
        order = distance.argsort(axis=1, kind="stable")
        mass = np.add.accumulate(probabilities[rows, order], axis=1)
        last = np.minimum((mass < self.mass).sum(axis=1), logits.shape[1] - 1)[:, None]
        return keep(logits, distance <= distance[rows, order[rows, last]])


@register("epsilon", title="Epsilon cut-off", paper="arXiv:2210.15191")
@dataclass(frozen=True)
class Epsilon(Step):
    """Keep tokens of at least a fixed probability.

    With words, of which there are thousands, 0.0003 to 0.002 is usual; a character among 65 that
    fits has more.
    """

    probability: float = real(0.01, 0, 1, 0.005, "Minimum probability.")

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Keep those of ``logits`` [B, V] with ``probability`` or more, and the likeliest."""
        probabilities = softmax(logits)
        top = np.maximum.reduce(probabilities, axis=1, keepdims=True)
        return keep(logits, probabilities >= np.minimum(top, np.float32(self.probability)))


@register("eta", title="Eta cut-off", paper="arXiv:2210.15191")
@dataclass(frozen=True)
class Eta(Step):
    """Keep tokens of a least probability that is lower where the model is unsure.

    The least is min(ε, √ε · e^−entropy). At the 1.5 nats of a character, the entropy matters only
    from ε ≈ 0.05 on: e^−1.5 is 0.22, and √0.05 too.
    """

    epsilon: float = real(0.05, 0, 1, 0.01, "Minimum probability where the entropy is low.")

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Keep those of ``logits`` [B, V] above their row's cut-off, and the likeliest."""
        probabilities = softmax(logits)
        unsure = math.sqrt(self.epsilon) * np.exp(-entropy(probabilities))
        least = np.minimum(np.float32(self.epsilon), unsure)
        top = np.maximum.reduce(probabilities, axis=1)
        return keep(logits, probabilities >= np.minimum(top, least)[:, None])


@register("xtc", title="XTC (exclude top choices)", paper="llama.cpp")
@dataclass(frozen=True)
class Xtc(Step):
    """Now and then drop all tokens that are likely enough, except the least likely of them.

    It acts on a character at a time, so that at the 0.5 that is usual with words hardly a word
    would be spelt right. Whether it acts comes from the stream's own numbers, others than those
    that draw tokens.
    """

    probability: float = real(0.1, 0, 1, 0.05, "Probability that it is applied.")
    threshold: float = real(
        0.2, 0, 0.5, 0.02, "Probability from which a token counts as a top choice."
    )

    def note(self, context: SamplingContext, vocab_size: int) -> str:
        """Whether it acts, and the number that decided."""
        number = float(context.uniforms()[0])
        return f"{'acts' if number < self.probability else 'idle'} {number:.2f}"

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Drop the top choices of those rows of ``logits`` [B, V] where it acts."""
        acts = context.uniforms() < self.probability
        if not acts.any():
            return logits
        probabilities = softmax(logits)
        is_top = (probabilities >= self.threshold) & (logits > -np.inf)
        least = np.where(is_top, probabilities, np.inf).argmin(axis=1)
        is_dropped = is_top & acts[:, None]
        is_dropped[np.arange(len(least)), least] = False
        return keep(logits, ~is_dropped)
