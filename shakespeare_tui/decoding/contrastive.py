"""Contrastive search (arXiv:2202.06417)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shakespeare_tui.decoding.choosers import WAITING, Stops, ends_in
from shakespeare_tui.decoding.decoder import Decoder, FloatArray, IntArray
from shakespeare_tui.sampling import Draw, Recording, Sampler, Strategy


class ContrastiveChooser:
    """Of the k likeliest tokens, takes the one that is likely and unlike what was there before.

    The score of a token is (1 − alpha) · probability − alpha · the largest cosine of its hidden
    state to that of an earlier token in the window. To know the hidden states, all k are read: each
    is a row of the decoder, and a token is known one pass after it was proposed.

    Args:
        strategy: Its last step is ``contrastive``.
        samples: Leaves nothing to chance: all are the same text.
        stops: What ends it.
        recordings: Of the samples, to note what each token was chosen from; or none.
    """

    lag = 1

    def __init__(
        self,
        strategy: Strategy,
        samples: int,
        stops: Stops,
        recordings: Sequence[Recording] = (),
    ) -> None:
        parameters = strategy.steps[-1].values
        self.samples = samples
        self.rows = int(parameters["k"])
        self.tokens = np.zeros(self.rows, np.int64)
        self.parents: IntArray | None = np.zeros(self.rows, np.int64)
        self.is_over = False
        self._alpha = float(parameters["alpha"])
        self._stops = stops
        self._recordings = recordings
        self._basis: Draw | None = None
        self._sampler = Sampler(strategy, 1, seed=0)
        self._probabilities: FloatArray | None = None
        self._directions: FloatArray = np.empty((0, 0), np.float32)
        self._written: list[int] = []

    def advance(
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
            self.is_over = ends_in(self._written, self._stops)
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
