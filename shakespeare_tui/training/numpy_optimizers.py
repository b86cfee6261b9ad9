"""The optimisers of the NumPy backend: Adam, AdamW, SGD and Muon, step by step as PyTorch's.

Each has its formula in its docstring: w a weight, g its gradient, η the learning rate, λ the weight
decay. Updates are in place and in the weights' type.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.config.schema import ModelConfig, TrainingConfig
from shakespeare_tui.models.compiling import replaceable

Array = NDArray[Any]
ForEach = Callable[[Sequence[Any], Callable[[Any], Any]], list[Any]]
"""Does something with each of several things, maybe on several threads; what it gave, in order."""


def in_turn(items: Sequence[Any], work: Callable[[Any], Any]) -> list[Any]:
    """One after the other, on the calling thread."""
    return [work(item) for item in items]


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Quintic coefficients of Muon's source, chosen there to inflate small singular values fastest."""


@dataclass
class Group:
    """Weights that are updated alike.

    Attributes:
        weights: By name; changed in place.
        decay: λ.
        is_coupled: Let λ w join the gradient (L2 regularisation) instead of shrinking w by itself.
    """

    weights: dict[str, Array]
    decay: float
    is_coupled: bool = False

    def decayed(self, name: str, gradient: Array, rate: float) -> Array:
        """Shrink the weight by η λ, or give the gradient with λ w in it."""
        if self.decay and self.is_coupled:
            return gradient + self.weights[name] * self.decay
        if self.decay:
            self.weights[name] *= 1 - rate * self.decay
        return gradient


class Optimizer(Protocol):
    """What the training state asks of an optimiser.

    Attributes:
        peak_rate: The learning rate that schedules scale.
        groups: The weights that it owns.
        state: ``NAME.SLOT`` to an array, as in checkpoints, from the first step on.
        slots: Names of what it remembers of each weight.
    """

    peak_rate: float
    groups: list[Group]
    state: dict[str, Array]
    slots: tuple[str, ...]

    def step(self, gradients: Mapping[str, Array], rate: float) -> None:
        """Apply one update from the gradients."""


class Adam:
    """Adam (arXiv:1412.6980); with decoupled decay AdamW (arXiv:1711.05101).

    m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²;
    w ← w − η m̂ / (√v̂ + ε), with m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ).

    Args:
        groups: What to update.
        rate: Peak learning rate.
        beta1: β₁.
        beta2: β₂.
        epsilon: ε.
        for_each: Goes over the weights.
    """

    slots: tuple[str, ...] = ("step", "exp_avg", "exp_avg_sq")

    def __init__(
        self,
        groups: list[Group],
        rate: float,
        beta1: float,
        beta2: float,
        epsilon: float = 1e-8,
        for_each: ForEach = in_turn,
    ) -> None:
        self.groups, self.peak_rate, self._for_each = groups, rate, for_each
        self.state: dict[str, Array] = {}
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon

    def step(self, gradients: Mapping[str, Array], rate: float) -> None:
        """Apply one update from the gradients."""
        owned = [(group, name) for group in self.groups for name in group.weights]
        for group, name in owned:
            if f"{name}.step" not in self.state:
                self.state[f"{name}.step"] = np.zeros((), np.float32)
                self.state[f"{name}.exp_avg"] = np.zeros_like(group.weights[name])
                self.state[f"{name}.exp_avg_sq"] = np.zeros_like(group.weights[name])

        def update(group_and_name: tuple[Group, str]) -> None:
            group, name = group_and_name
            gradient = group.decayed(name, gradients[name], rate)
            step, mean, square = (self.state[f"{name}.{slot}"] for slot in self.slots)
            step += 1
            adam_update(
                group.weights[name],
                gradient,
                mean,
                square,
                self._beta1,
                self._beta2,
                rate / (1 - self._beta1 ** int(step)),
                math.sqrt(1 - self._beta2 ** int(step)),
                self._epsilon,
            )

        self._for_each(owned, update)


