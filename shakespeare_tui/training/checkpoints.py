"""Checkpoints on disk: safetensors and JSON, no pickle anywhere, and NumPy arrays in memory."""

import contextlib
import dataclasses
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from shakespeare_tui.config.schema import CheckpointConfig, Config, ModelConfig
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
from shakespeare_tui.errors import RunFailedError, UserError, check_cancelled, never
from shakespeare_tui.files import (
    atomic_folder,
    file_sha256,
    open_regular,
    write_json_atomically,
)
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.models.parameters import count_parameters
from shakespeare_tui.runs.folder import (
    FORMAT_VERSION,
    PARTED_FORMAT,
    STATE,
    WEIGHTS,
    Checkpoint,
    CheckpointInfo,
    RunFolder,
    RunInfo,
    best_step,
    rank_checkpoints,
)
from shakespeare_tui.training.train_state import (
    PRECISIONS,
    Arithmetic,
    Arrays,
    StateArrays,
    TrainState,
    merged,
)

_FREE_TRAINING = {
    # The length: lengthening a run on purpose stretches what is left of its schedule.
    "max_steps",
    "minutes",
    # When training pauses to look, and when it ends: the steps themselves stay the same.
    "eval_every",
    "patience",
    "target_loss",
    "target_train_loss",
    "train_loss_steps",
    "on_nan",
    # Compared by what they resolved to.
    "precision",
    "device",
    "backend",
}


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The conditions of a run's steps, saved with its state.

    Attributes:
        settings: By ``section.key``, with empty ones resolved to what they mean.
        corpus_sha256: Of the text.
        tokenizer_sha256: Of the vocabulary.
        format: Of the run's folder, which versions how it is trained.
        embedding_scale: Of the model.
        device: Its type.
        threads: Of matrix products on the CPU; another number rounds otherwise.
        torch: The version of the library, also where that is NumPy.
        processor: Its vector instructions; others round otherwise.
        backend: The library, ``torch`` or ``numpy``; older checkpoints do not tell it.
        processes: How many trained it together; older checkpoints are of one.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    settings: dict[str, Any]
    corpus_sha256: str
    tokenizer_sha256: str
    format: int
    embedding_scale: float
    device: str
    threads: int
    torch: str
    processor: str
    backend: str = "torch"
    processes: int = 1


def fingerprint_of(
    config: Config,
    info: RunInfo,
    corpus_sha256: str,
    tokenizer: Tokenizer,
    arithmetic: Arithmetic,
) -> Fingerprint:
    """The fingerprint of a run as it would be trained by this process."""
    return Fingerprint(
        settings=exact_settings(config),
        corpus_sha256=corpus_sha256,
        tokenizer_sha256=tokenizer.fingerprint,
        format=info.format,
        embedding_scale=info.embedding_scale,
        device=arithmetic.device,
        threads=arithmetic.threads,
        torch=arithmetic.library,
        processor=arithmetic.processor,
        backend=arithmetic.backend,
        processes=arithmetic.processes,
    )


# What they name may be called otherwise on another machine: the digest of the texts decides.
_TEXTS = {"corpus", "validation"}


def exact_settings(config: Config) -> dict[str, Any]:
    """The settings that decide a run's steps, by ``section.key``; empty ones are resolved."""
    values = {f"model.{key}": value for key, value in config.model}
    values |= {f"training.{k}": v for k, v in config.training if k not in _FREE_TRAINING}
    values |= {f"data.{key}": value for key, value in config.data if key not in _TEXTS}
    return values | config.effective_values()


