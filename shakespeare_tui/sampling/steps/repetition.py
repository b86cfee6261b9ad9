"""Steps that penalise what the text has said before.

They keep summaries of the text as it grows, instead of reading it again for each token.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.sampling.context import SamplingContext
from shakespeare_tui.sampling.logits import MINUS_INFINITY, FloatArray, IntArray
from shakespeare_tui.sampling.registry import Step, real, register, whole

_LEAST_CAPACITY = 256


class RunningSummary(ABC):
    """One row of numbers for each stream, brought forward by one token at a time.

    Drafts beyond the settled text go into a copy. A text that did not simply grow by one token is
    read anew, so that the summary is always a function of the text alone.
    """

    def __init__(self) -> None:
        self._rows: NDArray[Any] | None = None
        self._length = 0

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on with the summary of stream ``rows[i]``."""
        if self._rows is not None:
            self._rows = self._rows[rows]

    def of(self, context: SamplingContext, vocab_size: int) -> NDArray[Any]:
        """The summary of the context's text; not to be written to."""
        tokens, settled = context.tokens, context.settled
        rows = self._rows
        if rows is None or len(rows) != len(tokens) or settled - self._length not in (0, 1):
            rows = self._read(tokens[:, :settled], vocab_size)
        elif settled == self._length + 1:
            rows = self._advance(rows, tokens, self._length)
        self._rows, self._length = rows, settled
        if tokens.shape[1] > settled:
            rows = rows.copy()
            for place in range(settled, tokens.shape[1]):
                rows = self._advance(rows, tokens, place)
        return rows

    @abstractmethod
    def _read(self, tokens: IntArray, vocab_size: int) -> NDArray[Any]:
        """Summarise a whole text [B, L]."""

    @abstractmethod
    def _advance(self, rows: NDArray[Any], tokens: IntArray, place: int) -> NDArray[Any]:
        """Take in ``tokens[:, place]``, the next one; may write to ``rows``."""


class TokenCounts(RunningSummary):
    """How often each token stands among the last ones: float32 [B, V].

    A new token costs one addition, and one subtraction where another leaves the window.
    """

    def __init__(self, window: int) -> None:
        """Count the last ``window`` tokens, or with 0 the whole text."""
        super().__init__()
        self._window = window

    def _read(self, tokens: IntArray, vocab_size: int) -> FloatArray:
        streams = len(tokens)
        seen = tokens[:, -self._window :] if self._window else tokens
        flat = seen + np.arange(streams)[:, None] * vocab_size
        counts = np.bincount(flat.ravel(), minlength=streams * vocab_size)
        return counts.reshape(streams, vocab_size).astype(np.float32)

    def _advance(self, rows: FloatArray, tokens: IntArray, place: int) -> FloatArray:
        streams = np.arange(len(tokens))
        rows[streams, tokens[:, place]] += 1
        if 0 < self._window <= place:
            rows[streams, tokens[:, place - self._window]] -= 1
        return rows


class EndMatches(RunningSummary):
    """How far back the end of the text repeats the text that stands some distance earlier.

    Column d − 1 of the int32 array [B, ≥ L] is the number of last tokens that equal those d places
    before them; the token that followed there is ``tokens[:, L - d]``. A new token lengthens each
    such match by one or ends it, whatever the text was before: one comparison with the text.
    """

    def __init__(self, window: int, longest: int) -> None:
        """Look back over ``window`` tokens, or with 0 over the whole text.

        Args:
            window: The greatest distance.
            longest: Matches longer than this may be told as shorter, but not than this.
        """
        super().__init__()
        self._window, self._longest = window, longest

    def distances(self, length: int) -> int:
        """How many columns count, in a text of ``length`` tokens."""
        return min(length, self._window) if self._window else length

    def _read(self, tokens: IntArray, vocab_size: int) -> NDArray[np.int32]:
        streams, length = tokens.shape
        rows = np.zeros((streams, max(_LEAST_CAPACITY, self.distances(length))), dtype=np.int32)
        for place in range(max(0, length - self._longest), length):
            rows = self._advance(rows, tokens, place)
        return rows

    def _advance(self, rows: NDArray[np.int32], tokens: IntArray, place: int) -> NDArray[np.int32]:
        if rows.shape[1] < self.distances(place + 1):
            rows = np.concatenate([rows, np.zeros_like(rows)], axis=1)
        count = self.distances(place)
        earlier = tokens[:, place - count : place][:, ::-1]
        lengths = rows[:, :count]
        lengths += 1
        lengths *= earlier == tokens[:, place, None]
        return rows


_LARGEST_PENALTY = 1e20
_LONGEST = 1_000_000
_LAST = "How many of the last tokens count, prompt included; 0 is the whole text."


