"""Compiled twins of ``numpy_gpt.py``'s functions and of the optimiser's update, by numba.

Each has the name, arguments and results of its definition and what ``saved`` holds, so that
definition and twin may be mixed; its derivation is there. A twin goes over its arrays once instead
of once an operation. Everything is in float32 and on one thread without Python's lock: batches are
shared out among threads by whoever trains, and a sum has one order whatever else runs.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import boolean as bool_
from numba import float32, int64, njit, uint16, void
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from shakespeare_tui.models.numpy_gpt import Array, Saved

# Sums in the order of vector lanes, a · b + c at once; but a number may be infinite or NaN, for a
# step that went wrong must show.
FAST = {"reassoc", "contract", "nsz", "arcp"}
F = TypeVar("F", bound=Callable[..., Any])
_ROWS, _FLAT = float32[:, ::1], float32[::1]
_ONE, _TWO, _HALF, _ZERO = (np.float32(number) for number in (1, 2, 0.5, 0))

KERNELS: list[tuple[Any, Any]] = []
"""Each compiled function's signature."""


def compiled(function: F) -> F:
    """Let numba compile a function for the types of those that call it."""
    found: Any = njit(nogil=True, fastmath=FAST, error_model="numpy")(function)
    return cast(F, found)


def _kernel(*arguments: Any) -> Callable[[F], F]:
    """Let numba compile a function of arguments of these types, when ``KERNELS`` are compiled."""

    def mark(function: F) -> F:
        kernel = compiled(function)
        KERNELS.append((kernel, void(*arguments)))
        return kernel

    return mark


# --- numbers -------------------------------------------------------------------------------------


def _bitcast(typing_context: Any, bits: Any) -> Any:
    """The float32 that has the bits of an int32, as numba wants it said."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


float_of_bits: Any = intrinsic(_bitcast)


def _widened(typing_context: Any, stored: Any) -> Any:
    """The float32 that a number stands for: itself, an int8, or a bfloat16's bits as uint16."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        found, to = arguments[0], context.get_value_type(types.float32)
        if stored == types.int8:
            return builder.sitofp(found, to)
        if stored == types.uint16:
            whole = builder.zext(found, context.get_value_type(types.int32))
            return builder.bitcast(builder.shl(whole, whole.type(16)), to)
        return found

    return types.float32(stored), generate


number: Any = intrinsic(_widened)


_LOG2_E, _LN2_HIGH, _LN2_LOW = (np.float32(n) for n in (1.44269504, 0.693359375, -2.12194440e-4))
_C1, _C2, _C3, _C4, _C5 = (
    np.float32(n)
    for n in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1 / 6)
)
_LEAST, _MOST = np.float32(-87.0), np.float32(88.0)


@njit(inline="always", fastmath=FAST, error_model="numpy")
def exp(x: Any) -> Any:
    """e^x within 2 units in the last place, by Cephes' polynomial: it is vectorised, libm's is not.

    x is brought to where e^x is a normal number; NaN stays NaN.
    """
    x = _LEAST if x < _LEAST else x
    x = _MOST if x > _MOST else x
    power = np.float32(math.floor(x * _LOG2_E + _HALF))
    rest = x - power * _LN2_HIGH - power * _LN2_LOW
    tail = ((((_C1 * rest + _C2) * rest + _C3) * rest + _C4) * rest + _C5) * rest + _HALF
    bits = (np.int32(power) + np.int32(127)) << np.int32(23)
    return (tail * rest * rest + rest + _ONE) * float_of_bits(np.int32(bits))


@njit(fastmath=FAST | {"nnan"}, error_model="numpy")
def row_maximum(row: Any, count: Any) -> Any:
    """Of the first numbers of a row; any of them where one is NaN."""
    largest = row[0]
    for j in range(1, count):
        largest = max(largest, row[j])
    return largest


# --- embedding -----------------------------------------------------------------------------------


@_kernel(_ROWS, int64[::1], _ROWS)
def _add_rows(rows: Any, places: Any, total: Any) -> None:
    for n in range(len(rows)):
        place = places[n]
        for j in range(rows.shape[1]):
            total[place, j] += rows[n, j]


def embedding_backward(d_y: Array, saved: Saved) -> Array:
    """Row by row in the order of the tokens."""
    tokens, shape = saved
    d_weight = np.zeros(shape, d_y.dtype)
    rows = np.ascontiguousarray(d_y).reshape(-1, shape[1])  # [B, T, C] -> [N, C]
    _add_rows(rows, tokens.reshape(-1), d_weight)
    return d_weight


