"""Training speed of the NumPy backend, compiled and not, beside a plain PyTorch loop, in turn.

All in float32 with the same shape, AdamW and windows, each in a process of its own that waits while
another is measured; the plain loop is the shipped model with autograd and torch's own AdamW, and
nothing else of this program. On a quiet machine:

    python benchmarks/numpy_step.py --config nanogpt-cpu --rounds 5
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from shakespeare_tui.config.load import load_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.machine import keep_freed_memory

VOCAB_SIZE = 65
CONTENDERS = {
    "numpy, compiled by numba": {},
    "numpy alone": {"NUMBA_DISABLE_JIT": "1"},
    "plain torch loop": {},
}
Step = Callable[[], float]


def numpy_step(config: Config, window: np.ndarray) -> Step:
    """One step of the backend."""
    from shakespeare_tui.models.numpy_gpt import GPT
    from shakespeare_tui.training.numpy_state import NumpyTrainState, use_compiled

    keep_freed_memory()
    use_compiled()
    generator = np.random.default_rng(0)
    state = NumpyTrainState(GPT(config.model, VOCAB_SIZE, generator), config.training, generator)
    return lambda: state.step([window], 1.0).loss


def torch_step(config: Config, window: np.ndarray) -> Step:
    """One step of a plain loop."""
    import torch

    from shakespeare_tui.models.transformer import Transformer

    model = Transformer(config.model, VOCAB_SIZE, torch.Generator().manual_seed(0))
    training = config.training
    optimizer = torch.optim.AdamW(
        model.parameters(), training.learning_rate, (training.beta1, training.beta2)
    )
    tokens = torch.from_numpy(window)

    def step() -> float:
        optimizer.zero_grad()
        loss = model.loss(tokens[:, :-1], tokens[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.grad_clip or float("inf"))
        optimizer.step()
        return loss.item()

    return step


def contend(name: str, config: Config, seconds: float) -> None:
    """Answer each line of stdin with the speed over some seconds and the peak of memory so far."""
    shape = (config.training.batch_size, config.seq_len + 1)
    window = np.random.default_rng(1).integers(0, VOCAB_SIZE, shape)
    step = (torch_step if "torch" in name else numpy_step)(config, window)
    step()
    for _ in sys.stdin:
        step()
        steps, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            step()
            steps += 1
        speed = steps * shape[0] * config.seq_len / (time.perf_counter() - started)
        # KiB, but on macOS bytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps([speed, peak * (1 if sys.platform == "darwin" else 1024)]), flush=True)


def main() -> None:
    """Measure in turn and print medians with their range."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="nanogpt-cpu")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = ["training.optimizer=adamw", "training.precision=float32", *arguments.overrides]
    config = load_config(arguments.config, settings)
    if arguments.contender:
        contend(arguments.contender, config, arguments.seconds)
        return
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--contender", name, *sys.argv[1:]],
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, environment in CONTENDERS.items()
    }
    speeds: dict[str, list[float]] = {name: [] for name in processes}
    peaks: dict[str, int] = {}
    for _ in range(arguments.rounds):
        for name, process in processes.items():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            speed, peaks[name] = json.loads(process.stdout.readline())
            speeds[name].append(speed)
    for process in processes.values():
        process.communicate()
    print(f"{arguments.config}, float32, {arguments.rounds} rounds of {arguments.seconds:g} s each")
    of_torch = statistics.median(speeds["plain torch loop"])
    for name, found in speeds.items():
        middle = statistics.median(found)
        print(
            f"{name:25} {middle:8,.0f} tokens/s ({min(found):,.0f} to {max(found):,.0f}), "
            f"ratio {middle / of_torch:.2f}, peak {peaks[name] / 1e6:,.0f} MB"
        )


if __name__ == "__main__":
    main()
