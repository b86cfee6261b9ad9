"""The decoder for CPUs: the model's arithmetic in NumPy, around the fastest matrix products.

A token of a small model is a hundred tiny operations between a few large products. NumPy starts one
in half a microsecond where torch takes three, and everything that does not hang on the token is
done beforehand, in ``prepack``.
"""

import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.decoder import (
    Decoder,
    Drafter,
    FloatArray,
    IntArray,
    Precision,
    check_room,
)
from shakespeare_tui.errors import check_cancelled, never
from shakespeare_tui.models.positions import rotary_table, sinusoidal_table
from shakespeare_tui.models.transformer import Transformer

# Up to so many rows the int8 kernel is ahead; it reads the weights once for every few rows.
_MOST_INT8_ROWS = 8
_LARGEST_INT8 = 127
# It reads whole blocks of inputs and outputs, and past the end of what is not a multiple.
_INT8_BLOCK = (16, 32)


class Buffer:
    """Memory for one float32 array, seen by NumPy and by torch."""

    def __init__(self, *shape: int) -> None:
        self.array: FloatArray = np.empty(shape, np.float32)
        self.tensor = torch.from_numpy(self.array)


Product = Callable[[Buffer, Buffer], None]
"""Multiplies rows [R, K] by fixed weights [N, K], transposed, into the rows [R, N]."""


def make_product(weight: Tensor, bias: Tensor | None, precision: Precision) -> Product:
    """The product with ``weight`` [N, K] and the addition of ``bias`` [N] in a precision."""
    if precision == "bfloat16":
        return _Bfloat16Product(weight, bias)
    if precision == "int8":
        return _Int8Product(weight, bias)
    return _Float32Product(weight, bias)


