"""The loss chart as a picture: curves, reference lines, axes, marks and the reading cursor."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rich.style import Style

from shakespeare_tui.chart_axes import Axis, tick_labels
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.run_markers import MarkerKind
from shakespeare_tui.runs.series import Window
from shakespeare_tui.ui.widgets.plot import BRAILLE, Canvas, Curve, draw_curves

Role = Literal["raw", "smoothed", "validation", "reference", "axis", "label", "cursor", MarkerKind]
ROLES: tuple[Role, ...] = get_args(Role)

_GUTTER = 6
GRAVEST_FIRST: tuple[MarkerKind, ...] = ("diagnosis", "command", "best", "sample", "checkpoint")
_ROWS_BELOW = 2
_SPIKES_LEFT_OUT = 0.5
_REACH_FOR_REFERENCE = 0.35
_WORSE_THAN_GUESSING = 1.5
"""Losses above this share of blind guessing's tell nothing but that training blew up."""


@dataclass(frozen=True)
class Marks:
    """The characters that a picture is drawn with."""

    raw: str = BRAILLE
    smoothed: str = BRAILLE
    validation: str = "●"
    other_validation: str = "○"
    reference: str = "┄"
    cursor: str = "│"
    overlays: Sequence[str] = (BRAILLE,)
    kinds: Mapping[MarkerKind, str] = field(
        default_factory=lambda: {
            "checkpoint": "◇",
            "best": "◆",
            "sample": "¶",
            "diagnosis": "!",
            "command": "▸",
        }
    )


UTF8 = Marks()
WITHOUT_COLOUR = Marks(raw="·", overlays=tuple("+x#%&=@"))
ASCII = Marks(
    raw=".",
    smoothed="*",
    validation="o",
    other_validation="O",
    reference="-",
    cursor="|",
    overlays=tuple("+x#%&=@"),
    kinds={"checkpoint": "c", "best": "C", "sample": "s", "diagnosis": "!", "command": ">"},
)


@dataclass(frozen=True)
class Overlay:
    """Another run drawn behind the current one."""

    name: str
    history: RunHistory
    style: Style
    mark: str = BRAILLE


@dataclass(frozen=True)
class LossSpec:
    """Everything that a picture depends on.

    Attributes:
        history: The current run.
        span: The first and the last step shown.
        smoothing_steps: Time constant of the smoothed loss, of ``SMOOTHING_STEPS``.
        is_log_steps: Whether equal factors of steps take equal room.
        is_log_loss: Whether equal factors of loss take equal room.
        overlays: Other runs.
        styles: How each part looks.
        marks: The characters to draw with.
    """

    history: RunHistory
    span: tuple[int, int]
    smoothing_steps: int
    is_log_steps: bool = False
    is_log_loss: bool = False
    overlays: Sequence[Overlay] = ()
    styles: Mapping[Role, Style] = field(default_factory=dict)
    marks: Marks = UTF8


@dataclass(frozen=True)
class LossPicture:
    """A drawn chart and its step axis, whose cell 0 is at ``left``."""

    canvas: Canvas
    steps: Axis
    left: int = _GUTTER

    def step_at(self, column: int) -> int:
        """The step in the middle of a column of the picture."""
        return round(self.steps.value(column - self.left + 0.5))

    def steps_beside(self, step: int) -> tuple[int, int]:
        """The first and the last step that share a column with ``step``."""
        cell = self.steps.cell(step)
        first = min(step, math.ceil(self.steps.value(cell)))
        if cell == self.steps.size - 1:
            return first, int(self.steps.high)
        return first, max(step, math.ceil(self.steps.value(cell + 1)) - 1)


def draw_loss(spec: LossSpec, width: int, height: int) -> LossPicture:
    """Draw the chart; ``width`` by ``height`` cells with its axes."""
    columns, rows = max(2, width - _GUTTER), max(2, height - _ROWS_BELOW)
    start, end = spec.span
    steps = Axis(start, max(end, start + 1), columns, spec.is_log_steps)
    windows = _windows(spec, columns)
    losses = _loss_axis(spec, windows, rows)
    canvas = Canvas(width, rows + _ROWS_BELOW)
    plot = draw_curves(_curves(spec, windows, steps, losses), columns, rows)
    canvas.paste(plot, _GUTTER, 0)
    _draw_references(spec, canvas, losses)
    _draw_loss_axis(spec, canvas, losses)
    _draw_step_axis(spec, canvas, steps, rows)
    return LossPicture(canvas, steps)


