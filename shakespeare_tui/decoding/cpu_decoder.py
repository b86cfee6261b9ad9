"""The decoder for CPUs: the model's arithmetic in NumPy, around the fastest matrix products.

A token of a small model is a hundred tiny operations between a few large products. NumPy starts one
in half a microsecond where torch takes three, and everything that does not hang on the token is
done beforehand, in ``pack``.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shakespeare_tui.decoding.decoder import FloatArray, IntArray, check_room
from shakespeare_tui.decoding.packing import PackedLayer, PackedModel
from shakespeare_tui.decoding.products import Buffer

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

    def __init__(self, packed: PackedModel, streams: int, tokens: int) -> None:
        config = packed.config
        rows, width, heads = streams * tokens, config.d_model, config.n_heads
        inner = config.feedforward_width
        self.stream = Buffer(rows, width)
        self.added = Buffer(rows, width)
        self.normed = Buffer(rows, width)
        self.qkv = Buffer(rows, 3 * width)
        self.mixed = Buffer(rows, width)
        self.inner = Buffer(rows, inner)
        # SwiGLU's gate is beside what it lets through.
        self.gated = Buffer(rows, 2 * inner) if config.activation == "swiglu" else None
        self.logits = Buffer(rows, packed.vocab_size)
        self.root: FloatArray = np.empty((rows, 1), np.float32)
        self.squares = self.root[:, 0]
        self.by_place = self.stream.array.reshape(streams, tokens, width)
        split = self.qkv.array.reshape(rows, 3, heads, -1)
        # [R, 2, H, D]: queries and keys
        self.queries_keys = split[:, :2]
        # [B, T, 2H, D / 2], numbers in pairs
        if packed.rotation is not None:
            pairs = self.qkv.array.view(np.complex64)[:, :width]
            self.pairs = pairs.reshape(streams, tokens, 2 * heads, -1)
        # Of queries, keys and values in turn: B, H, T, D
        ordered = split.reshape(streams, tokens, 3, heads, -1).transpose(2, 0, 3, 1, 4)
        self.queries, self.keys_values = ordered[0], ordered[1:]
        self.mixed_by_head = self.mixed.array.reshape(streams, tokens, heads, -1).swapaxes(1, 2)


class FastDecoder:
    """Decodes with packed weights; B streams of T tokens at a time.

    Args:
        packed: The weights.
        streams: B.
    """

    def __init__(self, packed: PackedModel, streams: int) -> None:
        config = packed.config
        self.vocab_size, self.context = packed.vocab_size, packed.context
        self._packed = packed
        self._length = 0
        self._epsilon = np.float32(config.norm_eps * config.d_model)
        self._head_epsilon = np.float32(config.norm_eps * (config.d_model // config.n_heads))
        head_width = config.d_model // config.n_heads
        room = min(_FIRST_ROOM, self.context)
        # [L, 2, B, H, S, D]: keys and values of each layer
        self._cache: FloatArray = np.empty(
            (config.n_layers, 2, streams, config.n_heads, room, head_width), np.float32
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
        hidden = self._normed * self._packed.last_scale
        return hidden if self._packed.last_shift is None else hidden + self._packed.last_shift

    def read(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, V] of what comes next."""
        with _own_precision():
            return self._read_last(tokens)

    def _read_last(self, tokens: IntArray) -> FloatArray:
        space = self._run(tokens)
        streams, count = tokens.shape
        if count == 1:
            self._packed.head(space.normed, space.logits)
            return space.logits.array.copy()
        last, logits = (
            Buffer(streams, space.normed.array.shape[1]),
            Buffer(streams, self.vocab_size),
        )
        last.array[:] = space.normed.array[count - 1 :: count]
        self._packed.head(last, logits)
        return logits.array

    def read_all(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, T, V] after each of them."""
        with _own_precision():
            space = self._run(tokens)
            self._packed.head(space.normed, space.logits)
        return space.logits.array.reshape(*tokens.shape, -1).copy()

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        self._length = min(length, self._length)

    def follow(self, other: "FastDecoder") -> None:
        """Go on from what ``other``, of the same shape, has read: its keys and values are shared.

        Until ``other`` reads on, or either makes room; what is read here beyond its tokens is
        written over by it.
        """
        self._cache, self._length = other._cache, other._length

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
        packed, space = self._packed, self._space(streams, count)
        stream = space.stream.array
        np.take(packed.embedding, tokens.reshape(-1), axis=0, out=stream, mode="clip")
        if packed.positions is not None:
            space.by_place += packed.positions[start:end]
        turn = None if packed.rotation is None else packed.rotation[start:end]
        mask = None
        if count > 1:
            mask = torch.ones(count, end, dtype=torch.bool).tril_(start)
        for layer, cache in zip(packed.layers, self._cache, strict=True):
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
        layer: PackedLayer,
        cache: FloatArray,
        turn: Any,
        mask: Tensor | None,
        start: int,
        end: int,
    ) -> None:
        """Attention over ``cache`` [2, B, H, S, D] from the stream into ``added``."""
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
            ).numpy()
            layer.out(space.mixed, space.added)
            return
        # [B, H, 1, D] times [B, H, D, S]
        scores = np.matmul(space.queries, keys.swapaxes(2, 3))
        scores -= np.maximum.reduce(scores, axis=3, keepdims=True)
        np.exp(scores, out=scores)
        sums = np.add.reduce(scores, axis=3, keepdims=True)
        np.divide(np.matmul(scores, values), sums, out=space.mixed_by_head)
        layer.out(space.mixed, space.added)

    def _feed_forward(self, space: _Space, layer: PackedLayer) -> None:
        """The position-wise network from the stream into ``added``."""
        self._normalise(space)
        activation, inner = self._packed.config.activation, space.inner
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
            space = _Space(self._packed, streams, tokens)
            if streams * tokens <= _MOST_ROWS_KEPT:
                if len(self._spaces) >= _MOST_SHAPES_KEPT:
                    self._spaces.clear()
                self._spaces[streams, tokens] = space
        return space
