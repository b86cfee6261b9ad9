"""A few tokens through the whole model as one compiled function, by numba.

A token of a small model is sixty small operations between products of a matrix and a vector;
started one by one from Python, they take longer than the work. The definitions are NumPy's, in
``cpu_decoder.py`` and ``packed.py``. Everything is on one thread without Python's lock, in float32,
by int8 weights in whole numbers; each sum has one order, however many rows are computed together: a
text is the same whatever else runs, drafted or not.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import float32, float64, int8, int64, uint16, void
from numba.core import types
from numba.extending import overload

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.compiled_draws import count, draw
from shakespeare_tui.decoding.decoder import FloatArray, IntArray
from shakespeare_tui.decoding.draws import MOST_DRAFTS, Draws
from shakespeare_tui.decoding.packed import (
    LARGEST_INPUT,
    LARGEST_INT8,
    LARGEST_SUM,
    LEAST_SCALE,
    PANEL,
    Linear,
    PackedWeights,
    epsilon,
)
from shakespeare_tui.models.fused_kernels import part, softmax
from shakespeare_tui.models.lanes import COUNT, HAS_WIDE_REGISTERS, tile, whole_tile
from shakespeare_tui.models.ngrams import MOST_ROWS
from shakespeare_tui.models.numpy_kernels import FAST, compiled, exp

_ZERO, _ONE = np.float32(0), np.float32(1)
# x · σ(2u) is GELU by its tanh, x/2 · (1 + tanh u).
_GELU_X, _GELU_CUBE = (np.float32(2 * math.sqrt(2 / math.pi) * n) for n in (1, 0.044715))
# As in ``sound``: beyond, a difference may overflow.
_LARGEST_SUM = 1e30
# Rows of queries that look at the same keys together.
_MOST_QUERIES = 12
_LEAST_STEP = np.float32(LEAST_SCALE)
_ACTIVATIONS = {"gelu": 0, "relu2": 1, "swiglu": 2}


# Tiles that fill the registers: of one row vectors of many columns, whose sums do not wait for each
# other; of several rows as many columns as there are registers for.
_MANY = 4 * COUNT if HAS_WIDE_REGISTERS else COUNT
_WIDE_ROW, _HALF_ROW, _ROW = tile(1, PANEL), tile(1, PANEL // 2), tile(1, COUNT)
_SIX, _FOUR, _FOUR_NARROW = tile(6, _MANY), tile(4, _MANY), tile(4, COUNT)
_WHOLE_ROW, _WHOLE_FOUR, _WHOLE_SIX = (
    whole_tile(1, PANEL),
    whole_tile(4, _MANY),
    whole_tile(6, _MANY),
)


@part
def _height(rows: Any) -> Any:
    """Of the next tile, where so many rows are left."""
    if rows >= 6 and rows != 8:
        return 6
    return 4 if rows >= 4 else 1


@part
def _times(
    a: Any,
    a_start: Any,
    a_row: Any,
    b: Any,
    b_start: Any,
    b_row: Any,
    c: Any,
    c_start: Any,
    c_row: Any,
    rows: Any,
    columns: Any,
    depth: Any,
) -> None:
    """``rows`` rows of C = A B of arrays with these strides; ``columns`` fill vectors."""
    r, most = 0, 6 if columns % _MANY == 0 else 4
    while r < rows:
        height, x, y, j = min(_height(rows - r), most), a_start + r * a_row, c_start + r * c_row, 0
        while j < columns:
            z, to = b_start + j, y + j
            if height == 1:
                if columns - j >= PANEL:
                    _WIDE_ROW(a, x, a_row, 1, b, z, b_row, c, to, c_row, depth)
                    j += PANEL
                elif columns - j >= PANEL // 2:
                    _HALF_ROW(a, x, a_row, 1, b, z, b_row, c, to, c_row, depth)
                    j += PANEL // 2
                else:
                    _ROW(a, x, a_row, 1, b, z, b_row, c, to, c_row, depth)
                    j += COUNT
            elif columns - j >= _MANY:
                if height == 6:
                    _SIX(a, x, a_row, 1, b, z, b_row, c, to, c_row, depth)
                else:
                    _FOUR(a, x, a_row, 1, b, z, b_row, c, to, c_row, depth)
                j += _MANY
            else:
                _FOUR_NARROW(a, x, a_row, 1, b, z, b_row, c, to, c_row, depth)
                j += COUNT
        r += height


@part
def _panel_of_whole(
    x: Any, panels: Any, start: Any, out: Any, to: Any, rows: Any, depth: Any
) -> None:
    """A panel of int8 times rounded rows ``x`` [R, 2 · depth]."""
    r, inputs, columns = 0, x.shape[1], out.shape[1]
    while r < rows:
        height, a, c = _height(rows - r), r * inputs, to + r * columns
        if height == 1:
            _WHOLE_ROW(x, a, inputs, panels, start, 2 * PANEL, out, c, columns, depth)
        else:
            for j in range(0, PANEL, _MANY):
                b = start + 2 * j
                if height == 6:
                    _WHOLE_SIX(x, a, inputs, panels, b, 2 * PANEL, out, c + j, columns, depth)
                else:
                    _WHOLE_FOUR(x, a, inputs, panels, b, 2 * PANEL, out, c + j, columns, depth)
        r += height


@part
def _round(x: Any, whole: Any) -> Any:
    """Round a row [K] to whole numbers; returns what 1 of them stands for."""
    inputs = len(x)
    most = spoiled = _ZERO
    for k in range(inputs):
        most = max(most, abs(x[k]))
        # NaN where x is NaN or infinite, which no whole number is.
        spoiled += x[k] * _ZERO
    bound = np.float32(min(LARGEST_INPUT, LARGEST_SUM // (LARGEST_INT8 * inputs)))
    step = most / bound
    scale = _ONE / max(step, _LEAST_STEP)
    for k in range(inputs):
        whole[k] = np.int16(min(max(np.rint(x[k] * scale), -bound), bound))
    for k in range(inputs, len(whole)):
        whole[k] = 0
    return step + spoiled


def _panels(weights: Any, x: Any, out: Any) -> None:
    """``x`` [R, K] by all panels of a layer into ``out`` [R, N'], without scales and biases."""


@overload(_panels, jit_options={"fastmath": FAST, "error_model": "numpy"})
def _panels_of(weights: Any, x: Any, out: Any) -> Any:
    if weights.dtype == int8:

        def whole(weights: Any, x: Any, out: Any) -> None:
            rows, depth = len(x), weights.shape[1]
            rounded, steps = np.empty((rows, 2 * depth), np.int16), np.empty(rows, np.float32)
            for r in range(rows):
                steps[r] = _round(x[r], rounded[r])
            for p in range(len(weights)):
                start = p * depth * 2 * PANEL
                _panel_of_whole(rounded, weights, start, out, p * PANEL, rows, depth)
            for r in range(rows):
                for n in range(len(weights) * PANEL):
                    out[r, n] *= steps[r]

        return whole

    def panels(weights: Any, x: Any, out: Any) -> None:
        rows, depth, columns = len(x), weights.shape[1], out.shape[1]
        for p in range(len(weights)):
            start, to = p * depth * PANEL, p * PANEL
            _times(x, 0, depth, weights, start, PANEL, out, to, columns, rows, PANEL, depth)

    return panels


@compiled
def _product(linear: Any, layer: Any, x: Any, out: Any) -> None:
    """``Linear.product`` of ``x`` [R, K] into ``out`` [R, N']; each panel is read once."""
    scales, biases = linear.scales[layer], linear.biases[layer]
    _panels(linear.weights[layer], x, out)
    for r in range(len(x)):
        for n in range(len(scales)):
            out[r, n] *= scales[n]
        for n in range(len(biases)):
            out[r, n] += biases[n]


@compiled
def _normalise(x: Any, eps: Any, out: Any) -> None:
    for r in range(len(x)):
        square = eps
        for k in range(x.shape[1]):
            square += x[r, k] * x[r, k]
        scale = _ONE / np.sqrt(square)
        for k in range(x.shape[1]):
            out[r, k] = x[r, k] * scale


@compiled
def _add(x: Any, total: Any) -> None:
    """``x`` [R, C'] to ``total`` [R, C]."""
    for r in range(len(total)):
        for k in range(total.shape[1]):
            total[r, k] += x[r, k]


@compiled
def _attend(
    qkv: Any,
    layer: Any,
    start: Any,
    cache: Any,
    heads: Any,
    eps: Any,
    cosines: Any,
    sines: Any,
    qk_weights: Any,
    out: Any,
) -> None:
    """``Kernels.attend``; ``cache`` is [B, L, 2, K, S / 64, 64 D'], ``out`` [R, HD]."""
    streams, layers, key_heads, blocks = len(cache), cache.shape[1], cache.shape[3], cache.shape[4]
    width, padded = out.shape[1] // heads, cache.shape[5] // PANEL
    rows, count, group = len(qkv), len(qkv) // streams, heads // key_heads
    turned, half = heads + key_heads, cosines.shape[1]
    for r in range(rows):
        stream, place = r // count, start + r % count
        for h in range(turned):
            head = qkv[r, h * width : (h + 1) * width]
            if len(qk_weights):
                square = eps
                for k in range(width):
                    square += head[k] * head[k]
                scale = _ONE / np.sqrt(square)
                for k in range(width):
                    head[k] *= scale * qk_weights[h, k]
            if len(cosines):
                for k in range(half):
                    a, b = head[2 * k], head[2 * k + 1]
                    cosine, sine = cosines[place, k], sines[place, k]
                    head[2 * k], head[2 * k + 1] = a * cosine - b * sine, a * sine + b * cosine
        block, inside = place // PANEL, place % PANEL
        for h in range(key_heads):
            for k in range(width):
                key, value = qkv[r, (heads + h) * width + k], qkv[r, (turned + h) * width + k]
                cache[stream, layer, 0, h, block, k * PANEL + inside] = key
                cache[stream, layer, 1, h, block, inside * padded + k] = value
    long, many = (start + count + PANEL - 1) // PANEL * PANEL, min(count, _MOST_QUERIES)
    scores, mixed = np.empty((many, long), np.float32), np.empty((many, padded), np.float32)
    inputs, size = qkv.shape[1], PANEL * padded
    for stream in range(streams):
        for h in range(heads):
            keys = ((stream * layers + layer) * 2 * key_heads + h // group) * blocks * size
            values = keys + key_heads * blocks * size
            for first in range(0, count, many):
                queries = min(many, count - first)
                row, end = stream * count + first, start + first + queries
                query = row * inputs + h * width
                for s in range(0, end, PANEL):
                    place = keys + s * padded
                    _times(
                        qkv,
                        query,
                        inputs,
                        cache,
                        place,
                        PANEL,
                        scores,
                        s,
                        long,
                        queries,
                        PANEL,
                        width,
                    )
                for q in range(queries):
                    seen = start + first + q + 1
                    softmax(scores, q * long, seen)
                    for s in range(seen, end):
                        scores[q, s] = _ZERO
                _times(
                    scores,
                    0,
                    long,
                    cache,
                    values,
                    padded,
                    mixed,
                    0,
                    padded,
                    queries,
                    padded,
                    end,
                )
                for q in range(queries):
                    for k in range(width):
                        out[row + q, h * width + k] = mixed[q, k]


@compiled
def _convolve(
    normed: Any, layer: Any, start: Any, convolved: Any, weight: Any, scale: Any, shift: Any
) -> None:
    """``Kernels.convolve``; ``convolved`` is [B, L, K - 1 + S, C]."""
    streams, back = len(convolved), len(weight) - 1
    count, width = len(normed) // streams, normed.shape[1]
    for r in range(len(normed)):
        stream, place = r // count, start + r % count + back
        for j in range(width):
            x = normed[r, j] * scale[j]
            if len(shift):
                x += shift[j]
            convolved[stream, layer, place, j] = x
            normed[r, j] = x * weight[0, j]
        for k in range(1, back + 1):
            for j in range(width):
                normed[r, j] += convolved[stream, layer, place - k, j] * weight[k, j]


@compiled
def _activate(activation: Any, gate: Any, out: Any) -> None:
    width = out.shape[1]
    for r in range(len(out)):
        if activation == 0:
            for k in range(width):
                x = gate[r, k]
                out[r, k] = x / (_ONE + exp(-x * (_GELU_X + _GELU_CUBE * x * x)))
        elif activation == 1:
            for k in range(width):
                x = max(gate[r, k], _ZERO)
                out[r, k] = x * x
        else:
            for k in range(width):
                x = gate[r, k]
                out[r, k] = x / (_ONE + exp(-x)) * gate[r, width + k]


class _Layers(NamedTuple):
    """What ``_read`` takes of a ``PackedWeights`` and its shape."""

    heads: int
    attention_width: int
    inner_width: int
    activation: int
    eps: np.float32
    head_eps: np.float32
    cosines: FloatArray
    sines: FloatArray
    qk_weights: FloatArray
    qkv: Linear
    out: Linear
    convolution: FloatArray
    convolution_scale: FloatArray
    convolution_shift: FloatArray
    up: Linear
    down: Linear


class _Ends(NamedTuple):
    """What is before and after the layers; ``longest`` is that of n-grams."""

    embedding: FloatArray
    ngrams: FloatArray
    longest: int
    positions: FloatArray
    head: Linear


@compiled
def _read(stream: Any, start: Any, cache: Any, convolved: Any, layers: Any, normed: Any) -> None:
    """All layers over the rows ``stream`` [R, C], and the last norm into ``normed`` [R, C]."""
    rows, eps = len(stream), layers.eps
    qkv = np.empty((rows, layers.qkv.weights.shape[1] * PANEL), np.float32)
    mixed = np.empty((rows, layers.attention_width), np.float32)
    added = np.empty((rows, layers.out.weights.shape[1] * PANEL), np.float32)
    gate = np.empty((rows, layers.up.weights.shape[1] * PANEL), np.float32)
    inner = np.empty((rows, layers.inner_width), np.float32)
    for layer in range(cache.shape[1]):
        _normalise(stream, eps, normed)
        _product(layers.qkv, layer, normed, qkv)
        _attend(
            qkv,
            layer,
            start,
            cache,
            layers.heads,
            layers.head_eps,
            layers.cosines,
            layers.sines,
            layers.qk_weights[layer],
            mixed,
        )
        _product(layers.out, layer, mixed, added)
        _add(added, stream)
        _normalise(stream, eps, normed)
        if layers.convolution.shape[1]:
            scale, shift = layers.convolution_scale[layer], layers.convolution_shift[layer]
            _convolve(normed, layer, start, convolved, layers.convolution[layer], scale, shift)
        _product(layers.up, layer, normed, gate)
        _activate(layers.activation, gate, inner)
        _product(layers.down, layer, inner, added)
        _add(added, stream)
    _normalise(stream, eps, normed)


@compiled
def _is_sound(logits: Any) -> Any:
    """Whether no logit is NaN or infinite: what is not, is left to the definitions."""
    total = 0.0
    for v in range(len(logits)):
        total += np.float64(logits[v])
    return abs(total) < _LARGEST_SUM


@compiled
def _embed(text: Any, last: Any, place: Any, ends: Any, out: Any) -> None:
    """Token ``last`` of ``text`` [L], at ``place`` of its window, as a vector ``out`` [C].

    With the rows of its n-grams, as ``ngram_ids`` gives them, and what its place adds.
    """
    vocab_size = len(ends.embedding)
    for k in range(len(out)):
        out[k] = ends.embedding[text[last], k]
    code, counted, first = text[last], vocab_size, 0
    for back in range(1, ends.longest):
        before = text[last - back] if place >= back else vocab_size
        code = code * (vocab_size + 1) + before
        counted *= vocab_size + 1
        rows = min(counted, MOST_ROWS)
        row = code % rows + first
        first += rows
        for k in range(len(out)):
            out[k] += ends.ngrams[row, k]
    if len(ends.positions):
        for k in range(len(out)):
            out[k] += ends.positions[place, k]


@compiled
def _write(
    text: Any,
    length: Any,
    start: Any,
    cache: Any,
    convolved: Any,
    layers: Any,
    ends: Any,
    kinds: Any,
    values: Any,
    windows: Any,
    counts: Any,
    uniforms: Any,
    given: Any,
    normed: Any,
) -> int:
    """Draw tokens of ``text`` [B, L] from ``length`` on; returns how many.

    ``start`` is the place in the window of the last token that is there, which is not read yet.
    The logits of each draw go into ``given`` [B, T, V], where that has room for them.
    """
    streams, width = normed.shape
    vocab_size = len(ends.embedding)
    logits = np.empty((streams, vocab_size), np.float32)
    padded = np.empty((streams, ends.head.weights.shape[1] * PANEL), np.float32)
    stream = np.empty((streams, width), np.float32)
    tokens: int = uniforms.shape[1]
    for i in range(tokens):
        for b in range(streams):
            _embed(text[b], length - 1 + i, start + i, ends, stream[b])
        _read(stream, start + i, cache, convolved, layers, normed)
        _product(ends.head, 0, normed, padded)
        for b in range(streams):
            for v in range(vocab_size):
                logits[b, v] = padded[b, v]
            if not _is_sound(logits[b]):
                return i
        for b in range(streams):
            if given.shape[1]:
                given[b, i] = logits[b]
            token = draw(logits[b], kinds[b], values[b], counts[b], uniforms[b, i])
            text[b, length + i] = token
            count(kinds[b], windows[b], text[b], length + i, counts[b])
    return tokens


@compiled
def _settle(
    text: Any,
    length: Any,
    logits: Any,
    kinds: Any,
    values: Any,
    windows: Any,
    counts: Any,
    uniforms: Any,
) -> int:
    """Draw tokens into ``text`` [1, L] from ``length`` on by ``logits`` [T, V]; returns how many.

    Up to the first that is not what stood there, or whose logits no token can be drawn by.
    """
    row = np.empty(logits.shape[1], np.float32)
    for i in range(len(logits)):
        if not _is_sound(logits[i]):
            return i
        row[:] = logits[i]
        drafted = text[0, length + i]
        token = draw(row, kinds[0], values[0], counts[0], uniforms[0, i])
        text[0, length + i] = token
        count(kinds[0], windows[0], text[0], length + i, counts[0])
        if token != drafted:
            return i + 1
    return len(logits)


@compiled
def _write_drafted(
    text: Any,
    length: Any,
    start: Any,
    cache: Any,
    convolved: Any,
    layers: Any,
    ends: Any,
    drafting_layers: Any,
    drafting_ends: Any,
    kinds: Any,
    values: Any,
    windows: Any,
    counts: Any,
    uniforms: Any,
    given: Any,
    normed: Any,
) -> int:
    """``_write`` of one stream, whose tokens are drafted by other weights and checked together.

    Both draw by the same numbers, so that a draft is mostly what is drawn. What drafting leaves
    in ``cache`` and ``convolved`` is written over by the check.
    """
    tokens, vocab_size = uniforms.shape[1], len(ends.embedding)
    most = min(MOST_DRAFTS, tokens - 1) + 1
    logits = np.empty((most, vocab_size), np.float32)
    padded = np.empty((most, ends.head.weights.shape[1] * PANEL), np.float32)
    stream = np.empty((most, normed.shape[1]), np.float32)
    read, drafted = np.empty_like(stream), np.empty_like(normed)
    nowhere = np.empty((1, 0, vocab_size), np.float32)
    counted = counts.copy()
    done = 0
    while done < tokens:
        drafts, first, place = min(MOST_DRAFTS, tokens - done - 1), length + done, start + done
        rows = 1 + _write(
            text,
            first,
            place,
            cache,
            convolved,
            drafting_layers,
            drafting_ends,
            kinds,
            values,
            windows,
            counted,
            uniforms[0, done : done + drafts].reshape(1, drafts),
            nowhere,
            drafted,
        )
        for r in range(rows):
            _embed(text[0], first - 1 + r, place + r, ends, stream[r])
        _read(stream[:rows], place, cache, convolved, layers, read[:rows])
        _product(ends.head, 0, read[:rows], padded[:rows])
        for r in range(rows):
            for v in range(vocab_size):
                logits[r, v] = padded[r, v]
        numbers = uniforms[0, done : done + rows].reshape(1, rows)
        settled = _settle(text, first, logits[:rows], kinds, values, windows, counts, numbers)
        if not settled:
            break
        if given.shape[1]:
            given[0, done : done + settled] = logits[:settled]
        normed[0] = read[settled - 1]
        counted[:] = counts
        done += settled
    return done


_VECTORS = float32[:, ::1]
_named_tuple: Any = types.NamedTuple
_LINEAR = {
    dtype: _named_tuple((kind[:, :, :, ::1], _VECTORS, _VECTORS), Linear)
    for dtype, kind in (("float32", float32), ("uint16", uint16), ("int8", int8))
}
_CACHES = float32[:, :, :, :, :, ::1], float32[:, :, :, ::1]
_NUMBERS = float64[:, ::1]
_CHAINS = int64[:, ::1], _NUMBERS, int64[:, ::1], float32[:, :, ::1], _NUMBERS


def kernels_for(layer_type: str, head_type: str) -> list[tuple[Any, Any]]:
    """The functions for weights of these types, with their signatures."""
    convolved, (layers, ends) = _CACHES[1], _both_of(layer_type, head_type)
    attention = (int64, float32, _VECTORS, _VECTORS, _VECTORS, _VECTORS)
    writing = (int64[:, ::1], int64, int64, *_CACHES, layers, ends)
    return [
        (_normalise, void(_VECTORS, float32, _VECTORS)),
        (_activate, void(int64, _VECTORS, _VECTORS)),
        (_convolve, void(_VECTORS, int64, int64, convolved, _VECTORS, *(float32[::1],) * 2)),
        (_attend, void(_VECTORS, int64, int64, _CACHES[0], *attention)),
        (_product, void(_LINEAR[head_type], int64, _VECTORS, _VECTORS)),
        (_read, void(_VECTORS, int64, *_CACHES, layers, _VECTORS)),
        (_write, int64(*writing, *_CHAINS, float32[:, :, ::1], _VECTORS)),
    ]


def drafting_kernels(exact: tuple[str, str], rounded: tuple[str, str]) -> list[tuple[Any, Any]]:
    """What writes by weights of the first types, of layers and head, and drafts by the second."""
    models = [each for kinds in (exact, rounded) for each in _both_of(*kinds)]
    writing = (int64[:, ::1], int64, int64, *_CACHES, *models)
    return [(_write_drafted, int64(*writing, *_CHAINS, float32[:, :, ::1], _VECTORS))]


def _both_of(layer_type: str, head_type: str) -> tuple[Any, Any]:
    """The types of ``_Layers`` and ``_Ends``."""
    linear, numbers = _LINEAR[layer_type], float32[:, :, ::1]
    shape = (*(int64,) * 4, float32, float32, _VECTORS, _VECTORS, numbers)
    convolution = (numbers, _VECTORS, _VECTORS)
    ends = (_VECTORS, _VECTORS, int64, _VECTORS, _LINEAR[head_type])
    layers = (*shape, linear, linear, *convolution, linear, linear)
    return _named_tuple(layers, _Layers), _named_tuple(ends, _Ends)


class Compiled:
    """See ``CompiledKernels``."""

    # More are read sooner by the products of a library with threads, which take a while to wake.
    most_rows = 64

    def normalise(self, x: FloatArray, eps: np.float32, out: FloatArray) -> None:
        """See ``Kernels``."""
        _normalise(x, eps, out)

    def attend(
        self,
        packed: PackedWeights,
        layer: int,
        cache: FloatArray,
        start: int,
        qkv: FloatArray,
        out: FloatArray,
    ) -> None:
        """See ``Kernels``."""
        config = packed.config
        eps = epsilon(config, config.head_width)
        tables = packed.cosines, packed.sines, packed.qk_weights[layer]
        _attend(qkv, layer, start, cache, config.n_heads, eps, *tables, out)

    def convolve(
        self,
        packed: PackedWeights,
        layer: int,
        convolved: FloatArray,
        start: int,
        normed: FloatArray,
    ) -> None:
        """See ``Kernels``."""
        scale, shift = packed.convolution_scale[layer], packed.convolution_shift[layer]
        _convolve(normed, layer, start, convolved, packed.convolution[layer], scale, shift)

    def activate(self, config: ModelConfig, gate: FloatArray, out: FloatArray) -> None:
        """See ``Kernels``."""
        _activate(_ACTIVATIONS[config.activation], gate, out)

    def read(
        self,
        packed: PackedWeights,
        cache: FloatArray,
        convolved: FloatArray,
        start: int,
        stream: FloatArray,
    ) -> FloatArray:
        """See ``CompiledKernels``."""
        normed = np.empty_like(stream)
        _read(stream, start, cache, convolved, _layers(packed), normed)
        return normed

    def logits(self, packed: PackedWeights, rows: FloatArray) -> FloatArray:
        """See ``CompiledKernels``."""
        logits = np.empty((len(rows), packed.head.outputs), np.float32)
        _product(packed.head, 0, rows, logits)
        return np.ascontiguousarray(logits[:, : len(packed.embedding)])

    def write(
        self,
        packed: PackedWeights,
        cache: FloatArray,
        convolved: FloatArray,
        start: int,
        text: IntArray,
        length: int,
        draws: Draws,
        given: FloatArray,
        normed: FloatArray,
        drafting: PackedWeights | None = None,
    ) -> int:
        """See ``CompiledKernels``."""
        where = text, length, start, cache, convolved
        how = draws.kinds, draws.values, draws.windows, draws.counts, draws.uniforms
        model = _layers(packed), _ends(packed)
        done: int
        if drafting is None:
            done = _write(*where, *model, *how, given, normed)
        else:
            other = _layers(drafting), _ends(drafting)
            done = _write_drafted(*where, *model, *other, *how, given, normed)
        return done


def _layers(packed: PackedWeights) -> _Layers:
    config = packed.config
    return _Layers(
        config.n_heads,
        config.attention_width,
        config.feedforward_width,
        _ACTIVATIONS[config.activation],
        epsilon(config, config.d_model),
        epsilon(config, config.head_width),
        packed.cosines,
        packed.sines,
        packed.qk_weights,
        packed.qkv,
        packed.out,
        packed.convolution,
        packed.convolution_scale,
        packed.convolution_shift,
        packed.up,
        packed.down,
    )


def _ends(packed: PackedWeights) -> _Ends:
    longest = packed.config.ngram_embedding
    return _Ends(packed.embedding, packed.ngrams, longest, packed.positions, packed.head)
