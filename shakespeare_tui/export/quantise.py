"""Weights in fewer bits, or fewer of them."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.export.source import FloatArray


def bfloat16(weight: FloatArray) -> NDArray[np.uint16]:
    """The upper half of each number, rounded to the nearest, to even on a tie."""
    bits = np.ascontiguousarray(weight).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)
    return (rounded >> 16).astype(np.uint16)


def quantised(weight: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Whole numbers from -127 to 127 of a matrix [N, K], and the scale of each row, [N]."""
    largest = np.abs(weight).max(axis=1)
    scale = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
    return np.rint(weight / scale[:, None]).astype(np.int8), scale


def pruned(weights: Mapping[str, FloatArray], per_cent: float) -> dict[str, FloatArray]:
    """The weights with so much of each matrix of the blocks, what is nearest to zero, as zeros.

    Embeddings, the output layer, norms and biases stay whole (magnitude pruning by layer,
    arXiv:1506.02626).
    """
    found: dict[str, FloatArray] = {}
    for name, weight in weights.items():
        if name.startswith("blocks.") and weight.ndim == 2:
            count = math.floor(weight.size * per_cent / 100)
            sizes = np.abs(weight).ravel()
            weight = weight.copy()
            weight.ravel()[np.argpartition(sizes, count)[:count]] = 0
        found[name] = weight
    return found
