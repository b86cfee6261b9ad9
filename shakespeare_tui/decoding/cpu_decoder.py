"""The decoder for CPUs: the model's arithmetic in NumPy, around the fastest matrix products.

A token of a small model is a hundred tiny operations between a few large products. NumPy starts one
in half a microsecond where torch takes three, and everything that does not hang on the token is
done beforehand, in ``prepack``. Where torch is loaded, its ``Kernels`` take the large products.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.decoder import (
    Decoder,
    Drafter,
    FloatArray,
    IntArray,
    Precision,
    check_room,
)
from shakespeare_tui.errors import UserError, check_cancelled, never
from shakespeare_tui.models.numpy_gpt import gelu, sigmoid
from shakespeare_tui.models.positions import rotary_table, sinusoidal_table

if TYPE_CHECKING:
    from torch import Tensor


class Buffer:
    """Memory for one float32 array, seen by NumPy and, where it is asked for, by torch."""

    def __init__(self, *shape: int) -> None:
        self.array: FloatArray = np.empty(shape, np.float32)

    @functools.cached_property
    def tensor(self) -> "Tensor":
        """The same memory as a tensor."""
        import torch

        return torch.from_numpy(self.array)


Product = Callable[[Buffer, Buffer], None]
"""Multiplies rows [R, K] by fixed weights [N, K], transposed, into the rows [R, N]."""


class Kernels(Protocol):
    """The operations that a library may be faster at than NumPy; all others are NumPy's."""

    def product(self, weight: FloatArray, bias: FloatArray | None, precision: Precision) -> Product:
        """The product with ``weight`` [N, K] and the addition of ``bias`` [N] in a precision.

        Raises:
            UserError: There is no such product.
        """

    def attend(
        self, queries: FloatArray, keys: FloatArray, values: FloatArray, start: int
    ) -> FloatArray:
        """Causal attention, unscaled, of queries [B, H, T, D] from the place ``start`` on.

        Keys and values are [B, K, S, D], of all tokens up to the last of the queries.
        """

    def gelu(self, x: Buffer) -> None:
        """GELU by its tanh, in place."""

    def silu(self, x: Buffer, columns: int) -> None:
        """SiLU, x · σ(x), of the first columns, in place."""

    def reading(self) -> AbstractContextManager[Any]:
        """What products are computed in."""


class NumpyKernels:
    """NumPy alone: for models that no other library has made."""

    def product(self, weight: FloatArray, bias: FloatArray | None, precision: Precision) -> Product:
        """In float32 only."""
        if precision not in ("auto", "float32"):
            raise UserError(f"precision {precision} needs PyTorch; take float32")
        columns = np.ascontiguousarray(weight.T)

        def multiply(x: Buffer, out: Buffer) -> None:
            np.matmul(x.array, columns, out=out.array)
            if bias is not None:
                out.array += bias

        return multiply

    def attend(
        self, queries: FloatArray, keys: FloatArray, values: FloatArray, start: int
    ) -> FloatArray:
        """See ``Kernels``."""
        batch, heads, count, width = queries.shape
        # Heads that share keys and values together: [B, H, T, D] -> [B, K, H / K, T, D]
        grouped = queries.reshape(batch, keys.shape[1], -1, count, width)
        scores: FloatArray = grouped @ keys[:, :, None].swapaxes(3, 4)
        scores[..., ~np.tri(count, keys.shape[2], start, dtype=bool)] = -np.inf
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(-1, keepdims=True)
        mixed: FloatArray = (scores @ values[:, :, None]).reshape(batch, heads, count, width)
        return mixed

    def gelu(self, x: Buffer) -> None:
        """See ``Kernels``."""
        x.array[:] = gelu(x.array)[0]

    def silu(self, x: Buffer, columns: int) -> None:
        """See ``Kernels``."""
        part = x.array[:, :columns]
        part *= sigmoid(part)

    def reading(self) -> AbstractContextManager[Any]:
        """Nothing to prepare."""
        return nullcontext()


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
        kernels: What computes with them.
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
    kernels: Kernels


SMALL_HEAD = 0.125
"""Of the layers' weights; of characters it is a hundredth."""


def prepack(
    model: ModelArrays,
    precision: Precision = "float32",
    cancelled: Callable[[], bool] = never,
    *,
    kernels: Kernels | None = None,
) -> PrepackedWeights:
    """Rearrange the weights of ``model``; later changes to them are not seen.

    A last layer that is small beside the others stays in float32 whatever their precision: its
    rounding would show in every probability. That of a large vocabulary is most of what is read.

    Args:
        model: The model's arrays.
        precision: Of the products.
        cancelled: Polled between layers.
        kernels: What will compute; None takes NumPy's.

    Raises:
        UserError: The kernels have no products of this precision.
        CancelledError: ``cancelled`` became true.
    """
    config, weights = model.config, model.weights
    kernels = kernels or NumpyKernels()
    tokens = weights["embedding.weight"]
    embedding = tokens * np.float32(model.embedding_scale)
    positions: FloatArray | None = None
    if config.positions == "learned":
        positions = weights["positions.weight"].copy()
    elif config.positions == "sinusoidal":
        positions = sinusoidal_table(config.max_seq_len, config.d_model)
    if config.norm == "layernorm":
        embedding -= embedding.mean(1, keepdims=True)
        positions = None if positions is None else positions - positions.mean(1, keepdims=True)
    head_weight, head_bias = _after_norm(
        _Layer(weights, "norm"), weights.get("head.weight", tokens), None
    )
    in_layers = sum(w.size for name, w in weights.items() if name.startswith("blocks."))
    is_small = head_weight.size < SMALL_HEAD * in_layers
    shift = weights.get("norm.bias")
    return PrepackedWeights(
        config=config,
        vocab_size=len(tokens),
        context=model.context,
        # Copies, as all here: a model that is trained on must not change a text under way.
        embedding=embedding,
        positions=positions,
        rotation=_rotation(config) if config.positions == "rope" else None,
        layers=tuple(_prepacked_layers(weights, config, precision, kernels, cancelled)),
        head=kernels.product(head_weight, head_bias, "float32" if is_small else precision),
        last_scale=weights["norm.weight"] * np.float32(math.sqrt(config.d_model)),
        last_shift=None if shift is None else shift.copy(),
        kernels=kernels,
    )


