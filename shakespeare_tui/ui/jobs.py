"""Background work of the lab: each job in a thread of its own, its outcome where it was asked for.

Not here are the trainer, which has commands and a stream of events instead of an outcome, and what
helps a job from within its own thread.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

from textual.message_pump import MessagePump

from shakespeare_tui.errors import CancelledError, RunFailedError, UserError
from shakespeare_tui.ui.advice_in_keys import in_lab

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Job(Generic[_Result]):
    """Work in a thread that begins at once; the thread sets the attributes, others read them.

    Args:
        name: Of the thread, and of the work where it crashes.
        work: What is done. It is given this job, and raises ``CancelledError`` where it obeys
            ``cancelled``; ``UserError``, ``RunFailedError`` or ``OSError`` where it fails.
        ended: Called in the thread when the work is over.
        daemon: Whether the process may end without waiting for it.

    Attributes:
        cancelled: Set it to call the work off.
        done: Of the work, in units of its own.
        total: All there is of these; None where nobody knows.
        state: How it stands; it is set last, so that all else is there when it is not ``running``.
        result: Of the work that is ``done``.
        error: Why it ``failed``, one line; empty otherwise.
    """

    def __init__(
        self,
        name: str,
        work: "Callable[[Job[_Result]], _Result]",
        ended: "Callable[[Job[_Result]], object]" = lambda job: None,
        *,
        daemon: bool = True,
    ) -> None:
        self.cancelled = threading.Event()
        self.done = 0
        self.total: int | None = None
        self.state: Literal["running", "done", "cancelled", "failed"] = "running"
        self.result: _Result | None = None
        self.error = ""
        self._name, self._work, self._ended = name, work, ended
        self._thread = threading.Thread(target=self._run, name=name, daemon=daemon)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the thread is done with it."""
        return self.state != "running"

    def cancel(self) -> None:
        """Ask the work to end as soon as it can."""
        self.cancelled.set()

    def join(self, seconds: float) -> None:
        """Wait for the thread."""
        self._thread.join(seconds)

    def report(self, done: int, total: int | None) -> None:
        """Say how far the work has come; for the thread."""
        self.total = total
        self.done = done

    def _run(self) -> None:
        state: Literal["done", "cancelled", "failed"] = "failed"
        try:
            self.result = self._work(self)
            state = "done"
        except CancelledError:
            state = "cancelled"
        except (UserError, RunFailedError, OSError) as error:
            self.error = in_lab(str(error))
        except Exception:  # noqa: BLE001 - nobody else would hear of it
            _log.exception("%s crashed", self._name)
            self.error = f"{self._name} crashed; see the lab's log"
        self.state = state
        self._ended(self)


class Jobs:
    """The jobs of a screen or widget, by name: the newest of a name calls off the one before.

    Args:
        owner: In whose turn the outcomes are handed over.
    """

    def __init__(self, owner: MessagePump) -> None:
        self._owner = owner
        self._jobs: dict[str, Job[Any]] = {}
        self._is_closed = False

    def start(
        self,
        name: str,
        work: Callable[[Job[_Result]], _Result],
        then: Callable[[Job[_Result]], object],
    ) -> Job[_Result]:
        """Begin with a job.

        Args:
            name: What it is: ``fetch``, ``speed``.
            work: As of ``Job``.
            then: Called on the UI thread when the job is over, cancelled ones included; not where
                a newer one has taken its place, nor when the owner is gone.
        """
        self.cancel(name)

        def end(job: Job[_Result]) -> None:
            # The app may end at this very moment: then there is nobody to tell.
            with contextlib.suppress(RuntimeError):
                if not self._is_closed:
                    self._owner.call_later(deliver, job)

        def deliver(job: Job[_Result]) -> None:
            if self._jobs.get(name) is job:
                then(job)

        job = self._jobs[name] = Job(name, work, end)
        return job

    @property
    def is_busy(self) -> bool:
        """Whether any is at work."""
        return any(not job.is_over for job in self._jobs.values())

    def cancel(self, name: str) -> None:
        """Call a job off, if there is one."""
        if name in self._jobs:
            self._jobs[name].cancel()

    def close(self) -> None:
        """Call all off and hear no more of them: the owner goes."""
        self._is_closed = True
        for job in self._jobs.values():
            job.cancel()
        self._jobs.clear()
