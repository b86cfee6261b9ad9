"""The loss chart as a widget: zoom, pan, reading cursor, axes, smoothing, other runs."""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from shakespeare_tui.chart_axes import Axis, tick_labels
from shakespeare_tui.formatting import (
    format_accuracy,
    format_count,
    format_duration,
    format_loss,
    format_rate,
)
from shakespeare_tui.runs.figures import run_figures, tokens_a_step
from shakespeare_tui.runs.history import MarkerKind, RunHistory
from shakespeare_tui.runs.losses import (
    BITS_PER_BYTE,
    EXACT,
    QUANTITIES,
    Quantity,
    differ_in_tokenizer,
)
from shakespeare_tui.runs.series import SMOOTHING_STEPS, TRAIN_LOSS_STEPS, Window
from shakespeare_tui.ui.widgets.plot import BRAILLE, Canvas, Chart, Curve, draw_curves, part_style

Along = Literal["steps", "tokens", "time"]
"""What the chart runs along: steps, tokens learned from, or training time."""
ALONGS: tuple[Along, ...] = get_args(Along)
_MILLISECONDS = 1000.0


def places_of(history: RunHistory, along: Along, steps: ArrayLike) -> NDArray[np.float64]:
    """Where steps of a run lie: as such, in tokens, or in milliseconds; NaN where nothing tells."""
    at = np.asarray(steps, np.float64)
    if along == "tokens":
        return at * (tokens_a_step(history) or math.nan)
    if along == "time":
        known, seconds = _clock(history)
        return _MILLISECONDS * np.interp(at, known, seconds)
    return at


def step_at(history: RunHistory, along: Along, place: float) -> int:
    """The step of a run at a place; one more than its last beyond the end of its time."""
    if along == "tokens":
        a_step = tokens_a_step(history)
        return round(place / a_step) if a_step else history.last_step + 1
    if along == "time":
        known, seconds = _clock(history)
        at = place / _MILLISECONDS
        is_beyond = at > seconds[-1] + 1 / _MILLISECONDS
        return history.last_step + 1 if is_beyond else round(float(np.interp(at, seconds, known)))
    return round(place)


def _clock(history: RunHistory) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and the seconds of training at each, from the beginning on."""
    window = history.series("elapsed_seconds").window()
    is_known = np.isfinite(window.values)
    steps = np.concatenate([[0.0], window.steps[is_known].astype(np.float64)])
    return steps, np.concatenate([[0.0], window.values[is_known]])


def last_place(history: RunHistory, along: Along, *, is_whole: bool = False) -> int:
    """Where a run has come to; with ``is_whole`` where it will end, as far as that is known."""
    place = float(places_of(history, along, history.last_step))
    if is_whole and history.started is not None:
        share = run_figures(history).share
        if along == "steps" and history.planned_minutes is None and history.planned_steps:
            place = max(place, float(history.planned_steps))
        elif share and share < 1:
            place /= share
    return round(place) if math.isfinite(place) else 0


_FEWEST_STEPS = 10


@dataclass(frozen=True)
class Viewport:
    """A span of steps, or of other places along the axis.

    Attributes:
        width: How many steps are shown; None is all.
        end: The last step shown; None follows the run.
    """

    width: int | None = None
    end: int | None = None

    def span(self, last_step: int) -> tuple[int, int]:
        """The first and the last step to show of a run that has come to ``last_step``."""
        last_step = max(last_step, _FEWEST_STEPS)
        if self.width is None:
            return 1, last_step
        end = min(self.end or last_step, last_step)
        start = max(1, end - self.width + 1)
        return start, max(end, start + _FEWEST_STEPS - 1)

    def zoomed(self, factor: float, centre: int | None, last_step: int) -> "Viewport":
        """Show ``factor`` times as many steps around ``centre``, or at the run's end."""
        start, end = self.span(last_step)
        width = round((end - start + 1) * factor)
        if width >= max(last_step, _FEWEST_STEPS):
            return Viewport()
        width = max(width, _FEWEST_STEPS)
        if centre is None:
            return replace(self, width=width)
        # What is under the cursor stays under the cursor.
        share = (centre - start) / max(1, end - start)
        new_end = min(last_step, max(width, round(centre + (1 - share) * (width - 1))))
        return Viewport(width, None if new_end >= last_step else new_end)

    def panned(self, share: float, last_step: int) -> "Viewport":
        """Move by a share of the width; at the run's end, follow it again."""
        if self.width is None:
            return self
        _, end = self.span(last_step)
        new_end = max(self.width, round(end + share * self.width))
        return Viewport(self.width, None if new_end >= last_step else new_end)

    def showing(self, step: int, last_step: int) -> "Viewport":
        """Moved as little as needed for ``step`` to be seen."""
        start, end = self.span(last_step)
        if self.width is None or start <= step <= end:
            return self
        new_end = step if step > end else step + self.width - 1
        return Viewport(self.width, None if new_end >= last_step else new_end)


