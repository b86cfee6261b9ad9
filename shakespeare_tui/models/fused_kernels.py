"""Several steps of a model in one pass over its arrays, forward and backward, compiled by numba.

Arrays are float32, or bfloat16 as the uint16 of its bits; sums are in float32, each in one order.
All is on one thread without Python's lock: whoever trains shares out the rows of a batch.
Shapes: B batch, T tokens, H heads of queries, K of keys and values, D head width, N = B·T rows,
C columns. ``qkv`` is [N, (H + 2K)D]: a token's queries, keys and values, head by head.
Dropout is of a share of ``limit`` / 2^32 of the numbers, 0 for none; which, is told by ``key``.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from shakespeare_tui.models.lanes import (
    COUNT,
    HAS_WIDE_REGISTERS,
    drop,
    every,
    exp,
    largest,
    leading,
    load,
    maximum,
    nearest_bfloat16,
    root,
    store,
    tile,
    total,
)
from shakespeare_tui.models.numpy_kernels import FAST, compiled, number

F = TypeVar("F", bound=Callable[..., Any])


def part(function: F) -> F:
    """Let numba compile what only compiled functions call: without a way in from Python."""
    ways_in: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    found: Any = njit(nogil=True, fastmath=FAST, error_model="numpy", **ways_in)(function)
    return cast(F, found)


_ZERO, _ONE, _LEAST = np.float32(0), np.float32(1), np.float32(-np.inf)

# --- numbers -------------------------------------------------------------------------------------


def _rounded(typing_context: Any, like: Any, x: Any) -> Any:
    """A number as an array of the type of ``like`` stores it, to the nearest."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if like.dtype == types.float32:
            return arguments[1]
        return nearest_bfloat16(builder, arguments[1], ir.IntType(32), ir.IntType(16))

    return like.dtype(like, types.float32), generate


rounded: Any = intrinsic(_rounded)

# --- products of small matrices ------------------------------------------------------------------

ROWS = 4
"""Rows of a tile of a product, which registers hold."""
COLUMNS = COUNT * (2 if HAS_WIDE_REGISTERS else 1)
"""Columns of a tile."""


_product_tile, _sum_tile = (tile(ROWS, COLUMNS, adds=adds) for adds in (False, True))


@part
def _times(a: Any, row: Any, depth: Any, b: Any, columns: Any, c: Any, to: Any) -> None:
    """``ROWS`` rows of C = A B: those of A from ``row`` on go to C from ``to`` on."""
    start, stride = row * a.shape[1], a.shape[1]
    for j in range(0, columns, COLUMNS):
        place = to * c.shape[1] + j
        _product_tile(a, start, stride, 1, b, j, b.shape[1], c, place, c.shape[1], depth)


@part
def _transposed_times(a: Any, begin: Any, end: Any, b: Any, columns: Any, c: Any) -> None:
    """``ROWS`` rows of C += Aᵀ B from row ``begin`` on, by rows to ``end`` of A and B."""
    start, stride = begin * (a.shape[1] + 1), a.shape[1]
    for j in range(0, columns, COLUMNS):
        place = begin * c.shape[1] + j
        _sum_tile(a, start, 1, stride, b, place, b.shape[1], c, place, c.shape[1], end - begin)


@part
def _up(count: Any, multiple: Any) -> Any:
    """The least multiple that is not smaller."""
    return (count + multiple - 1) // multiple * multiple


@part
def _zeros(rows: Any, columns: Any) -> Any:
    return np.zeros((rows, columns), np.float32)


@part
def _copy(x: Any, factor: Any, y: Any) -> None:
    """``x`` [R, C] times a factor into ``y``."""
    for place in range(0, x.shape[0] * x.shape[1], COUNT):
        store(y, place, load(x, place) * factor)


@part
def _clear(x: Any) -> None:
    for place in range(0, x.shape[0] * x.shape[1], COUNT):
        store(x, place, every(_ZERO))


# --- heads ---------------------------------------------------------------------------------------


