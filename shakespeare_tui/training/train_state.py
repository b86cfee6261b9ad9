"""The seam between the training loop and the library that computes: what a backend must provide.

The loop knows progress, commands, evaluations, samples, checkpoints and events; it sees the model
only through a ``TrainState``, whose windows and weights are NumPy arrays. PyTorch implements it in
``torch_state``, NumPy in ``numpy_state``. Shapes: B batch, T tokens of a window.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.config.schema import Config
from shakespeare_tui.decoding.decoder import Decoder
from shakespeare_tui.decoding.factory import Model
from shakespeare_tui.errors import RunFailedError, never
from shakespeare_tui.models.parameters import layer_of
from shakespeare_tui.runs.folder import Checkpoint, RunInfo
from shakespeare_tui.training.evaluate import LossModel

Arrays = dict[str, NDArray[Any]]

PRECISIONS = ("float32", "bfloat16")
"""Types of matrix products in training."""


class WorkerLostError(RunFailedError):
    """Another process that trains the run has ended; the weights here are whole."""


@dataclass(frozen=True)
class LayerNorms:
    """What a step did to each layer; the lists are those of ``LayerStatistics``."""

    layers: list[str]
    grad_norms: list[float | None]
    update_ratios: list[float | None]


def layer_norms(
    parameters: Sequence[str],
    gradients: Sequence[float],
    updates: Sequence[float],
    weights: Sequence[float],
) -> LayerNorms:
    """Put the norms of parameters together to those of their layers.

    Args:
        parameters: The names of those that learn, in the order of the forward pass.
        gradients: ‖g‖₂ of each.
        updates: ‖Δw‖₂ of each.
        weights: ‖w‖₂ of each, before the update.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(parameters):
        places[layer_of(name)].append(place)

    def norms(parts: Sequence[float]) -> list[float]:
        return [math.hypot(*(parts[place] for place in of_layer)) for of_layer in places.values()]

    ratios = [
        update / weight if weight else None
        for update, weight in zip(norms(updates), norms(weights), strict=True)
    ]
    return LayerNorms([*places], [*norms(gradients)], ratios)


@dataclass(frozen=True)
class StepResult:
    """Loss in nats per token, gradient norm before clipping, and whether weights were changed.

    ``layers`` is there where it was asked for and they were.
    """

    loss: float
    grad_norm: float
    applied: bool
    layers: LayerNorms | None = None


@dataclass(frozen=True)
class StepTime:
    """Seconds of a pass over a micro-batch, forward and backward, and of an update."""

    pass_seconds: float
    update_seconds: float


@dataclass(frozen=True, kw_only=True)
class StateArrays:
    """All that a training state holds, on its way to or from a checkpoint.

    Attributes:
        weights: What generates: the averaged weights where such are kept. Where only a part
            learns, that part, and of low-rank products ``MODULE.lora_a`` and ``MODULE.lora_b``.
        rest: ``optimizer.INDEX.PARAMETER.SLOT``, ``rng.DEVICE``, and beside averaged weights
            ``raw.PARAMETER``, which training goes on from.
        ema_updates: Updates that the averaged weights have seen.
        frozen: The weights that do not learn: a run's checkpoints share them. Those of matrices
            with products are without these.
        lora_scale: Factor on low-rank products.
    """

    weights: Arrays
    rest: Arrays
    ema_updates: int = 0
    frozen: Arrays = field(default_factory=dict)
    lora_scale: float = 0.0

    @property
    def whole(self) -> Arrays:
        """All weights of the model that generates, as one of any origin has them."""
        return merged(self.weights, dict(self.frozen), self.lora_scale)


def merged(weights: Arrays, frozen: Arrays, lora_scale: float) -> Arrays:
    """All weights of a model of which only a part learned, low-rank products in their matrices.

    Args:
        weights: As of ``StateArrays``.
        frozen: Likewise; it is emptied, not to hold what is replaced.
        lora_scale: Likewise.

    Raises:
        ValueError: A product does not fit its matrix.
    """
    found = {name: array for name, array in weights.items() if not is_product(name)}
    while frozen:
        name, array = frozen.popitem()
        module = name.removesuffix(".weight")
        if (first := weights.get(f"{module}.lora_a")) is not None:
            second = weights.get(f"{module}.lora_b")
            if second is None:
                raise ValueError(f"{module}.lora_a has nothing to go with")
            array = array + np.float32(lora_scale) * (second @ first)
        found[name] = array
    return found


