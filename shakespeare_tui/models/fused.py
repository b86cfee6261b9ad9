"""A model's loss with few, compiled steps between the matrix products, for training on CPUs.

What is computed, and by which modules, is ``transformer.py``'s; here a residual branch is added,
normalised and rounded in one pass, heads are normalised, turned and mixed in one, and so back. The
kernels are single-threaded and do without Python's lock: each thread takes some of a batch's rows.
They are compiled before (``kernels``); checkpointing is left to ``Transformer``.
Shapes: B batch, T tokens, C d_model, H heads of queries, K of keys and values, D head width,
N = B·T rows, V vocabulary.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numba import boolean, float32, int64, uint16, void
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from shakespeare_tui.config.schema import Config, ModelConfig
from shakespeare_tui.models import fused_kernels
from shakespeare_tui.models.lanes import COUNT
from shakespeare_tui.models.parameters import MOST_LOGITS
from shakespeare_tui.models.transformer import (
    Block,
    Norm,
    SoftTargets,
    Transformer,
    head_loss,
    is_autocast,
)

LONGEST = 512
"""Tokens of a window whose attention is compiled; beyond, all scores of a head fill the cache."""

Drop = tuple[int, int]
"""The key and the limit of a dropout, as ``fused_kernels`` take them."""

# Numba checks their arguments.
_compiled: Any = fused_kernels
_FLAT, _ROWS, _CUBE = float32[::1], float32[:, ::1], float32[:, :, ::1]


def kernels(precisions: Iterable[str], model: ModelConfig) -> list[tuple[Any, Any]]:
    """The compiled functions of a model, with a signature for each of these types of products."""
    found: list[tuple[Any, Any]] = []
    for precision in precisions:
        kind = float32 if precision == "float32" else uint16
        flat, rows, drawn = kind[::1], kind[:, ::1], (int64, int64)
        heads = (rows, int64, int64, int64, _FLAT, _FLAT, float32, _ROWS, _ROWS, *drawn)
        inputs = 2 if model.activation == "swiglu" else 1
        activate, activate_backward = _activation(model.activation)
        for kernel, arguments in (
            (fused_kernels.attend, (*heads, rows, _CUBE)),
            (fused_kernels.attend_backward, (rows, *heads, _CUBE, rows, _FLAT, _FLAT)),
            (
                fused_kernels.add_norm,
                (_ROWS, rows, _FLAT, _FLAT, float32, boolean, *drawn, _ROWS, rows, _FLAT, _FLAT),
            ),
            (
                fused_kernels.add_norm_backward,
                (_ROWS, rows, _ROWS, _FLAT, boolean, *drawn, *(_FLAT, _FLAT, _ROWS, rows))
                + (_FLAT, _FLAT),
            ),
            (activate, (flat,) * (inputs + 1)),
            (activate_backward, (flat,) * (2 * inputs + 1)),
            (fused_kernels.cross_entropy, (rows, int64[::1], _FLAT, rows)),
        ):
            found.append((kernel, void(*arguments)))
        if model.short_convolution:
            found.append((fused_kernels.convolve, void(rows, int64, _ROWS, rows)))
            backward = void(rows, rows, int64, _ROWS, rows, _ROWS)
            found.append((fused_kernels.convolve_backward, backward))
    if model.ngram_embedding:
        of_rows = void(_ROWS, int64[::1], *(_ROWS,) * 3, boolean[::1], _FLAT, int64, int64)
        found.append((fused_kernels.adam_rows, of_rows))
    if model.dropout:
        found.append((fused_kernels.dropout, void(_FLAT, int64, int64, _FLAT)))
    return found


_ACTIVATIONS = {"gelu": "gelu", "relu2": "relu_squared", "swiglu": "swiglu"}


def _activation(setting: str) -> tuple[Any, Any]:
    """The compiled function of ``model.activation``, and that of its way back."""
    name = _ACTIVATIONS[setting]
    return getattr(_compiled, name), getattr(_compiled, f"{name}_backward")


def can_fuse(config: Config) -> bool:
    """Whether ``loss`` computes what a config says: shapes must fill vectors of numbers."""
    model = config.model
    # A head's two halves are turned, each a vector or more.
    widths = (model.head_width / 2, model.d_model, model.feedforward_width)
    is_whole = all(width % COUNT == 0 for width in widths)
    # What PyTorch drops would depend on which thread comes first.
    can_drop = not model.dropout or config.seq_len <= LONGEST
    return is_whole and can_drop and not config.training.grad_checkpointing


def keys_of(config: ModelConfig) -> int:
    """How many keys of dropout a pass takes."""
    return 1 + 3 * config.n_layers


def loss(
    model: Transformer,
    tokens: Tensor,
    targets: Tensor,
    keys: Sequence[int] | None = None,
    soft: SoftTargets | None = None,
) -> Tensor:
    """``Transformer.loss``: mean cross-entropy of ``targets`` [B, T] after ``tokens`` [B, T].

    Args:
        model: In float32 on the CPU.
        tokens: Inputs.
        targets: What follows each.
        keys: ``keys_of`` numbers below 2^63 that tell what is dropped; None drops nothing.
        soft: With these its gradient is that of ``transformer.learning_from``.
    """
    limit = round(model.config.dropout * 2**32) if keys else 0
    drops = ((key, limit) for key in keys or [0] * keys_of(model.config))
    x, rotary = model.embed(tokens)
    branch, drop = None, next(drops)
    if limit:
        x = _Dropout.apply(x, drop)  # type: ignore[no-untyped-call]
    for block in model.blocks:
        assert isinstance(block, Block)
        x, normed = _add_norm(x, branch, block.attention_norm, drop)
        branch, drop = _mix(block, normed, rotary, next(drops)), next(drops)
        x, normed = _add_norm(x, branch, block.feedforward_norm, drop)
        if block.feedforward_convolution is not None:
            weight = block.feedforward_convolution.weight
            normed = _Convolve.apply(normed, weight)  # type: ignore[no-untyped-call]
        branch, drop = _transform(block, normed), next(drops)
    _, normed = _add_norm(x, branch, model.norm, drop)
    if soft is None and tokens.numel() * model.vocab_size > MOST_LOGITS:
        return head_loss(normed.flatten(0, 1), model.head.weight, targets.flatten())
    # [B, T, V] -> [N, V]
    logits = model.head(normed).flatten(0, 1)
    arguments = (logits, targets.flatten(), soft)
    found: Tensor = _CrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]
    return found


def _array(x: Tensor) -> NDArray[Any]:
    """A view of a contiguous tensor; of bfloat16 its bits."""
    x = x.detach()
    bits = x.view(torch.uint16) if x.dtype == torch.bfloat16 else x
    array: NDArray[Any] = bits.numpy()
    return array


def _flat(x: Tensor) -> NDArray[Any]:
    return _array(x.contiguous()).reshape(-1)


def _rows(x: Tensor) -> NDArray[Any]:
    """[..., C] as [N, C]."""
    return _array(x.contiguous()).reshape(-1, x.shape[-1])


def _some(x: Tensor | None) -> NDArray[Any]:
    """[D], or [0] for none."""
    return _NONE if x is None else _flat(x)


_NONE = np.empty(0, np.float32)


# --- residual stream and its norm ----------------------------------------------------------------


class _AddNorm(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        branch: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        norm: tuple[float, bool],
        drop: Drop,
        dtype: torch.dtype,
    ) -> Any:
        eps, has_mean = norm
        y = torch.empty(x.shape, dtype=dtype)
        added = x.contiguous() if branch is None else torch.empty(x.shape)
        statistics = torch.empty(2, x.numel() // x.size(-1))
        _compiled.add_norm(
            _rows(x),
            _rows(y)[:0] if branch is None else _rows(branch),
            _flat(weight),
            _some(bias),
            np.float32(eps),
            has_mean,
            *drop,
            _rows(added),
            _rows(y),
            *statistics.numpy(),
        )
        ctx.save_for_backward(added, weight, bias, statistics)
        ctx.has_mean, ctx.has_branch, ctx.drop = has_mean, branch is not None, drop
        ctx.set_materialize_grads(False)
        return y if branch is None else (added, y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        added, weight, bias, statistics = ctx.saved_tensors
        d_y = gradients[-1]
        if d_y is None:  # nobody read what was normalised
            d_y = torch.zeros_like(added)
        d_added = gradients[0] if ctx.has_branch else None
        d_x, d_branch = torch.empty_like(added), None
        if ctx.has_branch:
            d_branch = torch.empty_like(added, dtype=d_y.dtype)
        d_weight, d_bias = torch.zeros_like(weight), None
        if bias is not None:
            d_bias = torch.zeros_like(bias)
        of_y = _rows(d_y)
        _compiled.add_norm_backward(
            _rows(added)[:0] if d_added is None else _rows(d_added),
            of_y,
            _rows(added),
            _flat(weight),
            ctx.has_mean,
            *ctx.drop,
            *statistics.numpy(),
            _rows(d_x),
            of_y[:0] if d_branch is None else _rows(d_branch),
            _flat(d_weight),
            _some(d_bias),
        )
        return d_x, d_branch, d_weight, d_bias, None, None, None


def _add_norm(x: Tensor, branch: Tensor | None, norm: Norm, drop: Drop) -> tuple[Tensor, Tensor]:
    """A sum with a branch, float32 [B, T, C], and that normalised, as matrix products take it."""
    dtype = torch.get_autocast_dtype("cpu") if is_autocast(x) else x.dtype
    arguments = (x, branch, norm.weight, norm.bias, (norm.eps, not norm.is_rms), drop, dtype)
    found = _AddNorm.apply(*arguments)  # type: ignore[no-untyped-call]
    return (x, found) if branch is None else found


class _Dropout(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, drop: Drop) -> Tensor:
        y = torch.empty(x.shape)
        _compiled.dropout(_flat(x), *drop, _flat(y))
        ctx.drop = drop
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> Any:
        d_x = torch.empty(d_y.shape)
        _compiled.dropout(_flat(d_y), *ctx.drop, _flat(d_x))
        return d_x, None


# --- attention -----------------------------------------------------------------------------------


class _Attend(Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        q_weight: Tensor | None,
        k_weight: Tensor | None,
        eps: float,
        rotary: tuple[Tensor, Tensor],
        heads: tuple[int, int],
        drop: Drop,
    ) -> Tensor:
        batch, tokens, width = qkv.shape
        queries, keys = heads
        y = torch.empty(batch, tokens, width // (queries + 2 * keys) * queries, dtype=qkv.dtype)
        sums = torch.empty(batch, queries, tokens)
        weights = (_some(q_weight), _some(k_weight), np.float32(eps))
        ctx.shape = (tokens, keys, queries // keys, *weights, *map(_rows, rotary), *drop)
        _compiled.attend(_rows(qkv), *ctx.shape, _rows(y), _array(sums))
        ctx.save_for_backward(qkv, sums, q_weight, k_weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> Any:
        qkv, sums, *weights = ctx.saved_tensors
        d_qkv = torch.empty(qkv.shape, dtype=qkv.dtype)
        of_weights = [None if w is None else torch.zeros_like(w) for w in weights]
        arrays = (_rows(d_qkv), *map(_some, of_weights))
        _compiled.attend_backward(_rows(d_y), _rows(qkv), *ctx.shape, _array(sums), *arrays)
        return d_qkv, *of_weights, None, None, None, None


def _mix(block: Block, normed: Tensor, rotary: tuple[Tensor, Tensor] | None, drop: Drop) -> Tensor:
    """``Attention`` of normalised [B, T, C]."""
    attention, tokens = block.attention, normed.size(1)
    if tokens > LONGEST:
        mixed: Tensor = attention(normed, rotary, None)
        return mixed
    qkv = attention.qkv(normed)
    heads, keys, _ = attention.heads
    q_norm, k_norm = attention.q_norm, attention.k_norm
    if rotary is None:
        none = torch.empty(0, qkv.size(-1) // (heads + 2 * keys))
        rotary = none, none
    y = _Attend.apply(  # type: ignore[no-untyped-call]
        qkv,
        None if q_norm is None else q_norm.weight,
        None if k_norm is None else k_norm.weight,
        1.0 if q_norm is None else q_norm.eps,
        rotary,
        (heads, keys),
        drop,
    )
    out: Tensor = attention.out(y)
    return out


# --- feed-forward --------------------------------------------------------------------------------


class _Convolve(Function):
    """``ShortConvolution`` of normalised [B, T, C], by its weight [K, C]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        y = torch.empty(x.shape, dtype=x.dtype)
        _compiled.convolve(_rows(x), x.size(1), _rows(weight), _rows(y))
        ctx.save_for_backward(x, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        d_x, d_weight = torch.empty(x.shape, dtype=x.dtype), torch.zeros_like(weight)
        arrays = _rows(d_y), _rows(x), x.size(1), _rows(weight), _rows(d_x), _rows(d_weight)
        _compiled.convolve_backward(*arrays)
        return d_x, d_weight


class _Activate(Function):
    """An activation of one input, or of a gate and an input, as the config names it."""

    @staticmethod
    def forward(ctx: Any, setting: str, *inputs: Tensor) -> Tensor:
        y = torch.empty(inputs[0].shape, dtype=inputs[0].dtype)
        activate, ctx.activate_backward = _activation(setting)
        activate(*map(_flat, inputs), _flat(y))
        ctx.save_for_backward(*inputs)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> Any:
        inputs = ctx.saved_tensors
        gradients = [torch.empty(x.shape, dtype=x.dtype) for x in inputs]
        ctx.activate_backward(*map(_flat, (d_y, *inputs, *gradients)))
        return None, *gradients


def _transform(block: Block, normed: Tensor) -> Tensor:
    """``FeedForward`` of normalised [B, T, C]."""
    feedforward = block.feedforward
    inputs: tuple[Tensor, ...] = (feedforward.up(normed),)
    if feedforward.gate is not None:
        inputs = (feedforward.gate(normed), *inputs)
    hidden = _Activate.apply(feedforward.activation, *inputs)  # type: ignore[no-untyped-call]
    out: Tensor = feedforward.down(hidden)
    return out


# --- loss ----------------------------------------------------------------------------------------


class _CrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, soft: SoftTargets | None) -> Tensor:
        losses, d_logits = torch.empty(len(logits)), torch.empty(logits.shape, dtype=logits.dtype)
        _compiled.cross_entropy(_rows(logits), _flat(targets), _flat(losses), _rows(d_logits))
        if soft is not None:
            # Of w · (KL − cross-entropy of the label): w · (label − p) / N in each row.
            probabilities, weight = soft
            share = weight / len(logits)
            d_logits.sub_(probabilities.flatten(0, 1), alpha=share)
            of_labels = d_logits.new_full((len(logits), 1), share)
            d_logits.scatter_add_(1, targets[:, None], of_labels)
        ctx.save_for_backward(d_logits)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        if torch.is_grad_enabled():
            # All of the way back begins here.
            raise RuntimeError("compiled kernels have no second derivative; take Transformer.loss")
        (d_logits,) = ctx.saved_tensors
        return d_logits * gradient, None, None
