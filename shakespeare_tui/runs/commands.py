"""Commands that a person gives to a running trainer, applied at step boundaries."""

import contextlib
import dataclasses
import json
import math
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from shakespeare_tui.files import append_line, open_regular, parse_json

_LARGEST = 100_000_000
_LONGEST_READ_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Command:
    """An order to the trainer; recorded in the stream as ``CommandApplied``."""

    registry: ClassVar[dict[str, "type[Command]"]] = {}

    def __post_init__(self) -> None:
        """Refuse what no trainer can do, wherever it comes from.

        Raises:
            ValueError: An argument is of another type, negative or not finite.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            wanted = (int, float) if field.type is float else field.type
            if isinstance(value, bool) or not isinstance(value, wanted):  # type: ignore[arg-type]
                raise ValueError(f"{field.name} cannot be {value!r}")
            if not isinstance(value, str) and not 0 <= value <= _LARGEST:
                raise ValueError(f"{field.name} cannot be {value!r}: it is from 0 to {_LARGEST}")

    def __init_subclass__(cls) -> None:
        """Make every command readable back by its class name."""
        Command.registry[cls.__name__] = cls

    def arguments(self) -> dict[str, Any]:
        """The command's fields by name."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """One line of JSON without a newline."""
        return json.dumps({"command": type(self).__name__, "arguments": self.arguments()})


@dataclass(frozen=True, kw_only=True)
class Pause(Command):
    """Hold training after the current step; its time stands still."""


@dataclass(frozen=True, kw_only=True)
class Resume(Command):
    """Go on after a pause."""


@dataclass(frozen=True, kw_only=True)
class Stop(Command):
    """Save a checkpoint and end the run; ``reason`` goes into ``RunFinished``."""

    reason: str = "stopped"


@dataclass(frozen=True, kw_only=True)
class SaveCheckpoint(Command):
    """Save a checkpoint now."""


@dataclass(frozen=True, kw_only=True)
class GenerateSample(Command):
    """Generate a sample now, from ``prompt`` or from the config's prompts where it is empty."""

    prompt: str = ""


@dataclass(frozen=True, kw_only=True)
class SetLearningRate(Command):
    """Scale the whole schedule so that its peak is ``learning_rate`` from the next step on."""

    learning_rate: float

    def __post_init__(self) -> None:
        """Refuse a rate of zero too.

        Raises:
            ValueError: The rate is no positive number.
        """
        super().__post_init__()
        if not self.learning_rate:
            raise ValueError("learning_rate must be above 0")


@dataclass(frozen=True, kw_only=True)
class ExtendRun(Command):
    """Add steps (or minutes, for a run with a time budget) to the run; the schedule stretches."""

    steps: int = 0
    minutes: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AddNote(Command):
    """Write a remark into the run's stream; training is not touched."""

    text: str


def command_from_json(line: str | bytes) -> Command:
    """Read a command written by ``Command.to_json``.

    Raises:
        ValueError: The line is not a known command with its arguments.
    """
    record = parse_json(line)
    kind = Command.registry.get(str(record.get("command"))) if isinstance(record, dict) else None
    if kind is None:
        raise ValueError("not a command")
    try:
        return kind(**record.get("arguments", {}))
    except TypeError as error:
        raise ValueError(str(error)) from error


class CommandInbox:
    """Where commands wait for the next step boundary: from this process and from a file.

    Args:
        path: A file to which other processes append commands, one JSON line each; what it holds
            already is passed over. None listens to this process alone.
        poll_seconds: Shortest time between two looks at the file.
    """

    def __init__(self, path: Path | None = None, poll_seconds: float = 0.25) -> None:
        self._queue: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._path = path
        self._poll_seconds = poll_seconds
        self._polled = -math.inf
        self._position = _size(path) if path else 0

    @property
    def stop_requested(self) -> bool:
        """Whether a ``Stop`` waits or was taken: long work polls this and gives up."""
        self._poll()
        return self._stop.is_set()

    def post(self, command: Command) -> None:
        """Leave a command; safe from any thread and from signal handlers."""
        self._queue.put(command)
        if isinstance(command, Stop):
            self._stop.set()

    def drain(self) -> Iterator[Command]:
        """Take the waiting commands in order, one at a time.

        A command that waits for a later one (a pause) finds it in a drain of its own.
        """
        self._poll()
        while True:
            try:
                command = self._queue.get_nowait()
            except queue.Empty:
                return
            yield command

    def _poll(self) -> None:
        now = time.monotonic()
        if self._path is None or now - self._polled < self._poll_seconds:
            return
        self._polled = now
        if _size(self._path) <= self._position:
            return
        try:
            with open_regular(self._path) as file:
                file.seek(self._position)
                lines = file.read(_LONGEST_READ_BYTES)
        except OSError:  # something else lies in its place now; the trainer does not mind
            return
        whole = lines[: lines.rfind(b"\n") + 1]
        if not whole and len(lines) == _LONGEST_READ_BYTES:
            whole = lines  # no command is as long as that
        self._position += len(whole)
        for line in whole.splitlines():
            # A line that is no command may come from a newer version: it is passed over.
            with contextlib.suppress(ValueError):
                self.post(command_from_json(line))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def leave_command(path: Path, command: Command) -> None:
    """Append a command to the file that a trainer in another process listens to.

    Raises:
        OSError: The file cannot be written.
    """
    append_line(path, command.to_json())
