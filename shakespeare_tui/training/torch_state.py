"""PyTorch's backend: the model with its optimisers on a device, as the training loop drives it."""

import contextlib
import logging
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shakespeare_tui.config.schema import Config, TrainingConfig
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
from shakespeare_tui.decoding.decoder import Decoder
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.decoding.torch_decoder import TorchDecoder, forget_packed
from shakespeare_tui.errors import CancelledError, UserError, check_cancelled, never
from shakespeare_tui.machine import has_bf16_products, keep_freed_memory
from shakespeare_tui.models import transformer
from shakespeare_tui.models.compiling import compile_kernels, numba_version
from shakespeare_tui.models.parameters import MOST_COPIED
from shakespeare_tui.models.transformer import Transformer, on_device
from shakespeare_tui.runs.folder import Checkpoint, RunInfo
from shakespeare_tui.training.checkpoints import (
    check_weights,
    optimizer_arrays,
    reading_weights,
)
from shakespeare_tui.training.device import (
    DTYPES,
    LEAST_GAIN,
    allow_tf32,
    cuda_has_bf16,
    describe_device,
    free_memory,
    is_out_of_memory,
    measure_bf16_speedup,
    measured_precision,
    remembered_precision,
    resolve_device,
    synchronise,
)
from shakespeare_tui.training.optimizers import Adam, Muon, make_optimizers, one_by_one
from shakespeare_tui.training.step_graph import StepGraph
from shakespeare_tui.training.threads import default_threads, set_own_threads, training_threads
from shakespeare_tui.training.train_state import (
    PRECISIONS,
    Arithmetic,
    Arrays,
    LayerNorms,
    StateArrays,
    StepResult,
    StepTime,
    averaging_decay,
    is_product,
    layer_norms,
)

T = TypeVar("T")
_logger = logging.getLogger(__name__)

# Parameters times tokens of a pass that is timed: a fraction of a second, beside other work too.
_MOST_MEASURED = 4e9

# Threads that share Python's lock: for more, the rest of the processor shares out matrix products.
_MOST_PARTS = 4

# By then optimisers remember something, and libraries have chosen their kernels.
STEPS_BEFORE_GRAPH = 3


@dataclass(frozen=True)
class GlobalGenerator:
    """A global source of random numbers: its state's name in checkpoints, and access to it."""

    name: str
    get: Callable[[], Tensor]
    set: Callable[[Tensor], object]


def generators_of(device: torch.device) -> list[GlobalGenerator]:
    """The generators that training on a device draws from."""
    generators = [GlobalGenerator("rng.cpu", torch.get_rng_state, torch.set_rng_state)]
    if device.type == "cuda":
        get = partial(torch.cuda.get_rng_state, device)
        generators.append(
            GlobalGenerator("rng.cuda", get, lambda s: torch.cuda.set_rng_state(s, device))
        )
    elif device.type == "mps":
        generators.append(
            GlobalGenerator("rng.mps", torch.mps.get_rng_state, torch.mps.set_rng_state)
        )
    return generators


def generator_states(generators: Sequence[GlobalGenerator]) -> dict[str, Tensor]:
    """The state of each by its name."""
    return {generator.name: generator.get() for generator in generators}


def restore_generators(state: Mapping[str, Tensor], generators: Sequence[GlobalGenerator]) -> None:
    """Put generators back to their states; one whose device was another then is left alone.

    Raises:
        KeyError: The processor's state, which every checkpoint has, is missing.
    """
    for generator in generators:
        if generator.name in state or generator.name == "rng.cpu":
            generator.set(state[generator.name])


# --- learning less than the whole model -----------------------------------------------------------

_LORA_MATRICES: dict[str, tuple[str, ...]] = {
    "attention": ("attention.qkv", "attention.out"),
    "feedforward": ("feedforward.gate", "feedforward.up", "feedforward.down"),
}
_LORA_MATRICES["all"] = _LORA_MATRICES["attention"] + _LORA_MATRICES["feedforward"]
"""The modules of a block by the words of ``training.lora_matrices``."""


