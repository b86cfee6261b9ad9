"""What a process does to files below a folder, seen before it happens: to count, refuse or end it.

Python tells its audit hooks of what it is about to do. ``os.fsync`` it does not tell of, and what a
library in another language does it does not know of: ``strace`` sees those.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

Act = Callable[[str, tuple[str, ...]], None]
"""Is told the operation and its paths; what it raises comes instead of the operation."""

_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_watched: list[tuple[str, Act]] = []
_is_installed = False


@contextlib.contextmanager
def watching(root: Path, act: Act) -> Iterator[None]:
    """Tell ``act`` of every operation below ``root``."""
    _install()
    entry = (f"{root}{os.sep}", act)
    _watched.append(entry)
    try:
        yield
    finally:
        _watched.remove(entry)


def die_at(root: Path, number: int) -> None:
    """Watch for good and end this process by ``kill -9`` before operation ``number``, from 1."""
    done = 0

    def act(name: str, paths: tuple[str, ...]) -> None:
        nonlocal done
        done += 1
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)

    _install()
    _watched.append((f"{root}{os.sep}", act))


def _install() -> None:
    # A hook stays for the life of the process.
    global _is_installed
    if _is_installed:
        return
    _is_installed = True
    sys.addaudithook(_hook)
    sync = os.fsync

    def fsync(file: int) -> None:
        if _watched:
            _tell("os.fsync", (os.readlink(f"/proc/self/fd/{file}"),))
        sync(file)

    os.fsync = fsync  # type: ignore[assignment]


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _watched:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITES and isinstance(path, str | os.PathLike):
            _tell("truncate" if flags & os.O_TRUNC else "open", (os.path.abspath(path),))
    elif event in _CHANGES:
        count = 2 if event == "os.rename" else 1
        paths = (os.path.abspath(p) for p in arguments[:count] if isinstance(p, str | os.PathLike))
        _tell(event, tuple(paths))


def _tell(name: str, paths: tuple[str, ...]) -> None:
    for root, act in list(_watched):
        if any(f"{path}{os.sep}".startswith(root) for path in paths):
            act(name, paths)