# --- normalisation -------------------------------------------------------------------------------


@_kernel(_ROWS, _FLAT, _FLAT, float32, _ROWS, _ROWS, _FLAT)
def _layer_norm(x: Any, weight: Any, bias: Any, eps: Any, y: Any, normed: Any, scales: Any) -> None:
    width = np.float32(x.shape[1])
    for n in range(len(x)):
        total = _ZERO
        for j in range(x.shape[1]):
            total += x[n, j]
        mean = total / width
        square = _ZERO
        for j in range(x.shape[1]):
            distance = x[n, j] - mean
            square += distance * distance
        scale = _ONE / np.sqrt(square / width + eps)
        scales[n] = scale
        for j in range(x.shape[1]):
            value = (x[n, j] - mean) * scale
            normed[n, j] = value
            y[n, j] = value * weight[j]
        if len(bias):
            for j in range(x.shape[1]):
                y[n, j] += bias[j]


def layer_norm(x: Array, weight: Array, bias: Array | None, eps: float) -> tuple[Array, Saved]:
    """Mean, variance and result of a row while it is at hand."""
    rows = _rows(x)
    y, normed, scale = np.empty_like(rows), np.empty_like(rows), np.empty(len(rows), x.dtype)
    _layer_norm(rows, weight, _NONE if bias is None else bias, eps, y, normed, scale)
    scale = scale.reshape(*x.shape[:-1], 1)  # [N] -> [..., 1]
    return y.reshape(x.shape), (normed.reshape(x.shape), scale, weight, bias)


@_kernel(_ROWS, _ROWS, _FLAT, _FLAT, _ROWS, _FLAT, _FLAT)
def _layer_norm_backward(
    d_y: Any, normed: Any, scales: Any, weight: Any, d_x: Any, d_weight: Any, d_bias: Any
) -> None:
    width = np.float32(d_y.shape[1])
    for n in range(len(d_y)):
        total = projection = _ZERO
        for j in range(d_y.shape[1]):
            d_normed = d_y[n, j] * weight[j]
            total += d_normed
            projection += d_normed * normed[n, j]
            d_weight[j] += d_y[n, j] * normed[n, j]
        mean, projection, scale = total / width, projection / width, scales[n]
        for j in range(d_y.shape[1]):
            d_x[n, j] = (d_y[n, j] * weight[j] - mean - normed[n, j] * projection) * scale
        if len(d_bias):
            for j in range(d_y.shape[1]):
                d_bias[j] += d_y[n, j]


def layer_norm_backward(d_y: Array, saved: Saved) -> tuple[Array, Array, Array | None]:
    """Both sums of a row, then its gradient; the weight's adds up over rows in their order."""
    normed, scale, weight, bias = saved
    rows = _rows(d_y)
    d_x, d_weight = np.empty_like(rows), np.zeros_like(weight)
    d_bias = None if bias is None else np.zeros_like(bias)
    of_bias = _NONE if d_bias is None else d_bias
    _layer_norm_backward(rows, _rows(normed), scale.reshape(-1), weight, d_x, d_weight, of_bias)
    return d_x.reshape(d_y.shape), d_weight, d_bias


@_kernel(_ROWS, _FLAT, float32, _ROWS, _ROWS, _FLAT)
def _rms_norm(x: Any, weight: Any, eps: Any, y: Any, normed: Any, scales: Any) -> None:
    width = np.float32(x.shape[1])
    for n in range(len(x)):
        square = _ZERO
        for j in range(x.shape[1]):
            square += x[n, j] * x[n, j]
        scale = _ONE / np.sqrt(square / width + eps)
        scales[n] = scale
        for j in range(x.shape[1]):
            value = x[n, j] * scale
            normed[n, j] = value
            y[n, j] = value * weight[j]


def rms_norm(x: Array, weight: Array, eps: float) -> tuple[Array, Saved]:
    """As LayerNorm without the mean."""
    rows = _rows(x)
    y, normed, scale = np.empty_like(rows), np.empty_like(rows), np.empty(len(rows), x.dtype)
    _rms_norm(rows, weight, eps, y, normed, scale)
    scale = scale.reshape(*x.shape[:-1], 1)  # [N] -> [..., 1]
    return y.reshape(x.shape), (normed.reshape(x.shape), scale, weight)


