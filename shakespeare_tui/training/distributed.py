"""One run that several processes train, as ``torchrun`` starts them.

The first process (rank 0) runs the training loop as one alone would: clock, commands, samples,
checkpoints and events are its own, and so is every decision. The others know neither corpus nor run
folder and are told what to do. All hold the same weights and optimisers; each takes its rows of a
batch, and gradients are averaged (``DistributedDataParallel``) before all make the same update.
Evaluations are shared out too; while the first writes samples and checkpoints, the others wait.
"""

import contextlib
import dataclasses
import itertools
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from shakespeare_tui.config.schema import Config, ModelConfig
from shakespeare_tui.decoding.decoder import Decoder
from shakespeare_tui.errors import CancelledError, RunFailedError, UserError, never
from shakespeare_tui.formatting import counted
from shakespeare_tui.machine import Launched, backend_of
from shakespeare_tui.models.transformer import SoftTargets, Transformer
from shakespeare_tui.runs.folder import Checkpoint, RunFolder, RunInfo
from shakespeare_tui.training.device import is_out_of_memory
from shakespeare_tui.training.evaluate import LossModel
from shakespeare_tui.training.torch_state import (
    GlobalGenerator,
    TorchBackend,
    TorchTrainState,
    generator_states,
    generators_of,
    restore_generators,
)
from shakespeare_tui.training.train_state import (
    Arithmetic,
    Arrays,
    StateArrays,
    StepResult,
    StepTime,
    WorkerLostError,
)

T = TypeVar("T", np.int64, np.float16)
_JOINING = timedelta(minutes=10)
# A pause may last; that a process has gone is told by its connection.
_WAITING = timedelta(days=30)
_VERDICT = timedelta(seconds=5)
# Keys of the store: the first process says itself why the run ends; why another one gave up.
_SAID, _PROBLEM = "said", "problem"


@dataclass(frozen=True)
class _Order:
    """What all are to do: a method of ``_Follower`` and its arguments."""

    name: str
    arguments: Mapping[str, Any]


_END, _SUM, _GIVE_UP = "end", "sum", "give up"


