"""The plain loop that everything is compared with: PyTorch as one writes it first.

Modules of ``torch.nn``, GELU, AdamW as it comes, random windows, and no care for the allocator; a
GPT-2 without biases whose embedding is its output layer, as in nanoGPT.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from shakespeare_tui.config.schema import Config, ModelConfig


class PlainBlock(nn.Module):
    """Attention and feed-forward network, each after a norm and added to the stream."""

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
    """A GPT-2 of the width, depth and context of ``shape``."""

    def __init__(self, shape: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.context = shape.max_seq_len
        self.tokens = nn.Embedding(vocab_size, shape.d_model)
        self.positions = nn.Embedding(shape.max_seq_len, shape.d_model)
        self.blocks = nn.ModuleList(PlainBlock(shape) for _ in range(shape.n_layers))
        self.norm = nn.LayerNorm(shape.d_model, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V]."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.size(1)))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = F.linear(self.norm(x), self.tokens.weight)
        return logits


class PlainLoop:
    """Trains a plain model on a text [N] of token ids."""

    def __init__(self, config: Config, text: Tensor, vocab_size: int) -> None:
        self.model = PlainModel(config.model, vocab_size)
        self.rate = 1e-3
        self._text = text
        self._rows, self._length = config.training.batch_size, config.seq_len
        self._optimizer = torch.optim.AdamW(self.model.parameters(), betas=(0.9, 0.99))

    @property
    def tokens(self) -> int:
        """That a step learns from."""
        return self._rows * self._length

    def step(self) -> None:
        """Draw a batch and learn from it."""
        starts = torch.randint(len(self._text) - self._length, (self._rows,))
        x = torch.stack([self._text[s : s + self._length] for s in starts])
        y = torch.stack([self._text[s + 1 : s + 1 + self._length] for s in starts])
        loss = F.cross_entropy(self.model(x).flatten(0, 1), y.flatten())
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()


@torch.inference_mode()
def exact_loss(model: PlainModel, text: NDArray[np.int64]) -> float:
    """Nats a token over all of a text [N] but its first, in windows that do not overlap."""
    total = 0.0
    for start in range(0, len(text) - 1, model.context):
        window = torch.from_numpy(text[start : start + model.context + 1])
        logits = model(window[None, :-1])[0]
        total += F.cross_entropy(logits, window[1:], reduction="sum").item()
    return total / (len(text) - 1)


@torch.inference_mode()
def write(
    model: nn.Module, prompt: list[int], tokens: int, streams: int, context: int, temperature: float
) -> None:
    """Continue a prompt, every token from its whole context, without a cache."""
    text = torch.tensor([prompt] * streams)
    for _ in range(tokens):
        logits = model(text[:, -context:])[:, -1] / temperature
        probabilities = torch.softmax(logits, dim=-1)
        text = torch.cat((text, torch.multinomial(probabilities, 1)), dim=1)
