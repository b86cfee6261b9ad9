"""What must be equal so that a resumed run makes the steps that the uninterrupted one would."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ConfigDict

from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.tokenizers import Tokenizer
from shakespeare_tui.runs.folder import RunInfo

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
