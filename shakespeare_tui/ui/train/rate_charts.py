"""Small charts of one series each: learning rate, gradient norm, throughput."""

import math
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from rich.style import Style
from textual.app import ComposeResult
from textual.containers import Horizontal

from shakespeare_tui.chart_axes import Axis
from shakespeare_tui.formatting import format_count, format_rate
from shakespeare_tui.runs.figures import tokens_per_second
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.ui.widgets.plot import BRAILLE, Canvas, Chart, Curve, draw_curves, part_style

_SPIKES_LEFT_OUT = 1.0


class RateChart(Chart):
    """One series over the steps that the loss chart shows, with its latest value.

    Args:
        series: A name of ``STEP_SERIES``.
        title: What it is called.
        short: What it is called where there is no room.
        formatted: Writes a value.
        is_steady: Whether single values are cut off where they are far from the rest.
        latest: The value that stands for now; by default the series' last.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "rate-chart--title",
        "rate-chart--value",
        "rate-chart--curve",
    }
    DEFAULT_CSS: ClassVar[str] = """
    RateChart {
        width: 1fr;
        height: 1fr;
        min-height: 3;
        padding: 0 1;
    }
    RateChart > .rate-chart--title { color: $text-muted; }
    RateChart > .rate-chart--value { color: $foreground; text-style: bold; }
    RateChart > .rate-chart--curve { color: $accent 75%; }
    """

    def __init__(
        self,
        series: str,
        title: str,
        short: str,
        formatted: Callable[[float], str],
        *,
        is_steady: bool = True,
        latest: Callable[[RunHistory], float | None] | None = None,
    ) -> None:
        super().__init__()
        self._latest = latest or (lambda history: history.series(series).last())
        self._series = series
        self._titles = (title, short)
        self._formatted = formatted
        self._is_steady = is_steady
        self._history = RunHistory()
        self._span = (1, 10)
        self._is_log_steps = False
        self._drawn: object = None

    def show_run(self, history: RunHistory, span: tuple[int, int], is_log_steps: bool) -> None:
        """Show part of a run; drawn anew if it is another part or has news."""
        is_other = history is not self._history or is_log_steps != self._is_log_steps
        is_other = is_other or span[0] != self._span[0]
        self._history, self._span, self._is_log_steps = history, span, is_log_steps
        if is_other or self._drawn != (history.revision, span):
            self.redraw()

    def draw(self) -> Canvas:
        """Title, latest value, and the curve below them."""
        self._drawn = (self._history.revision, self._span)
        width, height = self.size
        canvas = Canvas(width, height)
        last = self._latest(self._history)
        value = "" if last is None else self._formatted(last)
        title = next((t for t in self._titles if len(t) + 1 + len(value) <= width), "")
        canvas.write(0, 0, title, self._style("title"))
        canvas.write(width - len(value), 0, value, self._style("value"))
        window = self._history.series_window(
            self._series, *self._span, width, is_log=self._is_log_steps
        )
        limits = self._limits(window.values)
        if limits is None or height < 3:
            return canvas
        steps = Axis(self._span[0], max(self._span), width, self._is_log_steps)
        values = Axis(*limits, height - 1)
        x = np.clip(steps.position(window.steps), 0, np.nextafter(width, 0))
        mark = "." if getattr(self.app, "ascii", False) else BRAILLE
        curve = Curve(x, values.position(window.values), self._style("curve"), mark)
        canvas.paste(draw_curves([curve], width, height - 1), 0, 1)
        return canvas

    def _limits(self, values: np.ndarray) -> tuple[float, float] | None:
        finite = values[np.isfinite(values)]
        if len(finite) == 0:
            return None
        share = _SPIKES_LEFT_OUT if self._is_steady else 0.0
        low, high = np.percentile(finite, [share, 100 - share])
        # Small changes of a large value are not made to look large.
        low = min(float(low), 0.8 * float(high)) if low > 0 else float(low)
        pad = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
        return low - pad, float(high) + pad

    def _style(self, part: str) -> Style:
        return part_style(self, f"rate-chart--{part}")


def _throughput(value: float) -> str:
    return f"{format_count(value)} tok/s" if math.isfinite(value) else "-"


class RateCharts(Horizontal):
    """The three small charts side by side."""

    DEFAULT_CSS: ClassVar[str] = """
    RateCharts { height: 6; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self.can_focus = "pane" in self.classes

    def compose(self) -> ComposeResult:
        """Learning rate, gradient norm and throughput."""
        yield RateChart(
            "learning_rate", "learning rate", "rate", lambda v: format_rate(v, 2), is_steady=False
        )
        yield RateChart("grad_norm", "gradient norm", "gradient", lambda v: f"{v:.2f}")
        yield RateChart(
            "tokens_per_second", "throughput", "speed", _throughput, latest=tokens_per_second
        )

    def show_run(self, history: RunHistory, span: tuple[int, int], is_log_steps: bool) -> None:
        """Show part of a run in all three."""
        for chart in self.query(RateChart):
            chart.show_run(history, span, is_log_steps)
