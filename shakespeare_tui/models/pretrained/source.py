"""Where a pretrained model comes from: a folder, a GGUF file, the catalogue, a hub repository."""

import contextlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

from shakespeare_tui.config.problems import nearest
from shakespeare_tui.data.catalogue import HUB, MODELS, CorpusFile, ModelEntry, UrlSource
from shakespeare_tui.data.download import FetchFailedError, Report, fetch_files
from shakespeare_tui.data.tokenizers.file import GGUF_MAGIC
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import read_head, reason
from shakespeare_tui.models.pretrained.gguf_file import read_gguf
from shakespeare_tui.models.pretrained.hugging_face import INDEX, read_folder, shard_names
from shakespeare_tui.models.pretrained.layouts import Pretrained

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def read_pretrained(
    source: str,
    *,
    available_bytes: int | None = None,
    report: Callable[[str], Report] | None = None,
    cancelled: threading.Event | None = None,
) -> Pretrained:
    """The model that a user names, fetched where it is not here.

    Args:
        source: A folder of Hugging Face, a GGUF file, a name of the catalogue, or a repository of
            the hub, ``OWNER/NAME``.
        available_bytes: Free memory, where it is known.
        report: Makes what is told of the download of a file.
        cancelled: Set it from another thread to call it off.

    Raises:
        UserError: There is no such thing, it cannot be fetched or read, or not into memory.
        CancelledError: ``cancelled`` was set.
    """
    cancelled = cancelled or threading.Event()
    told = None if report is None else report(source)
    path = Path(source)
    if not os.path.lexists(source):
        if source in MODELS:
            path = _fetch_named(MODELS[source], told, cancelled)
        elif _REPOSITORY.fullmatch(source):
            path = _fetch_repository(source, told, cancelled)
        else:
            near = nearest(source, MODELS)
            meant = f"did you mean {near}? " if near else ""
            raise UserError(
                f"there is no folder, file or model {source!r}; {meant}by name there are "
                f"{', '.join(MODELS)}, and the hub's are written OWNER/NAME"
            )
    if os.path.isdir(path):
        return read_folder(path, available_bytes, cancelled.is_set)
    try:
        beginning = read_head(path, len(GGUF_MAGIC))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); give another file") from None
    if path.suffix.lower() != ".gguf" and beginning != GGUF_MAGIC:
        raise UserError(
            f"{path} is no GGUF file; give such a one, or a folder with config.json and safetensors"
        )
    return read_gguf(path, available_bytes, cancelled.is_set)


def _fetch_named(entry: ModelEntry, told: Report | None, cancelled: threading.Event) -> Path:
    try:
        folder = fetch_files(entry.name, entry.files, told, cancelled)
    except FetchFailedError as error:
        raise UserError(
            f"the model {entry.name} cannot be fetched ({error.reason}); get it by other means and "
            "give its folder or file"
        ) from None
    only = entry.files[0].name
    return folder / only if len(entry.files) == 1 else folder


def _fetch_repository(name: str, told: Report | None, cancelled: threading.Event) -> Path:
    """The files of a repository that make a model; what they hold is checked when it is read."""

    def fetched(*files: str) -> Path:
        wanted = [
            CorpusFile(file, None, None, (UrlSource(f"{HUB}/{name}/resolve/main/{file}"),))
            for file in files
        ]
        return fetch_files(name.replace("/", "--"), wanted, told, cancelled)

    try:
        folder = fetched("config.json")
    except FetchFailedError as error:
        raise UserError(
            f"the model {name} cannot be fetched from the hub ({error.reason}); check its name and "
            "the network, or give a folder or a GGUF file"
        ) from None
    fetched("tokenizer.json")
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        with contextlib.suppress(FetchFailedError):  # not every model is made for chats
            fetched(name)
    try:
        fetched("model.safetensors")
    except FetchFailedError:
        try:
            fetched(INDEX)
        except FetchFailedError as error:
            raise UserError(
                f"the model {name} has no safetensors on the hub ({error.reason}); pickles are not "
                "read, for they may carry code: take another model"
            ) from None
        fetched(*shard_names(folder))
    return folder
