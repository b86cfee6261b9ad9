"""What the card needs and must be waited for, found out in threads: corpus, past runs, speed."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from textual.message import Message
from textual.message_pump import MessagePump

from shakespeare_tui.config.estimate.corpus import CorpusFigures, measure_corpus
from shakespeare_tui.config.estimate.nearest_run import PastRun, PastRuns
from shakespeare_tui.config.estimate.speed import probe_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import CancelledError, RunFailedError, UserError

PROBE_SECONDS = 1.0


@dataclass
class CorpusMeasured(Message):
    """The figures of ``spec`` are there."""

    spec: str
    figures: CorpusFigures


@dataclass
class RunsRead(Message):
    """The past runs are there."""

    runs: list[PastRun]


@dataclass
class SpeedMeasured(Message):
    """The speed of ``config`` is there, or ``problem`` says why it is not.

    ``device`` is as ``bridge.device_summary`` names it; empty where it could not be asked.
    """

    config: Config
    tokens_per_second: float | None
    device: str = ""
    problem: str = ""


Measure = Callable[[Config, Callable[[], bool], int], tuple[float, str]]
"""From config, cancellation and vocabulary size to tokens per second and the device's name."""


def measure_by_bridge(
    config: Config, cancelled: Callable[[], bool], vocab_size: int
) -> tuple[float, str]:
    """Train for a second through the bridge; on a processor with short steps."""
    from shakespeare_tui.ui.engine import trainer_thread as bridge

    device = bridge.device_summary()
    is_cpu = config.training.device == "cpu" or (
        config.training.device == "auto" and device.startswith("cpu")
    )
    probed = probe_config(config, vocab_size) if is_cpu else config
    speed = bridge.measure_throughput(probed, PROBE_SECONDS, cancelled, vocab_size)
    return speed, device


class ConfigProbe:
    """Asks in threads and answers with messages; each new question calls the old one off.

    Args:
        target: Who gets the messages.
        runs_root: The folder of all runs.
        measure: How speed is measured.
    """

    def __init__(
        self, target: MessagePump, runs_root: Path, measure: Measure = measure_by_bridge
    ) -> None:
        self._target = target
        self._runs = PastRuns(runs_root)
        self._measure = measure
        self._cancels: dict[str, threading.Event] = {}
        self._threads: dict[str, threading.Thread] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a question is being worked on."""
        return any(thread.is_alive() for thread in self._threads.values())

    def cancel(self, what: str | None = None) -> None:
        """Call off ``corpus``, ``runs`` or ``speed``, or everything."""
        for name, event in self._cancels.items():
            if what in (None, name):
                event.set()

    def ask_corpus(self, spec: str) -> None:
        """Measure a corpus; ``CorpusMeasured`` answers."""

        def work(cancelled: Callable[[], bool]) -> Message:
            return CorpusMeasured(spec, measure_corpus(spec, cancelled))

        self._start("corpus", work)

    def ask_runs(self) -> None:
        """Read the past runs; ``RunsRead`` answers."""
        self._start("runs", lambda cancelled: RunsRead(self._runs.read()))

    def ask_speed(self, config: Config, vocab_size: int) -> None:
        """Measure the training speed; ``SpeedMeasured`` answers."""

        def work(cancelled: Callable[[], bool]) -> Message:
            try:
                speed, device = self._measure(config, cancelled, vocab_size)
            except (UserError, RunFailedError) as error:
                return SpeedMeasured(config, None, problem=str(error))
            return SpeedMeasured(config, speed, device)

        self._start("speed", work)

    def _start(self, name: str, work: Callable[[Callable[[], bool]], Message]) -> None:
        self.cancel(name)
        cancel = self._cancels[name] = threading.Event()

        def run() -> None:
            try:
                message = work(cancel.is_set)
            except CancelledError:
                return
            if not cancel.is_set():
                self._target.post_message(message)

        # Leaving the lab does not wait for it.
        thread = threading.Thread(target=run, name=f"config-{name}", daemon=True)
        self._threads[name] = thread
        thread.start()
