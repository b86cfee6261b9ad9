"""What one setting does: a figure of the runs over its values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from rich.style import Style
from textual.binding import Binding, BindingType

from shakespeare_tui.chart_axes import Axis, tick_labels
from shakespeare_tui.experiments.plan import short_name, value_text
from shakespeare_tui.experiments.table import METRICS, ExperimentTable, VariantRow
from shakespeare_tui.report.readings import axis_lines, metric_of
from shakespeare_tui.ui.widgets.plot import BRAILLE, Canvas, Chart, Curve, draw_curves, part_style

_GUTTER = 7
_ROWS_BELOW = 2
_LOG_FROM_FACTOR = 8
_PARTS = ("title", "label", "axis", "point", "best")


@dataclass(frozen=True)
class Point:
    """A variant: the value of the setting, and the mean of the figure over its seeds."""

    value: Any
    figure: float
    label: str
    is_best: bool


@dataclass(frozen=True)
class Sensitivity:
    """What a setting does to a figure.

    Attributes:
        path: The setting.
        metric: The figure, of ``METRICS``.
        values: The values of the setting, ascending where they are numbers.
        points: All variants.
        lines: Points of variants that differ in the setting alone, with what they have in common.
    """

    path: str
    metric: str
    values: tuple[Any, ...]
    points: tuple[Point, ...]
    lines: tuple[tuple[str, tuple[Point, ...]], ...]

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers, and lie apart as these do."""
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)

    @property
    def is_log(self) -> bool:
        """Whether equal factors take equal room."""
        if not self.is_number or not self.values or min(self.values) <= 0:
            return False
        return bool(max(self.values) / min(self.values) >= _LOG_FROM_FACTOR)


def sensitivity_of(table: ExperimentTable, path: str, metric: str) -> Sensitivity:
    """Read what a setting does off a table.

    Args:
        table: The experiment.
        path: A setting that differs between its variants.
        metric: A name of ``METRICS``.
    """
    best = [id(variant) for variant in table.best]

    def point(variant: VariantRow) -> Point | None:
        spread = variant.spread(metric)
        if spread is None:
            return None
        value = _value(variant, path)
        return Point(value, spread.mean, variant.variant.label, id(variant) in best)

    points = [found for variant in table.variants if (found := point(variant)) is not None]
    lines = []
    for line in axis_lines(table).get(path, ()):
        known = [found for variant in line.variants if (found := point(variant)) is not None]
        if len(known) > 1:
            lines.append((line.others, tuple(known)))
    values = list(dict.fromkeys(point.value for point in points))
    if all(isinstance(value, int | float) for value in values):
        values.sort()
    return Sensitivity(path, metric, tuple(values), tuple(points), tuple(lines))


def _value(variant: VariantRow, path: str) -> Any:
    config = variant.rows[0].config
    found = (config.by_path() | config.effective_values())[path]
    return found if isinstance(found, int | float) else value_text(path, found)


@dataclass(frozen=True)
class SensitivityLook:
    """How the parts are drawn.

    Attributes:
        styles: By the names of ``_PARTS``.
        colours: Of the lines, in order.
        point: The character of a variant.
        best: That of the best.
        line: The character of lines, or ``BRAILLE``.
    """

    styles: dict[str, Style]
    colours: Sequence[str] = ()
    point: str = "●"
    best: str = "★"
    line: str = BRAILLE


def draw_sensitivity(found: Sensitivity, look: SensitivityLook, width: int, height: int) -> Canvas:
    """Draw the plot with its axes, ``width`` by ``height`` cells."""
    canvas = Canvas(width, height)
    columns, rows = max(2, width - _GUTTER), max(2, height - _ROWS_BELOW)
    if not found.points:
        canvas.write(1, 0, "no finished run tells yet", look.styles["label"])
        return canvas
    figures = [point.figure for point in found.points]
    across = _value_axis(found, columns)
    up = Axis.covering(min(figures), max(figures), rows)
    curves = []
    for number, (_, points) in enumerate(found.lines):
        colour = look.colours[number % len(look.colours)] if look.colours else None
        curves.append(_curve(found, points, across, up, Style(color=colour), look.line))
    plain = [point for point in found.points if not point.is_best]
    best = [point for point in found.points if point.is_best]
    for shown, part, mark in ((plain, "point", look.point), (best, "best", look.best)):
        style = look.styles[part]
        curves.append(_curve(found, shown, across, up, style, mark, is_line=False))
    canvas.paste(draw_curves(curves, columns, rows), _GUTTER, 0)
    _draw_axes(canvas, found, across, up, look)
    return canvas


def _position(found: Sensitivity, value: Any) -> float:
    return float(value) if found.is_number else found.values.index(value) + 0.5


def _value_axis(found: Sensitivity, columns: int) -> Axis:
    if not found.is_number:
        return Axis(0.0, float(len(found.values)), columns)
    low, high = float(min(found.values)), float(max(found.values))
    if found.is_log:
        pad = (high / low) ** 0.06
        return Axis(low / pad, high * pad, columns, is_log=True)
    pad = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return Axis(low - pad, high + pad, columns)


