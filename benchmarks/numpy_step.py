"""Training speed of the NumPy backend beside a plain PyTorch loop: tokens per second, in turn.

Both in float32 with the same shape, optimiser and windows; the plain loop is the shipped model with
autograd and torch's own AdamW, and nothing else of this program. On a quiet machine:

    python benchmarks/numpy_step.py --config nanogpt-cpu --rounds 5
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from shakespeare_tui.config.load import load_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.machine import keep_freed_memory, resident_bytes
from shakespeare_tui.models.numpy_gpt import GPT
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.training.numpy_state import NumpyTrainState, blas_threads

VOCAB_SIZE = 65
Step = Callable[[], float]


def numpy_step(config: Config, window: np.ndarray) -> Step:
    """One step of the backend."""
    generator = np.random.default_rng(0)
    state = NumpyTrainState(GPT(config.model, VOCAB_SIZE, generator), config.training, generator)
    return lambda: state.step([window], 1.0).loss


def torch_step(config: Config, window: np.ndarray) -> Step:
    """One step of a plain loop."""
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


def tokens_per_second(step: Step, tokens: int, seconds: float) -> float:
    """Over a number of seconds, after a step of warm-up."""
    step()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        step()
        steps += 1
    return steps * tokens / (time.perf_counter() - started)


def main() -> None:
    """Measure in turn and print medians with their range."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="nanogpt-cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    keep_freed_memory()
    settings = ["training.optimizer=adamw", "training.precision=float32"]
    config = load_config(arguments.config, settings)
    shape = (config.training.batch_size, config.seq_len + 1)
    window = np.random.default_rng(1).integers(0, VOCAB_SIZE, shape)
    steps = {"numpy": numpy_step(config, window), "torch": torch_step(config, window)}
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            tokens = shape[0] * config.seq_len
            speeds[name].append(tokens_per_second(step, tokens, arguments.seconds))
    print(
        f"{arguments.config}, float32, {blas_threads()} threads of NumPy, "
        f"{torch.get_num_threads()} of torch {torch.__version__}, NumPy {np.__version__}"
    )
    for name, found in speeds.items():
        print(
            f"{name}  {statistics.median(found):8,.0f} tokens/s  "
            f"({min(found):,.0f} to {max(found):,.0f})"
        )
    ratio = statistics.median(speeds["numpy"]) / statistics.median(speeds["torch"])
    print(f"ratio  {ratio:.2f}; memory of both together {(resident_bytes() or 0) / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
