"""What the trainer's thread and the screens send each other while a run is set up and trained."""

import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from shakespeare_tui.runs.commands import Command, CommandInbox
    from shakespeare_tui.runs.events import Event
    from shakespeare_tui.runs.history import RunHistory

_POLL_SECONDS = 0.05
STOP = "Stop"
"""The command's type; to import it would import pydantic before the first paint."""


@dataclass(frozen=True)
class Opened:
    """The run's folder is there and locked; ``history`` is what its log holds already."""

    name: str
    path: Path
    history: "RunHistory | None" = None


@dataclass(frozen=True)
class Progressed:
    """Setting up goes on: ``what`` is ``done`` of ``total`` (bytes or characters)."""

    what: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Noticed:
    """One line for the user that is no error."""

    text: str


@dataclass(eq=False)
class Asked:
    """A question that must be answered before the run begins; the trainer waits for it."""

    question: str
    is_yes: bool = False
    is_answered: threading.Event = field(default_factory=threading.Event)

    def answer(self, is_yes: bool) -> None:
        """Let the trainer go on, one way or the other."""
        self.is_yes = is_yes
        self.is_answered.set()


@dataclass(frozen=True)
class Ended:
    """The thread is done; ``error`` is one line where it failed."""

    error: str = ""
    is_cancelled: bool = False


Message: TypeAlias = "Event | Opened | Progressed | Noticed | Asked | Ended"


class TrainingChannel:
    """What the trainer thread and the screens share; every method is safe from any thread."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._early: list[Command] = []
        self._inbox: CommandInbox | None = None
        self._lock = threading.Lock()
        self.stop = threading.Event()

    def send(self, message: Message) -> None:
        """Trainer to screens; never blocks."""
        self._messages.put(message)

    def receive(self, most: int) -> list[Message]:
        """Take up to ``most`` waiting messages."""
        taken: list[Message] = []
        while len(taken) < most:
            try:
                taken.append(self._messages.get_nowait())
            except queue.Empty:
                break
        return taken

    def post(self, command: "Command") -> None:
        """Screens to trainer; commands given before the run is open wait for it."""
        if type(command).__name__ == STOP:
            self.stop.set()
        with self._lock:
            if self._inbox is None:
                self._early.append(command)
            else:
                self._inbox.post(command)

    def attach(self, inbox: "CommandInbox") -> None:
        """Hand over the inbox of the open run."""
        with self._lock:
            self._inbox = inbox
            for command in self._early:
                inbox.post(command)
            self._early.clear()

    def ask(self, question: str) -> bool:
        """Trainer to screens; blocks until there is an answer, or a stop, which is a no."""
        asked = Asked(question)
        self.send(asked)
        while not asked.is_answered.wait(_POLL_SECONDS):
            if self.stop.is_set():
                return False
        return asked.is_yes
