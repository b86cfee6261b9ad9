"""Append events to ``events.jsonl``, read them back, and cut the file where a run resumes."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from shakespeare_tui.files import atomic_writer, open_regular, parse_json
from shakespeare_tui.runs.events import (
    ROLL_BACK,
    CommandApplied,
    Event,
    RunFailed,
    RunFinished,
    StepCompleted,
    sound_event,
)

_TAIL_BYTES = 1 << 16
_LONGEST_TAIL_BYTES = 1 << 24
_TERMINAL = {RunFinished.__name__, RunFailed.__name__}


def _open_unbuffered(path: Path) -> FileIO:
    # A buffer would try again, and fail again, to write what a full disk refused.
    return FileIO(path, "a")


class EventLog:
    """An append-only log that reaches the disk at least once a second.

    Args:
        path: The file; made where it does not exist.
        every: Write only every so many steps' ``StepCompleted``; other events always.
        flush_seconds: Longest time that a line waits in memory while events arrive.
    """

    def __init__(self, path: Path, every: int = 1, flush_seconds: float = 1.0) -> None:
        self._path = path
        self._file = _open_unbuffered(path)
        self._every = every
        self._flush_seconds = flush_seconds
        self._lines: list[str] = []
        self._flushed = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Record one event.

        Raises:
            OSError: The disk is full.
        """
        if isinstance(event, CommandApplied) and event.command == ROLL_BACK:
            self._cut_after(event.step)
        if isinstance(event, StepCompleted):
            if event.step % self._every:
                return
            self._lines.append(event.to_json())
            if time.monotonic() - self._flushed >= self._flush_seconds:
                self.flush()
        else:
            self._lines.append(event.to_json())
            self.flush()

    def _cut_after(self, step: int) -> None:
        self.close()
        truncate_after(self._path, step)
        self._file = _open_unbuffered(self._path)

    def flush(self) -> None:
        """Hand all lines to the operating system.

        Raises:
            OSError: The disk is full; the lines are lost, and none of them is left in half.
        """
        lines, self._lines = self._lines, []
        self._flushed = time.monotonic()
        if not lines:
            return
        size = os.fstat(self._file.fileno()).st_size
        # Half a surrogate pair, which UTF-8 cannot say, then reads as the JSON escape it is.
        left = ("\n".join(lines) + "\n").encode(errors="backslashreplace")
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(size)
            raise

    def sync(self) -> None:
        """Bring all lines to the disk, to be called before what they lead up to is on it.

        Raises:
            OSError: The disk is full.
        """
        self.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush and close."""
        try:
            self.flush()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_events(path: Path) -> Iterator[Event]:
    """The events of a log in order, without lines cut short by a crash and what is not sound.

    Raises:
        OSError: It cannot be read.
    """
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            event = sound_event(line)
            if event is not None:
                yield event


def last_events(path: Path) -> Iterator[Event]:
    """The complete events at the end of a log, the last first.

    Args:
        path: The log; where there is none, there are no events.

    Raises:
        OSError: It cannot be read.
    """
    tail_bytes = _TAIL_BYTES
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            while True:
                file.seek(max(0, size - tail_bytes))
                lines = file.read(tail_bytes).split(b"\n")[:-1]
                found = filter(None, map(sound_event, reversed(lines)))
                last = next(found, None)
                # Lines without end, which hold no event, are looked over as far as is sensible.
                if last is not None or not size > tail_bytes < _LONGEST_TAIL_BYTES:
                    break
                tail_bytes *= 16
    except FileNotFoundError:
        return
    if last is not None:
        yield last
        yield from found


def truncate_after(
    path: Path, step: int, is_undone: Callable[[dict[str, Any]], bool] = lambda record: False
) -> None:
    """Drop every line after ``step`` and every ending, so that the file reads as one run.

    Args:
        path: The log; where there is none, none is made.
        step: The step that the run goes back to.
        is_undone: Asked, in order, whether an earlier line tells of what will come again, too.

    Raises:
        OSError: The disk is full; the log is untouched.
    """
    if not path.exists():
        return
    with open_regular(path) as source, atomic_writer(path) as target:
        for line in source:
            try:
                record = parse_json(line)
            except ValueError:
                continue
            if isinstance(record, dict) and line.endswith(b"\n"):
                is_later = isinstance(record.get("step"), int) and record["step"] > step
                is_ending = str(record.get("type")) in _TERMINAL
                if not (is_later or is_ending or is_undone(record)):
                    target.write(line)
