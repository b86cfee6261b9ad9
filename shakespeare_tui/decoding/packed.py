"""A model's weights arranged for decoding: what does not depend on a token, done beforehand."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.decoder import FloatArray, IntArray, Precision
from shakespeare_tui.errors import check_cancelled, never
from shakespeare_tui.models.positions import rotary_table, sinusoidal_table

LARGEST_INT8 = 127
LEAST_SCALE = np.finfo(np.float32).tiny
LARGEST_INPUT, LARGEST_SUM = 2**15 - 1, 2**31 - 1
"""Inputs of int8 weights are rounded to 16 bits, and as few that no sum has more than 32."""


@dataclass(frozen=True, eq=False)
class ModelArrays:
    """A model as arrays, whatever library computed them.

    Attributes:
        config: The shape.
        weights: float32, by their names in checkpoints.
        context: The most tokens that are read together.
        embedding_scale: What token embeddings are multiplied by.
    """

    config: ModelConfig
    weights: Mapping[str, FloatArray]
    context: int
    embedding_scale: float


PANEL = 64
"""Outputs whose weights lie together, so that vectors of them are read one after the other."""


class Linear(NamedTuple):
    """The same linear layer of all L blocks, x [R, K] → x · Wᵀ [R, N].

    Outputs are padded with zeros to N', whole panels.

    Attributes:
        weights: [L, N' / 64, K, 64], float32, or uint16, the upper halves of float32. Of int8, two
            inputs side by side, one of zeros after an odd number: [L, N' / 64, K / 2, 64 · 2].
        scales: What 1 stands for in each row of int8, [L, N']; else [L, 0].
        biases: [L, N'], or [L, 0] for none.
    """

    weights: NDArray[Any]
    scales: FloatArray
    biases: FloatArray

    @classmethod
    def empty(
        cls, layers: int, outputs: int, inputs: int, precision: Precision, has_bias: bool
    ) -> "Linear":
        """Room for ``layers`` layers."""
        types: dict[Precision, type] = {"bfloat16": np.uint16, "int8": np.int8}
        padded = outputs + -outputs % PANEL
        panel = ((inputs + 1) // 2, 2 * PANEL) if precision == "int8" else (inputs, PANEL)
        return cls(
            _aligned((layers, padded // PANEL, *panel), types.get(precision, np.float32)),
            np.empty((layers, padded if precision == "int8" else 0), np.float32),
            np.zeros((layers, padded if has_bias else 0), np.float32),
        )

    @property
    def outputs(self) -> int:
        """N'."""
        return int(self.weights.shape[1]) * PANEL

    def fill(self, layer: int, weight: FloatArray, bias: FloatArray | None) -> None:
        """Round ``weight`` [N, K] into a layer's place; ``bias`` is [N]."""
        outputs, inputs = weight.shape
        is_int8 = self.weights.dtype == np.int8
        padded = np.zeros((self.outputs, inputs + (inputs % 2 if is_int8 else 0)), np.float32)
        padded[:outputs, :inputs] = weight
        if is_int8:
            largest = np.abs(padded).max(axis=1)
            scales = np.maximum(largest / LARGEST_INT8, LEAST_SCALE).astype(np.float32)
            self.scales[layer] = scales
            whole = np.rint(padded / scales[:, None]).astype(np.int8)
            # [N', K] -> [N' / 64, K / 2, 64, 2]
            panels = whole.reshape(-1, PANEL, padded.shape[1] // 2, 2).swapaxes(1, 2)
            self.weights[layer] = panels.reshape(self.weights[layer].shape)
        else:
            # [N', K] -> [N' / 64, K, 64]
            panels = padded.reshape(-1, PANEL, inputs).swapaxes(1, 2)
            if self.weights.dtype == np.uint16:
                bits = np.ascontiguousarray(panels).view(np.uint32)
                # To the nearest, and to the even one of two as near.
                panels = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
            self.weights[layer] = panels
        if bias is not None:
            self.biases[layer, :outputs] = bias

    def product(self, layer: int, x: FloatArray, out: FloatArray) -> None:
        """Of many rows ``x`` [R, K] into ``out`` [R, N], or [R, N'] with zeros."""
        weight, steps = self.weights[layer], None
        if weight.dtype == np.uint16:
            weight = (weight.astype(np.uint32) << 16).view(np.float32)
        elif weight.dtype == np.int8:
            # [N' / 64, K / 2, 64 · 2] -> [N' / 64, K, 64]
            pairs = weight.reshape(*weight.shape[:2], PANEL, 2).swapaxes(2, 3)
            weight = pairs.reshape(len(weight), -1, PANEL)[:, : x.shape[1]].astype(np.float32)
            bound = min(LARGEST_INPUT, LARGEST_SUM // (LARGEST_INT8 * x.shape[1]))
            steps = np.abs(x).max(axis=1, keepdims=True) / np.float32(bound)
            x = np.rint(x / np.maximum(steps, LEAST_SCALE))
        # [N' / 64, R, 64] -> [R, N']
        found = np.matmul(x, weight).swapaxes(0, 1).reshape(len(x), -1)
        if steps is not None:
            found *= steps * self.scales[layer]
        if self.biases.size:
            found += self.biases[layer]
        out[:] = found[:, : out.shape[1]]


_LINE_BYTES = 64


def _aligned(shape: tuple[int, ...], dtype: type) -> NDArray[Any]:
    """An array that begins where a line of the processor's cache does, for whole vectors of it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + _LINE_BYTES, np.uint8)
    start = -room.ctypes.data % _LINE_BYTES
    return room[start : start + size].view(dtype).reshape(shape)


@dataclass(frozen=True, eq=False)
class PackedWeights:
    """A model's weights as the decoder reads them.

    Norms are vectors of length √C times a weight; the weights are in the matrices that follow, but
    for norms before a convolution, and the means that LayerNorm subtracts in the matrices before.
    The scale of attention is in the queries.
    With rotary embedding, the two numbers of a head that rotate together are neighbours.

    Attributes:
        config: The shape.
        context: The most tokens that are read together.
        embedding: [V, C].
        ngrams: [R, C]; [0, C] for none.
        positions: What is added for each place, [S, C]; [0, C] with rotary embedding.
        cosines: Of each place's rotation, [S, D / 2]; [0, D / 2] without.
        sines: As ``cosines``.
        qkv: To queries, keys and values.
        qk_weights: What normalised queries and keys are multiplied by, [L, H + K, D]; [L, 0, D]
            where they are not normalised.
        out: From attention.
        convolution: Of the feed-forward network's input, [L, K, C]; [L, 0, C] for none.
        convolution_scale: What a normalised vector is multiplied by before it, [L, C]; [L, 0].
        convolution_shift: What is added then, [L, C]; [L, 0] for nothing.
        up: Into the feed-forward network; with SwiGLU the gate first.
        down: Out of it.
        head: From the last norm to the logits; one layer.
        last_scale: What a normalised vector is multiplied by to be the hidden state, [C].
        last_shift: What is added after that; None for nothing.
    """

    config: ModelConfig
    context: int
    embedding: FloatArray
    ngrams: FloatArray
    positions: FloatArray
    cosines: FloatArray
    sines: FloatArray
    qkv: Linear
    qk_weights: FloatArray
    out: Linear
    convolution: FloatArray
    convolution_scale: FloatArray
    convolution_shift: FloatArray
    up: Linear
    down: Linear
    head: Linear
    last_scale: FloatArray
    last_shift: FloatArray | None


SMALL_HEAD = 0.125
"""Of the layers' weights; of characters it is a hundredth."""


def pack(
    model: ModelArrays, precision: Precision, cancelled: Callable[[], bool] = never
) -> PackedWeights:
    """Rearrange the weights of ``model``; later changes to them are not seen.

    A last layer that is small beside the others stays in float32 whatever their precision: its
    rounding would show in every probability. That of a large vocabulary is most of what is read.

    Args:
        model: The model's arrays.
        precision: Of the matrices.
        cancelled: Polled between layers.

    Raises:
        CancelledError: ``cancelled`` became true.
    """
    config, weights = model.config, model.weights
    tokens = weights["embedding.weight"]
    layers, width, inner = config.n_layers, config.d_model, config.feedforward_width
    embedding = tokens * np.float32(model.embedding_scale)
    positions: FloatArray = np.empty((0, width), np.float32)
    ngrams = weights["ngrams.weight"].copy() if config.ngram_embedding else positions
    cosines = sines = np.empty((0, config.head_width // 2), np.float32)
    if config.positions == "learned":
        positions = weights["positions.weight"].copy()
    elif config.positions == "sinusoidal":
        positions = sinusoidal_table(config.max_seq_len, width)
    else:
        half = config.head_width // 2
        cosines, sines = (np.ascontiguousarray(t[:, half:]) for t in rotary_table(config))
    if config.norm == "layernorm":
        embedding -= embedding.mean(1, keepdims=True)
        ngrams = ngrams - ngrams.mean(1, keepdims=True)
        positions = positions - positions.mean(1, keepdims=True)
    head_weight, head_bias = _after_norm(
        _Layer(weights, "norm"), weights.get("head.weight", tokens), None
    )
    in_layers = sum(w.size for name, w in weights.items() if name.startswith("blocks."))
    is_small = head_weight.size < SMALL_HEAD * in_layers
    # What a LayerNorm's bias comes to after a matrix is the bias of that.
    is_shifted = config.norm == "layernorm" and config.bias

    def empty(outputs: int, inputs: int, has_bias: bool) -> Linear:
        return Linear.empty(layers, outputs, inputs, precision, has_bias)

    shift = weights.get("norm.bias")
    is_convolved = config.short_convolution > 0
    scaled, shifted = (width if has else 0 for has in (is_convolved, is_convolved and is_shifted))
    head = Linear.empty(
        1, len(tokens), width, "float32" if is_small else precision, head_bias is not None
    )
    head.fill(0, head_weight, head_bias)
    turned = config.n_heads + config.key_heads if config.qk_norm else 0
    packed = PackedWeights(
        config=config,
        context=model.context,
        embedding=embedding,
        ngrams=ngrams,
        positions=positions,
        cosines=cosines,
        sines=sines,
        qkv=empty(config.qkv_width, width, has_bias=config.has_qkv_bias or is_shifted),
        qk_weights=np.empty((layers, turned, config.head_width), np.float32),
        out=empty(width, config.attention_width, has_bias=config.has_out_bias),
        convolution=np.empty((layers, config.short_convolution, width), np.float32),
        convolution_scale=np.empty((layers, scaled), np.float32),
        convolution_shift=np.empty((layers, shifted), np.float32),
        up=empty(
            2 * inner if config.activation == "swiglu" else inner,
            width,
            has_bias=config.bias or is_shifted,
        ),
        down=empty(width, inner, has_bias=config.bias),
        head=head,
        last_scale=weights["norm.weight"] * np.float32(math.sqrt(width)),
        last_shift=None if shift is None else shift.copy(),
    )
    for index in range(layers):
        check_cancelled(cancelled, "loading")
        prefix = f"blocks.{index}."
        block = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        _pack_layer(packed, index, block)
    return packed


class _Layer:
    """The weight and the bias, where it has one, of the layer of a name."""

    def __init__(self, weights: Mapping[str, FloatArray], name: str) -> None:
        self.weight = weights[f"{name}.weight"]
        self.bias = weights.get(f"{name}.bias")


def _pack_layer(packed: PackedWeights, index: int, block: Mapping[str, FloatArray]) -> None:
    config = packed.config
    is_rms = config.norm == "rmsnorm"
    qkv = _Layer(block, "attention.qkv")
    weight, bias = _after_norm(_Layer(block, "attention_norm"), qkv.weight, qkv.bias)
    bias = None if bias is None else _arranged(bias, config)
    packed.qkv.fill(index, _arranged(weight, config), bias)
    if config.qk_norm:
        width = config.head_width
        # The queries' √D and the scores' 1 / √D cancel.
        keys = block["attention.k_norm.weight"] * np.float32(math.sqrt(width))
        both = np.stack((block["attention.q_norm.weight"], keys))
        both = both[:, _neighbours(width)] if config.positions == "rope" else both
        packed.qk_weights[index] = both.repeat((config.n_heads, config.key_heads), axis=0)
    packed.out.fill(index, *_centred(_Layer(block, "attention.out"), is_rms))
    up = _Layer(block, "feedforward.up")
    weight, bias = up.weight, up.bias
    if config.activation == "swiglu":
        gate = _Layer(block, "feedforward.gate")
        weight = np.concatenate((gate.weight, weight))
        if bias is not None and gate.bias is not None:
            bias = np.concatenate((gate.bias, bias))
    norm = _Layer(block, "feedforward_norm")
    if config.short_convolution:
        packed.convolution[index] = block["feedforward_convolution.weight"]
        packed.convolution_scale[index] = norm.weight * np.float32(math.sqrt(config.d_model))
        if norm.bias is not None:
            packed.convolution_shift[index] = norm.bias
    else:
        weight, bias = _after_norm(norm, weight, bias)
    packed.up.fill(index, weight, bias)
    packed.down.fill(index, *_centred(_Layer(block, "feedforward.down"), is_rms))


def _after_norm(
    norm: _Layer, weight: FloatArray, bias: FloatArray | None
) -> tuple[FloatArray, FloatArray | None]:
    """``weight`` [N, C] and ``bias`` [N] that take the vector before the norm's own weight."""
    if norm.bias is not None:
        shift = weight @ norm.bias
        bias = shift if bias is None else bias + shift
    return weight * (norm.weight * np.float32(math.sqrt(weight.shape[1]))), bias


def _centred(layer: _Layer, is_rms: bool) -> tuple[FloatArray, FloatArray | None]:
    """Weight [C, N] and bias [C] with outputs of the mean 0, where a LayerNorm follows."""
    weight, bias = layer.weight, layer.bias
    if is_rms:
        return weight, bias
    return weight - weight.mean(0), None if bias is None else bias - bias.mean()


def _arranged(rows: FloatArray, config: ModelConfig) -> FloatArray:
    """Rows [(H + 2K)D, ...] of queries, keys and values as ``PackedWeights`` has them."""
    width, turned = config.head_width, config.n_heads + config.key_heads
    heads = rows.reshape(-1, width, *rows.shape[1:]).copy()
    if config.positions == "rope":
        heads[:turned] = heads[:turned, _neighbours(width)]
    if not config.qk_norm:
        heads[: config.n_heads] /= np.float32(math.sqrt(width))
    return heads.reshape(rows.shape)


def _neighbours(width: int) -> IntArray:
    """Order of a head's ``width`` numbers in which the two that rotate together are neighbours."""
    return np.arange(width).reshape(2, width // 2).T.ravel()


def epsilon(config: ModelConfig, width: int) -> np.float32:
    """What is added to the square of a vector of so many numbers before the root."""
    return np.float32(config.norm_eps * width)
