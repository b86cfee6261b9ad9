"""Full garbage collections at quiet moments: one takes 0.1 s, in which no key is answered."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLDS = (5_000, 20, 100)
"""Small collections take a millisecond. The last number is where a full one no longer waits."""

_PASSES_BEFORE_FULL = 5
"""Collections of the middle generation, each after 100,000 objects more, that make one due."""

_QUIET_SECONDS = 3.0


class QuietCollection:
    """Puts off full collections until no key has come for a while."""

    def __init__(self) -> None:
        self._last_input = time.monotonic()

    def note_input(self) -> None:
        """A key or the mouse: someone waits for a response, or soon will."""
        self._last_input = time.monotonic()

    def collect_if_due(self) -> None:
        """Collect everything, if there may be enough of it and nobody is at the keys."""
        is_quiet = time.monotonic() - self._last_input >= _QUIET_SECONDS
        if is_quiet and gc.get_count()[2] >= _PASSES_BEFORE_FULL:
            gc.collect()

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """Collect at quiet moments for the block's length."""
        before = gc.get_threshold()
        gc.set_threshold(*_THRESHOLDS)
        try:
            yield
        finally:
            gc.set_threshold(*before)