def differences(then: Fingerprint, now: Fingerprint) -> Iterator[str]:
    """What forbids an exact resume, one phrase for each."""
    # A setting that only one of two versions of the program knows cannot have been changed.
    for key in sorted(then.settings.keys() & now.settings.keys()):
        was, is_now = then.settings[key], now.settings[key]
        if was != is_now:
            yield f"{key} is {_shown(is_now)}, was {_shown(was)}"
    if then.corpus_sha256 != now.corpus_sha256:
        yield "the text of data.corpus has changed"
    if then.tokenizer_sha256 != now.tokenizer_sha256:
        yield "tokenizer.json has another vocabulary"
    if then.format != now.format:
        yield f"run.json says format {now.format}, was {then.format}"
    if then.embedding_scale != now.embedding_scale:
        yield f"run.json says embedding_scale {now.embedding_scale:g}, was {then.embedding_scale:g}"
    if then.device != now.device and then.backend == now.backend:
        yield f"training.device is {now.device}, was {then.device}"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def rounding_differences(then: Fingerprint, now: Fingerprint) -> Iterator[str]:
    """What makes a resumed run's losses equal only up to rounding, one phrase for each."""
    if then.backend != now.backend:
        yield f"the backend is {now.backend}, was {then.backend} (dropout is drawn anew)"
        return
    if then.processes != now.processes:
        processes = "1 process" if now.processes == 1 else f"{now.processes} processes"
        yield f"{processes}, was {then.processes} (dropout is drawn anew)"
    if then.device == "cpu" and then.threads != now.threads:
        yield f"{now.threads} threads, was {then.threads} (set OMP_NUM_THREADS={then.threads})"
    if then.device == "cpu" and then.processor != now.processor:
        yield f"the processor is {now.processor}, was {then.processor}"
    if then.torch != now.torch:
        yield f"{now.backend} is {now.torch}, was {then.torch}"


_LORA_SCALE = "lora_scale"
_WEIGHT_TYPES = (np.float32, np.float64, np.float16)
# Of safetensors' types, those that NumPy has; bfloat16 is widened.
_ARRAY_TYPES = {
    "BOOL",
    "F16",
    "F32",
    "F64",
    "C64",
    *(f"{s}{n}" for s in "IU" for n in (8, 16, 32, 64)),
}
Count = Annotated[int, Field(ge=0, lt=2**40)]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