Values = NDArray[np.float64]
Role = Literal["raw", "smoothed", "validation", "reference", "axis", "label", "cursor", MarkerKind]
ROLES: tuple[Role, ...] = get_args(Role)

GUTTER = 6
"""Columns left of the first step."""
GRAVEST_FIRST: tuple[MarkerKind, ...] = ("diagnosis", "command", "best", "sample", "checkpoint")
_ROWS_BELOW = 2
_SPIKES_LEFT_OUT = 0.5
_REACH_FOR_REFERENCE = 0.35
_WORSE_THAN_GUESSING = 1.5
"""Losses above this share of blind guessing's tell nothing but that training blew up."""
_LARGEST_EXPONENT = 700.0


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
        span: The first and the last place shown, steps as a rule.
        along: What the axis is of.
        smoothing_steps: Time constant of the smoothed loss, of ``SMOOTHING_STEPS``.
        is_log_steps: Whether equal factors of steps take equal room.
        quantity: What is drawn over the steps.
        is_log_loss: Whether equal factors of loss, or of perplexity, take equal room.
        overlays: Other runs.
        reference: The one of them that others are measured against; empty where there is none.
        styles: How each part looks.
        marks: The characters to draw with.
    """

    history: RunHistory
    span: tuple[int, int]
    smoothing_steps: int
    quantity: Quantity = "loss"
    is_log_steps: bool = False
    is_log_loss: bool = False
    overlays: Sequence[Overlay] = ()
    along: Along = "steps"
    reference: str = ""
    styles: Mapping[Role, Style] = field(default_factory=dict)
    marks: Marks = UTF8

    @property
    def is_per_byte(self) -> bool:
        """Whether losses are in bits per byte, as those per token would not compare."""
        units = [self.history.unit, *(overlay.history.unit for overlay in self.overlays)]
        return differ_in_tokenizer(units) and self.history.unit.bytes_per_token is not None

    @property
    def is_log(self) -> bool:
        """Whether the axis of what is drawn is logarithmic; a share of tokens has no need of it."""
        return self.is_log_loss and self.quantity != "accuracy"

    @property
    def unit(self) -> str:
        """What is drawn; empty where it is the loss in nats per character, each a token."""
        if self.quantity == "accuracy":
            return "accuracy in %"
        if self.quantity == "perplexity":
            return "perplexity per byte" if self.is_per_byte else "perplexity"
        if self.is_per_byte:
            return BITS_PER_BYTE
        by_token = f"nats per {self.history.token_noun}"
        return by_token if self.history.characters_per_token != 1 else ""

    def shown(self, history: RunHistory, values: Values) -> Values:
        """Losses in nats, or accuracies, of a run as they are drawn; NaN where none compare."""
        is_other = differ_in_tokenizer([self.history.unit, history.unit])
        if self.quantity == "accuracy":
            return 100 * values if not is_other else np.full_like(values, np.nan)
        if self.is_per_byte:
            values = values / (history.unit.bytes_per_token or math.nan)
        elif is_other:
            values = np.full_like(values, np.nan)
        if self.quantity == "perplexity":
            return np.exp(np.minimum(values, _LARGEST_EXPONENT))
        return values / math.log(2) if self.is_per_byte else values


@dataclass(frozen=True)
class LossPicture:
    """A drawn chart and its axis of steps, or other places, whose cell 0 is at ``left``."""

    canvas: Canvas
    steps: Axis
    left: int = GUTTER

    def place_at(self, column: int) -> int:
        """The place in the middle of a column of the picture."""
        return round(self.steps.value(column - self.left + 0.5))

    def places_beside(self, place: int) -> tuple[int, int]:
        """The first and the last place that share a column with ``place``."""
        cell = self.steps.cell(place)
        first = min(place, math.ceil(self.steps.value(cell)))
        if cell == self.steps.size - 1:
            return first, int(self.steps.high)
        return first, max(place, math.ceil(self.steps.value(cell + 1)) - 1)


def draw_loss(spec: LossSpec, width: int, height: int) -> LossPicture:
    """Draw the chart; ``width`` by ``height`` cells with its axes."""
    columns, rows = max(2, width - GUTTER), max(2, height - _ROWS_BELOW)
    start, end = spec.span
    steps = Axis(start, max(end, start + 1), columns, spec.is_log_steps)
    windows = _windows(spec, columns)
    losses = _loss_axis(spec, windows, rows)
    canvas = Canvas(width, rows + _ROWS_BELOW)
    plot = draw_curves(_curves(spec, windows, steps, losses), columns, rows)
    canvas.paste(plot, GUTTER, 0)
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
    """What is drawn, by the names of the curves; accuracy is not measured at each step."""

    def window(history: RunHistory, name: str, smoothing_steps: int = 1) -> Window:
        found = history.series_window(
            name,
            *_steps_of(spec, history),
            columns,
            smoothing_steps=smoothing_steps,
            is_log=spec.is_log_steps,
        )
        values = spec.shown(history, found.values)
        if spec.along == "steps":
            return replace(found, values=values)
        places = places_of(history, spec.along, found.steps)
        is_known = np.isfinite(places)
        return Window(np.rint(places[is_known]).astype(np.int64), values[is_known])

    if spec.quantity == "accuracy":
        return {
            f"overlay {overlay.name}": window(overlay.history, "accuracy")
            for overlay in spec.overlays
        } | {
            "smoothed": window(spec.history, "accuracy"),
            "validation": window(spec.history, "accuracy"),
            "other validation": window(spec.history, "other_accuracy"),
        }
    windows = {
        f"overlay {overlay.name}": window(overlay.history, "loss", max(spec.smoothing_steps, 25))
        for overlay in spec.overlays
    }
    windows["raw"] = window(spec.history, "loss")
    windows["smoothed"] = window(spec.history, "loss", spec.smoothing_steps)
    windows["validation"] = window(spec.history, "val_loss")
    windows["other validation"] = window(spec.history, "other_val_loss")
    return windows


def _steps_of(spec: LossSpec, history: RunHistory) -> tuple[int, int]:
    """The steps of a run that lie in the picture."""
    if spec.along == "steps" or not history.last_step:
        return spec.span
    if spec.along == "tokens" and tokens_a_step(history) is None:
        return 1, 1
    first, last = (step_at(history, spec.along, place) for place in spec.span)
    return max(1, first - 1), max(2, last + 1)


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
    if "raw" in windows and spec.smoothing_steps > 1:
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
    raw = windows["raw"].values if "raw" in windows else np.empty(0)
    raw = raw[np.isfinite(raw)]
    if len(raw):
        firm.append(np.percentile(raw, [_SPIKES_LEFT_OUT, 100 - _SPIKES_LEFT_OUT]))
    values = np.concatenate(firm)
    values = values[np.isfinite(values)]
    baselines = list(_references(spec).values())
    if len(values) == 0:
        highest = max(baselines, default=100.0 if spec.quantity == "accuracy" else 4.0)
        return Axis.covering(0.5 if spec.is_log else 0.0, highest, rows, is_log=spec.is_log)
    if spec.is_log and (values > 0).any():
        # What is zero lies at the lower end, wherever that is.
        values = values[values > 0]
    low, high = float(values.min()), float(values.max())
    vocab_size = spec.history.vocab_size
    worst = math.inf
    if vocab_size > 1 and spec.quantity != "accuracy":
        guessing = np.array([_WORSE_THAN_GUESSING * math.log(vocab_size)])
        worst = float(spec.shown(spec.history, guessing)[0])
    if high > worst > np.median(values):
        # What blew up leaves the chart at the top; the rest stays legible.
        high = worst
    # The reference line that will be reached next is worth some room.
    axis = Axis.covering(low, high, rows, is_log=spec.is_log)
    below = [
        loss for loss in baselines if loss < low and axis.shortfall(loss) < _REACH_FOR_REFERENCE
    ]
    low = max(below, default=low)
    return Axis.covering(low, high, rows, is_log=spec.is_log)


def _references(spec: LossSpec) -> dict[str, float]:
    """The n-gram models' losses as they are drawn, by name; their accuracies are not known."""
    if spec.quantity == "accuracy":
        return {}
    baselines = spec.history.baselines
    shown = spec.shown(spec.history, np.array([*baselines.values()], np.float64))
    return dict(zip(baselines, shown.tolist(), strict=True))


