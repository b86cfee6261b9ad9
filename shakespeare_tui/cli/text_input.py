"""Read a text that a user named, or say in one line why it cannot be read."""

import sys
from pathlib import Path

from shakespeare_tui.core.errors import UserError

STDIN = "-"
"""Stands for standard input where a file is named."""


def read_text(file: str) -> str:
    """The content of a text file; ``-`` is standard input.

    Raises:
        UserError: There is none, it is empty, or it is not text.
    """
    is_stdin = file == STDIN
    name = "stdin" if is_stdin else file
    try:
        content = sys.stdin.buffer.read() if is_stdin else Path(file).read_bytes()
    except FileNotFoundError:
        raise UserError(f"there is no file {name!r}; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {name!r}: {reason}; name a text file") from None
    if not content:
        raise UserError(f"{name} is empty; name a file with text in it")
    advice = "save it as UTF-8 or name another file"
    # A NUL is valid UTF-8, but no text has one: it is the surest sign of a binary file.
    if 0 in content:
        raise UserError(f"{name} is not text: NUL byte at offset {content.index(0):,}; {advice}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at offset {error.start:,}"
        raise UserError(f"{name} is not UTF-8 text: {byte}; {advice}") from None