@part
def _read(x: Any, window: Any, column: Any, tokens: Any, width: Any, rows: Any) -> None:
    """One head of a window's tokens into rows [T', D]."""
    for t in range(tokens):
        place = (window * tokens + t) * x.shape[1] + column
        for j in range(0, width, COUNT):
            store(rows, t * width + j, load(x, place + j))


@part
def _write(rows: Any, window: Any, column: Any, tokens: Any, width: Any, x: Any) -> None:
    """The way back of ``_read``."""
    for t in range(tokens):
        place = (window * tokens + t) * x.shape[1] + column
        for j in range(0, width, COUNT):
            store(x, place + j, load(rows, t * width + j))


@part
def _normalise(rows: Any, tokens: Any, width: Any, weight: Any, eps: Any, scales: Any) -> None:
    """RMSNorm; ``scales`` takes what each row is multiplied by."""
    for t in range(tokens):
        place, square = t * rows.shape[1], every(_ZERO)
        for j in range(0, rows.shape[1], COUNT):
            square += load(rows, place + j) * load(rows, place + j)
        scale = _ONE / np.sqrt(total(square) / np.float32(width) + eps)
        scales[0, t] = scale
        for j in range(0, rows.shape[1], COUNT):
            store(rows, place + j, load(rows, place + j) * scale * load(weight, j))


@part
def _normalise_backward(
    d_rows: Any, rows: Any, tokens: Any, width: Any, weight: Any, scales: Any, d_weight: Any
) -> None:
    """Of ``rows`` as they were before; ``d_rows`` become the gradient with respect to them."""
    for t in range(tokens):
        place, scale, projection = t * rows.shape[1], scales[0, t], every(_ZERO)
        for j in range(0, rows.shape[1], COUNT):
            part = load(d_rows, place + j) * load(rows, place + j) * scale
            store(d_weight, j, load(d_weight, j) + part)
            projection += part * load(weight, j)
        mean = total(projection) / np.float32(width) * scale
        for j in range(0, rows.shape[1], COUNT):
            d_normed = load(d_rows, place + j) * load(weight, j)
            store(d_rows, place + j, (d_normed - load(rows, place + j) * mean) * scale)


@part
def _turn(rows: Any, tokens: Any, cosines: Any, sines: Any, factor: Any, is_back: Any) -> None:
    """Rotary embedding by a table [T, D], or its transpose, and times a factor."""
    width = cosines.shape[1]
    half = width // 2
    other = half if is_back else 0
    for t in range(tokens):
        for j in range(0, half, COUNT):
            here = t * width + j
            a, b = load(rows, here) * factor, load(rows, here + half) * factor
            up, down = load(sines, here + other), load(sines, here + half - other)
            store(rows, here, a * load(cosines, here) + b * up)
            store(rows, here + half, b * load(cosines, here + half) + a * down)


@part
def _prepare(
    rows: Any,
    tokens: Any,
    width: Any,
    weight: Any,
    eps: Any,
    cosines: Any,
    sines: Any,
    factor: Any,
    scales: Any,
) -> None:
    """Normalise and turn a head's queries or keys, as far as there is something to do it by."""
    if len(weight):
        _normalise(rows, tokens, width, weight, eps, scales)
    if len(cosines):
        _turn(rows, tokens, cosines, sines, factor, False)
    else:
        _copy(rows, factor, rows)


@part
def _prepare_backward(
    d_rows: Any,
    rows: Any,
    tokens: Any,
    width: Any,
    weight: Any,
    cosines: Any,
    sines: Any,
    factor: Any,
    scales: Any,
    d_weight: Any,
) -> None:
    if len(cosines):
        _turn(d_rows, tokens, cosines, sines, factor, True)
    else:
        _copy(d_rows, factor, d_rows)
    if len(weight):
        _normalise_backward(d_rows, rows, tokens, width, weight, scales, d_weight)


@part
def _transpose(rows: Any, tokens: Any, width: Any, columns: Any) -> None:
    for j in range(width):
        for t in range(tokens):
            columns[j, t] = rows[t, j]


# --- attention -----------------------------------------------------------------------------------


