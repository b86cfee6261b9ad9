"""Read a text that a user named, or say in one line why it cannot be read."""

import contextlib
import sys
from typing import IO

from shakespeare_tui.errors import UserError

STDIN = "-"
"""Stands for standard input where a file is named."""
_MOST_BYTES = 100_000_000
_PIECE_BYTES = 1 << 20
_ADVICE = "save it as UTF-8 or name another file"


def read_text(file: str) -> str:
    """The content of a text file; ``-`` is standard input.

    Raises:
        UserError: There is none, it is empty, or it is not text.
    """
    is_stdin = file == STDIN
    name = "stdin" if is_stdin else file
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if is_stdin else open(file, "rb") as source:
            content = _read(source, name)
    except FileNotFoundError:
        raise UserError(f"there is no file {name!r}; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {name!r}: {reason}; name a text file") from None
    if not content:
        raise UserError(f"{name} is empty; name a file with text in it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at offset {error.start:,}"
        raise UserError(f"{name} is not UTF-8 text: {byte}; {_ADVICE}") from None


def _read(source: IO[bytes], name: str) -> bytes:
    """All of it, as far as a text can go on: devices and pipes need not end.

    Raises:
        UserError: It is not text, or longer than can be read.
    """
    content = bytearray()
    while piece := source.read(_PIECE_BYTES):
        # A NUL is valid UTF-8, but no text has one: it is the surest sign of a binary file.
        if 0 in piece:
            offset = len(content) + piece.index(0)
            raise UserError(f"{name} is not text: NUL byte at offset {offset:,}; {_ADVICE}")
        content += piece
        if len(content) > _MOST_BYTES:
            raise UserError(
                f"{name} is longer than {_MOST_BYTES // 10**6} MB; name a shorter text or cut it"
            )
    return bytes(content)
