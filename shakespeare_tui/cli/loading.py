"""Load a checkpoint for a command, and say what has to be known beside its figures."""

from typing import TYPE_CHECKING

from shakespeare_tui.cli.console import say

if TYPE_CHECKING:
    from shakespeare_tui.data.tokenizers import Tokenizer
    from shakespeare_tui.models.transformer import Transformer
    from shakespeare_tui.runs.folder import Checkpoint


def open_model(checkpoint: "Checkpoint", device: str) -> "tuple[Transformer, Tokenizer]":
    """The model of a checkpoint on ``device``, as ``--device`` names it, with its tokenizer.

    Raises:
        UserError: The checkpoint is damaged, or the device is not there.
    """
    from shakespeare_tui.training.checkpoints import load_model
    from shakespeare_tui.training.device import resolve_device

    if note := checkpoint.run.config().context_note:
        say(f"note: {checkpoint.reference}: {note}")
    return load_model(checkpoint, resolve_device(device))
