"""What a person adds to a run: a note, and the names that it bore before; ``notes.json``."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shakespeare_tui.errors import UserError
from shakespeare_tui.files import read_bounded, write_json_atomically
from shakespeare_tui.loose_values import as_number, parse_json

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
