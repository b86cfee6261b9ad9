"""How often a place is brought up to date: a few times a second, and never much of a processor."""

import time
from collections.abc import Callable

_SHORTEST_SECONDS = 0.5
_LONGEST_SECONDS = 2.0
_SHARE_OF_PROCESSOR = 0.02
"""A trainer on all cores loses as much speed as the screens take."""


class Pace:
    """Spaces out updates by what the thread that draws has spent since the last one.

    What an update costs is known only after the next refresh of the screen, so this counts all
    that the thread did meanwhile.

    Args:
        now: The time in seconds.
        spent: The processor time in seconds that the calling thread has taken.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._now, self._spent = now, spent
        self._updated_at, self._spent_before = float("-inf"), 0.0

    def is_due(self) -> bool:
        """Whether it is time to update."""
        wanted = (self._spent() - self._spent_before) / _SHARE_OF_PROCESSOR
        waited = self._now() - self._updated_at
        return waited >= min(max(wanted, _SHORTEST_SECONDS), _LONGEST_SECONDS)

    def start(self) -> None:
        """Note that an update begins."""
        self._updated_at, self._spent_before = self._now(), self._spent()
