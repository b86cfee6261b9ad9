"""NumPy's backend: the model with gradients by hand and its optimisers, as the loop drives them."""

import contextlib
import itertools
import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from shakespeare_tui.config.schema import Config, TrainingConfig
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
from shakespeare_tui.decoding.decoder import Decoder
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.errors import UserError, check_cancelled, never
from shakespeare_tui.machine import CORES, blas_threads, free_memory, keep_freed_memory
from shakespeare_tui.models.compiling import (
    compile_kernels,
    numba_version,
    use_twins,
)
from shakespeare_tui.models.numpy_gpt import GPT, Array, Weights
from shakespeare_tui.runs.folder import Checkpoint, RunInfo
from shakespeare_tui.training.checkpoints import (
    check_weights,
    optimizer_arrays,
    reading_weights,
)
from shakespeare_tui.training.numpy_optimizers import make_optimizers
from shakespeare_tui.training.train_state import (
    Arithmetic,
    Arrays,
    LayerNorms,
    StateArrays,
    StepResult,
    StepTime,
    averaging_decay,
    layer_norms,
)

T = TypeVar("T")
R = TypeVar("R")
_GENERATOR = "rng.numpy"


class NumpyTrainState:
    """A model in training: gradients, clipping, optimisers, averaged weights.

    The rows of a batch are shared out among threads, each with gradients of its own, which are
    added up in their order: what a step computes depends on the number of parts, and not on which
    thread was faster.

    Args:
        model: Its weights are changed in place.
        training: The config's section.
        generator: Draws dropout.
        has_coupled_decay: Let adam and sgd decay weights as runs of format 1 do.
        parts: Into how many a batch is cut; None takes the threads of matrix products.
    """

    def __init__(
        self,
        model: GPT,
        training: TrainingConfig,
        generator: np.random.Generator,
        *,
        has_coupled_decay: bool = False,
        parts: int | None = None,
    ) -> None:
        self.model = model
        self._workers = Workers(parts or blas_threads())
        self._parts = [model, *(model.sharing_weights() for _ in range(self._workers.count - 1))]
        self.optimizers = make_optimizers(
            model.weights,
            model.config,
            training,
            has_coupled_decay=has_coupled_decay,
            for_each=self._workers.for_each,
        )
        self._generator = generator
        self._seed = training.seed
        # False while an update has changed some of the weights and not yet all.
        self._is_whole = True
        self._grad_clip = training.grad_clip or math.inf
        self._distill_weight = training.distill_weight
        self._ema_decay = training.ema_decay
        self.ema = self._copies() if self._ema_decay else {}
        self._ema_updates = 0

    @property
    def precision(self) -> str:
        """Always float32; a run that was trained in bfloat16 goes on in it."""
        return "float32"

    @precision.setter
    def precision(self, precision: str) -> None:
        pass

    # --- steps -------------------------------------------------------------------------------

    def step(
        self,
        windows: Sequence[NDArray[np.int64]],
        rate_factor: float,
        *,
        soft_targets: Sequence[NDArray[np.float16]] = (),
        measures_layers: bool = False,
    ) -> StepResult:
        """Learn from windows [B, T + 1], one a micro-batch; see ``TrainState.step``."""
        drawn = self._generator.bit_generator.state
        try:
            # What overflows is found in the loss or the norm, and the step is not applied.
            with np.errstate(all="ignore"), self._workers.at_work(max(map(len, windows))):
                return self._step(windows, rate_factor, soft_targets, measures_layers)
        except BaseException:
            # Should the weights be whole, the step can be made again with the same dropout.
            self._generator.bit_generator.state = drawn
            raise

    def _step(
        self,
        windows: Sequence[NDArray[np.int64]],
        rate_factor: float,
        soft_targets: Sequence[NDArray[np.float16]],
        measures_layers: bool,
    ) -> StepResult:
        loss, squares = self._gradients(windows, soft_targets)
        gradients, norm = self.model.gradients, math.sqrt(sum(squares))
        applied = math.isfinite(loss) and math.isfinite(norm)
        layers = None
        if applied:
            before = self._copies() if measures_layers else {}
            if norm > self._grad_clip:
                for gradient in gradients.values():
                    gradient *= self._grad_clip / (norm + 1e-6)
            self._is_whole = False
            for optimizer in self.optimizers:
                optimizer.step(gradients, optimizer.peak_rate * rate_factor)
            if before:
                layers = self._layer_norms([math.sqrt(square) for square in squares], before)
            self._average()
            self._is_whole = True
        return StepResult(loss, norm, applied, layers)

    def _gradients(
        self, windows: Sequence[NDArray[np.int64]], soft_targets: Sequence[NDArray[np.float16]] = ()
    ) -> tuple[float, list[float]]:
        """The loss, and of the gradient of each weight the sum of squares."""
        is_dropping = self.model.config.dropout > 0
        seeds = self._generator.integers(2**63, size=len(self._parts)) if is_dropping else None

        def learn(part: int) -> float:
            model, loss = self._parts[part], 0.0
            generator = None if seeds is None else np.random.default_rng(seeds[part])
            for gradient in model.gradients.values():
                gradient.fill(0)
            for place, window in enumerate(windows):
                mine = np.array_split(window, len(self._parts))[part]
                if len(mine):
                    share = len(mine) / len(window) / len(windows)
                    soft = None
                    if soft_targets:
                        rows = np.array_split(soft_targets[place], len(self._parts))[part]
                        taught = rows.astype(np.float32)
                        taught /= taught.sum(-1, keepdims=True)
                        soft = taught, self._distill_weight
                    loss += model.loss_and_gradient(
                        mine[:, :-1], mine[:, 1:], generator, share=share, soft=soft
                    )
            return loss

        loss = sum(self._workers.for_each(range(len(self._parts)), learn))
        return loss, self._workers.for_each(list(self.model.gradients), self._add_gradients)

    def _copies(self) -> Weights:
        return {name: weight.copy() for name, weight in self.model.weights.items()}

    def _layer_norms(self, gradients: Sequence[float], before: Weights) -> LayerNorms:
        """What an update did, whose gradients had those norms; ``before`` is used up."""
        weights = [_norm(weight) for weight in before.values()]
        for name, weight in self.model.weights.items():
            before[name] -= weight
        updates = [_norm(update) for update in before.values()]
        return layer_norms([*before], gradients, updates, weights)

    def _add_gradients(self, name: str) -> float:
        """Add the parts' gradients of a weight to the first's; the sum of their squares."""
        total, *others = (part.gradients[name] for part in self._parts)
        for other in others:
            total += other
        return float(np.vdot(total, total))

    def rehearse(self, window: NDArray[np.int64]) -> StepTime:
        """Time a step that leaves everything as it was; see ``TrainState.rehearse``."""
        drawn = self._generator.bit_generator.state
        is_fresh = not any(optimizer.state for optimizer in self.optimizers)
        began = time.perf_counter()
        try:
            with np.errstate(all="ignore"), self._workers.at_work(len(window)):
                _, squares = self._gradients([window])
                passed = time.perf_counter()
                if is_fresh and math.isfinite(sum(squares)):
                    for optimizer in self.optimizers:
                        optimizer.step(self.model.gradients, 0.0)
            return StepTime(passed - began, time.perf_counter() - passed)
        finally:
            self._generator.bit_generator.state = drawn
            if is_fresh:
                for optimizer in self.optimizers:
                    optimizer.state.clear()

    def _average(self) -> None:
        if not self.ema:
            return
        self._ema_updates += 1
        decay = averaging_decay(self._ema_decay, self._ema_updates)
        for name, average in self.ema.items():
            average += (self.model.weights[name] - average) * (1 - decay)

    def is_sound(self) -> bool:
        """Whether no update was cut short half-way, and every weight is a number."""
        return self._is_whole and all(np.isfinite(w).all() for w in self.model.weights.values())

    # --- the model as others use it ----------------------------------------------------------

    @contextlib.contextmanager
    def averaged(self, *, is_exact: bool = True) -> Iterator[GPT]:
        """The model with its averaged weights in place; as it is where none are kept."""
        own = dict(self.model.weights)
        self.model.weights.update(self.ema)
        try:
            with np.errstate(all="ignore"):
                yield self.model
        finally:
            self.model.weights.update(own)

    @contextlib.contextmanager
    def decoder(self, cancelled: Callable[[], bool] = never) -> Iterator[Decoder]:
        """A decoder of one stream with the averaged weights, inside the block."""
        with self.averaged() as model:
            yield make_decoder(model, 1, cancelled=cancelled)

    # --- to and from checkpoints -------------------------------------------------------------

    def arrays(self) -> StateArrays:
        """What a checkpoint saves; it shares memory with the state."""
        weights = self.model.weights
        rest: Arrays = {_GENERATOR: _generator_state(self._generator)}
        for index, optimizer in enumerate(self.optimizers):
            rest |= {f"optimizer.{index}.{key}": array for key, array in optimizer.state.items()}
        if self.ema:
            # What generates is the average; training goes on from these.
            rest |= {f"raw.{name}": weight for name, weight in weights.items()}
        return StateArrays(
            weights=dict(self.ema or weights), rest=rest, ema_updates=self._ema_updates
        )

    def load(
        self, arrays: StateArrays, checkpoint: Checkpoint, cancelled: Callable[[], bool] = never
    ) -> None:
        """Go on where ``arrays``, from ``checkpoint``, were saved: exactly, if by this backend."""
        origin, weights_origin = str(checkpoint.state_path), str(checkpoint.weights_path)
        raw = {n.removeprefix("raw."): a for n, a in arrays.rest.items() if n.startswith("raw.")}
        if bool(raw) != bool(self.ema):
            raise UserError(f"{origin} does not fit training.ema_decay; it was changed since")
        self.load_weights(raw or arrays.weights, weights_origin, cancelled)
        if raw:
            check_weights(arrays.weights, self._shapes(), weights_origin, cancelled)
            for name, average in self.ema.items():
                average[:] = arrays.weights[name]
            self._ema_updates = arrays.ema_updates
        for index, optimizer in enumerate(self.optimizers):
            owned = [name for group in optimizer.groups for name in group.weights]
            shapes = {name: self.model.weights[name].shape for name in owned}
            found = optimizer_arrays(arrays.rest, index, shapes, optimizer.slots, origin)
            # Copies: the state may be put back again.
            optimizer.state = {key: array.copy() for key, array in found.items()}
        if _GENERATOR in arrays.rest:
            try:
                _restore_generator(self._generator, arrays.rest[_GENERATOR])
            except (ValueError, TypeError) as error:
                raise UserError(f"{origin} has no usable random state: {error}") from None
        elif "rng.cpu" in arrays.rest:
            # Of the other backend's, nothing can be made here: dropout is drawn anew.
            again = np.random.default_rng([self._seed, checkpoint.info.step])
            self._generator.bit_generator.state = again.bit_generator.state
        else:
            raise UserError(f"{origin} has no usable random state")

    def load_weights(
        self, weights: Arrays, origin: str, cancelled: Callable[[], bool] = never
    ) -> None:
        """Begin with other weights, which come from ``origin``."""
        load_weights(self.model, weights, origin, cancelled)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: weight.shape for name, weight in self.model.weights.items()}


