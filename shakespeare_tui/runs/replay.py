"""Sources of a run's events other than a trainer in this process: a log that grows, or a replay."""

from array import array
from bisect import bisect_right
from pathlib import Path
from typing import IO

from shakespeare_tui.files import open_regular
from shakespeare_tui.runs.events import Event, StepCompleted, sound_event

LOWEST_SPEED, HIGHEST_SPEED = 1.0, 1000.0

_FOLLOW_BYTES = 1 << 18
_REPLAY_EVENTS = 2000
_LONGEST_PAUSE_SECONDS = 5.0
_LONGEST_TICK_SECONDS = 1.0


class FollowSource:
    """Reads a log while another process writes it, on this machine or on a shared disk.

    Args:
        path: The log; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._identity: tuple[int, int] | None = None
        self.restarts = 0
        self.is_up_to_date = False
        """Whether the last poll reached the end of the log."""

    def poll(self, now: float) -> list[Event]:
        """The next events, at most some thousands, so that a long log does not hold up a screen."""
        try:
            status = self._path.stat()
        except OSError:
            self.is_up_to_date = True
            return []
        identity = (status.st_dev, status.st_ino)
        if self._identity not in (None, identity) or status.st_size < self._position:
            # A run that resumes or goes back to a checkpoint writes a shorter log in place of it.
            self._position = 0
            self.restarts += 1
        self._identity = identity
        if status.st_size == self._position:
            self.is_up_to_date = True
            return []
        try:
            return self._read()
        except OSError:
            # The log was replaced, or a shared disk went away for a moment.
            return []

    def _read(self) -> list[Event]:
        with open_regular(self._path) as file:
            file.seek(self._position)
            block = file.read(_FOLLOW_BYTES)
            if b"\n" not in block:
                block += file.readline()
            self.is_up_to_date = not file.read(1)
        whole = block[: block.rfind(b"\n") + 1]
        self._position += len(whole)
        return [event for line in whole.splitlines() if (event := sound_event(line)) is not None]


class ReplaySource:
    """Plays a finished log as if it happened again, faster.

    Times are those of the events, with longer pauses (a night between stop and resume) shortened to
    five seconds.

    Args:
        path: The log. It is read through once; that takes some seconds for a million steps, so do
            it off the UI thread.
        speed: How many seconds of the run pass in a second.

    Raises:
        OSError: The log cannot be read.
    """

    def __init__(self, path: Path, speed: float = 10.0) -> None:
        self._file: IO[bytes] = open_regular(path)
        self._offsets = array("q")
        self._seconds = array("d")
        self._steps = array("q")
        self._index()
        self.restarts = 0
        self.is_playing = True
        self.speed = speed
        self._next = 0
        self._position = 0.0
        self._polled: float | None = None

    def _index(self) -> None:
        offset, seconds, step = 0, 0.0, 0
        time_before: float | None = None
        for line in self._file:
            event = sound_event(line) if line.endswith(b"\n") else None
            if event is not None:
                if time_before is not None:
                    seconds += min(max(0.0, event.time - time_before), _LONGEST_PAUSE_SECONDS)
                time_before = event.time
                step = event.step if isinstance(event, StepCompleted) else step
                self._offsets.append(offset)
                self._seconds.append(seconds)
                self._steps.append(step)
            offset += len(line)

    # --- where the replay stands -------------------------------------------------------------

    @property
    def duration_seconds(self) -> float:
        """Length of the run in its own time."""
        return self._seconds[-1] if self._seconds else 0.0

    @property
    def position_seconds(self) -> float:
        """Where the replay stands in the run's own time."""
        return self._position

    @property
    def step(self) -> int:
        """The last step that was played."""
        return self._steps[self._next - 1] if self._next else 0

    @property
    def last_step(self) -> int:
        """The run's last step."""
        return self._steps[-1] if self._steps else 0

    @property
    def next_index(self) -> int:
        """How many events were played."""
        return self._next

    @property
    def due_index(self) -> int:
        """How many events will have been played when the replay has caught up."""
        return bisect_right(self._seconds, self._position)

    @property
    def is_at_end(self) -> bool:
        """Whether every event was played."""
        return self._next >= len(self._offsets)

    # --- playing -----------------------------------------------------------------------------

    def poll(self, now: float) -> list[Event]:
        """The events that are due, at most some thousands; the replay then runs late."""
        elapsed = 0.0 if self._polled is None else max(0.0, now - self._polled)
        # While nobody looks, no time passes.
        elapsed = min(elapsed, _LONGEST_TICK_SECONDS)
        self._polled = now
        # Whoever cannot keep up is waited for.
        if self.is_playing and self.due_index - self._next <= _REPLAY_EVENTS:
            self._position = min(self.duration_seconds, self._position + elapsed * self.speed)
        events = self._take(max(0, min(self.due_index - self._next, _REPLAY_EVENTS)))
        if self.is_at_end:
            self.is_playing = False
        return events

    def toggle(self) -> None:
        """Play or pause; at the end, play again from the beginning."""
        if self.is_at_end and not self.is_playing:
            self.seek_seconds(0.0)
            self.is_playing = True
        else:
            self.is_playing = not self.is_playing
        self._polled = None

    def change_speed(self, factor: float) -> None:
        """Play faster or slower, from 1 to 1000 times."""
        self.speed = min(HIGHEST_SPEED, max(LOWEST_SPEED, self.speed * factor))

    def seek_seconds(self, seconds: float) -> None:
        """Go to a time of the run; where it was played already, ``restarts`` grows."""
        self._position = min(max(0.0, seconds), self.duration_seconds)
        self._rewind()

    def seek_step(self, step: int) -> None:
        """Go to the end of a step, or to the beginning of the log, and pause there."""
        index = bisect_right(self._steps, step)
        self.is_playing = False
        self._position = self._seconds[index - 1] if index else 0.0
        self._rewind()

    def _rewind(self) -> None:
        if self.due_index < self._next:
            self._next = 0
            self.restarts += 1

    def skip_to(self, index: int) -> None:
        """Go on after the first ``index`` events, for a reader that has kept their effect."""
        self._next = min(index, len(self._offsets))

    def _take(self, count: int) -> list[Event]:
        if count == 0:
            return []
        self._file.seek(self._offsets[self._next])
        events: list[Event] = []
        while len(events) < count:
            line = self._file.readline()
            if not line:
                # Somebody cut the log: it ends here now.
                end = self._next + len(events)
                for index in (self._offsets, self._seconds, self._steps):
                    del index[end:]
                break
            # Lines that are no events lie between those that were indexed.
            if (event := sound_event(line)) is not None:
                events.append(event)
        self._next += len(events)
        return events

    def close(self) -> None:
        """Let go of the log."""
        self._file.close()
