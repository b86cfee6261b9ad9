"""Work on corpora that takes a while: a fetch, a scan. It runs on a thread and can be called off.

The thread sets the attributes, a timer on the UI thread reads them.
"""

import threading
from collections.abc import Set
from typing import TYPE_CHECKING

from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.ui.lab_words import in_lab

if TYPE_CHECKING:
    from pathlib import Path

    from shakespeare_tui.data.inspect.scan import ScanState

_KEPT_SCANS = 6


class Job:
    """What every job has.

    Attributes:
        spec: The corpus.
        cancelled: Set it to call the job off.
        done: Bytes done.
        total: Bytes in all; None where nobody knows.
        error: Why it failed, one line; empty otherwise.
        is_over: Whether the thread is done with it.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self.cancelled = threading.Event()
        self.done = 0
        self.total: int | None = None
        self.error = ""
        self.is_over = False

    def run(self) -> None:
        """Do the work; called on a thread of its own."""
        try:
            self._work()
        except CancelledError:
            self.cancelled.set()
        except UserError as error:
            self.error = in_lab(str(error))
        self.is_over = True

    def _work(self) -> None:
        raise NotImplementedError

    def _report(self, done: int, total: int | None) -> None:
        self.total = total
        self.done = done


class FetchJob(Job):
    """Brings a named corpus into the cache."""

    def _work(self) -> None:
        from shakespeare_tui.data.catalogue import find_entry
        from shakespeare_tui.data.download import fetch

        fetch(find_entry(self.spec), self._report, self.cancelled)


class ScanJob(Job):
    """Reads a corpus that is at hand and measures it.

    Attributes:
        state: What is known so far; None until there is something.
        path: The corpus's first file, as soon as it is known.
    """

    def __init__(self, spec: str, val_fraction: float) -> None:
        super().__init__(spec)
        self.val_fraction = val_fraction
        self.state: ScanState | None = None
        self.path: Path | None = None

    def _work(self) -> None:
        from shakespeare_tui.data.inspect.scan import scan_corpus
        from shakespeare_tui.data.source import locate_corpus

        source = locate_corpus(self.spec)
        if source is None:
            raise UserError(f"{self.spec} is not on this machine; press f to fetch it")
        self.path = source.paths[0]
        self.total = source.size_bytes
        scan_corpus(source, self._publish, self.cancelled, self.val_fraction)

    @property
    def problem(self) -> str:
        """Why the corpus cannot be trained on whatever the config, one line; empty otherwise."""
        from shakespeare_tui.data.tokens import check_variety

        if self.error or self.state is None or not self.state.is_read:
            return self.error
        try:
            check_variety(self.state.statistics.vocab_size == 1)
        except UserError as error:
            return str(error)
        return ""

    def _publish(self, state: "ScanState") -> None:
        self.done = state.done_bytes
        self.state = state


class KeptScans:
    """The scans of this session by corpus: the latest few, and all that came to nothing."""

    def __init__(self) -> None:
        self._jobs: dict[str, ScanJob] = {}

    def get(self, spec: str) -> ScanJob | None:
        """The scan of a corpus, under way or over."""
        return self._jobs.get(spec)

    def keep(self, job: ScanJob) -> None:
        """Keep a scan, and let go of the oldest where there are too many; refusals stay."""
        self._jobs[job.spec] = job
        read = [spec for spec, other in self._jobs.items() if not other.error]
        for spec in read[:-_KEPT_SCANS]:
            self.drop(spec)

    def drop(self, spec: str) -> None:
        """Call a scan off and forget it: the corpus is read anew when it is looked at."""
        job = self._jobs.pop(spec, None)
        if job is not None:
            job.cancelled.set()

    def drop_stale(self, unchanged: Set[str], val_fraction: float) -> None:
        """Forget scans of other corpora than ``unchanged``, and those of another split."""
        for spec, job in list(self._jobs.items()):
            if spec not in unchanged or job.val_fraction != val_fraction:
                self.drop(spec)

    @property
    def refused(self) -> frozenset[str]:
        """Corpora that could not be read."""
        return frozenset(spec for spec, job in self._jobs.items() if job.error)
