"""Weights of a model rearranged for decoding: equal results from fewer operations a token.

What can be done once is done here, exactly but for rounding:

- A norm's weight goes into the matrix after it, and so does √C, so that normalising is
  x / √(x·x + C·eps).
- LayerNorm takes the mean off first. Everything that adds to the residual stream is made to have
  the mean 0 instead, after which LayerNorm and RMSNorm are the same.
- Scores are divided by √D in the queries' weights.
- The halves of a head that rotary embedding turns together become neighbours, so that the turn is
  one product of complex numbers. Queries and keys are permuted alike, and their products stay.
"""

import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.decoder import FloatArray, Precision
from shakespeare_tui.decoding.products import Product, make_product
from shakespeare_tui.errors import check_cancelled, never
from shakespeare_tui.models.transformer import Block, Norm, Transformer


@dataclass(frozen=True)
class PackedLayer:
    """One block: four matrix products and what queries and keys are multiplied by, [2, 1, D]."""

    qkv: Product
    out: Product
    up: Product
    down: Product
    qk_weight: FloatArray | None


@dataclass(frozen=True)
class PackedModel:
    """A model's weights, ready to decode with.

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
    layers: tuple[PackedLayer, ...]
    head: Product
    last_scale: FloatArray
    last_shift: FloatArray | None


def can_pack(model: Transformer) -> bool:
    """Whether the model is one for ``pack``: float32, on the CPU."""
    weight = model.embedding.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32


_Checksums = tuple[int, ...]
_MOST_BYTES_KEPT = 256_000_000
_Kept = dict[Precision, tuple[_Checksums, PackedModel]]
_kept: weakref.WeakKeyDictionary[Transformer, _Kept] = weakref.WeakKeyDictionary()


def packed(
    model: Transformer, precision: Precision, cancelled: Callable[[], bool] = never
) -> PackedModel:
    """What ``pack`` makes of the model as it is now, from memory where it has not changed.

    Looking whether it has takes a tenth of packing it, so that every text of a loaded checkpoint
    but the first begins sooner. What was packed is kept as long as the model is; the largest
    models, whose copies would be a burden, are packed for each text.

    Raises:
        CancelledError: ``cancelled``, polled between layers, became true.
    """
    parameters = list(model.parameters())
    if precision == "auto":
        precision = "float32"
    # An autocast is of a training under way, not of the text.
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        if sum(parameter.nbytes for parameter in parameters) > _MOST_BYTES_KEPT:
            return pack(model, precision, cancelled)
        # By value: not all that changes weights leaves a trace in PyTorch's version numbers.
        checksums = tuple(int(parameter.view(torch.int32).sum()) for parameter in parameters)
        kept = _kept.setdefault(model, {})
        if precision not in kept or kept[precision][0] != checksums:
            kept[precision] = checksums, pack(model, precision, cancelled)
        return kept[precision][1]


@torch.inference_mode()
def pack(
    model: Transformer, precision: Precision, cancelled: Callable[[], bool] = never
) -> PackedModel:
    """Rearrange the weights of ``model``; later changes to it are not seen.

    The last layer stays in float32 whatever the precision of the others: it is small beside them,
    and its rounding would show in every probability.

    Raises:
        CancelledError: ``cancelled``, polled between layers, became true.
    """
    config = model.config
    embedding, positions, rotation = model.embedding.weight * model.embedding_scale, None, None
    if model.positions is not None:
        positions = model.positions.weight
    elif config.positions == "sinusoidal":
        positions = model.get_buffer("position_table")
    else:
        rotation = _rotation(model)
    if not model.norm.is_rms:
        embedding = embedding - embedding.mean(1, keepdim=True)
        positions = None if positions is None else positions - positions.mean(1, keepdim=True)
    head_weight, head_bias = _after_norm(model.norm, model.head.weight, None)
    return PackedModel(
        config=config,
        vocab_size=model.vocab_size,
        context=model.context,
        # A copy, as all here: a model that is trained on must not change a text under way.
        embedding=embedding.numpy(),
        positions=None if positions is None else positions.clone().numpy(),
        rotation=rotation,
        layers=tuple(_packed_layers(model, precision, cancelled)),
        head=make_product(head_weight, head_bias, "float32"),
        last_scale=(model.norm.weight * math.sqrt(config.d_model)).numpy(),
        last_shift=None if model.norm.bias is None else model.norm.bias.clone().numpy(),
    )


def _packed_layers(
    model: Transformer, precision: Precision, cancelled: Callable[[], bool]
) -> Iterator[PackedLayer]:
    for block in model.blocks:
        assert isinstance(block, Block)
        check_cancelled(cancelled, "loading")
        yield _pack_layer(block, model.config, precision)


def _pack_layer(block: Block, config: ModelConfig, precision: Precision) -> PackedLayer:
    attention, feedforward = block.attention, block.feedforward
    is_rms = block.attention_norm.is_rms
    qkv_weight, qkv_bias = _after_norm(
        block.attention_norm, attention.qkv.weight, attention.qkv.bias
    )
    qkv_weight = _arranged(qkv_weight, config)
    qkv_bias = None if qkv_bias is None else _arranged(qkv_bias, config)
    qk_weight = None
    if attention.q_norm is not None and attention.k_norm is not None:
        width = config.d_model // config.n_heads
        # The queries' √D and the scores' 1 / √D cancel.
        both = torch.stack((attention.q_norm.weight, attention.k_norm.weight * math.sqrt(width)))
        both = both[:, _neighbours(width)] if config.positions == "rope" else both
        qk_weight = both[:, None].contiguous().numpy()
    up_weight: Tensor = feedforward.up.weight
    up_bias: Tensor | None = feedforward.up.bias
    if feedforward.gate is not None:
        up_weight = torch.cat((feedforward.gate.weight, up_weight))
        up_bias = None if up_bias is None else torch.cat((feedforward.gate.bias, up_bias))
    up_weight, up_bias = _after_norm(block.feedforward_norm, up_weight, up_bias)
    out = _centred(attention.out.weight, attention.out.bias, is_rms)
    down = _centred(feedforward.down.weight, feedforward.down.bias, is_rms)
    return PackedLayer(
        qkv=make_product(qkv_weight, qkv_bias, precision),
        out=make_product(*out, precision),
        up=make_product(up_weight, up_bias, precision),
        down=make_product(*down, precision),
        qk_weight=qk_weight,
    )


def _after_norm(norm: Norm, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """``weight`` [N, C] and ``bias`` [N] that take the vector before the norm's own weight."""
    if norm.bias is not None:
        shift = weight @ norm.bias
        bias = shift if bias is None else bias + shift
    elif bias is not None:
        bias = bias.clone()
    return weight * (norm.weight * math.sqrt(weight.size(1))), bias