@replaceable
def adam_update(
    weight: Array,
    gradient: Array,
    mean: Array,
    square: Array,
    beta1: float,
    beta2: float,
    rate: float,
    root: float,
    epsilon: float,
) -> None:
    """Adam's formula in place, with ``rate`` η / (1 − β₁ᵗ) and ``root`` √(1 − β₂ᵗ)."""
    scratch = gradient - mean
    scratch *= 1 - beta1
    mean += scratch
    square *= beta2
    np.multiply(gradient, gradient, out=scratch)
    scratch *= 1 - beta2
    square += scratch
    np.sqrt(square, out=scratch)
    scratch /= root
    scratch += epsilon
    np.divide(mean, scratch, out=scratch)
    scratch *= rate
    weight -= scratch


class SGD:
    """Stochastic gradient descent with momentum: b ← μ b + g, w ← w − η b.

    With decoupled decay, SGDW (arXiv:1711.05101): the decay does not enter the momentum.

    Args:
        groups: What to update.
        rate: Peak learning rate.
        momentum: μ; 0 keeps nothing of gradients before.
    """

    def __init__(self, groups: list[Group], rate: float, momentum: float) -> None:
        self.groups, self.peak_rate = groups, rate
        self.slots: tuple[str, ...] = ("momentum_buffer",) if momentum else ()
        self.state: dict[str, Array] = {}
        self._momentum = momentum

    def step(self, gradients: Mapping[str, Array], rate: float) -> None:
        """Apply one update from the gradients."""
        for group in self.groups:
            for name, weight in group.weights.items():
                update = group.decayed(name, gradients[name], rate)
                if self._momentum:
                    buffer = self.state.setdefault(f"{name}.momentum_buffer", np.zeros_like(weight))
                    buffer *= self._momentum
                    buffer += update
                    update = buffer
                weight -= update * rate


class Muon:
    """Nesterov momentum, orthogonalised, matrix by matrix.

    m ← μ m + (1 − μ) g, u = μ m + (1 − μ) g; w ← w − η √max(1, rows/columns) · orthogonalise(u).
    Source: Keller Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    With β₂, NorMuon (arXiv:2510.05491): what is for one neuron of the orthogonalised update o is
    divided by √v of v ← β₂ v + (1 − β₂) mean(o²), and the whole brought back to the norm of o.

    Args:
        group: Matrices.
        parts: Into how many of equal height a matrix is cut before it is orthogonalised, by name.
        rate: Peak learning rate.
        momentum: μ.
        steps: Newton–Schulz iterations.
        beta2: β₂; 0 is Muon.
        for_each: Goes over the matrices.
    """

    def __init__(
        self,
        group: Group,
        parts: Mapping[str, int],
        rate: float,
        momentum: float,
        steps: int,
        beta2: float = 0.0,
        for_each: ForEach = in_turn,
    ) -> None:
        self.groups, self.peak_rate, self._for_each = [group], rate, for_each
        self.slots: tuple[str, ...] = ("momentum", "mean_square") if beta2 else ("momentum",)
        self.state: dict[str, Array] = {}
        self._parts, self._momentum, self._steps, self._beta2 = parts, momentum, steps, beta2

    def step(self, gradients: Mapping[str, Array], rate: float) -> None:
        """Apply one update from the gradients."""
        (group,) = self.groups
        for name, weight in group.weights.items():
            self.state.setdefault(f"{name}.momentum", np.zeros_like(weight))
            if self._beta2:
                across = across_neurons(weight.shape, self._parts[name])
                neurons = np.zeros(weight.shape[1 - across], weight.dtype)
                self.state.setdefault(f"{name}.mean_square", neurons)

        def update(name: str) -> None:
            weight = group.weights[name]
            # [parts · rows, columns] -> [parts, rows, columns]
            direction = self._direction(name, gradients[name])
            stacked = direction.reshape(self._parts[name], -1, weight.shape[1])
            update = orthogonalise(stacked, self._steps)
            if self._beta2:
                across = across_neurons(weight.shape, self._parts[name])
                update = self._evened(name, update, across)
            update *= rate * math.sqrt(max(1.0, stacked.shape[1] / stacked.shape[2]))
            weight *= 1 - rate * group.decay
            weight -= update.reshape(weight.shape)  # [parts, rows, columns] -> [O, I]

        self._for_each(list(group.weights), update)

    def _direction(self, name: str, gradient: Array) -> Array:
        average = self.state[f"{name}.momentum"]
        average += (gradient - average) * (1 - self._momentum)
        direction: Array = average - gradient
        direction *= self._momentum
        direction += gradient
        return direction

    def _evened(self, name: str, update: Array, across: int) -> Array:
        """[parts, rows, columns], neurons' as large as each other, with the norms it had."""
        average = self.state[f"{name}.mean_square"]
        average *= self._beta2
        average += (1 - self._beta2) * np.square(update).mean(across + 1).ravel()
        roots = np.expand_dims(np.sqrt(average).reshape(len(update), -1), across + 1)
        evened: Array = update / (roots + 1e-8)
        norms, raised = (np.linalg.norm(x, axis=(1, 2), keepdims=True) for x in (update, evened))
        evened *= norms / (raised + 1e-8)
        return evened


