"""What the screens share: the training controller, the config draft, the clock and the folders."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING

from shakespeare_tui.machine import Memory, has_bf16_products, memory, resident_bytes, usable_cores
from shakespeare_tui.paths import experiments_folder, runs_folder
from shakespeare_tui.ui.engine.children import Children
from shakespeare_tui.ui.engine.training import TrainingController

if TYPE_CHECKING:
    from shakespeare_tui.config.draft import ConfigDraft
    from shakespeare_tui.config.schema import Config
    from shakespeare_tui.data.inspect.scan import ScanState
    from shakespeare_tui.data.source import TextSource
    from shakespeare_tui.ui.engine.exporting import ExportProgress, ExportRequest
    from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
    from shakespeare_tui.ui.engine.scoring import Expectation, Reals, Scored


class Engine:
    """What the screens ask in threads, of models and corpora; loaded when it is first asked."""

    def write(self, request: "GenerationRequest", job: "GenerationJob") -> None:
        """Continue a prompt, as ``write_columns`` does."""
        from shakespeare_tui.ui.engine.writing import write_columns

        write_columns(request, job)

    def score(self, reference: str, runs_root: Path, text: str, prompt_length: int) -> "Scored":
        """Score and measure a text, as ``score_text`` does."""
        from shakespeare_tui.ui.engine.scoring import score_text

        return score_text(reference, runs_root, text, prompt_length)

    def expectation(
        self, reference: str, runs_root: Path, text: str, position: int
    ) -> "Expectation":
        """What was expected at a place of a text, as ``expectation_at`` says."""
        from shakespeare_tui.ui.engine.scoring import expectation_at

        return expectation_at(reference, runs_root, text, position)

    def attention(self, reference: str, runs_root: Path, text: str, position: int) -> "Reals":
        """Where the model looked from a place of a text, as ``attention_of`` says."""
        from shakespeare_tui.ui.engine.scoring import attention_of

        return attention_of(reference, runs_root, text, position)

    def scan(
        self,
        source: "TextSource",
        publish: Callable[["ScanState"], None],
        cancelled: Event,
        val_fraction: float,
        is_streamed: bool,
    ) -> "ScanState":
        """Measure a corpus, as ``scan_corpus`` does."""
        from shakespeare_tui.data.inspect.scan import scan_corpus

        return scan_corpus(source, publish, cancelled, val_fraction, is_streamed=is_streamed)

    def unfit_formats(
        self, reference: str, runs_root: Path, cancelled: Callable[[], bool]
    ) -> "Mapping[str, str]":
        """Why a checkpoint cannot be exported in some formats, as ``unfit_formats`` says."""
        from shakespeare_tui.ui.engine.exporting import unfit_formats

        return unfit_formats(reference, runs_root, cancelled)

    def export(
        self, request: "ExportRequest", progress: "ExportProgress", cancelled: Callable[[], bool]
    ) -> list[str]:
        """Export a checkpoint, as ``export_checkpoint`` does."""
        from shakespeare_tui.ui.engine.exporting import export_checkpoint

        return export_checkpoint(request, progress, cancelled)

    def measure_speed(
        self, config: "Config", cancelled: Callable[[], bool], vocab_size: int
    ) -> tuple[float, str]:
        """Training speed in tokens per second, and the device, as ``measure_speed`` tells them."""
        from shakespeare_tui.training.measure_speed import measure_speed

        return measure_speed(config, cancelled, vocab_size)


@dataclass
class Services:
    """Shared by all screens; everything that a test must hold still is here.

    Attributes:
        runs_root: The folder of all runs.
        training: The one trainer of this process.
        experiments_root: The folder of all experiments.
        children: Processes that train experiments and write reports.
        engine: What is asked of models and corpora.
        clock: Unix seconds.
        memory_bytes: What this process occupies; None where the system does not tell.
        memory: Main memory that this process may use.
        usable_cores: How many cores it may use.
        has_bf16: Whether the processor has instructions for products of bfloat16.
        speed_after_seconds: How long a config stays as it is before its speed is measured unasked.
        preload: Load torch in the background after the first paint.
    """

    runs_root: Path
    training: TrainingController
    experiments_root: Path = field(default_factory=experiments_folder)
    children: Children = field(default_factory=Children)
    engine: Engine = field(default_factory=Engine)
    clock: Callable[[], float] = time.time
    memory_bytes: Callable[[], int | None] = resident_bytes
    memory: Callable[[], Memory] = memory
    usable_cores: Callable[[], int] = usable_cores
    has_bf16: Callable[[], bool] = has_bf16_products
    speed_after_seconds: float = 2.0
    preload: bool = True
    _lock: Lock = field(init=False, repr=False, default_factory=Lock)
    _draft: "ConfigDraft | None" = field(init=False, repr=False, default=None)

    @property
    def draft(self) -> "ConfigDraft":
        """What the next run will be: the one config that all screens read and change.

        It begins, when it is first asked for, as the default preset.

        Raises:
            UserError: The default preset cannot be read.
        """
        from shakespeare_tui.config.draft import ConfigDraft, preset_origin
        from shakespeare_tui.config.load import DEFAULT_PRESET

        with self._lock:  # a thread may be the first
            if self._draft is None:
                self._draft = ConfigDraft(preset_origin(DEFAULT_PRESET))
            return self._draft


def real_services() -> Services:
    """The services of an interactive session."""
    root = runs_folder()
    return Services(runs_root=root, training=TrainingController())
