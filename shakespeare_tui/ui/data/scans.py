"""What is known of corpora that are being read, and of those that were."""

from collections.abc import Callable, Set
from typing import TYPE_CHECKING

from shakespeare_tui.errors import UserError
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.services import Engine

if TYPE_CHECKING:
    from pathlib import Path

    from shakespeare_tui.config.schema import DataConfig
    from shakespeare_tui.data.inspect.scan import ScanState

_KEPT_SCANS = 6


def split_of(data: "DataConfig") -> tuple[str, float, bool]:
    """What decides how training splits a corpus."""
    return data.validation, data.val_fraction, data.windows == "streamed"


class Scan:
    """Reads a corpus that is at hand and measures it.

    Args:
        spec: The corpus.
        data: Where training splits it.
        engine: Reads and measures it.
        jobs: Where it is one of.
        ended: Called when it is over.

    Attributes:
        state: What is known so far; None until there is something.
        path: The corpus's first file, as soon as it is known.
        job: The reading, in bytes.
    """

    def __init__(
        self,
        spec: str,
        data: "DataConfig",
        engine: Engine,
        jobs: Jobs,
        ended: Callable[[Job[None]], object],
    ) -> None:
        self.spec = spec
        self.split = split_of(data)
        self._engine = engine
        self.state: ScanState | None = None
        self.path: Path | None = None
        self.job = jobs.start("scan", self._read, ended)

    def _read(self, job: Job[None]) -> None:
        from shakespeare_tui.data.source import locate_corpus

        validation, val_fraction, is_streamed = self.split
        source = locate_corpus(self.spec, validation)
        if source is None:
            raise UserError(f"{self.spec} is not on this machine; press f to fetch it")
        self.path = source.paths[0]

        def publish(state: "ScanState") -> None:
            job.report(state.done_bytes, source.whole.size_bytes)
            self.state = state

        job.report(0, source.whole.size_bytes)
        self._engine.scan(source, publish, job.cancelled, val_fraction, is_streamed)

    @property
    def problem(self) -> str:
        """Why the corpus cannot be trained on whatever the config, one line; empty otherwise."""
        from shakespeare_tui.data.tokens import check_variety

        if self.job.error or self.state is None or not self.state.is_read:
            return self.job.error
        try:
            check_variety(self.state.statistics.vocab_size == 1)
        except UserError as error:
            return str(error)
        return ""


class KeptScans:
    """The scans of this session by corpus: the latest few, and all that came to nothing."""

    def __init__(self) -> None:
        self._scans: dict[str, Scan] = {}

    def get(self, spec: str) -> Scan | None:
        """The scan of a corpus, under way or over."""
        return self._scans.get(spec)

    def keep(self, scan: Scan) -> None:
        """Keep a scan, and let go of the oldest where there are too many; refusals stay."""
        self._scans[scan.spec] = scan
        read = [spec for spec, other in self._scans.items() if not other.job.error]
        for spec in read[:-_KEPT_SCANS]:
            self.drop(spec)

    def drop(self, spec: str) -> None:
        """Call a scan off and forget it: the corpus is read anew when it is looked at."""
        scan = self._scans.pop(spec, None)
        if scan is not None:
            scan.job.cancel()

    def drop_stale(self, unchanged: Set[str], data: "DataConfig") -> None:
        """Forget scans of other corpora than ``unchanged``, and those of another split."""
        for spec, scan in list(self._scans.items()):
            if spec not in unchanged or scan.split != split_of(data):
                self.drop(spec)

    @property
    def refused(self) -> frozenset[str]:
        """Corpora that could not be read."""
        return frozenset(spec for spec, scan in self._scans.items() if scan.job.error)
