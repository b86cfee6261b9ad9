"""The run that the Train place shows: trained here, trained elsewhere, or played back.

All three are the same stream of events applied to the same history; they differ in where the events
come from and in whether anyone listens to commands.
"""

import contextlib
import math
import time
from typing import Protocol

from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.commands import Command, leave_command
from shakespeare_tui.runs.events import RunStarted
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.replay import FollowSource
from shakespeare_tui.ui.engine.training import TrainingController

_POLL_SECONDS = 0.04
_SECONDS_BETWEEN_LOOKS = 5.0
_QUIET_SECONDS = 60.0


class RunView(Protocol):
    """A run on the screen."""

    @property
    def history(self) -> RunHistory:
        """The run so far."""
        ...

    @property
    def name(self) -> str:
        """The run's name; empty where there is none yet."""
        ...

    @property
    def state(self) -> str:
        """What it is doing, in the words of ``run_line.STATES``."""
        ...

    @property
    def folder(self) -> RunFolder | None:
        """Its folder, once there is one."""
        ...

    @property
    def takes_commands(self) -> bool:
        """Whether a trainer listens."""
        ...

    def poll(self, now: float) -> None:
        """Take in new events; ``now`` in Unix seconds."""
        ...

    def post(self, command: Command) -> bool:
        """Give a command to the trainer; False where none listens.

        Raises:
            OSError: The trainer is another process and its command file cannot be written.
        """
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


class LiveView:
    """The run that this process trains; the app itself drains its events."""

    def __init__(self, training: TrainingController) -> None:
        self._training = training

    @property
    def history(self) -> RunHistory:
        """The run so far."""
        return self._training.history

    @property
    def name(self) -> str:
        """The run's name."""
        return self._training.run_name or ""

    @property
    def state(self) -> str:
        """The controller's state, or how its run ended."""
        return self._training.shown_state

    @property
    def folder(self) -> RunFolder | None:
        """The run's folder."""
        path = self._training.run_path
        return RunFolder(path) if path else None

    @property
    def takes_commands(self) -> bool:
        """Whether the trainer is at work."""
        return self._training.state in ("running", "paused")

    def poll(self, now: float) -> None:
        """Nothing to do: the app drains the queue whatever place is shown."""

    def post(self, command: Command) -> bool:
        """Give a command to the trainer."""
        return self._training.post(command)

    def close(self) -> None:
        """Nothing to let go of: training goes on."""


class AttachedView:
    """A run that another process trains, followed through its log.

    Reads the whole log so far: make it off the UI thread.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._source = FollowSource(run.events_path)
        self._restarts = 0
        self._history = RunHistory()
        self._is_trained = True
        self._looked = -math.inf
        self._now = 0.0
        while not self._source.is_up_to_date:
            self._take(math.inf)

    @property
    def history(self) -> RunHistory:
        """The run so far."""
        return self._history

    @property
    def name(self) -> str:
        """The run's name."""
        return self._run.name

    @property
    def folder(self) -> RunFolder | None:
        """The run's folder."""
        return self._run

    @property
    def state(self) -> str:
        """What the trainer does, as far as the log and the run's lock tell."""
        phase, ending = self._history.phase, self._history.ending
        if ending is not None or not self._is_trained:
            return ending or "interrupted"
        if phase == "paused":
            return "paused"
        is_quiet = self._now - self._history.last_time > _QUIET_SECONDS
        return "waiting" if phase == "empty" or is_quiet else "attached"

    @property
    def takes_commands(self) -> bool:
        """Whether a trainer holds the run."""
        return self._is_trained and self._history.phase in ("running", "paused")

    def poll(self, now: float) -> None:
        """Take in what was written since, and look now and then whether the trainer is there."""
        self._now = now
        self._take(_POLL_SECONDS)
        if now - self._looked >= _SECONDS_BETWEEN_LOOKS:
            self._looked = now
            self._is_trained = self._run.is_locked()

    def _take(self, seconds: float) -> None:
        started = time.monotonic()
        while True:
            events = self._source.poll(started)
            if self._source.restarts != self._restarts:
                self._restarts = self._source.restarts
                self._history.reset()
            self._history.extend(events)
            if any(isinstance(event, RunStarted) for event in events):
                # A resumed run may go on with another length than its first event tells.
                with contextlib.suppress(UserError):
                    self._history.set_config(self._run.config().model_dump(mode="json"))
            if self._source.is_up_to_date or time.monotonic() - started > seconds:
                return

    def post(self, command: Command) -> bool:
        """Leave a command in the run's folder."""
        if not self.takes_commands:
            return False
        leave_command(self._run.commands_path, command)
        return True

    def close(self) -> None:
        """Nothing is held open."""
