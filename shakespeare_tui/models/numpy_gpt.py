"""A GPT in NumPy, its gradients written by hand; reads top to bottom, as ``transformer.py`` does.

The same model with the same names of weights, so that either library opens what the other trained.
Every function is followed by its gradient. ``f`` returns its result and what the gradient will need
(``saved``); ``f_backward`` takes ``d_y``, the gradient of the loss with respect to the result, and
returns the gradients with respect to the arguments, in their order: the chain rule, one link each.
Float32 trains; float64 checks. ``@replaceable`` lets a compiled function of the same name, in
``numpy_kernels.py``, take a function's place where numba is installed: what is computed stays this.

Shapes: B batch, T tokens, C d_model, H heads of queries, K of keys and values, G = H / K, D head
width, F feed-forward width, V vocabulary, N = B·T rows, [...] any.
"""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.errors import check_cancelled, never
from shakespeare_tui.models.compiling import replaceable
from shakespeare_tui.models.ngrams import ngram_ids, ngram_rows
from shakespeare_tui.models.parameters import MOST_LOGITS
from shakespeare_tui.models.positions import rotary_table, sinusoidal_table

Array = NDArray[Any]
Weights = dict[str, Array]
Saved = Any
"""What a gradient needs of the way forward: arrays, opened only by the function's own gradient."""


# --- embedding -----------------------------------------------------------------------------------


def embedding(tokens: NDArray[np.int64], weight: Array) -> tuple[Array, Saved]:
    """Row ``tokens[b, t]`` of ``weight`` [V, C] for each token [B, T]: [B, T, C]."""
    return weight[tokens], (tokens, weight.shape)


@replaceable
def embedding_backward(d_y: Array, saved: Saved) -> Array:
    """∂L/∂weight[v] = Σ d_y over the places that hold token v.

    Sorted by token, those places are neighbours, and one pass adds them up.
    """
    tokens, shape = saved
    rows, flat = d_y.reshape(-1, shape[1]), tokens.reshape(-1)  # [B, T, C] -> [N, C]
    order = np.argsort(flat, kind="stable")
    present, starts = np.unique(flat[order], return_index=True)
    d_weight = np.zeros(shape, d_y.dtype)
    d_weight[present] = np.add.reduceat(rows[order], starts, axis=0)
    return d_weight


# --- linear layer --------------------------------------------------------------------------------


def linear(x: Array, weight: Array, bias: Array | None) -> tuple[Array, Saved]:
    """Rows times a matrix, y = x Wᵀ + b, of x [..., I], W [O, I] and b [O]: [..., O]."""
    rows = x.reshape(-1, x.shape[-1])  # [..., I] -> [N, I]: one large product
    y = rows @ weight.T
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], len(weight)), (rows, weight, bias)  # [N, O] -> [..., O]


def linear_backward(d_y: Array, saved: Saved) -> tuple[Array, Array, Array | None]:
    """y_no = Σ_i x_ni W_oi + b_o, so ∂L/∂x = d_y W, ∂L/∂W = d_yᵀ x, ∂L/∂b = Σ_n d_y.

    Each is the only product of the two whose shape fits.
    """
    x, weight, bias = saved
    rows = d_y.reshape(-1, len(weight))  # [..., O] -> [N, O]
    d_x = (rows @ weight).reshape(*d_y.shape[:-1], x.shape[1])  # [N, I] -> [..., I]
    return d_x, rows.T @ x, None if bias is None else rows.sum(0)


# --- normalisation -------------------------------------------------------------------------------


@replaceable
def layer_norm(x: Array, weight: Array, bias: Array | None, eps: float) -> tuple[Array, Saved]:
    """LayerNorm (arXiv:1607.06450): n = (x − mean) / √(variance + eps), y = n · weight + bias."""
    normed = x - x.mean(-1, keepdims=True)
    scale = 1 / np.sqrt(_mean_of_product(normed, normed) + eps)  # [..., 1]
    normed *= scale
    y = normed * weight
    if bias is not None:
        y += bias
    return y, (normed, scale, weight, bias)


@replaceable
def layer_norm_backward(d_y: Array, saved: Saved) -> tuple[Array, Array, Array | None]:
    """With d_n = d_y · weight: ∂L/∂x = (d_n − mean(d_n) − n · mean(d_n · n)) / √(variance + eps).

    What moves all of x alike (the mean) or stretches it (n itself) changes nothing: both go out.
    """
    normed, scale, weight, bias = saved
    d_weight, d_bias = _sum_rows(d_y * normed), None if bias is None else _sum_rows(d_y)
    d_x = d_y * weight
    projection = _mean_of_product(d_x, normed)
    d_x -= d_x.mean(-1, keepdims=True)
    d_x -= normed * projection
    d_x *= scale
    return d_x, d_weight, d_bias


