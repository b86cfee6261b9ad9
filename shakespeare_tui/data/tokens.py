"""A corpus as token ids: its tokenizer, the ids on disk, and the split into two parts.

The ids are written once, checked when they are opened, and read as a private copy.

A name says what was encoded and what came of it: a file that was cut short or overwritten does not
fit its digest and is made anew. A run reads its own copy, so that nothing that happens to the file
later reaches it; a memory-mapped file that is cut short would kill the process (SIGBUS).
"""

import contextlib
import hashlib
import itertools
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.inspect.ngrams import HIGHEST_BASELINE_ORDER
from shakespeare_tui.data.source import TextSource
from shakespeare_tui.data.tokenizer_kinds import tokenizer_kind
from shakespeare_tui.data.tokenizers import (
    TokenArray,
    Tokenizer,
    characters_begun,
    smallest_dtype,
)
from shakespeare_tui.errors import CancelledError, UserError, never
from shakespeare_tui.files import atomic_writer

Report = Callable[[int, int | None], None]
Cancelled = Callable[[], bool]


@dataclass
class CorpusText:
    """What reading a corpus tells of its text.

    Attributes:
        characters: How many there are.
        is_one_character: Whether they are all the same.
        beginning: The first piece.
    """

    characters: int = 0
    is_one_character: bool = True
    beginning: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the first piece is all of it."""
        return self.characters == len(self.beginning)


def fit_tokenizer(
    kind: str,
    corpus: str,
    pieces: Iterable[str],
    cancelled: Cancelled = never,
    known: Tokenizer | None = None,
    vocab_size: int | None = None,
) -> tuple[Tokenizer, CorpusText]:
    """The tokenizer of a kind for a corpus, which is read once.

    Args:
        kind: As ``data.tokenizer`` has it.
        corpus: What it is called.
        pieces: Its text.
        cancelled: Polled between pieces.
        known: Taken as it is, in place of a new one.
        vocab_size: As ``data.vocab_size`` has it.

    Raises:
        UserError: The corpus is empty or cannot be decoded.
        CancelledError: ``cancelled`` became true.
    """
    found = CorpusText()

    def read() -> Iterator[str]:
        for text in pieces:
            if cancelled():
                raise CancelledError("reading the corpus was cancelled")
            if text:
                found.beginning = found.beginning or text
                is_same = not text.strip(found.beginning[0])
                found.is_one_character = found.is_one_character and is_same
                found.characters += len(text)
                yield text

    counted = read()
    first = next(counted, None)
    if first is None:
        raise UserError(f"{corpus} is empty; a corpus needs text to learn from")
    texts = itertools.chain([first], counted)
    tokenizer = known or tokenizer_kind(kind).from_corpus(texts, vocab_size)
    for _ in counted:  # what the tokenizer had no need to read counts, too
        pass
    return tokenizer, found


def split_point(length: int, val_fraction: float) -> int:
    """Where the validation part of ``length`` characters begins: all that comes last, in order."""
    return int((1 - val_fraction) * length)


def check_length(train: int, validation: int, seq_len: int) -> None:
    """Refuse a corpus that leaves too little on either side of the split.

    Args:
        train: Tokens before the split.
        validation: Tokens behind it.
        seq_len: Window length.

    Raises:
        UserError: The training part holds no window with its target or too little for the n-gram
            baselines, or the validation part not two tokens.
    """
    least = max(seq_len + 1, HIGHEST_BASELINE_ORDER)
    if train >= least and validation >= 2:
        return
    found = (
        f"the corpus is too short: {train + validation:,} tokens split into {train:,} for "
        f"training and {validation:,} for validation, but"
    )
    if train >= seq_len + 1 and validation >= 2:
        raise UserError(f"{found} its n-gram baselines need {least} to train on; use a longer text")
    raise UserError(
        f"{found} a window of {seq_len} needs at least {least:,} and 2; use a longer text or a "
        "smaller model.max_seq_len"
    )


def check_variety(is_one_character: bool) -> None:
    """Refuse a corpus in which every next character is certain.

    Raises:
        UserError: It has one character only.
    """
    if is_one_character:
        raise UserError(
            "the corpus is one character repeated: every next character is certain and there is "
            "nothing to learn; choose a text with at least two different characters"
        )


def encode_split(
    source: TextSource,
    tokenizer: Tokenizer,
    val_fraction: float,
    seq_len: int,
    cache: Path,
    report: Report | None = None,
    cancelled: Cancelled = never,
) -> tuple[TokenArray, TokenArray]:
    """Both parts of a corpus as ids, encoded once and kept: its own two, or one that is split.

    Args:
        source: The corpus.
        tokenizer: A tokenizer fitted on it.
        val_fraction: Share of the text's end kept for validation, where it brings no such text.
        seq_len: Window length.
        cache: As for ``tokenize_corpus``.
        report: As for ``tokenize_corpus``.
        cancelled: As for ``tokenize_corpus``.

    Raises:
        UserError: As ``tokenize_corpus``; or a part is too short.
        CancelledError: ``cancelled`` became true.
        OSError: As ``tokenize_corpus``.
    """
    tokens = tokenize_corpus(source, tokenizer, cache, report, cancelled)
    if source.validation is None:
        return split_tokens(tokens, val_fraction, seq_len, tokenizer)
    val = tokenize_corpus(source.validation, tokenizer, cache, report, cancelled)
    check_length(len(tokens), len(val), seq_len)
    return tokens, val


def split_tokens(
    tokens: TokenArray, val_fraction: float, seq_len: int, tokenizer: Tokenizer | None = None
) -> tuple[TokenArray, TokenArray]:
    """Split in time order, without shuffling, where the text is split.

    The text of the parts is the same whatever the tokenizer, so that losses per byte compare; a
    token across the split belongs to the validation part.

    Args:
        tokens: Ids, shape [n].
        val_fraction: Share of the text's end kept for validation.
        seq_len: Window length; the training part must hold one window and its shifted target.
        tokenizer: Whose tokens they are; None counts each as a character.

    Returns:
        The training and validation parts, both views.

    Raises:
        UserError: A part is too short.
    """
    begun = None if tokenizer is None else characters_begun(tokenizer)
    if begun is None or (begun == 1).all():
        boundary = split_point(len(tokens), val_fraction)
    else:
        boundary = _token_boundary(tokens, begun, val_fraction)
    check_length(boundary, len(tokens) - boundary, seq_len)
    return tokens[:boundary], tokens[boundary:]


def _token_boundary(tokens: TokenArray, begun: npt.NDArray[np.int64], val_fraction: float) -> int:
    """The first token in which a character behind the text's split begins."""
    starts = range(0, len(tokens), _TOKENS_A_COUNT)
    pieces = [int(begun[tokens[start : start + _TOKENS_A_COUNT]].sum()) for start in starts]
    left = split_point(sum(pieces), val_fraction)
    for start, characters in zip(starts, pieces, strict=True):
        if characters > left:
            ends = np.cumsum(begun[tokens[start : start + _TOKENS_A_COUNT]])
            return start + int(np.searchsorted(ends, left, side="right"))
        left -= characters
    return len(tokens)


MOST_BYTES = 2_000_000_000
"""What the cache grows to; the corpora that were not used for longest go first."""

_MOST_BYTES_IN_MEMORY = 64_000_000
_CHUNK_BYTES = 4_000_000
_TOKENS_A_COUNT = 1 << 22
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
    identity = _digest(f"{source.text_sha256()} {tokenizer.fingerprint} {dtype.name}".encode())
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
    done_bytes = 0

    def pieces() -> Iterator[str]:
        nonlocal done_bytes
        for text in source.iter_text():
            if cancelled():
                raise CancelledError("encoding the corpus was cancelled")
            done_bytes += len(text.encode("utf-8", "surrogatepass"))
            yield text

    # A name of its own, since another process may encode the same corpus at the same time.
    unnamed = cache / f".{identity}.{uuid.uuid4().hex}"
    with atomic_writer(unnamed) as file:
        for part in tokenizer.encode_stream(pieces()):
            ids = part.tobytes()
            file.write(ids)
            digest.update(ids)
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