class LoraLinear(nn.Linear):
    """A linear layer W x + (α / r) B A x, of which only A [r, in] and B [out, r] learn.

    Low-rank adaptation (LoRA, arXiv:2106.09685).

    Args:
        linear: The layer whose weights it takes over.
        rank: r.
        alpha: α.
        generator: Source of A; B is zero, so that nothing changes at first.
    """

    def __init__(
        self, linear: nn.Linear, rank: int, alpha: float, generator: torch.Generator
    ) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta", bias=False)
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = alpha / rank
        self.is_merged = False
        drawn = torch.randn(rank, self.in_features, generator=generator) / self.in_features**0.5
        self.lora_a = nn.Parameter(drawn.to(self.weight.device))
        self.lora_b = nn.Parameter(self.weight.new_zeros(self.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` [..., in] to [..., out]."""
        if self.is_merged:
            # Made for this pass alone: all such matrices together are as large as the model.
            return nn.functional.linear(x, self.merged(), self.bias)
        y = nn.functional.linear(x, self.weight, self.bias)
        return (
            y + nn.functional.linear(nn.functional.linear(x, self.lora_a), self.lora_b) * self.scale
        )

    @torch.no_grad()
    def merged(self) -> Tensor:
        """The matrix that does the same by itself, [out, in]."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return torch.addmm(self.weight, self.lora_b, self.lora_a, alpha=self.scale)


def add_lora(
    model: Transformer, rank: int, alpha: float, matrices: str, generator: torch.Generator
) -> dict[str, LoraLinear]:
    """Freeze a model and put layers that learn in the place of some; by their names."""
    model.requires_grad_(False)
    added = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name.endswith(_LORA_MATRICES[matrices]):
            parent, _, own = name.rpartition(".")
            added[name] = LoraLinear(module, rank, alpha, generator)
            setattr(model.get_submodule(parent), own, added[name])
    return added


def freeze_all_but_last(model: Transformer, blocks: int) -> None:
    """Let only the last blocks and the norm after them learn."""
    model.requires_grad_(False)
    for block in list(model.blocks)[-blocks:]:
        block.requires_grad_(True)
    model.norm.requires_grad_(True)


def published_parameters(model: Transformer) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that any model of this shape has, by name."""
    for name, parameter in model.named_parameters():
        if not is_product(name):
            yield name, parameter


# --- training -------------------------------------------------------------------------------------


class Passes(Protocol):
    """Forward passes of training, and what other processes that train the model add to them."""

    def loss(
        self, tokens: Tensor, targets: Tensor, soft: transformer.SoftTargets | None = None
    ) -> Tensor:
        """Mean cross-entropy of ``targets`` [B, T] after ``tokens`` [B, T], to go backward from.

        With soft targets the way back is that of ``transformer.learning_from``.
        """

    def accumulating(self) -> contextlib.AbstractContextManager[None]:
        """Passes in the block are not the last of their step."""

    def agreed(self, values: Tensor) -> Tensor:
        """What all processes go by, of what each has found: [N]."""


class OwnPasses:
    """Those of one process.

    Args:
        model: The model.
    """

    def __init__(self, model: Transformer) -> None:
        self.loss = model.loss

    def accumulating(self) -> contextlib.AbstractContextManager[None]:
        """Passes in the block are not the last of their step."""
        return contextlib.nullcontext()

    def agreed(self, values: Tensor) -> Tensor:
        """``values``: there is nobody to agree with."""
        return values


class TorchTrainState:
    """A model in training: gradients, clipping, optimisers, averaged weights.

    Args:
        model: On its device, in training mode.
        training: The config's section.
        device: The model's device.
        precision: Type of matrix products under autocast, one of ``PRECISIONS``.
        has_coupled_decay: Let adam and sgd decay weights as runs of format 1 do.
        make_passes: Makes the model's passes, once it is known what of it learns.
        parts: Compute gradients by compiled kernels, of so many parts of a batch in a thread each;
            they are added in their order, so that a step does not depend on which was faster. 0
            leaves all to PyTorch.

    Attributes:
        reads_late: Whether updates are on their way before it is known whether the loss is finite.
            One that should not have been applied spoils the weights until a checkpoint is loaded.
    """

    def __init__(
        self,
        model: Transformer,
        training: TrainingConfig,
        device: torch.device,
        precision: str = "float32",
        *,
        has_coupled_decay: bool = False,
        make_passes: Callable[[Transformer], Passes] = OwnPasses,
        parts: int = 0,
    ) -> None:
        self.model = model
        self.device = device
        self._parts = parts
        self._pool: ThreadPoolExecutor | None = None
        if parts:
            threads = max(1, default_threads() // parts)
            self._pool = ThreadPoolExecutor(parts, "step", set_own_threads, (threads,))
        self._seed = training.seed
        self._lora: dict[str, LoraLinear] = {}
        if training.lora_rank:
            drawn = torch.Generator().manual_seed(training.seed)
            self._lora = add_lora(
                model, training.lora_rank, training.lora_alpha, training.lora_matrices, drawn
            )
        elif training.train_blocks is not None:
            freeze_all_but_last(model, training.train_blocks)
        self._passes = make_passes(model)
        self.optimizers = make_optimizers(
            model,
            training,
            has_coupled_decay=has_coupled_decay,
            parts=max(1, parts),
            for_each=one_by_one if self._pool is None else partial(_at_once, self._pool),
        )
        if parts and model.ngrams is not None:
            # Of tens of thousands of rows a step reads hundreds; the others have no gradient.
            model.ngrams.sparse = isinstance(self.optimizers[0], Adam)
        # Steps that are still made kernel by kernel; None where all are.
        self._steps_to_graph: int | None = None
        self._graph: StepGraph | None = None
        self.precision = precision
        self._generators = generators_of(device)
        # False while an update has changed some of the weights and not yet all.
        self._is_whole = True
        self.reads_late = device.type == "cuda"
        if device.type == "cuda" and self._can_be_captured(training):
            self.capture_steps()
        self._grad_clip = training.grad_clip or math.inf
        self._distill_weight = training.distill_weight
        # Those that learn.
        learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._names = [*learning]
        self._parameters: list[Tensor] = [*learning.values()]
        self._ema_decay = training.ema_decay
        self.ema = [p.detach().clone() for p in self._parameters] if self._ema_decay else []
        self._ema_updates = 0

    def _can_be_captured(self, training: TrainingConfig) -> bool:
        """Whether nothing in a step waits for the processor, or for other processes."""
        takes_rates = all(isinstance(optimizer, Adam | Muon) for optimizer in self.optimizers)
        # Blocks that are computed a second time set the generators back.
        is_plain = isinstance(self._passes, OwnPasses) and not training.grad_checkpointing
        return takes_rates and is_plain

    def capture_steps(self) -> None:
        """Make all steps but the first few by ``StepGraph``, as CUDA devices can."""
        self._steps_to_graph = STEPS_BEFORE_GRAPH
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = torch.tensor(group["lr"], device=self.device)

    def _forget_graph(self) -> None:
        """Capture anew, after some steps: what optimisers remember is made at the first of them."""
        self._graph = None
        if self._steps_to_graph is not None:
            self._steps_to_graph = STEPS_BEFORE_GRAPH

    @property
    def precision(self) -> str:
        """Type of matrix products: of the passes under autocast, and of Muon's iteration."""
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        self._precision = precision
        self._forget_graph()
        for optimizer in self.optimizers:
            if isinstance(optimizer, Muon):
                optimizer.dtype = DTYPES[precision]

    def autocast(self) -> torch.autocast:
        """The context of forward passes in the chosen precision."""
        dtype, is_enabled = DTYPES[self.precision], self.precision != "float32"
        # Without the cache, which threads would share: a weight is used once a pass.
        is_cached = self._pool is None
        return torch.autocast(
            self.device.type, dtype=dtype, enabled=is_enabled, cache_enabled=is_cached
        )

    # --- steps -------------------------------------------------------------------------------

    def step(
        self,
        windows: Sequence[NDArray[np.int64]],
        rate_factor: float,
        *,
        soft_targets: Sequence[NDArray[np.float16]] = (),
        measures_layers: bool = False,
    ) -> StepResult:
        """Learn from windows [B, T + 1], one a micro-batch; see ``TrainState.step``.

        Reading loss and norm is the step's only synchronisation; reading what was measured of
        layers is another. Where ``reads_late``, it waits for no update: while the device makes it,
        the next batch is cut.
        """
        batches = [on_device(window, self.device) for window in windows]
        soft = [on_device(each, self.device).float() for each in soft_targets]
        soft = [each / each.sum(-1, keepdim=True) for each in soft]
        drawn = generator_states(self._generators)
        try:
            return self._step(batches, rate_factor, soft, measures_layers)
        except BaseException:
            # Should the weights be whole, the step can be made again with the same dropout.
            restore_generators(drawn, self._generators)
            self._forget_gradients()
            raise

    def _step(
        self,
        batches: Sequence[Tensor],
        rate_factor: float,
        soft_targets: Sequence[Tensor],
        measures_layers: bool,
    ) -> StepResult:
        graph = self._graph_of(batches, soft_targets)
        if graph is None:
            total, norm = self._gradients(batches, soft_targets)
        else:
            total, norm = graph.gradients(batches, soft_targets)
        probe = _LayerProbe(self._names, self._parameters) if measures_layers else None
        read = _reading(self._passes.agreed(torch.stack((total, norm))))
        applied = self.reads_late or _is_finite(read())
        layers = None
        if applied:
            self._is_whole = False
            self._set_rates(rate_factor)
            if graph is None:
                self._update(norm)
            else:
                graph.update()
            layers = probe.read() if probe is not None else None
            self._average()
            applied = self._is_whole = _is_finite(read())
        self._forget_gradients()
        return StepResult(*read(), applied, layers if applied else None)

    def _graph_of(
        self, batches: Sequence[Tensor], soft_targets: Sequence[Tensor]
    ) -> StepGraph | None:
        """The step as a graph, once a few have been made; None: launch its kernels singly."""
        if self._steps_to_graph is None:
            return None
        if self._steps_to_graph:
            self._steps_to_graph -= 1
            return None
        if self._graph is None:
            self._graph = self._captured(batches, soft_targets)
        fits = self._graph is not None and self._graph.fits(batches, soft_targets)
        return self._graph if fits else None

    def _captured(
        self, batches: Sequence[Tensor], soft_targets: Sequence[Tensor] = ()
    ) -> StepGraph | None:
        """A step as a graph; where it cannot be one, nor is any later step."""
        parts = self._gradients, self._update, self._parameters
        try:
            return StepGraph(*parts, batches, soft_targets)
        except RuntimeError:
            _logger.exception("a step could not be captured; kernels are launched singly")
            self._steps_to_graph = None
            return None

    def _gradients(
        self, batches: Sequence[Tensor], soft_targets: Sequence[Tensor] = ()
    ) -> tuple[Tensor, Tensor]:
        """The mean loss and the norm of its gradient, which parameters then have."""
        total = self._backward(batches, soft_targets)
        norm = self._alone(lambda: nn.utils.get_total_norm(_numbers_of_gradients(self._parameters)))
        return total, norm

    def _backward(self, batches: Sequence[Tensor], soft_targets: Sequence[Tensor] = ()) -> Tensor:
        """The mean loss of micro-batches [B, T + 1]; parameters then have gradients.

        Those are the loss's, or with soft targets [B, T, V] of each what is learned from both.
        """
        if self._pool is not None:
            return self._backward_by_parts(self._pool, batches, soft_targets)
        total = torch.zeros((), device=self.device)
        for number, batch in enumerate(batches, 1):
            is_last = number == len(batches)
            soft = (soft_targets[number - 1], self._distill_weight) if soft_targets else None
            with contextlib.nullcontext() if is_last else self._passes.accumulating():
                with self.autocast():
                    loss = self._passes.loss(batch[:, :-1], batch[:, 1:], soft) / len(batches)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _backward_by_parts(
        self,
        pool: ThreadPoolExecutor,
        batches: Sequence[Tensor],
        soft_targets: Sequence[Tensor] = (),
    ) -> Tensor:
        from shakespeare_tui.models import fused

        # Drawn before the threads begin: it does not matter which is faster.
        shape = (self._parts, len(batches), fused.keys_of(self.model.config))
        is_dropping = self.model.config.dropout and self.model.training
        drawn = torch.randint(2**63 - 1, shape).tolist() if is_dropping else None

        def learn(part: int) -> tuple[Tensor, list[Tensor]]:
            total, gradients = torch.zeros(()), list[Tensor]()
            for place, batch in enumerate(batches):
                rows = batch.tensor_split(self._parts)[part]
                if len(rows):
                    soft = None
                    if soft_targets:
                        taught = soft_targets[place].tensor_split(self._parts)[part]
                        soft = taught, self._distill_weight
                    with self.autocast():
                        keys = drawn and drawn[part][place]
                        loss = fused.loss(self.model, rows[:, :-1], rows[:, 1:], keys, soft)
                    loss = loss * (len(rows) / len(batch) / len(batches))
                    found = torch.autograd.grad(loss, self._parameters)
                    total += loss.detach()
                    if gradients:
                        torch._foreach_add_(gradients, found)
                    else:
                        gradients = [*found]
            return total, gradients

        tasks = [partial(learn, part) for part in range(self._parts)]
        (total, gradients), *others = _at_once(pool, tasks)

        def add() -> None:
            for other, more in others:
                total.add_(other)
                if more:
                    torch._foreach_add_(gradients, more)
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient.coalesce() if gradient.is_sparse else gradient

        self._alone(add)
        return total

    def _alone(self, task: Callable[[], T]) -> T:
        """What a task returns; by one of the threads of parts, where there are such.

        Those do without threads of their own, which would wait for each other in small work.
        """
        if self._pool is None:
            return task()
        (result,) = _at_once(self._pool, [task])
        return result

    def _set_rates(self, factor: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                rate = group["peak_lr"] * factor
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate

    def _update(self, norm: Tensor) -> None:
        """Clip gradients of this norm, and apply them."""

        def clip() -> None:
            gradients = _numbers_of_gradients(self._parameters)
            torch._foreach_mul_(gradients, (self._grad_clip / (norm + 1e-6)).clamp(max=1.0))

        self._alone(clip)
        for optimizer in self.optimizers:
            optimizer.step()

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def rehearse(self, window: NDArray[np.int64]) -> StepTime:
        """Time a step that leaves everything as it was; see ``TrainState.rehearse``."""
        batch = on_device(window, self.device)
        drawn = generator_states(self._generators)
        is_fresh = not any(optimizer.state for optimizer in self.optimizers)
        synchronise(self.device)
        began = time.perf_counter()
        try:
            _, norm = self._gradients([batch])
            synchronise(self.device)
            passed = time.perf_counter()
            if is_fresh and bool(norm.isfinite()):
                self._set_rates(0.0)
                self._update(norm)
                synchronise(self.device)
            ended = time.perf_counter()
            self._forget_gradients()
            # Nearly all steps of a run are made so.
            is_graph = is_fresh and self._steps_to_graph and bool(norm.isfinite())
            if is_graph and (graph := self._captured([batch])):
                synchronise(self.device)
                began = time.perf_counter()
                graph.gradients([batch], ())
                synchronise(self.device)
                passed = time.perf_counter()
                graph.update()
                synchronise(self.device)
                ended = time.perf_counter()
            return StepTime(passed - began, ended - passed)
        finally:
            restore_generators(drawn, self._generators)
            self._forget_gradients()
            if is_fresh:
                for optimizer in self.optimizers:
                    optimizer.state.clear()

    @torch.no_grad()
    def _average(self) -> None:
        if not self.ema:
            return
        self._ema_updates += 1
        decay = averaging_decay(self._ema_decay, self._ema_updates)
        torch._foreach_lerp_(self.ema, self._parameters, 1 - decay)

    def gradient_pass(self, window: Tensor, precision: str) -> None:
        """A forward and backward pass that changes nothing, to measure its time."""
        before, self._precision = self._precision, precision
        try:
            if self._pool is not None:
                self._backward_by_parts(self._pool, [window])
            else:
                with self.autocast():
                    loss = self.model.loss(window[:, :-1], window[:, 1:])
                torch.autograd.grad(loss, self._parameters)
        finally:
            self._precision = before
            self._forget_gradients()

    def is_sound(self) -> bool:
        """Whether no update was cut short half-way, and every weight is a number."""
        return self._is_whole and all(bool(p.isfinite().all()) for p in self._parameters)

    # --- the model as others use it ----------------------------------------------------------

    @contextlib.contextmanager
    def averaged(self, *, is_exact: bool = True) -> Iterator[Transformer]:
        """The model with its averaged weights in place; as it is where none are kept."""
        for layer in self._lora.values():
            layer.is_merged = True
        try:
            with self._averages(), contextlib.nullcontext() if is_exact else self.autocast():
                yield self.model
        finally:
            for layer in self._lora.values():
                layer.is_merged = False

    @contextlib.contextmanager
    def _averages(self) -> Iterator[None]:
        own = [parameter.data for parameter in self._parameters]
        for parameter, average in zip(self._parameters, self.ema, strict=False):
            parameter.data = average
        try:
            yield
        finally:
            for parameter, data in zip(self._parameters, own, strict=True):
                parameter.data = data

    @contextlib.contextmanager
    def decoder(self, cancelled: Callable[[], bool] = never) -> Iterator[Decoder]:
        """A decoder of one stream with the averaged weights, inside the block."""
        self.model.eval()
        try:
            with self._averages():
                if self._lora or self._bytes() > MOST_COPIED:
                    yield TorchDecoder(self.model, 1)
                else:
                    yield make_decoder(self.model, 1, cancelled=cancelled)
        finally:
            forget_packed(self.model)
            self.model.train()

    def _bytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.model.parameters())

    # --- to and from checkpoints -------------------------------------------------------------

    def arrays(self) -> StateArrays:
        """What a checkpoint saves; on the CPU it shares memory with the state."""
        rest = generator_states(self._generators)
        named = dict(self.model.named_parameters())
        names = {id(parameter): name for name, parameter in named.items()}
        for index, optimizer in enumerate(self.optimizers):
            for parameter, slots in optimizer.state.items():
                for slot, value in slots.items():
                    if isinstance(value, Tensor):
                        rest[f"optimizer.{index}.{names[id(parameter)]}.{slot}"] = value
        weights: dict[str, Tensor] = dict(published_parameters(self.model))
        if self.ema:
            # What generates is the average; training goes on from these.
            learned = [name for name, parameter in named.items() if parameter.requires_grad]
            rest |= {f"raw.{name}": named[name] for name in learned}
            weights |= zip(learned, self.ema, strict=True)
        frozen = {n: weights.pop(n) for n in [*weights] if not named[n].requires_grad}
        weights |= {name: named[name] for name in named if is_product(name)}
        return StateArrays(
            weights=_arrays(weights),
            rest=_arrays(rest),
            ema_updates=self._ema_updates,
            frozen=_arrays(frozen),
            lora_scale=next((layer.scale for layer in self._lora.values()), 0.0),
        )

    def load(
        self, arrays: StateArrays, checkpoint: Checkpoint, cancelled: Callable[[], bool] = never
    ) -> None:
        """Go on exactly where ``arrays``, from ``checkpoint``, were saved."""
        origin, weights_origin = str(checkpoint.state_path), str(checkpoint.weights_path)
        raw = {n.removeprefix("raw."): a for n, a in arrays.rest.items() if n.startswith("raw.")}
        weights = arrays.frozen | arrays.weights
        # Older checkpoints have the products, and the matrices without them, with the rest.
        products = {n: a for n, a in (arrays.rest | weights).items() if is_product(n)}
        weights = {name: array for name, array in weights.items() if name not in products}
        if bool(raw or products) != bool(self.ema or self._lora):
            changed = "ema_decay or lora_rank" if self._lora or not self.ema else "ema_decay"
            raise UserError(f"{origin} does not fit training.{changed}; it was changed since")
        self.load_weights(weights | raw, weights_origin, cancelled)
        if self.ema:
            check_weights(weights, _shapes(self.model), weights_origin)
            learned = [n for n, p in self.model.named_parameters() if p.requires_grad]
            for average, name in zip(self.ema, learned, strict=True):
                average.copy_(torch.from_numpy(weights[name]))
            self._ema_updates = arrays.ema_updates
        self._load_lora(products, origin)
        self._load_optimizers(arrays.rest, origin)
        self._is_whole = True
        if "rng.numpy" in arrays.rest:
            # Of the other backend's, nothing can be made here: dropout is drawn anew.
            torch.manual_seed(self._seed + checkpoint.info.step)
            return
        try:
            states = {
                n: torch.from_numpy(a) for n, a in arrays.rest.items() if n.startswith("rng.")
            }
            restore_generators(states, self._generators)
        except (KeyError, RuntimeError, TypeError) as error:
            raise UserError(f"{origin} has no usable random state: {error}") from None

    def load_weights(
        self, weights: Arrays, origin: str, cancelled: Callable[[], bool] = never
    ) -> None:
        """Begin with other weights, which come from ``origin``."""
        load_weights(self.model, weights, origin, cancelled)

    @torch.no_grad()
    def _load_lora(self, arrays: Arrays, origin: str) -> None:
        for module, layer in self._lora.items():
            for name, parameter in (("lora_a", layer.lora_a), ("lora_b", layer.lora_b)):
                array = arrays.get(f"{module}.{name}")
                if array is None or array.shape != parameter.shape:
                    raise UserError(f"{origin} does not fit training.lora_rank or its matrices")
                parameter.copy_(torch.from_numpy(array))

    def _load_optimizers(self, arrays: Arrays, origin: str) -> None:
        named = dict(self.model.named_parameters())
        names = {id(parameter): name for name, parameter in named.items()}
        self._forget_graph()
        for index, optimizer in enumerate(self.optimizers):
            optimizer.state.clear()
            owned = [p for group in optimizer.param_groups for p in group["params"]]
            shapes = {names[id(parameter)]: tuple(parameter.shape) for parameter in owned}
            found = optimizer_arrays(arrays, index, shapes, optimizer.slots, origin)
            for key, array in found.items():
                name, _, slot = key.rpartition(".")
                parameter = named[name]
                optimizer.state[parameter][slot] = torch.tensor(array, device=parameter.device)


Figures = tuple[float, float]
"""Loss and norm of the gradient."""


def _is_finite(figures: Figures) -> bool:
    return all(map(math.isfinite, figures))


def _reading(values: Tensor) -> Callable[[], Figures]:
    """Reads two numbers; on a GPU it waits for what was begun before now, and no longer."""
    ready = None
    if values.device.type == "cuda":
        there = torch.empty(2, pin_memory=True)
        stream = torch.cuda.current_stream(values.device)
        values = there.copy_(values, non_blocking=True)
        ready = stream.record_event()

    def read() -> Figures:
        if ready is not None:
            ready.synchronize()
        loss, norm = values.tolist()
        return loss, norm

    return read


class _LayerProbe:
    """Measures an update, from after its gradients are there until it is made.

    Args:
        names: Of the parameters that learn.
        parameters: These, with their gradients, not clipped yet.
    """

    @torch.no_grad()
    def __init__(self, names: Sequence[str], parameters: list[Tensor]) -> None:
        self._names, self._parameters = names, parameters
        gradients = _numbers_of_gradients(parameters)
        self._norms = [torch._foreach_norm(gradients), torch._foreach_norm(parameters)]
        self._before = [parameter.clone() for parameter in parameters]

    @torch.no_grad()
    def read(self) -> LayerNorms:
        """What the update did; waits for it on a GPU."""
        torch._foreach_sub_(self._before, self._parameters)
        norms = [*self._norms, torch._foreach_norm(self._before)]
        gradients, weights, updates = torch.stack([torch.stack(each) for each in norms]).tolist()
        return layer_norms(self._names, gradients, updates, weights)


def _numbers_of_gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients there are; of a sparse one, the rows that it is of."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    return [gradient.values() if gradient.is_sparse else gradient for gradient in gradients]


def _at_once(pool: ThreadPoolExecutor, tasks: Sequence[Callable[[], T]]) -> list[T]:
    """What tasks return, in their order; all have ended then, also by an error of one."""
    started = [pool.submit(task) for task in tasks]
    wait(started)
    return [future.result() for future in started]


def _precisions(config: Config) -> Sequence[str]:
    """Those that a run on this processor may have."""
    setting = config.training.precision
    if setting != "auto":
        return (setting,)
    return PRECISIONS if has_bf16_products() else ("float32",)


def _arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


def _shapes(model: Transformer) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in published_parameters(model)}


class TorchBackend:
    """PyTorch on a device.

    Args:
        device: As ``training.device`` names it.
        make_passes: Makes the passes of a model in training.

    Raises:
        UserError: The device is not there.
    """

    def __init__(
        self, device: str, make_passes: Callable[[Transformer], Passes] = OwnPasses
    ) -> None:
        keep_freed_memory()
        allow_tf32()
        self.device = resolve_device(device)
        self._make_passes = make_passes
        # Of numba, where kernels were compiled with it.
        self._compiler: str | None = None

    def arithmetic(self) -> Arithmetic:
        """What losses depend on up to rounding."""
        compiler = [] if self._compiler is None else [f"numba {self._compiler}"]
        return Arithmetic(
            backend="torch",
            device=self.device.type,
            threads=torch.get_num_threads(),
            library=", ".join([torch.__version__, *compiler]),
            processor=f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        )

    def device_name(self) -> str:
        """The device for people: ``cpu (2 threads)`` or the card's name."""
        return describe_device(self.device)

    def free_memory(self) -> int | None:
        """Bytes that are free where weights live; None where the system does not tell."""
        return free_memory(self.device)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that an allocation failed."""
        return is_out_of_memory(error)

    def training_threads(self) -> contextlib.AbstractContextManager[None]:
        """Train on the calling thread with all threads; work beside it keeps to its share."""
        return training_threads()

    def prepare(
        self,
        config: Config,
        report: Callable[[str, int, int | None], None],
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Compile kernels for what a config trains on the CPU, where numba is installed.

        The whole run goes on as it begins: with them, or without. The first time takes a while.
        """
        self._compiler = None
        # Processes that train together go by PyTorch's own passes.
        is_alone = self._make_passes is OwnPasses
        version = numba_version() if self.device.type == "cpu" and is_alone else None
        if version is None:
            return
        from shakespeare_tui.models import fused

        if fused.can_fuse(config):
            try:
                needed = fused.kernels(_precisions(config), config.model)
                compile_kernels(needed, report, cancelled)
            except CancelledError:
                raise
            except Exception:
                # A compiler that does not know this processor is no reason not to train.
                _logger.exception("compiling for training failed; PyTorch computes all")
                return
            self._compiler = version

    def new_state(
        self, config: Config, info: RunInfo, cancelled: Callable[[], bool] = never
    ) -> TorchTrainState:
        """A new run's state, everything in it drawn from the config's seed."""
        generator = torch.Generator().manual_seed(config.training.seed)
        state = self._state(config, info, generator, cancelled)
        state.precision = self._precision(state, config, info, cancelled)
        # After the measurement, which may have drawn dropout from the global generators.
        torch.manual_seed(config.training.seed)
        return state

    def empty_state(
        self, config: Config, info: RunInfo, cancelled: Callable[[], bool] = never
    ) -> TorchTrainState:
        """A state of the same shape, to be loaded."""
        return self._state(config, info, None, cancelled)

    def _state(
        self,
        config: Config,
        info: RunInfo,
        generator: torch.Generator | None,
        cancelled: Callable[[], bool],
    ) -> TorchTrainState:
        model = Transformer(
            config.model,
            info.vocab_size,
            generator,
            context=config.seq_len,
            embedding_scale=info.embedding_scale,
            cancelled=cancelled,
        )
        model.recomputes = config.training.grad_checkpointing
        return TorchTrainState(
            model.to(self.device).train(),
            config.training,
            self.device,
            has_coupled_decay=info.has_coupled_decay,
            make_passes=self._make_passes,
            parts=self._parts(config),
        )

    def _parts(self, config: Config) -> int:
        """Into how many a batch is cut for compiled kernels; 0 without them."""
        if self._compiler is None:
            return 0
        return min(torch.get_num_threads(), config.training.batch_size, _MOST_PARTS)

    def _precision(
        self,
        state: TorchTrainState,
        config: Config,
        info: RunInfo,
        cancelled: Callable[[], bool],
    ) -> str:
        """The config's precision; ``auto`` is measured, once for a shape and machine."""
        if config.training.precision != "auto":
            return config.training.precision
        if self.device.type == "cuda":
            return "bfloat16" if cuda_has_bf16(self.device) else "float32"
        rows = max(1, min(config.training.batch_size, 2048 // config.seq_len))
        window = torch.zeros(rows, config.seq_len + 1, dtype=torch.int64, device=self.device)

        def gradient_pass(precision: str) -> None:
            check_cancelled(cancelled, "measuring the precision")
            state.gradient_pass(window, precision)

        def measure() -> str:
            if info.parameters * window.numel() <= _MOST_MEASURED:
                return measured_precision(self.device, gradient_pass)
            # A pass of a large model takes seconds, most of it in products like these.
            gain = measure_bf16_speedup(self.device, cancelled=cancelled)
            return "bfloat16" if gain > LEAST_GAIN else "float32"

        shape = [config.model.model_dump(mode="json"), list(window.shape), info.vocab_size]
        if parts := self._parts(config):
            shape.append(parts)
        return remembered_precision(self.device, shape, measure)

    def load_model(
        self, checkpoint: Checkpoint, cancelled: Callable[[], bool] = never
    ) -> Transformer:
        """A checkpoint's model, to be evaluated."""
        return load_model(checkpoint, self.device, cancelled)[0]


def load_model(
    checkpoint: Checkpoint, device: torch.device, cancelled: Callable[[], bool] = never
) -> tuple[Transformer, Tokenizer]:
    """The model of a checkpoint, in evaluation mode, with its tokenizer.

    Raises:
        UserError: The checkpoint is damaged, foreign, does not fit its config or not into memory.
        CancelledError: ``cancelled``, polled between tensors, became true.
    """
    config, tokenizer = checkpoint.run.config(), checkpoint.run.tokenizer()
    with reading_weights(
        checkpoint,
        config.model,
        tokenizer.vocab_size,
        # As they are read, in the model, and on the CPU rearranged for decoding.
        copies=3 if device.type == "cpu" else 1,
        available=free_memory(device),
        cancelled=cancelled,
    ) as weights:
        model = Transformer(
            config.model,
            tokenizer.vocab_size,
            context=config.seq_len,
            embedding_scale=checkpoint.run.info().embedding_scale,
            cancelled=cancelled,
        )
        load_weights(model, weights, str(checkpoint.weights_path), cancelled)
    return model.to(device).eval(), tokenizer


def load_weights(
    model: Transformer, weights: Arrays, origin: str, cancelled: Callable[[], bool] = never
) -> None:
    """Copy weights into a model by name.

    Raises:
        UserError: Names, shapes or types do not fit, or a weight is not finite; ``origin`` says
            where they are from.
        CancelledError: ``cancelled``, polled between arrays, became true.
    """
    check_weights(weights, _shapes(model), origin, cancelled)
    with torch.no_grad():
        for name, parameter in published_parameters(model):
            check_cancelled(cancelled, "loading")
            parameter.copy_(torch.from_numpy(weights[name]))
