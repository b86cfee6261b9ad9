"""Steps that make tokens less likely for having been used before.

Among some 65 characters every letter is soon in the text, and a penalty that reaches back to the
beginning weighs on all alike; so these can look at the last characters only.
"""

from dataclasses import dataclass

import numpy as np

from shakespeare_tui.core.sampling.arrays import FloatArray
from shakespeare_tui.core.sampling.counts import TokenCounts
from shakespeare_tui.core.sampling.kinds import Step, real, register, whole
from shakespeare_tui.core.sampling.situation import Situation

_LARGEST_PENALTY = 1e20
_LONGEST = 1_000_000


@register("repetition_penalty", title="Repetition penalty", paper="arXiv:1909.05858")
@dataclass(frozen=True)
class RepetitionPenalty(Step):
    """Divide positive and multiply negative logits of tokens that are in the text; 1 does nothing.

    Counts the prompt. Over a whole text of characters 1.1 is already much.
    """

    penalty: float = real(1.1, 0, _LARGEST_PENALTY, 0.05, "The divisor.", excludes_low=True)
    last: int = whole(0, 0, _LONGEST, 16, "How many of the last tokens count; 0 is the whole text.")

    def start(self, streams: int) -> TokenCounts:
        """Nothing is counted yet."""
        return TokenCounts(self.last)

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """Penalise ``logits`` [B, V]; equals ``transformers``' RepetitionPenaltyLogitsProcessor."""
        if self.penalty == 1:
            return logits
        counts = situation.state.of(situation, logits.shape[1])
        # Bounded, so that it leaves no infinities, whose difference is no number.
        penalty = max(self.penalty, 1 / _LARGEST_PENALTY)
        penalised = np.where(logits > 0, logits / penalty, logits * penalty)
        return np.where(counts > 0, penalised, logits)
