"""Save and load weights and training state: safetensors and JSON, no pickle anywhere."""

import contextlib
import dataclasses
import functools
import json
import math
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shakespeare_tui.config.schema import CheckpointConfig, Config, ModelConfig
from shakespeare_tui.data.tokenizers import Tokenizer
from shakespeare_tui.errors import RunFailedError, UserError, check_cancelled, never
from shakespeare_tui.files import atomic_folder, file_sha256, open_regular, write_json_atomically
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.models.parameters import count_parameters
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.folder import (
    STATE,
    WEIGHTS,
    Checkpoint,
    CheckpointInfo,
    RunFolder,
    RunInfo,
    best_step,
    rank_checkpoints,
)
from shakespeare_tui.training.device import PRECISIONS, free_memory
from shakespeare_tui.training.muon import Muon
from shakespeare_tui.training.torch_state import SGDW, Learner

_FREE_TRAINING = {
    # The length: lengthening a run on purpose stretches what is left of its schedule.
    "max_steps",
    "minutes",
    # When training pauses to look, and when it ends: the steps themselves stay the same.
    "eval_every",
    "patience",
    "target_loss",
    "on_nan",
    # Compared by what they resolved to.
    "precision",
    "device",
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
        torch: Its version.
        processor: Its vector instructions; others round otherwise.
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


def fingerprint_of(
    config: Config, info: RunInfo, corpus_sha256: str, tokenizer: Tokenizer, device: str
) -> Fingerprint:
    """The fingerprint of a run as it would be trained by this process."""
    return Fingerprint(
        settings=exact_settings(config),
        corpus_sha256=corpus_sha256,
        tokenizer_sha256=tokenizer.fingerprint,
        format=info.format,
        embedding_scale=info.embedding_scale,
        device=device,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        processor=f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    )


def exact_settings(config: Config) -> dict[str, Any]:
    """The settings that decide a run's steps, by ``section.key``; empty ones are resolved."""
    values = {f"model.{key}": value for key, value in config.model}
    values |= {f"training.{k}": v for k, v in config.training if k not in _FREE_TRAINING}
    values |= {f"data.{key}": value for key, value in config.data if key != "corpus"}
    return values | {
        "model.d_ff": config.model.feedforward_width,
        "training.min_lr": config.training.final_learning_rate,
        "data.seq_len": config.seq_len,
        "data.stride": config.data.stride or config.seq_len,
    }


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
    if then.device != now.device:
        yield f"training.device is {now.device}, was {then.device}"


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def rounding_differences(then: Fingerprint, now: Fingerprint) -> Iterator[str]:
    """What makes a resumed run's losses equal only up to rounding, one phrase for each."""
    if then.device == "cpu" and then.threads != now.threads:
        yield f"{now.threads} threads, was {then.threads} (set OMP_NUM_THREADS={then.threads})"
    if then.device == "cpu" and then.processor != now.processor:
        yield f"the processor is {now.processor}, was {then.processor}"
    if then.torch != now.torch:
        yield f"torch is {now.torch}, was {then.torch}"


_SLOTS: dict[type[torch.optim.Optimizer], set[str]] = {
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.Adam: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.SGD: {"momentum_buffer"},
    SGDW: {"momentum_buffer"},
    Muon: {"momentum"},
}


_WEIGHT_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
Count = Annotated[int, Field(ge=0, lt=2**40)]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


@dataclass
class Progress:
    """Where a run stands: everything besides tensors that an exact resume needs.

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
        protocol: Protocol of the last evaluation.
        best_loss: Lowest validation loss so far.
        best_step: Its step.
        evaluations_without_gain: Evaluations since.
        rollbacks: How often training went back after a non-finite loss.
        rolled_back_to: The step it went back to the last time.
        precision: Type of matrix products, chosen at the start of the run.
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
    protocol: str | None = None
    best_loss: Amount | None = None
    best_step: Count | None = None
    evaluations_without_gain: Count = 0
    rollbacks: Count = 0
    rolled_back_to: Count | None = None
    precision: str = "float32"


_COUNT = TypeAdapter(Count)
_PROGRESS = TypeAdapter(Progress)
_FINGERPRINT = TypeAdapter(Fingerprint)


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """A checkpoint's files, read and verified.

    Attributes:
        checkpoint: Where they are from.
        weights: What generates: the averaged weights where such are kept.
        tensors: Optimiser state, generators, and the raw weights beside averaged ones.
        progress: Where the run stood.
        ema_updates: Updates that the averaged weights had seen.
        fingerprint: What its steps depended on; older checkpoints do not tell it.
    """

    checkpoint: Checkpoint
    weights: dict[str, Tensor]
    tensors: dict[str, Tensor]
    progress: Progress
    ema_updates: int
    fingerprint: Fingerprint | None


def save_checkpoint(
    run: RunFolder, learner: Learner, progress: Progress, fingerprint: Fingerprint
) -> Checkpoint:
    """Write a checkpoint of the current step; nothing is visible until all of it is on disk.

    Raises:
        OSError: The disk is full; earlier checkpoints are untouched.
    """
    folder = run.checkpoint_folder(progress.step)
    is_fresh = progress.evaluated_step == progress.step
    aside: Path | None = None
    # Before the averaged weights take the place of those that training goes on from.
    state = _state_tensors(learner)
    metadata = {
        "progress": json.dumps(asdict(progress)),
        "ema_updates": str(learner.ema_updates),
        "fingerprint": json.dumps(asdict(fingerprint)),
    }
    with atomic_folder(folder) as temporary, learner.averaged() as averaged:
        weights_path, state_path = temporary / WEIGHTS, temporary / STATE
        _save_tensors(weights_path, dict(averaged.named_parameters()))
        _save_tensors(state_path, state, metadata)
        info = CheckpointInfo(
            step=progress.step,
            val_loss=progress.val_loss if is_fresh else None,
            train_loss=progress.train_loss if is_fresh else None,
            protocol=progress.protocol if is_fresh else None,
            time=time.time(),
            elapsed_seconds=progress.elapsed_seconds,
            weights_sha256=file_sha256(weights_path),
            state_sha256=file_sha256(state_path),
        )
        write_json_atomically(temporary / "info.json", asdict(info))
        if folder.exists():
            # The same step of the same run, saved before it was evaluated.
            aside = run.set_aside(progress.step)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)
    return Checkpoint(run, folder, info)


def _save_tensors(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(on_cpu, path, metadata)
    except SafetensorError as error:
        # The library wraps the system's errors; callers treat them alike.
        raise OSError(str(error)) from error


def _state_tensors(learner: Learner) -> dict[str, Tensor]:
    tensors = generator_states(generators_of(learner.device))
    names = {id(parameter): name for name, parameter in learner.model.named_parameters()}
    for index, optimizer in enumerate(learner.optimizers):
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{names[id(parameter)]}.{key}"] = value
    if learner.ema:
        # weights.safetensors then holds the average; training goes on from these.
        for name, parameter in learner.model.named_parameters():
            tensors[f"raw.{name}"] = parameter.detach()
    return tensors


def read_tensors(
    path: Path, cancelled: Callable[[], bool] = never
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; its format cannot carry code.

    Raises:
        UserError: The file is missing, cut short or not of this format.
        CancelledError: ``cancelled``, polled between tensors, became true.
    """
    tensors = {}
    try:
        # The library would wait for a FIFO.
        with open_regular(path), safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118
                check_cancelled(cancelled, "loading")
                tensors[name] = file.get_tensor(name)
            return tensors, file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"{path} is missing; use another checkpoint of the run") from None
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is damaged or not a checkpoint ({reason}); use another checkpoint of the run"
        ) from None


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


