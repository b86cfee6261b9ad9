"""Texts of several checkpoints, written one after another in the background, and kept."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest, GenerationState

if TYPE_CHECKING:
    from shakespeare_tui.measures import Measures

_MOST_KEPT = 500


@dataclass(frozen=True)
class Written:
    """A text as far as it is there, without its prompt; its measures come last."""

    text: str = ""
    state: GenerationState | None = None
    error: str = ""
    measures: "Measures | None" = None

    @property
    def is_whole(self) -> bool:
        """Whether it was written to its end."""
        return self.state == "done"


class TextWriter:
    """Writes what is wanted, in order, a text at a time; whole texts are kept.

    One text at a time shares the cores fairly with a run in training. To be polled by the screen
    that shows the texts.

    Args:
        write: Writes a text, as ``GenerationJob`` wants it.
    """

    def __init__(self, write: Callable[[GenerationRequest, GenerationJob], None]) -> None:
        self._write = write
        self._texts: dict[GenerationRequest, Written] = {}
        self._queue: list[GenerationRequest] = []
        self._job: GenerationJob | None = None

    def of(self, request: GenerationRequest) -> Written:
        """A text as far as it is there."""
        return self._texts.get(request, Written())

    @property
    def is_busy(self) -> bool:
        """Whether something is being written or waits to be."""
        return self._job is not None or bool(self._queue)

    @property
    def is_loading(self) -> bool:
        """Whether a checkpoint is being loaded."""
        return self._job is not None and self._job.state == "loading"

    def want(self, requests: Iterable[GenerationRequest]) -> None:
        """Write these texts and no others; what is whole or has failed is left as it is."""
        self._queue = [
            request
            for request in dict.fromkeys(requests)
            if self.of(request).state not in ("done", "failed")
        ]
        job = self._job
        if job is not None and job.request in self._queue:
            self._queue.remove(job.request)
        elif job is not None:
            job.stop()
        self.poll()

    def stop(self) -> None:
        """Write nothing more."""
        self.want(())

    def forget_failures(self) -> None:
        """Try again what has failed, when it is wanted next."""
        failed = [r for r, written in self._texts.items() if written.state == "failed"]
        for request in failed:
            del self._texts[request]

    def poll(self) -> bool:
        """Take what was written and begin the next text; whether anything is new."""
        is_new = False
        job = self._job
        if job is not None:
            # Read before the text: what comes after is then taken by the next poll.
            is_over, state, error = job.is_over, job.state, job.error
            before = self.of(job.request)
            now = Written(job.text(0), state, error, job.measures[0])
            is_new = now != before
            self._texts[job.request] = now
            if is_over:
                self._job = None
                if state == "stopped":
                    del self._texts[job.request]
        if self._job is None and self._queue:
            self._job = GenerationJob(self._queue.pop(0), self._write)
            is_new = True
        while len(self._texts) > _MOST_KEPT:
            del self._texts[next(iter(self._texts))]
        return is_new
