"""What the loss chart says in its first line: the legend, or the values under the cursor."""

import math
from collections.abc import Sequence

import numpy as np
from rich.style import Style

from shakespeare_tui.diagnosis.findings import format_rate
from shakespeare_tui.formatting import format_loss
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.losses import EXACT
from shakespeare_tui.ui.widgets.loss_picture import GRAVEST_FIRST, LossSpec
from shakespeare_tui.ui.widgets.plot import BRAILLE, Canvas

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
    groups: list[list[Part]] = [[(f"{line} ", styles.get("smoothed")), (train, label)]]
    if spec.smoothing_steps > 1:
        groups.append([(f"{faint} ", styles.get("raw")), ("each step", label)])
    groups.append([(f"{marks.validation} ", styles.get("validation")), ("validation", label)])
    for overlay in spec.overlays:
        mark = "━" if overlay.mark == BRAILLE else overlay.mark
        groups.append([(f"{mark} ", overlay.style), (overlay.name, label)])
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


def reading(spec: LossSpec, step: int, first_step: int, last_step: int) -> list[list[Part]]:
    """The values at ``step``, and what happened from ``first_step`` to ``last_step``.

    Args:
        spec: The chart.
        step: The step under the cursor.
        first_step: The first step of the cursor's column.
        last_step: The last step of it.
    """
    history, styles, label = spec.history, spec.styles, spec.styles.get("label")
    bold = Style(bold=True)
    groups: list[list[Part]] = [[("step ", label), (f"{step:,}", bold)]]

    def add(name: str, text: str | None, style: Style | None) -> None:
        if text is not None:
            groups.append([(f"{name} ", label), (text, style)])

    add("batch", _value(history, "loss", step, 1), bold)
    if spec.smoothing_steps > 1:
        smoothed = _value(history, "loss", step, spec.smoothing_steps)
        add("mean", smoothed, styles.get("smoothed"))
    val = _value(history, "val_loss", step, 1)
    stands_for = "" if val is None or history.usual_protocol == EXACT else "~"
    add("val", val and f"{stands_for}{val}", styles.get("validation"))
    happened = {
        (marker.kind, marker.text): None
        for kind in GRAVEST_FIRST
        for marker in history.markers
        if marker.kind == kind and first_step <= max(1, marker.step) <= last_step
    }
    for kind, text in happened:
        groups.append([(f"{spec.marks.kinds[kind]} ", styles.get(kind)), (text, None)])
    for overlay in spec.overlays:
        smoothing_steps = max(25, spec.smoothing_steps)
        add(overlay.name, _value(overlay.history, "loss", step, smoothing_steps), overlay.style)
    rates = history.series("learning_rate").window(0, step).values
    if len(rates) and math.isfinite(rates[-1]) and rates[-1] > 0:
        add("LR", format_rate(float(rates[-1]), 2), None)
    return groups


def _value(history: RunHistory, name: str, step: int, smoothing_steps: int) -> str | None:
    """The value at ``step`` or the last one before it; None where there is none."""
    if name == "loss":
        window = history.smoothed_loss(smoothing_steps).window(0, step)
    else:
        window = history.series(name).window(0, step)
    finite = np.flatnonzero(np.isfinite(window.values))
    if len(finite) == 0 or (name == "loss" and step > history.last_step):
        return None
    return format_loss(float(window.values[finite[-1]]))


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
