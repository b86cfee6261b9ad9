"""Steps that flatten or sharpen the whole distribution."""

from dataclasses import dataclass

import numpy as np

from shakespeare_tui.core.sampling.arrays import FloatArray, keep_likeliest
from shakespeare_tui.core.sampling.kinds import Step, real, register
from shakespeare_tui.core.sampling.situation import Situation

# Below, a quotient of float32 logits may overflow.
_SAFE_TEMPERATURE = 1e-6
_LEAST_TEMPERATURE = 1e-30


@register("temperature", title="Temperature")
@dataclass(frozen=True)
class Temperature(Step):
    """Divide the logits: below 1 plays safe, above 1 takes risks, 0 keeps only the likeliest.

    A model of characters is surest inside words, so that it bears 0.8 to 1 well; much above 1,
    spelling breaks first.
    """

    temperature: float = real(0.8, 0, 1000, 0.1, "What the logits are divided by.")

    def apply(self, logits: FloatArray, situation: Situation) -> FloatArray:
        """Divide ``logits`` [B, V]; equals ``transformers``' TemperatureLogitsWarper."""
        if self.temperature >= _SAFE_TEMPERATURE:
            return logits / self.temperature
        if self.temperature == 0:
            return keep_likeliest(logits)
        below = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
        # What falls to −inf has no chance beside the likeliest, which stays at 0.
        with np.errstate(over="ignore"):
            return below / max(self.temperature, _LEAST_TEMPERATURE)
