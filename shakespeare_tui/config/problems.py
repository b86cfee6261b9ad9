"""What is wrong with a config, as data and as lines for people, with the nearest right name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shakespeare_tui.errors import UserError
from shakespeare_tui.visible_text import visible


@dataclass(frozen=True)
class Problem:
    """One thing to mend; ``source`` is a file or a ``--set``, ``path`` a ``section.key`` or empty.

    ``line`` counts from 1; None where the source has no lines.
    """

    source: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ConfigError(UserError):
    """A config that cannot be used; the message has one line for each of ``problems``."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def join_words(words: Sequence[str], last: str = "or") -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` was most likely meant to be, or None."""
    import difflib

    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean NAME?``, or nothing where no known name is near."""
    found = nearest(name, known)
    return f"; did you mean {found}?" if found else ""


def show_value(value: Any) -> str:
    """A refused value as it is quoted in a message: short, and harmless to a terminal."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value)
    short = text if len(text) <= 40 else f"{text[:37]}..."
    try:
        float(text)
    except ValueError:
        return repr(short)
    return short.strip()


def show_name(name: str) -> str:
    """A name from outside (a key, a file) on one line, without control characters."""
    if len(name) > 200:
        name = f"{name[:197]}..."
    return visible(name) or "''"