@compiled
def attend(
    qkv: Any,
    tokens: Any,
    heads: Any,
    groups: Any,
    q_weight: Any,
    k_weight: Any,
    eps: Any,
    cosines: Any,
    sines: Any,
    key: Any,
    limit: Any,
    y: Any,
    sums: Any,
) -> None:
    """Causal attention, softmax(Q Kᵀ / √D) V, of heads that are normalised and turned before.

    Args:
        qkv: [N, (H + 2K)D].
        tokens: T.
        heads: K.
        groups: H / K; each head of keys serves so many of queries.
        q_weight: [D] of the queries' RMSNorm; [0] for none.
        k_weight: [D] of the keys'.
        eps: Of both.
        cosines: Rotary table [T, D]; [0, D] for none.
        sines: [T, D], negative in the first half.
        key: Of the dropout of probabilities.
        limit: Of it.
        y: [N, HD] to be filled.
        sums: log Σ exp of each row of scores, [B, H, T] to be filled.
    """
    width = y.shape[1] // (heads * groups)
    factor, scale = _ONE / np.sqrt(np.float32(width)), _scale_of(limit)
    long = _up(tokens, COLUMNS)
    q, k, v = _zeros(long, width), _zeros(long, width), _zeros(long, width)
    k_columns, scales = _zeros(width, long), _zeros(1, tokens)
    scores, mixed = _zeros(ROWS, long), _zeros(ROWS, width)
    for window in range(len(sums)):
        for head in range(heads):
            column = (heads * groups + head) * width
            _read(qkv, window, column, tokens, width, k)
            _prepare(k, tokens, width, k_weight, eps, cosines, sines, _ONE, scales)
            _transpose(k, tokens, width, k_columns)
            _read(qkv, window, column + heads * width, tokens, width, v)
            for query in range(head * groups, (head + 1) * groups):
                _read(qkv, window, query * width, tokens, width, q)
                _prepare(q, tokens, width, q_weight, eps, cosines, sines, factor, scales)
                for begin in range(0, tokens, ROWS):
                    _times(q, begin, width, k_columns, begin + ROWS, scores, 0)
                    rows = min(ROWS, tokens - begin)
                    for r in range(rows):
                        row, seen = r * long, begin + r + 1
                        sums[window, query, begin + r] = softmax(scores, row, seen)
                        if limit:
                            place = _place(sums, window, query, begin + r)
                            for j in range(0, seen, COUNT):
                                look = drop(load(scores, row + j), place + j, key, limit, scale)
                                store(scores, row + j, look)
                    _times(scores, 0, begin + ROWS, v, width, mixed, 0)
                    for r in range(rows):
                        place = (window * tokens + begin + r) * y.shape[1] + query * width
                        for j in range(0, width, COUNT):
                            store(y, place + j, load(mixed, r * width + j))


@part
def _scale_of(limit: Any) -> Any:
    """What kept numbers are multiplied by, so that their mean stays."""
    return np.float32(2.0**32 / (2.0**32 - limit))


@part
def _place(sums: Any, window: Any, query: Any, token: Any) -> Any:
    """The number of a row of scores' first place."""
    return ((window * sums.shape[1] + query) * sums.shape[2] + token) * sums.shape[2]


@part
def softmax(scores: Any, start: Any, seen: Any) -> Any:
    """Of the first ``seen`` scores of a row, 0 after them; returns log Σ exp."""
    most, powers = every(_LEAST), every(_ZERO)
    for j in range(0, seen, COUNT):
        most = maximum(most, leading(load(scores, start + j), seen - j, _LEAST))
    bound = largest(most)
    for j in range(0, seen, COUNT):
        power = leading(exp(load(scores, start + j) - bound), seen - j, _ZERO)
        store(scores, start + j, power)
        powers += power
    whole = total(powers)
    share = _ONE / whole
    for j in range(0, seen, COUNT):
        store(scores, start + j, load(scores, start + j) * share)
    return bound + np.log(whole)


