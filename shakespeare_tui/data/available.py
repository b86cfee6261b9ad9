"""The corpora that one can choose from, and how each stands: named ones, those in data/, one's own.

Nothing here looks into a text; files are opened only to check the hash of a named corpus.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from shakespeare_tui.data.catalogue import (
    CATALOGUE,
    CorpusEntry,
    PackageSource,
    ParquetSource,
)
from shakespeare_tui.data.download import cached_path
from shakespeare_tui.formatting import counted

Status = Literal["unchecked", "verified", "shipped", "own", "absent", "damaged"]
"""How a corpus stands; only ``absent`` and ``damaged`` ones cannot be read."""


@dataclass(frozen=True)
class AvailableCorpus:
    """A corpus that one can choose."""

    spec: str
    """What ``data.corpus`` is set to: the catalogue name or the path."""
    title: str
    licence: str
    """Empty for one's own files."""
    origin: str
    status: Status
    size_bytes: int | None = None
    is_size_rough: bool = False
    sha256: str | None = None
    """The digest it must have; None where there is no reference."""
    path: Path | None = None
    problem: str | None = None
    """Why it is damaged, one line."""
    can_fetch: bool = False
    modified: float = 0.0
    """When its latest file was written, Unix seconds; 0 where nothing is at hand."""

    @property
    def name(self) -> str:
        """A short name."""
        return self.spec if self.spec in CATALOGUE else Path(self.spec).name

    @property
    def is_at_hand(self) -> bool:
        """Whether it can be read."""
        return self.status in ("verified", "shipped", "own")


def unchecked_corpora() -> tuple[AvailableCorpus, ...]:
    """The named corpora as the catalogue has them, without a look at the disk."""
    return tuple(_entry_item(entry, "unchecked") for entry in CATALOGUE.values())


def available_corpora(own: Iterable[str] = ()) -> tuple[AvailableCorpus, ...]:
    """All corpora: the named ones, text files in ``data``, and one's own files and folders.

    Hashes of named corpora are checked, which takes as long as reading them.

    Args:
        own: Paths of files and folders, in the order in which they are to be listed.
    """
    items = [_check_entry(entry) for entry in CATALOGUE.values()]
    taken = set()
    for path in (*files_in_data(), *(Path(spec).expanduser() for spec in own)):
        resolved = path.resolve()
        if resolved not in taken:
            taken.add(resolved)
            items.append(_own_item(path))
    return tuple(items)


def files_in_data() -> list[Path]:
    """The text files in ``data`` that are no named corpora, in sorted order."""
    named = {file.name for entry in CATALOGUE.values() for file in entry.files}
    try:
        return sorted(
            path for path in Path("data").glob("*.txt") if path.is_file() and path.name not in named
        )
    except OSError:
        return []


def _entry_item(entry: CorpusEntry, status: Status) -> AvailableCorpus:
    return AvailableCorpus(
        spec=entry.name,
        title=entry.title,
        licence=entry.licence,
        origin=_origin(entry),
        status=status,
        size_bytes=entry.size_bytes or entry.about_bytes,
        is_size_rough=entry.size_bytes is None,
        sha256=entry.sha256,
        can_fetch=bool(entry.sources),
    )


def _origin(entry: CorpusEntry) -> str:
    for source in entry.sources:
        if not isinstance(source, PackageSource):
            url = source.urls[0] if isinstance(source, ParquetSource) else source.url
            parts = urlsplit(url)
            return "/".join((parts.netloc, *parts.path.strip("/").split("/")[:2]))
    return "a package index" if entry.sources else "written for this program"


def _check_entry(entry: CorpusEntry) -> AvailableCorpus:
    from shakespeare_tui.data.source import locate_corpus
    from shakespeare_tui.errors import UserError

    try:
        source = locate_corpus(entry.name)
    except UserError as error:
        return replace(_entry_item(entry, "damaged"), problem=str(error))
    if source is None:
        return _entry_item(entry, "absent")
    return replace(
        _entry_item(entry, _status(entry, source.paths[0])),
        size_bytes=source.size_bytes,
        is_size_rough=False,
        path=source.paths[0],
        modified=_modified(source.paths),
    )


def _status(entry: CorpusEntry, path: Path) -> Status:
    if not entry.sources:
        return "shipped"
    # What was put into data/ by hand has nothing to be held against where no digest is known.
    return "verified" if entry.sha256 or path == cached_path(entry) else "own"


def _own_item(path: Path) -> AvailableCorpus:
    from shakespeare_tui.data.source import locate_corpus
    from shakespeare_tui.errors import UserError

    spec = str(path)
    if not path.exists():
        problem = f"{path} no longer exists; restore it or remove it from the list"
        return AvailableCorpus(spec, spec, "", spec, "damaged", path=path, problem=problem)
    try:
        source = locate_corpus(spec)
    except UserError as error:
        return AvailableCorpus(spec, spec, "", spec, "damaged", path=path, problem=str(error))
    assert source is not None
    n_files = len(source.paths)
    origin = f"{counted(n_files, 'file')} in {spec}" if path.is_dir() else spec
    return AvailableCorpus(
        spec,
        source.title,
        "",
        origin,
        "own",
        source.size_bytes,
        path=path,
        modified=_modified(source.paths),
    )


def _modified(paths: Iterable[Path]) -> float:
    try:
        return max(path.stat().st_mtime for path in paths)
    except OSError:
        return 0.0
