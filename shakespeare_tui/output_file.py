"""Files that the user named: what they may replace, and how they are written.

Links are followed. A regular file is replaced in one step and keeps its mode; what is none (a
device, a FIFO) is written into and stays what it is.
"""

import contextlib
import os
import stat
from pathlib import Path

from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.files import atomic_writer
from shakespeare_tui.visible_text import visible


def check_output_file(path: Path, *, may_replace: bool) -> None:
    """Refuse a file that could not or should not be written, before anything is computed.

    Args:
        path: What the user named; nothing is opened.
        may_replace: Whether an existing regular file may be replaced; a read-only one never is.

    Raises:
        UserError: What is wrong, and what to do.
    """
    name = visible(str(path))
    try:
        found = path.stat()
    except FileNotFoundError:
        _check_folder(path, name)
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name} cannot be written: {reason}; name another file") from None
    if stat.S_ISDIR(found.st_mode):
        raise UserError(f"{name} is a folder; name a file in it")
    if not found.st_mode & 0o222 or not os.access(path, os.W_OK):
        raise UserError(f"{name} is read-only; make it writable (chmod u+w) or name another file")
    if stat.S_ISREG(found.st_mode) and not may_replace and not _is_standard_stream(found):
        raise UserError(f"{name} exists; name another file, or add --force to replace it")


def _check_folder(path: Path, name: str) -> None:
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise UserError(f"{name}: there is no folder {visible(str(folder))}; make it first")
    if not os.access(folder, os.W_OK):
        raise UserError(f"{name}: the folder cannot be written; name a file in another")


def write_output_file(path: Path, text: str) -> None:
    """Write a text, as UTF-8, where the user wants it; an existing regular file is replaced.

    Raises:
        UserError: The file is read-only, a folder or in none.
        RunFailedError: The disk is full, or the reader of a FIFO left.
    """
    check_output_file(path, may_replace=True)
    content = text.encode("utf-8", errors="surrogateescape")
    try:
        _write(Path(os.path.realpath(path)), path, content)
    except OSError as error:
        reason = error.strerror or error
        raise RunFailedError(f"{visible(str(path))} cannot be written: {reason}") from None


def _write(target: Path, path: Path, content: bytes) -> None:
    try:
        found = path.stat()
    except FileNotFoundError:
        with atomic_writer(target) as file:
            file.write(content)
        return
    is_regular = stat.S_ISREG(found.st_mode)
    # Another name of the file, or a folder that takes no new ones: only its content can be changed.
    is_bound = found.st_nlink > 1 or not os.access(target.parent, os.W_OK)
    if is_regular and not is_bound and not _is_standard_stream(found):
        with atomic_writer(target) as file:
            file.write(content)
        return
    flags = os.O_WRONLY | (os.O_TRUNC if is_regular else 0)
    if _is_standard_stream(found):
        # The shell's > or >> stays what it was: what stands there already is not cut off.
        flags = os.O_WRONLY | os.O_APPEND
    with os.fdopen(os.open(path, flags), "wb") as file:
        file.write(content)


def _is_standard_stream(found: os.stat_result) -> bool:
    """Whether stdout or stderr goes into this very file, as with ``/dev/stdout`` and ``>``."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(found, os.fstat(descriptor)):
                return True
    return False
