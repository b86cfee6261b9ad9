"""What each step of a strategy makes of one distribution: the sampler's X-ray."""

from dataclasses import dataclass

import numpy as np

from shakespeare_tui.sampling.arrays import FloatArray, IntArray, softmax
from shakespeare_tui.sampling.context import Situation
from shakespeare_tui.sampling.recording import Draw


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
    situation = Situation(text, length, length, lambda: np.array([draw.chance]))
    shaped = draw.logits[None]
    stages = [TraceStage("model", "", softmax(shaped)[0])]
    for step, remembered in zip(draw.strategy.steps, draw.remembered, strict=True):
        situation.state = step.recall(remembered)
        shaped = step.apply(shaped, situation)
        note, scores = step.note(situation, vocab_size), None
        if step.kind.method in ("beam", "contrastive"):
            none = np.full(vocab_size, np.nan, np.float32)
            scores = none if draw.scores is None else draw.scores
            note = "no search here" if draw.scores is None else "score"
        stages.append(TraceStage(step.kind.name, step.text, softmax(shaped)[0], note, scores))
    return stages