@replaceable
def rms_norm(x: Array, weight: Array, eps: float) -> tuple[Array, Saved]:
    """RMSNorm (arXiv:1910.07467): n = x / √(mean(x²) + eps), y = n · weight."""
    scale = 1 / np.sqrt(_mean_of_product(x, x) + eps)  # [..., 1]
    normed = x * scale
    return normed * weight, (normed, scale, weight)


@replaceable
def rms_norm_backward(d_y: Array, saved: Saved) -> tuple[Array, Array]:
    """With d_n = d_y · weight: ∂L/∂x = (d_n − n · mean(d_n · n)) / √(mean(x²) + eps).

    As LayerNorm's without the mean, which is not taken out here.
    """
    normed, scale, weight = saved
    d_weight = _sum_rows(d_y * normed)
    d_x = d_y * weight
    d_x -= normed * _mean_of_product(d_x, normed)
    d_x *= scale
    return d_x, d_weight


def _mean_of_product(a: Array, b: Array) -> Array:
    """mean(a · b) over the last dimension, [..., 1], without an array of the products."""
    mean: Array = np.vecdot(a, b)[..., None] / a.dtype.type(a.shape[-1])
    return mean


def _sum_rows(x: Array) -> Array:
    """The sum over all but the last dimension."""
    total: Array = x.reshape(-1, x.shape[-1]).sum(0)  # [..., C] -> [N, C] -> [C]
    return total


# --- rotary positions ----------------------------------------------------------------------------


@replaceable
def rotate(x: Array, cosines: Array, sines: Array) -> Array:
    """Rotary embedding (arXiv:2104.09864) of x [B, T, H, D], by the table's rows [T, 1, D].

    The halves (a, b) of a head become (a cos − b sin, b cos + a sin); the table's sines have the
    first half's sign in them.
    """
    half = x.shape[-1] // 2
    y = x * cosines
    y[..., :half] += x[..., half:] * sines[..., :half]
    y[..., half:] += x[..., :half] * sines[..., half:]
    return y


def rotate_backward(d_y: Array, cosines: Array, sines: Array) -> Array:
    """A rotation's Jacobian is the rotation, and its transpose turns the other way."""
    return rotate(d_y, cosines, -sines)


# --- attention -----------------------------------------------------------------------------------


def attention(
    query: Array,
    key: Array,
    value: Array,
    dropout_share: float = 0.0,
    generator: np.random.Generator | None = None,
) -> tuple[Array, Saved]:
    """Causal attention: P = softmax(Q Kᵀ / √D) over the tokens up to one's own, and Y = P V.

    Args:
        query: [B, T, H, D].
        key: [B, T, K, D]; each of its heads serves G of queries (arXiv:2305.13245).
        value: [B, T, K, D].
        dropout_share: Of the probabilities that are dropped.
        generator: Draws them; None drops nothing.

    Returns:
        [B, T, H, D], and what the gradient needs.
    """
    q, k, v = _by_head(query, key.shape[2]), _by_head(key), _by_head(value)
    scores = q @ k.swapaxes(-1, -2)  # [B, K, G, T, D] @ [B, K, 1, D, T] -> [B, K, G, T, T]
    p, p_saved = causal_softmax(scores, 1 / math.sqrt(query.shape[-1]))
    kept, kept_saved = dropout(p, dropout_share, generator)
    y = np.empty(query.shape, query.dtype)
    np.matmul(kept, v, out=_by_head(y, key.shape[2]))  # [B, K, G, T, T] @ [B, K, 1, T, D]
    return y, (query, key, value, p_saved, kept, kept_saved)


def attention_backward(d_y: Array, saved: Saved) -> tuple[Array, Array, Array]:
    """Y = P V: d_V = Pᵀ d_Y, d_P = d_Y Vᵀ. S = Q Kᵀ: d_Q = d_S K, d_K = d_Sᵀ Q.

    Queries that share a head of keys add up in it.
    """
    query, key, value, p_saved, kept, kept_saved = saved
    heads = key.shape[2]
    q, k, v, d_mixed = _by_head(query, heads), _by_head(key), _by_head(value), _by_head(d_y, heads)
    d_value = _sum_queries(kept, d_mixed)
    d_p = dropout_backward(d_mixed @ v.swapaxes(-1, -2), kept_saved)  # [B, K, G, T, T]
    d_scores = causal_softmax_backward(d_p, p_saved)
    d_query = np.empty(query.shape, query.dtype)
    np.matmul(d_scores, k, out=_by_head(d_query, heads))  # [B, K, G, T, T] @ [B, K, 1, T, D]
    return d_query, _sum_queries(d_scores, q), d_value


def _sum_queries(looks: Array, x: Array) -> Array:
    """Σ over the queries of [B, K, G, T, T]ᵀ @ [B, K, G, T, D]: [B, T, K, D]."""
    batch, heads, group, tokens, width = x.shape
    by_token = np.empty((batch, tokens, heads, width), x.dtype)
    if group == 1:
        np.matmul(looks.swapaxes(-1, -2), x, out=_by_head(by_token))
    else:
        sums = (looks.swapaxes(-1, -2) @ x).sum(2)
        by_token[:] = sums.swapaxes(1, 2)  # [B, K, T, D] -> [B, T, K, D]
    return by_token


