"""What each step of a strategy makes of one distribution: the sampler's X-ray."""

from dataclasses import dataclass

import numpy as np

from shakespeare_tui.core.sampling.arrays import FloatArray, IntArray, softmax, sound
from shakespeare_tui.core.sampling.situation import Situation
from shakespeare_tui.core.sampling.strategy import Strategy


@dataclass(frozen=True, eq=False)
class TraceStage:
    """The distribution after one step.

    Attributes:
        name: ``model``, or the step's name.
        text: The step as it is written; empty for the model's own stage.
        probabilities: Float32 [V].
    """

    name: str
    text: str
    probabilities: FloatArray


def trace(
    strategy: Strategy,
    logits: FloatArray,
    tokens: IntArray,
    *,
    prompt_length: int | None = None,
    uniform: float = 0.0,
) -> list[TraceStage]:
    """The distribution as the model gave it and after each step, in their order.

    Steps that adapt from token to token stand at their beginning.

    Args:
        strategy: The steps.
        logits: Of the model, float32 [V].
        tokens: The whole text so far, int64 [L].
        prompt_length: How much of it is the prompt; None is all.
        uniform: The chance of steps that act only sometimes; 0 lets all of them act.
    """
    text = np.asarray(tokens, dtype=np.int64)[None]
    length = text.shape[1]
    prompt = length if prompt_length is None else prompt_length
    situation = Situation(text, prompt, length, lambda: np.array([uniform]))
    shaped = sound(np.asarray(logits)[None])
    stages = [TraceStage("model", "", softmax(shaped)[0])]
    for step in strategy.steps:
        situation.state = step.start(1)
        shaped = step.apply(shaped, situation)
        stages.append(TraceStage(step.kind.name, step.text, softmax(shaped)[0]))
    return stages