@dataclass
class Progress:
    """Where a run stands: everything besides arrays that an exact resume needs.

    Attributes:
        step: Optimiser steps done.
        batches: Micro-batches drawn: the position of the window sampler.
        elapsed_seconds: Training time so far, without pauses.
        rate_scale: Factor on the schedule, from commands and rollbacks.
        extra_steps: Steps added by commands.
        extra_minutes: Minutes added by commands.
        evaluated_step: Last step at which the losses were evaluated.
        sampled_step: Last step at which samples were drawn.
        val_loss: Validation loss of the last evaluation, if any.
        train_loss: Training loss of the last evaluation, if any.
        accuracy: Share of validation tokens foretold in the last evaluation, if any.
        protocol: Protocol of the last evaluation.
        best_loss: Lowest validation loss so far.
        best_step: Its step.
        evaluations_without_gain: Evaluations since.
        rollbacks: How often training went back after a non-finite loss.
        rolled_back_to: The step it went back to the last time.
        precision: Type of matrix products, chosen at the start of the run.
        running_loss: Running mean of the training loss.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    step: Count = 0
    batches: Count = 0
    elapsed_seconds: Amount = 0.0
    rate_scale: Amount = 1.0
    extra_steps: Count = 0
    extra_minutes: Amount = 0.0
    evaluated_step: Count = 0
    sampled_step: Count = 0
    val_loss: Amount | None = None
    train_loss: Amount | None = None
    accuracy: Amount | None = None
    protocol: str | None = None
    best_loss: Amount | None = None
    best_step: Count | None = None
    evaluations_without_gain: Count = 0
    rollbacks: Count = 0
    rolled_back_to: Count | None = None
    precision: str = "float32"
    running_loss: Amount | None = None


_COUNT = TypeAdapter(Count)
_PROGRESS = TypeAdapter(Progress)
_FINGERPRINT = TypeAdapter(Fingerprint)


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """A checkpoint's files, read and verified.

    Attributes:
        checkpoint: Where they are from.
        arrays: Weights, optimiser state and generators.
        progress: Where the run stood.
        fingerprint: What its steps depended on; older checkpoints do not tell it.
    """

    checkpoint: Checkpoint
    arrays: StateArrays
    progress: Progress
    fingerprint: Fingerprint | None


def save_checkpoint(
    run: RunFolder, state: TrainState, progress: Progress, fingerprint: Fingerprint
) -> Checkpoint:
    """Write a checkpoint of the current step; nothing is visible until all of it is on disk.

    Raises:
        OSError: The disk is full; earlier checkpoints are untouched.
    """
    folder = run.checkpoint_folder(progress.step)
    is_fresh = progress.evaluated_step == progress.step
    aside: Path | None = None
    arrays = state.arrays()
    frozen_sha256 = _frozen_sha256(run, arrays.frozen) if arrays.frozen else None
    metadata = {
        "progress": json.dumps(asdict(progress)),
        "ema_updates": str(arrays.ema_updates),
        "fingerprint": json.dumps(asdict(fingerprint)),
    }
    with atomic_folder(folder) as temporary:
        weights_path, state_path = temporary / WEIGHTS, temporary / STATE
        scale = {_LORA_SCALE: repr(arrays.lora_scale)} if arrays.lora_scale else None
        _save_arrays(weights_path, arrays.weights, scale)
        _save_arrays(state_path, arrays.rest, metadata)
        info = CheckpointInfo(
            format=PARTED_FORMAT if frozen_sha256 else FORMAT_VERSION,
            step=progress.step,
            val_loss=progress.val_loss if is_fresh else None,
            train_loss=progress.train_loss if is_fresh else None,
            protocol=progress.protocol if is_fresh else None,
            accuracy=progress.accuracy if is_fresh else None,
            time=time.time(),
            elapsed_seconds=progress.elapsed_seconds,
            weights_sha256=file_sha256(weights_path),
            state_sha256=file_sha256(state_path),
            frozen_sha256=frozen_sha256,
        )
        write_json_atomically(temporary / "info.json", asdict(info))
        if folder.exists():
            # The same step of the same run, saved before it was evaluated.
            aside = run.set_aside(progress.step)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)
    return Checkpoint(run, folder, info)


def _frozen_sha256(run: RunFolder, frozen: Arrays) -> str:
    """The digest of a run's weights that do not learn, which are written with its first checkpoint.

    Raises:
        OSError: The disk is full.
    """
    known = [each.info.frozen_sha256 for each in run.checkpoints() if each.info.frozen_sha256]
    if known and run.frozen_path.is_file():
        return known[-1]
    shutil.rmtree(run.frozen_path.parent, ignore_errors=True)  # of a run that never came so far
    with atomic_folder(run.frozen_path.parent) as temporary:
        _save_arrays(temporary / WEIGHTS, frozen)
    return file_sha256(run.frozen_path)


def save_weights(run: RunFolder, weights: Arrays) -> Checkpoint:
    """Write weights that were not trained here as the checkpoint of step 0.

    Raises:
        OSError: The disk is full.
    """
    with atomic_folder(run.checkpoint_folder(0)) as temporary:
        _save_arrays(temporary / WEIGHTS, weights)
        info = CheckpointInfo(
            step=0,
            val_loss=None,
            train_loss=None,
            protocol=None,
            time=time.time(),
            elapsed_seconds=0.0,
            weights_sha256=file_sha256(temporary / WEIGHTS),
        )
        write_json_atomically(temporary / "info.json", asdict(info))
    run.write_index(None, 0)
    return run.checkpoint(0)


def _save_arrays(path: Path, arrays: Arrays, metadata: dict[str, str] | None = None) -> None:
    try:
        save_file(arrays, path, metadata)
    except SafetensorError as error:
        # The library wraps the system's errors; callers treat them alike.
        raise OSError(str(error)) from error


def read_arrays(path: Path, cancelled: Callable[[], bool] = never) -> tuple[Arrays, dict[str, str]]:
    """Arrays and metadata of a safetensors file; its format cannot carry code.

    Raises:
        UserError: The file is missing, cut short or not of this format.
        CancelledError: ``cancelled``, polled between arrays, became true.
    """
    arrays = {}
    try:
        # The library would wait for a FIFO.
        with open_regular(path) as raw, safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118
                check_cancelled(cancelled, "loading")
                kind = file.get_slice(name).get_dtype()
                if kind == "BF16":
                    arrays[name] = _read_bfloat16(raw, name)
                elif kind in _ARRAY_TYPES:
                    arrays[name] = file.get_tensor(name)
                else:
                    raise ValueError(f"{name} is of the type {kind}")
            return arrays, file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path} is missing; use another checkpoint of the run") from None
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is damaged or not a checkpoint ({reason}); use another checkpoint of the run"
        ) from None


def _read_bfloat16(file: BinaryIO, name: str) -> NDArray[np.float32]:
    """One array of a sound safetensors file, as float32: each number is its upper half."""
    file.seek(0)
    header_bytes = int.from_bytes(file.read(8), "little")
    entry = json.loads(file.read(header_bytes))[name]
    begin, end = entry["data_offsets"]
    file.seek(8 + header_bytes + begin)
    halves = np.frombuffer(file.read(end - begin), "<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


@contextlib.contextmanager
def _verified(
    path: Path, sha256: str | None, cancelled: Callable[[], bool] = never
) -> Iterator[None]:
    """Compare a file's digest on a thread of its own, while the block uses what it holds.

    Raises:
        UserError: The content is not what was saved; it comes before what the block says of it.
        CancelledError: ``cancelled`` became true.
    """
    if sha256 is None:
        yield
        return
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(file_sha256, path, cancelled)
        try:
            yield
        finally:
            if found.result() != sha256:
                raise UserError(
                    f"{path} is damaged: its content is not what was saved (SHA-256); use another "
                    "checkpoint of the run"
                )


def _read_parts(checkpoint: Checkpoint, cancelled: Callable[[], bool] = never) -> StateArrays:
    """A checkpoint's own weights, and those that its run's checkpoints share.

    Raises:
        UserError: They are missing or damaged.
        CancelledError: ``cancelled``, polled between arrays, became true.
    """
    arrays, metadata = read_arrays(checkpoint.weights_path, cancelled)
    path = checkpoint.frozen_path
    frozen: Arrays = {}
    if path is not None:
        if not path.is_file():
            raise UserError(
                f"{path} is missing: it holds the weights that did not learn, which all "
                f"checkpoints of {checkpoint.run.name} share; restore it, or train the run again"
            )
        frozen, _ = read_arrays(path, cancelled)
    try:
        scale = float(metadata.get(_LORA_SCALE, 0.0))
    except ValueError:
        raise _unreadable(checkpoint.weights_path, "its scale is no number") from None
    return StateArrays(weights=arrays, rest={}, frozen=frozen, lora_scale=scale)


def _whole(checkpoint: Checkpoint, parts: StateArrays) -> Arrays:
    try:
        return merged(parts.weights, parts.frozen, parts.lora_scale)
    except ValueError as error:
        raise _unreadable(checkpoint.weights_path, str(error)) from None


@contextlib.contextmanager
def _verified_weights(
    checkpoint: Checkpoint, cancelled: Callable[[], bool] = never
) -> Iterator[None]:
    """As ``_verified``, all files of a checkpoint's weights."""
    info = checkpoint.info
    with contextlib.ExitStack() as stack:
        if checkpoint.frozen_path is not None:
            stack.enter_context(_verified(checkpoint.frozen_path, info.frozen_sha256, cancelled))
        stack.enter_context(_verified(checkpoint.weights_path, info.weights_sha256, cancelled))
        yield


