"""What the tokens of a text were chosen from, noted while it is written."""

from dataclasses import dataclass, replace
from typing import Self

from shakespeare_tui.sampling.arrays import FloatArray, sound
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
        self._free = most_bytes

    def __len__(self) -> int:
        return len(self._draws)

    def add(self, draw: Draw) -> None:
        """Note the draw of the next token."""
        self._free -= draw.logits.nbytes + (0 if draw.scores is None else draw.scores.nbytes)
        if self._free >= 0:
            self._draws.append(draw)

    def at(self, place: int) -> Draw | None:
        """The draw of the ``place``-th token, from 0; None where none was noted."""
        return self._draws[place] if 0 <= place < len(self._draws) else None