class Group:
    """The processes that train one run, as one of them sees them.

    Args:
        place: This process's among them.
        store: What they note for each other; under ``torchrun`` it outlives them.
        orders: Connects them on CPUs, without a limit of time.
    """

    def __init__(self, place: Launched, store: Store, orders: dist.ProcessGroup) -> None:
        self.place = place
        self.size = place.processes
        self._store = store
        self._orders = orders
        # Whether the others are in the middle of something, and would not hear an order.
        self._is_amid = False

    @classmethod
    @contextlib.contextmanager
    def joined(cls, place: Launched) -> Iterator[Self]:
        """Meet the other processes; at the end of the block the first one dismisses them.

        Raises:
            RunFailedError: They do not find each other.
            WorkerLostError: One has gone meanwhile.
        """
        try:
            # Also with MASTER_ADDR and MASTER_PORT of another launcher.
            common, _, _ = next(rendezvous("env://", place.rank, place.processes, timeout=_JOINING))
            # torchrun's store outlives those whom it starts again: what they left is not for us.
            store = PrefixStore(f"attempt-{place.restarts}", common)
            dist.init_process_group(
                "gloo", store=store, rank=place.rank, world_size=place.processes, timeout=_JOINING
            )
            orders = dist.new_group(backend="gloo", timeout=_WAITING)
        except (ValueError, RuntimeError) as error:
            raise RunFailedError(
                f"the {place.processes} processes do not find each other ({_first_line(error)}); "
                "start them with torchrun"
            ) from error
        group = cls(place, store, orders)
        try:
            yield group
        except BaseException:
            with contextlib.suppress(WorkerLostError):
                group._dismiss()
            raise
        else:
            group._dismiss()
        finally:
            dist.destroy_process_group()

    def _dismiss(self) -> None:
        if self.place.rank:
            return
        self._say_it_ends()
        if not self._is_amid:
            with self.doing(_END):
                pass

    # --- the first process ---------------------------------------------------------------------

    @contextlib.contextmanager
    def doing(self, name: str, each: Iterable[dict[str, Any]] = (), **same: Any) -> Iterator[None]:
        """Give an order, and do one's own part of it in the block.

        Args:
            name: A method of ``_Follower``.
            each: Arguments of each process; the first one's are not looked at.
            same: Arguments of all.

        Raises:
            WorkerLostError: A process has gone.
        """
        self._is_amid = True
        own = list(each) or [{}] * self.size
        with self._noticing():
            self.send([_Order(name, same | arguments) for arguments in own])
            yield
        self._is_amid = False

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not _is_connection(error):
                raise
            self._say_it_ends()
            raise WorkerLostError(self._problem()) from error

    def _problem(self) -> str:
        with contextlib.suppress(RuntimeError):
            if self._store.check([_PROBLEM]):
                told: bytes = self._store.get(_PROBLEM)
                return told.decode()
        return f"one of the {self.size} processes that trained the run has ended"

    def _say_it_ends(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._store.set(_SAID, "")

    def send(self, messages: Sequence[object]) -> None:
        """Give each process its message, the first one too."""
        dist.scatter_object_list([None], [*messages], src=0, group=self._orders)

    # --- the others ----------------------------------------------------------------------------

    def receive(self) -> Any:
        """The next message of the first process."""
        received: list[Any] = [None]
        dist.scatter_object_list(received, None, src=0, group=self._orders)
        return received[0]

    def report(self, error: Exception) -> None:
        """Leave word of what ends this process, for the first to say it."""
        what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            what = "memory ran out; lower training.batch_size"
        place = f"process {self.place.rank} of {self.size} ({socket.gethostname()})"
        with contextlib.suppress(RuntimeError):
            self._store.set(_PROBLEM, f"{place} gave up: {' '.join(what.split())}")

    def first_says_it(self) -> bool:
        """Whether the first process lives, or went after it had said why."""
        try:
            self._store.wait([_SAID], _VERDICT)
        except RuntimeError:
            return False
        return True

    # --- all together --------------------------------------------------------------------------

    def passes(self, model: Transformer) -> "_SharedPasses":
        """Passes whose gradients are the mean over all processes; all must ask for them."""
        device = model.embedding.weight.device
        if device.type == "cuda":
            torch.cuda.set_device(device)
        gradients = dist.new_group(backend="nccl" if device.type == "cuda" else "gloo")
        return _SharedPasses(model, device, gradients)

    def spread(self, arrays: Arrays) -> Arrays:
        """Copy the first process's arrays into those of all others, which have the same shapes."""
        for array in arrays.values():
            # As bytes: not every type of NumPy's travels.
            raw = torch.from_numpy(array.reshape(-1).view(np.uint8))
            dist.broadcast(raw, src=0, group=self._orders)
        return arrays

    def total(self, loss: float, correct: int) -> tuple[float, int]:
        """The sums over all processes."""
        sums = torch.tensor([loss, correct], dtype=torch.float64)
        dist.all_reduce(sums, group=self._orders)
        return float(sums[0]), int(sums[1])


def _is_connection(error: RuntimeError) -> bool:
    """Whether an error says that another process cannot be reached."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def rows_of(batch: NDArray[T], rank: int, processes: int) -> NDArray[T]:
    """What a process takes of a batch [B, …]: its B / ``processes`` rows, in order of rank.

    A batch is a pure function of the seed and of its number, and so is this.
    """
    rows = len(batch) // processes
    return batch[rank * rows : (rank + 1) * rows]


def dropout_seed(number: int, rank: int) -> int:
    """The seed of a process's dropout in the step for which the run's generator drew ``number``.

    That generator begins with the run's seed, draws one number a step, and is in checkpoints.
    """
    return int(np.random.SeedSequence([number, rank]).generate_state(1, np.uint64)[0] >> 1)


class _Loss(nn.Module):
    """A model's loss as what ``DistributedDataParallel`` takes: the result of a forward pass."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, targets: Tensor, soft: SoftTargets | None) -> Tensor:
        """The mean over ``tokens`` [B, T]."""
        return self.model.loss(tokens, targets, soft)


class _SharedPasses:
    """Passes over one's own rows of a batch; see ``torch_state.Passes``."""

    def __init__(
        self, model: Transformer, device: torch.device, gradients: dist.ProcessGroup
    ) -> None:
        self._module = DistributedDataParallel(
            _Loss(model),
            device_ids=[device] if device.type == "cuda" else None,
            process_group=gradients,
            forward_sync_buffers=False,
            # Gradients are not kept twice.
            gradient_as_bucket_view=True,
        )
        self._gradients = gradients

    def loss(self, tokens: Tensor, targets: Tensor, soft: SoftTargets | None = None) -> Tensor:
        """The mean over one's own rows; gradients become the mean of all."""
        mean: Tensor = self._module(tokens, targets, soft)
        return mean

    def accumulating(self) -> contextlib.AbstractContextManager[None]:
        """Passes in the block leave gradients to a later one to be shared."""
        return self._module.no_sync()

    def agreed(self, values: Tensor) -> Tensor:
        """The mean over all processes: not finite for all where it is not for one."""
        dist.all_reduce(values, group=self._gradients)
        return values / self._gradients.size()


@contextlib.contextmanager
def _seeded(seed: int, generators: Sequence[GlobalGenerator]) -> Iterator[None]:
    """Draw from a seed in the block, and go on afterwards as if nothing had been drawn."""
    before = generator_states(generators)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        restore_generators(before, generators)


# --- what the training loop of the first process drives -------------------------------------------


class SharedTrainState:
    """The state of all processes as one; see ``TrainState``.

    Args:
        own: Of the first process; the others have theirs already.
        group: All of them.
    """

    def __init__(self, own: TorchTrainState, group: Group) -> None:
        self._own = own
        self._group = group
        self._generators = generators_of(own.device)

    @property
    def precision(self) -> str:
        """Type of matrix products."""
        return self._own.precision

    @precision.setter
    def precision(self, precision: str) -> None:
        with self._group.doing("set_precision", precision=precision):
            self._own.precision = precision

    def step(
        self,
        windows: Sequence[NDArray[np.int64]],
        rate_factor: float,
        *,
        soft_targets: Sequence[NDArray[np.float16]] = (),
        measures_layers: bool = False,
    ) -> StepResult:
        """Learn from windows [B, T + 1], one a micro-batch; each process from its rows."""
        drawn = generator_states(self._generators)
        try:
            number = int(torch.randint(1 << 62, ()))
            shares, soft = self._shares(windows), self._shares(soft_targets)
            each = [
                {"windows": share, "soft_targets": taught}
                for share, taught in zip(shares, soft, strict=True)
            ]
            with (
                self._group.doing("step", each, rate_factor=rate_factor, number=number),
                _seeded(dropout_seed(number, 0), self._generators),
            ):
                return self._own.step(
                    shares[0],
                    rate_factor,
                    soft_targets=soft[0],
                    measures_layers=measures_layers,
                )
        except BaseException:
            restore_generators(drawn, self._generators)
            raise

    def _shares(self, batches: Sequence[NDArray[T]]) -> list[list[NDArray[T]]]:
        size = self._group.size
        return [[rows_of(batch, rank, size) for batch in batches] for rank in range(size)]

    def rehearse(self, window: NDArray[np.int64]) -> StepTime:
        """Time a step of one micro-batch that leaves everything as it was."""
        shares = [batch for (batch,) in self._shares([window])]
        with self._group.doing("rehearse", [{"window": share} for share in shares]):
            return self._own.rehearse(shares[0])

    @contextlib.contextmanager
    def averaged(self, *, is_exact: bool = True) -> Iterator[LossModel]:
        """The model with its averaged weights, measured by all processes together."""
        with self._own.averaged(is_exact=is_exact) as model:
            yield _SharedLosses(model, self._group, is_exact=is_exact)

    def decoder(
        self, cancelled: Callable[[], bool] = never
    ) -> contextlib.AbstractContextManager[Decoder]:
        """A decoder of one stream, in the first process alone."""
        return self._own.decoder(cancelled)

    def is_sound(self) -> bool:
        """Whether no update was cut short half-way, and every weight is a number."""
        return self._own.is_sound()

    def arrays(self) -> StateArrays:
        """What a checkpoint saves: the first process's state, which is that of all."""
        return self._own.arrays()

    def load(
        self, arrays: StateArrays, checkpoint: Checkpoint, cancelled: Callable[[], bool] = never
    ) -> None:
        """Go on exactly where ``arrays``, from ``checkpoint``, were saved."""
        self._own.load(arrays, checkpoint, cancelled)
        # Without the lock, which cannot be handed on.
        told = Checkpoint(RunFolder(checkpoint.run.path), checkpoint.folder, checkpoint.info)
        with self._group.doing(
            "load",
            checkpoint=told,
            ema_updates=arrays.ema_updates,
            weights=_shapes(arrays.weights),
            rest=_shapes(arrays.rest),
        ):
            self._group.spread(_contiguous(arrays.weights))
            self._group.spread(_contiguous(arrays.rest))

    def load_weights(
        self, weights: Arrays, origin: str, cancelled: Callable[[], bool] = never
    ) -> None:
        """Begin with other weights, which come from ``origin``."""
        self._own.load_weights(weights, origin, cancelled)
        with self._group.doing("load_weights", weights=_shapes(weights), origin=origin):
            self._group.spread(_contiguous(weights))


_Shapes = dict[str, tuple[tuple[int, ...], str]]


def _shapes(arrays: Arrays) -> _Shapes:
    return {name: (array.shape, array.dtype.str) for name, array in arrays.items()}


def _contiguous(arrays: Arrays) -> Arrays:
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


class _SharedLosses:
    """A model whose losses all processes measure, each on some of the batches; see ``LossModel``.

    Args:
        model: The first process's.
        group: All of them.
        is_exact: As in ``TrainState.averaged``.
    """

    def __init__(self, model: Transformer, group: Group, *, is_exact: bool) -> None:
        self.config: ModelConfig = model.config
        self.context: int = model.context
        self.is_fused: bool = model.is_fused
        self._model = model
        self._group = group
        self._is_exact = is_exact

    def sum_losses(self, batches: Iterable[NDArray[np.int64]]) -> tuple[float, int]:
        """Cross-entropy in nats, and how many tokens had the highest probability, over all."""
        sums, cancelled = (0.0, 0), None
        with self._group.doing("evaluate", is_exact=self._is_exact):
            try:
                sums = self._model.sum_losses(self._dealt(batches))
            except CancelledError as error:
                cancelled = error
            self._group.send([_SUM if cancelled is None else _GIVE_UP] * self._group.size)
            if cancelled is None:
                return self._group.total(*sums)
        assert cancelled is not None
        raise cancelled

    def _dealt(self, batches: Iterable[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
        """One's own of the batches, while the others get theirs."""
        left, size = iter(batches), self._group.size
        while dealt := list(itertools.islice(left, size)):
            self._group.send([*dealt, *[None] * (size - len(dealt))])
            yield dealt[0]


class SharedBackend:
    """PyTorch in several processes, as the first of them sees it; see ``Backend``.

    Args:
        group: All of them.
        config: What they are to train.

    Raises:
        UserError: It is not for several processes, or not for so many.
    """

    def __init__(self, group: Group, config: Config) -> None:
        training, processes = config.training, group.size
        if backend_of(training.backend) == "numpy":
            raise UserError(
                "training.backend numpy trains in one process; take torch, or start it without "
                "torchrun"
            )
        if training.batch_size % processes:
            fewer = training.batch_size // processes * processes
            choice = " or ".join(str(size) for size in (fewer, fewer + processes) if size)
            raise UserError(
                f"training.batch_size {training.batch_size} cannot be shared by {processes} "
                f"processes; take {choice}"
            )
        self._group = group
        self._spec = training.device
        self._own = TorchBackend(_own_device(training.device, group.place), group.passes)

    def arithmetic(self) -> Arithmetic:
        """What losses depend on up to rounding."""
        return dataclasses.replace(self._own.arithmetic(), processes=self._group.size)

    def device_name(self) -> str:
        """The devices for people: ``2 × cpu (1 threads)``."""
        return f"{self._group.size} × {self._own.device_name()}"

    def free_memory(self) -> int | None:
        """Bytes that are free where the weights of one process live."""
        free = self._own.free_memory()
        is_common = self._own.device.type == "cpu"
        return free // self._group.place.local_processes if free and is_common else free

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that an allocation failed."""
        return self._own.is_out_of_memory(error)

    def training_threads(self) -> contextlib.AbstractContextManager[None]:
        """Train on the calling thread with all threads of its process."""
        return self._own.training_threads()

    def prepare(
        self,
        config: Config,
        report: Callable[[str, int, int | None], None],
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Nothing takes a while."""

    def new_state(
        self, config: Config, info: RunInfo, cancelled: Callable[[], bool] = never
    ) -> SharedTrainState:
        """A new run's state, everything in it drawn from the config's seed."""
        with self._building(config, info):
            own = self._own.new_state(config, info, cancelled)
        state = SharedTrainState(own, self._group)
        state.precision = own.precision
        return state

    def empty_state(
        self, config: Config, info: RunInfo, cancelled: Callable[[], bool] = never
    ) -> SharedTrainState:
        """A state of the same shape, to be loaded."""
        with self._building(config, info):
            return SharedTrainState(self._own.empty_state(config, info, cancelled), self._group)

    def _building(self, config: Config, info: RunInfo) -> contextlib.AbstractContextManager[None]:
        device = "cpu" if self._own.device.type == "cpu" else self._spec
        return self._group.doing("build", config=config, info=info, device=device)

    def load_model(
        self, checkpoint: Checkpoint, cancelled: Callable[[], bool] = never
    ) -> Transformer:
        """A checkpoint's model, to be evaluated by the first process alone."""
        return self._own.load_model(checkpoint, cancelled)


def _own_device(spec: str, place: Launched) -> str:
    """The device of one of the processes: its own card, or the CPU.

    Raises:
        UserError: There are fewer cards than processes, or one card is named for all.
    """
    cards = torch.cuda.device_count()
    if spec == "cpu" or (spec == "auto" and not cards):
        return "cpu"
    if spec not in ("auto", "cuda"):
        raise UserError(
            f"training.device {spec} is one device for {place.processes} processes; take cuda, of "
            "which each gets its own, or cpu"
        )
    if place.local_processes > cards:
        raise UserError(
            f"{place.local_processes} processes here, but torch sees "
            f"{counted(cards, 'CUDA device')}; let torchrun start one for each, or take --set "
            "training.device=cpu"
        )
    return f"cuda:{place.local_rank}"


# --- what the other processes do ------------------------------------------------------------------


class _Follower:
    """Obeys the first process's orders: its public methods."""

    def __init__(self, group: Group) -> None:
        self.run_name = ""
        self._group = group
        self._is_sum_wanted = False

    def obey(self) -> None:
        """Do what comes until the end is ordered."""
        while (order := self._group.receive()).name != _END:
            getattr(self, order.name)(**order.arguments)

    def build(self, config: Config, info: RunInfo, device: str) -> None:
        """Make a state; the first process's weights come with it."""
        self.run_name = info.name
        backend = TorchBackend(_own_device(device, self._group.place), self._group.passes)
        self._state = backend.empty_state(config, info)
        self._generators = generators_of(backend.device)

    def set_precision(self, precision: str) -> None:
        self._state.precision = precision

    def step(
        self,
        windows: list[NDArray[np.int64]],
        soft_targets: list[NDArray[np.float16]],
        rate_factor: float,
        number: int,
    ) -> None:
        with _seeded(dropout_seed(number, self._group.place.rank), self._generators):
            self._state.step(windows, rate_factor, soft_targets=soft_targets)

    def rehearse(self, window: NDArray[np.int64]) -> None:
        self._state.rehearse(window)

    def evaluate(self, is_exact: bool) -> None:
        with self._state.averaged(is_exact=is_exact) as model:
            sums = model.sum_losses(self._batches())
        if self._is_sum_wanted:
            self._group.total(*sums)

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        while not isinstance(message := self._group.receive(), str):
            if message is not None:
                yield message
        self._is_sum_wanted = message == _SUM

    def load(
        self, checkpoint: Checkpoint, ema_updates: int, weights: _Shapes, rest: _Shapes
    ) -> None:
        received = [self._received(weights), self._received(rest)]
        arrays = StateArrays(weights=received[0], rest=received[1], ema_updates=ema_updates)
        self._state.load(arrays, checkpoint)

    def load_weights(self, weights: _Shapes, origin: str) -> None:
        self._state.load_weights(self._received(weights), origin)

    def _received(self, shapes: _Shapes) -> Arrays:
        return self._group.spread({name: np.empty(*shape) for name, shape in shapes.items()})


def follow(group: Group) -> None:
    """Take part in what the first process trains, until it says that this is over.

    Raises:
        RunFailedError: The first process has ended and can no longer say so itself.
    """
    follower = _Follower(group)
    try:
        follower.obey()
    except Exception as error:
        if not (isinstance(error, RuntimeError) and _is_connection(error)):
            group.report(error)
            raise
        if not group.first_says_it():
            resume = f": --resume {follower.run_name}" if follower.run_name else ""
            raise RunFailedError(
                f"the first of the {group.size} processes that trained the run has ended; what it "
                f"had saved is kept{resume}"
            ) from error
