"""A few tokens through the whole model as one compiled function, by numba.

A token of a small model is sixty small operations between products of a matrix and a vector;
started one by one from Python, they take longer than the work. The definitions are NumPy's, in
``cpu_decoder.py``. Everything is on one thread without Python's lock, in float32 whatever the
weights are kept as, and each sum has one order: a text is the same whatever else runs.
"""

import math
from typing import Any

import numpy as np
from numba import float32, float64, int8, int64, uint16, void
from numba.core import types

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.compiled_draws import count, draw
from shakespeare_tui.decoding.decoder import FloatArray, IntArray
from shakespeare_tui.decoding.draws import Draws
from shakespeare_tui.decoding.packed import Linear, PackedWeights, epsilon
from shakespeare_tui.models.ngrams import MOST_ROWS
from shakespeare_tui.models.numpy_kernels import compiled, exp, number, row_maximum

_ZERO, _ONE = np.float32(0), np.float32(1)
# x · σ(2u) is GELU by its tanh, x/2 · (1 + tanh u).
_GELU_X, _GELU_CUBE = (np.float32(2 * math.sqrt(2 / math.pi) * n) for n in (1, 0.044715))
# As in ``sound``: beyond, a difference may overflow.
_LARGEST_SUM = 1e30
_ACTIVATIONS = {"gelu": 0, "relu2": 1, "swiglu": 2}


@compiled
def _product(linear: Any, layer: Any, x: Any, out: Any) -> None:
    """``x`` [R, K] · Wᵀ into ``out`` [R, N]; four rows of weights are read once for four of x."""
    weight, scales, biases = linear.weights[layer], linear.scales[layer], linear.biases[layer]
    outputs, inputs = weight.shape
    rows = len(x)
    for n in range(0, outputs - outputs % 4, 4):
        for r in range(0, rows - rows % 4, 4):
            a0 = b0 = c0 = d0 = a1 = b1 = c1 = d1 = _ZERO
            a2 = b2 = c2 = d2 = a3 = b3 = c3 = d3 = _ZERO
            for k in range(inputs):
                a, b = number(weight[n, k]), number(weight[n + 1, k])
                c, d = number(weight[n + 2, k]), number(weight[n + 3, k])
                x0, x1, x2, x3 = x[r, k], x[r + 1, k], x[r + 2, k], x[r + 3, k]
                a0 += a * x0
                b0 += b * x0
                c0 += c * x0
                d0 += d * x0
                a1 += a * x1
                b1 += b * x1
                c1 += c * x1
                d1 += d * x1
                a2 += a * x2
                b2 += b * x2
                c2 += c * x2
                d2 += d * x2
                a3 += a * x3
                b3 += b * x3
                c3 += c * x3
                d3 += d * x3
            out[r, n], out[r, n + 1], out[r, n + 2], out[r, n + 3] = a0, b0, c0, d0
            r1, r2, r3 = r + 1, r + 2, r + 3
            out[r1, n], out[r1, n + 1], out[r1, n + 2], out[r1, n + 3] = a1, b1, c1, d1
            out[r2, n], out[r2, n + 1], out[r2, n + 2], out[r2, n + 3] = a2, b2, c2, d2
            out[r3, n], out[r3, n + 1], out[r3, n + 2], out[r3, n + 3] = a3, b3, c3, d3
        for r in range(rows - rows % 4, rows):
            a0 = b0 = c0 = d0 = _ZERO
            for k in range(inputs):
                x0 = x[r, k]
                a0 += number(weight[n, k]) * x0
                b0 += number(weight[n + 1, k]) * x0
                c0 += number(weight[n + 2, k]) * x0
                d0 += number(weight[n + 3, k]) * x0
            out[r, n], out[r, n + 1], out[r, n + 2], out[r, n + 3] = a0, b0, c0, d0
    for n in range(outputs - outputs % 4, outputs):
        for r in range(rows):
            a0 = _ZERO
            for k in range(inputs):
                a0 += number(weight[n, k]) * x[r, k]
            out[r, n] = a0
    for r in range(rows):
        if len(scales):
            for n in range(outputs):
                out[r, n] *= scales[n]
        if len(biases):
            for n in range(outputs):
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
    for r in range(len(x)):
        for k in range(x.shape[1]):
            total[r, k] += x[r, k]


@compiled
def _attend_head(query: Any, keys: Any, values: Any, count: Any, scores: Any, out: Any) -> None:
    """One query [D] over the first ``count`` of keys and values [S, D]; ``scores`` is [S]."""
    width = len(query)
    whole = count - count % 4
    for s in range(0, whole, 4):
        a = b = c = d = _ZERO
        for k in range(width):
            q = query[k]
            a += keys[s, k] * q
            b += keys[s + 1, k] * q
            c += keys[s + 2, k] * q
            d += keys[s + 3, k] * q
        scores[s], scores[s + 1], scores[s + 2], scores[s + 3] = a, b, c, d
    for s in range(whole, count):
        a = _ZERO
        for k in range(width):
            a += keys[s, k] * query[k]
        scores[s] = a
    most = row_maximum(scores, count)
    for s in range(count):
        scores[s] = exp(scores[s] - most)
    total = _ZERO
    for s in range(count):
        total += scores[s]
    for k in range(width):
        out[k] = _ZERO
    for s in range(0, whole, 4):
        a, b, c, d = scores[s], scores[s + 1], scores[s + 2], scores[s + 3]
        for k in range(width):
            both = a * values[s, k] + b * values[s + 1, k]
            out[k] += both + c * values[s + 2, k] + d * values[s + 3, k]
    for s in range(whole, count):
        for k in range(width):
            out[k] += scores[s] * values[s, k]
    for k in range(width):
        out[k] /= total


