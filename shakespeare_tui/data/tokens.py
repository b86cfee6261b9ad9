"""A corpus as token ids: its tokenizer, the ids on disk, and the split into two parts.

The ids are written once, checked when they are opened, and read as a private copy.

A name says what was encoded and what came of it: a file that was cut short or overwritten does not
fit its digest and is made anew. A run reads its own copy, so that nothing that happens to the file
later reaches it; a memory-mapped file that is cut short would kill the process (SIGBUS).
"""

import codecs
import contextlib
import hashlib
import io
import itertools
import os
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Set
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.download import Report
from shakespeare_tui.data.inspect.line_index import ByteStream
from shakespeare_tui.data.inspect.ngrams import HIGHEST_BASELINE_ORDER
from shakespeare_tui.data.source import TextSource, TextSurvey
from shakespeare_tui.data.tokenizers.file import tokenizer_file
from shakespeare_tui.data.tokenizers.kinds import is_tokenizer_file, tokenizer_kind
from shakespeare_tui.data.tokenizers.tokenizer import (
    TextSize,
    TokenArray,
    Tokenizer,
    UnknownCharacterError,
    characters_begun,
    smallest_dtype,
    text_size,
)
from shakespeare_tui.errors import CancelledError, UserError, check_cancelled, never
from shakespeare_tui.files import atomic_writer
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.machine import usable_cores

PART_BYTES = 1 << 22
"""Text that is encoded at a time: enough to be quick, little enough to be held."""

Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class TokenSettings:
    """How a corpus becomes tokens, as the section ``data`` of a config has it.

    Attributes:
        tokenizer: A kind, or a file.
        vocab_size: How many tokens are learned; None leaves it to the kind.
        val_fraction: Share of the text, at its end, that is kept for validation where the corpus
            brings no such text.
        is_streamed: Whether whole parts are kept, so that no other part need be read before.
    """

    tokenizer: str = "char"
    vocab_size: int | None = None
    val_fraction: float = 0.1
    is_streamed: bool = False