def load_model(
    checkpoint: Checkpoint, device: torch.device, cancelled: Callable[[], bool] = never
) -> tuple[Transformer, Tokenizer]:
    """The model of a checkpoint, in evaluation mode, with its tokenizer.

    Raises:
        UserError: The checkpoint is damaged, foreign, does not fit its config or not into memory.
        CancelledError: ``cancelled``, polled between tensors, became true.
    """
    config, tokenizer = checkpoint.run.config(), checkpoint.run.tokenizer()
    check_room(checkpoint, device, free_memory(device))
    tensors, _ = read_tensors(checkpoint.weights_path, cancelled)
    with _verified(checkpoint.weights_path, checkpoint.info.weights_sha256, cancelled):
        check_size(checkpoint, tensors, config.model, tokenizer.vocab_size)
        model = Transformer(
            config.model,
            tokenizer.vocab_size,
            context=config.seq_len,
            embedding_scale=checkpoint.run.info().embedding_scale,
            cancelled=cancelled,
        )
        load_weights(model, tensors, str(checkpoint.weights_path), cancelled)
    return model.to(device).eval(), tokenizer


def check_room(checkpoint: Checkpoint, device: torch.device, available: int | None) -> None:
    """Refuse weights that do not fit into memory, before any of it is taken.

    Args:
        checkpoint: What would be loaded.
        device: Where to.
        available: Bytes that are free there, where that is known.

    Raises:
        UserError: They do not fit.
    """
    path = checkpoint.weights_path
    size = path.stat().st_size if path.is_file() else 0
    # As they are read, in the model, and on the CPU rearranged for decoding.
    needed = (3 if device.type == "cpu" else 1) * size
    if available is not None and needed > available:
        raise UserError(
            f"loading {checkpoint.reference} takes about {format_bytes(needed)} of memory, and "
            f"{format_bytes(available)} are free; end other programs, or take a smaller model"
        )


