"""Chains of sampling as numbers, for decoders that draw by themselves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.sampling import Strategy
from shakespeare_tui.sampling.logits import FloatArray, IntArray

MOST_DRAFTS = 11
"""Tokens that are drafted at once: the model reads twelve in the time of eight."""
NOTHING = -1
(
    TEMPERATURE,
    GREEDY,
    TOP_K,
    TOP_P,
    MIN_P,
    REPETITION_PENALTY,
    PRESENCE_PENALTY,
    FREQUENCY_PENALTY,
) = range(8)
_KINDS = {
    "temperature": TEMPERATURE,
    "greedy": GREEDY,
    "top_k": TOP_K,
    "top_p": TOP_P,
    "min_p": MIN_P,
    "repetition_penalty": REPETITION_PENALTY,
    "presence_penalty": PRESENCE_PENALTY,
    "frequency_penalty": FREQUENCY_PENALTY,
}
_PENALTIES = (REPETITION_PENALTY, PRESENCE_PENALTY, FREQUENCY_PENALTY)
# Below, a quotient may overflow, which the definition sees to.
_SAFE_TEMPERATURE = 1e-6
_LARGEST_PENALTY = 1e20

Chain = list[tuple[int, float, int]]
"""For each step its kind, its value, and how many of the last tokens it counts, 0 for all."""


def chain_of(strategy: Strategy) -> Chain | None:
    """The steps of a strategy as numbers; None where one of them is not a common one."""
    chain: Chain = []
    for step in strategy.steps:
        kind = _KINDS.get(step.kind.name)
        if kind is None:
            return None
        value, window = (*map(float, step.values.values()), 0.0, 0.0)[:2]
        if kind == TEMPERATURE and value < _SAFE_TEMPERATURE:
            if value > 0:
                return None
            kind = GREEDY
        does_nothing = (kind, value) in ((TOP_P, 1), (MIN_P, 0), (REPETITION_PENALTY, 1))
        if kind == REPETITION_PENALTY:
            value = max(value, 1 / _LARGEST_PENALTY)
        if not does_nothing:
            chain.append((kind, value, int(window)))
    return chain


@dataclass(frozen=True, eq=False)
class Draws:
    """How the tokens of B streams are drawn, by chains of up to S steps.

    Attributes:
        kinds: [B, S]; ``NOTHING`` after the end of a chain.
        values: [B, S].
        windows: [B, S].
        counts: How often each token is in what a penalty counts, [B, S, V]; [B, S, 0] where there
            are no penalties. Brought forward with every token.
        uniforms: Numbers in [0, 1), [B, T].
    """

    kinds: IntArray
    values: NDArray[np.float64]
    windows: IntArray
    counts: FloatArray
    uniforms: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        chains: Sequence[Chain],
        text: IntArray,
        vocab_size: int,
        uniforms: NDArray[np.float64],
    ) -> "Draws":
        """Go on from ``text`` [B, L] by a chain a stream."""
        steps = max(map(len, chains))
        kinds = np.full((len(chains), steps), NOTHING)
        values, windows = np.zeros(kinds.shape), np.zeros(kinds.shape, np.int64)
        has_penalties = any(kind in _PENALTIES for chain in chains for kind, _, _ in chain)
        counts = np.zeros((*kinds.shape, vocab_size if has_penalties else 0), np.float32)
        for row, chain in enumerate(chains):
            for place, (kind, value, window) in enumerate(chain):
                kinds[row, place], values[row, place], windows[row, place] = kind, value, window
                if kind in _PENALTIES:
                    counts[row, place] = np.bincount(text[row, -window:], minlength=vocab_size)
        return cls(kinds, values, windows, counts, uniforms)

    def of_rows(self, rows: slice) -> "Draws":
        """Those of some of the streams, in the same memory."""
        return Draws(
            self.kinds[rows],
            self.values[rows],
            self.windows[rows],
            self.counts[rows],
            self.uniforms[rows],
        )
