"""Gradients by hand against numerical ones, in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.models.positions import rotary_table
from shakespeare_tui.models.transformer import relu_squared, rms_norm, rotate


def doubles(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


@pytest.mark.parametrize("weight_shape", [(6,), (3, 6), (2, 1, 6)])
@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_rms_norm(weight_shape: tuple[int, ...], eps: float) -> None:
    x, weight = doubles(2, 3, 6), doubles(*weight_shape, seed=1)
    assert gradcheck(lambda a, b: rms_norm(a, b, eps), (x, weight))
    expected = F.rms_norm(x, (6,), None, eps) * weight
    torch.testing.assert_close(rms_norm(x, weight, eps), expected)


def test_rms_norm_of_zeros_is_finite() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    rms_norm(x, torch.ones(4), 1e-5).sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_relu_squared() -> None:
    x = doubles(3, 7)
    assert gradcheck(relu_squared, (x,))
    torch.testing.assert_close(relu_squared(x), torch.relu(x) ** 2)


def test_rotate() -> None:
    config = ModelConfig(d_model=12, n_heads=2, max_seq_len=5)
    cosines, sines = (torch.from_numpy(t).double()[:, None] for t in rotary_table(config))
    x = doubles(2, 5, 3, 6)
    assert gradcheck(lambda a: rotate(a, cosines, sines), (x,))
    rotated = rotate(x, cosines, sines)
    # Pairs turn: lengths stay, and position 0 stays as it is.
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotated[:, 0], x[:, 0])
    # As complex numbers: x · e^(i·position·frequency), whose sign convention is Qwen3's.
    frequency = 10000.0 ** -(torch.arange(3, dtype=torch.float64) / 3)
    angle = torch.arange(5, dtype=torch.float64)[:, None] * frequency
    turn = torch.polar(torch.ones_like(angle), angle)[:, None]
    turned = torch.complex(x[..., :3], x[..., 3:]) * turn
    torch.testing.assert_close(
        rotated, torch.cat((turned.real, turned.imag), -1), atol=1e-6, rtol=0
    )


def test_rotated_products_depend_on_distance_alone() -> None:
    config = ModelConfig(d_model=8, n_heads=1, max_seq_len=30)
    cosines, sines = (torch.from_numpy(t).double() for t in rotary_table(config))
    query, key = doubles(8), doubles(8, seed=1)

    def product(i: int, j: int) -> Tensor:
        return rotate(query, cosines[i], sines[i]) @ rotate(key, cosines[j], sines[j])

    torch.testing.assert_close(product(3, 1), product(29, 27), atol=1e-6, rtol=0)
