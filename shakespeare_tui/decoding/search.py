"""Beam search with length penalty (arXiv:1609.08144)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from shakespeare_tui.decoding.choosers import ENDED, WAITING, Stops, ends_in
from shakespeare_tui.decoding.decoder import Decoder, FloatArray, IntArray
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
        stops: What ends a text.
        recordings: Of the samples, to note what each token was chosen from; or none.
    """

    lag = 0

    def __init__(
        self,
        strategy: Strategy,
        samples: int,
        stops: Stops,
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
        self._stops = stops
        # No step before a beam leaves anything to chance by seed.
        self._sampler = Sampler(strategy, width, seed=0)
        # At first all beams are the same, and one stands for all.
        self._scores = np.full(width, -math.inf)
        self._scores[0] = 0
        self._beginnings: list[list[int]] = [[] for _ in range(width)]
        self._texts: list[tuple[float, list[int], _Choice | None]] = []
        self._recordings = recordings
        self._choices: list[_Choice | None] = [None] * width

    def advance(
        self, logits: FloatArray, text: IntArray, decoder: Decoder, rows: slice
    ) -> list[int]:
        """Lengthen the beams by the best tokens of all."""
        with np.errstate(divide="ignore"):
            logarithms = np.log(self._sampler.probabilities(logits, text), dtype=np.float64)
        # [W · V]: every beam with every token
        scores = (self._scores[:, None] + logarithms).reshape(-1)
        vocab_size = logits.shape[1]
        # As many more as could end at once, so that the beams stay filled.
        count = min(len(scores), self.rows * (1 + len(self._stops)))
        best = np.argsort(-scores, kind="stable")[:count]
        self._choose(best, scores, vocab_size)
        return [ENDED if self.is_over else WAITING] * self.samples

    def _choose(self, best: IntArray, scores: FloatArray, vocab_size: int) -> None:
        """Sort the ``best`` places in ``scores`` into texts that end and beams that go on."""
        going_on: list[int] = []
        beginnings: list[list[int]] = []
        ended: list[tuple[int, float, list[int]]] = []
        for place in best.tolist():
            score = float(scores[place])
            if score == -math.inf or len(going_on) == self.rows:
                break
            tokens = [*self._beginnings[place // vocab_size], place % vocab_size]
            if ends_in(tokens, self._stops):
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