@compiled
def attend_backward(
    d_y: Any,
    qkv: Any,
    tokens: Any,
    heads: Any,
    groups: Any,
    q_weight: Any,
    k_weight: Any,
    eps: Any,
    cosines: Any,
    sines: Any,
    key: Any,
    limit: Any,
    sums: Any,
    d_qkv: Any,
    d_q_weight: Any,
    d_k_weight: Any,
) -> None:
    """The way back of ``attend``; what it computed is computed again from ``sums``.

    To the gradients of the weights it is added.
    """
    width = d_y.shape[1] // (heads * groups)
    factor, scale = _ONE / np.sqrt(np.float32(width)), _scale_of(limit)
    long = _up(tokens, COLUMNS)
    q, k, v = _zeros(long, width), _zeros(long, width), _zeros(long, width)
    raw_q, raw_k, d_mixed = _zeros(long, width), _zeros(long, width), _zeros(long, width)
    d_q, d_k, d_v = _zeros(long, width), _zeros(long, width), _zeros(long, width)
    k_columns, v_columns = _zeros(width, long), _zeros(width, long)
    looks, d_looks, whole_looks = _zeros(long, long), _zeros(long, long), _zeros(1, long)
    q_scales, k_scales = _zeros(1, tokens), _zeros(1, tokens)
    for window in range(len(sums)):
        for head in range(heads):
            column = (heads * groups + head) * width
            _read(qkv, window, column, tokens, width, raw_k)
            _copy(raw_k, _ONE, k)
            _prepare(k, tokens, width, k_weight, eps, cosines, sines, _ONE, k_scales)
            _transpose(k, tokens, width, k_columns)
            _read(qkv, window, column + heads * width, tokens, width, v)
            _transpose(v, tokens, width, v_columns)
            _clear(d_k)
            _clear(d_v)
            for query in range(head * groups, (head + 1) * groups):
                _read(qkv, window, query * width, tokens, width, raw_q)
                _copy(raw_q, _ONE, q)
                _prepare(q, tokens, width, q_weight, eps, cosines, sines, factor, q_scales)
                _read(d_y, window, query * width, tokens, width, d_mixed)
                for begin in range(0, tokens, ROWS):
                    end = begin + ROWS
                    _times(q, begin, width, k_columns, end, looks, begin)
                    _times(d_mixed, begin, width, v_columns, end, d_looks, begin)
                    for t in range(begin, min(end, tokens)):
                        least, place = sums[window, query, t], _place(sums, window, query, t)
                        _softmax_backward(
                            looks, d_looks, t, least, whole_looks, place, key, limit, scale
                        )
                    _times(d_looks, begin, end, k, width, d_q, begin)
                for begin in range(0, tokens, ROWS):
                    _transposed_times(looks, begin, tokens, d_mixed, width, d_v)
                    _transposed_times(d_looks, begin, tokens, q, width, d_k)
                _prepare_backward(
                    d_q,
                    raw_q,
                    tokens,
                    width,
                    q_weight,
                    cosines,
                    sines,
                    factor,
                    q_scales,
                    d_q_weight,
                )
                _write(d_q, window, query * width, tokens, width, d_qkv)
            _prepare_backward(
                d_k, raw_k, tokens, width, k_weight, cosines, sines, _ONE, k_scales, d_k_weight
            )
            _write(d_k, window, column, tokens, width, d_qkv)
            _write(d_v, window, column + heads * width, tokens, width, d_qkv)


@part
def _softmax_backward(
    looks: Any,
    d_looks: Any,
    row: Any,
    least: Any,
    whole_looks: Any,
    place: Any,
    key: Any,
    limit: Any,
    scale: Any,
) -> None:
    """Scores become probabilities after dropout, and their gradient that of the scores.

    ``whole_looks`` has room for a row's probabilities before dropout.
    """
    start, seen, change = row * looks.shape[1], row + 1, every(_ZERO)
    for j in range(0, seen, COUNT):
        look = leading(exp(load(looks, start + j) - least), seen - j, _ZERO)
        d_look = load(d_looks, start + j)
        store(whole_looks, j, look)
        if limit:
            d_look = drop(d_look, place + j, key, limit, scale)
            store(d_looks, start + j, d_look)
            store(looks, start + j, drop(look, place + j, key, limit, scale))
        else:
            store(looks, start + j, look)
        change += look * d_look
    mean = total(change)
    for j in range(0, seen, COUNT):
        d_look = load(d_looks, start + j) - mean
        store(d_looks, start + j, load(whole_looks, j) * d_look)


