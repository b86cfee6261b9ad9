"""Who has the processor: how many threads a run trains with, and how many are for work beside it.

A plain register of this process. Were training and a generation beside it to use all threads, each
would wait for the other at every product.
"""

import contextlib
from collections.abc import Iterator


class CoreRegister:
    """The threads of the run that is trained in this process; safe to read from any thread.

    Attributes:
        total: Threads it trains with; 0 while none is trained.
        is_resting: Whether the run is paused and leaves the processor to others.
    """

    def __init__(self) -> None:
        self.total = 0
        self.is_resting = False

    @property
    def beside(self) -> int | None:
        """Threads for other work now, at least one; None where it may have them all."""
        if not self.total or self.is_resting:
            return None
        return self.share

    @property
    def share(self) -> int:
        """Threads that other work has beside a run: half of them."""
        return max(1, self.total // 2)

    @contextlib.contextmanager
    def training(self, threads: int) -> Iterator[None]:
        """Enter a run that trains with so many threads."""
        self.total = threads
        try:
            yield
        finally:
            self.total = 0

    @contextlib.contextmanager
    def resting(self) -> Iterator[None]:
        """The run is paused."""
        self.is_resting = True
        try:
            yield
        finally:
            self.is_resting = False


CORES = CoreRegister()
"""The one register of this process."""


def sharing_words(run: str) -> str:
    """What is said of work beside the run that is being trained."""
    if CORES.total < 2:
        return f"shares the cores with {run}"
    return f"{CORES.share} of {CORES.total} cores, in turns with {run}"
