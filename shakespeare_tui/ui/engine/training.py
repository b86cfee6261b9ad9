"""The one trainer of this process, seen from the screens: start, command, follow, shut down."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.engine.channel import (
    STOP,
    Asked,
    Ended,
    Noticed,
    Opened,
    Progressed,
    TrainingChannel,
)

if TYPE_CHECKING:
    from shakespeare_tui.runs.commands import Command
    from shakespeare_tui.runs.events import Event
    from shakespeare_tui.runs.history import RunHistory

TrainingState = Literal["idle", "starting", "running", "paused", "stopping", "finished", "failed"]
_ACTIVE = ("starting", "running", "paused", "stopping")
_MOST_AT_ONCE = 20_000


def _train(request: TrainingRequest, channel: TrainingChannel) -> None:
    from shakespeare_tui.ui.engine.trainer_thread import train

    train(request, channel)


@dataclass
class TrainingController:
    """Owns the trainer thread; its methods are called on the UI thread only.

    Attributes:
        run_thread: What the thread does; it sends ``Ended`` last.
        state: Where training stands.
        message: The last notice or error, one line; empty when there is nothing to say.
        run_name: The run being trained, or the last one.
        run_path: Its folder.
        setup: What setting up is doing, while ``state`` is ``starting``.
        asked: The question that the trainer waits with, if any.
        changes: Grows with every change of state or message.
        checkpoints_saved: Grows with every checkpoint that the trainer has written.
        elsewhere: The run that another process trains, as far as a screen knows of one.
        stopped_at: The step at which the run was stopped and saved before its end.
    """

    run_thread: Callable[[TrainingRequest, TrainingChannel], None] = _train
    state: TrainingState = "idle"
    message: str = ""
    run_name: str | None = None
    run_path: Path | None = None
    setup: Progressed | None = None
    asked: Asked | None = None
    changes: int = 0
    checkpoints_saved: int = 0
    stopped_at: int | None = None
    elsewhere: str = ""
    _history: "RunHistory | None" = None
    _thread: threading.Thread | None = None
    _channel: TrainingChannel = field(default_factory=TrainingChannel)

    @property
    def history(self) -> "RunHistory":
        """The run so far; another object after each start, so never keep it."""
        if self._history is None:
            from shakespeare_tui.runs.history import RunHistory

            self._history = RunHistory()
        return self._history

    @property
    def shown_state(self) -> str:
        """A key of ``lab_screen.STATE_MARKS``: what the trainer does, or how its run ended."""
        if self.state == "running":
            return "training"
        if self.state == "finished" and self._history is not None:
            return self._history.ending or "finished"
        return self.state

    @property
    def shown_message(self) -> str:
        """The last notice or error without what the doctor says already."""
        history = self._history
        if history is not None and history.failed and history.failed.error == self.message:
            return history.failure
        return self.message

    @property
    def is_active(self) -> bool:
        """Whether a trainer is at work or about to be."""
        return self.state in _ACTIVE

    @property
    def is_at_work(self) -> bool:
        """Whether a trainer takes its share of the processor: not while it is paused."""
        return self.is_active and self.state != "paused"

    @property
    def is_alive(self) -> bool:
        """Whether the thread has not ended yet."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_loading(self) -> bool:
        """Whether a start is under way that has not come to a run: nothing is lost with it."""
        return self.is_alive and self.run_path is None

    def start(self, request: TrainingRequest) -> bool:
        """Start a run in the background; False, with ``message`` set, while one is active."""
        if self.is_active:
            self._tell(f"{self.run_name or 'a run'} is being trained; stop it first")
            return False
        self._history, self.setup, self.asked, self.stopped_at = None, None, None, None
        self.run_name, self.run_path = request.resume or request.name, None
        self._channel = TrainingChannel()
        self._change("starting", "")
        # Not a daemon, so that an orderly end of the process waits for the checkpoint.
        self._thread = threading.Thread(
            target=self.run_thread, args=(request, self._channel), name="trainer"
        )
        self._thread.start()
        return True

    def post(self, command: "Command") -> bool:
        """Give a command to the trainer; False where none is active."""
        if not self.is_active:
            return False
        self._channel.post(command)
        if type(command).__name__ == STOP:
            self._change("stopping", "")
        return True

    def drain(self) -> int:
        """Apply what the trainer sent since the last call; the number of messages taken."""
        taken = self._channel.receive(_MOST_AT_ONCE)
        for message in taken:
            if isinstance(message, Opened):
                self.run_name, self.run_path, self.setup = message.name, message.path, None
                if message.history is not None:
                    self._history = message.history
                self._running()
            elif isinstance(message, Progressed):
                self.setup = message
            elif isinstance(message, Noticed):
                self._tell(message.text)
            elif isinstance(message, Asked):
                self.asked = message
                self._change(self.state, self.message)
            elif isinstance(message, Ended):
                self._end(message)
            else:
                self.history.apply(message)
                self._follow(message)
        return len(taken)

    def _follow(self, event: "Event") -> None:
        # Loaded here: the first paint of the lab does without it.
        from shakespeare_tui.runs import events

        match event:
            case events.RunStarted():
                self.run_name = event.run
                self._running()
            case events.CommandApplied(command="Pause") if self.state == "running":
                self._change("paused", self.message)
            case events.CommandApplied(command="Resume") if self.state == "paused":
                self._change("running", self.message)
            case events.CheckpointSaved():
                self.checkpoints_saved += 1
            case events.RunFailed():
                self._change(self.state, event.error)
            case events.RunFinished():
                is_early = event.is_early
                self.stopped_at = event.step if is_early else None
                self._change("stopping", self.message)

    def _running(self) -> None:
        if self.state == "starting":
            self._change("running", self.message)

    def _end(self, ended: Ended) -> None:
        if ended.error:
            self._change("failed", ended.error)
        elif ended.is_cancelled:
            self._change("idle", "cancelled before the run began")
        else:
            self._change("finished", self.message)

    def _tell(self, text: str) -> None:
        self._change(self.state, text)

    def _change(self, state: TrainingState, message: str) -> None:
        self.state, self.message = state, message
        self.changes += 1

    def join(self, wait_seconds: float) -> bool:
        """Wait for the thread; whether it has ended."""
        if self._thread is not None:
            self._thread.join(wait_seconds)
        return not self.is_alive

    def ask_to_stop(self, reason: str = "stopped") -> None:
        """Ask the trainer to save and stop, if one is at work and was not asked before."""
        if self.is_alive and self.state != "stopping":
            from shakespeare_tui.runs.commands import Stop

            self.post(Stop(reason=reason))

    def shutdown(self, wait_seconds: float, reason: str = "stopped") -> bool:
        """Ask the trainer to save and stop, and wait; whether it ended in time."""
        self.ask_to_stop(reason)
        return self.join(wait_seconds)
