"""Steps that flatten or sharpen the whole distribution."""

from dataclasses import dataclass

import numpy as np

from shakespeare_tui.sampling.context import SamplingContext
from shakespeare_tui.sampling.logits import FloatArray, entropy, keep_likeliest, softmax
from shakespeare_tui.sampling.registry import Step, real, register

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

    temperature: float = real(0.8, 0, 1000, 0.1, "The logits are divided by it.")

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Divide ``logits`` [B, V]; equals ``transformers``' TemperatureLogitsWarper."""
        if self.temperature >= _SAFE_TEMPERATURE:
            return logits / self.temperature
        if self.temperature == 0:
            return keep_likeliest(logits)
        below = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
        # What falls to −inf has no chance beside the likeliest, which stays at 0.
        with np.errstate(over="ignore"):
            return below / max(self.temperature, _LEAST_TEMPERATURE)


@register("dynamic_temperature", title="Dynamic temperature", paper="llama.cpp")
@dataclass(frozen=True)
class DynamicTemperature(Step):
    """Divide the logits by a temperature that rises with the entropy: bold only where it is unsure.

    It runs from ``temperature`` − ``spread`` where the model is certain to ``temperature`` +
    ``spread`` where all tokens that are left are equally likely. The mean entropy of a character is
    about a third of that, so that most are drawn below ``temperature``.
    """

    temperature: float = real(0.9, 0, 1000, 0.1, "Centre of the temperature range.")
    spread: float = real(0.5, 0, 1000, 0.1, "Half the width of the temperature range.")
    exponent: float = real(
        1.0,
        0,
        100,
        0.1,
        "Exponent on the normalised entropy: above 1 stays low longer, below 1 rises sooner.",
    )

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Divide each row of ``logits`` [B, V] by its own temperature."""
        left = np.count_nonzero(logits > -np.inf, axis=1)
        share = entropy(softmax(logits)) / np.log(np.maximum(left, 2))
        low, high = max(0, self.temperature - self.spread), self.temperature + self.spread
        own = low + (high - low) * np.clip(share, 0, 1) ** self.exponent
        divisors: FloatArray = np.maximum(own, _SAFE_TEMPERATURE).astype(np.float32)
        return logits / divisors[:, None]
