"""Find the corpus behind a name, a file or a folder, and fetch a named one that is not at hand."""

import os
from collections.abc import Callable
from pathlib import Path
from threading import Event

from shakespeare_tui.data.catalogue import CATALOGUE, CorpusEntry, nearest_hint
from shakespeare_tui.data.failures import FetchFailedError
from shakespeare_tui.data.fetch import cached_path, fetch
from shakespeare_tui.data.text import Report, TextSource
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import file_sha256
from shakespeare_tui.shipped import shipped_folder

__all__ = ["TEXT_SUFFIXES", "TextSource", "locate_corpus", "open_corpus", "text_files"]

TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown")
"""What counts as a text file inside a folder; a file named by itself may have any name."""


def locate_corpus(spec: str) -> TextSource | None:
    """Find a corpus that is at hand; None for a catalogue name that is not fetched yet.

    A catalogue name is looked for in the working folder's ``data``, then in what ships with the
    program, then in the user's cache. Anything else is the path of a text file, or of a folder
    whose text files are read in sorted order.

    Raises:
        UserError: Nothing has that name, or what has it is empty, unreadable or not text.
    """
    if not spec:
        raise UserError(f"the name of a corpus is empty; {nearest_hint(spec)}")
    entry = CATALOGUE.get(spec)
    path = Path(spec).expanduser() if entry is None else Path("data") / entry.file_name
    try:
        if entry is not None:
            return _locate_entry(entry, path)
        if path.is_dir():
            return _folder_source(path)
        if path.exists():
            return _file_source(path, name=path.stem, title=str(path))
    except OSError as error:
        at = error.filename or path
        raise UserError(f"cannot read {at}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise UserError(f"{spec!r} is no path: {error}; name a corpus, file or folder") from error
    raise UserError(f"no corpus, file or folder is called {spec!r}; {nearest_hint(spec)}")


def open_corpus(
    spec: str,
    report: Report | None = None,
    notice: Callable[[str], None] | None = None,
    *,
    fallback_to_sample: bool = False,
    cancelled: Event | None = None,
) -> TextSource:
    """Find a corpus as ``locate_corpus`` does and fetch it where it is not at hand.

    Args:
        spec: A catalogue name, a text file or a folder of text files.
        report: Told about the download's progress.
        notice: Told, in one line, when the sample stands in.
        fallback_to_sample: Take the shipped sample where the corpus cannot be fetched.
        cancelled: Set it from another thread to call the download off.

    Raises:
        UserError: As ``locate_corpus``; or the corpus cannot be fetched and nothing may stand in.
        CancelledError: ``cancelled`` was set.
    """
    source = locate_corpus(spec)
    if source is not None:
        return source
    entry = CATALOGUE[spec]
    try:
        path = fetch(entry, report, cancelled)
    except FetchFailedError as error:
        sample = locate_corpus("sample") if fallback_to_sample else None
        if sample is None:
            raise
        if notice is not None:
            notice(f"{error.reason}; using the small sample that ships with the program instead")
        return sample
    return _file_source(path, name=entry.name, title=entry.title)


def text_files(folder: Path) -> tuple[Path, ...]:
    """The text files in a folder and its subfolders, hidden ones left out, in sorted order.

    Raises:
        OSError: A folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path.suffix.lower() in TEXT_SUFFIXES and path.is_file()]
    return tuple(sorted(found, key=lambda path: path.relative_to(folder).parts))


def _locate_entry(entry: CorpusEntry, by_hand: Path) -> TextSource | None:
    if by_hand.is_file():
        if entry.sha256 is not None and file_sha256(by_hand) != entry.sha256:
            raise UserError(
                f"{by_hand} is not {entry.name}: its SHA-256 differs; remove it, or use it as it "
                f"is with --set data.corpus={by_hand}"
            )
        return _file_source(by_hand, name=entry.name, title=entry.title)
    shipped = shipped_folder("data") / entry.file_name
    if shipped.is_file() and (entry.sha256 is None or file_sha256(shipped) == entry.sha256):
        return _file_source(shipped, name=entry.name, title=entry.title)
    if not entry.sources:
        raise UserError(f"{shipped} is missing; install shakespeare-tui again")
    cached = cached_path(entry)
    # A damaged file in the cache counts as not fetched, so that fetching mends it.
    if cached.is_file() and file_sha256(cached) == entry.sha256:
        return _file_source(cached, name=entry.name, title=entry.title)
    return None


def _file_source(path: Path, name: str, title: str) -> TextSource:
    if not path.is_file():
        raise UserError(f"{path} is not a regular file; name a text file or a folder of them")
    size = path.stat().st_size
    if size == 0:
        raise UserError(f"{path} is empty; name a file with some text in it")
    with path.open("rb"):
        pass
    return TextSource(name, title, (path,), size)


def _folder_source(folder: Path) -> TextSource:
    paths = text_files(folder)
    if not paths:
        kinds = ", ".join(TEXT_SUFFIXES)
        raise UserError(f"{folder} has no text files ({kinds}); put some there or name a file")
    size = sum(path.stat().st_size for path in paths)
    if size == 0:
        raise UserError(f"every text file in {folder} is empty; put some text there")
    return TextSource(folder.resolve().name or "corpus", str(folder), paths, size)
