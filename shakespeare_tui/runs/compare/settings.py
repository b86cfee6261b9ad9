"""Several checkpoints side by side: the settings that differ, and the measures of their texts."""

from collections.abc import Mapping, Sequence

from shakespeare_tui.measures import MEASURES, Measures, best_measures
from shakespeare_tui.runs.compare.differences import Texts, differing_paths

Row = tuple[str, tuple[str, ...], tuple[bool, ...]]
"""A name, a value for each column, and which of them stand out."""


def settings_rows(configs: Sequence[Texts | None]) -> list[Row]:
    """The settings in which any column differs from the first; those that do stand out.

    Args:
        configs: Settings as text by path, a mapping a column; None where they cannot be read.
    """
    known = [config for config in configs if config is not None]
    if not known:
        return []
    first = known[0]
    paths = dict.fromkeys(path for other in known[1:] for path in differing_paths(other, first))
    rows = []
    for path in paths:
        values = tuple("?" if config is None else config[path] or "empty" for config in configs)
        own = first[path] or "empty"
        rows.append((path, values, tuple(value not in (own, "?") for value in values)))
    return rows


def measure_rows(measures: Sequence[Measures | None]) -> list[Row]:
    """Every measure that any text has; the best of each stands out where there is one."""
    rows: list[Row] = []
    best = best_measures(measures)
    for name, kind in MEASURES.items():
        values = [None if item is None else item.value(name) for item in measures]
        if all(value is None for value in values):
            continue
        shown = tuple(kind.format(value) for value in values)
        rows.append((kind.label, shown, tuple(name in names for names in best)))
    return rows


def figure_rows(columns: Sequence[Mapping[str, str]]) -> list[Row]:
    """Figures by name as rows, in the order of the first column; none stands out."""
    names = dict.fromkeys(name for column in columns for name in column)
    return [
        (name, tuple(column.get(name, "-") for column in columns), (False,) * len(columns))
        for name in names
    ]
