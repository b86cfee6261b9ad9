"""Run a strategy over streams of text: from logits to the next token of each."""

from typing import Any

import numpy as np

from shakespeare_tui.sampling.arrays import FloatArray, IntArray, softmax, sound
from shakespeare_tui.sampling.context import Situation
from shakespeare_tui.sampling.drawing import Uniforms, draw
from shakespeare_tui.sampling.recording import Draw
from shakespeare_tui.sampling.strategy import Strategy

_TO_DRAW_TOKENS, _FOR_STEPS = 0, 1


class Sampler:
    """A strategy at work on several streams.

    The text at the first call is the prompt. ``choose`` is all that plain generation needs. A
    decoder that drafts calls ``probabilities`` with drafted tokens at the end of the text, as
    often as it likes, and ``observe`` for each token that it settles on: nothing else is
    remembered. A text that is shorter than before has been taken back to there. Beam and
    contrastive search rank by ``probabilities`` and choose by themselves.
    """

    def __init__(self, strategy: Strategy, streams: int, seed: int, first_stream: int = 0) -> None:
        """Begin ``streams`` streams.

        Args:
            strategy: Its steps in their order.
            streams: B, how many texts are written at once.
            seed: From 0 to 2^63 − 1.
            first_stream: Index of the first; stream i draws by (seed, first_stream + i).

        Raises:
            UserError: The seed is out of range.
        """
        self.strategy = strategy
        indices = range(first_stream, first_stream + streams)
        self._uniforms = Uniforms(seed, indices, _TO_DRAW_TOKENS)
        self._chances = Uniforms(seed, indices, _FOR_STEPS)
        self._steps = [(step, step.start(streams)) for step in strategy.steps]
        self._given: list[FloatArray] = []
        self._place = 0
        self._situation: Situation | None = None

    def probabilities(self, logits: FloatArray, tokens: IntArray) -> FloatArray:
        """The distribution [B, V] from which the next tokens are drawn.

        Args:
            logits: Of the model, float32 [B, V]; not written to.
            tokens: The whole text so far, prompt included, int64 [B, L].
        """
        return softmax(self._shape(logits, tokens))

    def draw(self, probabilities: FloatArray) -> IntArray:
        """One token [B] from each row of ``probabilities`` [B, V], by this place's numbers."""
        return draw(probabilities, self._uniforms.at(self._place))

    def basis(self, stream: int) -> Draw:
        """What the last ``probabilities`` of a stream came from, before its token is observed."""
        return Draw(
            self.strategy,
            self._given[0][stream].copy(),
            float(self._chance()[stream]),
            tuple(step.remembered(state, stream) for step, state in self._steps),
        )

    def observe(self, chosen: IntArray) -> None:
        """Settle on ``chosen`` [B] as the tokens after the text of the last ``probabilities``."""
        for (step, state), logits in zip(self._steps, self._given, strict=True):
            if state is not None:
                step.observe(state, chosen, logits)
        if self._situation is not None:
            self._situation.settled += 1

    def choose(self, logits: FloatArray, tokens: IntArray) -> IntArray:
        """The next token [B] of each stream, drawn and settled on.

        Args:
            logits: Of the model, float32 [B, V]; not written to.
            tokens: The whole text so far, prompt included, int64 [B, L].
        """
        chosen = self.draw(self.probabilities(logits, tokens))
        self.observe(chosen)
        return chosen

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on from stream ``rows[i]``; fewer rows end the others."""
        self._uniforms.reorder(rows)
        self._chances.reorder(rows)
        self._given = [logits[rows] for logits in self._given]
        for _, state in self._steps:
            if state is not None:
                state.reorder(rows)

    def _shape(self, logits: FloatArray, tokens: IntArray) -> FloatArray:
        situation = self._at(tokens)
        logits = sound(logits)
        self._given = []
        for step, situation.state in self._steps:
            self._given.append(logits)
            logits = step.apply(logits, situation)
        return logits

    def _at(self, tokens: IntArray) -> Situation:
        length = tokens.shape[1]
        situation = self._situation
        if situation is None:
            situation = self._situation = Situation(tokens, length, length, self._chance)
        situation.tokens = tokens
        situation.settled = min(situation.settled, length)
        self._place = length - situation.prompt_length
        return situation

    def _chance(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        return self._chances.at(self._place)