def _centred(weight: Tensor, bias: Tensor | None, is_rms: bool) -> tuple[Tensor, Tensor | None]:
    """``weight`` [C, N] and ``bias`` [C] with outputs of the mean 0, where a LayerNorm follows."""
    if is_rms:
        return weight.clone(), None if bias is None else bias.clone()
    return weight - weight.mean(0), None if bias is None else bias - bias.mean()


def _arranged(rows: Tensor, config: ModelConfig) -> Tensor:
    """Rows [3C, ...] of queries, keys and values with the scale and the order of ``pack``."""
    width = config.d_model // config.n_heads
    heads = rows.clone().view(3, config.n_heads, width, *rows.shape[1:])
    if config.positions == "rope":
        heads[:2] = heads[:2, :, _neighbours(width)]
    if not config.qk_norm:
        heads[0] /= math.sqrt(width)
    return heads.view(rows.shape)


def _neighbours(width: int) -> Tensor:
    """Order of a head's ``width`` numbers in which the two that rotate together are neighbours."""
    return torch.arange(width).view(2, width // 2).t().flatten()


def _rotation(model: Transformer) -> NDArray[np.complex64]:
    cosines, sines = model.get_buffer("cosines"), model.get_buffer("sines")
    half = cosines.size(1) // 2
    turns: NDArray[np.complex64] = torch.complex(cosines[:, half:], sines[:, half:]).numpy()
    return turns[:, None]