class _Layer:
    """The weight and the bias, where it has one, of the layer of a name."""

    def __init__(self, weights: Mapping[str, FloatArray], name: str) -> None:
        self.weight = weights[f"{name}.weight"]
        self.bias = weights.get(f"{name}.bias")


def _prepacked_layers(
    weights: Mapping[str, FloatArray],
    config: ModelConfig,
    precision: Precision,
    kernels: Kernels,
    cancelled: Callable[[], bool],
) -> Iterator[PrepackedLayer]:
    for index in range(config.n_layers):
        check_cancelled(cancelled, "loading")
        prefix = f"blocks.{index}."
        block = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        yield _prepacked_layer(block, config, precision, kernels)


def _prepacked_layer(
    block: Mapping[str, FloatArray], config: ModelConfig, precision: Precision, kernels: Kernels
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
        keys = block["attention.k_norm.weight"] * np.float32(math.sqrt(width))
        both = np.stack((block["attention.q_norm.weight"], keys))
        both = both[:, _neighbours(width)] if config.positions == "rope" else both
        qk_weight = both.repeat((config.n_heads, config.key_heads), axis=0)
    up = _Layer(block, "feedforward.up")
    up_weight, up_bias = up.weight, up.bias
    if config.activation == "swiglu":
        gate = _Layer(block, "feedforward.gate")
        up_weight = np.concatenate((gate.weight, up_weight))
        if up_bias is not None and gate.bias is not None:
            up_bias = np.concatenate((gate.bias, up_bias))
    up_weight, up_bias = _after_norm(_Layer(block, "feedforward_norm"), up_weight, up_bias)
    out = _centred(_Layer(block, "attention.out"), is_rms)
    down = _centred(_Layer(block, "feedforward.down"), is_rms)
    return PrepackedLayer(
        qkv=kernels.product(qkv_weight, qkv_bias, precision),
        out=kernels.product(*out, precision),
        up=kernels.product(up_weight, up_bias, precision),
        down=kernels.product(*down, precision),
        qk_weight=qk_weight,
    )


def _after_norm(
    norm: _Layer, weight: FloatArray, bias: FloatArray | None
) -> tuple[FloatArray, FloatArray | None]:
    """``weight`` [N, C] and ``bias`` [N] that take the vector before the norm's own weight."""
    if norm.bias is not None:
        shift = weight @ norm.bias
        bias = shift if bias is None else bias + shift
    elif bias is not None:
        bias = bias.copy()
    return weight * (norm.weight * np.float32(math.sqrt(weight.shape[1]))), bias


def _centred(layer: _Layer, is_rms: bool) -> tuple[FloatArray, FloatArray | None]:
    """Weight [C, N] and bias [C] with outputs of the mean 0, where a LayerNorm follows."""
    weight, bias = layer.weight, layer.bias
    if is_rms:
        return weight.copy(), None if bias is None else bias.copy()
    return weight - weight.mean(0), None if bias is None else bias - bias.mean()


def _arranged(rows: FloatArray, config: ModelConfig) -> FloatArray:
    """Rows [(H + 2K)D, ...] of queries, keys, values in the scale and order of ``prepack``."""
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


def _rotation(config: ModelConfig) -> NDArray[np.complex64]:
    cosines, sines = rotary_table(config)
    half = cosines.shape[1] // 2
    turns = np.empty((len(cosines), 1, half), np.complex64)
    turns.real, turns.imag = cosines[:, None, half:], sines[:, None, half:]
    return turns


# Memory of small reads is kept for the next one of the same shape.
_MOST_ROWS_KEPT = 64
_MOST_SHAPES_KEPT = 16
# At first the cache has room for so many tokens, and doubles when they are there.
_FIRST_ROOM = 64


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

    def read(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, V] of what comes next."""
        with self._weights.kernels.reading():
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

    def read_all(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, T, V] after each of them."""
        with self._weights.kernels.reading():
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
        for layer, cache in zip(weights.layers, self._cache, strict=True):
            self._attend(space, layer, cache, turn, start, end)
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
        if end - start > 1:
            # Of many tokens: NumPy's threads would be in the way of those of other products.
            space.mixed_by_head[:] = self._weights.kernels.attend(
                space.queries, keys, values, start
            )
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
            self._weights.kernels.silu(space.gated, width)
            np.multiply(space.gated.array[:, :width], space.gated.array[:, width:], out=inner.array)
        else:
            layer.up(space.normed, inner)
            if activation == "relu2":
                np.maximum(inner.array, 0, out=inner.array)
                inner.array *= inner.array
            else:
                self._weights.kernels.gelu(inner)
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