@compiled
def _attend(
    qkv: Any,
    start: Any,
    cache: Any,
    heads: Any,
    eps: Any,
    cosines: Any,
    sines: Any,
    qk_weights: Any,
    out: Any,
) -> None:
    """``Kernels.attend`` of one layer; ``cache`` is [2, B, K, S, D], ``qk_weights`` [H + K, D]."""
    streams, key_heads, width = cache.shape[1], cache.shape[2], cache.shape[4]
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
        for h in range(key_heads):
            for k in range(width):
                cache[0, stream, h, place, k] = qkv[r, (heads + h) * width + k]
                cache[1, stream, h, place, k] = qkv[r, (turned + h) * width + k]
    scores = np.empty(start + count, np.float32)
    for r in range(rows):
        stream, place = r // count, start + r % count
        for h in range(heads):
            keys, values = cache[0, stream, h // group], cache[1, stream, h // group]
            first, end = h * width, (h + 1) * width
            _attend_head(qkv[r, first:end], keys, values, place + 1, scores, out[r, first:end])


@compiled
def _convolve(normed: Any, start: Any, convolved: Any, weight: Any, scale: Any, shift: Any) -> None:
    """``Kernels.convolve`` of one layer; ``convolved`` is [B, K - 1 + S, C]."""
    streams, back = len(convolved), len(weight) - 1
    count, width = len(normed) // streams, normed.shape[1]
    for r in range(len(normed)):
        stream, place = r // count, start + r % count + back
        for j in range(width):
            x = normed[r, j] * scale[j]
            if len(shift):
                x += shift[j]
            convolved[stream, place, j] = x
            normed[r, j] = x * weight[0, j]
        for k in range(1, back + 1):
            for j in range(width):
                normed[r, j] += convolved[stream, place - k, j] * weight[k, j]


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


@compiled
def _read(
    stream: Any,
    start: Any,
    cache: Any,
    convolved: Any,
    heads: Any,
    activation: Any,
    eps: Any,
    head_eps: Any,
    cosines: Any,
    sines: Any,
    qk_weights: Any,
    qkv_linear: Any,
    out_linear: Any,
    convolution: Any,
    convolution_scale: Any,
    convolution_shift: Any,
    up_linear: Any,
    down_linear: Any,
    normed: Any,
) -> None:
    """All layers over the rows ``stream`` [R, C], and the last norm into ``normed`` [R, C]."""
    rows = len(stream)
    qkv = np.empty((rows, qkv_linear.weights.shape[1]), np.float32)
    mixed = np.empty((rows, out_linear.weights.shape[2]), np.float32)
    gate = np.empty((rows, up_linear.weights.shape[1]), np.float32)
    inner = np.empty((rows, down_linear.weights.shape[2]), np.float32)
    for layer in range(len(cache)):
        _normalise(stream, eps, normed)
        _product(qkv_linear, layer, normed, qkv)
        weights = qk_weights[layer]
        _attend(qkv, start, cache[layer], heads, head_eps, cosines, sines, weights, mixed)
        _product(out_linear, layer, mixed, normed)
        _add(normed, stream)
        _normalise(stream, eps, normed)
        if convolution.shape[1]:
            scale, shift = convolution_scale[layer], convolution_shift[layer]
            _convolve(normed, start, convolved[layer], convolution[layer], scale, shift)
        _product(up_linear, layer, normed, gate)
        _activate(activation, gate, inner)
        _product(down_linear, layer, inner, normed)
        _add(normed, stream)
    _normalise(stream, eps, normed)


@compiled
def _is_sound(logits: Any) -> Any:
    """Whether no logit is NaN or infinite: what is not, is left to the definitions."""
    total = 0.0
    for v in range(len(logits)):
        total += np.float64(logits[v])
    return abs(total) < _LARGEST_SUM


@compiled
def _add_ngrams(
    text: Any, last: Any, place: Any, longest: Any, vocab_size: Any, ngrams: Any, out: Any
) -> None:
    """Adds the rows that ``ngram_ids`` gives to token ``last``, at ``place`` of its window."""
    code, counted, first = text[last], vocab_size, 0
    for back in range(1, longest):
        before = text[last - back] if place >= back else vocab_size
        code = code * (vocab_size + 1) + before
        counted *= vocab_size + 1
        rows = min(counted, MOST_ROWS)
        row = code % rows + first
        first += rows
        for k in range(len(out)):
            out[k] += ngrams[row, k]


@compiled
def _write(
    text: Any,
    length: Any,
    embedding: Any,
    ngrams: Any,
    longest: Any,
    positions: Any,
    start: Any,
    cache: Any,
    convolved: Any,
    heads: Any,
    activation: Any,
    eps: Any,
    head_eps: Any,
    cosines: Any,
    sines: Any,
    qk_weights: Any,
    qkv_linear: Any,
    out_linear: Any,
    convolution: Any,
    convolution_scale: Any,
    convolution_shift: Any,
    up_linear: Any,
    down_linear: Any,
    head: Any,
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
    The logits of each draw go into ``given`` [T, B, V], where that has room for them.
    """
    streams, width = normed.shape
    logits = np.empty((streams, len(embedding)), np.float32)
    stream = np.empty((streams, width), np.float32)
    for i in range(len(uniforms)):
        for b in range(streams):
            token = text[b, length - 1 + i]
            for k in range(width):
                stream[b, k] = embedding[token, k]
            last, place = length - 1 + i, start + i
            _add_ngrams(text[b], last, place, longest, len(embedding), ngrams, stream[b])
            if len(positions):
                for k in range(width):
                    stream[b, k] += positions[start + i, k]
        _read(
            stream,
            start + i,
            cache,
            convolved,
            heads,
            activation,
            eps,
            head_eps,
            cosines,
            sines,
            qk_weights,
            qkv_linear,
            out_linear,
            convolution,
            convolution_scale,
            convolution_shift,
            up_linear,
            down_linear,
            normed,
        )
        _product(head, 0, normed, logits)
        for b in range(streams):
            if not _is_sound(logits[b]):
                return i
        if len(given):
            given[i] = logits
        for b in range(streams):
            token = draw(logits[b], kinds[b], values[b], counts[b], uniforms[i, b])
            text[b, length + i] = token
            count(kinds[b], windows[b], text[b], length + i, counts[b])
    return len(uniforms)


_VECTORS = float32[:, ::1]
_named_tuple: Any = types.NamedTuple
_LINEAR = {
    dtype: _named_tuple((kind[:, :, ::1], _VECTORS, _VECTORS), Linear)
    for dtype, kind in (("float32", float32), ("uint16", uint16), ("int8", int8))
}


def kernels_for(layer_type: str, head_type: str) -> list[tuple[Any, Any]]:
    """The functions for weights of these types, with their signatures."""
    linear, head = _LINEAR[layer_type], _LINEAR[head_type]
    layer_cache, cache = float32[:, :, :, :, ::1], float32[:, :, :, :, :, ::1]
    model = (
        *(cache, float32[:, :, :, ::1], int64, int64, float32, float32),
        *(_VECTORS, _VECTORS, float32[:, :, ::1]),
        *(linear, linear, float32[:, :, ::1], _VECTORS, _VECTORS, linear, linear),
    )
    integers, numbers = int64[:, ::1], float64[:, ::1]
    draws = (integers, numbers, integers, float32[:, :, ::1], numbers)
    attention = (int64, float32, _VECTORS, _VECTORS, _VECTORS, _VECTORS)
    return [
        (_normalise, void(_VECTORS, float32, _VECTORS)),
        (_activate, void(int64, _VECTORS, _VECTORS)),
        (_convolve, void(_VECTORS, int64, float32[:, :, ::1], _VECTORS, *(float32[::1],) * 2)),
        (_attend, void(_VECTORS, int64, layer_cache, *attention)),
        (_product, void(head, int64, _VECTORS, _VECTORS)),
        (_read, void(_VECTORS, int64, *model, _VECTORS)),
        (
            _write,
            int64(
                *(integers, int64, _VECTORS, _VECTORS, int64, _VECTORS, int64, *model, head),
                *draws,
                *(float32[:, :, ::1], _VECTORS),
            ),
        ),
    ]


_Model = tuple[Any, Any, Any, Any, Any, Any, Any, Any, Any, Any, Any, Any, Any, Any]


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
        _attend(qkv, start, cache[layer], config.n_heads, eps, *tables, out)

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
        _convolve(normed, start, convolved[layer], packed.convolution[layer], scale, shift)

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
        _read(stream, start, cache, convolved, *_model(packed), normed)
        return normed

    def logits(self, packed: PackedWeights, rows: FloatArray) -> FloatArray:
        """See ``CompiledKernels``."""
        logits = np.empty((len(rows), packed.head.weights.shape[1]), np.float32)
        _product(packed.head, 0, rows, logits)
        return logits

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
    ) -> int:
        """See ``CompiledKernels``."""
        longest = packed.config.ngram_embedding
        tables = packed.embedding, packed.ngrams, longest, packed.positions
        how = draws.kinds, draws.values, draws.windows, draws.counts, draws.uniforms
        model = (*_model(packed), packed.head)
        kept = cache, convolved
        done: int = _write(text, length, *tables, start, *kept, *model, *how, given, normed)
        return done


def _model(packed: PackedWeights) -> _Model:
    """What ``_read`` takes of the weights, in its order."""
    config = packed.config
    return (
        config.n_heads,
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
