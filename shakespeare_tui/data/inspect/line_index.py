"""A sparse index over a text of any size: its rows, lines and characters are found at once.

A row is what a viewer shows as a unit: a line with its newline, or a piece of a line that is longer
than ``ROW_CHARACTERS``. Only every few thousandth character leaves a mark in the index, so a
gigabyte needs a megabyte, and a row is found by reading one block of the file.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.inspect.characters import code_points
from shakespeare_tui.data.source import TextSource
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


ROW_CHARACTERS = 2000
"""A longer line is cut into rows of this length."""

BLOCK_CHARACTERS = 1 << 15
"""Distance between two marks, in characters."""

_NEWLINE = ord("\n")
_CACHED_BLOCKS = 8
_Marks = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """A line, or a piece of a long one."""

    number: int
    """From 0, in the whole text."""
    start: int
    """Number of its first character in the whole text, from 0."""
    line: int
    """Number of its line, from 0."""
    is_line_start: bool
    text: str
    """With the newline that ends it, if one does."""

    @property
    def stop(self) -> int:
        """Number of the character after its last one."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a block begins; always at the start of a row."""

    byte: int
    character: int
    row: int
    line: int
    is_line_start: bool


@dataclass(frozen=True)
class LineIndex:
    """Finds rows, lines and characters of the text that was scanned so far.

    Raises of all methods that read:
        UserError: A file cannot be read any more.
    """

    stream: ByteStream
    marks: _Marks
    """(marks, 5) byte, character, row, line, and whether a line begins there; ascending."""
    n_bytes: int
    n_characters: int
    n_rows: int
    n_lines: int
    _cache: dict[int, list[Row]] = field(default_factory=dict, compare=False, repr=False)

    def rows(self, first: int, stop: int) -> list[Row]:
        """The rows from number ``first`` up to ``stop``, as far as there are any."""
        first, stop = max(0, first), min(stop, self.n_rows)
        found: list[Row] = []
        while first < stop:
            block = self._find(2, first)
            rows = self._rows_of(block)
            begin = first - int(self.marks[block, 2])
            found += rows[begin : begin + stop - first]
            first = int(self._end(block)[2])
        return found

    def row_of_character(self, position: int) -> int:
        """Number of the row that holds a character; the last row for one behind the end."""
        position = min(max(position, 0), max(0, self.n_characters - 1))
        if not self.n_rows:
            return 0
        rows = self._rows_of(self._find(1, position))
        return rows[bisect_right(rows, position, key=lambda row: row.start) - 1].number

    def text(self, start: int, stop: int) -> str:
        """The characters from ``start`` up to ``stop``."""
        start, stop = max(0, start), min(stop, self.n_characters)
        pieces = []
        while start < stop:
            block = self._find(1, start)
            begin, end = int(self.marks[block, 1]), int(self._end(block)[1])
            pieces.append(self._text_of(block)[start - begin : stop - begin])
            start = end
        return "".join(pieces)

    def _find(self, column: int, value: int) -> int:
        """The last block that begins at or before ``value``."""
        return max(0, int(np.searchsorted(self.marks[:, column], value, side="right")) - 1)

    def _end(self, block: int) -> tuple[int, ...]:
        if block + 1 < len(self.marks):
            return tuple(self.marks[block + 1].tolist())
        return (self.n_bytes, self.n_characters, self.n_rows, self.n_lines)

    def _text_of(self, block: int) -> str:
        start, stop = int(self.marks[block, 0]), int(self._end(block)[0])
        # A file that was changed meanwhile is shown as well as it can be.
        text = self.stream.read(start, stop).decode("utf-8", "replace")
        n_characters = int(self._end(block)[1]) - int(self.marks[block, 1])
        return text if len(text) == n_characters else text[:n_characters].ljust(n_characters)

    def _rows_of(self, block: int) -> list[Row]:
        rows = self._cache.get(block)
        if rows is None:
            byte, character, row, line, is_line_start = self.marks[block].tolist()
            mark = _Mark(byte, character, row, line, bool(is_line_start))
            rows = list(_cut(self._text_of(block), mark))
            expected = int(self._end(block)[2]) - mark.row
            rows = rows[:expected]
            while len(rows) < expected:
                rows.append(Row(mark.row + len(rows), rows[-1].stop, rows[-1].line, True, ""))
            while len(self._cache) >= _CACHED_BLOCKS:
                self._cache.pop(next(iter(self._cache)))
            self._cache[block] = rows
        return rows


