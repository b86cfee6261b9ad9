"""TorchScript with 8-bit weights: a quarter of the size, every matrix with one scale a row.

What is multiplied with them is rounded to 8 bits on the way, each token by its own scale (dynamic
quantisation). A tied output layer is the embedding's table, kept once. Positions and norms stay in
float32.
"""

from pathlib import Path

from shakespeare_tui.export.registry import Reopened
from shakespeare_tui.export.source import ExportSource, Options, need


def check(source: ExportSource, options: Options) -> None:
    """PyTorch must be there."""
    need("torch", "")


def write(source: ExportSource, options: Options, target: Path) -> None:
    """One archive."""
    from shakespeare_tui.export.int8_layers import with_int8_layers
    from shakespeare_tui.export.torch_programs import torch_model, write_script

    write_script(with_int8_layers(torch_model(source)), source, target)


def reopen(source: ExportSource, options: Options, target: Path) -> Reopened:
    """By PyTorch alone."""
    from shakespeare_tui.export.torch_programs import reopen_script

    return reopen_script(source, target)
