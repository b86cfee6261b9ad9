"""Time a step against a plain PyTorch loop of the same model, and against one that is not compiled.

The plain loop is what one writes first: nn.Module layers, GELU, unfused AdamW, random windows, and
no care for the allocator; it is GPT-2 of the preset's size, whatever the preset's own architecture.
All take steps in turn, so that what else runs hits them alike:

    python benchmarks/step_time.py --config nanogpt-cpu --steps 60
    python benchmarks/step_time.py --config shakespeare --set training.batch_size=16 --steps 10
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from shakespeare_tui.bench.plain import PlainLoop
from shakespeare_tui.config.load import load_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.windows import WindowSampler, gather_windows
from shakespeare_tui.machine import keep_freed_memory
from shakespeare_tui.models.compiling import compile_kernels
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.training.torch_state import TorchTrainState
from shakespeare_tui.training.train_state import PRECISIONS

VOCAB_SIZE = 65


class OwnLoop:
    """The product's step."""

    def __init__(self, config: Config, text: Tensor, precision: str, parts: int) -> None:
        model = Transformer(config.model, VOCAB_SIZE, torch.Generator().manual_seed(1)).train()
        cpu = torch.device("cpu")
        self.state = TorchTrainState(model, config.training, cpu, precision, parts=parts)
        self.text = text.numpy().astype(np.uint8)
        self.length = config.seq_len
        self.sampler = WindowSampler(len(text), self.length, config.training.batch_size, seed=1)
        self.batch = 0

    def step(self) -> None:
        """Draw a batch and learn from it."""
        windows = gather_windows(self.text, self.sampler.starts(self.batch), self.length)
        self.state.step([windows], 0.1)
        self.batch += 1


def main() -> None:
    """Time both in turn and print medians and their ratio."""
    from shakespeare_tui.models.fused import kernels

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="nanogpt-cpu")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--set", action="append", default=[], help="a setting, SECTION.KEY=VALUE")
    parser.add_argument("--only", nargs="+", help="rows to time; all if left out")
    arguments = parser.parse_args()
    config = load_config(arguments.config, ["model.dropout=0", *arguments.set])
    keep_freed_memory()
    text = torch.randint(VOCAB_SIZE, (100_000,))
    parts = min(torch.get_num_threads(), config.training.batch_size)
    compile_kernels(kernels(PRECISIONS))
    makers: dict[str, Callable[[], PlainLoop | OwnLoop]] = {
        "plain": partial(PlainLoop, config, text, VOCAB_SIZE)
    }
    for precision in PRECISIONS:
        own = partial(OwnLoop, config, text, precision)
        makers |= {precision: partial(own, 0), f"{precision}, compiled": partial(own, parts)}
    loops = {name: make() for name, make in makers.items() if name in (arguments.only or makers)}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    computed: dict[str, list[float]] = {name: [] for name in loops}
    for step in range(arguments.steps + 3):
        for name, loop in loops.items():
            started, spent = time.perf_counter(), time.process_time()
            loop.step()
            if step >= 3:
                seconds[name].append(time.perf_counter() - started)
                computed[name].append(time.process_time() - spent)
    print(f"{arguments.config}, {platform.machine()}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, {arguments.steps} steps each, in turn")
    tokens = config.training.batch_size * config.seq_len
    first = statistics.median(seconds[next(iter(loops))])
    for name, times in seconds.items():
        median = statistics.median(times)
        quartiles = statistics.quantiles(times, n=4)
        print(
            f"{name:<18} {median * 1e3:7.1f} ms ({quartiles[0] * 1e3:.1f} to "
            f"{quartiles[2] * 1e3:.1f}), {tokens / median:8,.0f} tok/s, {first / median:.2f}x, "
            f"{statistics.median(computed[name]) * 1e3:.1f} ms of processors"
        )


if __name__ == "__main__":
    main()