def is_product(name: str) -> bool:
    """Whether an array is a factor of a low-rank product."""
    return name.endswith((".lora_a", ".lora_b"))


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What decides how a backend rounds.

    Attributes:
        backend: ``torch`` or ``numpy``.
        device: Its type: ``cpu``, ``cuda`` or ``mps``.
        threads: Of matrix products on the CPU; another number rounds otherwise.
        library: The library's version.
        processor: Its vector instructions; others round otherwise.
        processes: How many share each batch; another number rounds otherwise.
    """

    backend: str
    device: str
    threads: int
    library: str
    processor: str
    processes: int = 1


def averaging_decay(decay: float, updates: int) -> float:
    """How much of the averaged weights an update leaves, ``updates`` counted with it.

    Early on it is less than ``decay``, so that the random start does not linger.
    """
    return min(decay, (1 + updates) / (10 + updates))


class TrainState(Protocol):
    """A model in training: weights, optimisers, averaged weights and random generators.

    Attributes:
        precision: Type of the matrix products of a step, one of ``PRECISIONS``.
    """

    precision: str

    def step(
        self,
        windows: Sequence[NDArray[np.int64]],
        rate_factor: float,
        *,
        soft_targets: Sequence[NDArray[np.float16]] = (),
        measures_layers: bool = False,
    ) -> StepResult:
        """Learn from windows [B, T + 1], one a micro-batch.

        A step whose loss or gradient is not finite is not applied, or leaves a state that is not
        sound until a checkpoint is loaded. After an error the random generators are where they were
        before, so that the step can be made again.

        Args:
            windows: Inputs and targets in one.
            rate_factor: Multiplier of every peak learning rate.
            soft_targets: The probabilities that teachers give to all tokens at the windows' places,
                [B, T, V] for each window, up to a factor of each row; ``training.distill_weight``
                says how much is learned from them. The loss that is told is of the windows alone.
            measures_layers: Whether to tell what it did to each layer, which changes nothing of
                it and takes memory for one more copy of the weights that learn.
        """

    def rehearse(self, window: NDArray[np.int64]) -> StepTime:
        """Make a step of one micro-batch [B, T + 1] that leaves everything as it was.

        An update of rate 0 is part of it where the optimisers remember nothing yet; else it is left
        out, and takes no time.
        """

    def averaged(self, *, is_exact: bool = True) -> AbstractContextManager[LossModel]:
        """The model with its averaged weights, as it is where none are kept, inside the block.

        Args:
            is_exact: Compute in float32, whatever training's precision.
        """

    def decoder(self, cancelled: Callable[[], bool]) -> AbstractContextManager[Decoder]:
        """A decoder of one stream with the averaged weights, inside the block.

        Raises:
            CancelledError: ``cancelled``, polled while weights are copied, became true.
        """

    def is_sound(self) -> bool:
        """Whether no update was cut short half-way, and every weight is a number."""

    def arrays(self) -> StateArrays:
        """What a checkpoint saves; on the CPU it may share memory with the state."""

    def load(
        self, arrays: StateArrays, checkpoint: Checkpoint, cancelled: Callable[[], bool]
    ) -> None:
        """Go on exactly where ``arrays``, from ``checkpoint``, were saved.

        Raises:
            UserError: They do not fit, or hold weights that are not finite.
            CancelledError: ``cancelled``, polled between arrays, became true.
        """

    def load_weights(self, weights: Arrays, origin: str, cancelled: Callable[[], bool]) -> None:
        """Begin with other weights.

        Raises:
            UserError: Those from ``origin`` do not fit, or are not finite.
            CancelledError: ``cancelled``, polled between arrays, became true.
        """


class Backend(Protocol):
    """A library on the device that a config names, before and beside any model."""

    def arithmetic(self) -> Arithmetic:
        """What losses depend on up to rounding."""

    def device_name(self) -> str:
        """The device for people: ``cpu (2 threads)`` or the card's name."""

    def free_memory(self) -> int | None:
        """Bytes that are free where weights live; None where the system does not tell."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that an allocation failed."""

    def training_threads(self) -> AbstractContextManager[None]:
        """Train on the calling thread with all threads; work beside it keeps to its share."""

    def prepare(
        self,
        config: Config,
        report: Callable[[str, int, int | None], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Get ready what takes a while, once in a process, before a run is trained.

        Args:
            config: Of the run.
            report: Told what goes on, how much of it is done, and of how much.
            cancelled: Polled meanwhile.

        Raises:
            CancelledError: ``cancelled`` became true.
        """

    def new_state(self, config: Config, info: RunInfo, cancelled: Callable[[], bool]) -> TrainState:
        """A new run's state, everything in it drawn from the config's seed.

        Raises:
            CancelledError: ``cancelled`` became true.
        """

    def empty_state(
        self, config: Config, info: RunInfo, cancelled: Callable[[], bool]
    ) -> TrainState:
        """A state of the same shape, to be loaded.

        Raises:
            CancelledError: ``cancelled`` became true.
        """

    def load_model(self, checkpoint: Checkpoint, cancelled: Callable[[], bool] = never) -> Model:
        """A checkpoint's model, to be evaluated and decoded with.

        Raises:
            UserError: The checkpoint is damaged, foreign or does not fit into memory.
            CancelledError: ``cancelled``, polled between arrays, became true.
        """