def with_cursor(picture: LossPicture, spec: LossSpec, cursor: int) -> Canvas:
    """The picture with a line through the step that is read, behind the curves."""
    canvas = picture.canvas.copy()
    column = picture.left + picture.steps.cell(cursor)
    for row in range(canvas.height - _ROWS_BELOW):
        if canvas.characters[row][column] in (" ", spec.marks.reference):
            canvas.write(column, row, spec.marks.cursor, spec.styles.get("cursor"))
    return canvas


# --- what is drawn -------------------------------------------------------------------------------


def _windows(spec: LossSpec, columns: int) -> dict[str, Window]:
    def window(history: RunHistory, name: str, smoothing_steps: int = 1) -> Window:
        return history.series_window(
            name,
            *spec.span,
            columns,
            smoothing_steps=smoothing_steps,
            is_log=spec.is_log_steps,
        )

    windows = {
        f"overlay {overlay.name}": window(overlay.history, "loss", max(spec.smoothing_steps, 25))
        for overlay in spec.overlays
    }
    windows["raw"] = window(spec.history, "loss")
    windows["smoothed"] = window(spec.history, "loss", spec.smoothing_steps)
    windows["validation"] = window(spec.history, "val_loss")
    windows["other validation"] = window(spec.history, "other_val_loss")
    return windows


def _curves(spec: LossSpec, windows: dict[str, Window], steps: Axis, losses: Axis) -> list[Curve]:
    def curve(name: str, style: Style, mark: str, is_line: bool = True) -> Curve:
        window = windows[name]
        x, y = steps.position(window.steps), losses.position(window.values)
        if is_line:
            x, y = _clipped(x, y, steps.size)
        else:
            is_inside = (x >= 0) & (x <= steps.size)
            x, y = x[is_inside], y[is_inside]
        # The very last step is in the last cell, not beyond it.
        return Curve(np.minimum(x, np.nextafter(steps.size, 0)), y, style, mark, is_line)

    marks, styles = spec.marks, spec.styles
    plain = Style()
    curves = []
    if spec.smoothing_steps > 1:
        curves.append(curve("raw", styles.get("raw", plain), marks.raw))
    for overlay in spec.overlays:
        curves.append(curve(f"overlay {overlay.name}", overlay.style, overlay.mark))
    curves.append(curve("smoothed", styles.get("smoothed", plain), marks.smoothed))
    validation = styles.get("validation", plain)
    curves.append(curve("validation", validation, marks.validation, is_line=False))
    curves.append(curve("other validation", validation, marks.other_validation, is_line=False))
    return curves


