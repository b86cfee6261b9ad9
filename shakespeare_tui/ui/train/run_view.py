"""The run that the Train screen shows: trained here, trained elsewhere, or played back.

All three are the same stream of events applied to the same history; they differ in where the events
come from and in whether anyone listens to commands.
"""

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.commands import Command, leave_command
from shakespeare_tui.runs.events import RunStarted
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.replay import FollowSource, ReplaySource
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
        """What it is doing, a key of ``figures.STATES``."""
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
        """Nothing to do: the app drains the queue whatever screen is shown."""

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


@dataclass(frozen=True)
class Playback:
    """Where a replay stands; seconds are the run's own."""

    is_playing: bool = False
    speed: float = 1.0
    position_seconds: float = 0.0
    duration_seconds: float = 0.0
    step: int = 0
    last_step: int = 0

    @property
    def share(self) -> float:
        """How much of the run has been played, from 0 to 1."""
        return self.position_seconds / self.duration_seconds if self.duration_seconds > 0 else 1.0


_SNAPSHOTS = 16
_FEWEST_EVENTS_BETWEEN_SNAPSHOTS = 5000


class ReplayView:
    """A run that is over, at its end or played back.

    Reads the whole log once and keeps some states on the way: make it off the UI thread.

    Args:
        run: The run.
        speed: Play from the beginning, so many times as fast; None shows the end.

    Raises:
        OSError: The log cannot be read.
    """

    takes_commands = False

    def __init__(self, run: RunFolder, speed: float | None = None) -> None:
        self._run = run
        self.source = ReplaySource(run.events_path)
        self._snapshots: list[tuple[int, RunHistory]] = [(0, RunHistory())]
        self.history = RunHistory()
        self._restarts = 0
        self._read_all()
        self.last_step = self.source.last_step
        if speed is not None:
            self.source.change_speed(speed / self.source.speed)
            self.source.toggle()
            self._go_back()

    def _read_all(self) -> None:
        source = self.source
        source.seek_seconds(math.inf)
        every = max(_FEWEST_EVENTS_BETWEEN_SNAPSHOTS, source.due_index // _SNAPSHOTS)
        while not source.is_at_end:
            self.history.extend(source.poll(0.0))
            if source.next_index - self._snapshots[-1][0] >= every:
                self._snapshots.append((source.next_index, self.history.copy()))
        source.is_playing = False

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
        """How the run ended, once the replay has come there."""
        return self.history.ending or ("interrupted" if self.source.is_at_end else "replay")

    @property
    def playback(self) -> Playback:
        """Where it stands."""
        source = self.source
        return Playback(
            is_playing=source.is_playing,
            speed=source.speed,
            position_seconds=source.position_seconds,
            duration_seconds=source.duration_seconds,
            step=source.step,
            last_step=self.last_step,
        )

    def poll(self, now: float) -> None:
        """Take in the events that are due."""
        started = time.monotonic()
        while True:
            self.history.extend(self.source.poll(now))
            is_late = self.source.next_index < self.source.due_index
            if not is_late or time.monotonic() - started > _POLL_SECONDS:
                return

    def toggle(self) -> None:
        """Play or pause."""
        self.source.toggle()
        self._go_back()

    def seek_share(self, share: float) -> None:
        """Go to a share of the run's time."""
        self.source.seek_seconds(share * self.source.duration_seconds)
        self._go_back()

    def seek_step(self, step: int) -> None:
        """Go to the end of a step."""
        self.source.seek_step(min(max(step, 0), self.last_step))
        self._go_back()

    def _go_back(self) -> None:
        """Start from the latest kept state, unless the present one is nearer."""
        wanted = self.source.due_index
        index, history = [s for s in self._snapshots if s[0] <= wanted][-1]
        if self.source.restarts != self._restarts or index > self.source.next_index:
            self._restarts = self.source.restarts
            self.history.take_over(history)
            self.source.skip_to(index)

    def post(self, command: Command) -> bool:
        """Nobody listens."""
        return False

    def close(self) -> None:
        """Let go of the log."""
        self.source.close()


def open_view(run: RunFolder, speed: float | None = None) -> AttachedView | ReplayView:
    """Follow a run that is being trained, replay one that is not; takes time for a long log.

    Args:
        run: The run.
        speed: Of a replay from the beginning; None shows the end.

    Raises:
        OSError: The log cannot be read.
    """
    return AttachedView(run) if run.is_locked() else ReplayView(run, speed)


def read_history(path: Path) -> RunHistory:
    """All of a log; for overlays."""
    history, source = RunHistory(), FollowSource(path)
    while not source.is_up_to_date:
        history.extend(source.poll(0.0))
    return history
