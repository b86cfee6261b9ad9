"""The optimisers of PyTorch's backend: Adam, AdamW, SGD, SGDW and Muon."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adam import adam

from shakespeare_tui.config.schema import TrainingConfig
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.training.numpy_optimizers import (
    NEWTON_SCHULZ,
    across_neurons,
    is_matrix,
    muon_parts,
)


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


Groups = list[dict[str, Any]]
State = defaultdict[Tensor, dict[str, Tensor]]


class Optimizer(Protocol):
    """Groups of parameters and what is remembered of each, as optimisers of ``torch.optim`` do.

    The base class there loads PyTorch's compiler: a second before the first step of every run.

    Attributes:
        param_groups: The groups with all their settings.
        state: By parameter, what is remembered of it, by names that checkpoints know.
        slots: These names, if anything is remembered.
    """

    param_groups: Groups
    state: State
    slots: tuple[str, ...]

    def step(self) -> None:
        """Apply one update from the gradients in place; a parameter without one stays."""


def _grouped(params: Iterable[Any], **settings: Any) -> Groups:
    """Parameters as one group, or dictionaries with ``params`` and settings of their own."""
    groups: list[Any] = list(params)
    if not isinstance(groups[0], dict):
        groups = [{"params": groups}]
    return [settings | group for group in groups]


Tasks = Sequence[Callable[[], None]]


def _each_group(groups: Groups, tasks: Callable[[dict[str, Any], list[Tensor]], Tasks]) -> Tasks:
    """The update of all parameters that have gradients, in pieces that need not wait."""
    found: list[Callable[[], None]] = []
    for group in groups:
        found += tasks(group, [p for p in group["params"] if p.grad is not None])
    return found


class Adam:
    """Adam (arXiv:1412.6980); with decoupled decay AdamW (arXiv:1711.05101).

    A table whose gradient is sparse, that of few rows, is updated by compiled code, all its rows as
    if the others had a gradient of 0; only with decoupled decay.

    Args:
        params: Parameters, or groups: dictionaries with ``params`` and settings of their own.
        lr: Learning rate.
        betas: Decays of both averages.
        weight_decay: Times ``lr``, or of L2 regularisation.
        eps: Added to the root of the mean square.
        is_decoupled: Whether the decay enters no average.
        parts: Into how many pieces a table is cut.
        for_each: Does the work of a step, piece by piece or at once.
    """

    slots: tuple[str, ...] = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        is_decoupled: bool = True,
        parts: int = 1,
        for_each: ForEach = one_by_one,
    ) -> None:
        self.param_groups = _grouped(params, lr=lr, weight_decay=weight_decay)
        self.state: State = defaultdict(dict)
        self._for_each = for_each
        self._betas, self._eps, self._is_decoupled = betas, eps, is_decoupled
        self._parts = parts
        # By its first average, which rows of a table have ever had a gradient.
        self._seen: dict[Tensor, NDArray[np.bool_]] = {}

    def step(self) -> None:
        """Apply one update from the gradients in place; a parameter without one stays."""
        self._for_each(_each_group(self.param_groups, self._tasks))

    @torch.no_grad()
    def _tasks(self, group: dict[str, Any], parameters: list[Tensor]) -> Tasks:
        dense, tables = list[Tensor](), list[Tensor]()
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
            is_sparse = parameter.grad is not None and parameter.grad.is_sparse
            (tables if is_sparse else dense).append(parameter)
        of_rows = (task for table in tables for task in self._tasks_of_rows(group, table))
        return [*of_rows, *([partial(self._update, group, dense)] if dense else [])]

    @torch.no_grad()
    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        steps, averages, squares = (
            [self.state[parameter][slot] for parameter in parameters] for slot in self.slots
        )
        gradients: list[Any] = [parameter.grad for parameter in parameters]
        adam(
            parameters,
            gradients,
            averages,
            squares,
            [],
            steps,
            lr=group["lr"],
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=group["weight_decay"],
            eps=self._eps,
            decoupled_weight_decay=self._is_decoupled,
            # One pass over all parameters, on every device.
            fused=True,
            amsgrad=False,
            maximize=False,
        )

    def _tasks_of_rows(self, group: dict[str, Any], table: Tensor) -> list[Callable[[], None]]:
        from shakespeare_tui.models.fused_kernels import adam_rows

        assert table.grad is not None
        step, average, square = (self.state[table][slot] for slot in self.slots)
        if average not in self._seen:
            self._seen = {average: ((average != 0) | (square != 0)).any(1).numpy()}
        step += 1
        beta1, beta2 = self._betas
        factors = (
            *(1 - beta1, beta2, 1 - beta2, 1 - group["lr"] * group["weight_decay"]),
            *(group["lr"] / (1 - beta1 ** int(step)), math.sqrt(1 - beta2 ** int(step)), self._eps),
        )
        arrays = (
            table.detach().numpy(),
            table.grad.indices()[0].numpy(),
            table.grad.values().numpy(),
            average.numpy(),
            square.numpy(),
            self._seen[average],
            np.array(factors, np.float32),
        )
        places = [len(table) * part // self._parts for part in range(self._parts + 1)]
        return [partial(adam_rows, *arrays, *ends) for ends in itertools.pairwise(places)]


_Shape = tuple[int, int, int]
"""Rows, columns and ``across_neurons`` of matrices that are updated together."""


class Muon:
    """Nesterov momentum, orthogonalised; matrices of one shape go through together.

    Source: Keller Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".

    Args:
        params: Matrices. One that stacks several on its rows (a fused query-key-value projection)
            says so in its ``muon_parts`` attribute and is orthogonalised part by part.
        lr: Learning rate; an update has a spectral norm of about lr · max(1, rows/columns)^½.
        momentum: Decay of the momentum.
        steps: Newton–Schulz iterations.
        beta2: Decay of the mean square of each neuron's updates, by which NorMuon
            (arXiv:2510.05491) divides them, so that none learns much faster than others; 0 does
            without.
        weight_decay: Decoupled decay, times ``lr``.
        dtype: Arithmetic of the iteration: bfloat16 is exact enough, but slow on many processors.
        parts: Cut the matrices of one shape into so many stacks.
        for_each: As of ``Adam``.
    """

    slots: tuple[str, ...] = ("momentum",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        steps: int = 5,
        beta2: float = 0.0,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
        parts: int = 1,
        for_each: ForEach = one_by_one,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "steps": steps, "beta2": beta2}
        self.param_groups = _grouped(params, weight_decay=weight_decay, **settings)
        self.state: State = defaultdict(dict)
        self._for_each = for_each
        if beta2:
            self.slots = ("momentum", "mean_square")
        self.dtype = dtype
        self._parts = parts

    def step(self) -> None:
        """Apply one update from the gradients in place; a parameter without one stays."""
        self._for_each(_each_group(self.param_groups, self._tasks))

    @torch.no_grad()
    def _tasks(self, group: dict[str, Any], parameters: list[Tensor]) -> Tasks:
        by_shape: dict[_Shape, list[Tensor]] = defaultdict(list)
        for parameter in parameters:
            parts = getattr(parameter, "muon_parts", 1)
            across = across_neurons(parameter.shape, parts)
            if not self.state[parameter]:
                self.state[parameter] = {"momentum": torch.zeros_like(parameter)}
                if group["beta2"]:
                    neurons = parameter.new_zeros(parameter.size(1 - across))
                    self.state[parameter]["mean_square"] = neurons
            shape = (parameter.size(0) // parts, parameter.size(1), across)
            by_shape[shape].append(parameter)
        stacks = [
            (shape, of_shape[part :: self._parts])
            for shape, of_shape in by_shape.items()
            for part in range(min(self._parts, len(of_shape)))
        ]
        return [partial(self._update, group, *stack) for stack in stacks]

    @torch.no_grad()
    def _update(self, group: dict[str, Any], shape: _Shape, parameters: list[Tensor]) -> None:
        """Update parameters made up of matrices of one shape."""
        rows, columns, across = shape
        gradients: list[Any] = [parameter.grad for parameter in parameters]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        # Nesterov's: a step ahead.
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"])
        stacked = torch.cat([update.view(-1, rows, columns) for update in updates])
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        directions = orthogonalise(stacked.to(self.dtype), group["steps"])
        if group["beta2"]:
            averages = [self.state[p]["mean_square"] for p in parameters]
            directions = _evened(directions.to(stacked.dtype), averages, across, group["beta2"])
        directions = directions.to(stacked.dtype)
        if isinstance(rate, Tensor):
            directions, rate = directions * rate, 1.0
        pieces = directions.split_with_sizes([p.size(0) // rows for p in parameters])
        shaped = [piece.reshape(p.shape) for piece, p in zip(pieces, parameters, strict=True)]
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, shaped, alpha=-rate)


def _evened(updates: Tensor, averages: list[Tensor], across: int, beta2: float) -> Tensor:
    """NorMuon's updates: neurons' as large as each other, and of the norm that Muon's have.

    Args:
        updates: Muon's, shape [N, rows, columns].
        averages: Mean squares of neurons, one vector for each parameter; brought up to date.
        across: ``across_neurons`` of the matrices.
        beta2: The averages' decay.
    """
    squares = updates.square().mean(across + 1).flatten()
    of_each = torch.split_with_sizes(squares, [len(average) for average in averages])
    torch._foreach_lerp_(averages, of_each, 1 - beta2)
    # [N · neurons] -> [N, neurons, 1], or [N, 1, neurons]
    mean_squares = torch.cat(averages).view(len(updates), -1).unsqueeze(across + 1)
    evened = updates / (mean_squares.sqrt() + 1e-8)
    norms, raised = (x.norm(dim=(1, 2), keepdim=True) for x in (updates, evened))
    evened *= norms / (raised + 1e-8)
    return evened


class SGD:
    """Stochastic gradient descent; with decoupled decay SGDW (arXiv:1711.05101).

    Args:
        params: As of ``Adam``.
        lr: Learning rate.
        momentum: Decay of the momentum.
        weight_decay: Times ``lr``, or of L2 regularisation.
        is_decoupled: Whether the decay does not enter the momentum.
        for_each: As of ``Adam``.
    """

    slots: tuple[str, ...] = ("momentum_buffer",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float,
        weight_decay: float = 0.0,
        is_decoupled: bool = True,
        for_each: ForEach = one_by_one,
    ) -> None:
        self.param_groups = _grouped(params, lr=lr, weight_decay=weight_decay)
        self.state: State = defaultdict(dict)
        self._for_each = for_each
        self._momentum, self._is_decoupled = momentum, is_decoupled

    def step(self) -> None:
        """Apply one update from the gradients in place; a parameter without one stays."""
        self._for_each(_each_group(self.param_groups, self._tasks))

    def _tasks(self, group: dict[str, Any], parameters: list[Tensor]) -> Tasks:
        return [partial(self._update, group, parameters)] if parameters else []

    @torch.no_grad()
    def _update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        updates: Any = [parameter.grad for parameter in parameters]
        if decay := group["weight_decay"]:
            if self._is_decoupled:
                torch._foreach_mul_(parameters, 1 - group["lr"] * decay)
            else:
                updates = torch._foreach_add(updates, parameters, alpha=decay)
        if self._momentum:
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}
            buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
            torch._foreach_mul_(buffers, self._momentum)
            torch._foreach_add_(buffers, updates)
            updates = buffers
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])


def make_optimizers(
    model: Transformer,
    training: TrainingConfig,
    *,
    has_coupled_decay: bool = False,
    parts: int = 1,
    for_each: ForEach = one_by_one,
) -> list[Optimizer]:
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
        {"params": decaying, "weight_decay": training.decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers = [_make_base_optimizer(groups, training, has_coupled_decay, parts, for_each)]
    if by_muon:
        for name, parts in by_muon.items():
            named[name].muon_parts = parts  # type: ignore[attr-defined]
        optimizers.append(
            Muon(
                [named[name] for name in by_muon],
                lr=training.muon_learning_rate,
                momentum=training.muon_momentum,
                steps=training.muon_steps,
                beta2=training.muon_beta2,
                weight_decay=training.decay,
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
    has_coupled_decay: bool,
    parts: int,
    for_each: ForEach,
) -> Optimizer:
    rate = training.learning_rate
    if training.optimizer == "sgd":
        is_decoupled = not has_coupled_decay
        return SGD(groups, rate, training.momentum, is_decoupled=is_decoupled, for_each=for_each)
    is_decoupled = training.optimizer != "adam" or not has_coupled_decay
    betas = (training.beta1, training.beta2)
    return Adam(groups, rate, betas, is_decoupled=is_decoupled, parts=parts, for_each=for_each)
