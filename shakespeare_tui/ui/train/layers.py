"""The heat strip of the layers: a row a layer, steps from left to right, colour by magnitude."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.color import Color
from textual.geometry import Size

from shakespeare_tui.chart_axes import Axis
from shakespeare_tui.files import as_number
from shakespeare_tui.formatting import format_rate
from shakespeare_tui.models.parameters import block_of, layer_title
from shakespeare_tui.runs.events import LayerStatistics
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.ui.themes import HEAT_LEVELS, heat_colors
from shakespeare_tui.ui.widgets.loss_chart import GUTTER, Part, write_line, write_steps
from shakespeare_tui.ui.widgets.plot import Canvas, Chart, part_style

_ROWS_AROUND = 2
"""The line of words above, and that of steps below."""
_NOTHING = 1e-12
"""Takes the place of 0, which has no logarithm."""
_LEAST_DECADES, _MOST_DECADES = 1.5, 3.0
_USUAL_UPDATE, _UPDATE_DECADES = -3.0, 2.0
_SHADES, _ASCII_SHADES = "·░▒▓█", ".-=*#"


@dataclass(frozen=True)
class Row:
    """A row of the strip.

    Attributes:
        label: What it is called where there is little room.
        title: What it is called.
        layers: The layers that it stands for.
    """

    label: str
    title: str
    layers: tuple[str, ...]


def rows_of(layers: Sequence[str], most: int) -> tuple[list[Row], str]:
    """The rows for layers, at most ``most`` where that can be, and what they were merged to."""
    blocks: dict[int, list[str]] = {}
    others = []
    for layer in layers:
        if (number := block_of(layer)) is None:
            others.append(layer)
        else:
            blocks.setdefault(number, []).append(layer)
    if len(layers) <= most or not blocks:
        return [_row_of(layer) for layer in layers], ""
    room = max(1, most - len(others))
    size = -(-len(blocks) // room)
    numbers = sorted(blocks)
    merged = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    rows = [_row_of_blocks(group, blocks) for group in merged]
    # What lies before the blocks, the blocks, and what lies after them.
    first = next(place for place, layer in enumerate(layers) if block_of(layer) is not None)
    rows = [*map(_row_of, others[:first]), *rows, *map(_row_of, others[first:])]
    count = "a block" if size == 1 else f"{size} blocks"
    return rows, f"{count} a row: the oddest layer"


def _row_of(layer: str) -> Row:
    number, title = block_of(layer), layer_title(layer)
    if number is None:
        return Row("embed" if layer == "embedding" else layer[:GUTTER], title, (layer,))
    short = "attn" if layer.endswith("attention") else "ffn"
    return Row(f"{short:<4}{number + 1:>2}", title, (layer,))


def _row_of_blocks(numbers: Sequence[int], blocks: dict[int, list[str]]) -> Row:
    first, last = numbers[0] + 1, numbers[-1] + 1
    layers = tuple(layer for number in numbers for layer in blocks[number])
    if first == last:
        return Row(f"blk {first:>2}", f"block {first}", layers)
    return Row(f"{first}–{last}", f"blocks {first}–{last}", layers)


@dataclass(frozen=True)
class Scale:
    """Which magnitudes the colours stand for: ``decades`` on either side of 10 ** ``middle``."""

    middle: float
    decades: float

    def levels(self, logarithms: NDArray[np.float64]) -> NDArray[np.int64]:
        """The levels of decimal logarithms, from 0 to ``HEAT_LEVELS`` − 1; −1 where there is none.

        Shape unchanged.
        """
        half = HEAT_LEVELS // 2
        share = np.clip((logarithms - self.middle) / self.decades, -1, 1)
        levels = np.rint(np.nan_to_num(share) * half).astype(np.int64) + half
        return np.where(np.isnan(logarithms), -1, levels)

    @property
    def ends(self) -> tuple[str, str]:
        """The magnitudes at both ends."""
        low, high = self.middle - self.decades, self.middle + self.decades
        return format_rate(10.0**low), format_rate(10.0**high)


@dataclass(frozen=True)
class Look:
    """What a strip is drawn with.

    Attributes:
        colours: Of the levels; empty where characters tell them apart.
        shades: Characters from small to large for where there are none.
        label: How words look.
        value: How what is read looks.
        chosen: How the label of the row that is read looks.
        mark: The character on the cell that is read.
    """

    colours: Sequence[str] = ()
    shades: str = _ASCII_SHADES
    label: Style = field(default_factory=Style)
    value: Style = field(default_factory=Style)
    chosen: Style = field(default_factory=Style)
    mark: str = "X"

    def cell(self, level: int, is_read: bool) -> tuple[str, Style]:
        """The character and style of a level."""
        if not self.colours:
            shade = self.shades[level * len(self.shades) // HEAT_LEVELS]
            return (self.mark if is_read else shade), self.value
        colour = self.colours[level]
        readable = Color.parse(colour).get_contrast_text(1.0).hex6 if is_read else colour
        return (self.mark if is_read else " "), Style(color=readable, bgcolor=colour)


@dataclass(frozen=True)
class HeatStrip:
    """The figures behind a picture.

    Attributes:
        statistics: What was measured in the span, in order.
        steps: The axis.
        rows: From top to bottom.
        merged: What a row stands for, where that is not one layer.
        scale: Of the colours.
        cells: Decimal logarithms: geometric means over the steps of a column, and of a row's
            layers the one that is farthest from the scale's middle; NaN where nothing was
            measured. Shape [rows, columns].
        is_updates: Whether they are update ratios, not gradient norms.
    """

    statistics: Sequence[LayerStatistics]
    steps: Axis
    rows: Sequence[Row]
    merged: str
    scale: Scale
    cells: NDArray[np.float64]
    is_updates: bool


def make_strip(
    statistics: Sequence[LayerStatistics],
    span: tuple[int, int],
    columns: int,
    most_rows: int,
    *,
    last_step: int = 0,
    is_log_steps: bool = False,
    is_updates: bool = False,
) -> HeatStrip:
    """Bring measurements into cells.

    Args:
        statistics: In the order of their steps.
        span: The first and the last step shown.
        columns: Cells across.
        most_rows: Cells down.
        last_step: The run's; what was measured last stands until then.
        is_log_steps: Whether equal factors of steps take equal room.
        is_updates: Whether to show update ratios, not gradient norms.
    """
    start, end = span
    steps = Axis(start, max(end, start + 1), columns, is_log_steps)
    # What was measured last before the span stands at its beginning.
    first = max(0, bisect_right([each.step for each in statistics], start) - 1)
    shown = [each for each in statistics[first:] if each.step <= end]
    layers = list(dict.fromkeys(layer for each in shown[-1:] for layer in each.layers))
    rows, merged = rows_of(layers, most_rows)
    logarithms = np.full((len(shown), len(layers)), np.nan)
    for index, each in enumerate(shown):
        values = each.update_ratios if is_updates else each.grad_norms
        if each.layers != shown[-1].layers:
            found = dict(zip(each.layers, values, strict=True))
            values = [found.get(layer) for layer in layers]
        for place, value in enumerate(values[: len(layers)]):
            if value is not None and math.isfinite(value) and value >= 0:
                logarithms[index, place] = math.log10(max(value, _NOTHING))
    scale = Scale(_USUAL_UPDATE, _UPDATE_DECADES) if is_updates else _scale_of(logarithms)
    at = [steps.cell(each.step) for each in shown]
    until = max([*at[-1:], steps.cell(min(max(last_step, start), end))])
    cells = np.full((len(rows), columns), np.nan)
    for number, row in enumerate(rows) if at else ():
        places = [layers.index(layer) for layer in row.layers]
        means = [_means(logarithms[:, place], np.array([*at, until + 1])) for place in places]
        cells[number, at[0] : until + 1] = _farthest(np.stack(means), scale.middle)
    return HeatStrip(shown, steps, rows, merged, scale, cells, is_updates)


def _scale_of(logarithms: NDArray[np.float64]) -> Scale:
    """Around what is usual in the picture, rounded so that it does not waver."""
    known = logarithms[logarithms > math.log10(_NOTHING)]
    if len(known) == 0:
        return Scale(0.0, _LEAST_DECADES)
    middle = round(float(np.median(known)), 1)
    reach = float(np.percentile(np.abs(known - middle), 98))
    decades = math.ceil(2 * min(max(reach, _LEAST_DECADES), _MOST_DECADES)) / 2
    return Scale(middle, decades)


def _means(logarithms: NDArray[np.float64], at: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of each column's measurements, which stands until the next one.

    Args:
        logarithms: NaN where there is none, shape [measurements].
        at: Their columns, and one past the last column, shape [measurements + 1].

    Returns:
        One for each column from the first that was measured, NaN where there is none.
    """
    starts = np.flatnonzero(np.diff(at[:-1], prepend=-1))
    is_known = ~np.isnan(logarithms)
    totals = np.add.reduceat(np.where(is_known, logarithms, 0.0), starts)
    counts = np.add.reduceat(is_known.astype(np.int64), starts)
    means = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
    return np.repeat(means, np.diff(at[:-1][starts], append=at[-1]))


