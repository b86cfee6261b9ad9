"""PyTorch's kernels for the CPU decoder, and models of PyTorch as the decoder takes them."""

import warnings
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shakespeare_tui.decoding.cpu_decoder import (
    Buffer,
    ModelArrays,
    PrepackedWeights,
    Product,
    prepack,
)
from shakespeare_tui.decoding.decoder import FloatArray, Precision
from shakespeare_tui.errors import never
from shakespeare_tui.models.transformer import Transformer

# Up to so many rows the int8 kernel is ahead; it reads the weights once for every few rows.
_MOST_INT8_ROWS = 8
_LARGEST_INT8 = 127
# It reads whole blocks of inputs and outputs, and past the end of what is not a multiple.
_INT8_BLOCK = (16, 32)
# A larger matrix is no longer in the processor's cache when its turn comes again.
_MOST_CACHED_WEIGHTS = 700_000
# Inputs of more than 7 bits would overflow in processors that add pairs of products in 16 bits.
_LARGEST_INPUT = 63
_ZERO_INPUT = 64
_HAS_FBGEMM = "fbgemm" in torch.backends.quantized.supported_engines

_gelu: Any = torch.ops.aten.gelu_.default
_attention: Any = torch.nn.functional.scaled_dot_product_attention
_silu: Any = torch.ops.aten.silu_.default
# The kernel itself: what torch.ops puts around it for weights of this kind takes longer than it.
_int8_linear: Any = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default._op


class TorchKernels:
    """Products by oneDNN, in lower precisions too, and fused attention; see ``Kernels``."""

    @torch.inference_mode()
    def product(self, weight: FloatArray, bias: FloatArray | None, precision: Precision) -> Product:
        """The product with ``weight`` [N, K] and the addition of ``bias`` [N] in a precision."""
        weights = torch.from_numpy(weight)
        biases = None if bias is None else torch.from_numpy(bias)
        if precision == "bfloat16":
            return _Bfloat16Product(weights, biases)
        if precision == "int8":
            is_large = weights.numel() > _MOST_CACHED_WEIGHTS and _HAS_FBGEMM
            return (_LargeInt8Product if is_large else _Int8Product)(weights, biases)
        return _Float32Product(weights, biases)

    def attend(
        self, queries: FloatArray, keys: FloatArray, values: FloatArray, start: int
    ) -> FloatArray:
        """See ``Kernels``."""
        mask = torch.ones(queries.shape[2], keys.shape[2], dtype=torch.bool).tril_(start)
        mixed: FloatArray = _attention(
            *(torch.from_numpy(part) for part in (queries, keys, values)),
            attn_mask=mask,
            scale=1.0,
            enable_gqa=keys.shape[1] != queries.shape[1],
        ).numpy()
        return mixed

    def gelu(self, x: Buffer) -> None:
        """See ``Kernels``."""
        _gelu(x.tensor, approximate="tanh")

    def silu(self, x: Buffer, columns: int) -> None:
        """See ``Kernels``."""
        _silu(x.tensor[:, :columns])

    def reading(self) -> AbstractContextManager[Any]:
        """Keeps the autocast of a training under way out of the products here."""
        if not torch.is_autocast_enabled("cpu"):
            return torch.inference_mode()
        stack = ExitStack()
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        return stack


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


def _int8_scales(weight: Tensor) -> Tensor:
    """What 1 stands for in each row [N] of a weight [N, K] of 8 bits."""
    return weight.abs().amax(1).clamp_(min=torch.finfo(torch.float32).tiny) / _LARGEST_INT8


class _Int8Product:
    """Weights rounded to 8 bits, a scale for each output; inputs in bfloat16.

    No row's result hangs on the rows beside it, as it would with 8-bit inputs of a common scale.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._scales = _int8_scales(weight).bfloat16()
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


class _LargeInt8Product:
    """Weights of 8 bits by FBGEMM, whose order of them is read faster than a matrix by rows.

    A row of inputs is taken as two of 7 bits with a common scale, what it is rounded to and what is
    left: together more exact than bfloat16, in one pass over the weights. No row's result hangs on
    the rows beside it.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        scales = _int8_scales(weight)
        whole = (weight / scales[:, None]).round_().to(torch.int8)
        with warnings.catch_warnings():
            # Such tensors are to go in a later PyTorch than the one that is required.
            warnings.simplefilter("ignore", UserWarning)
            quantized = torch._make_per_channel_quantized_tensor(
                whole, scales.double(), torch.zeros(len(scales), dtype=torch.long), 0
            )
        self._weight = torch.ops.quantized.linear_prepack(quantized, None)
        self._bias = None if bias is None else bias.numpy()

    def __call__(self, x: Buffer, out: Buffer) -> None:
        count = len(x.array)
        both = Buffer(2 * count, x.array.shape[1])
        rounded, rest = both.array[:count], both.array[count:]
        scale = np.abs(x.array).max(axis=1, keepdims=True)
        scale *= np.float32(1 / _LARGEST_INPUT)
        np.maximum(scale, np.finfo(np.float32).tiny, out=scale)
        np.divide(x.array, scale, out=rest)
        np.rint(rest, out=rounded)
        rest -= rounded
        # It is half a unit at most.
        rest *= np.float32(2 * _LARGEST_INPUT)
        products = _int8_linear(both.tensor, 1.0, _ZERO_INPUT, self._weight).numpy()
        np.multiply(products[count:], np.float32(0.5 / _LARGEST_INPUT), out=out.array)
        out.array += products[:count]
        out.array *= scale
        if self._bias is not None:
            out.array += self._bias


def arrays_of(model: Transformer) -> ModelArrays:
    """A model of float32 on the CPU; the arrays share its memory."""
    weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    return ModelArrays(model.config, weights, model.context, model.embedding_scale)


def can_prepack(model: Transformer) -> bool:
    """Whether the model is one for ``prepacked``: float32, on the CPU."""
    weight = model.embedding.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32


_Checksums = tuple[int, ...]
_MOST_BYTES_KEPT = 1_000_000_000
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
            return prepack(arrays_of(model), precision, cancelled, kernels=TorchKernels())
        # By value: not all that changes weights leaves a trace in PyTorch's version numbers.
        checksums = tuple(int(parameter.view(torch.int32).sum()) for parameter in parameters)
        kept = _kept.setdefault(model, {})
        if precision not in kept or kept[precision][0] != checksums:
            # What is out of date goes first: large models would otherwise be there twice as often.
            kept.pop(precision, None)
            kept[precision] = (
                checksums,
                prepack(arrays_of(model), precision, cancelled, kernels=TorchKernels()),
            )
        return kept[precision][1]


def forget_prepacked(model: Transformer) -> None:
    """Give up what is kept of a model whose weights are about to change."""
    _kept.pop(model, None)
