"""Layers of PyTorch whose weights are 8-bit numbers with a scale a row.

``torch._int_mm`` (2.13) is the only product of 8-bit matrices that keeps its weights as they are:
those of ``torch.ao`` are packed, so that a table could not serve as embedding and as output layer.
"""

import copy

import torch
from torch import Tensor, nn

from shakespeare_tui.export.quantise import quantised
from shakespeare_tui.models.transformer import Transformer


class _Table(nn.Module):
    """A matrix [N, K] as 8-bit numbers, and the scale of each row, [N]."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        numbers, scale = quantised(weight.detach().numpy())
        self.register_buffer("numbers", torch.from_numpy(numbers))
        self.register_buffer("scale", torch.from_numpy(scale))


class Int8Linear(nn.Module):
    """The product with a table, and the addition of a bias."""

    def __init__(self, table: _Table, bias: Tensor | None) -> None:
        super().__init__()
        self.table = table
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """[…, K] to […, N]."""
        flat = x.flatten(0, -2)
        step = flat.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
        numbers = (flat / step).round().to(torch.int8)
        table, scale = self.table.get_buffer("numbers"), self.table.get_buffer("scale")
        y = torch._int_mm(numbers, table.t()).float() * step * scale
        if self.bias is not None:
            y = y + self.get_buffer("bias")
        shaped: Tensor = y.view(*x.shape[:-1], -1)
        return shaped


class Int8Embedding(nn.Module):
    """Rows of a table."""

    def __init__(self, table: _Table) -> None:
        super().__init__()
        self.table = table

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T] to [B, T, K]."""
        rows = self.table.get_buffer("numbers")[tokens].float()
        return rows * self.table.get_buffer("scale")[tokens].unsqueeze(-1)


def with_int8_layers(model: Transformer) -> Transformer:
    """A copy whose matrices are such tables."""
    twin = copy.deepcopy(model)
    table = _Table(twin.embedding.weight)
    head = table if twin.config.tie_weights else _Table(twin.head.weight)
    for module in list(twin.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child is not twin.head:
                setattr(module, name, Int8Linear(_Table(child.weight), child.bias))
    twin.embedding = Int8Embedding(table)  # type: ignore[assignment]
    twin.head = Int8Linear(head, None)  # type: ignore[assignment]
    return twin