def _clipped(
    x: NDArray[np.float64], y: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cut a line off at both ends of the axis, where its neighbours lie outside."""
    x, y = x.copy(), y.copy()
    if len(x) >= 2 and x[0] < 0:
        y[0] += (y[1] - y[0]) * (0 - x[0]) / (x[1] - x[0])
        x[0] = 0
    if len(x) >= 2 and x[-1] > size:
        y[-1] += (y[-2] - y[-1]) * (x[-1] - size) / (x[-1] - x[-2])
        x[-1] = size
    return x, y


def _loss_axis(spec: LossSpec, windows: dict[str, Window], rows: int) -> Axis:
    """From the lowest to the highest loss shown; lone spikes of single batches are cut off."""
    firm = [window.values for name, window in windows.items() if name != "raw"]
    raw = windows["raw"].values
    raw = raw[np.isfinite(raw)]
    if len(raw):
        firm.append(np.percentile(raw, [_SPIKES_LEFT_OUT, 100 - _SPIKES_LEFT_OUT]))
    values = np.concatenate(firm)
    values = values[np.isfinite(values)]
    baselines = spec.history.baselines.values()
    if len(values) == 0:
        highest = max(baselines, default=4.0)
        return Axis.covering(
            0.5 if spec.is_log_loss else 0.0, highest, rows, is_log=spec.is_log_loss
        )
    if spec.is_log_loss and (values > 0).any():
        # What is zero lies at the lower end, wherever that is.
        values = values[values > 0]
    low, high = float(values.min()), float(values.max())
    vocab_size = spec.history.vocab_size
    worst = _WORSE_THAN_GUESSING * math.log(vocab_size) if vocab_size > 1 else math.inf
    if high > worst > np.median(values):
        # What blew up leaves the chart at the top; the rest stays legible.
        high = worst
    # The reference line that will be reached next is worth some room.
    axis = Axis.covering(low, high, rows, is_log=spec.is_log_loss)
    below = [
        loss for loss in baselines if loss < low and axis.shortfall(loss) < _REACH_FOR_REFERENCE
    ]
    low = max(below, default=low)
    return Axis.covering(low, high, rows, is_log=spec.is_log_loss)


# --- what stands around it -----------------------------------------------------------------------


def _draw_references(spec: LossSpec, canvas: Canvas, losses: Axis) -> None:
    style = spec.styles.get("reference")
    label_style = spec.styles.get("label")
    width = canvas.width - _GUTTER
    taken: set[int] = set()
    for name, loss in sorted(spec.history.baselines.items(), key=lambda item: item[1]):
        if not losses.low <= loss <= losses.high:
            continue
        row = losses.size - 1 - losses.cell(loss)
        label = f" {name} {loss:.2f} "
        if row in taken:
            continue
        taken.add(row)
        places = (canvas.width - len(label) - 1, _GUTTER + width // 3, _GUTTER + 1)
        free = [column for column in places if canvas.is_blank(column, row, len(label))]
        canvas.write_behind(_GUTTER, row, spec.marks.reference * width, style)
        if free:
            canvas.write(free[0], row, label, label_style)


def _draw_loss_axis(spec: LossSpec, canvas: Canvas, losses: Axis) -> None:
    axis, label = spec.styles.get("axis"), spec.styles.get("label")
    for row in range(losses.size):
        canvas.write(_GUTTER - 1, row, "│", axis)
    ticks = losses.ticks(max(2, losses.size // 2 if losses.size < 12 else losses.size // 3))
    texts = tick_labels(ticks, _GUTTER - 1)
    right = max(_GUTTER - 2, *map(len, texts))
    for tick, text, below in zip(ticks, texts, ["", *texts], strict=False):
        row = losses.size - 1 - losses.cell(tick)
        if text != below:
            canvas.write(right - len(text), row, text, label)
        canvas.write(_GUTTER - 1, row, "┤", axis)


def _draw_step_axis(spec: LossSpec, canvas: Canvas, steps: Axis, rows: int) -> None:
    axis, label = spec.styles.get("axis"), spec.styles.get("label")
    canvas.write(_GUTTER - 1, rows, "└" + "─" * steps.size, axis)
    for tick in steps.ticks(max(2, steps.size // 14)):
        # A chart that begins at step 1 has its first tick there, not at an imagined step 0.
        step = max(round(tick), 1)
        column = _GUTTER + steps.cell(step)
        canvas.write(column, rows, "┬", axis)
        text = f"{step:,}"
        left = min(max(column - len(text) // 2, 0), canvas.width - len(text))
        if canvas.is_blank(max(0, left - 1), rows + 1, len(text)):
            canvas.write(left, rows + 1, text, label)
    for cell, kind in _gravest_in_cells(spec, steps).items():
        canvas.write(_GUTTER + cell, rows, spec.marks.kinds[kind], spec.styles.get(kind))


def _gravest_in_cells(spec: LossSpec, steps: Axis) -> dict[int, MarkerKind]:
    """Where there are marks, and the gravest of each place."""
    shown = [m for m in spec.history.markers if spec.span[0] <= max(1, m.step) <= spec.span[1]]
    positions = steps.position([max(1, marker.step) for marker in shown])
    cells = np.clip(np.floor(positions), 0, steps.size - 1).astype(int).tolist()
    gravest: dict[int, MarkerKind] = {}
    for cell, marker in zip(cells, shown, strict=True):
        before = gravest.get(cell, marker.kind)
        gravest[cell] = min(before, marker.kind, key=GRAVEST_FIRST.index)
    return gravest
