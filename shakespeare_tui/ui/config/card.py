"""The pre-flight card: asks in the background what it needs and keeps its figures up to date."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from shakespeare_tui.config.estimate.advice import Advice, Machine, advise
from shakespeare_tui.config.estimate.figures import (
    CorpusFigures,
    Preflight,
    expects_half,
    measure_corpus,
    preflight,
)
from shakespeare_tui.config.estimate.nearest_run import NearestRun, PastRun, PastRuns, nearest_run
from shakespeare_tui.config.estimate.speed import Speed, Speeds
from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.tokens import TokenSettings
from shakespeare_tui.formatting import format_bytes, format_count, format_duration
from shakespeare_tui.machine import backend_of
from shakespeare_tui.models.parameters import REPORT_TITLES, ParameterReport
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.lab_screen import Dialog
from shakespeare_tui.ui.services import Services
from shakespeare_tui.ui.widgets.choice_dialog import FRAME

CorpusKey = tuple[str, str, TokenSettings]
"""What the figures of a corpus depend on: its text, its validation text, and its tokens."""


def _corpus_of(config: Config | None) -> CorpusKey:
    if config is None:
        return ("", "", TokenSettings())
    return (config.data.corpus, config.data.validation, config.tokens)


_BAR_FROM_WIDTH = 38
_BAR = "▬"
_MOST_ADVICE = 4
_LOW_ROWS, _AIRY_ROWS = 24, 34
# In a low window, components smaller than this share of the model are left out.
_SMALL_SHARE = 0.02


@dataclass(frozen=True, kw_only=True)
class CardFigures:
    """Everything the card shows.

    Attributes:
        figures: Of the last config that was valid; None before there was one.
        is_stale: The draft has mistakes, so ``figures`` are of an earlier moment of it.
        speed: Training speed, if anything is known of it.
        is_measuring: It is being measured now.
        speed_note: Why it could not be measured.
        nearest: The past run most like the config.
        note: What there is to say of the corpus.
        advice: From the tuning guide, the gravest first.
    """

    figures: Preflight | None = None
    is_stale: bool = False
    speed: Speed | None = None
    is_measuring: bool = False
    speed_note: str = ""
    nearest: NearestRun | None = None
    note: str = ""
    advice: tuple[Advice, ...] = ()


def card_lines(card: CardFigures, width: int, rows: int) -> Iterator[Content]:
    """The figures, a line each.

    Args:
        card: What to show.
        width: Cells there are.
        rows: Height of the card; where it is low, what is small is left out.
    """
    figures = card.figures
    if figures is None:
        yield Content.styled("no valid config yet", "$text-muted")
        return
    gap = [Content("")] if rows >= _AIRY_ROWS else []
    yield from _parameters(figures, width, rows < _LOW_ROWS)
    yield from gap
    yield from _memory(figures, width)
    yield from gap
    yield _row("tokens seen", _count(figures.tokens), width=width)
    yield _row("epochs", _decimal(figures.epochs, 1), width=width)
    yield _row("tokens/parameter", _decimal(figures.tokens_per_parameter, 2), width=width)
    yield from gap
    yield _row("speed", *_speed(card), width=width)
    yield _row("time", *_time(card), width=width)
    yield from gap
    yield from _nearest(card.nearest, width)


def _parameters(figures: Preflight, width: int, is_low: bool) -> Iterator[Content]:
    total = figures.parameter_count
    yield _row("parameters", format_count(total), width=width, style="bold $accent")
    for name, part in figures.parameters.components.items():
        if part.parameters > total * (_SMALL_SHARE if is_low else 0):
            yield _part(name, format_count(part.parameters), part.parameters / total, width)
    report = figures.parameters
    if report.trained < total:
        yield _part("trained", format_count(report.trained), report.trained_share, width)


class SizesDialog(Dialog[None]):
    """The parameters by component, and what they take in each type.

    Args:
        report: What to show.
    """

    DEFAULT_CSS: ClassVar[str] = (
        FRAME.format(name="SizesDialog", width=78)
        + "SizesDialog VerticalScroll { height: auto; max-height: 16; }"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,z", "dismiss", "Close", id="config.sizes_close"),
    ]

    def __init__(self, report: ParameterReport) -> None:
        super().__init__()
        self._report = report

    def compose(self) -> ComposeResult:
        with Vertical() as frame:
            frame.border_title = Content("Parameters and sizes")
            frame.border_subtitle = Content("esc closes")
            with VerticalScroll():
                yield Static(size_lines(self._report), markup=False)


def size_lines(report: ParameterReport) -> Content:
    """The report as a table of 72 cells, and what else there is to say of it."""
    lines = [Content.styled(_size_row(REPORT_TITLES), "$text-muted")]
    for row in report.rows():
        lines.append(Content.styled(_size_row(row), "bold $accent" if row[0] == "model" else ""))
    notes = ["int8 has a scale for each row of a matrix, and leaves norms and biases in float32."]
    if report.adapters.parameters:
        notes.insert(
            0,
            f"{report.trained_share:.2%} of all parameters are trained: adapters, which are "
            "added to the matrices where the model is used.",
        )
    lines += [Content(""), *(Content.styled(note, "$text-muted") for note in notes)]
    return Content("\n").join(lines)


def _size_row(cells: Sequence[str]) -> str:
    name, count, trained, *sizes = cells
    return f"{name:<18}{count:>14}{trained:>9}" + "".join(f"{size:>10}" for size in sizes)


def _memory(figures: Preflight, width: int) -> Iterator[Content]:
    memory = figures.memory
    yield _row("memory", format_bytes(memory.total), width=width, style="bold $accent")
    for name, size in (
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimiser", memory.optimizer),
        ("activations", memory.activations),
    ):
        yield _part(name, format_bytes(size), size / memory.total, width)


def _speed(card: CardFigures) -> tuple[str, str]:
    if card.is_measuring:
        return "measuring …", "$warning"
    if card.speed is None:
        return "m measures it", "$text-muted"
    about = "" if card.speed.is_measured else "≈ "
    return f"{about}{card.speed.tokens_per_second:,.0f} tok/s", "bold"


def _time(card: CardFigures) -> tuple[str, str]:
    assert card.figures is not None
    seconds = card.figures.seconds
    if seconds is None:
        return "–", "$text-muted"
    is_exact = card.figures.is_budget or card.speed is None or card.speed.is_measured
    return f"{'' if is_exact else '≈ '}{format_duration(seconds)}", "bold"


def _nearest(nearest: NearestRun | None, width: int) -> Iterator[Content]:
    if nearest is None:
        yield _row("nearest run", "none yet", width=width, style="$text-muted")
        return
    yield _row("nearest run", f"val loss {nearest.run.loss}", width=width)
    count = nearest.differing
    apart = "same settings" if not count else f"{count} setting{'s' * (count > 1)} differ"
    apart += "s" * (count == 1)
    yield Content.styled(f"  {nearest.run.name}, {apart}", "$text-muted")


def advice_content(card: CardFigures, rows: int) -> Content:
    """What is in the way, notes, and advice, a paragraph each; in a low card only the gravest."""
    parts = []
    problem = card.figures.problem if card.figures else ""
    if problem:
        parts.append(Content.assemble(("✗ ", "bold $error"), (problem, "$error")))
    for note in (card.note, card.speed_note):
        if note and note != problem:
            parts.append(Content.styled(f"· {note}", "$text-muted"))
    most = 1 if rows < _AIRY_ROWS else _MOST_ADVICE
    for advice in card.advice[:most]:
        style = "$error" if advice.is_grave else "$warning"
        parts.append(Content.assemble(("! ", f"bold {style}"), advice.text))
    more = len(card.advice) - most
    if more > 0:
        parts.append(Content.styled(f"a lists {more} more", "$text-muted"))
    elif any(advice.overrides for advice in card.advice):
        parts.append(Content.styled("a follows advice", "$text-muted"))
    return Content("\n").join(parts)


def _row(label: str, value: str, style: str = "bold", *, width: int) -> Content:
    gap = " " * max(1, width - len(label) - len(value))
    return Content.assemble((label, "$text-muted"), gap, (value, style))


def _part(label: str, value: str, share: float, width: int) -> Content:
    """An indented row; a wide one has a bar of its share."""
    line = f"  {label:<19}"
    bar = ""
    if width >= _BAR_FROM_WIDTH:
        room = width - 34
        bar = (_BAR * max(1 if share else 0, round(share * room))).ljust(room)
    gap = " " * max(1, width - len(line) - len(value) - len(bar) - 1)
    if not bar:
        line, gap = line.rstrip(), " " * max(1, width - len(line.rstrip()) - len(value))
        return Content.assemble((line, "$text-muted"), gap, value)
    return Content.assemble((line, "$text-muted"), (bar, "$accent"), gap, " ", value)


def _count(count: float | None) -> str:
    return "–" if count is None else format_count(count)


def _decimal(number: float | None, digits: int) -> str:
    return "–" if number is None else f"{number:,.{digits}f}"


_CORPUS_AFTER_SECONDS = 0.3
# Measuring by itself must not press the machine for memory.
_LARGEST_SHARE_OF_MEMORY = 0.5


class ConfigCard(Vertical):
    """Figures that scroll, and below them advice that is always in view.

    Args:
        services: Say where past runs are, what the machine has, and how fast it trains.
        may_measure: Whether the speed may be measured unasked now.
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
        services: Services,
        may_measure: Callable[[], bool],
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self._services, self._may_measure = services, may_measure
        self._past_runs = PastRuns(services.runs_root)
        self._jobs = Jobs(self)
        self._config: Config | None = None
        self._is_stale = False
        self._corpora: dict[CorpusKey, CorpusFigures] = {}
        self._corpus_asked: CorpusKey | None = None
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
        return not self._jobs.is_busy

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
        if _corpus_of(config) != self._corpus_asked:
            self._ask_corpus(_CORPUS_AFTER_SECONDS if is_typing else 0.0)
        self._measure_later()

    def look_again(self) -> None:
        """Read anew what may have changed while another screen was shown."""
        self._available_bytes = self._services.memory().available
        self._jobs.start("runs", lambda job: self._past_runs.read(), self._runs_read)
        if self._config is not None:
            self._ask_corpus(0.0)
        self._measure_later()

    def pause(self) -> None:
        """Measure nothing while another screen is shown."""
        self._stop_measuring()
        if self._speed_timer is not None:
            self._speed_timer.stop()

    def measure_speed(self) -> bool:
        """Measure the speed now; whether there is a config to measure."""
        if self._config is None or self._is_stale:
            return False
        self._measuring = config = self._config
        self._speed_problem = None
        vocab_size, measure = self._corpus.vocab_size, self._services.engine.measure_speed
        self._jobs.start(
            "speed",
            lambda job: measure(config, job.cancelled.is_set, vocab_size),
            lambda job: self._speed_measured(config, job),
        )
        self.update_figures()
        return True

    # --- asking --------------------------------------------------------------------------------

    @property
    def _corpus(self) -> CorpusFigures:
        return self._corpora.get(_corpus_of(self._config), CorpusFigures())

    def _ask_corpus(self, after_seconds: float) -> None:
        if self._corpus_timer is not None:
            self._corpus_timer.stop()

        def ask() -> None:
            if self._config is not None:
                self._corpus_asked = corpus = _corpus_of(self._config)
                self._jobs.start(
                    "corpus",
                    lambda job: measure_corpus(*corpus, job.cancelled.is_set),
                    lambda job: self._corpus_measured(corpus, job),
                )

        if after_seconds:
            self._corpus_timer = self.set_timer(after_seconds, ask)
        else:
            ask()

    def _measure_later(self) -> None:
        if self._speed_timer is not None:
            self._speed_timer.stop()
        after_seconds = self._services.speed_after_seconds
        self._speed_timer = self.set_timer(after_seconds, self._measure_unasked)

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
            self._jobs.cancel("speed")
            self._measuring = None
            self.update_figures()

    def on_unmount(self) -> None:
        self._jobs.close()

    # --- answers -------------------------------------------------------------------------------

    def _corpus_measured(self, corpus: CorpusKey, job: Job[CorpusFigures]) -> None:
        if job.result is not None:
            self.take_corpus(corpus, job.result)

    def take_corpus(self, corpus: CorpusKey, figures: CorpusFigures) -> None:
        """Reckon with the figures of a corpus, as ``_corpus_of`` names it."""
        self._corpora[corpus] = figures
        self.update_figures()

    def _runs_read(self, job: Job[list[PastRun]]) -> None:
        if job.result is not None:
            self._runs = job.result
            self.update_figures()

    def _speed_measured(self, config: Config, job: Job[tuple[float, str]]) -> None:
        if job.state == "cancelled":
            return
        if config == self._measuring:
            self._measuring = None
        if job.result is not None:
            self.take_speed(config, *job.result)
        else:
            self._speed_problem = (config, job.error)
            self.update_figures()

    def take_speed(self, config: Config, tokens_per_second: float, device: str) -> None:
        """Reckon with the speed of a config on a device, as ``describe_device`` names it."""
        self._device = device
        corpus = self._corpora.get(_corpus_of(config), CorpusFigures())
        self._speeds.add(config, corpus.vocab_size, tokens_per_second)
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
                is_half=expects_half(
                    config, is_cpu=machine.is_cpu, has_bf16=self._services.has_bf16()
                ),
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
        is_numpy = backend_of(config.training.backend) == "numpy"
        is_cpu = (
            is_numpy
            or wanted == "cpu"
            or (wanted == "auto" and (not self._device or self._device.startswith("cpu")))
        )
        if is_cpu:
            cores = self._services.usable_cores()
            name = "1 core" if cores == 1 else f"{cores} cores"
            return Machine(name, self._available_bytes)
        return Machine(self._device or wanted, None, is_cpu=False)

    def on_resize(self) -> None:
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
