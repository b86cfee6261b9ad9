"""Beam search with length penalty (arXiv:1609.08144)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from shakespeare_tui.decoding.choosers import ENDED, WAITING
from shakespeare_tui.decoding.decoder import Decoder, FloatArray, IntArray
from shakespeare_tui.decoding.streaming_text import Stop
from shakespeare_tui.sampling import Draw, Recording, Sampler, Strategy


@dataclass(frozen=True, eq=False)
class _Choice:
    """What the last token of a beginning was chosen from, and the choices before it."""

    before: Self | None
    draw: Draw


class BeamChooser:
    """Follows the likeliest beginnings side by side; the best texts are known at the end.

    The score of a text of n tokens is its log-probability, after the strategy's other steps,
    divided by n to the power of the length penalty. A beginning ends with a stop sequence, or with
    the last token.

    Args:
        strategy: Its last step is ``beam``.
        samples: How many of the best texts are given; no more than there are beams.
        stop: What ends a text.
        recordings: Of the samples, to note what each token was chosen from; or none.
    """

    lag = 0

    def __init__(
        self,
        strategy: Strategy,
        samples: int,
        stop: Stop | None,
        recordings: Sequence[Recording] = (),
    ) -> None:
        parameters = strategy.steps[-1].values
        width = int(parameters["width"])
        self.samples = samples
        self.rows = width
        self.tokens = np.zeros(width, np.int64)
        self.parents: IntArray | None = np.zeros(width, np.int64)
        self.is_over = False
        self._penalty = float(parameters["length_penalty"])
        self._stop = stop
        # No step before a beam leaves anything to chance by seed.
        self._sampler = Sampler(strategy, width, seed=0)
        # At first all beams are the same, and one stands for all.
        self._scores = np.full(width, -math.inf)
        self._scores[0] = 0
        self._beginnings: list[list[int]] = [[] for _ in range(width)]
        self._texts: list[tuple[float, list[int], _Choice | None]] = []
        self._recordings = recordings
        self._choices: list[_Choice | None] = [None] * width

    def choose(
        self, logits: FloatArray, text: IntArray, decoder: Decoder, rows: slice
    ) -> list[int]:
        """Lengthen the beams by the best tokens of all."""
        with np.errstate(divide="ignore"):
            logarithms = np.log(self._sampler.probabilities(logits, text), dtype=np.float64)
        # [W · V]: every beam with every token
        scores = (self._scores[:, None] + logarithms).reshape(-1)
        vocab_size = logits.shape[1]
        # All of them: it is not known how many end, and the beams are to stay filled.
        best = np.argsort(-scores, kind="stable")
        self._choose(best, scores, vocab_size)
        return [ENDED if self.is_over else WAITING] * self.samples

    def _choose(self, best: IntArray, scores: FloatArray, vocab_size: int) -> None:
        """Sort the ``best`` places in ``scores`` into texts that end and beams that go on."""
        going_on: list[int] = []
        beginnings: list[list[int]] = []
        ended: list[tuple[int, float, list[int]]] = []
        for place in map(int, best):
            score = float(scores[place])
            if score == -math.inf or len(going_on) == self.rows:
                break
            tokens = [*self._beginnings[place // vocab_size], place % vocab_size]
            if self._stop is not None and self._stop(tokens):
                ended.append((place, self._rate(score, len(tokens)), tokens))
            else:
                going_on.append(place)
                beginnings.append(tokens)
        kept = {place: self._rate(float(scores[place]), len(beginnings[0])) for place in going_on}
        kept |= {place: rate for place, rate, _ in ended}
        choices = self._choices_of(kept, vocab_size)
        self._texts += [(rate, tokens, choices[place]) for place, rate, tokens in ended]
        self.is_over = not going_on
        if self.is_over:
            self._scores[:] = -math.inf
            self._beginnings = []
            return
        # Where there are fewer beams than places, the rest stand idle.
        idle = self.rows - len(going_on)
        places = np.array(going_on + going_on[:1] * idle)
        self._scores = np.where(np.arange(self.rows) < len(going_on), scores[places], -math.inf)
        self._beginnings = beginnings + [beginnings[0]] * idle
        self._choices = [choices[place] for place in places.tolist()]
        self.parents, self.tokens = places // vocab_size, places % vocab_size
        self._sampler.reorder(self.parents)
        self._sampler.observe(self.tokens)

    def _choices_of(self, kept: dict[int, float], vocab_size: int) -> dict[int, _Choice | None]:
        """What the tokens at the places that were kept were chosen from; they are rated."""
        if not self._recordings:
            return dict.fromkeys(kept)
        made: dict[int, _Choice] = {}
        for row in {place // vocab_size for place in kept}:
            rates = np.full(vocab_size, np.nan, np.float32)
            for place, rate in kept.items():
                if place // vocab_size == row:
                    rates[place % vocab_size] = rate
            made[row] = _Choice(self._choices[row], replace(self._sampler.basis(row), scores=rates))
        return {place: made[place // vocab_size] for place in kept}

    def left(self) -> list[list[int]]:
        """The best texts."""
        alive = [
            (self._rate(score, len(tokens)), tokens, choice)
            for score, tokens, choice in zip(
                self._scores.tolist(), self._beginnings, self._choices, strict=False
            )
            if score > -math.inf
        ]
        ranked = sorted(self._texts + alive, key=lambda text: -text[0])[: self.samples]
        for recording, (_, _, choice) in zip(self._recordings, ranked, strict=False):
            draws = []
            while choice is not None:
                draws.append(choice.draw)
                choice = choice.before
            for draw in reversed(draws):
                recording.add(draw)
        texts = [tokens for _, tokens, _ in ranked]
        return texts + [[] for _ in range(self.samples - len(texts))]

    def _rate(self, score: float, length: int) -> float:
        return score / math.pow(length, self._penalty)


class ContrastiveChooser:
    """Of the k likeliest tokens, takes the one that is likely and unlike what was there before.

    The score of a token is (1 − alpha) · probability − alpha · the largest cosine of its hidden
    state to that of an earlier token in the window. To know the hidden states, all k are read: each
    is a row of the decoder, and a token is known one pass after it was proposed.

    Args:
        strategy: Its last step is ``contrastive``.
        samples: Leaves nothing to chance: all are the same text.
        stop: What ends it.
        recordings: Of the samples, to note what each token was chosen from; or none.
    """

    lag = 1

    def __init__(
        self,
        strategy: Strategy,
        samples: int,
        stop: Stop | None,
        recordings: Sequence[Recording] = (),
    ) -> None:
        parameters = strategy.steps[-1].values
        self.samples = samples
        self.rows = int(parameters["k"])
        self.tokens = np.zeros(self.rows, np.int64)
        self.parents: IntArray | None = np.zeros(self.rows, np.int64)
        self.is_over = False
        self._alpha = float(parameters["alpha"])
        self._stop = stop
        self._recordings = recordings
        self._basis: Draw | None = None
        self._sampler = Sampler(strategy, 1, seed=0)
        self._probabilities: FloatArray | None = None
        self._directions: FloatArray = np.empty((0, 0), np.float32)
        self._written: list[int] = []

    def choose(
        self, logits: FloatArray, text: IntArray, decoder: Decoder, rows: slice
    ) -> list[int]:
        """Take one of the candidates that were read, and propose those after it."""
        hidden = decoder.hidden[rows]
        # [k, T, C], of length 1
        directions = hidden / np.linalg.norm(hidden, axis=2, keepdims=True)
        chosen, token = 0, WAITING
        if self._probabilities is None:
            # The prompt has been read; nothing is proposed yet.
            self._directions = directions[0]
        else:
            if decoder.length == hidden.shape[1]:
                # The window has moved and was read anew.
                self._directions = directions[0, :-1]
            likeness = (directions[:, -1] @ self._directions.T).max(axis=1, initial=-1)
            scores = (1 - self._alpha) * self._probabilities - self._alpha * likeness
            chosen = int(scores.argmax())
            token = int(self.tokens[chosen])
            self._record(scores)
            self._directions = np.concatenate((self._directions, directions[chosen, -1:]))
            self._sampler.observe(self.tokens[chosen : chosen + 1])
            self._written.append(token)
            self.is_over = self._stop is not None and self._stop(self._written)
        self._propose(logits[chosen], text[chosen], chosen)
        return [token] * self.samples

    def _record(self, scores: FloatArray) -> None:
        if self._basis is not None:
            kept = np.full(len(self._basis.logits), np.nan, np.float32)
            kept[self.tokens] = scores
            for recording in self._recordings:
                recording.add(replace(self._basis, scores=kept))

    def _propose(self, logits: FloatArray, text: IntArray, chosen: int) -> None:
        """Let the k likeliest tokens after the row ``chosen`` be read next."""
        probabilities = self._sampler.probabilities(logits[None], text[None])[0]
        self._basis = self._sampler.basis(0) if self._recordings else None
        order = np.argsort(-probabilities, kind="stable")[: self.rows]
        # Of a vocabulary smaller than k, the last token stands for the missing ones.
        order = np.concatenate((order, np.repeat(order[-1:], self.rows - len(order))))
        self.tokens, self._probabilities = order, probabilities[order]
        self.parents = np.full(self.rows, chosen)

    def left(self) -> list[list[int]]:
        """Nothing."""
        return [[] for _ in range(self.samples)]
