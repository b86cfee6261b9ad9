"""What a person adds to a run: a note, and the names that it bore before; ``notes.json``."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from shakespeare_tui.errors import UserError
from shakespeare_tui.files import as_number, parse_json, read_bounded, write_json_atomically

NOTES_FILE = "notes.json"
LONGEST_NOTE = 2000
_FORMAT_VERSION = 1
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class FormerName:
    """A name that a run bore until a moment, Unix seconds."""

    name: str
    until: float


@dataclass(frozen=True)
class RunNotes:
    """A run's annotation and its former names, oldest first."""

    note: str = ""
    former_names: tuple[FormerName, ...] = ()

    def with_former_name(self, name: str, until: float) -> "RunNotes":
        """The same with one more former name."""
        names = (*self.former_names, FormerName(name, until))
        return dataclasses.replace(self, former_names=names)


def read_notes(folder: Path) -> RunNotes:
    """What is noted about the run in ``folder``; nothing where the file is missing or damaged."""
    try:
        record = parse_json(read_bounded(folder / NOTES_FILE, _MOST_BYTES))
    except (OSError, ValueError):
        return RunNotes()
    if not isinstance(record, dict):
        return RunNotes()
    note = record.get("note")
    return RunNotes(
        note if isinstance(note, str) else "", tuple(_former_names(record.get("former_names")))
    )


def _former_names(items: Any) -> Iterable[FormerName]:
    for item in items if isinstance(items, list) else ():
        name, until = (item.get("name"), item.get("until")) if isinstance(item, dict) else (0, 0)
        if isinstance(name, str) and (time := as_number(until)) is not None:
            yield FormerName(name, time)


def write_notes(folder: Path, notes: RunNotes) -> None:
    """Replace what is noted about a run, in one step.

    Raises:
        UserError: The note is too long.
        OSError: The disk is full or the folder cannot be written; the old notes stay.
    """
    if len(notes.note) > LONGEST_NOTE:
        raise UserError(
            f"a note may have {LONGEST_NOTE:,} characters, not {len(notes.note):,}; shorten it"
        )
    record = {"format": _FORMAT_VERSION, **dataclasses.asdict(notes)}
    write_json_atomically(folder / NOTES_FILE, record)


class Named(Protocol):
    """What is known of a run by its name."""

    @property
    def name(self) -> str:
        """Its name now."""

    @property
    def created(self) -> float:
        """When it was made, Unix seconds."""

    @property
    def former_names(self) -> tuple[FormerName, ...]:
        """The names it bore before."""


@dataclass(frozen=True)
class _Bearer:
    name: str
    start: float
    until: float


class RunNames:
    """The names of runs in time.

    Lineage and blind tests are recorded under the name that a run had then. Its bearer at that
    moment is meant, even where the name has gone to another run since.

    Args:
        runs: All runs that there are.
    """

    def __init__(self, runs: Iterable[Named]) -> None:
        self._bearers: dict[str, list[_Bearer]] = {}
        for run in runs:
            start = run.created
            for former in run.former_names:
                self._add(former.name, _Bearer(run.name, start, former.until))
                start = former.until
            self._add(run.name, _Bearer(run.name, start, float("inf")))

    def _add(self, name: str, bearer: _Bearer) -> None:
        self._bearers.setdefault(name, []).append(bearer)

    def now(self, name: str, time: float) -> str | None:
        """What the run that was called ``name`` at ``time`` is called now; None if it is gone."""
        bearers = self._bearers.get(name, ())
        for bearer in bearers:
            if bearer.start <= time <= bearer.until:
                return bearer.name
        # Clocks are set back now and then: better a bearer at another time than none.
        return bearers[-1].name if len(bearers) == 1 else None

    def reference_now(self, reference: str, time: float) -> str | None:
        """``RUN@STEP`` as it was written at ``time`` under the run's name of today."""
        name, _, step = reference.rpartition("@")
        now = self.now(name, time)
        return None if now is None else f"{now}@{step}"
