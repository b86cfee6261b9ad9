"""Beam search with length penalty (arXiv:1609.08144)."""

import math

import numpy as np

from shakespeare_tui.core.sampling import Sampler, Strategy
from shakespeare_tui.engine.decoding.choosers import ENDED, WAITING, Stops, ends_in
from shakespeare_tui.engine.decoding.decoder import Decoder, FloatArray, IntArray


class BeamChooser:
    """Follows the likeliest beginnings side by side; the best texts are known at the end.

    The score of a text of n tokens is its log-probability, after the strategy's other steps,
    divided by n to the power of the length penalty. A beginning ends with a stop sequence, or with
    the last token.

    Args:
        strategy: Its last step is ``beam``.
        samples: How many of the best texts are given; no more than there are beams.
        stops: What ends a text.
    """

    lag = 0

    def __init__(self, strategy: Strategy, samples: int, stops: Stops) -> None:
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
        self._texts: list[tuple[float, list[int]]] = []

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
        for place in best.tolist():
            score = float(scores[place])
            if score == -math.inf or len(going_on) == self.rows:
                break
            tokens = [*self._beginnings[place // vocab_size], place % vocab_size]
            if ends_in(tokens, self._stops):
                self._texts.append((self._rate(score, len(tokens)), tokens))
            else:
                going_on.append(place)
                beginnings.append(tokens)
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
        self.parents, self.tokens = places // vocab_size, places % vocab_size
        self._sampler.reorder(self.parents)
        self._sampler.observe(self.tokens)

    def left(self) -> list[list[int]]:
        """The best texts."""
        alive = [
            (self._rate(score, len(tokens)), tokens)
            for score, tokens in zip(self._scores.tolist(), self._beginnings, strict=False)
            if score > -math.inf
        ]
        ranked = sorted(self._texts + alive, key=lambda text: -text[0])
        texts = [tokens for _, tokens in ranked[: self.samples]]
        return texts + [[] for _ in range(self.samples - len(texts))]

    def _rate(self, score: float, length: int) -> float:
        return score / math.pow(length, self._penalty)