def _norm(x: Array) -> float:
    return math.sqrt(np.vdot(x, x))


_WORD = 2**64


def _generator_state(generator: np.random.Generator) -> NDArray[np.uint64]:
    """PCG64's state and increment, 128 bits each, and the half of a number that is left over."""
    state = generator.bit_generator.state
    numbers = [*divmod(state["state"]["state"], _WORD), *divmod(state["state"]["inc"], _WORD)]
    return np.array([*numbers, state["has_uint32"], state["uinteger"]], np.uint64)


def _restore_generator(generator: np.random.Generator, saved: NDArray[np.uint64]) -> None:
    if saved.shape != (6,) or saved.dtype != np.uint64:
        raise ValueError(f"{list(saved.shape)} {saved.dtype} is no state of PCG64")
    high, low, inc_high, inc_low, has_half, half = (int(number) for number in saved)
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": high * _WORD + low, "inc": inc_high * _WORD + inc_low},
        "has_uint32": has_half,
        "uinteger": half,
    }


class Workers:
    """Threads that share out the work of a step, each with matrix products on one core.

    Two threads that meet once are faster than matrix products that are shared out one by one, and
    what lies between the products is shared out too.

    Args:
        count: Threads, the calling one among them.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count - 1, "numpy-step") if count > 1 else None
        self._blas = ThreadpoolController().select(user_api="blas")

    @contextlib.contextmanager
    def at_work(self, rows: int) -> Iterator[None]:
        """Leave matrix products the cores that remain where a batch has ``rows`` to share out."""
        with self._blas.limit(limits=max(1, self.count // min(rows, self.count))):
            yield

    def for_each(self, items: Sequence[T], work: Callable[[T], R]) -> list[R]:
        """What ``work`` makes of each item, in their order; a thread that is free takes the next.

        All have ended when this does, also by an error of one of them.
        """
        results: dict[int, R] = {}
        places = itertools.count()

        def take_turns() -> None:
            with np.errstate(all="ignore"):
                while (place := next(places)) < len(items):
                    results[place] = work(items[place])

        others = min(self.count, len(items)) - 1
        started = [self._pool.submit(take_turns) for _ in range(others)] if self._pool else []
        try:
            take_turns()
        finally:
            wait(started)
        for future in started:
            future.result()
        return [results[place] for place in range(len(items))]


class NumpyBackend:
    """NumPy on the CPU."""

    def __init__(self) -> None:
        keep_freed_memory()

    def arithmetic(self) -> Arithmetic:
        """What losses depend on up to rounding."""
        return Arithmetic(
            backend="numpy",
            device="cpu",
            threads=blas_threads(),
            library=", ".join([np.__version__, *(f"numba {v}" for v in [numba_version()] if v)]),
            processor=f"{platform.machine()} {_vector_instructions()}",
        )

    def device_name(self) -> str:
        """The device for people: ``cpu (NumPy, 2 threads)``."""
        return f"cpu (NumPy, {blas_threads()} threads)"

    def free_memory(self) -> int | None:
        """Bytes that are free where weights live; None where the system does not tell."""
        return free_memory()

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that an allocation failed."""
        return isinstance(error, MemoryError)

    def training_threads(self) -> contextlib.AbstractContextManager[None]:
        """Train with the threads of NumPy's matrix products, which cannot be shared out."""
        return CORES.training(blas_threads())

    def prepare(
        self,
        config: Config,
        report: Callable[[str, int, int | None], None],
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Let compiled functions take the places of NumPy's, where numba is installed."""
        use_compiled(report, cancelled)

    def new_state(
        self, config: Config, info: RunInfo, cancelled: Callable[[], bool] = never
    ) -> NumpyTrainState:
        """A new run's state, everything in it drawn from the config's seed."""
        generator = np.random.default_rng(config.training.seed)
        return _state(config, info, generator, generator, cancelled)

    def empty_state(
        self, config: Config, info: RunInfo, cancelled: Callable[[], bool] = never
    ) -> NumpyTrainState:
        """A state of the same shape, to be loaded."""
        generator = np.random.default_rng(config.training.seed)
        return _state(config, info, None, generator, cancelled)

    def load_model(self, checkpoint: Checkpoint, cancelled: Callable[[], bool] = never) -> GPT:
        """A checkpoint's model, to be evaluated."""
        return load_model(checkpoint, cancelled)[0]


def load_model(
    checkpoint: Checkpoint, cancelled: Callable[[], bool] = never
) -> tuple[GPT, Tokenizer]:
    """The model of a checkpoint with its tokenizer.

    Raises:
        UserError: The checkpoint is damaged, foreign, does not fit its config or not into memory.
        CancelledError: ``cancelled``, polled between arrays, became true.
    """
    config, tokenizer = checkpoint.run.config(), checkpoint.run.tokenizer()
    with reading_weights(
        checkpoint,
        config.model,
        tokenizer.vocab_size,
        # As they are read, in the model, and rearranged for decoding.
        copies=3,
        available=free_memory(),
        cancelled=cancelled,
    ) as weights:
        model = GPT(
            config.model,
            tokenizer.vocab_size,
            context=config.seq_len,
            embedding_scale=checkpoint.run.info().embedding_scale,
            cancelled=cancelled,
        )
        load_weights(model, weights, str(checkpoint.weights_path), cancelled)
    return model, tokenizer


def _state(
    config: Config,
    info: RunInfo,
    of_weights: np.random.Generator | None,
    of_dropout: np.random.Generator,
    cancelled: Callable[[], bool],
) -> NumpyTrainState:
    model = GPT(
        config.model,
        info.vocab_size,
        of_weights,
        context=config.seq_len,
        embedding_scale=info.embedding_scale,
        cancelled=cancelled,
    )
    return NumpyTrainState(
        model, config.training, of_dropout, has_coupled_decay=info.has_coupled_decay
    )


def load_weights(
    model: GPT, weights: Arrays, origin: str, cancelled: Callable[[], bool] = never
) -> None:
    """Copy weights into a model by name.

    Raises:
        UserError: Names, shapes or types do not fit, or a weight is not finite; ``origin`` says
            where they are from.
        CancelledError: ``cancelled``, polled between arrays, became true.
    """
    shapes = {name: weight.shape for name, weight in model.weights.items()}
    check_weights(weights, shapes, origin, cancelled)
    for name, weight in model.weights.items():
        check_cancelled(cancelled, "loading")
        weight[:] = weights[name]


def use_compiled(
    report: Callable[[str, int, int | None], None] = lambda what, done, total: None,
    cancelled: Callable[[], bool] = never,
) -> bool:
    """Let compiled functions take the places of NumPy's, where numba is installed; say if they do.

    The first time takes a while; ``report`` is told how far it is.

    Raises:
        CancelledError: ``cancelled`` became true.
    """
    if numba_version() is None:
        use_twins({})
        return False
    from shakespeare_tui.models import numpy_kernels

    compile_kernels(numpy_kernels.KERNELS, report, cancelled)
    use_twins(numpy_kernels.TWINS)
    return True


def _vector_instructions() -> str:
    """The widest that NumPy uses on this processor."""
    build = np.show_config(mode="dicts")
    found = (build or {}).get("SIMD Extensions", {})
    return " ".join([*found.get("baseline", []), *found.get("found", [])][-1:]) or "baseline"
