"""The encoded corpus on disk: written once, checked when it is opened, and read as a private copy.

A name says what was encoded and what came of it: a file that was cut short or overwritten does not
fit its digest and is made anew. A run reads its own copy, so that nothing that happens to the file
later reaches it; a memory-mapped file that is cut short would kill the process (SIGBUS).
"""

import contextlib
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from shakespeare_tui.data.source import TextSource
from shakespeare_tui.data.tokenizers import (
    TokenArray,
    Tokenizer,
    UnknownCharacterError,
    smallest_dtype,
)
from shakespeare_tui.errors import CancelledError
from shakespeare_tui.files import atomic_writer

Report = Callable[[int, int | None], None]
Cancelled = Callable[[], bool]

MOST_BYTES = 2_000_000_000
"""What the cache grows to; the corpora that were not used for longest go first."""

_MOST_BYTES_IN_MEMORY = 64_000_000
_CHUNK_BYTES = 4_000_000
_DIGITS = 32
# Whoever still writes has written within this time.
_ORPHAN_SECONDS = 3600.0


def tokenize_corpus(
    source: TextSource,
    tokenizer: Tokenizer,
    cache: Path,
    report: Report | None = None,
    cancelled: Cancelled = lambda: False,
    *,
    most_in_memory: int = _MOST_BYTES_IN_MEMORY,
    most_bytes: int = MOST_BYTES,
) -> TokenArray:
    """Encode a corpus once; memory stays bounded whatever its size.

    Args:
        source: The corpus.
        tokenizer: A tokenizer fitted on it.
        cache: Folder for the encoded files; nothing else may be in it.
        report: Called with (bytes done, bytes in all).
        cancelled: Polled between chunks.
        most_in_memory: Bytes of ids that are held in memory; more are memory-mapped.
        most_bytes: What the cache may hold, this corpus aside if it alone is larger.

    Returns:
        Read-only ids in the smallest unsigned type, shape [tokens].

    Raises:
        UserError: The corpus cannot be decoded or has a character unknown to the tokenizer.
        CancelledError: ``cancelled`` became true.
        OSError: The cache cannot be written, or the disk is full.
    """
    dtype = smallest_dtype(tokenizer.vocab_size)
    identity = _digest(f"{source.sha256()} {tokenizer.fingerprint} {dtype.name}".encode())
    for path in cache.glob(f"{identity}-{'?' * _DIGITS}"):
        tokens = _open(path, dtype, cancelled, most_in_memory)
        if tokens is not None:
            break
        path.unlink(missing_ok=True)
    else:
        path = _encode(source, tokenizer, cache, identity, report, cancelled)
        tokens = _open(path, dtype, cancelled, most_in_memory)
    if tokens is None:
        raise OSError(f"{path} was changed while it was read; try again")
    _prune(cache, path, most_bytes)
    return tokens


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _open(
    path: Path, dtype: np.dtype[np.unsignedinteger], cancelled: Cancelled, most_in_memory: int
) -> TokenArray | None:
    """A private copy of an encoded corpus; None where it is gone or not what its name says."""
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except FileNotFoundError:  # another process has pruned it
            return None
        is_small = os.fstat(file.fileno()).st_size <= most_in_memory
        # Without a name, it is gone with the process, however that ends.
        copy = None if is_small else stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
        pieces = []
        for piece in _pieces(file, cancelled):
            digest.update(piece)
            if copy is None:
                pieces.append(piece)
            else:
                copy.write(piece)
        if digest.hexdigest()[:_DIGITS] != path.name.rpartition("-")[2]:
            return None
        # Its time of access says when it was used last; that of its last change stays.
        with contextlib.suppress(OSError):
            os.utime(path, ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))
        if copy is None:
            return np.frombuffer(b"".join(pieces), dtype)
        copy.flush()
        return np.memmap(copy, dtype, mode="r")


def _pieces(file: IO[bytes], cancelled: Cancelled) -> Iterator[bytes]:
    while piece := file.read(_CHUNK_BYTES):
        if cancelled():
            raise CancelledError("opening the encoded corpus was cancelled")
        yield piece


def _encode(
    source: TextSource,
    tokenizer: Tokenizer,
    cache: Path,
    identity: str,
    report: Report | None,
    cancelled: Cancelled,
) -> Path:
    """Write the ids of a corpus; returns where."""
    digest = hashlib.sha256()
    characters = done_bytes = 0
    # A name of its own, since another process may encode the same corpus at the same time.
    unnamed = cache / f".{identity}.{uuid.uuid4().hex}"
    with atomic_writer(unnamed) as file:
        for text in source.iter_text():
            if cancelled():
                raise CancelledError("encoding the corpus was cancelled")
            try:
                ids = tokenizer.encode_array(text).tobytes()
            except UnknownCharacterError as error:
                raise UnknownCharacterError(error.character, characters + error.position) from None
            file.write(ids)
            digest.update(ids)
            characters += len(text)
            done_bytes += len(text.encode("utf-8", "surrogatepass"))
            if report:
                report(done_bytes, source.size_bytes)
    return unnamed.replace(cache / f"{identity}-{digest.hexdigest()[:_DIGITS]}")


def _prune(cache: Path, used: Path, most_bytes: int) -> None:
    """Remove what crashes and older versions left, and what was not used for longest."""
    known = []
    for path in cache.iterdir():
        with contextlib.suppress(OSError):  # another process was faster
            state = path.stat()
            is_named = len(path.name) == 2 * _DIGITS + 1
            if is_named:
                known.append((state.st_atime_ns, state.st_size, path))
            elif not path.name.startswith(".") or time.time() - state.st_mtime > _ORPHAN_SECONDS:
                path.unlink()
    left = most_bytes - sum(size for _, size, path in known if path == used)
    for _, size, path in sorted(known, reverse=True):
        if path != used:
            left -= size
            if left < 0:
                path.unlink(missing_ok=True)
