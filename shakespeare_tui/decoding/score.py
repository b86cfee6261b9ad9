"""Score a text: how surprised a model is at every character, and what it looked at.

The protocol is the rule by which text is generated: a character is predicted from all that stands
before it while that fits into the context; behind it windows move on in hops of half a context. A
short text is seen whole, and in a long one every character is given at least half a context. Means
of this protocol come out lower than an exact evaluation's, whose windows do not overlap.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shakespeare_tui.decoding.factory import Model
from shakespeare_tui.decoding.window import window_start
from shakespeare_tui.errors import CancelledError, UserError, never

_TOKENS_A_PASS = 8192

_Reals = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Candidate:
    """A token that could have stood at a place."""

    token: int
    probability: float


@dataclass(frozen=True, eq=False)
class Surprise:
    """What a model made of every token of a text; N tokens, the first of which it cannot predict.

    Attributes:
        tokens: The text, shape [N].
        nats: Surprise −ln p of each token, shape [N]; NaN for the first.
        entropy: Entropy of what was expected at each place, in nats, shape [N]; NaN for the first.
        rank: Place of each token among all by probability, 1 for the likeliest, shape [N]; 0 for
            the first token.
    """

    tokens: _Integers
    nats: _Reals
    entropy: _Reals
    rank: _Integers
    _model: Model = field(repr=False)

    def mean(self, start: int = 0) -> float | None:
        """Mean nats per token from token ``start`` on.

        None where none of them is predicted, or where the weights are broken and it is no number.
        """
        nats = self.nats[max(start, 1) :]
        mean = float(nats.mean(dtype=np.float64)) if len(nats) else math.nan
        return mean if math.isfinite(mean) else None

    def accuracy(self) -> float:
        """The share of tokens that the model held for the likeliest; NaN where it foretold none."""
        return float((self.rank[1:] == 1).mean()) if len(self.rank) > 1 else math.nan

    def nats_per_character(self, starts: _Integers, start: int = 0) -> float | None:
        """Mean nats per character from character ``start`` on; None where ``mean`` is.

        Args:
            starts: The first character of each token in the text, and the text's end, [N + 1].
            start: A character of the text.
        """
        first = max(1, int(np.searchsorted(starts, start, side="right")) - 1)
        characters = int(starts[-1] - starts[first]) if first < len(starts) else 0
        nats = float(self.nats[first:].sum(dtype=np.float64))
        return nats / characters if characters and math.isfinite(nats) else None

    def logits_at(self, position: int) -> _Reals:
        """Logits [V] of the token at ``position``, computed anew; N is the one after the text.

        Raises:
            IndexError: The position is not in 1 … N.
        """
        return logits_at(self._model, self.tokens, position)

    def top_candidates(self, position: int, k: int) -> tuple[Candidate, ...]:
        """The ``k`` likeliest tokens at ``position``, likeliest first, equal ones by id.

        Raises:
            IndexError: The position is not in 1 … N.
        """
        logits = self.logits_at(position).astype(np.float64)
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        best = np.argsort(-probabilities, kind="stable")[:k]
        return tuple(Candidate(int(token), float(probabilities[token])) for token in best)


def score_tokens(
    model: Model,
    tokens: npt.ArrayLike,
    *,
    batch: int | None = None,
    cancelled: Callable[[], bool] = never,
) -> Surprise:
    """Score a text of any length in memory that grows by a few numbers a token only.

    Args:
        model: In evaluation mode.
        tokens: The text, shape [N].
        batch: Windows in a pass; None takes as many as keep a pass at about 8,192 tokens.
        cancelled: Polled between passes.

    Raises:
        UserError: The text is shorter than two tokens.
        CancelledError: ``cancelled`` became true.
    """
    text = np.asarray(tokens, dtype=np.int64)
    if len(text) < 2:
        raise UserError("the text is too short to be scored: it takes two tokens or more")
    nats, entropy = (np.full(len(text), np.nan, np.float32) for _ in range(2))
    rank = np.zeros(len(text), np.int64)
    for places, logits in _read(model, text[:-1], batch, cancelled):
        chosen = np.take_along_axis(logits, text[places + 1][..., None], -1)
        rank[places + 1] = 1 + (logits > chosen).sum(-1)
        with np.errstate(invalid="ignore"):  # of broken weights, what is said is no number
            highest = logits.max(-1, keepdims=True)
            shifted = logits - highest
            powers = np.exp(shifted)
            sums = powers.sum(-1, keepdims=True)
            log_sums = np.log(sums)
            nats[places + 1] = (log_sums - (chosen - highest))[..., 0]
            # Entropy: log Σ e^z − Σ p z. A probability of 0 adds nothing, where 0 · ∞ is no number.
            np.multiply(powers, shifted, out=shifted, where=powers > 0)
            shifted[powers == 0] = 0
            entropy[places + 1] = (log_sums - shifted.sum(-1, keepdims=True) / sums)[..., 0]
    return Surprise(text, nats, entropy, rank, model)


def logits_of(model: Model, tokens: npt.ArrayLike) -> _Reals:
    """Logits [T, V] of what comes after each of T tokens, by the protocol of scores.

    Args:
        model: In evaluation mode.
        tokens: The text, shape [T].
    """
    text = np.asarray(tokens, dtype=np.int64)
    found = np.empty((len(text), model.vocab_size), np.float32)
    for places, logits in _read(model, text):
        found[places] = logits
    return found


def _read(
    model: Model,
    inputs: _Integers,
    batch: int | None = None,
    cancelled: Callable[[], bool] = never,
) -> Iterator[tuple[_Integers, _Reals]]:
    """Yield places [B, P] in ``inputs`` [T], each once in all, and the logits [B, P, V] there."""
    context = model.context
    rows = batch or max(1, _TOKENS_A_PASS // context)
    for starts, length, predicted in _passes(len(inputs), context, rows):
        if cancelled():
            raise CancelledError("scoring was stopped")
        # [B, length] inputs; their last ``predicted`` places say what comes next
        places = starts[:, None] + np.arange(length)
        yield places[:, -predicted:], model.last_logits(inputs[places], predicted)


def _passes(inputs: int, context: int, rows: int) -> Iterator[tuple[_Integers, int, int]]:
    """Yield the starts of windows, their length, and how many last tokens of each are new.

    The first window predicts all its followers, every later one those that the one before it did
    not reach.
    """
    if not inputs:
        return
    yield np.zeros(1, np.int64), min(context, inputs), min(context, inputs)
    hop = max(1, context // 2)
    whole = np.arange(hop, inputs - context + 1, hop, dtype=np.int64)
    for first in range(0, len(whole), rows):
        yield whole[first : first + rows], context, hop
    if rest := max(0, inputs - context) % hop:
        start = window_start(inputs, context)
        yield np.array([start]), inputs - start, rest


def logits_at(model: Model, tokens: npt.ArrayLike, position: int) -> _Reals:
    """Logits [V] of the token at ``position`` of a text, from the window that predicts it.

    Args:
        model: In evaluation mode.
        tokens: The text, shape [N].
        position: From 1 to N; N is the token after the text.

    Raises:
        IndexError: The position is outside.
    """
    window, _ = _window_before(model, tokens, position)
    logits: _Reals = model.last_logits(window[None], 1)[0, 0]
    return logits


def attention_at(model: Model, tokens: npt.ArrayLike, position: int) -> _Reals:
    """How much each head looked at every earlier token when the one at ``position`` was predicted.

    Args:
        model: In evaluation mode.
        tokens: The text, shape [N].
        position: From 1 to N; N is the token after the text.

    Returns:
        Weights [layers, H, position] that add up to 1 over the tokens before; those before the
        window have 0.

    Raises:
        IndexError: The position is outside.
    """
    window, start = _window_before(model, tokens, position)
    weights = np.zeros((model.config.n_layers, model.config.n_heads, position), np.float32)
    weights[:, :, start:] = model.attention_weights(window)
    return weights


def _window_before(model: Model, tokens: npt.ArrayLike, position: int) -> tuple[_Integers, int]:
    """The window [T] that predicts the token at ``position``, and where it starts."""
    text = np.asarray(tokens, dtype=np.int64)
    if not 1 <= position <= len(text):
        raise IndexError(f"position {position} is not from 1 to {len(text)}")
    start = window_start(position, model.context)
    return text[start:position], start
