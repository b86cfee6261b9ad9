"""Folders of runs with checkpoints of chosen figures, made without a trainer."""

import json
from pathlib import Path
from typing import Any

from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer
from shakespeare_tui.runs.folder import RunFolder, RunInfo

NOW = 1_760_000_000.0
CHARACTERS = "\n !',-.:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def weights(size: int = 1000) -> bytes:
    """A safetensors file of ``size`` zero bytes in one tensor."""
    header = {"embedding": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


def add_run(
    root: Path,
    name: str,
    *,
    created: float = NOW,
    parent: str | None = None,
    corpus: str = "tiny_shakespeare",
    config: Config | None = None,
    events: tuple[dict[str, Any], ...] = (),
    **about: Any,
) -> RunFolder:
    """A run without checkpoints; ``about`` are further fields of its ``RunInfo``."""
    run = RunFolder(root / name)
    run.path.mkdir(parents=True)
    info = RunInfo(
        name=name,
        created=created,
        program_version="0",
        corpus=corpus,
        corpus_sha256=corpus,
        characters=1_115_394,
        vocab_size=len(CHARACTERS),
        parameters=804_096,
        parent=parent,
        **about,
    )
    run.write_definition(info, config or Config(), CharTokenizer(CHARACTERS))
    run.events_path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return run


def add_checkpoint(
    run: RunFolder,
    step: int,
    val_loss: float | None,
    *,
    train_loss: float | None = None,
    time: float = NOW,
    protocol: str | None = "subset-64",
    exact: float | None = None,
    accuracy: float | None = None,
    size: int = 1000,
) -> None:
    """A checkpoint of a run; ``index.json`` is left as it is."""
    folder = run.checkpoint_folder(step)
    folder.mkdir()
    figures = {
        "format": 1,
        "step": step,
        "val_loss": val_loss,
        "train_loss": train_loss if train_loss is not None else val_loss,
        "protocol": protocol,
        "time": time,
        "elapsed_seconds": step / 20,
        "exact_val_loss": exact,
    }
    if accuracy is not None:  # which older versions did not measure
        figures["accuracy" if exact is None else "exact_accuracy"] = accuracy
    (folder / "info.json").write_text(json.dumps(figures))
    (folder / "weights.safetensors").write_bytes(weights(size))


def add_run_with_losses(
    root: Path, name: str, losses: dict[int, float], *, gap: float = 0.1, **options: Any
) -> RunFolder:
    """A run with a checkpoint for each step and validation loss; ``gap`` above the train loss."""
    run = add_run(root, name, **options)
    for step, loss in losses.items():
        add_checkpoint(run, step, loss, train_loss=loss - gap)
    run.write_index(best=min(losses, key=lambda step: losses[step]), last=max(losses))
    return run