@contextlib.contextmanager
def reading_weights(
    checkpoint: Checkpoint,
    model: ModelConfig,
    vocab_size: int,
    *,
    copies: int,
    available: int | None,
    cancelled: Callable[[], bool] = never,
) -> Iterator[Arrays]:
    """A checkpoint's weights by name, to be put into a model; their digest is compared meanwhile.

    Args:
        checkpoint: Whose.
        model: The shape that they are for.
        vocab_size: Number of token ids.
        copies: How often they will be in memory at once.
        available: Bytes that are free there, where that is known.
        cancelled: Polled between arrays.

    Raises:
        UserError: They are missing or damaged, which comes before what the block says of them, are
            more or fewer than the model has, or do not fit into memory.
        CancelledError: ``cancelled`` became true.
    """
    check_room(checkpoint, copies, available)
    parts = _read_parts(checkpoint, cancelled)
    with _verified_weights(checkpoint, cancelled):
        arrays = _whole(checkpoint, parts)
        # By arithmetic: a hostile config must not make us allocate.
        stored = sum(array.size for array in arrays.values())
        expected = count_parameters(model, vocab_size)
        if stored != expected:
            raise UserError(
                f"{checkpoint.weights_path} holds {stored:,} parameters, but its run's config and "
                f"tokenizer need {expected:,}; the run folder mixes files of different runs"
            )
        yield arrays


