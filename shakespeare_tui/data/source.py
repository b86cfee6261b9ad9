"""Find the corpus behind a name, a file or a folder, and fetch a named one that is not at hand."""

import codecs
import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Protocol, Self

from shakespeare_tui.data.catalogue import CATALOGUE, CorpusEntry, CorpusFile, nearest_hint
from shakespeare_tui.data.digests import is_sha256, quick_sha256, remembered
from shakespeare_tui.data.download import FetchFailedError, Report, cached_file, fetch
from shakespeare_tui.data.tokenizers.tokenizer import SeenCharacters
from shakespeare_tui.errors import UserError, check_cancelled, never
from shakespeare_tui.paths import shipped_folder

DEFAULT_CHUNK_BYTES = 1 << 20
_BYTE_ORDER_MARK = "\ufeff"


class Hasher(Protocol):
    """What takes the bytes of a text one piece after the other, as those of ``hashlib`` do."""

    def update(self, piece: bytes, /) -> object:
        """The next piece."""


@dataclass(frozen=True)
class TextSurvey:
    r"""What reading a whole text tells of it.

    Attributes:
        sha256: Of the files' bytes in order (with the ``\n`` put between them), hexadecimal. For a
            single file this is what ``sha256sum`` prints.
        characters: How many there are.
        vocabulary: Those that occur, by code point.
    """

    sha256: str
    characters: int
    vocabulary: str


@dataclass(frozen=True)
class TextSource:
    """A corpus at hand: UTF-8 files that are read one after the other as one text."""

    name: str
    """The catalogue name, or the name of the file (without suffix) or folder."""
    title: str
    paths: tuple[Path, ...]
    """In reading order."""
    size_bytes: int
    validation: "TextSource | None" = None
    """What losses are measured on, where the corpus brings it; otherwise its own end."""

    @property
    def whole(self) -> "TextSource":
        """Its text and its validation text, one after the other."""
        if self.validation is None:
            return self
        paths = (*self.paths, *self.validation.paths)
        size_bytes = self.size_bytes + self.validation.size_bytes
        return TextSource(self.name, self.title, paths, size_bytes)

    def iter_text(
        self,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        *,
        hasher: Hasher | None = None,
        report: Report | None = None,
    ) -> Iterator[str]:
        r"""Yield the text in pieces of at most ``chunk_bytes`` bytes, none of them empty.

        Newlines stay as they are; a byte-order mark at the start of a file is dropped. Where a file
        does not end with a newline and another follows, one ``\n`` is put between them.

        Args:
            chunk_bytes: Bytes read at a time.
            hasher: Updated with the bytes that ``sha256`` covers, to save a second pass.
            report: Told (bytes read, ``size_bytes``) after each piece.

        Raises:
            UserError: A file cannot be read, is binary or is not UTF-8; names file and byte offset.
        """
        done_bytes = 0
        needs_newline = False
        for path in self.paths:
            for index, (piece, text) in enumerate(_decode_file(path, chunk_bytes)):
                if index == 0 and piece and needs_newline:
                    if hasher is not None:
                        hasher.update(b"\n")
                    yield "\n"
                if hasher is not None:
                    hasher.update(piece)
                if text:
                    needs_newline = not text.endswith("\n")
                    yield text
                done_bytes += len(piece)
                if report is not None:
                    report(done_bytes, self.size_bytes)

    def sha256(self, report: Report | None = None) -> str:
        """Hexadecimal digest of all that a run depends on: with a validation text, of both digests.

        Raises:
            UserError: As ``iter_text``.
        """
        digest = self.text_sha256(report)
        if self.validation is None:
            return digest
        both = f"{digest} {self.validation.text_sha256()}"
        return hashlib.sha256(both.encode()).hexdigest()

    def text_sha256(self, report: Report | None = None) -> str:
        """The digest of ``survey``.

        Raises:
            UserError: As ``iter_text``.
        """
        return self.survey(report).sha256

    def survey(
        self, report: Report | None = None, cancelled: Callable[[], bool] = never
    ) -> TextSurvey:
        """What reading the text tells; remembered where it is large, its validation text aside.

        Args:
            report: As for ``iter_text``.
            cancelled: Polled between pieces.

        Raises:
            UserError: As ``iter_text``.
            CancelledError: ``cancelled`` became true.
        """

        def read() -> list[Any]:
            characters, seen = 0, SeenCharacters()
            with _Hasher() as hasher:
                for text in self.iter_text(hasher=hasher, report=report):
                    check_cancelled(cancelled, "reading the corpus")
                    characters += len(text)
                    seen.add(text)
            return [hasher.hexdigest(), characters, seen.vocabulary]

        try:
            return TextSurvey(*remembered(self.paths, "survey", read, _is_survey))
        except OSError as error:
            raise _unreadable(error) from error


