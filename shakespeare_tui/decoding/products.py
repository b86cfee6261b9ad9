"""Matrix products of few rows on the CPU, where reading the weights is what takes the time.

For one row, NumPy's matrix-vector product reads float32 weights two and a half times as fast as
torch's; from two rows on, oneDNN with weights in its own layout is the faster. Lower precisions are
faster in proportion to the bytes that they save.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shakespeare_tui.decoding.decoder import FloatArray, Precision

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