def read_weights(checkpoint: Checkpoint, cancelled: Callable[[], bool] = never) -> Arrays:
    """A checkpoint's weights by name, as they were saved.

    Raises:
        UserError: They are missing or damaged.
        CancelledError: ``cancelled``, polled between arrays, became true.
    """
    parts = _read_parts(checkpoint, cancelled)
    with _verified_weights(checkpoint, cancelled):
        return _whole(checkpoint, parts)


def check_weights(
    weights: Arrays,
    shapes: Mapping[str, tuple[int, ...]],
    origin: str,
    cancelled: Callable[[], bool] = never,
) -> None:
    """Compare weights with the model that they are for.

    Raises:
        UserError: Names, shapes or types do not fit, or a weight is not finite; ``origin`` says
            where they are from.
        CancelledError: ``cancelled``, polled between arrays, became true.
    """
    missing, foreign = shapes.keys() - weights.keys(), weights.keys() - shapes.keys()
    if missing or foreign:
        name = min(missing or foreign)
        what = "lacks" if missing else "has an unknown"
        raise UserError(f"{origin} does not fit its config: it {what} tensor {name!r}")
    for name, array in weights.items():
        if array.shape != shapes[name] or array.dtype not in _WEIGHT_TYPES:
            raise UserError(
                f"{origin} does not fit its config: {name} is {list(array.shape)} "
                f"{array.dtype}, needed is {list(shapes[name])}"
            )
    for name, array in weights.items():
        check_cancelled(cancelled, "loading")
        with np.errstate(all="ignore"):
            total = float(array.sum())
        # The sum costs a fraction of looking at each; only an overflow makes it cry wolf.
        if not math.isfinite(total) and not np.isfinite(array).all():
            raise UserError(
                f"{origin} holds weights that are NaN or infinite ({name}): training had diverged; "
                "use another checkpoint of the run"
            )


def optimizer_arrays(
    rest: Arrays,
    index: int,
    shapes: Mapping[str, tuple[int, ...]],
    slots: Sequence[str],
    origin: str,
) -> Arrays:
    """What an optimiser remembered, by ``PARAMETER.SLOT``, compared with what it is for.

    Args:
        rest: All of the state.
        index: The optimiser's.
        shapes: Of the parameters that it updates.
        slots: What it remembers of each.
        origin: Where the state is from.

    Raises:
        UserError: It is another optimiser's or model's, or parts are missing: training could not
            go on from it exactly.
    """
    prefix = f"optimizer.{index}."
    found: Arrays = {}
    for key, array in rest.items():
        if not key.startswith(prefix):
            continue
        name, _, slot = key.removeprefix(prefix).rpartition(".")
        if name not in shapes:
            raise UserError(f"{origin} does not fit training.optimizer; it was changed since")
        shape = shapes[name]
        # A number each, of every row or column, or of every weight.
        fitting = {"step": ((),), "mean_square": (shape[:1], shape[1:])}.get(slot, (shape,))
        if array.shape not in fitting or array.dtype != np.float32:
            raise UserError(
                f"{origin} does not fit the model: {key} is {list(array.shape)} {array.dtype}"
            )
        found[f"{name}.{slot}"] = array
    # Before the first step, and for SGD without momentum, there is nothing to remember.
    if found and found.keys() != {f"{name}.{slot}" for name in shapes for slot in slots}:
        raise UserError(
            f"{origin} does not fit training.optimizer: parts of its state are missing or unknown; "
            "use another checkpoint"
        )
    return found


def check_room(checkpoint: Checkpoint, copies: int, available: int | None) -> None:
    """Refuse weights that do not fit into memory, before any of it is taken.

    Args:
        checkpoint: What would be loaded.
        copies: How often the weights will be in memory at once.
        available: Bytes that are free there, where that is known.

    Raises:
        UserError: They do not fit.
    """
    needed = copies * checkpoint.weights_bytes
    if available is not None and needed > available:
        raise UserError(
            f"loading {checkpoint.reference} takes about {format_bytes(needed)} of memory, and "
            f"{format_bytes(available)} are free; end other programs, or take a smaller model"
        )


