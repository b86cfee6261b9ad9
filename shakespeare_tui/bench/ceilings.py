"""What the machine can do at most: products of matrices, and reading memory."""

import time
from collections.abc import Callable, Iterator

import numpy as np

from shakespeare_tui.bench.figures import Figures, Watcher
from shakespeare_tui.machine import has_bf16_products

_ROUNDS, _SECONDS = 5, 0.3
# Tokens of a batch and widths, as in the feed-forward layer of the preset ``shakespeare``.
_ROWS, _INPUTS, _OUTPUTS = 2048, 384, 1536
_READ_BYTES = 256_000_000


def measure(watcher: Watcher) -> Iterator[Figures]:
    """Products of two matrices by all threads, and memory read by one."""
    import torch

    operations = 2e-9 * _ROWS * _INPUTS * _OUTPUTS
    x, weight = torch.randn(_ROWS, _INPUTS), torch.randn(_OUTPUTS, _INPUTS)
    x_array, weight_array = x.numpy(), weight.numpy()
    contenders = {
        "PyTorch, float32": lambda: operations * _repeated(lambda: x @ weight.T),
        "NumPy, float32": lambda: operations * _repeated(lambda: x_array @ weight_array.T),
    }
    if has_bf16_products():
        x_half, weight_half = x.bfloat16(), weight.bfloat16()
        contenders["PyTorch, bfloat16"] = lambda: (
            operations * _repeated(lambda: x_half @ weight_half.T)
        )
    title = f"Products of {_ROWS} × {_INPUTS} and {_INPUTS} × {_OUTPUTS}"
    yield Figures(title, "GFLOP/s", watcher.in_turn(title, contenders, _ROUNDS))
    numbers = np.ones(_READ_BYTES // 4, np.float32)
    title = "Memory read by one thread"
    reading = {"NumPy": lambda: _READ_BYTES * 1e-9 * _repeated(numbers.max)}
    yield Figures(title, "GB/s", watcher.in_turn(title, reading, _ROUNDS))


def _repeated(work: Callable[[], object]) -> float:
    """How often a second ``work`` is done."""
    work()
    times, started = 0, time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        work()
        times += 1
    return times / (time.perf_counter() - started)
