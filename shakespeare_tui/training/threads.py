"""Share the processor between a run in training and work beside it: threads and time.

``torch.set_num_threads`` sets the number of the thread that calls it and, beside it, the one that
every other thread takes at its first product. Here the second is put back at once, so that no work
changes the threads of another: with other threads, a product rounds otherwise. Where torch is not
loaded, work of NumPy takes turns with a run, and no more.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from shakespeare_tui.machine import CORES

# Long enough for a run to get on, short enough for a text to stream evenly.
_TURN_SECONDS = 0.025
_LONGEST_REST_SECONDS = 0.5
# Of the length of a turn; with this, both keep about half of the speed that they have alone.
_REST_RATIO = 2 / 3
_lock = threading.Lock()


def default_threads() -> int:
    """How many threads a thread has that did not set its own number."""
    with _lock:
        return _default_threads()


def set_own_threads(number: int) -> None:
    """Give the calling thread's products so many threads, and no other thread's."""
    import torch

    with _lock:
        default = _default_threads()
        # A thread's first use of torch gives it the default: it must not come after.
        torch.get_num_threads()
        torch.set_num_threads(number)
        _in_new_thread(lambda: torch.set_num_threads(default))


def _default_threads() -> int:
    import torch

    found: list[int] = []
    _in_new_thread(lambda: found.append(torch.get_num_threads()))
    return found[0]


def _in_new_thread(task: Callable[[], None]) -> None:
    thread = threading.Thread(target=task, name="threads")
    thread.start()
    thread.join()


@contextlib.contextmanager
def training_threads() -> Iterator[None]:
    """Train on the calling thread with all threads; work beside it then keeps to its share."""
    threads = default_threads()
    set_own_threads(threads)
    with CORES.training(threads):
        yield


class SharedThreads:
    """Keeps the calling thread to its share while a run is trained in this process.

    A context manager; afterwards the thread has the number that it had before.
    """

    def __enter__(self) -> Self:
        """Take the share there is now."""
        torch = sys.modules.get("torch")
        self._before = self._now = 1 if torch is None else torch.get_num_threads()
        self._turn_began = time.perf_counter()
        self._take_share()
        return self

    def take_turns(self) -> None:
        """To be called often by long work: beside a run it rests for two fifths of the time.

        Fewer threads do not suffice: a training step takes Python's lock again after each of some
        hundred operations, and waits for it while other work is in Python.
        """
        self._take_share()
        worked = time.perf_counter() - self._turn_began
        if worked >= _TURN_SECONDS:
            if CORES.beside is not None:
                time.sleep(min(_REST_RATIO * worked, _LONGEST_REST_SECONDS))
            self._turn_began = time.perf_counter()

    def _take_share(self) -> None:
        wanted = min(self._before, CORES.beside or self._before)
        if wanted != self._now:
            set_own_threads(wanted)
            self._now = wanted

    def __exit__(self, *details: object) -> None:
        """Take back the number from before."""
        if self._now != self._before:
            set_own_threads(self._before)
