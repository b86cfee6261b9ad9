"""Run a strategy over streams of text: from logits to the next token of each."""

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from shakespeare_tui.sampling.context import SamplingContext
from shakespeare_tui.sampling.logits import FloatArray, IntArray, softmax, sound
from shakespeare_tui.sampling.random_draws import Uniforms, draw
from shakespeare_tui.sampling.strategy import Strategy

_MOST_BYTES = 16 * 2**20


@dataclass(frozen=True, eq=False)
class Draw:
    """What one token was chosen from.

    Attributes:
        strategy: What chose it.
        logits: Of the model, as samplers need them, float32 [V].
        chance: The number in [0, 1) of steps that act only sometimes.
        remembered: What each step remembered that cannot be read off the text.
        scores: Where a search chose: the scores of the tokens that it kept, NaN for the others,
            float32 [V].
    """

    strategy: Strategy
    logits: FloatArray
    chance: float
    remembered: tuple[float | None, ...]
    scores: FloatArray | None = None

    @classmethod
    def imagined(cls, strategy: Strategy, logits: FloatArray) -> Self:
        """A draw that did not happen: steps are as at their beginning, and all of them act."""
        return cls(strategy, sound(logits[None])[0], 0.0, (None,) * len(strategy.steps))

    def by(self, strategy: Strategy) -> "Draw":
        """The same place under another strategy: steps of the same kind remember what they did."""
        if strategy == self.strategy:
            return self
        kinds = [step.kind for step in self.strategy.steps]
        known = dict(zip(kinds, self.remembered, strict=True))
        remembered = tuple(known.get(step.kind) for step in strategy.steps)
        return replace(self, strategy=strategy, remembered=remembered, scores=None)


class Recording:
    """The draws of one stream in the order of its tokens; it may be read while it grows.

    Of a very long text the beginning alone is kept, in bounded memory.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._draws: list[Draw] = []
        self._starts: list[int] = []
        self._characters = 0
        self._free = most_bytes

    def __len__(self) -> int:
        return len(self._draws)

    def add(self, draw: Draw) -> None:
        """Note the draw of the next token."""
        self._free -= draw.logits.nbytes + (0 if draw.scores is None else draw.scores.nbytes)
        if self._free >= 0:
            self._draws.append(draw)

    def extend(self, draws: list[Draw]) -> None:
        """Note the draws of the next tokens."""
        for each in draws:
            self.add(each)

    def place(self, characters: int) -> None:
        """Note how many characters begin in the next token of those that were drawn."""
        self._starts.append(self._characters)
        self._characters += characters

    @property
    def placed(self) -> tuple[int, int]:
        """How many tokens were placed, and how many characters begin in them."""
        return len(self._starts), self._characters

    def at_character(self, position: int) -> Draw | None:
        """The draw of the token in which a character begins, counted from the first token's."""
        if not self._starts:
            return self.at(position)
        is_inside = 0 <= position < self._characters
        return self.at(bisect_right(self._starts, position) - 1) if is_inside else None

    def at(self, place: int) -> Draw | None:
        """The draw of the ``place``-th token, from 0; None where none was noted."""
        return self._draws[place] if 0 <= place < len(self._draws) else None


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
        self._context: SamplingContext | None = None

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

    def uniforms(self, length: int, count: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """The numbers [B, count] that draw the tokens after a text of ``length`` tokens and on.

        ``probabilities`` has been asked for before.
        """
        assert self._context is not None
        first = length - self._context.prompt_length
        # Compiled code is for arrays in this order.
        return np.ascontiguousarray(self._uniforms.between(first, first + count).T)

    def follow(self, length: int, count: int) -> None:
        """Let somebody else have drawn ``count`` tokens by these numbers, by steps without memory.

        Args:
            length: Of the text before them, prompt included.
            count: At least 1.
        """
        assert self._context is not None
        self._place = length + count - 1 - self._context.prompt_length
        self._given = []
        self._context.settled += count

    def bases(self, stream: int, logits: FloatArray, length: int) -> list[Draw]:
        """What tokens of a stream came from that somebody else drew by steps without memory.

        Args:
            stream: Which.
            logits: Of the model, sound, float32 [T, V]; kept.
            length: Of the text before the first of them, prompt included.
        """
        assert self._context is not None
        first = length - self._context.prompt_length
        chances = self._chances.between(first, first + len(logits))[:, stream].tolist()
        nothing = (None,) * len(self._steps)
        return [
            Draw(self.strategy, row, chance, nothing)
            for row, chance in zip(logits, chances, strict=True)
        ]

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
        for (step, state), logits in zip(self._steps, self._given, strict=False):
            if state is not None:
                step.observe(state, chosen, logits)
        if self._context is not None:
            self._context.settled += 1

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
        context = self._at(tokens)
        logits = sound(logits)
        self._given = []
        for step, context.state in self._steps:
            self._given.append(logits)
            logits = step.apply(logits, context)
        return logits

    def _at(self, tokens: IntArray) -> SamplingContext:
        length = tokens.shape[1]
        context = self._context
        if context is None:
            context = self._context = SamplingContext(tokens, length, length, self._chance)
        context.tokens = tokens
        context.settled = min(context.settled, length)
        self._place = length - context.prompt_length
        return context

    def _chance(self) -> "np.ndarray[Any, np.dtype[np.float64]]":
        return self._chances.at(self._place)


@dataclass(frozen=True, eq=False)
class TraceStage:
    """The distribution after one step.

    Attributes:
        name: ``model``, or the step's name.
        text: The step as it is written; empty for the model's own stage.
        probabilities: Float32 [V].
        note: What chance or memory told the step, in a few words.
        scores: For a search, which does not draw: the scores of the tokens that it kept, NaN for
            the others, float32 [V]; none are known where no search was made.
    """

    name: str
    text: str
    probabilities: FloatArray
    note: str = ""
    scores: FloatArray | None = None


def trace(draw: Draw, tokens: IntArray) -> list[TraceStage]:
    """The distribution as the model gave it and after each step of the strategy, in their order.

    Args:
        draw: What was noted at this place, or is imagined there.
        tokens: The whole text so far, int64 [L].
    """
    text = np.asarray(tokens, dtype=np.int64)[None]
    length, vocab_size = text.shape[1], len(draw.logits)
    context = SamplingContext(text, length, length, lambda: np.array([draw.chance]))
    shaped = draw.logits[None]
    stages = [TraceStage("model", "", softmax(shaped)[0])]
    for step, remembered in zip(draw.strategy.steps, draw.remembered, strict=True):
        context.state = step.recall(remembered)
        shaped = step.apply(shaped, context)
        note, scores = step.note(context, vocab_size), None
        if step.kind.method in ("beam", "contrastive"):
            none = np.full(vocab_size, np.nan, np.float32)
            scores = none if draw.scores is None else draw.scores
            note = "no search here" if draw.scores is None else "score"
        stages.append(TraceStage(step.kind.name, step.text, softmax(shaped)[0], note, scores))
    return stages