# --- residual stream and its norm ----------------------------------------------------------------


@compiled
def add_norm(
    x: Any,
    branch: Any,
    weight: Any,
    bias: Any,
    eps: Any,
    has_mean: Any,
    key: Any,
    limit: Any,
    added: Any,
    y: Any,
    means: Any,
    scales: Any,
) -> None:
    """Add a branch to the residual stream, and normalise the sum.

    Args:
        x: float32 [N, C].
        branch: [N, C]; [0, C] for none.
        weight: [C].
        bias: [C]; [0] for none.
        eps: Added to the variance.
        has_mean: LayerNorm rather than RMSNorm.
        key: Of the branch's dropout.
        limit: Of it.
        added: float32 [N, C] to be filled with the sum; it may be ``x`` itself.
        y: [N, C] to be filled with the normalised.
        means: [N] to be filled.
        scales: [N] to be filled with what each row is multiplied by.
    """
    width, scale = x.shape[1], _scale_of(limit)
    for n in range(len(x)):
        start, sums, squares, mean = n * width, every(_ZERO), every(_ZERO), _ZERO
        for j in range(start, start + width, COUNT):
            numbers = load(x, j)
            if len(branch):
                more = load(branch, j)
                if limit:
                    more = drop(more, j, key, limit, scale)
                numbers = numbers + more
                store(added, j, numbers)
            sums += numbers
        if has_mean:
            mean = total(sums) / np.float32(width)
        for j in range(start, start + width, COUNT):
            distance = load(added, j) - mean
            squares += distance * distance
        scales[n] = _ONE / np.sqrt(total(squares) / np.float32(width) + eps)
        means[n] = mean
        for j in range(0, width, COUNT):
            numbers = (load(added, start + j) - mean) * scales[n] * load(weight, j)
            if len(bias):
                numbers = numbers + load(bias, j)
            store(y, start + j, numbers)


@compiled
def add_norm_backward(
    d_added: Any,
    d_y: Any,
    added: Any,
    weight: Any,
    has_mean: Any,
    key: Any,
    limit: Any,
    means: Any,
    scales: Any,
    d_x: Any,
    d_branch: Any,
    d_weight: Any,
    d_bias: Any,
) -> None:
    """The way back of ``add_norm``; the gradient of the sum is that of both.

    Args:
        d_added: float32 [N, C]; [0, C] where nothing else reads the sum.
        d_y: [N, C].
        added: The sum.
        weight: [C].
        has_mean: As before.
        key: As before.
        limit: As before.
        means: [N].
        scales: [N].
        d_x: float32 [N, C] to be filled.
        d_branch: [N, C] to be filled with the same after dropout; [0, C] for none.
        d_weight: [C], which is added to.
        d_bias: [C], which is added to; [0] for none.
    """
    width, kept_scale = added.shape[1], _scale_of(limit)
    for n in range(len(added)):
        start, mean, scale = n * width, means[n], scales[n]
        sums, projections = every(_ZERO), every(_ZERO)
        for j in range(0, width, COUNT):
            d_number, normed = load(d_y, start + j), (load(added, start + j) - mean) * scale
            if len(d_bias):
                store(d_bias, j, load(d_bias, j) + d_number)
            part = d_number * normed
            store(d_weight, j, load(d_weight, j) + part)
            sums += d_number * load(weight, j)
            projections += part * load(weight, j)
        change = total(sums) / np.float32(width) if has_mean else _ZERO
        projection = total(projections) / np.float32(width)
        for j in range(0, width, COUNT):
            d_number, normed = load(d_y, start + j), (load(added, start + j) - mean) * scale
            d_number = (d_number * load(weight, j) - change - normed * projection) * scale
            if len(d_added):
                d_number = d_number + load(d_added, start + j)
            store(d_x, start + j, d_number)
            if len(d_branch):
                if limit:
                    d_number = drop(d_number, start + j, key, limit, kept_scale)
                store(d_branch, start + j, d_number)


