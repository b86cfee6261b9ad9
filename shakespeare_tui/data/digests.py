"""What large files hold, remembered while the files stay as they are.

To read two gigabytes takes seconds, and a corpus is looked up many times. What is remembered holds
for the very state of a file (its size, inode and times), as Git's index does it.
"""

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shakespeare_tui.errors import UserError
from shakespeare_tui.files import file_sha256, write_json_atomically
from shakespeare_tui.paths import cache_folder
from shakespeare_tui.settings_files import read_json_file

_LEAST_BYTES = 1 << 25
# A file may change again within the grain of its clock without showing it.
_GRAIN_SECONDS = 2.0


def quick_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, remembered where it is large.

    Raises:
        OSError: It cannot be read.
    """

    def compute() -> list[str]:
        return [file_sha256(path)]

    return str(remembered([path], "sha256", compute, _is_digest)[0])


def _is_digest(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 1 and is_sha256(found[0])


def is_sha256(text: Any) -> bool:
    """Whether this is such a digest, in hexadecimal."""
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


def remembered(
    paths: Sequence[Path],
    what: str,
    compute: Callable[[], list[Any]],
    is_it: Callable[[Any], bool],
) -> list[Any]:
    """What ``compute`` makes of files, from memory where they are large and have not changed.

    Args:
        paths: The files.
        what: Names what is computed.
        compute: Reads the files; JSON comes of it.
        is_it: Whether what was found in memory is such a thing.

    Raises:
        OSError: A file cannot be read.
    """
    states = [path.stat() for path in paths]
    if sum(state.st_size for state in states) < _LEAST_BYTES:
        return compute()
    named = zip(paths, states, strict=True)
    told = [
        [str(path.resolve()), state.st_size, state.st_ino, state.st_mtime_ns, state.st_ctime_ns]
        for path, state in named
    ]
    key = hashlib.sha256(repr([what, told]).encode()).hexdigest()
    memory = cache_folder() / "digests" / f"{key[:32]}.json"
    with contextlib.suppress(OSError, UserError):
        known = read_json_file(memory)
        if is_it(known):
            return list(known)
    found = compute()
    newest = max(state.st_ctime_ns for state in states) / 1e9
    if time.time() - newest > _GRAIN_SECONDS:
        # A cache that cannot be written costs time, nothing else.
        with contextlib.suppress(OSError):
            write_json_atomically(memory, found)
    return found
