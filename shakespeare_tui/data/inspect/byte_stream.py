"""The text of a corpus as one run of UTF-8 bytes that can be read at any place."""

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from shakespeare_tui.data.text import TextSource
from shakespeare_tui.errors import UserError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class _Segment:
    """Bytes of one file, or the newline that stands between two files."""

    start: int
    """Place in the stream."""
    size: int
    path: Path | None
    """None for the newline."""
    file_offset: int


class ByteStream:
    r"""The bytes whose decoding is ``"".join(source.iter_text())``, read by place.

    Byte-order marks are left out, and one ``\n`` joins a file without a final newline to the next,
    just as ``TextSource`` does it. Only the files' sizes are kept in memory.

    Args:
        source: The corpus; its files are looked at, not read.

    Raises:
        UserError: A file cannot be read.
    """

    def __init__(self, source: TextSource) -> None:
        self._segments: list[_Segment] = []
        self.size = 0
        """Bytes in all."""
        needs_newline = False
        for path in source.paths:
            try:
                head, tail, size = _ends_of(path)
            except OSError as error:
                raise _unreadable(path, error) from error
            if size == 0:
                continue
            if needs_newline:
                self._add(None, 1, 0)
            offset = len(_BYTE_ORDER_MARK) if head == _BYTE_ORDER_MARK else 0
            if size > offset:
                self._add(path, size - offset, offset)
                needs_newline = tail != b"\n"
        self._starts = [segment.start for segment in self._segments]

    def _add(self, path: Path | None, size: int, file_offset: int) -> None:
        self._segments.append(_Segment(self.size, size, path, file_offset))
        self.size += size

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` up to ``stop``; fewer where a file has become shorter.

        Raises:
            UserError: A file cannot be read any more.
        """
        pieces = []
        index = max(0, bisect_right(self._starts, start) - 1)
        while index < len(self._segments) and self._segments[index].start < stop:
            segment = self._segments[index]
            first = max(start, segment.start) - segment.start
            last = min(stop, segment.start + segment.size) - segment.start
            pieces.append(_read(segment, first, last))
            index += 1
        return b"".join(pieces)


def _ends_of(path: Path) -> tuple[bytes, bytes, int]:
    """The first three bytes of a file, its last one, and its size."""
    with path.open("rb") as file:
        head = file.read(3)
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        return head, file.read(1), size


def _read(segment: _Segment, first: int, last: int) -> bytes:
    if segment.path is None:
        return b"\n"[first:last]
    try:
        with segment.path.open("rb", buffering=0) as file:
            file.seek(segment.file_offset + first)
            return file.read(last - first) or b""
    except OSError as error:
        raise _unreadable(segment.path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read {path}: {error.strerror}; check that it is still there")