@compiled
def dropout(x: Any, key: Any, limit: Any, y: Any) -> None:
    """Of flat arrays; it is its own gradient."""
    scale = _scale_of(limit)
    for i in range(0, len(x), COUNT):
        store(y, i, drop(load(x, i), i, key, limit, scale))


# --- short convolution ---------------------------------------------------------------------------


@compiled
def convolve(x: Any, tokens: Any, weight: Any, y: Any) -> None:
    """Each row becomes a weighted sum of itself and of those before it in its window.

    Args:
        x: [N, C].
        tokens: T; a window is as many rows.
        weight: float32 [K, C]; row k is for what stands k rows before.
        y: [N, C] to be filled.
    """
    width = x.shape[1]
    for n in range(len(x)):
        taps = min(len(weight), n % tokens + 1)
        for j in range(0, width, COUNT):
            sums = load(x, n * width + j) * load(weight, j)
            for k in range(1, taps):
                sums += load(x, (n - k) * width + j) * load(weight, k * width + j)
            store(y, n * width + j, sums)


@compiled
def convolve_backward(d_y: Any, x: Any, tokens: Any, weight: Any, d_x: Any, d_weight: Any) -> None:
    """The way back of ``convolve``: what a row gave to those after it.

    Args:
        d_y: [N, C].
        x: As before.
        tokens: As before.
        weight: As before.
        d_x: [N, C] to be filled.
        d_weight: float32 [K, C], which is added to.
    """
    width = x.shape[1]
    for first in range(0, len(x), tokens):
        for k in range(min(len(weight), tokens)):
            for j in range(0, width, COUNT):
                sums = load(d_weight, k * width + j)
                for n in range(first + k, first + tokens):
                    sums += load(d_y, n * width + j) * load(x, (n - k) * width + j)
                store(d_weight, k * width + j, sums)
    for n in range(len(x)):
        taps = min(len(weight), tokens - n % tokens)
        for j in range(0, width, COUNT):
            sums = load(d_y, n * width + j) * load(weight, j)
            for k in range(1, taps):
                sums += load(d_y, (n + k) * width + j) * load(weight, k * width + j)
            store(d_x, n * width + j, sums)


# --- activations ---------------------------------------------------------------------------------

# x · σ(u) is GELU by its tanh, x/2 · (1 + tanh u/2).
_GELU_X, _GELU_CUBE = (np.float32(2 * math.sqrt(2 / math.pi) * n) for n in (1, 0.044715))
_GELU_SLOPE, _MINUS = np.float32(3 * _GELU_CUBE), np.float32(-1)


@compiled
def relu_squared(x: Any, y: Any) -> None:
    """max(x, 0)², of flat arrays."""
    for i in range(0, len(x), COUNT):
        positive = maximum(load(x, i), every(_ZERO))
        store(y, i, positive * positive)


@compiled
def relu_squared_backward(d_y: Any, x: Any, d_x: Any) -> None:
    """Its gradient, 2 max(x, 0)."""
    for i in range(0, len(x), COUNT):
        positive = maximum(load(x, i), every(_ZERO))
        store(d_x, i, (positive + positive) * load(d_y, i))


@compiled
def gelu(x: Any, y: Any) -> None:
    """GELU by its tanh, of flat arrays."""
    for i in range(0, len(x), COUNT):
        a = load(x, i)
        u = a * (a * a * _GELU_CUBE + _GELU_X)
        store(y, i, a / (exp(u * _MINUS) + _ONE))


@compiled
def gelu_backward(d_y: Any, x: Any, d_x: Any) -> None:
    """Its gradient, s + x · s (1 − s) · u' with s = σ(u)."""
    for i in range(0, len(x), COUNT):
        a = load(x, i)
        square = a * a
        opening = _ONE / (exp(a * (square * _GELU_CUBE + _GELU_X) * _MINUS) + _ONE)
        bend = a * (_ONE - opening) * (square * _GELU_SLOPE + _GELU_X)
        store(d_x, i, load(d_y, i) * opening * (bend + _ONE))


