"""What TorchScript and ``torch.export`` have in common: a program that needs only PyTorch.

A program takes tokens [B, T] and gives logits [B, T, V], for any B and for every T up to the
context. Config and tokenizer are files in its archive.
"""

import io
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.decoding.exported_file import tokenizer_text
from shakespeare_tui.decoding.logits_model import LogitsModel
from shakespeare_tui.errors import RunFailedError
from shakespeare_tui.export.registry import Reopened
from shakespeare_tui.export.source import ExportSource
from shakespeare_tui.export.verify import texts_to_compare
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.training.torch_state import load_weights

_SAME = 1e-4
"""How far two processes may round apart."""
_FRESH_PROCESS = """
import sys, numpy, torch
kind, program, texts, results = sys.argv[1:]
if kind == "torch.jit.load":
    run = torch.jit.load(program)
else:
    run = torch.export.load(program).module()
with torch.no_grad(), numpy.load(texts) as found:
    logits = {name: run(torch.from_numpy(found[name])).numpy() for name in found}
assert not any(name.startswith("shakespeare_tui") for name in sys.modules)
numpy.savez(results, **logits)
"""


def torch_model(source: ExportSource) -> Transformer:
    """The model in PyTorch, whatever trained it."""
    if isinstance(source.model, Transformer):
        return source.model
    model = Transformer(
        source.model.config,
        source.model.vocab_size,
        context=source.model.context,
        embedding_scale=source.model.embedding_scale,
    ).eval()
    load_weights(model, dict(source.weights), source.checkpoint.reference)
    return model


def example(source: ExportSource) -> torch.Tensor:
    """Tokens to trace a program with, more than one text and more than one token."""
    return torch.zeros((2, min(5, source.model.context)), dtype=torch.int64)


def extra_files(source: ExportSource) -> dict[str, str]:
    """What else is in the archive."""
    return {
        "config.yaml": config_to_yaml(source.config),
        "tokenizer.json": tokenizer_text(source.tokenizer, source.chat_template),
    }


@contextmanager
def quietly() -> Iterator[None]:
    """Without gradients, and without warnings about what is meant."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def write_script(module: nn.Module, source: ExportSource, target: Path) -> None:
    """Trace a module and write it as TorchScript."""
    buffer = io.BytesIO()
    with quietly():
        jit: Any = torch.jit
        traced = jit.trace(module, (example(source),), check_trace=False)
        jit.save(traced, buffer, _extra_files=extra_files(source))
    target.write_bytes(_packed(buffer))


def _packed(archive: io.BytesIO) -> bytes:
    """The same archive, compressed, and without where in our sources each operation was."""
    packed = io.BytesIO()
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def reopen_script(source: ExportSource, target: Path) -> Reopened:
    """By ``torch.jit.load``, here and in a process that does not have this program."""
    jit: Any = torch.jit
    with quietly():
        return reopened(source, target, "torch.jit.load", jit.load(str(target)))


def reopened(
    source: ExportSource, target: Path, kind: str, program: Callable[[torch.Tensor], Any]
) -> Reopened:
    """A program, after it has run in a fresh process, too.

    Raises:
        RunFailedError: It cannot run there, or computes something else.
    """

    def logits(tokens: NDArray[np.int64]) -> Any:
        with torch.no_grad():
            return program(torch.from_numpy(tokens)).numpy()

    model = LogitsModel(logits, source.model.config, source.model.vocab_size, source.model.context)
    texts = texts_to_compare(source.model.vocab_size, source.model.context)
    for tokens, found in zip(texts, _in_fresh_process(kind, target, texts), strict=True):
        here = logits(tokens)
        if np.abs(here - found).max() > _SAME * max(1.0, float(np.abs(here).max())):
            raise RunFailedError(
                f"{kind} computes something else in another process; nothing was written"
            )
    return Reopened(model, None, f"{kind} in a process without this program")


def _in_fresh_process(
    kind: str, target: Path, texts: list[NDArray[np.int64]]
) -> list[NDArray[np.float32]]:
    with tempfile.TemporaryDirectory(prefix="shakespeare-tui-") as folder:
        given, results = Path(folder, "texts.npz"), Path(folder, "results.npz")
        np.savez(given, *texts)
        # Isolated: neither the working folder nor PYTHONPATH can bring this program along.
        done = subprocess.run(
            [sys.executable, "-I", "-c", _FRESH_PROCESS, kind, str(target), given, results],
            capture_output=True,
            text=True,
            cwd=folder,
        )
        if done.returncode:
            words = (done.stderr.strip().splitlines() or ["no word why"])[-1]
            raise RunFailedError(f"{kind} cannot run what was written ({words})")
        with np.load(results) as found:
            return [found[name] for name in found]
