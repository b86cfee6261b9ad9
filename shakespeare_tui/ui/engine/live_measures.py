"""Measures of texts while they are written: provisional ones, in a thread beside the writing."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from shakespeare_tui.measures import CorpusReference
    from shakespeare_tui.ui.engine.generation import GenerationJob

MOST_CHARACTERS = 2000
"""Of a longer text only the end is measured: the cost does not grow with the text."""
_LEAST_PAUSE_SECONDS = 0.5
# Of the time goes at most a twentieth into measuring, however many columns there are.
_PAUSE_RATIO = 20


class LiveMeasures:
    """Measures what a job has written so far, about twice a second; a context manager.

    Args:
        job: Is handed the measures; the surprise is not among them.
        written: The pieces of each column; the writer goes on to append to them.
        open_reference: Opens what texts are compared with; may take seconds the first time.
    """

    def __init__(
        self,
        job: "GenerationJob",
        written: Sequence[list[str]],
        open_reference: "Callable[[], CorpusReference | None]",
    ) -> None:
        self._job, self._written, self._open_reference = job, written, open_reference
        self._measured = [0] * len(written)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live measures")

    def __enter__(self) -> Self:
        """Begin to measure."""
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        """Measure no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        pause = _LEAST_PAUSE_SECONDS
        reference: CorpusReference | None = None
        is_open = False
        while not self._over.wait(pause):
            if not is_open:
                reference, is_open = self._open_reference(), True
            started = time.perf_counter()
            self.measure(reference)
            pause = pause_after(time.perf_counter() - started)

    def measure(self, reference: "CorpusReference | None") -> None:
        """Measure the end of every text that has grown since the last time."""
        from shakespeare_tui.measures import measure_text

        for column, pieces in enumerate(self._written):
            count = len(pieces)
            if count == self._measured[column] or self._over.is_set():
                continue
            self._measured[column] = count
            prompt = self._job.request.prompt if count < MOST_CHARACTERS else ""
            end = "".join(pieces[max(0, count - MOST_CHARACTERS) : count])
            self._job.preview(column, measure_text(prompt + end, reference, len(prompt)))


def pause_after(seconds: float) -> float:
    """How long to wait after a measurement of so many seconds."""
    return max(_LEAST_PAUSE_SECONDS, _PAUSE_RATIO * seconds)