def _is_survey(found: Any) -> bool:
    kinds = (str, int, str)
    return (
        isinstance(found, list)
        and list(map(type, found)) == list(kinds)
        and is_sha256(found[0])
        and len(found[2]) <= found[1]
    )


class _Hasher:
    """SHA-256 in a thread of its own, as hashing takes longer than all else that reads a text."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1, "hash")
        self._last: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def update(self, piece: bytes) -> None:
        # One piece at a time is waiting, or all of the text would be in memory.
        last, self._last = self._last, self._pool.submit(self._hash.update, piece)
        if last is not None:
            last.result()

    def hexdigest(self) -> str:
        if self._last is not None:
            self._last.result()
        return self._hash.hexdigest()


def _decode_file(path: Path, chunk_bytes: int) -> Iterator[tuple[bytes, str]]:
    """Yield the file's bytes in pieces, each with the text that it completes (maybe empty)."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    at_start = True
    try:
        with path.open("rb") as file:
            while True:
                piece = file.read(chunk_bytes)
                text = _decode_piece(decoder, piece, path, offset)
                if at_start and text:
                    text = text.removeprefix(_BYTE_ORDER_MARK)
                    at_start = False
                yield piece, text
                if not piece:
                    return
                offset += len(piece)
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> UserError:
    return UserError(f"cannot read {error.filename}: {error.strerror}; check its permissions")


def _decode_piece(decoder: codecs.IncrementalDecoder, piece: bytes, path: Path, offset: int) -> str:
    advice = "save it as UTF-8 or name another file"
    pending = len(decoder.getstate()[0])
    try:
        text = decoder.decode(piece, final=not piece)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        position = offset - pending + error.start
        raise UserError(
            f"{path} is not UTF-8 text: byte 0x{byte:02x} at offset {position:,}; {advice}"
        ) from error
    # A NUL is valid UTF-8, but no text has one: it is the surest sign of a binary file.
    nul = piece.find(0)
    if nul >= 0:
        raise UserError(f"{path} is not text: NUL byte at offset {offset + nul:,}; {advice}")
    return text


__all__ = [
    "TEXT_SUFFIXES",
    "TextSource",
    "TextSurvey",
    "locate_corpus",
    "open_corpus",
    "text_files",
]

TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown")
"""What counts as a text file inside a folder; a file named by itself may have any name."""


def locate_corpus(spec: str, validation: str = "") -> TextSource | None:
    """Find a corpus that is at hand; None for a catalogue name that is not fetched yet.

    A catalogue name is looked for in the working folder's ``data``, then in what ships with the
    program, then in the user's cache. Anything else is the path of a text file, or of a folder
    whose text files are read in sorted order. Several are joined by `` + ``, and ``*2`` behind one
    of them has it read twice: ``plays/*2 + letters.txt``.

    Args:
        spec: As ``data.corpus``.
        validation: As ``data.validation``: a text in place of the validation text that the corpus
            brings, or of its end.

    Raises:
        UserError: Nothing has that name, or what has it is empty, unreadable or not text.
    """
    members = mixture(spec)
    found = [_locate(name) for name, _ in members]
    sources = [source for source in found if source is not None]
    if len(sources) < len(members):
        return None
    source = _mixed(sources, [weight for _, weight in members])
    if not validation:
        if any(weight > 1 for _, weight in members) and source.validation is None:
            raise UserError(
                f"{spec}: where a text is read several times, its end is no measure; name a text "
                "of its own with --set data.validation=FILE"
            )
        return source
    kept_apart = _locate(validation)
    if kept_apart is None:
        raise UserError(
            f"{validation} is not on this machine; fetch it with: shakespeare-tui data fetch "
            f"{validation}"
        )
    return dataclasses.replace(source, validation=dataclasses.replace(kept_apart, validation=None))


_WEIGHTED = re.compile(r"(.+?)\s*\*\s*(\d{1,3})")


def mixture(spec: str) -> list[tuple[str, int]]:
    """The corpora that a spec names, and how many times each is read in an epoch.

    Raises:
        UserError: A weight is 0.
    """
    if spec in CATALOGUE or os.path.exists(os.path.expanduser(spec)):
        return [(spec, 1)]
    members = []
    for member in spec.split(" + "):
        match = _WEIGHTED.fullmatch(member.strip())
        name, weight = (match[1], int(match[2])) if match else (member.strip(), 1)
        if weight == 0:
            raise UserError(f"{member.strip()}: a weight is 1 or more; leave out what is not read")
        members.append((name, weight))
    return members


def _mixed(sources: Sequence[TextSource], weights: Sequence[int]) -> TextSource:
    """Texts one after the other, each as many times as its weight says."""
    if len(sources) == 1 and weights[0] == 1:
        return sources[0]
    parts = list(zip(sources, weights, strict=True))
    kept_apart = [source.validation for source in sources if source.validation is not None]
    title = " + ".join(
        source.title if weight == 1 else f"{source.title}*{weight}" for source, weight in parts
    )
    return TextSource(
        "+".join(source.name for source in sources),
        title,
        tuple(path for source, weight in parts for path in source.paths * weight),
        sum(source.size_bytes * weight for source, weight in parts),
        _mixed(kept_apart, [1] * len(kept_apart)) if kept_apart else None,
    )


