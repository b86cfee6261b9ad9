"""The arithmetic that samplers share, on float32 logits [B, V] in as few NumPy calls as will do.

Every step may count on what ``sound`` makes sure of: no NaN, no +inf, and in each row at least one
token that is not −inf. Reductions call the ufunc itself, which is half the time of the method.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MINUS_INFINITY = np.float32(-np.inf)
# As an array, which NumPy need not make of a number anew each time.
_DROPPED = np.full((1, 1), MINUS_INFINITY)
_LARGEST_LOGIT = np.float32(1e30)


def sound(logits: FloatArray) -> FloatArray:
    """``logits`` [B, V] as samplers need them; NaN counts as −inf, +inf outdoes all that is finite.

    A row without any candidate becomes uniform, so that a broken model never ends the text.
    """
    logits = np.asarray(logits, dtype=np.float32)
    # One sum tells of NaN, of infinities and of values so large that they would overflow.
    if abs(np.add.reduce(logits, axis=None, dtype=np.float64)) < _LARGEST_LOGIT:
        return logits
    is_dropped = np.isnan(logits) | (logits == MINUS_INFINITY)
    bounded = np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)
    is_infinite = logits == np.inf
    is_dropped |= is_infinite.any(axis=1, keepdims=True) & ~is_infinite
    bounded[is_dropped] = MINUS_INFINITY
    bounded[is_dropped.all(axis=1)] = 0
    return bounded


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities [B, V] of ``logits`` [B, V]."""
    powers = logits - np.maximum.reduce(logits, axis=1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= np.add.reduce(powers, axis=1, keepdims=True)
    return powers


def entropy(probabilities: FloatArray) -> FloatArray:
    """Entropy [B] in nats of ``probabilities`` [B, V]."""
    logarithms = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    return np.asarray(-np.einsum("bv,bv->b", probabilities, logarithms))


def keep(logits: FloatArray, is_kept: BoolArray) -> FloatArray:
    """``logits`` [B, V] with −inf where ``is_kept`` [B, V] is false."""
    return np.where(is_kept, logits, _DROPPED)


def keep_likeliest(logits: FloatArray) -> FloatArray:
    """Leave only the likeliest token of each row of ``logits`` [B, V], the first of equals."""
    kept = np.full_like(logits, MINUS_INFINITY)
    kept[np.arange(len(logits)), logits.argmax(axis=1)] = 0
    return kept