class CountingStep(Step):
    """A step that weighs tokens by how often they are in the text."""

    last: int

    def start(self, streams: int) -> TokenCounts:
        """Nothing is counted yet."""
        return TokenCounts(self.last)

    def counts(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """How often each token [B, V] is among the last."""
        counts: FloatArray = context.state.of(context, logits.shape[1])
        return counts

    def note(self, context: SamplingContext, vocab_size: int) -> str:
        """How much of the text was counted."""
        counts = context.state.of(context, vocab_size)
        return f"{int(counts.sum()):,} counted"


@register("repetition_penalty", title="Repetition penalty", paper="arXiv:1909.05858")
@dataclass(frozen=True)
class RepetitionPenalty(CountingStep):
    """Divide positive and multiply negative logits of tokens that are in the text; 1 does nothing.

    Over a whole text of characters 1.1 is already much.
    """

    penalty: float = real(1.1, 0, _LARGEST_PENALTY, 0.05, "The divisor.", excludes_low=True)
    last: int = whole(0, 0, _LONGEST, 16, _LAST)

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Penalise ``logits`` [B, V]; equals ``transformers``' RepetitionPenaltyLogitsProcessor."""
        if self.penalty == 1:
            return logits
        # Bounded, so that it leaves no infinities, whose difference is no number.
        penalty = max(self.penalty, 1 / _LARGEST_PENALTY)
        penalised = np.where(logits > 0, logits / penalty, logits * penalty)
        return np.where(self.counts(logits, context) > 0, penalised, logits)


@register("presence_penalty", title="Presence penalty", paper="OpenAI API")
@dataclass(frozen=True)
class PresencePenalty(CountingStep):
    """Lower the logits of tokens among the last ones by a fixed amount; below 0 raises them.

    The last 64 characters hold about 20 different ones, so that the others gain by it.
    """

    penalty: float = real(0.5, -10, 10, 0.1, "Subtracted from the logit of tokens already seen.")
    last: int = whole(64, 0, _LONGEST, 16, _LAST)

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Subtract ``penalty`` from ``logits`` [B, V] of tokens that have been used."""
        used = self.counts(logits, context) > 0
        return np.where(used, logits - np.float32(self.penalty), logits)


@register("frequency_penalty", title="Frequency penalty", paper="OpenAI API")
@dataclass(frozen=True)
class FrequencyPenalty(CountingStep):
    """Lower the logits of tokens by an amount for each time they are among the last ones.

    Blanks and e stand some ten times in 64 characters: 0.1 already takes 1 from their logits.
    """

    penalty: float = real(0.1, -10, 10, 0.02, "Subtracted from the logit once per occurrence.")
    last: int = whole(64, 0, _LONGEST, 16, _LAST)

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Subtract ``penalty`` · count from ``logits`` [B, V]."""
        return logits - self.counts(logits, context) * np.float32(self.penalty)


# Rows, tokens and lengths of the matches that would go on.
Continuations = tuple[NDArray[Any], NDArray[Any], NDArray[np.int32]]


def _continuations(logits: FloatArray, context: SamplingContext, least: int) -> Continuations:
    """Where matches of ``least`` tokens or more end, which token followed, and their lengths."""
    tokens, matches = context.tokens, context.state
    length = tokens.shape[1]
    lengths = matches.of(context, logits.shape[1])[:, : matches.distances(length)]
    rows, columns = np.nonzero(lengths >= least)
    return rows, tokens[rows, length - 1 - columns], lengths[rows, columns]


def _longest_repeat(context: SamplingContext, vocab_size: int) -> str:
    matches, length = context.state, context.tokens.shape[1]
    lengths = matches.of(context, vocab_size)[:, : matches.distances(length)]
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

    def note(self, context: SamplingContext, vocab_size: int) -> str:
        """How long a repeat the end of the text is."""
        return _longest_repeat(context, vocab_size)

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Subtract from ``logits`` [B, V] what the longest repeat costs each token."""
        rows, tokens, lengths = _continuations(logits, context, self.allowed)
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

    def note(self, context: SamplingContext, vocab_size: int) -> str:
        """How long a repeat the end of the text is."""
        return _longest_repeat(context, vocab_size)

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Drop from ``logits`` [B, V] what would end a run that was there before."""
        rows, tokens, _ = _continuations(logits, context, self.n - 1)
        if not len(rows):
            return logits
        shaped = logits.copy()
        shaped[rows, tokens] = MINUS_INFINITY
        is_empty = np.maximum.reduce(shaped, axis=1) == MINUS_INFINITY
        shaped[is_empty] = logits[is_empty]
        return shaped
