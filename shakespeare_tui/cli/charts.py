"""The charts that commands print, drawn by plotext."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import plotext
from numpy.typing import NDArray

from shakespeare_tui.chart_axes import Axis, tick_labels
from shakespeare_tui.cli.console import has_colour, print_coloured, shows, terminal_width
from shakespeare_tui.data.inspect.words import WordCounter, thin_ranks
from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.losses import Quantity
from shakespeare_tui.runs.series import TRAIN_LOSS_STEPS
from shakespeare_tui.visible_text import visible

if TYPE_CHECKING:
    from pathlib import Path

    from shakespeare_tui.data.inspect.characters import TextStatistics
    from shakespeare_tui.data.source import TextSource

_ROWS = 18
_COLOURS = (4, 2, 3, 5, 6, 1)
"""Blue first: numbers of the terminal's own palette."""
_BRAILLE = "braille"
_MARKS = "*+x#%&=@"
"""Tell curves apart without colours."""
MOST_CURVES = len(_COLOURS)
_ASCII_FRAME = str.maketrans("─│┌┐└┘├┤┬┴┼", "-|+++++++++")


@dataclass(frozen=True)
class Curve:
    """A named line; what of it is not finite is left out."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def run_curves(path: "Path", quantity: Quantity) -> list[Curve]:
    """A run's training loss, smoothed, and its validation loss, from its log of events.

    Or the perplexities of these, or how accuracy on the validation text went.
    """
    history = _history(path)
    if quantity == "accuracy":
        return [_accuracy(history, "validation")]
    validation = history.series("val_loss").window()
    curves = [
        _training_loss(history, "training, smoothed"),
        Curve("validation", validation.steps.astype(np.float64), validation.values),
    ]
    return [_drawn(curve, quantity) for curve in curves]


def comparable_curve(path: "Path", name: str, quantity: Quantity) -> Curve:
    """The curve by which a run stands beside others: its training loss, smoothed, or accuracy."""
    history = _history(path)
    if quantity == "accuracy":
        return _accuracy(history, name)
    return _drawn(_training_loss(history, name), quantity)


def _drawn(curve: Curve, quantity: Quantity) -> Curve:
    return replace(curve, y=np.exp(curve.y)) if quantity == "perplexity" else curve


def _accuracy(history: RunHistory, name: str) -> Curve:
    window = history.series("accuracy").window()
    return Curve(name, window.steps.astype(np.float64), 100 * window.values)


def _history(path: "Path") -> RunHistory:
    history = RunHistory()
    history.extend(read_events(path))
    return history


def _training_loss(history: RunHistory, name: str) -> Curve:
    window = history.series_window(
        "loss", 1, history.last_step, 2 * terminal_width(), smoothing_steps=TRAIN_LOSS_STEPS
    )
    return Curve(name, window.steps.astype(np.float64), window.values)


_Y_LABELS: dict[Quantity, str] = {
    "loss": "nats per {noun}",
    "perplexity": "perplexity",
    "accuracy": "% of {noun}s foretold",
}


def print_losses(curves: Sequence[Curve], quantity: Quantity, noun: str) -> None:
    """Print curves of losses, perplexities or accuracies over steps; a token is a ``noun``."""
    print_chart(curves, "step", _Y_LABELS[quantity].format(noun=noun))


def print_rank_frequency(source: "TextSource", statistics: "TextStatistics") -> None:
    """Print how often the words and the characters of a corpus occur, by their rank."""
    counter = WordCounter()
    for text in source.iter_text():
        counter.feed(text)
    counts = {"words": counter.snapshot().counts, "characters": np.sort(statistics.counts)[::-1]}
    curves = []
    for name, descending in counts.items():
        ranks, heights = thin_ranks(descending, 2 * terminal_width())
        curves.append(Curve(name, ranks.astype(np.float64), heights.astype(np.float64)))
    print_chart(curves, "rank", "count", is_log=True)


def print_chart(
    curves: Sequence[Curve], x_label: str, y_label: str, *, is_log: bool = False
) -> None:
    """Print curves to stdout, as wide as the terminal; nothing where there is none to draw.

    Without colours a mark of its own tells each curve apart, in ASCII where stdout's encoding
    cannot do better.

    Args:
        curves: At most ``MOST_CURVES``.
        x_label: What runs to the right.
        y_label: What runs up.
        is_log: Both axes are logarithmic.
    """
    drawn = [_finite(curve) for curve in curves]
    drawn = [curve for curve in drawn if len(curve.x)]
    if not drawn:
        return
    is_coloured, is_ascii = has_colour(), not shows("⣿━┼")
    width = terminal_width()
    plotext.clear_figure()
    plotext.limit_size(False, False)
    plotext.plotsize(width, _ROWS)
    plotext.theme("clear")
    legend = []
    for number, curve in enumerate(drawn):
        is_braille = not is_ascii and (is_coloured or number == 0)
        mark = _BRAILLE if is_braille else _MARKS[number]
        plotext.plot(curve.x.tolist(), curve.y.tolist(), marker=mark, color=_COLOURS[number])
        sign = plotext.colorize("━━" if is_braille else mark * 2, _COLOURS[number])
        legend.append(f"{sign} {visible(curve.name)}")
    if is_log:
        plotext.xscale("log")
        plotext.yscale("log")
    x, y = (np.concatenate([getattr(curve, axis) for curve in drawn]) for axis in "xy")
    plotext.xticks(*_ticks(x, width // 12, is_log))
    plotext.yticks(*_ticks(y, _ROWS // 3, is_log))
    plotext.xlabel(x_label)
    plotext.ylabel(y_label)
    # Plotext's own legend would lie on the upper left, where losses and counts begin.
    text = "  ".join(legend) + "\n" + plotext.build()
    if not is_coloured:
        text = plotext.uncolorize(text)
    if is_ascii:
        text = text.translate(_ASCII_FRAME)
    print_coloured("\n".join(line.rstrip() for line in text.splitlines()))


def _finite(curve: Curve) -> Curve:
    is_kept = np.isfinite(curve.y)
    return Curve(curve.name, curve.x[is_kept], curve.y[is_kept])


def _ticks(values: NDArray[np.float64], most: int, is_log: bool) -> tuple[list[float], list[str]]:
    """Round values within those that are drawn, and how they are written."""
    low, high = float(values.min()), float(values.max())
    ticks = [low] if low == high else Axis(low, high, 1, is_log).ticks(most)
    if all(tick.is_integer() for tick in ticks):
        return ticks, [f"{tick:,.0f}" for tick in ticks]
    return ticks, tick_labels(ticks, 6)
