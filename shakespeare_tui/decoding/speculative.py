"""Speculative decoding (arXiv:2211.17192): proposals of any origin, exact in distribution.

A proposed token x, drawn with probability q(x), is accepted with probability min(1, p(x) / q(x)),
where p is what the model and the strategy would draw from; a rejected one is replaced by a draw
from max(p − q, 0), scaled to the sum 1. What comes out is distributed by p, whatever q is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shakespeare_tui.decoding.decoder import FloatArray, IntArray, Precision
from shakespeare_tui.decoding.factory import AnyModel, make_decoder
from shakespeare_tui.decoding.streaming_text import Stop
from shakespeare_tui.decoding.window import WindowReader
from shakespeare_tui.errors import CancelledError, UserError, never
from shakespeare_tui.sampling import Sampler, Strategy
from shakespeare_tui.sampling.random_draws import draw

# Streams of random numbers of their own, beside those of (seed, stream).
_TO_ACCEPT, _TO_PROPOSE = 2**62, 2**62 + 1
# For one pass.
_PROPOSED_TOKENS = 6


@dataclass
class Acceptance:
    """How many tokens were proposed, and how many of them accepted."""

    proposed: int = 0
    accepted: int = 0

    @property
    def rate(self) -> float | None:
        """The share that was accepted; None where nothing was proposed."""
        return self.accepted / self.proposed if self.proposed else None


class Proposer(Protocol):
    """Guesses how a text goes on."""

    def propose(self, text: IntArray, count: int) -> tuple[IntArray, FloatArray]:
        """Up to ``count`` tokens [N] after ``text`` [1, L], and what each was drawn from, [N, V].

        The text begins as it did before, but for proposals that were not accepted.
        """


class ModelProposer:
    """A smaller model, with the same strategy.

    Args:
        model: Has the same vocabulary.
        strategy: What its tokens are drawn by.
        seed: Of its draws.
    """

    def __init__(self, model: AnyModel, strategy: Strategy, *, seed: int = 42) -> None:
        self._reader = WindowReader(make_decoder(model, 1))
        self._sampler = Sampler(strategy, 1, seed)
        self._chance = np.random.Generator(np.random.Philox(key=[seed, _TO_PROPOSE]))
        self._read: IntArray = np.empty(0, np.int64)

    def propose(self, text: IntArray, count: int) -> tuple[IntArray, FloatArray]:
        """Draw ``count`` tokens."""
        # The last token is read anyway: what follows it is asked for.
        known = min(len(self._read), text.shape[1] - 1)
        agree = self._read[:known] == text[0, :known]
        self._reader.forget_after(known if agree.all() else int(agree.argmin()))
        whole = text
        distributions = np.empty((count, self._reader.decoder.vocab_size), np.float32)
        for place in range(count):
            logits = self._reader.read(whole)
            self._read = whole[0]
            probabilities = self._sampler.probabilities(logits, whole)
            distributions[place] = probabilities[0]
            token = draw(probabilities, self._chance.random(1))
            whole = np.concatenate((whole, token[None]), axis=1)
        return whole[0, text.shape[1] :], distributions


class LookUpProposer:
    """Copies what followed the last time that the text read as it does now; needs no model.

    Args:
        vocab_size: V.
        longest: How many of the last tokens are looked for at most.
        shortest: And at least.
    """

    def __init__(self, vocab_size: int, longest: int = 12, shortest: int = 3) -> None:
        self._vocab_size = vocab_size
        self._longest, self._shortest = longest, shortest

    def propose(self, text: IntArray, count: int) -> tuple[IntArray, FloatArray]:
        """Copy up to ``count`` tokens; each was certain."""
        tokens = text[0]
        found = self._find(tokens)
        copied = tokens[found : found + count]
        certain = np.zeros((len(copied), self._vocab_size), np.float32)
        certain[np.arange(len(copied)), copied] = 1
        return copied, certain

    def _find(self, tokens: IntArray) -> int:
        """Where the text goes on after the last place that reads like its end; its length: none."""
        for width in range(min(self._longest, len(tokens) - 1), self._shortest - 1, -1):
            windows = np.lib.stride_tricks.sliding_window_view(tokens[:-1], width)
            places = np.flatnonzero((windows == tokens[-width:]).all(axis=1))
            if len(places):
                return int(places[-1]) + width
        return len(tokens)


def generate_speculatively(
    model: AnyModel,
    prompt: Sequence[int],
    strategy: Strategy,
    proposer: Proposer,
    *,
    max_tokens: int,
    seed: int = 42,
    stop: Stop | None = None,
    cancelled: Callable[[], bool] = never,
    precision: Precision = "float32",
    acceptance: Acceptance | None = None,
) -> Iterator[list[int]]:
    """Yield the tokens of each pass of the model: one more than were accepted.

    Args:
        model: In evaluation mode.
        prompt: At least one token.
        strategy: What the tokens are drawn by.
        proposer: Where proposals come from.
        max_tokens: The most tokens.
        seed: Of what is accepted and drawn; the text is not that of another method's seed.
        stop: What ends the text, as ``StopTexts`` does; the last token is part of it.
        cancelled: Polled before each pass.
        precision: Of the model.
        acceptance: Counts what is proposed and accepted.

    Raises:
        UserError: The prompt is empty, or the strategy searches instead of drawing.
        CancelledError: ``cancelled`` became true.
    """
    if not prompt:
        raise UserError("the prompt is empty; give at least one character, a newline for example")
    if strategy.method not in ("sample", "greedy"):
        raise UserError(f"speculative decoding draws tokens; take a strategy without {strategy}")
    acceptance = acceptance or Acceptance()
    reader = WindowReader(make_decoder(model, 1, precision=precision))
    sampler = Sampler(strategy, 1, seed)
    chance = np.random.Generator(np.random.Philox(key=[seed, _TO_ACCEPT]))
    text = np.array([list(prompt)])
    stream: list[int] = []
    last = len(prompt) + max_tokens
    while text.shape[1] < last:
        if cancelled():
            raise CancelledError("generation was stopped")
        length = text.shape[1]
        count = max(0, min(_PROPOSED_TOKENS, reader.room(length), last - length - 1))
        proposed, drawn_from = proposer.propose(text, count)
        whole = np.concatenate((text, proposed[None]), axis=1)
        logits = reader.read_all(whole, len(proposed) + 1)
        acceptance.proposed += len(proposed)
        written: list[int] = []
        for place in range(len(proposed) + 1):
            beginning = whole[:, : length + place]
            probabilities = sampler.probabilities(logits[:, place], beginning)
            if place == len(proposed):
                token = draw(probabilities, chance.random(1))
                is_accepted = False
            else:
                token, is_accepted = accept(
                    probabilities, drawn_from[place], int(proposed[place]), chance
                )
            acceptance.accepted += is_accepted
            sampler.observe(token)
            written.append(int(token[0]))
            stream.append(int(token[0]))
            is_over = stop is not None and stop(stream)
            if is_over or not is_accepted:
                break
        text = np.concatenate((text, [written]), axis=1)
        yield written
        if is_over:
            return


def accept(
    probabilities: FloatArray, drawn_from: FloatArray, token: int, chance: np.random.Generator
) -> tuple[IntArray, bool]:
    """Accept ``token``, or draw another one.

    Args:
        probabilities: p, [1, V].
        drawn_from: q, [V]; ``token`` was drawn from it.
        token: The proposal.
        chance: Source of random numbers.

    Returns:
        The token [1], and whether it is the proposed one by acceptance.
    """
    if chance.random() * drawn_from[token] < probabilities[0, token]:
        return np.array([token]), True
    rest = np.maximum(probabilities - drawn_from, 0)
    return draw(rest if rest.any() else probabilities, chance.random(1)), False
