"""Low-rank adaptation (LoRA, arXiv:2106.09685): learn a small product beside a frozen matrix."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shakespeare_tui.models.transformer import Transformer

MATRICES: dict[str, tuple[str, ...]] = {
    "attention": ("attention.qkv", "attention.out"),
    "feedforward": ("feedforward.gate", "feedforward.up", "feedforward.down"),
}
MATRICES["all"] = MATRICES["attention"] + MATRICES["feedforward"]
"""The modules of a block by the words of ``training.lora_matrices``."""


class LoraLinear(nn.Linear):
    """A linear layer W x + (α / r) B A x, of which only A [r, in] and B [out, r] learn.

    Args:
        linear: The layer whose weights it takes over.
        rank: r.
        alpha: α.
        generator: Source of A; B is zero, so that nothing changes at first.
    """

    def __init__(
        self, linear: nn.Linear, rank: int, alpha: float, generator: torch.Generator
    ) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta", bias=False)
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = alpha / rank
        self.is_merged = False
        drawn = torch.randn(rank, self.in_features, generator=generator) / self.in_features**0.5
        self.lora_a = nn.Parameter(drawn.to(self.weight.device))
        self.lora_b = nn.Parameter(self.weight.new_zeros(self.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` [..., in] to [..., out]."""
        y = F.linear(x, self.weight, self.bias)
        if self.is_merged:
            return y
        return y + F.linear(F.linear(x, self.lora_a), self.lora_b) * self.scale

    @torch.no_grad()
    def merged(self) -> Tensor:
        """The matrix that does the same by itself, [out, in]."""
        return torch.addmm(self.weight, self.lora_b, self.lora_a, alpha=self.scale)


def add_lora(
    model: Transformer, rank: int, alpha: float, matrices: str, generator: torch.Generator
) -> dict[str, LoraLinear]:
    """Freeze a model and put layers that learn in the place of some; by their names."""
    model.requires_grad_(False)
    added = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name.endswith(MATRICES[matrices]):
            parent, _, own = name.rpartition(".")
            added[name] = LoraLinear(module, rank, alpha, generator)
            setattr(model.get_submodule(parent), own, added[name])
    return added


def freeze_all_but_last(model: Transformer, blocks: int) -> None:
    """Let only the last blocks and the norm after them learn."""
    model.requires_grad_(False)
    for block in list(model.blocks)[-blocks:]:
        block.requires_grad_(True)
    model.norm.requires_grad_(True)


def published_parameters(model: Transformer) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that any model of this shape has, by name."""
    for name, parameter in model.named_parameters():
        if not name.endswith(("lora_a", "lora_b")):
            yield name, parameter