# --- what stands around it -----------------------------------------------------------------------


def _draw_references(spec: LossSpec, canvas: Canvas, losses: Axis) -> None:
    style = spec.styles.get("reference")
    label_style = spec.styles.get("label")
    width = canvas.width - GUTTER
    taken: set[int] = set()
    for name, loss in sorted(_references(spec).items(), key=lambda item: item[1]):
        if not losses.low <= loss <= losses.high:
            continue
        row = losses.size - 1 - losses.cell(loss)
        label = f" {name} {loss:.2f} "
        if row in taken:
            continue
        taken.add(row)
        places = (canvas.width - len(label) - 1, GUTTER + width // 3, GUTTER + 1)
        free = [column for column in places if canvas.is_blank(column, row, len(label))]
        canvas.write_behind(GUTTER, row, spec.marks.reference * width, style)
        if free:
            canvas.write(free[0], row, label, label_style)


def _draw_loss_axis(spec: LossSpec, canvas: Canvas, losses: Axis) -> None:
    axis, label = spec.styles.get("axis"), spec.styles.get("label")
    for row in range(losses.size):
        canvas.write(GUTTER - 1, row, "│", axis)
    ticks = losses.ticks(max(2, losses.size // 2 if losses.size < 12 else losses.size // 3))
    texts = tick_labels(ticks, GUTTER - 1)
    right = max(GUTTER - 2, *map(len, texts))
    for tick, text, below in zip(ticks, texts, ["", *texts], strict=False):
        row = losses.size - 1 - losses.cell(tick)
        if text != below:
            canvas.write(right - len(text), row, text, label)
        canvas.write(GUTTER - 1, row, "┤", axis)


def _draw_step_axis(spec: LossSpec, canvas: Canvas, steps: Axis, rows: int) -> None:
    axis, label = spec.styles.get("axis"), spec.styles.get("label")
    canvas.write(GUTTER - 1, rows, "└" + "─" * steps.size, axis)
    for column in write_steps(canvas, steps, rows + 1, label, spec.along):
        canvas.write(column, rows, "┬", axis)
    for cell, kind in _gravest_in_cells(spec, steps).items():
        canvas.write(GUTTER + cell, rows, spec.marks.kinds[kind], spec.styles.get(kind))


def write_steps(
    canvas: Canvas, steps: Axis, row: int, style: Style | None, along: Along = "steps"
) -> list[int]:
    """Write round places into a row, as far as there is room; the columns where they lie."""
    columns = []
    most = max(2, steps.size // 14)
    for tick in _time_ticks(steps, most) if along == "time" else steps.ticks(most):
        # A chart that begins at step 1 has its first tick there, not at an imagined step 0.
        step = max(round(tick), 1)
        column = GUTTER + steps.cell(step)
        columns.append(column)
        text = place_text(along, step, is_short=True)
        left = min(max(column - len(text) // 2, 0), canvas.width - len(text))
        if canvas.is_blank(max(0, left - 1), row, len(text)):
            canvas.write(left, row, text, style)
    return columns


_ROUND_SECONDS = (
    *(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800),
    *(3600, 7200, 10_800, 21_600, 43_200, 86_400),
)


def _time_ticks(axis: Axis, most: int) -> list[float]:
    """Round times in milliseconds, as a clock has them where the axis is linear."""
    for seconds in () if axis.is_log else _ROUND_SECONDS:
        distance = seconds * _MILLISECONDS
        first, last = math.ceil(axis.low / distance), math.floor(axis.high / distance)
        if 1 <= last - first < most:
            return [n * distance for n in range(first, last + 1)]
    return axis.ticks(most)


def place_text(along: Along, place: float, *, is_short: bool = False) -> str:
    """A place as a person reads it: ``1,200``, ``1.23M`` tokens or ``2m 05s``."""
    if along == "time":
        seconds = place / _MILLISECONDS
        if seconds < 1:
            return "0s" if is_short and place <= 1 else f"{seconds:.2g}s"
        text = format_duration(seconds)
        return text.removesuffix(" 00s").removesuffix(" 00m") if is_short else text
    if along == "tokens" and place >= 10_000:
        if not is_short:
            return format_count(place)
        scale, letter = (1e9, "B") if place >= 1e9 else (1e6, "M") if place >= 1e6 else (1e3, "K")
        return f"{place / scale:g}{letter}"
    return f"{place:,.0f}"


def _gravest_in_cells(spec: LossSpec, steps: Axis) -> dict[int, MarkerKind]:
    """Where there are marks, and the gravest of each place."""
    markers = list(spec.history.markers)
    places = places_of(spec.history, spec.along, [max(1, marker.step) for marker in markers])
    is_shown = (places >= spec.span[0]) & (places <= spec.span[1])
    shown = [marker for marker, is_inside in zip(markers, is_shown, strict=True) if is_inside]
    positions = steps.position(places[is_shown])
    cells = np.clip(np.floor(positions), 0, steps.size - 1).astype(int).tolist()
    gravest: dict[int, MarkerKind] = {}
    for cell, marker in zip(cells, shown, strict=True):
        before = gravest.get(cell, marker.kind)
        gravest[cell] = min(before, marker.kind, key=GRAVEST_FIRST.index)
    return gravest


Part = tuple[str, Style | None]
_SEPARATOR = "   "
_SHORTEST_CUT = 12


def legend(spec: LossSpec) -> list[list[Part]]:
    """What each curve and mark means, the most important first."""
    styles, marks = spec.styles, spec.marks
    label = styles.get("label")
    line = "━" if marks.smoothed == BRAILLE else marks.smoothed
    faint = "─" if marks.raw == BRAILLE else marks.raw
    train = "train" if spec.smoothing_steps == 1 else f"train, mean of {spec.smoothing_steps}"
    groups: list[list[Part]] = []
    if spec.along != "steps":
        groups.append([(f"over {spec.along}", Style(bold=True))])
    if spec.unit:
        groups.append([(spec.unit, Style(bold=True))])
    if spec.quantity != "accuracy":
        groups.append([(f"{line} ", styles.get("smoothed")), (train, label)])
        if spec.smoothing_steps > 1:
            groups.append([(f"{faint} ", styles.get("raw")), ("each step", label)])
    groups.append([(f"{marks.validation} ", styles.get("validation")), ("validation", label)])
    for overlay in spec.overlays:
        mark = "━" if overlay.mark == BRAILLE else overlay.mark
        name = f"{overlay.name} (reference)" if overlay.name == spec.reference else overlay.name
        groups.append([(f"{mark} ", overlay.style), (name, label)])
    present = {marker.kind for marker in spec.history.markers}
    for kind, name in (
        ("best", "best"),
        ("checkpoint", "checkpoint"),
        ("sample", "sample"),
        ("diagnosis", "doctor"),
        ("command", "command"),
    ):
        if kind in present:
            groups.append([(f"{marks.kinds[kind]} ", styles.get(kind)), (name, label)])
    return groups


def reading(spec: LossSpec, place: int, first: int, last: int) -> list[list[Part]]:
    """The values at ``place``, and what happened from ``first`` to ``last``.

    Args:
        spec: The chart.
        place: The step, or other place, under the cursor.
        first: The first place of the cursor's column.
        last: The last place of it.
    """
    history, styles, label = spec.history, spec.styles, spec.styles.get("label")
    bold = Style(bold=True)
    step, first_step, last_step = (step_at(history, spec.along, at) for at in (place, first, last))
    groups: list[list[Part]] = [[("step ", label), (f"{step:,}", bold)]]
    if spec.along != "steps":
        groups.insert(0, [(place_text(spec.along, place), bold)])

    def add(name: str, text: str | None, style: Style | None) -> None:
        if text is not None:
            groups.append([(f"{name} ", label), (text, style)])

    stands_for = "" if history.usual_protocol == EXACT else "~"
    if spec.quantity != "accuracy":
        add("batch", _value(spec, history, "loss", step, 1), bold)
        if spec.smoothing_steps > 1:
            smoothed = _value(spec, history, "loss", step, spec.smoothing_steps)
            add("mean", smoothed, styles.get("smoothed"))
        val = _value(spec, history, "val_loss", step, 1)
        add("val", val and f"{stands_for}{val}", styles.get("validation"))
    foretold = _last_number(history.series("accuracy").window(0, step))
    accuracy = None if foretold is None else f"{stands_for}{format_accuracy(foretold)}"
    if spec.quantity == "accuracy":
        add("accuracy", accuracy, styles.get("validation"))
    happened = {
        (marker.kind, marker.text): None
        for kind in GRAVEST_FIRST
        for marker in history.markers
        if marker.kind == kind and first_step <= max(1, marker.step) <= last_step
    }
    for kind, text in happened:
        groups.append([(f"{spec.marks.kinds[kind]} ", styles.get(kind)), (text, None)])
    for overlay in spec.overlays:
        series = "accuracy" if spec.quantity == "accuracy" else "loss"
        at = step_at(overlay.history, spec.along, place) if overlay.history.last_step else step
        value = _value(spec, overlay.history, series, at, max(25, spec.smoothing_steps))
        if value is not None and overlay.name == spec.reference:
            ours = _value(spec, history, series, step, max(25, spec.smoothing_steps))
            value += _above(ours, value)
        add(overlay.name, value, overlay.style)
    rates = history.series("learning_rate").window(0, step).values
    if len(rates) and math.isfinite(rates[-1]) and rates[-1] > 0:
        add("LR", format_rate(float(rates[-1]), 2), None)
    if spec.quantity != "accuracy":
        # Last, for it is the first to be cut off: it stands among the figures, too.
        add("accuracy", accuracy, styles.get("validation"))
    return groups


def _value(
    spec: LossSpec, history: RunHistory, name: str, step: int, smoothing_steps: int
) -> str | None:
    """The value at ``step`` or the last one before it; None where there is none."""
    if name == "loss":
        window = history.smoothed_loss(smoothing_steps).window(0, step)
    else:
        window = history.series(name).window(0, step)
    value = _last_number(replace(window, values=spec.shown(history, window.values)))
    if value is None or (name == "loss" and step > history.last_step):
        return None
    if spec.quantity == "accuracy":
        return format_accuracy(value / 100)
    return f"{value:.2f}" if spec.quantity == "perplexity" else format_loss(value)


def _above(ours: str | None, theirs: str) -> str:
    """How far one value lies above another, as ``(+0.0312)``; in per cent of tokens for shares."""
    if ours is None:
        return ""
    digits = len(theirs.removesuffix("%").partition(".")[2])
    distance = float(ours.removesuffix("%")) - float(theirs.removesuffix("%"))
    return f" ({distance:+.{digits}f})"


def _last_number(window: Window) -> float | None:
    finite = np.flatnonzero(np.isfinite(window.values))
    return float(window.values[finite[-1]]) if len(finite) else None


def write_line(canvas: Canvas, groups: Sequence[Sequence[Part]], start: int = 0) -> None:
    """Write groups into the first row; the one that meets its end is cut off."""
    column = start
    for group in groups:
        length = sum(len(text) for text, _ in group)
        is_cut = column + length > canvas.width
        if is_cut and canvas.width - column < _SHORTEST_CUT:
            return
        for text, style in group:
            canvas.write(column, 0, text, style)
            column += len(text)
        if is_cut:
            canvas.write(canvas.width - 1, 0, "…", group[-1][1])
            return
        column += len(_SEPARATOR)


_PAN_SHARE = 0.25
_FIRST_OVERLAY_COLOUR = 2
"""The first two series colours are close to those of the current run."""


class LossChart(Chart, can_focus=True):
    """The curves of the run that is shown, with the runs laid behind it."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"loss-chart--{role}" for role in ROLES}
    DEFAULT_CSS: ClassVar[str] = """
    LossChart {
        height: 1fr;
        min-height: 6;
    }
    LossChart > .loss-chart--raw { color: $accent 50%; }
    LossChart > .loss-chart--smoothed { color: $accent; text-style: bold; }
    LossChart > .loss-chart--validation { color: $warning; text-style: bold; }
    LossChart > .loss-chart--reference { color: $text-muted 45%; }
    LossChart > .loss-chart--axis { color: $text-muted 55%; }
    LossChart:focus > .loss-chart--axis { color: $accent; }
    LossChart > .loss-chart--label { color: $text-muted; }
    LossChart > .loss-chart--cursor { color: $foreground; }
    LossChart > .loss-chart--checkpoint { color: $success; }
    LossChart > .loss-chart--best { color: $success; text-style: bold; }
    LossChart > .loss-chart--sample { color: $accent; }
    LossChart > .loss-chart--diagnosis { color: $error; text-style: bold; }
    LossChart > .loss-chart--command { color: $foreground; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move_cursor(-1)", "Read", key_display="←→", id="chart.left"),
        Binding("right", "move_cursor(1)", "Read to the right", show=False, id="chart.right"),
        Binding("up", "zoom(0.5)", "Zoom in", show=False, id="chart.zoom_in"),
        Binding("down", "zoom(2.0)", "Zoom out", show=False, id="chart.zoom_out"),
        Binding("shift+left", "pan(-1)", "Previous", show=False, id="chart.earlier"),
        Binding("shift+right", "pan(1)", "Later", show=False, id="chart.later"),
        Binding("pageup", "move_cursor(-10)", "Read ten back", show=False, id="chart.page_left"),
        Binding("pagedown", "move_cursor(10)", "Read ten on", show=False, id="chart.page_right"),
        Binding("home", "cursor_to_end(False)", "Read the first", show=False, id="chart.first"),
        Binding("end", "cursor_to_end(True)", "Read the last", show=False, id="chart.last"),
        Binding("escape", "hide_cursor", "Stop reading", show=False, id="chart.escape"),
    ]

    class SpanChanged(Message):
        """Other steps are shown now."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.history = RunHistory()
        self.overlays: Mapping[str, RunHistory] = {}
        self.names: Sequence[str] | None = None
        """Names that keep a colour of their own; None gives one to the overlays alone."""
        self.reference = ""
        self._along: Along = ALONGS[0]
        self.is_whole = False
        """Whether the axis reaches to where the runs will end."""
        self.quantity: Quantity = QUANTITIES[0]
        self.smoothing_steps = TRAIN_LOSS_STEPS
        self.is_log_steps = False
        self.is_log_loss = False
        self.viewport = Viewport()
        self.cursor: int | None = None
        self._has_steps = False
        self._picture: LossPicture | None = None
        self._drawn: object = None

    # --- what is shown -------------------------------------------------------------------------

    @property
    def last_step(self) -> int:
        """The last step of all runs in the chart."""
        steps = [history.last_step for history in self.overlays.values()]
        return max([self.history.last_step, *steps])

    @property
    def along(self) -> Along:
        """What the axis is of; steps where the run does not tell how many tokens it has seen."""
        is_unknown = self._along == "tokens" and tokens_a_step(self.history) is None
        return "steps" if is_unknown else self._along

    @property
    def last_place(self) -> int:
        """The end of the axis: where the runs have come to, or will."""
        runs = [self.history, *self.overlays.values()]
        return max(last_place(run, self.along, is_whole=self.is_whole) for run in runs)

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last step, or other place, shown."""
        return self.viewport.span(self.last_place)

    @property
    def step_span(self) -> tuple[int, int]:
        """The first and the last step of the current run that are shown."""
        start, end = self.span
        if self.along == "steps" or not self.history.last_step:
            return start, end
        first, last = (step_at(self.history, self.along, place) for place in (start, end))
        return max(1, first), max(2, last)

    def show_run(self, history: RunHistory, *, keeps_view: bool = False) -> None:
        """Show a run; drawn anew if it is another one or has news.

        Args:
            history: The run.
            keeps_view: Whether another run is shown over the same steps as the one before.
        """
        if history is not self.history:
            self.history = history
            if not keeps_view:
                self.cursor, self.viewport = None, Viewport()
            self.redraw()
        elif self._state() != self._drawn:
            self.redraw()
        if self._has_steps != (self.last_step > 0):
            self._has_steps = self.last_step > 0
            self.refresh_bindings()

    def show_overlays(
        self,
        overlays: Mapping[str, RunHistory],
        *,
        names: Sequence[str] | None = None,
        reference: str = "",
    ) -> None:
        """Lay other runs behind the current one.

        Args:
            overlays: The runs by name.
            names: All names that may be among them, so that each keeps its colour.
            reference: The one that the others are measured against.
        """
        self.overlays, self.names, self.reference = dict(overlays), names, reference
        self.redraw()

    def colour_of(self, name: str) -> str:
        """The colour of a run's curve, as ``#rrggbb``."""
        slot = self._slots().get(name)
        return "" if slot is None else self._series_colours[slot]

    @property
    def _series_colours(self) -> Sequence[str]:
        colours: Sequence[str] = getattr(self.app, "series_colors", ("#888888",) * 3)
        return colours[_FIRST_OVERLAY_COLOUR:]

    def _slots(self) -> dict[str, int]:
        names = list(self.overlays) if self.names is None else list(self.names)
        return dict(zip(names, stable_slots(names, len(self._series_colours)), strict=True))

    def forget(self) -> None:
        """Let go of the curves too, not only of what is written over them."""
        super().forget()
        self._picture = None

    def _state(self) -> object:
        revisions = [history.revision for history in self.overlays.values()]
        return (self.history.revision, revisions)

    # --- drawing -------------------------------------------------------------------------------

    def on_focus(self) -> None:
        """The axes tell that the arrows move here."""
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()

    def draw(self) -> Canvas:
        """The picture below a line that tells what is what, or what the cursor reads."""
        width, height = self.size
        spec = self._spec()
        if self._picture is None:
            self._drawn = self._state()
            self._picture = draw_loss(spec, width, height - 1)
        canvas = Canvas(width, height)
        if self.cursor is None:
            canvas.paste(self._picture.canvas, 0, 1)
            write_line(canvas, legend(spec), start=1)
        else:
            canvas.paste(with_cursor(self._picture, spec, self.cursor), 0, 1)
            beside = self._picture.places_beside(self.cursor)
            write_line(canvas, reading(spec, self.cursor, *beside), start=1)
        return canvas

    def _spec(self) -> LossSpec:
        marks = self._marks()
        styles: dict[Role, Style] = {
            role: part_style(self, f"loss-chart--{role}") for role in ROLES
        }
        return LossSpec(
            history=self.history,
            span=self.span,
            quantity=self.quantity,
            smoothing_steps=self.smoothing_steps,
            is_log_steps=self.is_log_steps,
            is_log_loss=self.is_log_loss,
            overlays=self._styled_overlays(marks),
            along=self.along,
            reference=self.reference,
            styles=styles,
            marks=marks,
        )

    def _marks(self) -> Marks:
        if getattr(self.app, "ascii", False):
            return ASCII
        return WITHOUT_COLOUR if self.app.no_color else UTF8

    def _styled_overlays(self, marks: Marks) -> list[Overlay]:
        colours, slots = self._series_colours, self._slots()
        return [
            Overlay(
                name,
                history,
                Style(color=colours[slots[name]], bold=name == self.reference),
                marks.overlays[slots[name] % len(marks.overlays)],
            )
            for name, history in self.overlays.items()
        ]

    # --- reading -------------------------------------------------------------------------------

    def action_move_cursor(self, columns: int) -> None:
        """Read the values some columns further; the first press reads the last step."""
        start, end = self.span
        history, along = self.history, self.along
        if self.cursor is None:
            self._read(min(end, last_place(history, along) or end))
            return
        picture = self._picture
        if picture is None:
            return
        column = picture.left + picture.steps.cell(self.cursor) + columns
        step, here = (step_at(history, along, p) for p in (picture.place_at(column), self.cursor))
        # Zoomed in, a step is wider than a column.
        step = max(step, here + 1) if columns > 0 else min(step, here - 1)
        place = round(float(places_of(history, along, max(step, 1))))
        self._read(min(max(place, 1), self._readable))

    @property
    def _readable(self) -> int:
        """The last place where any run has something to read."""
        runs = [self.history, *self.overlays.values()]
        return max(last_place(run, self.along) for run in runs)

    def action_cursor_to_end(self, is_last: bool) -> None:
        """Read the first or the last step shown."""
        self._read(self.span[1] if is_last else self.span[0])

    def action_hide_cursor(self) -> None:
        """Show the legend again."""
        self.cursor, self._strips = None, None
        self.refresh()

    def _read(self, step: int) -> None:
        self.cursor, self._strips = step, None
        moved = self.viewport.showing(step, self.last_place)
        if moved != self.viewport:
            self._look(moved)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if self._picture is not None and offset is not None and offset.x >= self._picture.left:
            start, end = self.span
            self._read(min(max(self._picture.place_at(offset.x), start), end))

    # --- looking -------------------------------------------------------------------------------

    def action_zoom(self, factor: float) -> None:
        """Show fewer or more steps, around the cursor or at the end."""
        self._look(self.viewport.zoomed(factor, self.cursor, self.last_place))

    def action_pan(self, direction: int) -> None:
        """Show earlier or later steps."""
        self._look(self.viewport.panned(direction * _PAN_SHARE, self.last_place))

    def action_show_all(self) -> None:
        """Show the whole run and follow it."""
        self.cursor = None
        self._look(Viewport())

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_zoom(0.8)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_zoom(1.25)

    def _look(self, viewport: Viewport) -> None:
        self.viewport = viewport
        if self.cursor is not None:
            start, end = self.span
            self.cursor = min(max(self.cursor, start), end)
        self.redraw()
        self.post_message(self.SpanChanged())

    def change_along(self) -> Along:
        """Run along the next of steps, tokens and time, which is given back."""
        return self.run_along(ALONGS[(ALONGS.index(self._along) + 1) % len(ALONGS)])

    def run_along(self, along: Along) -> Along:
        """Run along steps, tokens or time, which is given back."""
        self._along = along
        self.action_show_all()
        return along

    def toggle_whole(self) -> None:
        """Reach to where the runs will end, or to where they have come."""
        self.is_whole = not self.is_whole
        self.action_show_all()

    def toggle_log_steps(self) -> None:
        """Give equal factors of steps equal room, or equal numbers."""
        self.is_log_steps = not self.is_log_steps
        self.redraw()
        self.post_message(self.SpanChanged())

    def change_quantity(self) -> Quantity:
        """Show the next of loss, perplexity and accuracy, which is given back."""
        number = QUANTITIES.index(self.quantity) + 1
        self.quantity = QUANTITIES[number % len(QUANTITIES)]
        self.redraw()
        return self.quantity

    def toggle_log_loss(self) -> None:
        """Give equal factors of loss equal room, or equal differences."""
        self.is_log_loss = not self.is_log_loss
        self.redraw()

    def change_smoothing(self, direction: int) -> int:
        """Smooth more or less; the new time constant in steps."""
        index = SMOOTHING_STEPS.index(self.smoothing_steps) + direction
        self.smoothing_steps = SMOOTHING_STEPS[max(0, min(len(SMOOTHING_STEPS) - 1, index))]
        self.redraw()
        return self.smoothing_steps

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape hides the cursor first, and leaves the chart only after that."""
        if action == "hide_cursor":
            return self.cursor is not None
        return action != "move_cursor" or self._has_steps


def stable_slots(names: list[str], count: int) -> list[int]:
    """A number for each name, the same wherever it is shown; where two meet, the next free one."""
    taken: list[int] = []
    for name in names:
        slot = zlib.crc32(name.encode()) % count
        while slot in taken and len(taken) < count:
            slot = (slot + 1) % count
        taken.append(slot)
    return taken
