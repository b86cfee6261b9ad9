"""Muon: momentum whose matrices are orthogonalised before they are applied.

Source: Keller Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Quintic coefficients of the source, chosen there to inflate small singular values fastest.
_A, _B, _C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrices: Tensor, steps: int) -> Tensor:
    """Drive the singular values of each matrix towards 1 by Newton–Schulz iteration.

    Args:
        matrices: Stack of matrices, shape [N, rows, columns].
        steps: Iterations; five bring singular values into about [0.7, 1.2].

    Returns:
        A stack of the same shape.
    """
    is_tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if is_tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; matrices of one shape go through together.

    Args:
        params: Matrices. One that stacks several on its rows (a fused query-key-value projection)
            says so in its ``muon_parts`` attribute and is orthogonalised part by part.
        lr: Learning rate; an update has a spectral norm of about lr · max(1, rows/columns)^½.
        momentum: Decay of the momentum.
        steps: Newton–Schulz iterations.
        weight_decay: Decoupled decay, times ``lr``.
        dtype: Arithmetic of the iteration: bfloat16 is exact enough, but slow on many processors.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        steps: int = 5,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "steps": steps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply one update from the gradients in place."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parts = getattr(parameter, "muon_parts", 1)
                    by_shape[(parameter.size(0) // parts, parameter.size(1))].append(parameter)
            for (rows, columns), parameters in by_shape.items():
                updates = [self._direction(p, group["momentum"]) for p in parameters]
                stacked = torch.cat([u.view(-1, rows, columns) for u in updates])
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                directions = orthogonalise(stacked.to(self.dtype), group["steps"])
                offset = 0
                for parameter in parameters:
                    parts = parameter.size(0) // rows
                    update = directions[offset : offset + parts].reshape(parameter.shape)
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update.to(parameter.dtype), alpha=-rate)
                    offset += parts

    def _direction(self, parameter: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient, average = parameter.grad, state["momentum"]
        assert gradient is not None
        average.lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum)
