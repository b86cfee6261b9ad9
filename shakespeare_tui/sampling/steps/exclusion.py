"""A step that now and then drops the obvious."""

from dataclasses import dataclass

import numpy as np

from shakespeare_tui.sampling.arrays import FloatArray, keep, softmax
from shakespeare_tui.sampling.context import Situation
from shakespeare_tui.sampling.registry import Step, real, register


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

    def note(self, situation: Situation, vocab_size: int) -> str:
        """Whether it acts, and the number that decided."""
        number = float(situation.uniforms()[0])
        return f"{'acts' if number < self.probability else 'idle'} {number:.2f}"

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """Drop the top choices of those rows of ``logits`` [B, V] where it acts."""
        acts = situation.uniforms() < self.probability
        if not acts.any():
            return logits
        probabilities = softmax(logits)
        is_top = (probabilities >= self.threshold) & (logits > -np.inf)
        least = np.where(is_top, probabilities, np.inf).argmin(axis=1)
        is_dropped = is_top & acts[:, None]
        is_dropped[np.arange(len(least)), least] = False
        return keep(logits, ~is_dropped)
