"""Element-wise functions with gradients by hand.

On a CPU the passes over memory that autograd would make for these cost as much as the matrix
products of a small model. Each is checked against autograd in double precision.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable


def _apply(function: type[Function], *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.size(-1)).add_(eps).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(normed, weight, scale)
        scaled: Tensor = normed * weight
        return scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, weight, scale = ctx.saved_tensors
        product = gradient * normed
        weight_gradient = product.sum_to_size(weight.shape)
        mean = (product * weight if weight.dim() > 1 else product @ weight).div(normed.size(-1))
        mean = mean.sum(-1, keepdim=True) if weight.dim() > 1 else mean.unsqueeze(-1)
        x_gradient = (gradient * weight).addcmul_(normed, mean, value=-1).mul_(scale)
        return x_gradient, weight_gradient, None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm (arXiv:1910.07467): x / √(mean(x²) + eps) · weight over the last dimension.

    Args:
        x: Shape [..., D].
        weight: Shape [D], or any that broadcasts to the end of x's shape.
        eps: Added to the mean of squares.
    """
    if x.dtype != weight.dtype:
        x = x.to(weight.dtype)
    return _apply(_RmsNorm, x, weight, eps)


class _ReluSquared(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive: Tensor = torch.relu(x)
        ctx.save_for_backward(positive)
        squared: Tensor = positive * positive
        return squared

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        x_gradient: Tensor = (gradient * positive).mul_(2)
        return x_gradient


def relu_squared(x: Tensor) -> Tensor:
    """max(x, 0)² (arXiv:2109.08668)."""
    return _apply(_ReluSquared, x)


def _rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    swapped = x.roll(x.size(-1) // 2, dims=-1)
    return (x * cosines).addcmul_(swapped, sines)


class _Rotate(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _rotated(x, cosines, sines)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        # A rotation's transpose turns the other way.
        return _rotated(gradient, cosines, -sines), None, None


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Apply rotary embedding (arXiv:2104.09864) to the last dimension of ``x`` [..., D].

    Args:
        x: The two halves of D form the pairs that rotate.
        cosines: Broadcasts to ``x``; the same for both halves.
        sines: Broadcasts to ``x``; negative in the first half.
    """
    if x.dtype != cosines.dtype:
        cosines, sines = cosines.to(x.dtype), sines.to(x.dtype)
    return _apply(_Rotate, x, cosines, sines)
