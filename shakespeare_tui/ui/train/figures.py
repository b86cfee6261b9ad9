"""The figures of a run in columns: labels above in a wide window, beside in a narrow one."""

from typing import ClassVar

from textual.content import Content
from textual.widget import Widget

from shakespeare_tui.formatting import (
    format_accuracy,
    format_count,
    format_duration,
    format_loss,
    format_rate,
)
from shakespeare_tui.runs.figures import RunFigures
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.ui.lab_screen import STATE_MARKS
from shakespeare_tui.visible_text import visible

STATES: dict[str, tuple[str, str]] = {
    **STATE_MARKS,
    "idle": ("", "$text-muted"),
    "attached": ("▶ training elsewhere", "$success"),
    "waiting": ("… no news", "$warning"),
    "reading": ("… reading the log", "$warning"),
    "replay": ("▷ replay", "$accent"),
}
_SPACE = "   "
_LONGEST_BAR = 30
_SHORTEST_BAR = 8


class RunLine(Widget):
    """One line: name, state, progress, and what the run is where there is room."""

    DEFAULT_CSS: ClassVar[str] = """
    RunLine { height: 1; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._state: tuple[str, str, RunFigures | None, str] = ("", "idle", None, "")

    def show_run(self, history: RunHistory, figures: RunFigures, name: str, state: str) -> None:
        """Show where a run stands.

        Args:
            history: The run.
            figures: Its figures.
            name: What it is called, also before its first event.
            state: A key of ``STATES``.
        """
        about = ""
        started = history.started
        if started is not None:
            parts = [f"{format_count(started.parameters)} parameters", started.corpus]
            about = " · ".join([part for part in [*parts, started.device] if part])
        shown = (visible(name), state, figures if started else None, visible(about))
        if shown != self._state:
            self._state = shown
            self.refresh()

    def render(self) -> Content:
        name, state, figures, about = self._state
        mark, style = STATES[state]
        parts = []
        if name:
            parts.append(Content.styled(name, "bold"))
        if mark:
            parts.append(Content.styled(mark, style))
        if figures is not None:
            total = f" / {figures.total_steps:,}" if figures.total_steps else ""
            parts.append(Content.assemble(("step ", "$text-muted"), f"{figures.step:,}{total}"))
        line = Content(_SPACE).join(parts)
        width = self.content_size.width
        if figures is not None and figures.share is not None:
            line = line + self._bar(figures.share, min(_LONGEST_BAR, width - len(line) - 10))
        room = width - len(line) - len(_SPACE)
        if about and room >= len(about):
            line = Content.assemble(line, " " * (room + len(_SPACE) - len(about)) if parts else "")
            line = line + Content.styled(about, "$text-muted")
        return line

    def _bar(self, share: float, length: int) -> Content:
        percent = Content(f"{100 * share:4.0f} %")
        if length < _SHORTEST_BAR:
            return Content(_SPACE) + percent
        full = round(share * length)
        heavy, light = ("#", "-") if getattr(self.app, "ascii", False) else ("━", "─")
        return Content.assemble(
            _SPACE,
            (heavy * full, "$accent"),
            (light * (length - full), "$border-blurred"),
            percent,
        )


Figure = tuple[str, str, str]
_GAP = "  "
_LEAST_CELL = 8
"""As wide as nearly all values: columns stay where they are while a run goes on."""
_MOST_IMPORTANT = (
    *("train", "val", "left", "tok/s", "best", "LR", "time", "ppl", "acc", "epoch", "grad", "mem"),
)
"""Short labels: what is shown where there is no room for all."""


def figures_of(figures: RunFigures, memory_bytes: int | None) -> list[Figure]:
    """Short and long label, and value, of every figure; a dash where it is not known."""
    best = figures.best
    return [
        ("train", "train loss", format_loss(figures.train_loss)),
        ("val", "val loss", figures.val.short if figures.val else "-"),
        ("best", "best val", best.loss.short if best else "-"),
        ("ppl", "perplexity", _number(figures.perplexity, 2)),
        ("acc", "accuracy", format_accuracy(figures.val.accuracy if figures.val else None)),
        ("bits", figures.bits[1], _number(figures.bits[0], 3)),
        ("epoch", "epoch", _number(figures.epoch, 2)),
        ("LR", "LR", _rate(figures.learning_rate)),
        ("grad", "grad norm", _number(figures.grad_norm, 2)),
        ("tok/s", "tokens/s", _count(figures.tokens_per_second)),
        ("time", "elapsed", format_duration(figures.elapsed_seconds)),
        ("left", "left", _duration(figures.seconds_left)),
        ("mem", "memory", _memory(memory_bytes)),
    ]


def as_text(figures: list[Figure]) -> str:
    """The figures for the clipboard, a line each."""
    return "\n".join(f"{label}\t{value}" for _, label, value in figures)


class RunNumbers(Widget):
    """All figures in two lines."""

    DEFAULT_CSS: ClassVar[str] = """
    RunNumbers { height: 2; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[Figure] = []

    def show(self, figures: list[Figure]) -> None:
        """Show other figures."""
        if figures != self.figures:
            self.figures = figures
            self.refresh()

    def render(self) -> Content:
        """One row with labels above, or two rows of what has room."""
        width = self.content_size.width
        if not self.figures or width < 2:
            return Content("")
        cells = [max(len(label), len(value), _LEAST_CELL) for _, label, value in self.figures]
        gap = (width - sum(cells)) // max(1, len(cells) - 1)
        if gap >= 1:
            labels, values = (
                (" " * gap).join(
                    f"{figure[part]:>{cell}}"
                    for figure, cell in zip(self.figures, cells, strict=True)
                )
                for part in (1, 2)
            )
            # The first figure is flush with what stands above and below.
            cut = min(len(labels) - len(labels.lstrip()), len(values) - len(values.lstrip()))
            return Content.assemble(
                (labels[cut:], "$text-muted"), "\n", (values[cut:], "bold $foreground")
            )
        across = self._across(width)
        kept = sorted(range(len(self.figures)), key=self._importance)[: 2 * across]
        figures = [self.figures[index] for index in sorted(kept)]
        rows = (figures[:across], figures[across:])
        return Content("\n").join(self._row(row, width // across) for row in rows)

    def _across(self, width: int) -> int:
        """How many figures fit into a row, each with its label, a blank and a gap."""
        widest = max(len(label) + 1 + len(value) for label, _, value in self.figures)
        return max(1, min((len(self.figures) + 1) // 2, width // (widest + len(_GAP))))

    def _importance(self, index: int) -> int:
        label = self.figures[index][0]
        return _MOST_IMPORTANT.index(label) if label in _MOST_IMPORTANT else len(_MOST_IMPORTANT)

    def _row(self, figures: list[Figure], cell: int) -> Content:
        parts: list[Content] = []
        for label, _, value in figures:
            room = max(0, cell - len(_GAP) - len(label))
            parts += [
                Content.styled(label, "$text-muted"),
                Content.styled(f"{value:>{room}}", "bold $foreground"),
                Content(_GAP),
            ]
        return Content("").join(parts)


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if abs(value) < 10_000 else f"{value:.1e}"


def _rate(value: float | None) -> str:
    return "-" if value is None else format_rate(value, 2)


def _count(value: float | None) -> str:
    """Three digits: the column stays narrow, and no more is certain."""
    if value is None or value < 1000:
        return "-" if value is None else f"{value:.0f}"
    return f"{float(f'{value:.3g}') / 1000:.4g}K" if value < 1e6 else format_count(value)


def _memory(size: int | None) -> str:
    if size is None:
        return "-"
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else format_duration(seconds)