def orthogonalise(matrices: Array, steps: int) -> Array:
    """Drive the singular values of each matrix [N, rows, columns] towards 1 by Newton–Schulz.

    Args:
        matrices: A stack.
        steps: Iterations; five bring singular values into about [0.7, 1.2].
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.swapaxes(1, 2) if is_tall else matrices
    x = x / (np.sqrt((x * x).sum((1, 2), keepdims=True)) + x.dtype.type(1e-7))
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        gram = x @ x.swapaxes(1, 2)
        polynomial = gram @ gram
        polynomial *= c
        polynomial += b * gram
        x = a * x + polynomial @ x
    updates: Array = x.swapaxes(1, 2) if is_tall else x
    return updates


def muon_parts(weights: Mapping[str, int], model: ModelConfig) -> dict[str, int]:
    """The weights that Muon takes, the blocks' matrices, and how many each stacks on its rows.

    Args:
        weights: The number of dimensions of each.
        model: The shape.
    """
    # As high as keys and as values are; three where all have as many heads.
    stacked = model.n_heads // model.key_heads + 2
    return {
        name: stacked if name.endswith("qkv.weight") else 1
        for name, dimensions in weights.items()
        if is_matrix(name, dimensions) and name.startswith("blocks.")
    }


def across_neurons(shape: Sequence[int], parts: int) -> int:
    """The dimension of a matrix that one neuron's weights lie along.

    In the wide one that a feed-forward network ends with, a column is what a hidden neuron puts
    out; taking these, losses are lower than by rows (docs/benchmarks.md).
    """
    return 1 if parts > 1 or shape[0] >= shape[1] else 0


def is_matrix(name: str, dimensions: int) -> bool:
    """Whether a weight decays, as matrices do: norms, biases and convolutions do not."""
    return dimensions >= 2 and not name.endswith("convolution.weight")


def make_optimizers(
    weights: Mapping[str, Array],
    model: ModelConfig,
    training: TrainingConfig,
    *,
    has_coupled_decay: bool = False,
    for_each: ForEach = in_turn,
) -> list[Optimizer]:
    """The optimisers of a config, in the order of PyTorch's, which checkpoints number them by.

    Matrices decay, vectors (norms, biases) do not. With Muon, the blocks' matrices go to Muon, and
    embeddings, output layer and vectors to AdamW.
    """
    parts: dict[str, int] = {}
    if training.optimizer == "muon":
        parts = muon_parts({name: weight.ndim for name, weight in weights.items()}, model)
    rest = {name: weight for name, weight in weights.items() if name not in parts}
    is_coupled = has_coupled_decay and training.optimizer in ("adam", "sgd")
    matrices = {name: weight for name, weight in rest.items() if is_matrix(name, weight.ndim)}
    vectors = {name: weight for name, weight in rest.items() if name not in matrices}
    groups = [Group(matrices, training.decay, is_coupled), Group(vectors, 0.0)]
    rate = training.learning_rate
    optimizers: list[Optimizer] = []
    if training.optimizer == "sgd":
        optimizers.append(SGD(groups, rate, training.momentum))
    else:
        adam = Adam(groups, rate, training.beta1, training.beta2, for_each=for_each)
        optimizers.append(adam)
    if parts:
        group = Group({name: weights[name] for name in parts}, training.decay)
        momentum, steps = training.muon_momentum, training.muon_steps
        rate, beta2 = training.muon_learning_rate, training.muon_beta2
        optimizers.append(Muon(group, parts, rate, momentum, steps, beta2, for_each))
    return optimizers
