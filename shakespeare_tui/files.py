"""Read files without trusting them, and write them so that a crash leaves the old or the new."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from shakespeare_tui.errors import RunFailedError, UserError, check_cancelled, never
from shakespeare_tui.visible_text import visible

_LARGEST = 1e300


def as_number(value: object) -> float | None:
    """``value`` where it is a finite number of sane size, else None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return value
    return None


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is no JSON, is nested too deeply to be read, or is not in UTF-8.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


_HASHED_BYTES = 4_000_000
_BINARY = getattr(os, "O_BINARY", 0)  # Windows
_DISK_ERRORS = {errno.EIO, errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _BINARY


def fsync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` durable, where the system can do that for folders.

    Raises:
        OSError: The disk is full or broken.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some mounts refuse it (EINVAL, ENOTSUP, EACCES …); what is in the folder was synced.
        if error.errno in _DISK_ERRORS:
            raise
    finally:
        os.close(descriptor)


def open_regular(path: Path | str) -> BufferedReader:
    """Open a file to read; never waits for a FIFO in its place.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    return os.fdopen(_open_regular(path), "rb")


def read_bounded(path: Path | str, most: int) -> bytes:
    """The content of a file of at most ``most`` bytes.

    Thousands of files are read at once: this costs a third of what ``open`` does.

    Raises:
        OSError: It cannot be read, is larger, or is no regular file.
    """
    content = read_head(path, most + 1)
    if len(content) > most:
        size = f"{most // 1024:,} KB" if most >= 1024 else f"{most} bytes"
        raise OSError(errno.EFBIG, f"larger than {size}", str(path))
    return content


def read_head(path: Path | str, most: int) -> bytes:
    """The first ``most`` bytes of a file, or all that it has.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    descriptor = _open_regular(path)
    try:
        pieces = []
        while most > 0 and (piece := os.read(descriptor, min(most, 1 << 20))):
            pieces.append(piece)
            most -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def reason(error: Exception) -> str:
    """Why something could not be read, on one line and without the name of the file."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def append_line(path: Path, line: str) -> None:
    """Append a line to a file, which is made where it is missing.

    Raises:
        OSError: It cannot be written, or is no regular file.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _AT_ONCE, 0o666)
    with os.fdopen(descriptor, "ab") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        file.write(line.encode() + b"\n")


def _open_regular(path: Path | str) -> int:
    # A FIFO would wait for a writer for ever.
    descriptor = os.open(path, os.O_RDONLY | _AT_ONCE)
    try:
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    if not is_regular:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def file_sha256(path: Path, cancelled: Callable[[], bool] = never) -> str:
    """Hexadecimal SHA-256 of a file's bytes.

    Raises:
        OSError: The file cannot be read.
        CancelledError: ``cancelled``, polled between pieces, became true.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while piece := file.read(_HASHED_BYTES):
            check_cancelled(cancelled, "reading")
            digest.update(piece)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[IO[bytes]]:
    """Yield a binary file that replaces ``path`` when the block ends without an error.

    A file that is replaced keeps its mode; a new one gets what the umask leaves.

    Raises:
        OSError: The disk is full or the folder cannot be written; ``path`` is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _unused_name(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            _keep_mode(path, file.fileno())
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    fsync_folder(path.parent)


def _unused_name(path: Path) -> Path:
    """A hidden name beside ``path``, short enough for any file system."""
    return path.with_name(f".{path.name[:48]}.{os.urandom(4).hex()}")


def _keep_mode(path: Path, descriptor: int) -> None:
    """Give the new file the mode, and where that is allowed the owner, of the one it replaces."""
    try:
        before = path.stat()
    except FileNotFoundError:
        return
    if hasattr(os, "fchown"):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, before.st_uid, before.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace the file at ``path`` by ``content`` (text as UTF-8) in one step."""
    with atomic_writer(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json_atomically(path: Path, value: Any) -> None:
    """Replace the file at ``path`` by ``value`` as indented JSON; NaN is refused."""
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``folder`` when the block ends without an error.

    Every file in it is fsynced before the rename. ``folder`` must not exist yet.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _unused_name(folder)
    temporary.mkdir()
    try:
        yield temporary
        mode = 0o666 & temporary.stat().st_mode  # what the umask left
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(mode)  # some libraries make theirs private
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        fsync_folder(temporary)
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_folder(folder.parent)


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
        raise UserError(f"{name} cannot be written: {reason(error)}; name another file") from None
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


def write_output_file(path: Path, content: bytes | str) -> None:
    """Write bytes, or a text as UTF-8, where the user wants it; a regular file is replaced.

    Raises:
        UserError: The file is read-only, a folder or in none.
        RunFailedError: The disk is full, or the reader of a FIFO left.
    """
    check_output_file(path, may_replace=True)
    if isinstance(content, str):
        content = content.encode("utf-8", errors="surrogateescape")
    try:
        _write(Path(os.path.realpath(path)), path, content)
    except OSError as error:
        raise RunFailedError(f"{visible(str(path))} cannot be written: {reason(error)}") from None


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