def read_weights(
    checkpoint: Checkpoint, cancelled: Callable[[], bool] = never
) -> dict[str, Tensor]:
    """A checkpoint's weights by name, as they were saved.

    Raises:
        UserError: They are missing or damaged.
        CancelledError: ``cancelled``, polled between tensors, became true.
    """
    tensors, _ = read_tensors(checkpoint.weights_path, cancelled)
    with _verified(checkpoint.weights_path, checkpoint.info.weights_sha256, cancelled):
        return tensors


def check_size(
    checkpoint: Checkpoint, tensors: dict[str, Tensor], model: ModelConfig, vocab_size: int
) -> None:
    """Compare weights with a config by arithmetic: a hostile config must not make us allocate.

    Raises:
        UserError: There are more or fewer parameters than the config asks for.
    """
    stored = sum(tensor.numel() for tensor in tensors.values())
    expected = count_parameters(model, vocab_size)
    if stored != expected:
        raise UserError(
            f"{checkpoint.weights_path} holds {stored:,} parameters, but its run's config and "
            f"tokenizer need {expected:,}; the run folder mixes files of different runs"
        )


def load_weights(
    model: Transformer,
    tensors: dict[str, Tensor],
    origin: str,
    cancelled: Callable[[], bool] = never,
) -> None:
    """Copy weights into a model by name.

    Raises:
        UserError: Names, shapes or types do not fit, or a weight is not finite; ``origin`` says
            where the tensors are from.
        CancelledError: ``cancelled``, polled between tensors, became true.
    """
    parameters = dict(model.named_parameters())
    _check_fit(tensors, parameters, origin)
    _check_finite(tensors, origin, cancelled)
    with torch.no_grad():
        for name, parameter in parameters.items():
            check_cancelled(cancelled, "loading")
            parameter.copy_(tensors[name])


def _check_finite(
    tensors: dict[str, Tensor], origin: str, cancelled: Callable[[], bool] = never
) -> None:
    for name, tensor in tensors.items():
        check_cancelled(cancelled, "loading")
        # The sum costs a hundredth of looking at each; only an overflow makes it cry wolf.
        if not math.isfinite(tensor.sum().item()) and not tensor.isfinite().all():
            raise UserError(
                f"{origin} holds weights that are NaN or infinite ({name}): training had diverged; "
                "use another checkpoint of the run"
            )


def _check_fit(found: dict[str, Tensor], wanted: dict[str, Any], origin: str) -> None:
    missing, foreign = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if missing or foreign:
        name = min(missing or foreign)
        what = "lacks" if missing else "has an unknown"
        raise UserError(f"{origin} does not fit its config: it {what} tensor {name!r}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape or tensor.dtype not in _WEIGHT_TYPES:
            raise UserError(
                f"{origin} does not fit its config: {name} is {list(tensor.shape)} "
                f"{tensor.dtype}, needed is {list(wanted[name].shape)}"
            )


def read_state(checkpoint: Checkpoint, cancelled: Callable[[], bool] = never) -> SavedState:
    """All that a checkpoint holds, verified against its digests; nothing is put anywhere.

    Raises:
        UserError: The checkpoint is damaged or foreign.
        CancelledError: ``cancelled``, polled between tensors, became true.
    """
    path = checkpoint.state_path
    tensors, metadata = read_tensors(path, cancelled)
    with _verified(path, checkpoint.info.state_sha256, cancelled):
        weights = read_weights(checkpoint, cancelled)
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
        weights=weights,
        tensors=tensors,
        progress=progress,
        ema_updates=ema_updates,
        fingerprint=fingerprint,
    )