def _packed(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """``x @ weight.T`` for ``x`` [R, K] of the weight's type, by oneDNN where torch has it."""
    has_kernel = bool(torch._C._has_mkldnn) and (
        weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    if not has_kernel:
        return lambda x: torch.nn.functional.linear(x, weight)
    ordered = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    kernel: Any = torch.ops.mkldnn._linear_pointwise.default

    def multiply(x: Tensor) -> Tensor:
        product: Tensor = kernel(x, ordered, None, "none", [], "")
        return product

    return multiply


class _Float32Product:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._columns: FloatArray = weight.t().contiguous().numpy()
        self._multiply = _packed(weight)
        self._bias = None if bias is None else bias.numpy()

    def __call__(self, x: Buffer, out: Buffer) -> None:
        if len(x.array) == 1:
            np.matmul(x.array, self._columns, out=out.array)
        else:
            # One thread copies sooner than two agree on it.
            np.copyto(out.array, self._multiply(x.tensor).numpy())
        if self._bias is not None:
            out.array += self._bias


class _Bfloat16Product:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._multiply = _packed(weight.bfloat16())
        self._bias = bias

    def __call__(self, x: Buffer, out: Buffer) -> None:
        out.tensor.copy_(self._multiply(x.tensor.bfloat16()))
        if self._bias is not None:
            out.tensor += self._bias


class _Int8Product:
    """Weights rounded to 8 bits, a scale for each output; inputs in bfloat16.

    No row's result hangs on the rows beside it, as it would with 8-bit inputs of a common scale.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        scales = weight.abs().amax(1).clamp_(min=torch.finfo(torch.float32).tiny) / _LARGEST_INT8
        self._scales = scales.bfloat16()
        # The scale is rounded too: the whole numbers are fitted to what it became.
        exact = self._scales.float()[:, None]
        whole = (weight / exact).round_().clamp_(-_LARGEST_INT8, _LARGEST_INT8)
        self._weight = whole.to(torch.int8)
        self._multiply_many = _packed(whole.mul_(exact).bfloat16())
        self._bias = bias
        fits = all(size % block == 0 for size, block in zip(weight.shape, _INT8_BLOCK, strict=True))
        self._most_rows = _MOST_INT8_ROWS if fits else 0

    def __call__(self, x: Buffer, out: Buffer) -> None:
        rows = x.tensor.bfloat16()
        if len(x.array) <= self._most_rows:
            out.tensor.copy_(torch._weight_int8pack_mm(rows, self._weight, self._scales))
        else:
            out.tensor.copy_(self._multiply_many(rows))
        if self._bias is not None:
            out.tensor += self._bias


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


def arrays_of(model: Transformer) -> ModelArrays:
    """A model of float32 on the CPU; the arrays share its memory."""
    weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    return ModelArrays(model.config, weights, model.context, model.embedding_scale)


@dataclass(frozen=True)
class PrepackedLayer:
    """One block: four matrix products and what queries and keys are multiplied by, [2, 1, D]."""

    qkv: Product
    out: Product
    up: Product
    down: Product
    qk_weight: FloatArray | None


@dataclass(frozen=True)
class PrepackedWeights:
    """A model's weights, arranged for the kernels that decode with them.

    Attributes:
        config: The shape.
        vocab_size: V.
        context: The most tokens that are read together.
        embedding: [V, C].
        positions: What is added for each place, [S, C]; None with rotary embedding.
        rotation: Complex factors of each place, [S, 1, D / 2]; None without rotary embedding.
        layers: The blocks.
        head: From the last norm to the logits.
        last_scale: What a normalised vector is multiplied by to be the hidden state, [C].
        last_shift: What is added after that; None for nothing.
    """

    config: ModelConfig
    vocab_size: int
    context: int
    embedding: FloatArray
    positions: FloatArray | None
    rotation: NDArray[np.complex64] | None
    layers: tuple[PrepackedLayer, ...]
    head: Product
    last_scale: FloatArray
    last_shift: FloatArray | None


def can_prepack(model: Transformer) -> bool:
    """Whether the model is one for ``prepacked``: float32, on the CPU."""
    weight = model.embedding.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32


_Checksums = tuple[int, ...]
_MOST_BYTES_KEPT = 256_000_000
_Kept = dict[Precision, tuple[_Checksums, PrepackedWeights]]
_kept: weakref.WeakKeyDictionary[Transformer, _Kept] = weakref.WeakKeyDictionary()


def prepacked(
    model: Transformer, precision: Precision, cancelled: Callable[[], bool] = never
) -> PrepackedWeights:
    """What ``prepack`` makes of the model as it is now, from memory where it has not changed.

    Looking whether it has takes a tenth of prepacking it, so that every text of a loaded checkpoint
    but the first begins sooner. It is kept as long as the model is; the largest
    models, whose copies would be a burden, are prepacked for each text.

    Raises:
        CancelledError: ``cancelled``, polled between layers, became true.
    """
    parameters = list(model.parameters())
    if precision == "auto":
        precision = "float32"
    # An autocast is of a training under way, not of the text.
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        if sum(parameter.nbytes for parameter in parameters) > _MOST_BYTES_KEPT:
            return prepack(arrays_of(model), precision, cancelled)
        # By value: not all that changes weights leaves a trace in PyTorch's version numbers.
        checksums = tuple(int(parameter.view(torch.int32).sum()) for parameter in parameters)
        kept = _kept.setdefault(model, {})
        if precision not in kept or kept[precision][0] != checksums:
            kept[precision] = checksums, prepack(arrays_of(model), precision, cancelled)
        return kept[precision][1]


@torch.inference_mode()
def prepack(
    model: ModelArrays, precision: Precision, cancelled: Callable[[], bool] = never
) -> PrepackedWeights:
    """Rearrange the weights of ``model``; later changes to them are not seen.

    The last layer stays in float32 whatever the precision of the others: it is small beside them,
    and its rounding would show in every probability.

    Raises:
        CancelledError: ``cancelled``, polled between layers, became true.
    """
    config = model.config
    weights = {name: torch.from_numpy(array) for name, array in model.weights.items()}
    tokens = weights["embedding.weight"]
    embedding, positions, rotation = tokens * model.embedding_scale, None, None
    if config.positions == "learned":
        positions = weights["positions.weight"]
    elif config.positions == "sinusoidal":
        table = sinusoidal_table(config.max_seq_len, config.d_model)
        positions = torch.from_numpy(table)
    else:
        rotation = _rotation(config)
    if config.norm == "layernorm":
        embedding = embedding - embedding.mean(1, keepdim=True)
        positions = None if positions is None else positions - positions.mean(1, keepdim=True)
    head_weight, head_bias = _after_norm(
        _Layer(weights, "norm"), weights.get("head.weight", tokens), None
    )
    shift = weights.get("norm.bias")
    return PrepackedWeights(
        config=config,
        vocab_size=len(tokens),
        context=model.context,
        # A copy, as all here: a model that is trained on must not change a text under way.
        embedding=embedding.numpy(),
        positions=None if positions is None else positions.clone().numpy(),
        rotation=rotation,
        layers=tuple(_prepacked_layers(weights, config, precision, cancelled)),
        head=make_product(head_weight, head_bias, "float32"),
        last_scale=(weights["norm.weight"] * math.sqrt(config.d_model)).numpy(),
        last_shift=None if shift is None else shift.clone().numpy(),
    )


class _Layer:
    """The weight and the bias, where it has one, of the layer of a name."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        self.weight = weights[f"{name}.weight"]
        self.bias = weights.get(f"{name}.bias")


def _prepacked_layers(
    weights: Mapping[str, Tensor],
    config: ModelConfig,
    precision: Precision,
    cancelled: Callable[[], bool],
) -> Iterator[PrepackedLayer]:
    for index in range(config.n_layers):
        check_cancelled(cancelled, "loading")
        prefix = f"blocks.{index}."
        block = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        yield _prepacked_layer(block, config, precision)


def _prepacked_layer(
    block: Mapping[str, Tensor], config: ModelConfig, precision: Precision
) -> PrepackedLayer:
    is_rms = config.norm == "rmsnorm"
    qkv = _Layer(block, "attention.qkv")
    qkv_weight, qkv_bias = _after_norm(_Layer(block, "attention_norm"), qkv.weight, qkv.bias)
    qkv_weight = _arranged(qkv_weight, config)
    qkv_bias = None if qkv_bias is None else _arranged(qkv_bias, config)
    qk_weight = None
    if config.qk_norm:
        width = config.head_width
        # The queries' √D and the scores' 1 / √D cancel.
        keys = block["attention.k_norm.weight"] * math.sqrt(width)
        both = torch.stack((block["attention.q_norm.weight"], keys))
        both = both[:, _neighbours(width)] if config.positions == "rope" else both
        heads = torch.tensor((config.n_heads, config.key_heads))
        qk_weight = both.repeat_interleave(heads, dim=0).numpy()
    up = _Layer(block, "feedforward.up")
    up_weight, up_bias = up.weight, up.bias
    if config.activation == "swiglu":
        gate = _Layer(block, "feedforward.gate")
        up_weight = torch.cat((gate.weight, up_weight))
        if up_bias is not None and gate.bias is not None:
            up_bias = torch.cat((gate.bias, up_bias))
    up_weight, up_bias = _after_norm(_Layer(block, "feedforward_norm"), up_weight, up_bias)
    out = _centred(_Layer(block, "attention.out"), is_rms)
    down = _centred(_Layer(block, "feedforward.down"), is_rms)
    return PrepackedLayer(
        qkv=make_product(qkv_weight, qkv_bias, precision),
        out=make_product(*out, precision),
        up=make_product(up_weight, up_bias, precision),
        down=make_product(*down, precision),
        qk_weight=qk_weight,
    )


def _after_norm(norm: _Layer, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """``weight`` [N, C] and ``bias`` [N] that take the vector before the norm's own weight."""
    if norm.bias is not None:
        shift = weight @ norm.bias
        bias = shift if bias is None else bias + shift
    elif bias is not None:
        bias = bias.clone()
    return weight * (norm.weight * math.sqrt(weight.size(1))), bias


def _centred(layer: _Layer, is_rms: bool) -> tuple[Tensor, Tensor | None]:
    """Weight [C, N] and bias [C] with outputs of the mean 0, where a LayerNorm follows."""
    weight, bias = layer.weight, layer.bias
    if is_rms:
        return weight.clone(), None if bias is None else bias.clone()
    return weight - weight.mean(0), None if bias is None else bias - bias.mean()


def _arranged(rows: Tensor, config: ModelConfig) -> Tensor:
    """Rows [(H + 2K)D, ...] of queries, keys, values in the scale and order of ``prepack``."""
    width, turned = config.head_width, config.n_heads + config.key_heads
    heads = rows.clone().view(-1, width, *rows.shape[1:])
    if config.positions == "rope":
        heads[:turned] = heads[:turned, _neighbours(width)]
    if not config.qk_norm:
        heads[: config.n_heads] /= math.sqrt(width)
    return heads.view(rows.shape)


def _neighbours(width: int) -> Tensor:
    """Order of a head's ``width`` numbers in which the two that rotate together are neighbours."""
    return torch.arange(width).view(2, width // 2).t().flatten()


def _rotation(config: ModelConfig) -> NDArray[np.complex64]:
    cosines, sines = rotary_table(config)
    half = cosines.shape[1] // 2
    turns: NDArray[np.complex64] = cosines[:, half:] + np.complex64(1j) * sines[:, half:]
    return turns[:, None]


# Memory of small reads is kept for the next one of the same shape.
_MOST_ROWS_KEPT = 64
_MOST_SHAPES_KEPT = 16
# At first the cache has room for so many tokens, and doubles when they are there.
_FIRST_ROOM = 64

_gelu: Any = torch.ops.aten.gelu_.default
_attention: Any = torch.nn.functional.scaled_dot_product_attention
_silu: Any = torch.ops.aten.silu_.default


def _own_precision() -> AbstractContextManager[Any]:
    """Keeps the autocast of a training under way out of the products here."""
    if torch.is_autocast_enabled("cpu"):
        return torch.autocast("cpu", enabled=False)
    return nullcontext()


class _Space:
    """Memory for reading T tokens in each of B streams, R = B · T rows, and views of it."""

    def __init__(self, weights: PrepackedWeights, streams: int, tokens: int) -> None:
        config = weights.config
        rows, width = streams * tokens, config.d_model
        heads, key_heads = config.n_heads, config.key_heads
        inner = config.feedforward_width
        self.stream = Buffer(rows, width)
        self.added = Buffer(rows, width)
        self.normed = Buffer(rows, width)
        self.qkv = Buffer(rows, config.qkv_width)
        self.mixed = Buffer(rows, config.attention_width)
        self.inner = Buffer(rows, inner)
        # SwiGLU's gate is beside what it lets through.
        self.gated = Buffer(rows, 2 * inner) if config.activation == "swiglu" else None
        self.logits = Buffer(rows, weights.vocab_size)
        self.root: FloatArray = np.empty((rows, 1), np.float32)
        self.squares = self.root[:, 0]
        self.by_place = self.stream.array.reshape(streams, tokens, width)
        turned = heads + key_heads
        split = self.qkv.array.reshape(rows, turned + key_heads, -1)
        # [R, H + K, D]: queries and keys
        self.queries_keys = split[:, :turned]
        # Numbers in pairs: [B, T, H + K, D / 2]
        if weights.rotation is not None:
            pairs = self.qkv.array.view(np.complex64)[:, : turned * config.head_width // 2]
            self.pairs = pairs.reshape(streams, tokens, turned, -1)
        by_place = split.reshape(streams, tokens, turned + key_heads, -1)
        # Of shape [B, H, T, D]
        self.queries = by_place[:, :, :heads].swapaxes(1, 2)
        # Of shape [2, B, K, T, D]
        keys_values = by_place[:, :, heads:].reshape(streams, tokens, 2, key_heads, -1)
        self.keys_values = keys_values.transpose(2, 0, 3, 1, 4)
        # Of one token, heads that share keys and values together: [B, K, H / K, D]
        if tokens == 1:
            group = (streams, key_heads, heads // key_heads, -1)
            self.grouped = by_place[:, 0, :heads].reshape(group)
            self.mixed_by_group = self.mixed.array.reshape(group)
        self.mixed_by_head = self.mixed.array.reshape(streams, tokens, heads, -1).swapaxes(1, 2)


class CpuDecoder:
    """Decodes with prepacked weights; B streams of T tokens at a time.

    Args:
        weights: The model's.
        streams: B.
        make_drafter: As ``Decoder`` has it.
    """

    def __init__(
        self,
        weights: PrepackedWeights,
        streams: int,
        make_drafter: Callable[[], Drafter] | None = None,
    ) -> None:
        config = weights.config
        self.make_drafter = make_drafter
        self.vocab_size, self.context = weights.vocab_size, weights.context
        self._weights = weights
        self._length = 0
        self._epsilon = np.float32(config.norm_eps * config.d_model)
        self._head_epsilon = np.float32(config.norm_eps * config.head_width)
        room = min(_FIRST_ROOM, self.context)
        # [L, 2, B, K, S, D]: keys and values of each layer
        self._cache: FloatArray = np.empty(
            (config.n_layers, 2, streams, config.key_heads, room, config.head_width), np.float32
        )
        self._spaces: dict[tuple[int, int], _Space] = {}
        self._normed: FloatArray | None = None

    @property
    def streams(self) -> int:
        """B."""
        return int(self._cache.shape[2])

    @property
    def length(self) -> int:
        """How many tokens of each stream have been read."""
        return self._length

    @property
    def hidden(self) -> FloatArray:
        """Hidden states [B, T, C] after the last norm, of the tokens of the last read."""
        if self._normed is None:
            raise ValueError("nothing has been read yet")
        hidden = self._normed * self._weights.last_scale
        return hidden if self._weights.last_shift is None else hidden + self._weights.last_shift

    @torch.inference_mode()
    def read(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, V] of what comes next."""
        with _own_precision():
            return self._read_last(tokens)

    def _read_last(self, tokens: IntArray) -> FloatArray:
        space = self._run(tokens)
        streams, count = tokens.shape
        if count == 1:
            self._weights.head(space.normed, space.logits)
            return space.logits.array.copy()
        last, logits = (
            Buffer(streams, space.normed.array.shape[1]),
            Buffer(streams, self.vocab_size),
        )
        last.array[:] = space.normed.array[count - 1 :: count]
        self._weights.head(last, logits)
        return logits.array

    @torch.inference_mode()
    def read_all(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, T, V] after each of them."""
        with _own_precision():
            space = self._run(tokens)
            self._weights.head(space.normed, space.logits)
        return space.logits.array.reshape(*tokens.shape, -1).copy()

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        self._length = min(length, self._length)

    def follow(self, leader: Decoder) -> None:
        """Go on from what ``leader``, of the same shape, has read; see ``Drafter``."""
        assert isinstance(leader, CpuDecoder)
        self._cache, self._length = leader._cache, leader._length

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on from stream ``rows[i]``; more or fewer rows change B."""
        self._cache = self._cache[:, :, rows]
        if self._normed is not None:
            self._normed = self._normed[rows]

    def _run(self, tokens: IntArray) -> _Space:
        """Read ``tokens`` [B, T]; the last norm's outcome is left in the space's ``normed``."""
        streams, count = tokens.shape
        start, end = self._length, self._length + count
        check_room(end, self.context)
        if end > self._cache.shape[4]:
            self._make_room(end)
        weights, space = self._weights, self._space(streams, count)
        stream = space.stream.array
        np.take(weights.embedding, tokens.reshape(-1), axis=0, out=stream, mode="clip")
        if weights.positions is not None:
            space.by_place += weights.positions[start:end]
        turn = None if weights.rotation is None else weights.rotation[start:end]
        mask = None
        if count > 1:
            mask = torch.ones(count, end, dtype=torch.bool).tril_(start)
        for layer, cache in zip(weights.layers, self._cache, strict=True):
            self._attend(space, layer, cache, turn, mask, start, end)
            stream += space.added.array
            self._feed_forward(space, layer)
            stream += space.added.array
        self._normalise(space)
        self._length = end
        self._normed = space.normed.array.reshape(streams, count, -1)
        return space

    def _attend(
        self,
        space: _Space,
        layer: PrepackedLayer,
        cache: FloatArray,
        turn: Any,
        mask: Tensor | None,
        start: int,
        end: int,
    ) -> None:
        """Attention over ``cache`` [2, B, K, S, D] from the stream into ``added``."""
        self._normalise(space)
        layer.qkv(space.normed, space.qkv)
        if layer.qk_weight is not None:
            both = space.queries_keys
            roots = np.vecdot(both, both)
            roots += self._head_epsilon
            np.sqrt(roots, out=roots)
            both /= roots[..., None]
            both *= layer.qk_weight
        if turn is not None:
            space.pairs *= turn
        cache[:, :, :, start:end] = space.keys_values
        keys, values = cache[:, :, :, :end]
        if mask is not None:
            # Of many tokens by torch: NumPy's threads would be in the way of those of the products.
            space.mixed_by_head[:] = _attention(
                *(torch.from_numpy(part) for part in (space.queries, keys, values)),
                attn_mask=mask,
                scale=1.0,
                enable_gqa=keys.shape[1] != space.queries.shape[1],
            ).numpy()
            layer.out(space.mixed, space.added)
            return
        # [B, K, H / K, D] times [B, K, D, S]
        scores = np.matmul(space.grouped, keys.swapaxes(2, 3))
        scores -= np.maximum.reduce(scores, axis=3, keepdims=True)
        np.exp(scores, out=scores)
        sums = np.add.reduce(scores, axis=3, keepdims=True)
        np.divide(np.matmul(scores, values), sums, out=space.mixed_by_group)
        layer.out(space.mixed, space.added)

    def _feed_forward(self, space: _Space, layer: PrepackedLayer) -> None:
        """The position-wise network from the stream into ``added``."""
        self._normalise(space)
        activation, inner = self._weights.config.activation, space.inner
        if space.gated is not None:
            layer.up(space.normed, space.gated)
            width = inner.array.shape[1]
            _silu(space.gated.tensor[:, :width])
            np.multiply(space.gated.array[:, :width], space.gated.array[:, width:], out=inner.array)
        else:
            layer.up(space.normed, inner)
            if activation == "relu2":
                np.maximum(inner.array, 0, out=inner.array)
                inner.array *= inner.array
            else:
                _gelu(inner.tensor, approximate="tanh")
        layer.down(inner, space.added)

    def _normalise(self, space: _Space) -> None:
        """The stream's rows divided by √(x·x + C·eps) into ``normed``."""
        stream = space.stream.array
        np.vecdot(stream, stream, out=space.squares)
        space.root += self._epsilon
        np.sqrt(space.root, out=space.root)
        np.divide(stream, space.root, out=space.normed.array)

    def _make_room(self, length: int) -> None:
        """Let ``length`` tokens fit, and as many again."""
        shape = list(self._cache.shape)
        shape[4] = min(max(length, 2 * shape[4]), self.context)
        larger: FloatArray = np.empty(shape, np.float32)
        larger[:, :, :, :, : self._length] = self._cache[:, :, :, :, : self._length]
        self._cache = larger

    def _space(self, streams: int, tokens: int) -> _Space:
        space = self._spaces.get((streams, tokens))
        if space is None:
            space = _Space(self._weights, streams, tokens)
            if streams * tokens <= _MOST_ROWS_KEPT:
                if len(self._spaces) >= _MOST_SHAPES_KEPT:
                    self._spaces.clear()
                self._spaces[streams, tokens] = space
        return space
