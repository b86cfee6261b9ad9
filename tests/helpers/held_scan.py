"""Scans that are held where they are, so that a test can look at one under way."""

import threading
from collections.abc import Callable

from shakespeare_tui.data.inspect.scan import ScanState, scan_corpus
from shakespeare_tui.data.source import TextSource
from shakespeare_tui.ui.services import Engine


class HeldScans(Engine):
    """Reads pieces of five thousand bytes, and so many of them; the others when it is opened."""

    def __init__(self, pieces: int) -> None:
        self.opened = threading.Event()
        self._pieces = pieces

    def scan(
        self,
        source: TextSource,
        publish: Callable[[ScanState], None],
        cancelled: threading.Event,
        val_fraction: float,
        is_streamed: bool,
    ) -> ScanState:
        def publish_and_hold(state: ScanState) -> None:
            publish(state)
            self._pieces -= 1
            if self._pieces <= 0:
                self.opened.wait(60)

        return scan_corpus(
            source,
            publish_and_hold,
            cancelled,
            val_fraction,
            is_streamed=is_streamed,
            chunk_bytes=5000,
            publish_seconds=0.0,
        )
