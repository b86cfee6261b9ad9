"""Steps that say how tokens are chosen; without one, they are drawn.

The searches need the model and are done by the engine; here are their names and parameters.
"""

from dataclasses import dataclass

from shakespeare_tui.sampling.context import SamplingContext
from shakespeare_tui.sampling.logits import FloatArray, keep_likeliest
from shakespeare_tui.sampling.registry import Step, real, register, whole


@register("greedy", title="Greedy", method="greedy")
@dataclass(frozen=True)
class Greedy(Step):
    """Always take the likeliest token."""

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Leave the likeliest of each row of ``logits`` [B, V]; of equals the lowest id."""
        return keep_likeliest(logits)


class SearchStep(Step):
    """A method that looks further than one token."""

    def apply(self, logits: FloatArray, context: SamplingContext) -> FloatArray:
        """Leave ``logits`` [B, V] as they are: the search ranks by them."""
        return logits


@register("beam", title="Beam search", paper="arXiv:1609.08144", method="beam")
@dataclass(frozen=True)
class Beam(SearchStep):
    """Keep the most likely beams and take the most likely whole text.

    The score of a text is its log-probability divided by its length to the power of
    ``length_penalty``.
    """

    width: int = whole(4, 1, 256, 1, "How many beams are kept.")
    length_penalty: float = real(
        1, -10, 10, 0.1, "Length penalty: above 0 favours long texts, below 0 short ones."
    )


@register("contrastive", title="Contrastive search", paper="arXiv:2202.06417", method="contrastive")
@dataclass(frozen=True)
class Contrastive(SearchStep):
    """Of the k likeliest tokens take one that is likely and unlike what the model saw before.

    The score of a token is (1 − alpha) · probability − alpha · the largest cosine of its hidden
    state to an earlier one. Characters' hidden states are much alike, so that alpha stays low.
    """

    k: int = whole(6, 1, 1000, 1, "How many candidate tokens are compared.")
    alpha: float = real(0.4, 0, 1, 0.05, "Weight of the degeneration penalty; 0 is greedy.")
