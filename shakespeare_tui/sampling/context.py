"""Where generation stands when a step is applied: the text so far and the stream's chance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.sampling.logits import IntArray


class StepState(Protocol):
    """What a step remembers of each stream from token to token."""

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on from what was remembered of stream ``rows[i]``."""


def no_uniforms() -> NDArray[np.float64]:
    """Stand in where nothing is left to chance."""
    raise LookupError("this context has no uniform numbers")


@dataclass(slots=True)
class SamplingContext:
    """What a step may look at besides the logits.

    Attributes:
        tokens: The whole text so far, prompt included, int64 [B, L].
        prompt_length: How many of them are the prompt.
        settled: How many of them will not be taken back. Beyond stand drafts at most, which a
            step must see but not remember.
        uniforms: Gives one number in [0, 1) a stream, float64 [B], for this place in the text: a
            function of seed, stream and place alone, and independent of those that draw tokens.
        state: What the step's own ``start`` returned.
    """

    tokens: IntArray
    prompt_length: int
    settled: int
    uniforms: Callable[[], NDArray[np.float64]] = no_uniforms
    state: Any = None
