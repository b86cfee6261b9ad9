"""Steps that keep the text from repeating whole passages of itself."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.sampling.arrays import MINUS_INFINITY, FloatArray
from shakespeare_tui.sampling.context import Situation
from shakespeare_tui.sampling.registry import Step, real, register, whole
from shakespeare_tui.sampling.steps.repetition import EndMatches

_LARGEST_PENALTY = 1e20

# Rows, tokens and lengths of the matches that would go on.
Continuations = tuple[NDArray[Any], NDArray[Any], NDArray[np.int32]]


def _continuations(logits: FloatArray, situation: Situation, least: int) -> Continuations:
    """Where matches of ``least`` tokens or more end, which token followed, and their lengths."""
    tokens, matches = situation.tokens, situation.state
    length = tokens.shape[1]
    lengths = matches.of(situation, logits.shape[1])[:, : matches.distances(length)]
    rows, columns = np.nonzero(lengths >= least)
    return rows, tokens[rows, length - 1 - columns], lengths[rows, columns]


def _longest_repeat(situation: Situation, vocab_size: int) -> str:
    matches, length = situation.state, situation.tokens.shape[1]
    lengths = matches.of(situation, vocab_size)[:, : matches.distances(length)]
    return f"repeats {int(lengths.max(initial=0)):,}"


@register("dry", title="DRY (don't repeat yourself)", paper="llama.cpp")
@dataclass(frozen=True)
class Dry(Step):
    """Lower the logits of tokens that would go on repeating a passage, the more the longer it is.

    A token that continues a repeat of n last tokens loses multiplier · base^(n − allowed), if n is
    at least ``allowed``. A character is about a fifth of a word, and names and stock phrases must
    be free to come back: hence 20 where tools for words allow 2. Token ids carry no text, so that
    nothing (such as a line's end) breaks a repeat.
    """

    multiplier: float = real(0.8, 0, 100, 0.1, "Penalty where a repeat reaches the allowed length.")
    base: float = real(1.75, 1, 10, 0.05, "Growth of the penalty with each further token.")
    allowed: int = whole(20, 1, 10_000, 1, "Longest repeat without penalty.")
    last: int = whole(1024, 0, 1_000_000, 64, "How many tokens to look back; 0 is the whole text.")

    @property
    def _largest_exponent(self) -> int:
        """Beyond, the loss grows no more: it is already out of all proportion."""
        return int(math.log(_LARGEST_PENALTY) / math.log(self.base)) if self.base > 1.001 else 0

    def start(self, streams: int) -> EndMatches:
        """Nothing is read yet."""
        return EndMatches(self.last, self.allowed + self._largest_exponent)

    def note(self, situation: Situation, vocab_size: int) -> str:
        """How long a repeat the end of the text is."""
        return _longest_repeat(situation, vocab_size)

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """Subtract from ``logits`` [B, V] what the longest repeat costs each token."""
        rows, tokens, lengths = _continuations(logits, situation, self.allowed)
        if not len(rows):
            return logits
        exponents = np.minimum(lengths - self.allowed, self._largest_exponent)
        losses = np.zeros(logits.shape)
        np.maximum.at(losses, (rows, tokens), self.multiplier * self.base**exponents)
        return logits - losses.astype(np.float32)


@register("no_repeat_ngram", title="No repeated n-gram", paper="arXiv:1705.04304")
@dataclass(frozen=True)
class NoRepeatNgram(Step):
    """Let no run of n tokens come twice in a text, the prompt included.

    With characters n must be longer than any name or phrase that may recur: a heading such as
    ``BOLINGBROKE:`` is 12. Where nothing else would be left, the step does nothing.
    """

    n: int = whole(24, 1, 10_000, 1, "Length of the n-grams that may not repeat.")

    def start(self, streams: int) -> EndMatches:
        """Nothing is read yet."""
        return EndMatches(0, self.n - 1)

    def note(self, situation: Situation, vocab_size: int) -> str:
        """How long a repeat the end of the text is."""
        return _longest_repeat(situation, vocab_size)

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """Drop from ``logits`` [B, V] what would end a run that was there before."""
        rows, tokens, _ = _continuations(logits, situation, self.n - 1)
        if not len(rows):
            return logits
        shaped = logits.copy()
        shaped[rows, tokens] = MINUS_INFINITY
        is_empty = np.maximum.reduce(shaped, axis=1) == MINUS_INFINITY
        shaped[is_empty] = logits[is_empty]
        return shaped
