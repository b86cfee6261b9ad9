"""Steps that ask how likely a token is against a fixed measure or against the entropy."""

import math
from dataclasses import dataclass

import numpy as np

from shakespeare_tui.sampling.arrays import FloatArray, entropy, keep, softmax
from shakespeare_tui.sampling.context import Situation
from shakespeare_tui.sampling.registry import Step, real, register


@register("typical", title="Locally typical", paper="arXiv:2202.00666")
@dataclass(frozen=True)
class Typical(Step):
    """Keep the tokens whose surprise is nearest to the entropy, until they reach a probability.

    Tokens as near as the last stay with it, as in ``transformers``. Characters are often all but
    certain; then the likeliest is the typical one, and this differs little from top-p.
    """

    mass: float = real(0.9, 0, 1, 0.05, "Cumulative probability to keep.", excludes_low=True)

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
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

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
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

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """Keep those of ``logits`` [B, V] above their row's cut-off, and the likeliest."""
        probabilities = softmax(logits)
        unsure = math.sqrt(self.epsilon) * np.exp(-entropy(probabilities))
        least = np.minimum(np.float32(self.epsilon), unsure)
        top = np.maximum.reduce(probabilities, axis=1)
        return keep(logits, probabilities >= np.minimum(top, least)[:, None])