@replaceable
def causal_softmax(scores: Array, factor: float) -> tuple[Array, Saved]:
    """P = softmax(factor · S) of the scores [..., T, T] up to one's own place, 0 after it.

    ``scores`` are overwritten.
    """
    scores *= factor
    scores += np.triu(np.full(scores.shape[-2:], -np.inf, scores.dtype), 1)
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores, (scores, factor)


@replaceable
def causal_softmax_backward(d_p: Array, saved: Saved) -> Array:
    """∂p_i/∂s_j = factor · p_i (δ_ij − p_j), so d_S = factor · P · (d_P − Σ d_P · P), row by row.

    Each row of P adds up to 1: what one token gains in attention, the others lose.
    """
    p, factor = saved
    d_scores: Array = d_p - np.vecdot(d_p, p)[..., None]
    d_scores *= p
    d_scores *= factor
    return d_scores


def _by_head(x: Array, heads: int | None = None) -> Array:
    """A view of x [B, T, H, D] by heads of keys: [B, K, G, T, D]."""
    batch, tokens, all_heads, width = x.shape
    heads = heads or all_heads
    # [B, T, H, D] -> [B, T, K, G, D] -> [B, K, G, T, D]
    return x.reshape(batch, tokens, heads, all_heads // heads, width).transpose(0, 2, 3, 1, 4)


# --- activations ---------------------------------------------------------------------------------

_GELU_SCALE, _GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


@replaceable
def gelu(x: Array) -> tuple[Array, Saved]:
    """GELU (arXiv:1606.08415) by its tanh: y = x/2 · (1 + tanh u), u = √(2/π) (x + 0.044715 x³)."""
    t = x * x
    t *= _GELU_CUBE
    t += 1
    t *= x
    t *= _GELU_SCALE
    np.tanh(t, out=t)
    y = t + 1
    y *= x
    y *= 0.5
    return y, (x, t)


@replaceable
def gelu_backward(d_y: Array, saved: Saved) -> Array:
    """dy/dx = (1 + t)/2 + x/2 · (1 − t²) · du/dx, with t = tanh u.

    du/dx = √(2/π) (1 + 3 · 0.044715 x²).
    """
    x, t = saved
    slope: Array = x * x
    slope *= 3 * _GELU_CUBE
    slope += 1
    slope *= x
    slope *= 1 - t * t
    slope *= _GELU_SCALE
    slope += t
    slope += 1
    slope *= 0.5
    slope *= d_y
    return slope


@replaceable
def relu_squared(x: Array) -> tuple[Array, Saved]:
    """ReLU² (arXiv:2109.08668): y = max(x, 0)²."""
    positive = np.maximum(x, 0)
    return positive * positive, positive


@replaceable
def relu_squared_backward(d_y: Array, saved: Saved) -> Array:
    """dy/dx = 2 max(x, 0): 0 where x is negative, and no jump at 0."""
    d_x: Array = d_y * saved
    d_x *= 2
    return d_x


@replaceable
def swiglu(gate: Array, up: Array) -> tuple[Array, Saved]:
    """SwiGLU (arXiv:2002.05202): y = gate · σ(gate) · up."""
    opening = sigmoid(gate)
    swish = gate * opening
    return swish * up, (up, opening, swish)


@replaceable
def swiglu_backward(d_y: Array, saved: Saved) -> tuple[Array, Array]:
    """With s = σ(g) and s' = s (1 − s): ∂y/∂g = (s + g · s (1 − s)) · u, and ∂y/∂u = g · s.

    The first bracket is s + y₁ − y₁ s, with y₁ = g · s.
    """
    up, opening, swish = saved
    slope = 1 - opening
    slope *= swish
    slope += opening
    slope *= up
    slope *= d_y
    return slope, d_y * swish


def sigmoid(x: Array) -> Array:
    """σ(x) = 1 / (1 + e^−x); where e^−x overflows, 1 / ∞ is the 0 that it should be."""
    opening: Array = -x
    with np.errstate(over="ignore"):
        np.exp(opening, out=opening)
    opening += 1
    np.reciprocal(opening, out=opening)
    return opening


# --- dropout -------------------------------------------------------------------------------------


def dropout(
    x: Array, share: float, generator: np.random.Generator | None
) -> tuple[Array, Saved | None]:
    """With y = x · kept / (1 − share), ``kept`` is 0 for a random share of x, 1 for the rest.

    Without a generator, or with a share of 0, x goes through as it is. It counts in 65536ths.
    """
    limit = round(share * 2**16)
    if generator is None or limit == 0:
        return x, None
    scale = 2**16 / (2**16 - limit)
    y, kept = drop(x, random_words(generator, x.shape), limit, scale)
    return y, (kept, scale)


@replaceable
def drop(x: Array, drawn: NDArray[np.uint16], limit: int, scale: float) -> tuple[Array, Array]:
    """Times ``scale`` where ``drawn`` is at least ``limit``, else 0; and where that is."""
    kept = drawn >= limit
    y = x * kept
    y *= scale
    return y, kept


def random_words(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """16 random bits for each place: a quarter of what the generator makes at once."""
    count = math.prod(shape)
    words = generator.bit_generator.random_raw(-(-count // 4)).view(np.uint16)
    return words[:count].reshape(shape)


@replaceable
def dropout_backward(d_y: Array, saved: Saved | None) -> Array:
    """What was dropped has no part in the loss; the rest was scaled, and so is its gradient."""
    if saved is None:
        return d_y
    kept, scale = saved
    d_x: Array = d_y * kept
    d_x *= scale
    return d_x


# --- loss ----------------------------------------------------------------------------------------


@replaceable
def cross_entropy(logits: Array, targets: NDArray[np.int64]) -> tuple[float, Saved]:
    """Mean of −log softmax(logits)[target] in nats; ``logits`` [..., V] are overwritten."""
    rows, flat = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)  # [..., V] -> [N, V]
    rows -= rows.max(-1, keepdims=True)
    of_target = rows[np.arange(len(flat)), flat]
    np.exp(rows, out=rows)
    sums = rows.sum(-1, keepdims=True)
    loss = float((np.log(sums[:, 0]) - of_target).mean())
    rows /= sums
    return loss, (rows, flat, logits.shape)


def cross_entropy_backward(d_loss: float, saved: Saved) -> Array:
    """−log softmax(z)_t = log Σ exp(z) − z_t, so ∂L/∂z = (softmax(z) − 1 at the target) / N.

    The probabilities are overwritten: nobody else needs them.
    """
    probabilities, targets, shape = saved
    probabilities[np.arange(len(targets)), targets] -= 1
    probabilities *= d_loss / len(targets)
    d_logits: Array = probabilities.reshape(shape)  # [N, V] -> [..., V]
    return d_logits


# --- the parts of a block ------------------------------------------------------------------------


class Part:
    """Weights and gradients of one part of the model, by the names that they have in it.

    Args:
        weights: All of the model's; they are read, and changed in place by optimisers.
        gradients: All of the model's; gradients are added to them.
        name: The part's, as ``blocks.0.attention``.
    """

    def __init__(self, weights: Weights, gradients: Weights, name: str) -> None:
        self._weights, self._gradients, self._name = weights, gradients, name

    def __truediv__(self, name: str) -> "Part":
        return Part(self._weights, self._gradients, f"{self._name}.{name}".lstrip("."))

    @property
    def weight(self) -> Array:
        return self._weights[f"{self._name}.weight"]

    @property
    def bias(self) -> Array | None:
        return self._weights.get(f"{self._name}.bias")

    def add(self, d_weight: Array, d_bias: Array | None = None) -> None:
        """Add to the gradients."""
        self._gradients[f"{self._name}.weight"] += d_weight
        if d_bias is not None:
            self._gradients[f"{self._name}.bias"] += d_bias


def norm(x: Array, part: Part, config: ModelConfig) -> tuple[Array, Saved]:
    """The config's normalisation."""
    if config.norm == "rmsnorm":
        return rms_norm(x, part.weight, config.norm_eps)
    return layer_norm(x, part.weight, part.bias, config.norm_eps)


def norm_backward(d_y: Array, saved: Saved, part: Part, config: ModelConfig) -> Array:
    """Adds the weight's (and the bias's) gradient; returns the input's."""
    d_bias = None
    if config.norm == "rmsnorm":
        d_x, d_weight = rms_norm_backward(d_y, saved)
    else:
        d_x, d_weight, d_bias = layer_norm_backward(d_y, saved)
    part.add(d_weight, d_bias)
    return d_x


Rotary = tuple[Array, Array] | None
"""Rows of the rotary table, each [T, 1, D]."""


def self_attention(
    x: Array,
    part: Part,
    config: ModelConfig,
    rotary: Rotary,
    generator: np.random.Generator | None,
) -> tuple[Array, Saved]:
    """Mixes x [B, T, C] over the tokens before: project, norm and rotate, attend, project."""
    batch, tokens, _ = x.shape
    heads, key_heads, width = config.n_heads, config.key_heads, config.head_width
    qkv, qkv_saved = linear(x, (part / "qkv").weight, (part / "qkv").bias)
    # [B, T, (H + 2K)D] -> [B, T, H + 2K, D] -> [B, T, H, D] and twice [B, T, K, D]
    by_head = qkv.reshape(batch, tokens, heads + 2 * key_heads, width)
    query, key, value = np.split(by_head, (heads, heads + key_heads), axis=2)
    q_saved = k_saved = None
    if config.qk_norm:
        query, q_saved = rms_norm(query, (part / "q_norm").weight, config.norm_eps)
        key, k_saved = rms_norm(key, (part / "k_norm").weight, config.norm_eps)
    if rotary is not None:
        query, key = rotate(query, *rotary), rotate(key, *rotary)
    mixed, mixed_saved = attention(query, key, value, config.dropout, generator)
    # [B, T, H, D] -> [B, T, HD] -> [B, T, C]
    rows = mixed.reshape(batch, tokens, heads * width)
    y, out_saved = linear(rows, (part / "out").weight, (part / "out").bias)
    return y, (qkv_saved, q_saved, k_saved, mixed_saved, out_saved, rotary)


def self_attention_backward(d_y: Array, saved: Saved, part: Part, config: ModelConfig) -> Array:
    """The way back: each gradient of ``self_attention`` in the opposite order."""
    qkv_saved, q_saved, k_saved, mixed_saved, out_saved, rotary = saved
    batch, tokens, _ = d_y.shape
    heads, key_heads, width = config.n_heads, config.key_heads, config.head_width
    d_mixed, d_weight, d_bias = linear_backward(d_y, out_saved)
    (part / "out").add(d_weight, d_bias)
    # [B, T, HD] -> [B, T, H, D]
    d_mixed = d_mixed.reshape(batch, tokens, heads, width)
    d_query, d_key, d_value = attention_backward(d_mixed, mixed_saved)
    if rotary is not None:
        d_query, d_key = rotate_backward(d_query, *rotary), rotate_backward(d_key, *rotary)
    if config.qk_norm:
        d_query, d_weight = rms_norm_backward(d_query, q_saved)
        (part / "q_norm").add(d_weight)
        d_key, d_weight = rms_norm_backward(d_key, k_saved)
        (part / "k_norm").add(d_weight)
    d_by_head = np.concatenate((d_query, d_key, d_value), axis=2)
    # [B, T, H + 2K, D] -> [B, T, (H + 2K)D]
    d_qkv = d_by_head.reshape(batch, tokens, (heads + 2 * key_heads) * width)
    d_x, d_weight, d_bias = linear_backward(d_qkv, qkv_saved)
    (part / "qkv").add(d_weight, d_bias)
    return d_x


def short_convolution(x: Array, weight: Array) -> tuple[Array, Saved]:
    """Sums over the last K tokens (arXiv:2512.17351), y_t = Σ_k w_k · x_{t−k}, channel by channel.

    Of x [B, T, C] and w [K, C]; before the first token there is 0.
    """
    y = x * weight[0]
    for k in range(1, min(len(weight), x.shape[1])):
        y[:, k:] += x[:, :-k] * weight[k]
    return y, (x, weight)


def short_convolution_backward(d_y: Array, saved: Saved) -> tuple[Array, Array]:
    """x_t has a part in y_{t+k}: ∂L/∂x_t = Σ_k w_k · d_y_{t+k}, ∂L/∂w_k = Σ_t d_y_{t+k} · x_t."""
    x, weight = saved
    d_x, d_weight = d_y * weight[0], np.zeros_like(weight)
    d_weight[0] = _sum_rows(d_y * x)
    for k in range(1, min(len(weight), x.shape[1])):
        d_x[:, :-k] += d_y[:, k:] * weight[k]
        d_weight[k] = _sum_rows(d_y[:, k:] * x[:, :-k])
    return d_x, d_weight


def feed_forward(x: Array, part: Part, config: ModelConfig) -> tuple[Array, Saved]:
    """Each x [..., C] by itself, by way of [..., F]: up, the activation, down."""
    up, up_saved = linear(x, (part / "up").weight, (part / "up").bias)
    gate_saved = None
    if config.activation == "swiglu":
        gate, gate_saved = linear(x, (part / "gate").weight, (part / "gate").bias)
        hidden, hidden_saved = swiglu(gate, up)
    elif config.activation == "relu2":
        hidden, hidden_saved = relu_squared(up)
    else:
        hidden, hidden_saved = gelu(up)
    y, down_saved = linear(hidden, (part / "down").weight, (part / "down").bias)
    return y, (up_saved, gate_saved, hidden_saved, down_saved)


def feed_forward_backward(d_y: Array, saved: Saved, part: Part, config: ModelConfig) -> Array:
    """The way back; x went both ways into SwiGLU, so that its two gradients add up."""
    up_saved, gate_saved, hidden_saved, down_saved = saved
    d_hidden, d_weight, d_bias = linear_backward(d_y, down_saved)
    (part / "down").add(d_weight, d_bias)
    d_gate = None
    if config.activation == "swiglu":
        d_gate, d_up = swiglu_backward(d_hidden, hidden_saved)
    elif config.activation == "relu2":
        d_up = relu_squared_backward(d_hidden, hidden_saved)
    else:
        d_up = gelu_backward(d_hidden, hidden_saved)
    d_x, d_weight, d_bias = linear_backward(d_up, up_saved)
    (part / "up").add(d_weight, d_bias)
    if d_gate is not None:
        d_x_of_gate, d_weight, d_bias = linear_backward(d_gate, gate_saved)
        (part / "gate").add(d_weight, d_bias)
        d_x += d_x_of_gate
    return d_x


def block(
    x: Array,
    part: Part,
    config: ModelConfig,
    rotary: Rotary,
    generator: np.random.Generator | None,
) -> tuple[Array, Saved]:
    """Two residual steps, x + attention(norm(x)) and x + feed_forward(norm(x)), each [B, T, C]."""
    normed, norm_saved = norm(x, part / "attention_norm", config)
    added, attention_saved = self_attention(normed, part / "attention", config, rotary, generator)
    added, dropped = dropout(added, config.dropout, generator)
    x = x + added
    normed, second_norm_saved = norm(x, part / "feedforward_norm", config)
    convolution_saved = None
    if config.short_convolution:
        weight = (part / "feedforward_convolution").weight
        normed, convolution_saved = short_convolution(normed, weight)
    added, feedforward_saved = feed_forward(normed, part / "feedforward", config)
    added, second_dropped = dropout(added, config.dropout, generator)
    added += x
    saved = (norm_saved, attention_saved, dropped, second_norm_saved)
    return added, (*saved, convolution_saved, feedforward_saved, second_dropped)


def block_backward(d_y: Array, saved: Saved, part: Part, config: ModelConfig) -> Array:
    """Of y = x + f(x) it is d_y + d_y · f'(x), so that the gradient has a straight way down.

    ``d_y`` is overwritten.
    """
    norm_saved, attention_saved, dropped, *second = saved
    second_norm_saved, convolution_saved, feedforward_saved, second_dropped = second
    d_added = dropout_backward(d_y, second_dropped)
    d_normed = feed_forward_backward(d_added, feedforward_saved, part / "feedforward", config)
    if config.short_convolution:
        d_normed, d_weight = short_convolution_backward(d_normed, convolution_saved)
        (part / "feedforward_convolution").add(d_weight)
    d_y += norm_backward(d_normed, second_norm_saved, part / "feedforward_norm", config)
    d_added = dropout_backward(d_y, dropped)
    d_normed = self_attention_backward(d_added, attention_saved, part / "attention", config)
    d_y += norm_backward(d_normed, norm_saved, part / "attention_norm", config)
    return d_y


# --- the model -----------------------------------------------------------------------------------


def weight_shapes(config: ModelConfig, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by its name, in the order in which a token meets them."""
    width, inner = config.d_model, config.feedforward_width
    shapes: dict[str, tuple[int, ...]] = {}

    def add_linear(name: str, rows: int, columns: int, bias: bool) -> None:
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)

    def add_norm(name: str) -> None:
        shapes[f"{name}.weight"] = (width,)
        if config.bias and config.norm == "layernorm":
            shapes[f"{name}.bias"] = (width,)

    shapes["embedding.weight"] = (vocab_size, width)
    if config.ngram_embedding:
        shapes["ngrams.weight"] = (sum(ngram_rows(vocab_size, config.ngram_embedding)), width)
    if config.positions == "learned":
        shapes["positions.weight"] = (config.max_seq_len, width)
    for layer in range(config.n_layers):
        name = f"blocks.{layer}"
        add_norm(f"{name}.attention_norm")
        add_linear(f"{name}.attention.qkv", config.qkv_width, width, config.has_qkv_bias)
        add_linear(f"{name}.attention.out", width, config.attention_width, config.has_out_bias)
        if config.qk_norm:
            shapes[f"{name}.attention.q_norm.weight"] = (config.head_width,)
            shapes[f"{name}.attention.k_norm.weight"] = (config.head_width,)
        add_norm(f"{name}.feedforward_norm")
        if config.short_convolution:
            shapes[f"{name}.feedforward_convolution.weight"] = (config.short_convolution, width)
        if config.activation == "swiglu":
            add_linear(f"{name}.feedforward.gate", inner, width, config.bias)
        add_linear(f"{name}.feedforward.up", inner, width, config.bias)
        add_linear(f"{name}.feedforward.down", width, inner, config.bias)
    add_norm("norm")
    if not config.tie_weights:
        shapes["head.weight"] = (vocab_size, width)
    return shapes


class GPT:
    """Token ids to logits of the next token, and the gradient of their loss.

    Args:
        config: The shape.
        vocab_size: Number of token ids.
        generator: Draws the initial weights; None leaves them zero, to be loaded.
        context: The most tokens that are read together; None takes all the positions there are.
        embedding_scale: What token embeddings are multiplied by; None takes the config's.
        dtype: Of weights and arithmetic.
        cancelled: Polled while the weights are filled in.

    Attributes:
        weights: By name; ``gradients`` likewise, added to by ``backward``.

    Raises:
        CancelledError: ``cancelled`` became true.
    """

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        generator: np.random.Generator | None = None,
        *,
        context: int | None = None,
        embedding_scale: float | None = None,
        dtype: Any = np.float32,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        self.config = config
        self.is_fused = False
        self.vocab_size = vocab_size
        self.context = context or config.max_seq_len
        self.embedding_scale = (
            config.embedding_scale if embedding_scale is None else embedding_scale
        )
        shapes = weight_shapes(config, vocab_size)
        self.weights: Weights = {}
        for name, shape in shapes.items():
            check_cancelled(cancelled, "making the model")
            self.weights[name] = self._initial(name, shape, generator).astype(dtype, copy=False)
        # Zeros take memory when they are first written to.
        self.gradients = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
        self._root = Part(self.weights, self.gradients, "")
        if config.positions == "rope":
            self._cosines, self._sines = (table.astype(dtype) for table in rotary_table(config))
        elif config.positions == "sinusoidal":
            self._table = sinusoidal_table(config.max_seq_len, config.d_model).astype(dtype)

    def _initial(
        self, name: str, shape: tuple[int, ...], generator: np.random.Generator | None
    ) -> Array:
        """GPT-2's scheme: N(0, 0.02), narrower by √(2 · layers) where the residual is added to."""
        if len(shape) < 2:
            return np.full(shape, 1.0 if "norm" in name and name.endswith("weight") else 0.0)
        if generator is None or name == "ngrams.weight":
            return np.zeros(shape, np.float32)
        if name.endswith("convolution.weight"):
            drawn = 2 * generator.random(shape, np.float32) - 1
            drawn[0] += 1
            return drawn
        is_residual = name.endswith(("attention.out.weight", "feedforward.down.weight"))
        std = 0.02 / math.sqrt(2 * self.config.n_layers) if is_residual else 0.02
        drawn = generator.standard_normal(shape, np.float32)
        drawn *= np.float32(std)
        return drawn

    def sharing_weights(self) -> "GPT":
        """The same model with gradients of its own: two can work at once, each on half a batch."""
        twin = copy.copy(self)
        twin.gradients = {name: np.zeros_like(w) for name, w in self.weights.items()}
        twin._root = Part(twin.weights, twin.gradients, "")
        return twin

    @property
    def _head(self) -> Part:
        """The output layer, which may be the embedding's weight over again."""
        return self._root / ("embedding" if self.config.tie_weights else "head")

    def forward(
        self,
        tokens: NDArray[np.int64],
        generator: np.random.Generator | None = None,
        *,
        is_saving: bool = True,
    ) -> tuple[Array, Saved]:
        """Logits [B, T, V] of the tokens after ``tokens`` [B, T], and what ``backward`` needs.

        Arguments and errors are those of ``hidden_states``.
        """
        normed, saved = self.hidden_states(tokens, generator, is_saving=is_saving)
        logits, head_saved = linear(normed, self._head.weight, None)
        return logits, (*saved, head_saved)

    def hidden_states(
        self,
        tokens: NDArray[np.int64],
        generator: np.random.Generator | None = None,
        *,
        is_saving: bool = True,
    ) -> tuple[Array, Saved]:
        """The stream after the last norm, [B, T, C], of ``tokens`` [B, T], and what is saved.

        Args:
            tokens: At most ``context`` of them.
            generator: Draws dropout; None for none.
            is_saving: Keep what ``backward`` needs: a multiple of the memory.

        Raises:
            ValueError: The context would be exceeded.
        """
        config, root, length = self.config, self._root, tokens.shape[1]
        if length > self.context:
            raise ValueError(f"{length} tokens are more than the context of {self.context}")
        x, embedding_saved = embedding(tokens, (root / "embedding").weight)
        if self.embedding_scale != 1:
            x *= self.embedding_scale
        ngrams_saved: list[Saved] = []
        if config.ngram_embedding:
            seen = np.pad(
                tokens, ((0, 0), (config.ngram_embedding - 1, 0)), constant_values=self.vocab_size
            )
            for ids in ngram_ids(seen, self.vocab_size, config.ngram_embedding):
                added, ngram_saved = embedding(ids, (root / "ngrams").weight)
                x += added
                ngrams_saved.append(ngram_saved)
        rotary = None
        if config.positions == "learned":
            x += (root / "positions").weight[:length]
        elif config.positions == "sinusoidal":
            x += self._table[:length]
        else:
            # [T, D] -> [T, 1, D], to fit [B, T, H, D]
            rotary = self._cosines[:length, None], self._sines[:length, None]
        x, dropped = dropout(x, config.dropout, generator)
        blocks_saved: list[Saved] = []
        for layer in range(config.n_layers):
            x, block_saved = block(x, root / f"blocks.{layer}", config, rotary, generator)
            if is_saving:
                blocks_saved.append(block_saved)
        normed, norm_saved = norm(x, root / "norm", config)
        return normed, ((embedding_saved, ngrams_saved), dropped, blocks_saved, norm_saved)

    def backward(self, d_logits: Array, saved: Saved) -> None:
        """Add the gradient of every weight, from that of the logits; ``saved`` is used up."""
        (embedding_saved, ngrams_saved), dropped, blocks_saved, norm_saved, head_saved = saved
        config, root = self.config, self._root
        d_normed, d_head, _ = linear_backward(d_logits, head_saved)
        self._head.add(d_head)
        d_x = norm_backward(d_normed, norm_saved, root / "norm", config)
        for layer in reversed(range(config.n_layers)):
            d_x = block_backward(d_x, blocks_saved.pop(), root / f"blocks.{layer}", config)
        d_x = dropout_backward(d_x, dropped)
        if config.positions == "learned":
            self.gradients["positions.weight"][: d_x.shape[1]] += d_x.sum(0)  # [B, T, C] -> [T, C]
        for ngram_saved in ngrams_saved:
            (root / "ngrams").add(embedding_backward(d_x, ngram_saved))
        if self.embedding_scale != 1:
            d_x *= self.embedding_scale
        (root / "embedding").add(embedding_backward(d_x, embedding_saved))

    def loss(self, tokens: NDArray[np.int64], targets: NDArray[np.int64]) -> float:
        """Mean cross-entropy in nats per token of ``targets`` [B, T] after ``tokens`` [B, T]."""
        logits, _ = self.forward(tokens, is_saving=False)
        return cross_entropy(logits, targets)[0]

    def loss_and_gradient(
        self,
        tokens: NDArray[np.int64],
        targets: NDArray[np.int64],
        generator: np.random.Generator | None = None,
        *,
        share: float = 1.0,
        soft: tuple[Array, float] | None = None,
    ) -> float:
        """The loss times ``share``, whose gradients are added to ``gradients``.

        Args:
            tokens: [B, T].
            targets: What follows each.
            generator: Draws dropout.
            share: Of these tokens in the whole loss.
            soft: Teachers' probabilities p [B, T, V] and their weight w: gradients are then those
                of (1 − w) · loss + w · KL(p ‖ softmax(logits)), arXiv:1503.02531.
        """
        logits, saved = self.forward(tokens, generator)
        loss, loss_saved = cross_entropy(logits, targets)
        d_logits = cross_entropy_backward(share, loss_saved)
        if soft is not None:
            # w · (KL − loss): its gradient is w · (1 at the target − p) / N.
            probabilities, weight = soft
            part = weight * share / targets.size
            d_logits -= part * probabilities
            rows = d_logits.reshape(-1, self.vocab_size)
            rows[np.arange(targets.size), targets.reshape(-1)] += part
        self.backward(d_logits, saved)
        return loss * share

    def last_logits(self, tokens: NDArray[np.int64], count: int) -> NDArray[np.float32]:
        """Logits [B, P, V] of what comes after each of the last P of ``tokens`` [B, T]."""
        hidden, _ = self.hidden_states(tokens, is_saving=False)
        return linear(hidden[:, -count:], self._head.weight, None)[0]

    def attention_weights(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """How much each head looks at each of ``tokens`` [T] from the last, [layers, H, T]."""
        _, (_, _, blocks_saved, *_) = self.forward(tokens[None])
        weights = np.empty((len(blocks_saved), self.config.n_heads, len(tokens)), np.float32)
        for layer, (_, (_, _, _, attention_saved, *_), *_) in enumerate(blocks_saved):
            _, _, _, (p, _), *_ = attention_saved
            weights[layer] = p[0, :, :, -1].reshape(-1, len(tokens))  # [K, G, T] -> [H, T]
        return weights

    def sum_losses(self, batches: Iterable[NDArray[np.int64]]) -> tuple[float, int]:
        """Cross-entropy in nats, and how many tokens had the highest probability, over all.

        Args:
            batches: Windows of inputs and targets in one, each [B, T + 1].
        """
        loss_sum, correct = 0.0, 0
        for batch in batches:
            hidden, _ = self.hidden_states(batch[:, :-1], is_saving=False)
            # [B, T, C] -> pieces [N, C], of which there are logits [N, V]
            hidden, targets = hidden.reshape(-1, hidden.shape[-1]), batch[:, 1:].reshape(-1)
            rows = max(1, MOST_LOGITS // self.vocab_size)
            for start in range(0, len(targets), rows):
                expected = targets[start : start + rows]
                logits, _ = linear(hidden[start : start + rows], self._head.weight, None)
                correct += int((logits.argmax(-1) == expected).sum())
                loss_sum += cross_entropy(logits, expected)[0] * len(expected)
        return loss_sum, correct