def _locate(spec: str) -> TextSource | None:
    if not spec:
        raise UserError(f"the name of a corpus is empty; {nearest_hint(spec)}")
    entry = CATALOGUE.get(spec)
    path = Path("data" if entry is not None else spec).expanduser()
    try:
        if entry is not None:
            return _locate_entry(entry)
        if path.is_dir():
            return _folder_source(path)
        if path.exists():
            return _file_source(path, name=path.stem, title=str(path))
    except OSError as error:
        at = error.filename or path
        raise UserError(f"cannot read {at}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise UserError(f"{spec!r} is no path: {error}; name a corpus, file or folder") from error
    raise UserError(f"no corpus, file or folder is called {spec!r}; {nearest_hint(spec)}")


def open_corpus(
    spec: str,
    report: Report | None = None,
    notice: Callable[[str], None] | None = None,
    *,
    validation: str = "",
    fallback_to_sample: bool = False,
    cancelled: Event | None = None,
) -> TextSource:
    """Find a corpus as ``locate_corpus`` does and fetch it where it is not at hand.

    Args:
        spec: As for ``locate_corpus``.
        report: Told about the download's progress.
        notice: Told, in one line, when the sample stands in.
        validation: As for ``locate_corpus``.
        fallback_to_sample: Take the shipped sample where the corpus cannot be fetched.
        cancelled: Set it from another thread to call the download off.

    Raises:
        UserError: As ``locate_corpus``; or the corpus cannot be fetched and nothing may stand in.
        CancelledError: ``cancelled`` was set.
    """
    source = locate_corpus(spec, validation)
    if source is not None:
        return source
    try:
        for name, _ in mixture(spec):
            if _locate(name) is None:
                fetch(CATALOGUE[name], report, cancelled)
    except FetchFailedError as error:
        sample = locate_corpus("sample") if fallback_to_sample else None
        if sample is None:
            raise
        if notice is not None:
            notice(f"{error.reason}; using the small sample that ships with the program instead")
        return sample
    source = locate_corpus(spec, validation)
    if source is None:
        raise UserError(f"{spec} was changed while it was fetched; try again")
    return source


def text_files(folder: Path) -> tuple[Path, ...]:
    """The text files in a folder and its subfolders, hidden ones left out, in sorted order.

    Raises:
        OSError: A folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in TEXT_SUFFIXES and path.is_file()]
    return tuple(sorted(found, key=lambda path: path.relative_to(folder).parts))


def _locate_entry(entry: CorpusEntry) -> TextSource | None:
    paths = [_locate_file(file) for file in entry.files]
    found = [path for path in paths if path is not None]
    if len(found) < len(paths):
        return None
    train, *validation = found
    source = _file_source(train, name=entry.name, title=entry.title)
    return dataclasses.replace(
        source,
        validation=_file_source(validation[0], entry.name, entry.title) if validation else None,
    )


def _locate_file(file: CorpusFile) -> Path | None:
    by_hand = Path("data") / file.name
    if by_hand.is_file():
        if not _is_it(by_hand, file):
            raise UserError(
                f"{by_hand} is not {by_hand.stem}: its SHA-256 differs; remove it, or use it as it "
                f"is with --set data.corpus={by_hand}"
            )
        return by_hand
    shipped = shipped_folder("data") / file.name
    if shipped.is_file() and _is_it(shipped, file):
        return shipped
    if not file.sources:
        raise UserError(f"{shipped} is missing; install shakespeare-tui again")
    # A damaged file in the cache counts as not fetched, so that fetching mends it.
    return cached_file(file)


def _is_it(path: Path, file: CorpusFile) -> bool:
    """Whether a file is what the catalogue says, as far as it says."""
    if file.size_bytes is not None and path.stat().st_size != file.size_bytes:
        return False
    return file.sha256 is None or quick_sha256(path) == file.sha256


def _file_source(path: Path, name: str, title: str) -> TextSource:
    if not path.is_file():
        raise UserError(f"{path} is not a regular file; name a text file or a folder of them")
    size = path.stat().st_size
    if size == 0:
        raise UserError(f"{path} is empty; name a file with some text in it")
    with path.open("rb"):
        pass
    return TextSource(name, title, (path,), size)


def _folder_source(folder: Path) -> TextSource:
    paths = text_files(folder)
    if not paths:
        kinds = ", ".join(TEXT_SUFFIXES)
        raise UserError(f"{folder} has no text files ({kinds}); put some there or name a file")
    size = sum(path.stat().st_size for path in paths)
    if size == 0:
        raise UserError(f"every text file in {folder} is empty; put some text there")
    return TextSource(folder.resolve().name or "corpus", str(folder), paths, size)
