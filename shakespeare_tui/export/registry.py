"""The formats by name; what writes one is loaded when it is asked for."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from shakespeare_tui.config.problems import nearest
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
from shakespeare_tui.decoding.factory import AnyModel
from shakespeare_tui.errors import UserError
from shakespeare_tui.export.source import ExportSource, Options


@dataclass(frozen=True)
class Reopened:
    """An export as others see it.

    Attributes:
        model: Computes with what was written.
        tokenizer: Of the export; None where the format holds none.
        opened_by: The program that opened it.
    """

    model: AnyModel
    tokenizer: Tokenizer | None
    opened_by: str


class Exporter(Protocol):
    """What the module of a format provides."""

    def check(self, source: ExportSource, options: Options) -> None:
        """Refuse what the format cannot express, before anything is written.

        Raises:
            UserError: Which setting it is, or which package is missing.
        """

    def write(self, source: ExportSource, options: Options, target: Path) -> None:
        """Write the file or the files of a folder, which is there and empty.

        Raises:
            OSError: The disk is full.
        """

    def reopen(self, source: ExportSource, options: Options, target: Path) -> Reopened:
        """Open what was written, by other means than wrote it."""


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        name: As ``--to`` has it.
        title: What it is, in a few words.
        module: Of its ``Exporter``.
        dtypes: Types of weights, the usual one first.
        suffix: Of the file; empty for a folder.
        takes_cache: Whether it can be written with a KV cache.
        takes_pruning: Whether weights may be left out.
        is_rounded: Whether weights are rounded whatever their type is called.
    """

    name: str
    title: str
    module: str
    dtypes: tuple[str, ...] = ("float32",)
    suffix: str = ""
    takes_cache: bool = False
    takes_pruning: bool = False
    is_rounded: bool = False

    @property
    def is_folder(self) -> bool:
        """Whether it is several files."""
        return not self.suffix

    def load(self) -> Exporter:
        """What writes it."""
        return cast(Exporter, importlib.import_module(f"shakespeare_tui.export.{self.module}"))

    def options(self, dtype: str | None, *, kv_cache: bool = False, prune: float = 0.0) -> Options:
        """What is asked for.

        Raises:
            UserError: The format has no such thing.
        """
        dtype = self.dtypes[0] if dtype is None else dtype
        if dtype not in self.dtypes:
            have = ", ".join(self.dtypes)
            raise UserError(f"{self.name} has no weights in {dtype}; it has: {have}")
        if kv_cache and not self.takes_cache:
            names = [f.name for f in FORMATS.values() if f.takes_cache]
            raise UserError(f"--kv-cache is for {' and '.join(names)}, not for {self.name}")
        if prune and not self.takes_pruning:
            names = [f.name for f in FORMATS.values() if f.takes_pruning]
            raise UserError(f"--prune is for {' and '.join(names)}, not for {self.name}")
        if not 0 <= prune < 100:
            raise UserError(f"--prune takes per cent from 0 to below 100, got {prune:g}")
        return Options(dtype=dtype, kv_cache=kv_cache, prune=prune)


_FORMATS = (
    Format(
        "safetensors",
        "a folder: weights, config and tokenizer",
        "safetensors_folder",
        ("float32", "bfloat16", "int8"),
        takes_pruning=True,
    ),
    Format("hf", "a folder that transformers opens: GPT-2, Llama or Qwen3", "hugging_face"),
    Format(
        "gguf",
        "llama.cpp's file, tokenizer inside",
        "gguf_file",
        ("float32", "float16", "q8_0"),
        suffix=".gguf",
    ),
    Format(
        "onnx",
        "a graph for ONNX Runtime, of any batch and length",
        "onnx_graph",
        ("float32", "int8"),
        suffix=".onnx",
        takes_cache=True,
    ),
    Format(
        "int8",
        "TorchScript with 8-bit weights, a quarter of the size",
        "int8",
        suffix=".pt",
        is_rounded=True,
    ),
    Format("torchscript", "a program that torch.jit.load runs", "torchscript", suffix=".pt"),
    Format("torch.export", "a program that torch.export.load runs", "torch_export", suffix=".pt2"),
    Format(
        "html",
        "one page that runs the model in a browser",
        "web_page",
        ("float32", "int8"),
        suffix=".html",
    ),
)
FORMATS: dict[str, Format] = {format_.name: format_ for format_ in _FORMATS}


def find_format(name: str) -> Format:
    """The format of a name.

    Raises:
        UserError: There is none.
    """
    if name not in FORMATS:
        near = nearest(name, FORMATS)
        advice = f"did you mean {near}?" if near else f"there are {', '.join(FORMATS)}"
        raise UserError(f"unknown format {name!r}; {advice}")
    return FORMATS[name]


FOLDER_OF_ALL = Format("--all", "a folder with every format", module="")


def variants(format_: Format) -> list[Options]:
    """Every way in which a format is written, without pruning."""
    caches = (False, True) if format_.takes_cache else (False,)
    return [
        Options(dtype=dtype, kv_cache=kv_cache) for kv_cache in caches for dtype in format_.dtypes
    ]


def file_name(format_: Format, options: Options) -> str:
    """What an export is called among all others."""
    words = [format_.name.replace(".", "-")]
    words += [] if options.dtype == "float32" else [options.dtype]
    words += ["kv-cache"] if options.kv_cache else []
    return "-".join(words) + format_.suffix