def _unreadable(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is damaged or of another version ({reason}); use another checkpoint of the run"
    )


def restore(saved: SavedState, learner: Learner, cancelled: Callable[[], bool] = never) -> Progress:
    """Put a learner and the generators back exactly where a checkpoint was saved.

    Raises:
        UserError: The checkpoint does not fit, or holds weights that are not finite.
        CancelledError: ``cancelled``, polled between tensors, became true.
    """
    weights, state = saved.weights, saved.tensors
    origin, weights_origin = str(saved.checkpoint.state_path), str(saved.checkpoint.weights_path)
    raw = {n.removeprefix("raw."): t for n, t in state.items() if n.startswith("raw.")}
    if bool(raw) != bool(learner.ema):
        raise UserError(f"{origin} does not fit training.ema_decay; it was changed since")
    load_weights(learner.model, raw or weights, weights_origin, cancelled)
    if raw:
        named = dict(learner.model.named_parameters())
        _check_fit(weights, named, weights_origin)
        _check_finite(weights, weights_origin)
        for average, name in zip(learner.ema, named, strict=True):
            average.copy_(weights[name])
        learner.ema_updates = saved.ema_updates
    _restore_optimizers(state, learner, origin)
    _restore_generators(state, learner, origin)
    learner.precision = PRECISIONS[saved.progress.precision]
    # A copy: the state may be put back again.
    return dataclasses.replace(saved.progress)


def _restore_optimizers(state: dict[str, Tensor], learner: Learner, origin: str) -> None:
    named = dict(learner.model.named_parameters())
    for index, optimizer in enumerate(learner.optimizers):
        optimizer.state.clear()
        owned = {id(p) for group in optimizer.param_groups for p in group["params"]}
        prefix = f"optimizer.{index}."
        for key, tensor in state.items():
            if not key.startswith(prefix):
                continue
            name, _, slot = key.removeprefix(prefix).rpartition(".")
            parameter = named.get(name)
            if parameter is None or id(parameter) not in owned:
                raise UserError(f"{origin} does not fit training.optimizer; it was changed since")
            shape = [] if slot == "step" else list(parameter.shape)
            if list(tensor.shape) != shape or tensor.dtype != torch.float32:
                raise UserError(
                    f"{origin} does not fit the model: {key} is {list(tensor.shape)} {tensor.dtype}"
                )
            optimizer.state[parameter][slot] = tensor.to(parameter.device)
        _check_slots(optimizer, origin)


def _check_slots(optimizer: torch.optim.Optimizer, origin: str) -> None:
    """Refuse a state with parts missing: training could not go on from it exactly."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    found = [set(optimizer.state.get(parameter, {})) for parameter in parameters]
    # Before the first step, and for SGD without momentum, there is nothing to remember.
    if any(found) and any(slots != _SLOTS[type(optimizer)] for slots in found):
        raise UserError(
            f"{origin} does not fit training.optimizer: parts of its state are missing or unknown; "
            "use another checkpoint"
        )


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
        get = functools.partial(torch.cuda.get_rng_state, device)
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


def restore_generators(state: dict[str, Tensor], generators: Sequence[GlobalGenerator]) -> None:
    """Put generators back to their states; one whose device was another then is left alone.

    Raises:
        KeyError: The processor's state, which every checkpoint has, is missing.
    """
    for generator in generators:
        if generator.name in state or generator.name == "rng.cpu":
            generator.set(state[generator.name])


def _restore_generators(state: dict[str, Tensor], learner: Learner, origin: str) -> None:
    try:
        restore_generators(state, generators_of(learner.device))
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(f"{origin} has no usable random state: {error}") from None


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
