"""Complete the path of a text file or folder as it is typed."""

import os
from dataclasses import dataclass
from pathlib import Path

from shakespeare_tui.data.source import TEXT_SUFFIXES

MAX_SUGGESTIONS = 200


@dataclass(frozen=True)
class PathSuggestion:
    """A path that what was typed may become."""

    text: str
    """As it would be typed; a folder ends with a separator."""
    is_folder: bool
    size_bytes: int | None = None
    """Of a file."""


def complete_path(typed: str, limit: int = MAX_SUGGESTIONS) -> tuple[PathSuggestion, ...]:
    """Folders and files whose path begins with ``typed``: folders, then text files, then others.

    Upper and lower case are told apart only where that finds something. Hidden entries come only
    when a dot was typed. What cannot be read gives no suggestions.
    """
    folder_text, name = _split(typed)
    folder = Path(folder_text or ".").expanduser()
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if _is_wanted(entry.name, name)]
    except (OSError, ValueError, RuntimeError):
        return ()
    exact = [entry for entry in found if entry.name.startswith(name)]
    chosen = sorted(exact or found, key=_rank)[:limit]
    return tuple(_suggest(folder_text, entry) for entry in chosen)


def common_start(typed: str, suggestions: tuple[PathSuggestion, ...]) -> str:
    """What all suggestions begin with, at least ``typed``."""
    if not suggestions:
        return typed
    start = os.path.commonprefix([suggestion.text for suggestion in suggestions])
    return start if len(start) >= len(typed) else typed


def _split(typed: str) -> tuple[str, str]:
    """The folder, with its separator, and the beginning of a name."""
    if typed in ("~", "..", "."):
        return f"{typed}{os.sep}", ""
    cut = max(typed.rfind(separator) for separator in (os.sep, os.altsep or os.sep)) + 1
    return typed[:cut], typed[cut:]


def _is_wanted(entry_name: str, name: str) -> bool:
    if entry_name.startswith(".") and not name.startswith("."):
        return False
    return entry_name.lower().startswith(name.lower())


def _rank(entry: "os.DirEntry[str]") -> tuple[int, str]:
    if _is_folder(entry):
        return (0, entry.name.lower())
    return (1 if entry.name.lower().endswith(TEXT_SUFFIXES) else 2, entry.name.lower())


def _suggest(folder_text: str, entry: "os.DirEntry[str]") -> PathSuggestion:
    if _is_folder(entry):
        return PathSuggestion(f"{folder_text}{entry.name}{os.sep}", True)
    try:
        size = entry.stat().st_size
    except OSError:
        size = None
    return PathSuggestion(f"{folder_text}{entry.name}", False, size)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
