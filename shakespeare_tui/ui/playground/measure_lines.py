"""The measures of a text in a few lines, the best of all columns marked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content

if TYPE_CHECKING:
    from shakespeare_tui.measures import MeasureKind, Measures

SHOWN = (
    "mean_surprise",
    "distinct_2",
    "repeated_share",
    "real_word_rate",
    "wellformed_share",
    "copied_share",
)
"""Two a line, in this order."""

_BEST = "★"
_WIDEST_VALUE = 4
_BRIEF_LABELS = {
    "distinct_2": "distinct",
    "real_word_rate": "words",
    "wellformed_share": "formed",
}
"""Where two whole labels a line find no room."""


def best_columns(measures: Sequence["Measures | None"]) -> list[frozenset[str]]:
    """For each text, the measures by which it is the best, as they are shown here."""
    from shakespeare_tui.measures import best_measures

    return best_measures(measures, _short)


def measure_lines(measures: "Measures | None", best: frozenset[str], width: int) -> Content:
    """Three lines of two measures; without measures, their names alone."""
    from shakespeare_tui.measures import MEASURES

    kinds = [MEASURES[name] for name in SHOWN]
    cell = (width - 1) // 2
    labels = [kind.label for kind in kinds]
    if max(map(len, labels)) + _WIDEST_VALUE + 3 > cell:
        labels = [_BRIEF_LABELS.get(kind.name, kind.label) for kind in kinds]
    cells = [
        _cell(label, kind, measures, kind.name in best, cell)
        for label, kind in zip(labels, kinds, strict=True)
    ]
    lines = [
        Content.assemble(cells[place], " ", cells[place + 1]) for place in range(0, len(cells), 2)
    ]
    return Content("\n").join(lines)


def _cell(
    label: str, kind: "MeasureKind", measures: "Measures | None", is_best: bool, width: int
) -> Content:
    value = "" if measures is None else _short(kind, measures.value(kind.name))
    mark = _BEST if is_best else " "
    room = max(len(label), width - len(value) - 2)
    return Content.assemble(
        (label.ljust(room), "$text-muted"),
        (value, "bold $success" if is_best else "$foreground"),
        (f" {mark}", "bold $success"),
    )


def _short(kind: "MeasureKind", value: float | None) -> str:
    if kind.unit == "share" and value is not None:
        return f"{value:.0%}"
    return f"{value:.2f}" if kind.unit == "nats" and value is not None else kind.format(value)
