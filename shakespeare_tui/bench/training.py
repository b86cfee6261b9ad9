"""Training: the way to the first step, tokens a second, and what loss is reached in what time."""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from shakespeare_tui.bench.figures import Figures, Watcher
from shakespeare_tui.bench.plain import PlainLoop, exact_loss
from shakespeare_tui.bench.program import PROGRAM, environment, running, wait_for_step
from shakespeare_tui.config.load import load_config
from shakespeare_tui.data.catalogue import find_entry
from shakespeare_tui.data.download import cached_path
from shakespeare_tui.data.tokens import split_point
from shakespeare_tui.decoding.cpu_decoder import wait_until_compiled
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.machine import has_bf16_products, keep_freed_memory
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.paths import shipped_folder
from shakespeare_tui.training.measure_speed import measure_throughput
from shakespeare_tui.training.torch_state import TorchBackend

_TRAIN = (*PROGRAM, "train", "--no-ui", "--json")
_VOCAB_SIZE = 65
_ROUNDS, _SECONDS = 5, 1.0
PLAIN = "plain PyTorch loop"


def measure(
    watcher: Watcher,
    configs: Sequence[str] = ("nanogpt-cpu", "quick"),
    settings: Sequence[str] = (),
) -> Iterator[Figures]:
    """Steps of configs, by both backends, beside a plain loop of the same width and depth.

    Args:
        watcher: Looks on.
        configs: Presets or files.
        settings: Of each, ``SECTION.FIELD=VALUE``; there is no dropout in the plain loop.
    """
    keep_freed_memory()
    text = torch.randint(_VOCAB_SIZE, (100_000,))
    for preset in configs:
        config = load_config(preset, ["model.dropout=0", *settings])
        loop = PlainLoop(config, text, _VOCAB_SIZE)

        contenders = {PLAIN: functools.partial(_plain_speed, loop)}
        precisions = ("float32", "bfloat16") if has_bf16_products() else ("float32",)
        for name, choices in (
            *((precision, [f"training.precision={precision}"]) for precision in precisions),
            ("NumPy, float32", ["training.backend=numpy", "training.precision=float32"]),
        ):
            changes = ["model.dropout=0", *settings, *choices]
            ours = load_config(preset, changes)
            contenders[name] = functools.partial(measure_throughput, ours, _SECONDS)
        contenders["NumPy alone, float32"] = functools.partial(_without_numba, preset, changes)
        loop.step()
        rows, length = config.training.batch_size, config.seq_len
        title = f"Training {preset}, {rows} × {length} tokens a step"
        samples = watcher.in_turn(title, contenders, _ROUNDS)
        yield Figures(title, "tokens/s", samples, (PLAIN,))


def _plain_speed(loop: PlainLoop) -> float:
    """Tokens a second over a second."""
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        loop.step()
        steps += 1
    return steps * loop.tokens / (time.perf_counter() - started)


_WITHOUT_NUMBA = f"""
import sys
from shakespeare_tui.config.load import load_config
from shakespeare_tui.training.measure_speed import measure_throughput
print(measure_throughput(load_config(sys.argv[1], sys.argv[2:]), {_SECONDS}))
"""


def _without_numba(preset: str, changes: Sequence[str]) -> float:
    """Tokens a second where nothing is compiled, in a process that never does."""
    command = [sys.executable, "-c", _WITHOUT_NUMBA, preset, *changes]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    return float(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


def _corpus() -> Path:
    """The plays where they have been fetched, else the sample."""
    corpus = cached_path(find_entry("tiny_shakespeare"))
    return corpus if corpus.is_file() else shipped_folder("data") / "sample.txt"


_STARTS = 5
_IMPORT = "import torch"


def measure_start(watcher: Watcher) -> Iterator[Figures]:
    """The time from the command to its first step, with all that is compiled on the disk."""
    title = "From the command to the first step of a new run"
    contenders: dict[str, Callable[[], float]] = {_IMPORT: _import_seconds}
    for preset in ("quick", "sprint"):
        contenders[preset] = functools.partial(_start_seconds, preset)
        watcher.tell(f"{title}: {preset}, compiling what is not on the disk yet")
        _compile_all(preset)
    samples = watcher.in_turn(title, contenders, _STARTS)
    yield Figures(title, "s", samples, (_IMPORT,), is_rate=False)


def _compile_all(preset: str) -> None:
    """Bring all that a run computes with onto the disk, its samples' decoder too."""
    config = load_config(preset)
    TorchBackend("cpu").prepare(config, lambda what, done, total: None)
    make_decoder(Transformer(config.model, _VOCAB_SIZE).eval(), 1)
    wait_until_compiled()


def _import_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", _IMPORT], check=True)
    return time.perf_counter() - started


def _start_seconds(preset: str) -> float:
    # What is told of layers comes with a step, and brings the step into the log at once.
    options = [f"--config={preset}", f"--corpus={_corpus()}", "--set", "logging.layers_every=1"]
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["train", "--no-ui", "--name=start", *options]
        started = time.time()
        with running(arguments, environment(Path(folder))) as process:
            return wait_for_step(process, Path(folder) / "runs" / "start", 1).time - started


_BUDGET_SECONDS = 20


def measure_losses(watcher: Watcher) -> Iterator[Figures]:
    """The exact loss after a time: nanoGPT's CPU recipe as a plain loop, and ``quick``."""
    corpus = _corpus()
    title = f"Validation loss by characters on {corpus.stem}"
    plain = f"{PLAIN}, {_BUDGET_SECONDS} s"
    contenders = {plain: functools.partial(_plain_loss, corpus, _BUDGET_SECONDS)}
    for seconds in (_BUDGET_SECONDS // 8, _BUDGET_SECONDS):
        contenders[f"quick, {seconds} s"] = functools.partial(_own_loss, seconds)
    samples = watcher.in_turn(title, contenders, 1)
    note = "exact: every validation token but the first once, in windows of the model's context"
    yield Figures(title, "nats/character", samples, is_rate=False, note=note)


def _plain_loss(corpus: Path, seconds: float) -> float:
    """Of the recipe, its rate falling from 1e-3 to 1e-4 along a cosine."""
    text = corpus.read_text(encoding="utf-8")
    alphabet = {character: index for index, character in enumerate(sorted(set(text)))}
    ids = np.array([alphabet[character] for character in text])
    split = split_point(len(ids), 0.1)
    loop = PlainLoop(load_config("nanogpt-cpu"), torch.from_numpy(ids[:split]), len(alphabet))
    started = time.perf_counter()
    while (passed := (time.perf_counter() - started) / seconds) < 1:
        loop.rate = 1e-4 + 0.9e-3 * 0.5 * (1 + np.cos(np.pi * passed))
        loop.step()
    return exact_loss(loop.model, ids[split:])


def _own_loss(seconds: int) -> float:
    """Of the preset, by the command that everyone uses."""
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [*_TRAIN, "--config=quick", f"--corpus={_corpus()}", f"--minutes={seconds}s"],
            env={**os.environ, "SHAKESPEARE_TUI_RUNS": folder},
            capture_output=True,
            check=True,
        )
    return float(json.loads(result.stdout)["val_loss"])
