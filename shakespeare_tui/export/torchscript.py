"""TorchScript: the traced model, to be run by ``torch.jit.load`` in Python or C++."""

from pathlib import Path

from shakespeare_tui.export.registry import Reopened
from shakespeare_tui.export.source import ExportSource, Options, need


def check(source: ExportSource, options: Options) -> None:
    """PyTorch must be there."""
    need("torch", "")


def write(source: ExportSource, options: Options, target: Path) -> None:
    """One archive."""
    from shakespeare_tui.export.torch_programs import torch_model, write_script

    write_script(torch_model(source), source, target)


def reopen(source: ExportSource, options: Options, target: Path) -> Reopened:
    """By PyTorch alone."""
    from shakespeare_tui.export.torch_programs import reopen_script

    return reopen_script(source, target)
