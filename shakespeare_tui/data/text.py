"""The text of a corpus as a stream: UTF-8 files, one after the other, in bounded memory."""

import codecs
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shakespeare_tui.errors import UserError

if TYPE_CHECKING:
    from hashlib import _Hash

DEFAULT_CHUNK_BYTES = 1 << 20
_BYTE_ORDER_MARK = "\ufeff"

Report = Callable[[int, int | None], None]
"""Called with bytes done and bytes in total (None where the total is unknown)."""


@dataclass(frozen=True)
class TextSource:
    """A corpus at hand: UTF-8 files that are read one after the other as one text."""

    name: str
    """The catalogue name, or the name of the file (without suffix) or folder."""
    title: str
    paths: tuple[Path, ...]
    """In reading order."""
    size_bytes: int

    def iter_text(
        self,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        *,
        hasher: "_Hash | None" = None,
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
        r"""Hexadecimal digest of the files' bytes in order (with the ``\n`` put between them).

        For a single file this is what ``sha256sum`` prints.

        Raises:
            UserError: As ``iter_text``.
        """
        hasher = hashlib.sha256()
        for _ in self.iter_text(hasher=hasher, report=report):
            pass
        return hasher.hexdigest()


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
        raise UserError(f"cannot read {path}: {error.strerror}; check its permissions") from error


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