def open_tokenizer(
    settings: TokenSettings,
    source: TextSource,
    report: Callable[[str, int, int | None], None] = lambda what, done, total: None,
    cancelled: Cancelled = never,
    *,
    survey: TextSurvey | None = None,
    most_bytes: int | None = None,
) -> Tokenizer:
    """The tokenizer that a run on a corpus has: of a file, or made for the corpus.

    What is learned is learned from the training text alone. The vocabulary of characters is that of
    the whole corpus, for none of its validation text may be unknown.

    Args:
        settings: Which one, and where the training text ends.
        source: The corpus.
        report: Told what is being done, and how many bytes of how many have been read.
        cancelled: Polled; it takes effect at once.
        survey: Of the whole corpus, where it is at hand.
        most_bytes: Of a longer corpus only the beginning is read, for a first look.

    Raises:
        UserError: There is no such tokenizer, or the corpus is empty or cannot be decoded.
        CancelledError: ``cancelled`` became true.
    """
    spec, vocab_size = settings.tokenizer, settings.vocab_size
    if is_tokenizer_file(spec):
        if vocab_size is not None:
            raise UserError(
                f"the tokenizer {spec} has the tokens it has; leave data.vocab_size empty, got "
                f"{vocab_size}"
            )
        return tokenizer_file(spec)
    kind = tokenizer_kind(spec)
    if most_bytes is not None and source.whole.size_bytes > most_bytes:
        size_bytes, texts = most_bytes, beginning(source, most_bytes)
    else:
        survey = survey or whole_survey(source, report, cancelled)
        if not kind.learned_bytes:
            return kind.from_corpus([survey.vocabulary], vocab_size)
        size_bytes = source.size_bytes
        texts = training_text(source, settings, survey.characters)
    apart = -(-size_bytes // (kind.learned_bytes or size_bytes))
    learning = _Learning(itertools.islice(texts, 0, None, apart), size_bytes // apart)
    what = f"learning {spec} from the training text"
    return learning.run(
        lambda pieces: kind.from_corpus(pieces, vocab_size), what, report, cancelled
    )


def whole_survey(
    source: TextSource,
    report: Callable[[str, int, int | None], None] = lambda what, done, total: None,
    cancelled: Cancelled = never,
) -> TextSurvey:
    """The survey of a corpus with its validation text; its digest is that of ``source.sha256``.

    Raises:
        UserError: There is no text in it, or it cannot be decoded.
        CancelledError: ``cancelled`` became true.
    """

    def told(done: int, total: int | None) -> None:
        report("reading the corpus", done, total)

    found = source.survey(told, cancelled)
    if source.validation is not None:
        kept_apart = source.validation.survey(told, cancelled)
        found = TextSurvey(
            source.sha256(),
            found.characters + kept_apart.characters,
            "".join(sorted({*found.vocabulary, *kept_apart.vocabulary})),
        )
    if not found.characters:
        raise UserError(f"{source.name} is empty; a corpus needs text to learn from")
    return found


def training_text(source: TextSource, settings: TokenSettings, characters: int) -> Iterator[str]:
    """The text before the split, in pieces.

    Args:
        source: The corpus.
        settings: Where it is split.
        characters: Of the whole corpus.

    Raises:
        UserError: The corpus cannot be decoded.
    """
    if source.validation is not None:
        yield from source.iter_text()
    elif settings.is_streamed:
        parts = TextParts(source)
        kept = validation_parts(len(parts), settings.val_fraction)
        yield from parts.pieces(range(len(parts) - kept))
    else:
        left = split_point(characters, settings.val_fraction)
        for text in source.iter_text():
            yield text[:left]
            left -= len(text)
            if left <= 0:
                return


def beginning(source: TextSource, most_bytes: int) -> Iterator[str]:
    """The first so many bytes of a corpus, in pieces."""
    read = 0
    for text in source.iter_text():
        yield text
        read += len(text.encode("utf-8"))
        if read >= most_bytes:
            return


_POLL_SECONDS = 0.05


class _Learning:
    """Makes a tokenizer in a thread of its own, which is left to itself when it is called off.

    Its package takes a text to the end, and joins pairs for seconds, without asking.

    Args:
        pieces: What is learned from.
        size_bytes: How much that is.
    """

    def __init__(self, pieces: Iterator[str], size_bytes: int) -> None:
        self._pieces = pieces
        self._size_bytes = size_bytes
        self._done_bytes = 0
        self._is_read = False
        self._is_given_up = False

    def _read(self) -> Iterator[str]:
        for text in self._pieces:
            check_cancelled(lambda: self._is_given_up, "learning tokens")
            yield text
            self._done_bytes += len(text.encode("utf-8"))
        self._is_read = True

    def run(
        self,
        learn: Callable[[Iterable[str]], Tokenizer],
        what: str,
        report: Callable[[str, int, int | None], None],
        cancelled: Cancelled,
    ) -> Tokenizer:
        learned: Future[Tokenizer] = Future()

        def work() -> None:
            try:
                learned.set_result(learn(self._read()))
            except BaseException as error:  # noqa: BLE001 — it is raised where it is waited for
                learned.set_exception(error)

        threading.Thread(target=work, name="learn tokens", daemon=True).start()
        try:
            while not wait([learned], _POLL_SECONDS).done:
                check_cancelled(cancelled, "learning tokens")
                total = None if self._is_read else self._size_bytes
                report(what, 0 if self._is_read else self._done_bytes, total)
        finally:
            self._is_given_up = True
        report(what, self._size_bytes, self._size_bytes)
        return learned.result()


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
    *,
    is_streamed: bool = False,
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
        is_streamed: Split where ``stream_split`` does.

    Raises:
        UserError: As ``tokenize_corpus``; or a part is too short.
        CancelledError: ``cancelled`` became true.
        OSError: As ``tokenize_corpus``.
    """
    if is_streamed:
        parts, val = stream_split(
            source, tokenizer, val_fraction, seq_len, cache, report, cancelled
        )
        return parts.whole.joined(parts.numbers, report, cancelled), val
    tokens = tokenize_corpus(source, tokenizer, cache, report, cancelled)
    if source.validation is None:
        return split_tokens(tokens, val_fraction, seq_len, tokenizer)
    val = tokenize_corpus(source.validation, tokenizer, cache, report, cancelled)
    check_length(len(tokens), len(val), seq_len)
    return tokens, val


def foretold_size(
    source: TextSource, tokenizer: Tokenizer, tokens: TokenArray, *, is_end: bool = True
) -> TextSize | None:
    """How much text tokens but their first are, for no loss is about that.

    None where they do not say their text to the byte, as a word outside the vocabulary is not said:
    then a loss per token is about fewer things than the text holds, and no loss by its bytes or
    characters compares.

    Args:
        source: The corpus whose training or validation text they are of.
        tokenizer: What made them.
        tokens: Of the text's beginning, or of its end, shape [n].
        is_end: Which of the two.

    Raises:
        UserError: The corpus cannot be read.
    """
    size = text_size(tokenizer, tokens[1:])
    if tokenizer.is_lossless:
        return size
    stream = ByteStream(source.validation if is_end and source.validation else source)
    if is_end:
        place = stream.size - size.bytes
    else:
        first = tokenizer.token_bytes(int(tokens[0]))
        begins = stream.read(0, len(first)) == first
        place = len(first if begins else first.lstrip())  # a space may be put at the front
    for start in range(1, len(tokens), _COMPARED_TOKENS):
        said = b"".join(
            map(tokenizer.token_bytes, tokens[start : start + _COMPARED_TOKENS].tolist())
        )
        if place < 0 or stream.read(place, place + len(said)) != said:
            return None
        place += len(said)
    return size


def stream_split(
    source: TextSource,
    tokenizer: Tokenizer,
    val_fraction: float,
    seq_len: int,
    cache: Path,
    report: Report | None = None,
    cancelled: Cancelled = never,
    part_bytes: int = PART_BYTES,
) -> "tuple[PartRange, TokenArray]":
    """The training parts of a large corpus, yet to be encoded, and its validation part as ids.

    Without a validation text of its own, whole parts at its end are kept for validation: a few of
    them, for they are encoded before the first step.

    Args:
        source: As for ``encode_split``.
        tokenizer: As for ``encode_split``.
        val_fraction: As for ``encode_split``.
        seq_len: As for ``encode_split``.
        cache: As for ``encode_split``.
        report: As for ``encode_split``.
        cancelled: As for ``encode_split``.
        part_bytes: Text that is encoded at a time.

    Raises:
        UserError: As ``encode_split``.
        CancelledError: ``cancelled`` became true.
        OSError: As ``encode_split``.
    """
    parts = EncodedParts(source, tokenizer, cache, part_bytes)
    if source.validation is not None:
        val = tokenize_corpus(source.validation, tokenizer, cache, report, cancelled)
        train = PartRange(parts, range(len(parts)))
    else:
        kept = validation_parts(len(parts), val_fraction, part_bytes)
        if kept >= len(parts):
            raise UserError(
                f"{source.name} is too short for data.windows=streamed, which takes "
                f"{format_bytes(2 * part_bytes)} of text or more; use data.windows=shuffled"
            )
        val = parts.joined(range(len(parts) - kept, len(parts)), report, cancelled)
        train = PartRange(parts, range(len(parts) - kept))
    parts.prune()
    # Whether the training parts hold windows shows when they are encoded.
    check_length(max(seq_len + 1, len(train) * part_bytes), len(val), seq_len)
    return train, val


def validation_parts(parts: int, val_fraction: float, part_bytes: int = PART_BYTES) -> int:
    """How many of the parts of a streamed corpus, at its end, are kept for validation."""
    return max(1, min(int(val_fraction * parts), _MOST_VALIDATION_BYTES // part_bytes))


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


_MOST_VALIDATION_BYTES = 1 << 24
_COMPARED_TOKENS = 1 << 16
MOST_BYTES = 2_000_000_000
"""What the cache grows to; the corpora that were not used for longest go first."""

_MOST_BYTES_IN_MEMORY = 64_000_000
_CHUNK_BYTES = 4_000_000
_PIECE_BYTES = 1 << 20
_TOKENS_A_COUNT = 1 << 22
_DIGITS = 32
# Whoever still writes has written within this time.
_ORPHAN_SECONDS = 3600.0
# Before a blank between two printing characters of ASCII: no tokenizer looks across.
_CUT = re.compile(rb"(?<=[!-~])(?= [!-~])")


def tokenize_corpus(
    source: TextSource,
    tokenizer: Tokenizer,
    cache: Path,
    report: Report | None = None,
    cancelled: Cancelled = never,
    *,
    most_in_memory: int = _MOST_BYTES_IN_MEMORY,
    most_bytes: int = MOST_BYTES,
    part_bytes: int = PART_BYTES,
) -> TokenArray:
    """Encode a corpus once, its parts in parallel; memory stays bounded whatever its size.

    Args:
        source: The corpus.
        tokenizer: A tokenizer fitted on it.
        cache: Folder for the encoded files; nothing else may be in it.
        report: Called with (bytes done, bytes in all).
        cancelled: Polled between chunks.
        most_in_memory: Bytes of ids that are held in memory; more are memory-mapped.
        most_bytes: What the cache may hold, this corpus aside if it alone is larger.
        part_bytes: Text that is encoded at a time.

    Returns:
        Read-only ids in the smallest unsigned type, shape [tokens].

    Raises:
        UserError: The corpus cannot be decoded or has a character unknown to the tokenizer.
        CancelledError: ``cancelled`` became true.
        OSError: The cache cannot be written, or the disk is full.
    """
    parts = EncodedParts(source, tokenizer, cache, part_bytes)
    tokens = parts.joined(range(len(parts)), report, cancelled, most_in_memory)
    parts.prune(most_bytes)
    return tokens


class TextParts:
    """A corpus in parts of a few megabytes, cut where no tokenizer looks across.

    Where the parts begin hangs on the text alone, so that they can be encoded in any order;
    together their ids are those of the whole text.

    Args:
        source: The corpus.
        part_bytes: Text in a part, but for the way to the next good cut.

    Raises:
        UserError: The corpus cannot be read.
    """

    def __init__(self, source: TextSource, part_bytes: int = PART_BYTES) -> None:
        self._source = source
        self._part_bytes = part_bytes
        self._stream = ByteStream(source)
        self._count = max(1, self._stream.size // part_bytes)

    def __len__(self) -> int:
        """Number of parts."""
        return self._count

    def span_bytes(self, number: int) -> int:
        """About how long a part is."""
        start = number * self._part_bytes
        is_last = number == len(self) - 1
        return (self._stream.size if is_last else start + self._part_bytes) - start

    def characters_before(self, number: int) -> int:
        """How many stand before a part."""
        return len(self._stream.read(0, self._cut(number)).decode("utf-8", "replace"))

    def _cut(self, number: int) -> int:
        """Where a part begins: the first good place from its share of the text on."""
        if number in (0, len(self)):
            return self._stream.size if number else 0
        start = number * self._part_bytes
        # What lies one byte before the share decides whether the share begins at a good place.
        found = self._stream.read(start - 1, start + _PIECE_BYTES)
        if match := _CUT.search(found, 1):
            return start - 1 + match.start()
        # No blank in a megabyte: a script without any. Every character is a good place then.
        continued = next((n for n, byte in enumerate(found[1:5]) if byte & 0xC0 != 0x80), 0)
        return start + continued

    def pieces(
        self,
        numbers: range,
        cancelled: Cancelled = never,
        progressed: Callable[[int], None] = lambda done_bytes: None,
    ) -> Iterator[str]:
        """The text of parts that follow each other; a whole corpus as its source gives it.

        Args:
            numbers: Of the parts.
            cancelled: Polled between pieces.
            progressed: Told how many bytes came with the next piece.

        Raises:
            UserError: The corpus is no text, or was changed meanwhile.
            CancelledError: ``cancelled`` became true.
        """
        if len(self) == 1 and numbers:
            for text in self._source.iter_text():
                check_cancelled(cancelled, "encoding the corpus")
                progressed(len(text.encode("utf-8")))
                yield text
            return
        decoder = codecs.getincrementaldecoder("utf-8")()
        position, stop = self._cut(numbers.start), self._cut(numbers.stop)
        while position < stop:
            check_cancelled(cancelled, "encoding the corpus")
            piece = self._stream.read(position, min(stop, position + _PIECE_BYTES))
            position += len(piece)
            if not piece or 0 in piece:
                break
            progressed(len(piece))
            try:
                yield decoder.decode(piece, final=position >= stop)
            except UnicodeDecodeError:
                break
        else:
            return
        # What is no text is told by file and place, which the source knows.
        for _ in self._source.iter_text():
            check_cancelled(cancelled, "encoding the corpus")
        raise UserError(f"{self._source.title} was changed while it was read; try again")


class EncodedParts:
    """The parts of a corpus as ids, each of them encoded once, and kept in a folder.

    Args:
        source: The corpus.
        tokenizer: A tokenizer fitted on it.
        cache: Folder for the encoded files; nothing else may be in it.
        part_bytes: Text in a part, but for the way to the next good cut.

    Raises:
        UserError: The corpus cannot be read.
    """

    def __init__(
        self, source: TextSource, tokenizer: Tokenizer, cache: Path, part_bytes: int = PART_BYTES
    ) -> None:
        self._tokenizer = tokenizer
        self._cache = cache
        self._texts = TextParts(source, part_bytes)
        self._dtype = smallest_dtype(tokenizer.vocab_size)
        text = f"{source.text_sha256()} {tokenizer.fingerprint} {self._dtype.name}"
        count = len(self._texts)
        self._identities = [
            _digest(text.encode() if count == 1 else f"{text} {part_bytes} {number}".encode())
            for number in range(count)
        ]
        self._coming: dict[int, Future[None]] = {}
        self._pool: ThreadPoolExecutor | None = None
        known = {path.name[:_DIGITS]: path for path in _named(cache)}
        self._paths = [known.get(identity) for identity in self._identities]

    def __len__(self) -> int:
        """Number of parts."""
        return len(self._identities)

    def encode(
        self,
        numbers: Iterable[int],
        report: Report | None = None,
        cancelled: Cancelled = never,
    ) -> None:
        """Encode those of the parts that are not there yet, several at a time.

        Raises:
            UserError: As ``tokenize_corpus``.
            CancelledError: ``cancelled`` became true.
            OSError: As ``tokenize_corpus``.
        """
        missing = [number for number in numbers if self._paths[number] is None]
        total = sum(self._texts.span_bytes(number) for number in missing)
        progress = _Progress(total, report)
        if len(missing) <= 1:
            for number in missing:
                self._paths[number] = self._encode(number, progress, cancelled)
            return
        is_given_up = threading.Event()

        def given_up() -> bool:
            return is_given_up.is_set() or cancelled()

        def encode(number: int) -> None:
            try:
                self._paths[number] = self._encode(number, progress, given_up)
            except BaseException:
                is_given_up.set()
                raise

        with ThreadPoolExecutor(usable_cores(), thread_name_prefix="encode") as pool:
            results = [pool.submit(encode, number) for number in missing]
        errors = [error for result in results if (error := result.exception()) is not None]
        for error in errors:
            if not isinstance(error, CancelledError):
                raise error
        if errors:
            raise errors[0]

    def ahead(self, numbers: Iterable[int]) -> None:
        """Begin to encode what will be needed and is not there yet, in the background."""
        for number in numbers:
            if self._paths[number] is None and number not in self._coming:
                self._pool = self._pool or ThreadPoolExecutor(usable_cores(), "encode ahead")
                self._coming[number] = self._pool.submit(self._encode_alone, number)

    def _encode_alone(self, number: int) -> None:
        self._paths[number] = self._encode(number, _Progress(0, None), never)

    def tokens(self, number: int, cancelled: Cancelled = never) -> TokenArray:
        """The ids of a part, a copy of one's own; it is encoded where it is not there.

        Raises:
            UserError: As ``tokenize_corpus``.
            CancelledError: ``cancelled`` became true.
            OSError: As ``tokenize_corpus``.
        """
        if number in self._coming:
            self._coming.pop(number).result()
        for _ in range(2):
            content = io.BytesIO()
            path = self._paths[number]
            if path is not None and _copy(path, content, cancelled):
                return np.frombuffer(content.getbuffer(), self._dtype)
            self._forget(number)
            self.encode([number], cancelled=cancelled)
        raise OSError(f"{path} was changed while it was read; try again")

    def count(self, number: int, cancelled: Cancelled = never) -> int:
        """How many ids a part has; it is encoded where it is not there.

        Raises:
            UserError: As ``tokenize_corpus``.
            CancelledError: ``cancelled`` became true.
            OSError: As ``tokenize_corpus``.
        """
        path = self._paths[number]
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                return path.stat().st_size // self._dtype.itemsize
        return len(self.tokens(number, cancelled))

    def joined(
        self,
        numbers: range,
        report: Report | None = None,
        cancelled: Cancelled = never,
        most_in_memory: int = _MOST_BYTES_IN_MEMORY,
    ) -> TokenArray:
        """The ids of several parts: a copy in memory or, where they are many, in an unnamed file.

        Raises:
            UserError: As ``tokenize_corpus``.
            CancelledError: ``cancelled`` became true.
            OSError: As ``tokenize_corpus``.
        """
        self.encode(numbers, report, cancelled)
        size_bytes = sum(self.count(number) for number in numbers) * self._dtype.itemsize
        if size_bytes <= most_in_memory:
            pieces = [self.tokens(number, cancelled) for number in numbers]
            tokens = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
            tokens.flags.writeable = False
            return tokens
        # Without a name, it is gone with the process, however that ends.
        with tempfile.TemporaryFile(dir=self._cache) as copy:
            for number in numbers:
                copy.write(self.tokens(number, cancelled).data)
            copy.flush()
            return np.memmap(copy, self._dtype, mode="r")

    def prune(self, most_bytes: int = MOST_BYTES) -> None:
        """Remove what crashes left and what was not used for longest, none of these parts."""
        _prune(self._cache, {path for path in self._paths if path is not None}, most_bytes)

    def _forget(self, number: int) -> None:
        path, self._paths[number] = self._paths[number], None
        if path is not None:
            path.unlink(missing_ok=True)

    def _encode(self, number: int, progress: "_Progress", cancelled: Cancelled) -> Path:
        """Write the ids of a part; returns where."""
        digest = hashlib.sha256()
        identity = self._identities[number]
        # A name of its own, since another process may encode the same corpus at the same time.
        unnamed = self._cache / f".{identity}.{uuid.uuid4().hex}"
        with atomic_writer(unnamed) as file:
            try:
                texts = self._texts.pieces(range(number, number + 1), cancelled, progress.add)
                for part in self._tokenizer.encode_stream(texts, is_beginning=number == 0):
                    ids = part.tobytes()
                    file.write(ids)
                    digest.update(ids)
                    progress.tell()
            except UnknownCharacterError as error:
                position = self._texts.characters_before(number) + error.position
                raise UnknownCharacterError(error.character, position) from None
        return unnamed.replace(self._cache / f"{identity}-{digest.hexdigest()[:_DIGITS]}")


@dataclass(frozen=True)
class PartRange:
    """Some of the parts of a corpus, one after the other."""

    whole: EncodedParts
    numbers: range

    def __len__(self) -> int:
        """How many there are."""
        return len(self.numbers)

    def tokens(self, number: int) -> TokenArray:
        """As ``EncodedParts``, counted from the first of these."""
        return self.whole.tokens(self.numbers[number])

    def count(self, number: int) -> int:
        """As ``EncodedParts``, counted from the first of these."""
        return self.whole.count(self.numbers[number])

    def ahead(self, numbers: Iterable[int]) -> None:
        """As ``EncodedParts``, counted from the first of these."""
        self.whole.ahead(self.numbers[number] for number in numbers)


class _Progress:
    """Adds up what several threads have done."""

    def __init__(self, total: int, report: Report | None) -> None:
        self._total = total
        self._report = report
        self._done = 0
        self._lock = threading.Lock()

    def add(self, done_bytes: int) -> None:
        with self._lock:
            self._done += done_bytes

    def tell(self) -> None:
        if self._report is not None:
            with self._lock:
                self._report(min(self._done, self._total), self._total)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _copy(path: Path, copy: IO[bytes], cancelled: Cancelled) -> bool:
    """Copy an encoded file; False where it is gone or not what its name says."""
    digest = hashlib.sha256()
    try:
        file = path.open("rb")
    except FileNotFoundError:  # another process has pruned it
        return False
    with file:
        while piece := file.read(_CHUNK_BYTES):
            check_cancelled(cancelled, "opening the encoded corpus")
            digest.update(piece)
            copy.write(piece)
        # Its time of access says when it was used last; that of its last change stays.
        with contextlib.suppress(OSError):
            os.utime(path, ns=(time.time_ns(), os.fstat(file.fileno()).st_mtime_ns))
    return digest.hexdigest()[:_DIGITS] == path.name.rpartition("-")[2]


def _named(cache: Path) -> Iterator[Path]:
    """The encoded files in a folder."""
    with contextlib.suppress(FileNotFoundError):
        yield from (path for path in cache.iterdir() if len(path.name) == 2 * _DIGITS + 1)


def _prune(cache: Path, used: Set[Path], most_bytes: int) -> None:
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
    left = most_bytes - sum(size for _, size, path in known if path in used)
    for _, size, path in sorted(known, reverse=True):
        if path not in used:
            left -= size
            if left < 0:
                path.unlink(missing_ok=True)
