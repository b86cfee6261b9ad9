"""A run that is over, at its end or played back, on the Train place."""

import math
import time
from pathlib import Path

from shakespeare_tui.runs.commands import Command
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.replay import FollowSource, ReplaySource
from shakespeare_tui.ui.train.run_view import AttachedView

_POLL_SECONDS = 0.04
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
