"""Continuous batching: a few threads write all texts at once, a slice of time each in turn.

A text joins as soon as a slice ends, and leaves with its last token. Each has a decoder of its own,
of one stream, over weights that all share: what it says depends on nothing that stands beside it,
so it is the very text that is written alone. Slices are tens of milliseconds, in which a compiled
decoder writes tens of tokens without the interpreter's lock, on as many cores as there are threads.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from shakespeare_tui.serve.limits import RefusedError

_SLICE_SECONDS = 0.02

Item = TypeVar("Item")
Deliver = Callable[[Sequence[Item], BaseException | None, bool], None]
"""Takes what a slice has made, what went wrong, and whether that was all."""


class Ticket(Generic[Item]):
    """One piece of work in the queue.

    Args:
        work: Makes the items, lazily: it is stopped between any two of them.
        deliver: Called in a thread of the scheduler after each slice.
        weight: Bytes that it holds while it runs.
    """

    def __init__(self, work: Iterator[Item], deliver: Deliver[Item], weight: int) -> None:
        self.work, self.deliver, self.weight = work, deliver, weight
        self.is_cancelled = False

    def cancel(self) -> None:
        """Nobody wants the rest; what has begun ends with its slice."""
        self.is_cancelled = True


class Scheduler:
    """Threads that take turns over the work of all requests.

    Args:
        threads: How many.
        running: How many pieces of work are under way at once.
        waiting: How many may wait to be begun.
        running_bytes: What those under way may hold together; one is always begun.
        clock: In seconds.
    """

    def __init__(
        self,
        threads: int,
        running: int,
        waiting: int,
        running_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_running, self._most_waiting = running, waiting
        self._most_bytes, self._clock = running_bytes, clock
        self._ready: deque[Ticket[object]] = deque()
        self._waiting: deque[Ticket[object]] = deque()
        self._running = self._bytes = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name=f"write {number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> int:
        """How many texts are being written."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many wait to be begun."""
        return len(self._waiting)

    def submit(self, work: Iterator[Item], deliver: Deliver[Item], *, weight: int) -> Ticket[Item]:
        """Queue some work.

        Raises:
            RefusedError: The queue is full, or the server ends.
        """
        ticket = Ticket(work, deliver, weight)
        with self._changed:
            if self._is_closed:
                raise RefusedError(503, "the server is shutting down", code="shutting_down")
            if len(self._waiting) >= self._most_waiting:
                self._waiting = deque(t for t in self._waiting if not t.is_cancelled)
            if len(self._waiting) >= self._most_waiting:
                raise RefusedError(
                    429,
                    f"{self._running} texts are being written and {len(self._waiting)} wait; "
                    "try again in a moment",
                    code="queue_full",
                )
            self._waiting.append(ticket)  # type: ignore[arg-type]
            self._changed.notify()
        return ticket

    def close(self) -> None:
        """End the threads; what is under way is given up."""
        with self._changed:
            self._is_closed = True
            for ticket in (*self._ready, *self._waiting):
                ticket.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _next(self) -> Ticket[object] | None:
        """Whose turn it is; None when all is over."""
        with self._changed:
            while True:
                if self._waiting and self._has_room(self._waiting[0]):
                    ticket = self._waiting.popleft()
                    self._running += 1
                    self._bytes += ticket.weight
                    return ticket
                if self._ready:
                    return self._ready.popleft()
                if self._is_closed and not self._waiting:
                    return None
                self._changed.wait()

    def _has_room(self, ticket: Ticket[object]) -> bool:
        if not self._running:
            return True
        fits = self._bytes + ticket.weight <= self._most_bytes
        return ticket.is_cancelled or (fits and self._running < self._most_running)

    def _work(self) -> None:
        while (ticket := self._next()) is not None:
            is_over = self._run(ticket)
            with self._changed:
                if is_over:
                    self._running -= 1
                    self._bytes -= ticket.weight
                else:
                    self._ready.append(ticket)
                self._changed.notify()

    def _run(self, ticket: Ticket[object]) -> bool:
        """One slice; returns whether it was the last."""
        items: list[object] = []
        problem: BaseException | None = None
        is_over = True
        began = self._clock()
        try:
            if not ticket.is_cancelled:
                for item in ticket.work:
                    items.append(item)
                    if self._clock() - began >= _SLICE_SECONDS:
                        is_over = False
                        break
        except Exception as error:  # noqa: BLE001
            # The thread works for all the others, too; whoever asked is told.
            problem = error
        if is_over and (close := getattr(ticket.work, "close", None)):
            close()
        ticket.deliver(items, problem, is_over)
        return is_over