def _curve(
    found: Sensitivity,
    points: Sequence[Point],
    across: Axis,
    up: Axis,
    style: Style,
    mark: str,
    *,
    is_line: bool = True,
) -> Curve:
    x = across.position(np.array([_position(found, point.value) for point in points]))
    y = up.position(np.array([point.figure for point in points]))
    return Curve(np.minimum(x, np.nextafter(across.size, 0)), y, style, mark, is_line)


def _draw_axes(
    canvas: Canvas, found: Sensitivity, across: Axis, up: Axis, look: SensitivityLook
) -> None:
    axis, label = look.styles["axis"], look.styles["label"]
    for row in range(up.size):
        canvas.write(_GUTTER - 1, row, "│", axis)
    ticks = up.ticks(max(2, up.size // 2 if up.size < 12 else up.size // 3))
    texts = tick_labels(ticks, _GUTTER - 1)
    for tick, text, below in zip(ticks, texts, ["", *texts], strict=False):
        row = up.size - 1 - up.cell(tick)
        if text != below:
            canvas.write(_GUTTER - 1 - len(text), row, text, label)
        canvas.write(_GUTTER - 1, row, "┤", axis)
    canvas.write(_GUTTER - 1, up.size, "└" + "─" * across.size, axis)
    for value in found.values:
        column = _GUTTER + across.cell(_position(found, value))
        canvas.write(column, up.size, "┬", axis)
        text = value_text(found.path, value) if found.is_number else str(value)
        left = max(_GUTTER - 1, min(column - len(text) // 2, canvas.width - len(text)))
        if canvas.is_blank(max(0, left - 1), up.size + 1, min(len(text) + 1, canvas.width - left)):
            canvas.write(left, up.size + 1, text, label)


class SensitivityChart(Chart, can_focus=True):
    """The plot for a setting and a figure that are chosen by the arrows."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"sensitivity--{part}" for part in _PARTS}
    DEFAULT_CSS: ClassVar[str] = """
    SensitivityChart { height: 1fr; min-height: 6; }
    SensitivityChart > .sensitivity--title { color: $foreground; text-style: bold; }
    SensitivityChart > .sensitivity--label { color: $text-muted; }
    SensitivityChart > .sensitivity--axis { color: $text-muted 55%; }
    SensitivityChart:focus > .sensitivity--axis { color: $accent; }
    SensitivityChart > .sensitivity--point { color: $accent; text-style: bold; }
    SensitivityChart > .sensitivity--best { color: $success; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "setting(1)", "Setting", key_display="←→", id="sensitivity.next"),
        Binding("left", "setting(-1)", "Previous setting", show=False, id="sensitivity.previous"),
        Binding("down", "figure(1)", "Figure", key_display="↑↓", id="sensitivity.figure"),
        Binding("up", "figure(-1)", "Previous figure", show=False, id="sensitivity.figure_before"),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._table: ExperimentTable | None = None
        self._path = ""
        self._metric = ""

    @property
    def paths(self) -> list[str]:
        """The settings that there are to choose from: those of the axes first."""
        if self._table is None:
            return []
        axes = [path for path in axis_lines(self._table) if path in self._table.differing]
        return list(dict.fromkeys([*axes, *self._table.differing]))

    def show_table(self, table: ExperimentTable | None) -> None:
        """Show an experiment; the setting and the figure stay where they are its, too."""
        is_other = table is None or self._table is None or table.name != self._table.name
        self._table = table
        if table is not None and (is_other or self._metric not in METRICS):
            self._metric = metric_of(table)
        if self._path not in self.paths:
            self._path = next(iter(self.paths), "")
        self.redraw()

    @property
    def found(self) -> Sensitivity | None:
        """What is shown; None where nothing differs."""
        if self._table is None or not self._path:
            return None
        return sensitivity_of(self._table, self._path, self._metric)

    def action_setting(self, by: int) -> None:
        """Take the next setting."""
        if paths := self.paths:
            self._path = paths[(paths.index(self._path) + by) % len(paths)]
            self.redraw()

    def action_figure(self, by: int) -> None:
        """Take the next figure."""
        if self._metric:
            names = list(METRICS)
            self._metric = names[(names.index(self._metric) + by) % len(names)]
            self.redraw()

    def on_focus(self) -> None:
        """The axes tell that the arrows move here."""
        self.redraw()

    def on_blur(self) -> None:
        self.redraw()

    def draw(self) -> Canvas:
        """The plot below a line that names the setting and the figure."""
        width, height = self.size
        canvas = Canvas(width, height)
        styles = {part: part_style(self, f"sensitivity--{part}") for part in _PARTS}
        found = self.found
        if found is None:
            canvas.write(1, 0, "no setting differs between the runs", styles["label"])
            return canvas
        colours = getattr(self.app, "series_colors", ())
        look = SensitivityLook(styles, colours)
        if getattr(self.app, "ascii", False):
            look = SensitivityLook(styles, colours, "o", "*", ".")
        title = f"{METRICS[found.metric].label} by {short_name(found.path)}"
        canvas.write(1, 0, title, styles["title"])
        column = len(title) + 4
        for number, (others, _) in enumerate(found.lines):
            if others and column + len(others) + 2 <= width and colours:
                canvas.write(column, 0, "━ ", Style(color=colours[number % len(colours)]))
                canvas.write(column + 2, 0, others, styles["label"])
                column += len(others) + 5
        canvas.paste(draw_sensitivity(found, look, width, height - 1), 0, 1)
        return canvas
