"""The most memory that a training takes, beside what the program says before it starts."""

import functools
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from shakespeare_tui.bench.figures import Figures, Watcher
from shakespeare_tui.bench.program import environment, running
from shakespeare_tui.config.estimate.figures import (
    estimate_memory,
    expects_half,
    measure_corpus,
)
from shakespeare_tui.config.load import load_config
from shakespeare_tui.errors import UserError
from shakespeare_tui.machine import has_bf16_products

_ROUNDS = 3
# A model of next to nothing: what the program, the corpus and its tokens take. It is as wide as a
# head of compiled passes must be, whose code takes a hundred megabytes.
_NOTHING = (
    "model.d_model=32",
    "model.d_ff=32",
    "model.n_heads=1",
    "model.n_kv_heads=1",
    "model.n_layers=1",
    "model.max_seq_len=8",
    "data.seq_len=8",
    "training.batch_size=1",
    "training.max_steps=1",
    "training.minutes=",
)
_STEPS = ("training.max_steps=4", "training.minutes=")


def measure(
    watcher: Watcher, configs: Sequence[str] = ("quick",), settings: Sequence[str] = ()
) -> Iterator[Figures]:
    """Peaks of processes that make four steps, less that of a process with hardly any model."""
    for config in configs:
        yield _memory(watcher, config, settings)


def _memory(watcher: Watcher, config: str, settings: Sequence[str]) -> Figures:
    loaded = load_config(config, [*_STEPS, *settings])
    corpus = measure_corpus(loaded.data.corpus, settings=loaded.tokens)
    is_half = expects_half(loaded, is_cpu=True, has_bf16=has_bf16_products())
    estimate = estimate_memory(loaded, corpus.vocab_size, is_half=is_half)
    with tempfile.TemporaryDirectory() as folder:
        program = functools.partial(_peak, Path(folder), config, [*settings, *_NOTHING])
        training = functools.partial(_peak, Path(folder), config, [*_STEPS, *settings])
        title = f"Memory of training {config}"
        found = watcher.in_turn(title, {"program": program, "training": training}, _ROUNDS)
    pairs = zip(found["training"], found["program"], strict=True)
    samples = {
        "estimated": (estimate.total / 1e6,),
        "measured": tuple(training - program for training, program in pairs),
        "the program without a model": found["program"],
    }
    return Figures(title, "MB", samples, ("estimated",), is_rate=False, note=estimate.parts())


def _peak(folder: Path, config: str, settings: Sequence[str]) -> float:
    """The most resident megabytes of a run.

    Raises:
        UserError: It failed.
    """
    sets = [f"--set={setting}" for setting in settings]
    with running(["train", "--no-ui", "--config", config, *sets], environment(folder)) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise UserError(
            f"the training whose memory was to be measured ended with {process.returncode}"
        )
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