@_kernel(_ROWS, _ROWS, _FLAT, _FLAT, _ROWS, _FLAT)
def _rms_norm_backward(
    d_y: Any, normed: Any, scales: Any, weight: Any, d_x: Any, d_weight: Any
) -> None:
    width = np.float32(d_y.shape[1])
    for n in range(len(d_y)):
        projection = _ZERO
        for j in range(d_y.shape[1]):
            part = d_y[n, j] * normed[n, j]
            projection += part * weight[j]
            d_weight[j] += part
        projection, scale = projection / width, scales[n]
        for j in range(d_y.shape[1]):
            d_x[n, j] = (d_y[n, j] * weight[j] - normed[n, j] * projection) * scale


def rms_norm_backward(d_y: Array, saved: Saved) -> tuple[Array, Array]:
    """As LayerNorm's."""
    normed, scale, weight = saved
    rows = _rows(d_y)
    d_x, d_weight = np.empty_like(rows), np.zeros_like(weight)
    _rms_norm_backward(rows, _rows(normed), scale.reshape(-1), weight, d_x, d_weight)
    return d_x.reshape(d_y.shape), d_weight


_NONE = np.empty(0, np.float32)


def _rows(x: Array) -> Array:
    """[..., C] as contiguous rows [N, C]; a copy where its heads lie apart."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


# --- rotary positions ----------------------------------------------------------------------------


@_kernel(float32[:, :, ::1], _ROWS, _ROWS, float32[:, :, ::1])
def _rotate(x: Any, cosines: Any, sines: Any, y: Any) -> None:
    half, tokens = x.shape[2] // 2, len(cosines)
    for n in range(len(x)):
        t = n % tokens
        for h in range(x.shape[1]):
            for j in range(half):
                a, b = x[n, h, j], x[n, h, j + half]
                y[n, h, j] = a * cosines[t, j] + b * sines[t, j]
                y[n, h, j + half] = b * cosines[t, j + half] + a * sines[t, j + half]


def rotate(x: Array, cosines: Array, sines: Array) -> Array:
    """Both halves of a head at once."""
    batch, tokens, heads, width = x.shape
    # [B, T, H, D] -> [BT, H, D], and the table's [T, 1, D] -> [T, D]
    flat = np.ascontiguousarray(x).reshape(batch * tokens, heads, width)
    y = np.empty_like(flat)
    _rotate(flat, cosines.reshape(tokens, width), sines.reshape(tokens, width), y)
    return y.reshape(x.shape)  # [BT, H, D] -> [B, T, H, D]


# --- attention -----------------------------------------------------------------------------------


@_kernel(_ROWS, float32)
def _causal_softmax(scores: Any, factor: Any) -> None:
    """In place, of rows [R, T] that are the tokens 0 … T − 1 over and over."""
    tokens = scores.shape[1]
    for r in range(len(scores)):
        row, seen = scores[r], r % tokens + 1
        largest, total = row_maximum(row, seen), _ZERO
        for j in range(seen):
            power = exp((row[j] - largest) * factor)
            row[j] = power
            total += power
        share = _ONE / total
        for j in range(seen):
            row[j] *= share
        for j in range(seen, tokens):
            row[j] = _ZERO


def causal_softmax(scores: Array, factor: float) -> tuple[Array, Saved]:
    """Only what lies before a token is computed."""
    _causal_softmax(scores.reshape(-1, scores.shape[-1]), factor)  # [..., T, T] -> [R, T]
    return scores, (scores, factor)


@_kernel(_ROWS, _ROWS, float32, _ROWS)
def _causal_softmax_backward(d_p: Any, p: Any, factor: Any, d_scores: Any) -> None:
    tokens = p.shape[1]
    for r in range(len(p)):
        seen, total = r % tokens + 1, _ZERO
        for j in range(seen):
            total += d_p[r, j] * p[r, j]
        for j in range(seen):
            d_scores[r, j] = (d_p[r, j] - total) * p[r, j] * factor
        for j in range(seen, tokens):
            d_scores[r, j] = _ZERO


def causal_softmax_backward(d_p: Array, saved: Saved) -> Array:
    """Only what lies before a token is computed."""
    p, factor = saved
    d_scores = np.empty_like(d_p)
    _causal_softmax_backward(_rows(d_p), _rows(p), factor, d_scores.reshape(-1, p.shape[-1]))
    return d_scores


# --- activations ---------------------------------------------------------------------------------

_GELU_SCALE, _GELU_CUBE = np.float32(math.sqrt(2 / math.pi)), np.float32(0.044715)
_GELU_SLOPE = np.float32(3 * 0.044715)


@_kernel(_FLAT, _FLAT, _FLAT)
def _gelu(x: Any, y: Any, tanh: Any) -> None:
    for i in range(len(x)):
        u = _GELU_SCALE * x[i] * (_ONE + _GELU_CUBE * x[i] * x[i])
        t = _ONE - _TWO / (exp(_TWO * u) + _ONE)
        tanh[i] = t
        y[i] = _HALF * x[i] * (_ONE + t)


def gelu(x: Array) -> tuple[Array, Saved]:
    """With tanh u = 1 − 2 / (e^2u + 1)."""
    y, tanh = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    x = np.ascontiguousarray(x)
    _gelu(x.reshape(-1), y.reshape(-1), tanh.reshape(-1))
    return y, (x, tanh)


@_kernel(_FLAT, _FLAT, _FLAT, _FLAT)
def _gelu_backward(d_y: Any, x: Any, tanh: Any, d_x: Any) -> None:
    for i in range(len(x)):
        t = tanh[i]
        slope = _GELU_SCALE * x[i] * (_ONE + _GELU_SLOPE * x[i] * x[i])
        d_x[i] = d_y[i] * _HALF * (_ONE + t + slope * (_ONE - t * t))


def gelu_backward(d_y: Array, saved: Saved) -> Array:
    """One pass."""
    x, tanh = saved
    d_x = np.empty(x.shape, x.dtype)
    _gelu_backward(_flat(d_y), x.reshape(-1), tanh.reshape(-1), d_x.reshape(-1))
    return d_x


@_kernel(_FLAT, _FLAT, _FLAT)
def _relu_squared(x: Any, y: Any, positive: Any) -> None:
    for i in range(len(x)):
        value = _ZERO if x[i] < _ZERO else x[i]
        positive[i] = value
        y[i] = value * value


def relu_squared(x: Array) -> tuple[Array, Saved]:
    """One pass."""
    y, positive = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    _relu_squared(_flat(x), y.reshape(-1), positive.reshape(-1))
    return y, positive


@_kernel(_FLAT, _FLAT, _FLAT)
def _relu_squared_backward(d_y: Any, positive: Any, d_x: Any) -> None:
    for i in range(len(d_y)):
        d_x[i] = _TWO * d_y[i] * positive[i]


def relu_squared_backward(d_y: Array, saved: Saved) -> Array:
    """One pass."""
    d_x = np.empty(saved.shape, saved.dtype)
    _relu_squared_backward(_flat(d_y), saved.reshape(-1), d_x.reshape(-1))
    return d_x


@_kernel(_FLAT, _FLAT, _FLAT, _FLAT, _FLAT)
def _swiglu(gate: Any, up: Any, y: Any, opening: Any, swish: Any) -> None:
    for i in range(len(gate)):
        open_ = _ONE / (_ONE + exp(-gate[i]))
        opening[i] = open_
        swish[i] = gate[i] * open_
        y[i] = gate[i] * open_ * up[i]


def swiglu(gate: Array, up: Array) -> tuple[Array, Saved]:
    """One pass."""
    y, opening, swish = (np.empty(gate.shape, gate.dtype) for _ in range(3))
    results = (y.reshape(-1), opening.reshape(-1), swish.reshape(-1))
    _swiglu(_flat(gate), _flat(up), *results)
    return y, (up, opening, swish)


@_kernel(_FLAT, _FLAT, _FLAT, _FLAT, _FLAT, _FLAT)
def _swiglu_backward(d_y: Any, up: Any, opening: Any, swish: Any, d_gate: Any, d_up: Any) -> None:
    for i in range(len(d_y)):
        d_gate[i] = d_y[i] * up[i] * (opening[i] + swish[i] * (_ONE - opening[i]))
        d_up[i] = d_y[i] * swish[i]


def swiglu_backward(d_y: Array, saved: Saved) -> tuple[Array, Array]:
    """One pass."""
    up, opening, swish = saved
    d_gate, d_up = np.empty(up.shape, up.dtype), np.empty(up.shape, up.dtype)
    results = (d_gate.reshape(-1), d_up.reshape(-1))
    _swiglu_backward(_flat(d_y), _flat(up), opening.reshape(-1), swish.reshape(-1), *results)
    return d_gate, d_up


def _flat(x: Array) -> Array:
    return np.ascontiguousarray(x).reshape(-1)


# --- dropout -------------------------------------------------------------------------------------


@_kernel(_FLAT, uint16[::1], uint16, float32, _FLAT, bool_[::1])
def _drop(x: Any, drawn: Any, limit: Any, scale: Any, y: Any, kept: Any) -> None:
    for i in range(len(x)):
        is_kept = drawn[i] >= limit
        kept[i] = is_kept
        y[i] = x[i] * scale if is_kept else _ZERO


def drop(x: Array, drawn: NDArray[np.uint16], limit: int, scale: float) -> tuple[Array, Array]:
    """One pass."""
    y, kept = np.empty(x.shape, x.dtype), np.empty(x.shape, np.bool_)
    _drop(_flat(x), drawn.reshape(-1), limit, scale, y.reshape(-1), kept.reshape(-1))
    return y, kept


@_kernel(_FLAT, bool_[::1], float32, _FLAT)
def _dropout_backward(d_y: Any, kept: Any, scale: Any, d_x: Any) -> None:
    for i in range(len(d_y)):
        d_x[i] = d_y[i] * scale if kept[i] else _ZERO


def dropout_backward(d_y: Array, saved: Saved | None) -> Array:
    """One pass."""
    if saved is None:
        return d_y
    kept, scale = saved
    d_x = np.empty(d_y.shape, d_y.dtype)
    _dropout_backward(_flat(d_y), kept.reshape(-1), scale, d_x.reshape(-1))
    return d_x


# --- loss ----------------------------------------------------------------------------------------


@_kernel(_ROWS, int64[::1], _FLAT)
def _cross_entropy(rows: Any, targets: Any, losses: Any) -> None:
    for n in range(len(rows)):
        row, target = rows[n], targets[n]
        if target < 0 or target >= len(row):
            raise IndexError("a target is no token of the vocabulary")
        largest, total = row_maximum(row, len(row)), _ZERO
        of_target = row[target] - largest
        for j in range(len(row)):
            power = exp(row[j] - largest)
            row[j] = power
            total += power
        share = _ONE / total
        for j in range(len(row)):
            row[j] *= share
        losses[n] = np.log(total) - of_target


def cross_entropy(logits: Array, targets: NDArray[np.int64]) -> tuple[float, Saved]:
    """Largest, sum and probabilities of a row while it is at hand."""
    rows, flat = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)  # [..., V] -> [N, V]
    losses = np.empty(len(flat), rows.dtype)
    _cross_entropy(rows, flat, losses)
    return float(losses.mean()), (rows, flat, logits.shape)


# --- optimiser -----------------------------------------------------------------------------------


@_kernel(_FLAT, _FLAT, _FLAT, _FLAT, float32, float32, float32, float32, float32)
def _adam_update(
    weight: Any,
    gradient: Any,
    mean: Any,
    square: Any,
    beta1: Any,
    beta2: Any,
    rate: Any,
    root: Any,
    epsilon: Any,
) -> None:
    for i in range(len(weight)):
        g = gradient[i]
        m = mean[i] + (_ONE - beta1) * (g - mean[i])
        v = beta2 * square[i] + (_ONE - beta2) * g * g
        mean[i] = m
        square[i] = v
        weight[i] -= rate * m / (np.sqrt(v) / root + epsilon)


def adam_update(
    weight: Array, gradient: Array, mean: Array, square: Array, *factors: float
) -> None:
    """All four arrays in one pass."""
    arrays = (array.reshape(-1) for array in (weight, gradient, mean, square))
    _adam_update(*arrays, *factors)


TWINS = {
    function.__name__: function
    for function in (
        embedding_backward,
        layer_norm,
        layer_norm_backward,
        rms_norm,
        rms_norm_backward,
        rotate,
        causal_softmax,
        causal_softmax_backward,
        gelu,
        gelu_backward,
        relu_squared,
        relu_squared_backward,
        swiglu,
        swiglu_backward,
        drop,
        dropout_backward,
        cross_entropy,
        adam_update,
    )
}
