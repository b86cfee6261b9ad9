"""The pre-flight card: asks in the background what it needs and keeps its figures up to date."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from shakespeare_tui.config.estimate.advice import Advice, Machine, advise
from shakespeare_tui.config.estimate.corpus import CorpusFigures
from shakespeare_tui.config.estimate.figures import Preflight, preflight
from shakespeare_tui.config.estimate.nearest_run import PastRun, nearest_run
from shakespeare_tui.config.estimate.speed import Speeds
from shakespeare_tui.config.schema import Config
from shakespeare_tui.machine import memory, usable_cores
from shakespeare_tui.ui.config.config_card_text import CardFigures, advice_content, card_lines
from shakespeare_tui.ui.config.config_probe import (
    ConfigProbe,
    CorpusMeasured,
    Measure,
    RunsRead,
    SpeedMeasured,
    measure_by_bridge,
)

_CORPUS_AFTER_SECONDS = 0.3
_SPEED_AFTER_SECONDS = 2.0
# Measuring by itself must not press the machine for memory.
_LARGEST_SHARE_OF_MEMORY = 0.5


class ConfigCard(Vertical):
    """Figures that scroll, and below them advice that is always in view.

    Args:
        runs_root: The folder of all runs.
        may_measure: Whether the speed may be measured unasked now.
        measure: How it is measured; None asks the bridge.
    """

    DEFAULT_CSS: ClassVar[str] = """
    ConfigCard {
        border-left: solid $border-blurred;
        padding: 0 0 0 1;
    }
    ConfigCard #card-title { height: 1; color: $accent; text-style: bold; }
    ConfigCard #card-scroll { height: 1fr; scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
    ConfigCard #card-figures { height: auto; }
    ConfigCard #card-advice { height: auto; max-height: 50%; padding-right: 1; }
    """

    def __init__(
        self,
        runs_root: Path,
        may_measure: Callable[[], bool],
        measure: Measure | None = None,
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self._may_measure = may_measure
        self._probe = ConfigProbe(self, runs_root, measure or measure_by_bridge)
        self._config: Config | None = None
        self._is_stale = False
        self._corpora: dict[str, CorpusFigures] = {}
        self._corpus_asked: str | None = None
        self._runs: list[PastRun] = []
        self._speeds = Speeds()
        self._speed_problem: tuple[Config, str] | None = None
        self._measuring: Config | None = None
        self._device = ""
        self._available_bytes: int | None = None
        self._card = CardFigures()
        self._corpus_timer: Timer | None = None
        self._speed_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        """Title, figures and advice."""
        yield Static("Pre-flight", id="card-title", markup=False)
        with VerticalScroll(id="card-scroll", can_focus=False):
            yield Static(id="card-figures", markup=False)
        yield Static(id="card-advice", markup=False)

    # --- what the screen asks ------------------------------------------------------------------

    @property
    def runs(self) -> list[PastRun]:
        """The past runs, newest first, as far as they have been read."""
        return self._runs

    @property
    def advice(self) -> tuple[Advice, ...]:
        """The advice that is shown."""
        return self._card.advice

    @property
    def figures(self) -> Preflight | None:
        """The figures that are shown."""
        return self._card.figures

    @property
    def is_settled(self) -> bool:
        """Whether everything that was asked has been answered."""
        return not self._probe.is_busy

    def show_config(self, config: Config | None, *, is_typing: bool = False) -> None:
        """Show another config; None keeps the last one and says that it is out of date."""
        self._is_stale = config is None
        if config is not None and config != self._config:
            if self._measuring is not None and self._measuring != config:
                self._stop_measuring()
            self._config = config
        self.update_figures()
        if config is None:
            return
        if config.data.corpus != self._corpus_asked:
            self._ask_corpus(_CORPUS_AFTER_SECONDS if is_typing else 0.0)
        self._measure_later()

    def look_again(self) -> None:
        """Read anew what may have changed while another place was shown."""
        self._available_bytes = memory().available
        self._probe.ask_runs()
        if self._config is not None:
            self._ask_corpus(0.0)
        self._measure_later()

    def pause(self) -> None:
        """Measure nothing while another place is shown."""
        self._stop_measuring()
        if self._speed_timer is not None:
            self._speed_timer.stop()

    def measure_speed(self) -> bool:
        """Measure the speed now; whether there is a config to measure."""
        if self._config is None or self._is_stale:
            return False
        self._measuring = self._config
        self._speed_problem = None
        self._probe.ask_speed(self._config, self._corpus.vocab_size)
        self.update_figures()
        return True

    # --- asking --------------------------------------------------------------------------------

    @property
    def _corpus(self) -> CorpusFigures:
        spec = self._config.data.corpus if self._config else ""
        return self._corpora.get(spec, CorpusFigures())

    def _ask_corpus(self, after_seconds: float) -> None:
        if self._corpus_timer is not None:
            self._corpus_timer.stop()

        def ask() -> None:
            if self._config is not None:
                self._corpus_asked = self._config.data.corpus
                self._probe.ask_corpus(self._corpus_asked)

        if after_seconds:
            self._corpus_timer = self.set_timer(after_seconds, ask)
        else:
            ask()

    def _measure_later(self) -> None:
        if self._speed_timer is not None:
            self._speed_timer.stop()
        self._speed_timer = self.set_timer(_SPEED_AFTER_SECONDS, self._measure_unasked)

    def _measure_unasked(self) -> None:
        config, figures = self._config, self.figures
        if config is None or figures is None or self._is_stale or self._measuring is not None:
            return
        speed = self._speeds.find(config, self._corpus.vocab_size)
        is_known = speed is not None and speed.is_measured
        has_failed = self._speed_problem is not None and self._speed_problem[0] == config
        free = self._available_bytes
        is_large = free is not None and figures.memory.total > free * _LARGEST_SHARE_OF_MEMORY
        if is_known or has_failed or is_large:
            return
        if self._may_measure():
            self.measure_speed()
        else:
            # Torch may still be loading, or a run may end.
            self._measure_later()

    def _stop_measuring(self) -> None:
        if self._measuring is not None:
            self._probe.cancel("speed")
            self._measuring = None
            self.update_figures()

    def on_unmount(self) -> None:
        """Call everything off."""
        self._probe.cancel()

    # --- answers -------------------------------------------------------------------------------

    @on(CorpusMeasured)
    def _corpus_measured(self, message: CorpusMeasured) -> None:
        message.stop()
        self._corpora[message.spec] = message.figures
        self.update_figures()

    @on(RunsRead)
    def _runs_read(self, message: RunsRead) -> None:
        message.stop()
        self._runs = message.runs
        self.update_figures()

    @on(SpeedMeasured)
    def _speed_measured(self, message: SpeedMeasured) -> None:
        message.stop()
        if message.device:
            self._device = message.device
        if message.tokens_per_second:
            self._speeds.add(message.config, message.tokens_per_second)
        elif message.problem:
            self._speed_problem = (message.config, message.problem)
        if message.config == self._measuring:
            self._measuring = None
        self.update_figures()

    # --- figures -------------------------------------------------------------------------------

    def update_figures(self) -> None:
        """Work everything out anew, and draw it if anything changed."""
        config = self._config
        card = CardFigures(is_stale=self._is_stale)
        if config is not None:
            corpus, machine = self._corpus, self._machine(config)
            speed = self._speeds.find(config, corpus.vocab_size)
            figures = preflight(
                config,
                corpus,
                tokens_per_second=speed.tokens_per_second if speed else None,
                is_half=_is_half(config, machine),
                is_fused=not machine.is_cpu,
            )
            problem = self._speed_problem
            card = CardFigures(
                figures=figures,
                is_stale=self._is_stale,
                speed=speed,
                is_measuring=self._measuring is not None,
                speed_note=problem[1] if problem and problem[0] == config else "",
                nearest=nearest_run(config, self._runs),
                note=corpus.note,
                advice=tuple(advise(config, figures, machine)),
            )
        if card != self._card:
            self._card = card
            self._draw()

    def _machine(self, config: Config) -> Machine:
        wanted = config.training.device
        is_cpu = wanted == "cpu" or (
            wanted == "auto" and (not self._device or self._device.startswith("cpu"))
        )
        if is_cpu:
            cores = usable_cores()
            name = "1 core" if cores == 1 else f"{cores} cores"
            return Machine(name, self._available_bytes)
        return Machine(self._device or wanted, None, is_cpu=False)

    def on_resize(self) -> None:
        """Fit the lines to the new size."""
        self._draw()

    def _draw(self) -> None:
        width = self.content_size.width - 1
        if width < 1 or not self.is_mounted:
            return
        title = "Pre-flight" + (", last valid state" if self._card.is_stale else "")
        self.query_one("#card-title", Static).update(Content(title))
        rows = self.content_size.height
        self.query_one("#card-advice", Static).update(advice_content(self._card, rows))
        lines = Content("\n").join(card_lines(self._card, width, rows))
        self.query_one("#card-figures", Static).update(lines)


def _is_half(config: Config, machine: Machine) -> bool:
    """Whether matrix products will run in bfloat16; on a processor only where that was asked."""
    precision = config.training.precision
    return precision == "bfloat16" or (precision == "auto" and not machine.is_cpu)
