"""Muon against the singular value decomposition that it approximates."""

import pytest
import torch
from torch import Tensor, nn

from shakespeare_tui.training.optimizers import Muon, orthogonalise


def stack(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def polar_factor(matrix: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 16, 48), (2, 48, 16), (1, 1, 9)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, ...]) -> None:
    matrices = stack(*shape)
    before = matrices.clone()
    result = orthogonalise(matrices, steps=5)
    assert result.shape == matrices.shape
    assert torch.equal(matrices, before)
    for matrix, orthogonal in zip(matrices, result, strict=True):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        # In the original's singular bases the result is diagonal: only the values have changed.
        diagonal = left.T @ orthogonal @ right.T
        off = diagonal - torch.diag(torch.diagonal(diagonal))
        assert off.abs().max() < 1e-2
        # Values that are not minute beside the largest have come into the band of the source.
        reached = torch.diagonal(diagonal)[values > 0.05 * values.norm()]
        assert reached.numel()
        assert reached.min() > 0.65 and reached.max() < 1.25


def test_more_steps_raise_the_smaller_singular_values() -> None:
    matrix = stack(1, 32, 32)
    smallest = [torch.linalg.svdvals(orthogonalise(matrix, n)[0]).min().item() for n in (1, 3, 5)]
    assert smallest == sorted(smallest)


def test_zero_gradient_gives_no_update() -> None:
    assert torch.equal(orthogonalise(torch.zeros(2, 4, 6), 5), torch.zeros(2, 4, 6))


def stepped(parameter: nn.Parameter, gradient: Tensor, **settings: float) -> Tensor:
    """The change that one step makes."""
    before = parameter.detach().clone()
    parameter.grad = gradient.clone()
    Muon([parameter], lr=0.1, **settings).step()  # type: ignore[arg-type]
    return parameter.detach() - before


def test_step_is_along_the_polar_factor() -> None:
    gradient = stack(12, 30)
    change = stepped(nn.Parameter(stack(12, 30, seed=1)), gradient, steps=10)
    target = -0.1 * polar_factor(gradient)
    cosine = torch.cosine_similarity(change.flatten(), target.flatten(), dim=0)
    assert cosine > 0.95
    assert change.norm().item() == pytest.approx(target.norm().item(), rel=0.15)


def test_tall_matrices_take_larger_steps() -> None:
    tall = stepped(nn.Parameter(torch.zeros(64, 16)), stack(64, 16), steps=10)
    wide = stepped(nn.Parameter(torch.zeros(16, 64)), stack(64, 16).T.contiguous(), steps=10)
    torch.testing.assert_close(tall, 2 * wide.T, rtol=1e-3, atol=1e-5)


def test_stacked_parts_are_orthogonalised_apart() -> None:
    gradient = stack(36, 12)
    stacked = nn.Parameter(torch.zeros(36, 12))
    stacked.muon_parts = 3  # type: ignore[attr-defined]
    change = stepped(stacked, gradient)
    parts = [stepped(nn.Parameter(torch.zeros(12, 12)), part) for part in gradient.chunk(3)]
    torch.testing.assert_close(change, torch.cat(parts), rtol=1e-4, atol=1e-6)
    whole = stepped(nn.Parameter(torch.zeros(36, 12)), gradient)
    assert not torch.allclose(change, whole, atol=1e-2)


def test_matrices_of_one_shape_do_not_mix() -> None:
    gradients = [stack(8, 8, seed=s) for s in (1, 2, 3)]
    together = [nn.Parameter(torch.zeros(8, 8)) for _ in gradients]
    for parameter, gradient in zip(together, gradients, strict=True):
        parameter.grad = gradient
    Muon(together, lr=0.1).step()
    for parameter, gradient in zip(together, gradients, strict=True):
        alone = stepped(nn.Parameter(torch.zeros(8, 8)), gradient)
        torch.testing.assert_close(parameter.detach(), alone, rtol=1e-4, atol=1e-6)


def test_momentum_is_nesterov_and_decay_is_decoupled() -> None:
    first, second = stack(6, 6, seed=1), stack(6, 6, seed=2)
    parameter = nn.Parameter(torch.eye(6))
    optimizer = Muon([parameter], lr=0.1, momentum=0.9, weight_decay=0.5, steps=10)
    average, expected = torch.zeros(6, 6), torch.eye(6)
    for gradient in (first, second):
        parameter.grad = gradient.clone()
        optimizer.step()
        average = 0.9 * average + 0.1 * gradient
        direction = orthogonalise((0.1 * gradient + 0.9 * average)[None], 10)[0]
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * direction
    torch.testing.assert_close(parameter.detach(), expected, rtol=1e-3, atol=1e-4)


def test_parameters_without_gradient_stay() -> None:
    parameter = nn.Parameter(torch.ones(4, 4))
    Muon([parameter], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(parameter.detach(), torch.ones(4, 4))


@pytest.mark.parametrize("is_tall", [True, False])
def test_neurons_learn_evenly_as_far_as_the_matrix_did(is_tall: bool) -> None:
    # One has a hundred times the gradient of the others, one has none.
    gradient = stack(30, 12)
    gradient[0] *= 100
    gradient[1] = 0
    if not is_tall:
        gradient = gradient.T.contiguous()
    plain = stepped(nn.Parameter(torch.zeros_like(gradient)), gradient)
    even = stepped(nn.Parameter(torch.zeros_like(gradient)), gradient, beta2=0.9)
    assert even.norm().item() == pytest.approx(plain.norm().item(), rel=1e-4)
    if not is_tall:
        plain, even = plain.T, even.T
    lengths = even.norm(dim=1)
    assert lengths[1] == 0
    torch.testing.assert_close(lengths[2:], lengths[0].expand(28), rtol=1e-4, atol=0)
    # Each goes where Muon sends it.
    cosines = torch.cosine_similarity(even, plain, dim=1)
    torch.testing.assert_close(cosines[2:], torch.ones(28))


def test_neurons_are_evened_by_their_mean_squares_part_by_part() -> None:
    # Parts wider than high, as keys of few heads are, stack neurons on rows all the same; a matrix
    # of their shape beside them does not.
    parameter, other = nn.Parameter(torch.zeros(8, 6)), nn.Parameter(torch.zeros(4, 6))
    parameter.muon_parts = 2  # type: ignore[attr-defined]
    optimizer = Muon([parameter, other], lr=0.1, momentum=0.0, beta2=0.8)
    average, expected = torch.zeros(2, 4), torch.zeros(2, 4, 6)
    for seed in (1, 2, 3):
        parameter.grad, other.grad = stack(8, 6, seed=seed), stack(4, 6, seed=seed)
        optimizer.step()
        update = orthogonalise(parameter.grad.view(2, 4, 6), 5)
        average = 0.8 * average + 0.2 * (update**2).mean(2)
        even = update / average[..., None] ** 0.5
        for part in (0, 1):
            expected[part] -= 0.1 * even[part] * update[part].norm() / even[part].norm()
    torch.testing.assert_close(parameter.detach().view(2, 4, 6), expected, rtol=1e-4, atol=1e-5)
    assert [len(optimizer.state[p]["mean_square"]) for p in (parameter, other)] == [8, 6]