def read_state(checkpoint: Checkpoint, cancelled: Callable[[], bool] = never) -> SavedState:
    """All that a checkpoint holds, verified against its digests; nothing is put anywhere.

    Raises:
        UserError: The checkpoint is damaged or foreign.
        CancelledError: ``cancelled``, polled between arrays, became true.
    """
    path = checkpoint.state_path
    if not path.exists() and checkpoint.run.info().pretrained and checkpoint.info.step == 0:
        raise UserError(
            f"{checkpoint.reference} is an imported model, not a run to resume; start one from it "
            f"with --from {checkpoint.run.name}"
        )
    rest, metadata = read_arrays(path, cancelled)
    with (
        _verified(path, checkpoint.info.state_sha256, cancelled),
        _verified_weights(checkpoint, cancelled),
    ):
        parts = _read_parts(checkpoint, cancelled)
    try:
        progress = _PROGRESS.validate_json(metadata["progress"], strict=True)
        ema_updates = _COUNT.validate_json(metadata["ema_updates"], strict=True)
        found = metadata.get("fingerprint")
        fingerprint = _FINGERPRINT.validate_json(found, strict=True) if found else None
    except ValidationError as error:
        problem = error.errors()[0]
        reason = f"{'.'.join(map(str, problem['loc'])) or 'a count'}: {problem['msg']}"
        raise _unreadable(path, reason) from None
    except KeyError as error:
        raise _unreadable(path, f"it lacks {error}") from None
    except ValueError as error:
        raise _unreadable(path, str(error)) from None
    if progress.step != checkpoint.info.step:
        raise UserError(
            f"{path} is of step {progress.step}, not {checkpoint.info.step}; use another "
            "checkpoint of the run"
        )
    if progress.precision not in PRECISIONS:
        raise _unreadable(path, f"an unknown precision {progress.precision!r}")
    return SavedState(
        checkpoint=checkpoint,
        arrays=dataclasses.replace(parts, rest=rest, ema_updates=ema_updates),
        progress=progress,
        fingerprint=fingerprint,
    )


def _unreadable(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is damaged or of another version ({reason}); use another checkpoint of the run"
    )


def restore(
    saved: SavedState, state: TrainState, cancelled: Callable[[], bool] = never
) -> Progress:
    """Put a state back exactly where a checkpoint was saved.

    Raises:
        UserError: The checkpoint does not fit, or holds weights that are not finite.
        CancelledError: ``cancelled``, polled between arrays, became true.
    """
    state.load(saved.arrays, saved.checkpoint, cancelled)
    state.precision = saved.progress.precision
    # A copy: the state may be put back again. NumPy's has one precision.
    return dataclasses.replace(saved.progress, precision=state.precision)


def prune(run: RunFolder, settings: CheckpointConfig, last: int) -> int | None:
    """Remove what need not be kept and rewrite the index; returns the best step.

    Kept are the ``last``, the ``keep_best`` lowest validation losses of each protocol (the earlier
    of equals), and every multiple of ``every``. Until one is evaluated, the first is kept too:
    a rollback may need it. What is later than the ``last`` comes again and is removed.
    """
    groups = rank_checkpoints(c for c in run.checkpoints() if c.info.step <= last)
    keep = {c.info.step for group in groups for c in group[: settings.keep_best]} | {last}
    if not groups:
        keep.add(min(run.steps()))
    best = groups[0][0].info.step if groups else None
    # Named before anything goes, so that the index never names what is gone.
    run.write_index(best, last)
    for step in run.steps():
        is_milestone = settings.every > 0 and 0 < step <= last and step % settings.every == 0
        if step not in keep and not is_milestone:
            run.remove_checkpoint(step)
    return best


def name_last(run: RunFolder, step: int) -> None:
    """Make ``step`` the last checkpoint by name; later ones stay until ``prune``."""
    run.write_index(best_step(c for c in run.checkpoints() if c.info.step <= step), step)


def explain_disk_error(error: OSError, run: RunFolder) -> RunFailedError:
    """The one line for a failed write."""
    reason = error.strerror or str(error).splitlines()[0]
    steps = run.steps()
    kept = f"the checkpoint of step {steps[-1]:,} is kept: " if steps else ""
    return RunFailedError(
        f"the run's folder could not be written ({reason}); {kept}free some space and resume"
    )
