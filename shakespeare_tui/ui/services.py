"""What the places share: the training controller, the draft config, the clock and the folders."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from shakespeare_tui.formatting import counted
from shakespeare_tui.machine import Memory, memory, resident_bytes, usable_cores
from shakespeare_tui.paths import runs_folder
from shakespeare_tui.ui.engine.training import TrainingController

if TYPE_CHECKING:
    from shakespeare_tui.config.schema import Config
    from shakespeare_tui.data.inspect.scan import ScanState
    from shakespeare_tui.data.source import TextSource
    from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
    from shakespeare_tui.ui.engine.scoring import Expectation, Reals, Scored


_CORPUS = "data.corpus"


@dataclass
class Draft:
    """What the next run will be: the Config place writes it, the Train place starts it.

    Attributes:
        config: The config; None until someone looks, then the default preset.
        stem: What the run is called before its number: the preset's name.
        start_from: A checkpoint whose weights the run starts from, ``RUN@STEP``.
        corpus: The corpus chosen in the Data place; it wins over the config's own.
    """

    config: "Config | None" = None
    stem: str = ""
    start_from: str | None = None
    corpus: str | None = None

    def is_untouched(self) -> bool:
        """Whether nothing was chosen: the default preset on its own corpus."""
        from shakespeare_tui.config.load import DEFAULT_PRESET, load_config

        return self.start_from is None and self.resolved() == load_config(DEFAULT_PRESET)

    def described(self) -> str:
        """``quick (2 settings changed) on tiny_shakespeare``: what a start would train."""
        return _described(self.resolved(), self.stem)

    def resolved(self) -> "Config":
        """The config with the chosen corpus in it.

        Raises:
            UserError: The default preset cannot be read.
        """
        from shakespeare_tui.config.load import DEFAULT_PRESET, load_config

        if self.config is None:
            self.config, self.stem = load_config(DEFAULT_PRESET), DEFAULT_PRESET
        if self.corpus is None or self.corpus == self.config.data.corpus:
            return self.config
        data = self.config.data.model_copy(update={"corpus": self.corpus})
        return self.config.model_copy(update={"data": data})


@lru_cache(maxsize=1)
def _described(config: "Config", stem: str) -> str:
    from shakespeare_tui.config.load import load_config, preset_names

    text = stem
    if stem in preset_names():
        preset = load_config(stem).by_path()
        changed = sum(
            value != preset[path] for path, value in config.by_path().items() if path != _CORPUS
        )
        text += f" ({counted(changed, 'setting')} changed)" if changed else ""
    return f"{text} on {Path(config.data.corpus).name}"


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
    ) -> "ScanState":
        """Measure a corpus, as ``scan_corpus`` does."""
        from shakespeare_tui.data.inspect.scan import scan_corpus

        return scan_corpus(source, publish, cancelled, val_fraction)

    def measure_speed(
        self, config: "Config", cancelled: Callable[[], bool], vocab_size: int
    ) -> tuple[float, str]:
        """Training speed in tokens per second, and the device, as ``measure_speed`` tells them."""
        from shakespeare_tui.ui.engine.trainer_thread import measure_speed

        return measure_speed(config, cancelled, vocab_size)


@dataclass
class Services:
    """Shared by all places; everything that a test must hold still is here.

    Attributes:
        runs_root: The folder of all runs.
        training: The one trainer of this process.
        draft: What the next run will be.
        engine: What is asked of models and corpora.
        clock: Unix seconds.
        memory_bytes: What this process occupies; None where the system does not tell.
        memory: Main memory that this process may use.
        usable_cores: How many cores it may use.
        speed_after_seconds: How long a config stays as it is before its speed is measured unasked.
        preload: Load torch in the background after the first paint.
    """

    runs_root: Path
    training: TrainingController
    draft: Draft = field(default_factory=Draft)
    engine: Engine = field(default_factory=Engine)
    clock: Callable[[], float] = time.time
    memory_bytes: Callable[[], int | None] = resident_bytes
    memory: Callable[[], Memory] = memory
    usable_cores: Callable[[], int] = usable_cores
    speed_after_seconds: float = 2.0
    preload: bool = True


def real_services() -> Services:
    """The services of an interactive session."""
    root = runs_folder()
    return Services(runs_root=root, training=TrainingController())
