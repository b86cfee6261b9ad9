"""A program of ``torch.export``: the graph with free dimensions, for PyTorch and compilers."""

import io
from pathlib import Path
from typing import Any

from shakespeare_tui.export.registry import Reopened
from shakespeare_tui.export.source import ExportSource, Options, need


def check(source: ExportSource, options: Options) -> None:
    """PyTorch must be there."""
    need("torch", "")


def write(source: ExportSource, options: Options, target: Path) -> None:
    """One archive, whose graph has been seen to have free dimensions.

    Raises:
        ValueError: A dimension is fixed.
    """
    import torch

    from shakespeare_tui.export.torch_programs import example, extra_files, quietly, torch_model

    batch = torch.export.Dim("batch", min=1)
    length = torch.export.Dim("length", min=1, max=source.model.context)
    buffer = io.BytesIO()
    with quietly():
        program = torch.export.export(
            torch_model(source),
            (example(source),),
            dynamic_shapes={"tokens": {0: batch, 1: length}},
            strict=False,
        )
        shape: Any = next(
            node.meta["val"].shape for node in program.graph.nodes if node.name == "tokens"
        )
        if any(isinstance(size, int) for size in shape):
            raise ValueError("the batch or the length is fixed")
        torch.export.save(program, buffer, extra_files=extra_files(source))
    target.write_bytes(buffer.getbuffer())


def reopen(source: ExportSource, options: Options, target: Path) -> Reopened:
    """By PyTorch alone."""
    import torch

    from shakespeare_tui.export.torch_programs import quietly, reopened

    with quietly():
        program = torch.export.load(target).module()
    return reopened(source, target, "torch.export.load", program)
