"""Download a file over HTTP into a partial file: resumable, bounded in time, cancellable."""

import contextlib
import http.client
import itertools
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path

from shakespeare_tui.data.failures import SourceError
from shakespeare_tui.errors import CancelledError

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