def _cut(text: str, mark: _Mark) -> Iterator[Row]:
    """Yield the rows of a block, which begins at the start of a row."""
    number, start, line = mark.row, mark.character, mark.line
    is_line_start = mark.is_line_start
    for piece in _lines(text):
        length = len(piece) - piece.endswith("\n")
        begin = 0
        while True:
            end = begin + ROW_CHARACTERS
            is_last = end >= length
            yield Row(
                number,
                start + begin,
                line,
                is_line_start,
                piece[begin:] if is_last else piece[begin:end],
            )
            number += 1
            is_line_start = False
            if is_last:
                break
            begin = end
        start += len(piece)
        line += 1
        is_line_start = True


def _lines(text: str) -> list[str]:
    r"""The lines of a text, each with its ``\n``; no other character ends a line."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


class LineIndexBuilder:
    """Builds the index while a text is read once, piece by piece.

    Args:
        stream: The bytes of the text.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._marks = np.zeros((1024, 5), np.int64)
        self._marks[0, 4] = 1
        self._n_marks = 1
        self._n_bytes = 0
        self._n_characters = 0
        self._rows_before_line = 0
        """Rows before the line that is under way."""
        self._line = 0
        self._line_characters = 0
        """Characters of that line so far."""

    def feed(self, text: str) -> None:
        """Go on with the next piece of the text."""
        if not text:
            return
        codes = code_points(text)
        newlines = np.flatnonzero(codes == _NEWLINE)
        # Lines of the piece: where each begins, how many characters of it came before, its rows.
        starts = np.concatenate([[0], newlines + 1])
        before = np.zeros(len(starts), np.int64)
        before[0] = self._line_characters
        lengths = newlines - starts[:-1] + before[:-1]
        first_rows = np.zeros(len(starts), np.int64)
        np.cumsum(np.maximum(1, -(-lengths // ROW_CHARACTERS)), out=first_rows[1:])
        first_rows += self._rows_before_line
        self._mark(text, starts, before, first_rows, lengths)
        self._n_bytes += _n_bytes(text)
        self._n_characters += len(text)
        self._rows_before_line = int(first_rows[-1])
        self._line += len(newlines)
        self._line_characters = len(text) - int(starts[-1]) + int(before[-1])

    def _mark(
        self, text: str, starts: _Marks, before: _Marks, first_rows: _Marks, lengths: _Marks
    ) -> None:
        """Add the marks that fall into this piece."""
        last = int(self._marks[self._n_marks - 1, 1])
        targets = np.arange(
            max(last + BLOCK_CHARACTERS - self._n_characters, 0), len(text), BLOCK_CHARACTERS
        )
        lines = np.searchsorted(starts, targets, side="right") - 1
        byte, character = self._n_bytes, 0
        for target, line in zip(targets.tolist(), lines.tolist(), strict=True):
            row = (target - int(starts[line]) + int(before[line])) // ROW_CHARACTERS
            if line < len(lengths):
                # The newline of a line that fills its last row belongs to that row.
                row = min(row, max(0, -(-int(lengths[line]) // ROW_CHARACTERS) - 1))
            place = int(starts[line]) - int(before[line]) + row * ROW_CHARACTERS
            if place < character or self._n_characters + place <= self._last_character:
                continue
            byte += _n_bytes(text[character:place])
            character = place
            self._append(
                byte,
                self._n_characters + place,
                int(first_rows[line]) + row,
                self._line + line,
                int(row == 0),
            )

    @property
    def _last_character(self) -> int:
        return int(self._marks[self._n_marks - 1, 1])

    def _append(self, *mark: int) -> None:
        if self._n_marks == len(self._marks):
            # Snapshots keep looking at the old array, which never changes again.
            larger = np.zeros((2 * self._n_marks, 5), np.int64)
            larger[: self._n_marks] = self._marks
            self._marks = larger
        self._marks[self._n_marks] = mark
        self._n_marks += 1

    def snapshot(self) -> LineIndex:
        """The index of the text so far; further feeding does not change it."""
        under_way = self._line_characters
        return LineIndex(
            stream=self._stream,
            marks=self._marks[: self._n_marks],
            n_bytes=self._n_bytes,
            n_characters=self._n_characters,
            n_rows=self._rows_before_line + -(-under_way // ROW_CHARACTERS),
            n_lines=self._line + (under_way > 0),
        )


def _n_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
