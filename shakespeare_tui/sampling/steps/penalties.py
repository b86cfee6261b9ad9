"""Steps that make tokens less likely for having been used before.

Among some 65 characters every letter is soon in the text, and a penalty that reaches back to the
beginning weighs on all alike; so these can look at the last characters only.
"""

from dataclasses import dataclass

import numpy as np

from shakespeare_tui.sampling.arrays import FloatArray
from shakespeare_tui.sampling.context import Situation
from shakespeare_tui.sampling.registry import Step, real, register, whole
from shakespeare_tui.sampling.steps.repetition import TokenCounts

_LARGEST_PENALTY = 1e20
_LONGEST = 1_000_000
_LAST = "How many of the last tokens count, prompt included; 0 is the whole text."


class CountingStep(Step):
    """A step that weighs tokens by how often they are in the text."""

    last: int

    def start(self, streams: int) -> TokenCounts:
        """Nothing is counted yet."""
        return TokenCounts(self.last)

    def counts(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """How often each token [B, V] is among the last."""
        counts: FloatArray = situation.state.of(situation, logits.shape[1])
        return counts

    def note(self, situation: Situation, vocab_size: int) -> str:
        """How much of the text was counted."""
        counts = situation.state.of(situation, vocab_size)
        return f"{int(counts.sum()):,} counted"


@register("repetition_penalty", title="Repetition penalty", paper="arXiv:1909.05858")
@dataclass(frozen=True)
class RepetitionPenalty(CountingStep):
    """Divide positive and multiply negative logits of tokens that are in the text; 1 does nothing.

    Over a whole text of characters 1.1 is already much.
    """

    penalty: float = real(1.1, 0, _LARGEST_PENALTY, 0.05, "The divisor.", excludes_low=True)
    last: int = whole(0, 0, _LONGEST, 16, _LAST)

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """Penalise ``logits`` [B, V]; equals ``transformers``' RepetitionPenaltyLogitsProcessor."""
        if self.penalty == 1:
            return logits
        # Bounded, so that it leaves no infinities, whose difference is no number.
        penalty = max(self.penalty, 1 / _LARGEST_PENALTY)
        penalised = np.where(logits > 0, logits / penalty, logits * penalty)
        return np.where(self.counts(logits, situation) > 0, penalised, logits)


@register("presence_penalty", title="Presence penalty", paper="OpenAI API")
@dataclass(frozen=True)
class PresencePenalty(CountingStep):
    """Lower the logits of tokens among the last ones by a fixed amount; below 0 raises them.

    The last 64 characters hold about 20 different ones, so that the others gain by it.
    """

    penalty: float = real(0.5, -10, 10, 0.1, "Subtracted from the logit of tokens already seen.")
    last: int = whole(64, 0, _LONGEST, 16, _LAST)

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """Subtract ``penalty`` from ``logits`` [B, V] of tokens that have been used."""
        used = self.counts(logits, situation) > 0
        return np.where(used, logits - np.float32(self.penalty), logits)


@register("frequency_penalty", title="Frequency penalty", paper="OpenAI API")
@dataclass(frozen=True)
class FrequencyPenalty(CountingStep):
    """Lower the logits of tokens by an amount for each time they are among the last ones.

    Blanks and e stand some ten times in 64 characters: 0.1 already takes 1 from their logits.
    """

    penalty: float = real(0.1, -10, 10, 0.02, "Subtracted from the logit once per occurrence.")
    last: int = whole(64, 0, _LONGEST, 16, _LAST)

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """Subtract ``penalty`` · count from ``logits`` [B, V]."""
        return logits - self.counts(logits, situation) * np.float32(self.penalty)
