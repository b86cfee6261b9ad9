"""Time a training step against a plain PyTorch loop of the same model, in turn.

The plain loop is what one writes first: nn.Module layers, GELU, unfused AdamW, random windows, and
no care for the allocator. Model and batch are those of a preset with learned positions, LayerNorm
and GELU (nanoGPT's architecture):

    python benchmarks/step_time.py --config nanogpt-cpu --steps 60
"""

import argparse
import platform
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shakespeare_tui.config.load import load_config
from shakespeare_tui.config.schema import Config, ModelConfig
from shakespeare_tui.data.windows import WindowSampler, gather_windows
from shakespeare_tui.machine import keep_freed_memory
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.training.torch_state import TorchTrainState

VOCAB_SIZE = 65


class PlainBlock(nn.Module):
    """A GPT-2 block without biases."""

    def __init__(self, shape: ModelConfig) -> None:
        super().__init__()
        width = shape.d_model
        self.heads = shape.n_heads
        self.first_norm = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.second_norm = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        batch, tokens, width = x.shape
        parts = self.qkv(self.first_norm(x)).split(width, dim=2)
        query, key, value = (
            part.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
            for part in parts
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).contiguous().view(batch, tokens, width))
        x = x + self.down(self.activation(self.up(self.second_norm(x))))
        return x


class PlainModel(nn.Module):
    """A GPT-2 with tied embeddings."""

    def __init__(self, shape: ModelConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCAB_SIZE, shape.d_model)
        self.positions = nn.Embedding(shape.max_seq_len, shape.d_model)
        self.blocks = nn.ModuleList(PlainBlock(shape) for _ in range(shape.n_layers))
        self.norm = nn.LayerNorm(shape.d_model, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V]."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.size(1)))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = F.linear(self.norm(x), self.tokens.weight)
        return logits


class PlainLoop:
    """The plain loop's step."""

    def __init__(self, config: Config, text: Tensor) -> None:
        self.model = PlainModel(config.model)
        self.text = text
        self.rows, self.length = config.training.batch_size, config.seq_len
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.99))

    def step(self) -> None:
        """Draw a batch and learn from it."""
        starts = torch.randint(len(self.text) - self.length, (self.rows,))
        x = torch.stack([self.text[s : s + self.length] for s in starts])
        y = torch.stack([self.text[s + 1 : s + 1 + self.length] for s in starts])
        loss = F.cross_entropy(self.model(x).view(-1, VOCAB_SIZE), y.view(-1))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


class OwnLoop:
    """The product's step."""

    def __init__(self, config: Config, text: Tensor, precision: str) -> None:
        model = Transformer(config.model, VOCAB_SIZE, torch.Generator().manual_seed(1)).train()
        self.state = TorchTrainState(model, config.training, torch.device("cpu"), precision)
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="nanogpt-cpu")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    config = load_config(arguments.config, ["model.dropout=0"])
    keep_freed_memory()
    text = torch.randint(VOCAB_SIZE, (100_000,))
    loops: dict[str, PlainLoop | OwnLoop] = {
        "plain": PlainLoop(config, text),
        "own, float32": OwnLoop(config, text, "float32"),
        "own, bfloat16": OwnLoop(config, text, "bfloat16"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for step in range(arguments.steps + 3):
        for name, loop in loops.items():
            started = time.perf_counter()
            loop.step()
            if step >= 3:
                seconds[name].append(time.perf_counter() - started)
    print(f"{arguments.config}, {platform.machine()}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, {arguments.steps} steps each, in turn")
    tokens = config.training.batch_size * config.seq_len
    plain = statistics.median(seconds["plain"])
    for name, times in seconds.items():
        median = statistics.median(times)
        quartiles = statistics.quantiles(times, n=4)
        print(
            f"{name:<14} {median * 1e3:7.1f} ms ({quartiles[0] * 1e3:.1f} to "
            f"{quartiles[2] * 1e3:.1f}), {tokens / median:8,.0f} tok/s, {plain / median:.2f}x"
        )


if __name__ == "__main__":
    main()