@compiled
def swiglu(gate: Any, up: Any, y: Any) -> None:
    """Gate · σ(gate) · up, of flat arrays."""
    for i in range(0, len(up), COUNT):
        a = load(gate, i)
        store(y, i, a / (exp(a * _MINUS) + _ONE) * load(up, i))


@compiled
def swiglu_backward(d_y: Any, gate: Any, up: Any, d_gate: Any, d_up: Any) -> None:
    """Its gradients, (s + g s (1 − s)) · u and g · s with s = σ(g)."""
    for i in range(0, len(up), COUNT):
        a, d_number = load(gate, i), load(d_y, i)
        opening = _ONE / (exp(a * _MINUS) + _ONE)
        swish = a * opening
        store(d_gate, i, d_number * load(up, i) * (opening + swish * (_ONE - opening)))
        store(d_up, i, d_number * swish)


# --- loss ----------------------------------------------------------------------------------------


@compiled
def cross_entropy(logits: Any, targets: Any, losses: Any, d_logits: Any) -> None:
    """Of each row [V] the loss in nats, and the gradient of the mean of all."""
    width, share = logits.shape[1], _ONE / np.float32(len(logits))
    whole = width - width % COUNT
    row, last = _zeros(1, whole + COUNT), _zeros(1, COUNT)
    for n in range(len(logits)):
        start, target, most, powers = n * width, targets[n], every(_LEAST), every(_ZERO)
        if target < 0 or target >= width:
            raise IndexError("a target is no token of the vocabulary")
        for j in range(0, whole, COUNT):
            store(row, j, load(logits, start + j))
        for j in range(whole, width):
            row[0, j] = number(logits[n, j])
        for j in range(0, width, COUNT):
            most = maximum(most, leading(load(row, j), width - j, _LEAST))
        bound = largest(most)
        of_target = row[0, target] - bound
        for j in range(0, width, COUNT):
            power = leading(exp(load(row, j) - bound), width - j, _ZERO)
            powers += power
            store(row, j, power)
        sum_ = total(powers)
        losses[n] = np.log(sum_) - of_target
        row[0, target] -= sum_
        for j in range(0, whole, COUNT):
            store(d_logits, start + j, load(row, j) * (share / sum_))
        if whole < width:
            store(last, 0, load(row, whole) * (share / sum_))
            for j in range(whole, width):
                d_logits[n, j] = rounded(d_logits, last[0, j - whole])


# --- update --------------------------------------------------------------------------------------


@compiled
def adam_rows(
    weight: Any,
    rows: Any,
    gradients: Any,
    mean: Any,
    square: Any,
    seen: Any,
    factors: Any,
    begin: Any,
    end: Any,
) -> None:
    """AdamW of a table's rows from ``begin`` to ``end``, of which few have a gradient.

    The others go on by their averages, as with a gradient of 0. A row that never had one has none,
    and stays, but for its decay: looking at it would take most of the time.

    Args:
        weight: [R, C].
        rows: Those with a gradient, ascending, [N].
        gradients: Theirs, [N, C].
        mean: m, [R, C].
        square: v, [R, C].
        seen: Which rows have ever had a gradient, [R].
        factors: 1 − β₁, β₂, 1 − β₂, 1 − η λ, η / (1 − β₁ᵗ), √(1 − β₂ᵗ) and ε.
        begin: The first row.
        end: The one after the last.
    """
    width, given = weight.shape[1], np.searchsorted(rows, begin)
    for row in range(begin, end):
        is_given = given < len(rows) and rows[given] == row
        seen[row] = seen[row] or is_given
        if not seen[row] and factors[3] == _ONE:
            continue
        start, of_row, gradient = row * width, given * width, every(_ZERO)
        for j in range(0, width, COUNT):
            numbers = load(weight, start + j) * factors[3]
            if seen[row]:
                if is_given:
                    gradient = load(gradients, of_row + j)
                m, v = load(mean, start + j), load(square, start + j) * factors[1]
                m += (gradient - m) * factors[0]
                v += gradient * gradient * factors[2]
                store(mean, start + j, m)
                store(square, start + j, v)
                numbers = numbers - m * factors[4] / (root(v) / factors[5] + factors[6])
            store(weight, start + j, numbers)
        given += is_given
