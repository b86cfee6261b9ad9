"""The optimisers of PyTorch's backend: Adam, AdamW, SGD, SGDW and Muon."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from shakespeare_tui.config.schema import TrainingConfig
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.training.numpy_optimizers import NEWTON_SCHULZ, is_matrix, muon_parts


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
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


ForEach = Callable[[Sequence[Callable[[], None]]], object]


def one_by_one(tasks: Sequence[Callable[[], None]]) -> None:
    """Do them in their order."""
    for task in tasks:
        task()


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; matrices of one shape go through together.

    Source: Keller Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".

    Args:
        params: Matrices. One that stacks several on its rows (a fused query-key-value projection)
            says so in its ``muon_parts`` attribute and is orthogonalised part by part.
        lr: Learning rate; an update has a spectral norm of about lr · max(1, rows/columns)^½.
        momentum: Decay of the momentum.
        steps: Newton–Schulz iterations.
        weight_decay: Decoupled decay, times ``lr``.
        dtype: Arithmetic of the iteration: bfloat16 is exact enough, but slow on many processors.
        parts: Cut the matrices of one shape into so many stacks.
        for_each: Updates the stacks, one after the other or at once.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        steps: int = 5,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
        parts: int = 1,
        for_each: ForEach = one_by_one,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "steps": steps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self.dtype = dtype
        self._parts = parts
        self._for_each = for_each

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply one update from the gradients in place."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(parameter)
                    parts = getattr(parameter, "muon_parts", 1)
                    by_shape[(parameter.size(0) // parts, parameter.size(1))].append(parameter)
            stacks = [
                (shape, parameters[part :: self._parts])
                for shape, parameters in by_shape.items()
                for part in range(min(self._parts, len(parameters)))
            ]
            self._for_each([partial(self._update, group, *stack) for stack in stacks])

    @torch.no_grad()
    def _update(
        self, group: dict[str, Any], shape: tuple[int, int], parameters: Sequence[Tensor]
    ) -> None:
        """Update parameters made up of matrices of one shape."""
        rows, columns = shape
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
        gradient, average = parameter.grad, self.state[parameter]["momentum"]
        assert gradient is not None
        average.lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum)


class SGDW(torch.optim.SGD):
    """Stochastic gradient descent with decoupled weight decay (SGDW, arXiv:1711.05101).

    Args:
        groups: Groups of parameters, each with its ``weight_decay``.
        lr: Learning rate.
        momentum: Decay of the momentum, which the weight decay does not enter.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float) -> None:
        # What SGD itself calls weight decay is L2 regularisation.
        decays = [group["weight_decay"] for group in groups]
        super().__init__([group | {"weight_decay": 0.0} for group in groups], lr, momentum)
        for group, decay in zip(self.param_groups, decays, strict=True):
            group["decoupled_decay"] = decay

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply one update from the gradients in place."""
        for group in self.param_groups:
            if group["decoupled_decay"]:
                torch._foreach_mul_(group["params"], 1 - group["lr"] * group["decoupled_decay"])
        super().step()


def make_optimizers(
    model: Transformer,
    training: TrainingConfig,
    device: torch.device,
    *,
    has_coupled_decay: bool = False,
    parts: int = 1,
    for_each: ForEach = one_by_one,
) -> list[torch.optim.Optimizer]:
    """The optimisers of a config; every group remembers its ``peak_lr``.

    Matrices decay; norms, biases and convolutions do not. With Muon, the blocks' matrices go to
    Muon, and embeddings, output layer and the rest to AdamW.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    by_muon: dict[str, int] = {}
    if training.optimizer == "muon":
        by_muon = muon_parts({name: p.dim() for name, p in named.items()}, model.config)
    rest = {name: p for name, p in named.items() if name not in by_muon}
    decaying = [p for name, p in rest.items() if is_matrix(name, p.dim())]
    others = [p for name, p in rest.items() if not is_matrix(name, p.dim())]
    groups = [
        {"params": decaying, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers = [_make_base_optimizer(groups, training, device, has_coupled_decay)]
    if by_muon:
        for name, parts in by_muon.items():
            named[name].muon_parts = parts  # type: ignore[attr-defined]
        optimizers.append(
            Muon(
                [named[name] for name in by_muon],
                lr=training.muon_learning_rate,
                momentum=training.muon_momentum,
                steps=training.muon_steps,
                weight_decay=training.weight_decay,
                parts=parts,
                for_each=for_each,
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _make_base_optimizer(
    groups: list[dict[str, Any]],
    training: TrainingConfig,
    device: torch.device,
    has_coupled_decay: bool,
) -> torch.optim.Optimizer:
    rate = training.learning_rate
    if training.optimizer == "sgd":
        sgd = torch.optim.SGD if has_coupled_decay else SGDW
        return sgd(groups, lr=rate, momentum=training.momentum)
    is_coupled = training.optimizer == "adam" and has_coupled_decay
    adam = torch.optim.Adam if is_coupled else torch.optim.AdamW
    betas = (training.beta1, training.beta2)
    return adam(groups, lr=rate, betas=betas, fused=device.type in ("cpu", "cuda"))