def _farthest(layers: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    """Of the layers' values [layers, columns] those farthest from ``middle``: what is ill shows."""
    distances = np.nan_to_num(np.abs(layers - middle), nan=-1.0)
    farthest: NDArray[np.float64] = np.take_along_axis(layers, distances.argmax(0)[None], 0)[0]
    return farthest


def draw_strip(
    strip: HeatStrip, look: Look, width: int, height: int, read: tuple[int, int] | None = None
) -> Canvas:
    """The picture of a strip, its first column at ``GUTTER``; the row of words is left blank.

    Args:
        strip: What to draw.
        look: How.
        width: Cells of the picture.
        height: Its rows, those of words and steps with them.
        read: The row and the column of the cell that is read.
    """
    canvas = Canvas(width, height)
    levels = strip.scale.levels(strip.cells)
    for number, row in enumerate(strip.rows[: max(0, height - _ROWS_AROUND)]):
        is_here = read is not None and read[0] == number
        canvas.write(0, number + 1, row.label, look.chosen if is_here else look.label)
        for column, level in enumerate(levels[number].tolist()):
            if level >= 0:
                text, style = look.cell(level, is_here and read == (number, column))
                canvas.write(GUTTER + column, number + 1, text, style)
    below = min(height, len(strip.rows) + _ROWS_AROUND) - 1
    if strip.statistics and below > 1:
        write_steps(canvas, strip.steps, below, look.label)
    return canvas


def legend(strip: HeatStrip, look: Look, notes: Sequence[str]) -> list[list[Part]]:
    """What the colours mean, with numbers."""
    low, high = strip.scale.ends
    name = "update / weight" if strip.is_updates else "gradient norm"
    shown = range(HEAT_LEVELS) if look.colours else range(0, HEAT_LEVELS, 3)
    ramp: list[Part] = [look.cell(level, is_read=False) for level in shown]
    said = [note for note in (*notes, strip.merged) if note]
    groups: list[list[Part]] = [[(note, look.label)] for note in said]
    groups[:0] = [
        [(f"{name} ", look.value), (f"≤{low} ", look.label), *ramp, (f" ≥{high}", look.label)]
    ]
    return groups


def reading(strip: HeatStrip, look: Look, row: Row, step: int) -> list[list[Part]]:
    """What was measured of a row's layers at ``step``, the smallest and the largest of several."""
    each = next((each for each in strip.statistics if each.step == step), None)
    groups: list[list[Part]] = [[("step ", look.label), (f"{step:,}", look.value)]]
    groups.append([(row.title, look.value)])
    if each is None:
        return groups
    for name, values in (
        ("gradient", each.grad_norms),
        ("update/weight", each.update_ratios),
    ):
        found = dict(zip(each.layers, values, strict=True))
        known = [value for layer in row.layers if (value := found.get(layer)) is not None]
        ends = dict.fromkeys(map(_number, sorted({min(known), max(known)}))) if known else ["-"]
        groups.append([(f"{name} ", look.label), (" to ".join(ends), look.value)])
    return groups


def _number(value: float) -> str:
    return format_rate(value, 2) if value else "0"


class LayersPane(Chart, can_focus=True):
    """The heat strip of the run that is shown, over the steps that the loss chart shows."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "layers-pane--label",
        "layers-pane--value",
        "layers-pane--chosen",
    }
    DEFAULT_CSS: ClassVar[str] = """
    LayersPane > .layers-pane--label { color: $text-muted; }
    LayersPane > .layers-pane--value { color: $foreground; text-style: bold; }
    LayersPane > .layers-pane--chosen { color: $accent; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "read(-1)", "Read", key_display="←→", id="layers.left"),
        Binding("right", "read(1)", "Read to the right", show=False, id="layers.right"),
        Binding("up", "choose_row(-1)", "Layer", key_display="↑↓", id="layers.up"),
        Binding("down", "choose_row(1)", "Next layer", show=False, id="layers.down"),
        Binding("pageup", "read(-10)", "Read ten back", show=False, id="layers.page_left"),
        Binding("pagedown", "read(10)", "Read ten on", show=False, id="layers.page_right"),
        Binding("home", "read_end(False)", "Read the first", show=False, id="layers.first"),
        Binding("end", "read_end(True)", "Read the last", show=False, id="layers.last"),
        Binding("u", "screen.switch_layers", "Gradients/updates", id="layers.switch"),
        Binding("escape", "stop_reading", "Stop reading", show=False, id="layers.escape"),
    ]

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self._history = RunHistory()
        self._span = (1, 10)
        self._is_log_steps = False
        self._is_updates = False
        self._heat: HeatStrip | None = None
        self._drawn: object = None
        self.cursor: int | None = None
        """The step that is read, of those that were measured."""
        self._row = 0

    # --- what is shown -------------------------------------------------------------------------

    def show_run(
        self, history: RunHistory, span: tuple[int, int], is_log_steps: bool, is_updates: bool
    ) -> None:
        """Show part of a run; drawn anew if it is another part or has news."""
        layers = history.layers
        last = layers[-1] if len(layers) else None
        state = (id(history), len(layers), last and last.step, span, is_log_steps, is_updates)
        if history is not self._history:
            self.cursor, self._row = None, 0
        if state == self._drawn:
            return
        self._drawn, self._history, self._span = state, history, span
        self._is_log_steps, self._is_updates = is_log_steps, is_updates
        self.redraw()
        if last is None or len(last.layers) != len(self._names):
            self.refresh(layout=True)

    @property
    def _names(self) -> list[str]:
        layers = self._history.layers
        return layers[-1].layers if len(layers) else []

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many rows as there are layers, or as half of the room beside it takes."""
        rows, _ = rows_of(self._names, self._most_rows(container.height // 2))
        return len(rows) + _ROWS_AROUND

    def _most_rows(self, height: int) -> int:
        return max(1, height - _ROWS_AROUND)

    # --- drawing -------------------------------------------------------------------------------

    def forget(self) -> None:
        """Let go of the figures too."""
        super().forget()
        self._heat = None

    def draw(self) -> Canvas:
        """The strip below a line that says what the colours mean, or what is read."""
        width, height = self.size
        strip, look = self._figures(), self._look()
        steps = [each.step for each in strip.statistics]
        read = None
        if self.cursor is not None and steps and strip.rows:
            # Zooming and rolling back may have taken the step away.
            self.cursor = steps[min(bisect_left(steps, self.cursor), len(steps) - 1)]
            self._row = min(self._row, len(strip.rows) - 1)
            read = self._row, strip.steps.cell(self.cursor)
        canvas = draw_strip(strip, look, width, height, read)
        if self.cursor is not None and read is not None:
            write_line(canvas, reading(strip, look, strip.rows[self._row], self.cursor))
        elif steps:
            write_line(canvas, legend(strip, look, self._notes()))
        else:
            write_line(canvas, [[("no layer was measured in these steps", look.label)]])
        return canvas

    def _figures(self) -> HeatStrip:
        if self._heat is None:
            width, height = self.size
            self._heat = make_strip(
                list(self._history.layers),
                self._span,
                max(2, width - GUTTER),
                self._most_rows(height),
                last_step=self._history.last_step,
                is_log_steps=self._is_log_steps,
                is_updates=self._is_updates,
            )
        return self._heat

    def _look(self) -> Look:
        is_ascii = getattr(self.app, "ascii", False)
        is_shaded = is_ascii or self.app.no_color
        return Look(
            colours=() if is_shaded else heat_colors(self.app.current_theme),
            shades=_ASCII_SHADES if is_ascii else _SHADES,
            label=part_style(self, "layers-pane--label"),
            value=part_style(self, "layers-pane--value"),
            chosen=part_style(self, "layers-pane--chosen"),
            mark="X" if is_ascii else "◆",
        )

    def _notes(self) -> list[str]:
        """What is not in the picture."""
        section = self._history.config.get("training")
        training = section if isinstance(section, dict) else {}
        if as_number(training.get("lora_rank")):
            return ["low-rank products alone"]
        return ["frozen layers left out"] if as_number(training.get("train_blocks")) else []

    # --- reading -------------------------------------------------------------------------------

    def _read(self, step: int) -> None:
        self.cursor, self._strips = step, None
        self.refresh()

    def action_read(self, columns: int) -> None:
        """Read what was measured some columns further; the first press reads the last."""
        strip = self._figures()
        steps = [each.step for each in strip.statistics]
        if not steps:
            return
        if self.cursor is None:
            self._read(steps[-1])
            return
        cells = [strip.steps.cell(step) for step in steps]
        target = strip.steps.cell(self.cursor) + columns
        # The next measurement on that side, however far it is.
        index = bisect_left(cells, target) if columns > 0 else bisect_right(cells, target) - 1
        self._read(steps[min(max(index, 0), len(steps) - 1)])

    def action_choose_row(self, rows: int) -> None:
        """Read the layer above, or below."""
        count = len(self._figures().rows)
        if self.cursor is None:
            self.action_read(0)
        elif count:
            self._row = min(max(self._row + rows, 0), count - 1)
            self._read(self.cursor)

    def action_read_end(self, is_last: bool) -> None:
        """Read the first or the last measurement shown."""
        statistics = self._figures().statistics
        if statistics:
            self._read(statistics[-1 if is_last else 0].step)

    def action_stop_reading(self) -> None:
        """Say again what the colours mean."""
        self.cursor, self._strips = None, None
        self.refresh()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape ends the reading first, and leaves the pane only after that."""
        return action != "stop_reading" or self.cursor is not None

    def on_click(self, event: events.Click) -> None:
        """Read what is under the mouse."""
        offset, strip = event.get_content_offset(self), self._figures()
        if offset is None or not strip.statistics:
            return
        row, column = offset.y - 1, offset.x - GUTTER
        if 0 <= row < len(strip.rows) and column >= 0:
            steps = [each.step for each in strip.statistics]
            # A cell shows the last measurement up to it.
            index = bisect_right([strip.steps.cell(step) for step in steps], column) - 1
            self._row = row
            self._read(steps[max(index, 0)])
