"""Several checkpoints side by side: the settings that differ, and the measures of their texts."""

import functools
from collections.abc import Mapping, Sequence

from shakespeare_tui.config.draft import config_texts
from shakespeare_tui.config.fields import config_fields
from shakespeare_tui.config.load import load_config, preset_names
from shakespeare_tui.config.schema import Config
from shakespeare_tui.measures import MEASURES, Measures, best_measures
from shakespeare_tui.runs.notes import FormerName

Texts = Mapping[str, str]
_LEFT_OUT = ("logging", "checkpoints", "sampling")
"""Sections that do not change what is learned."""


@functools.cache
def _presets() -> Mapping[str, Texts]:
    return {name: config_texts(load_config(name)) for name in preset_names()}


@functools.cache
def _defaults() -> Texts:
    return config_texts(Config())


def differing_paths(texts: Texts, other: Texts) -> list[str]:
    """The settings that differ and matter for what is learned, in the order of the declaration."""
    return [
        field.path
        for field in config_fields()
        if field.section not in _LEFT_OUT and _differ(field.path, texts, other)
    ]


def _differ(path: str, texts: Texts, other: Texts) -> bool:
    ours, theirs = texts.get(path), other.get(path)
    # An empty one came to what the run has.
    is_by_corpus = path == "training.weight_decay" and "" in (ours, theirs)
    return ours != theirs and not is_by_corpus


def preset_of(name: str, former_names: tuple[FormerName, ...], texts: Texts) -> str:
    """The preset that a run most likely began with: the nearest; its name decides between equals.

    Args:
        name: The run's name, which begins with the preset's as a rule.
        former_names: Its names before.
        texts: Its settings.
    """
    names = (name, *(former.name for former in former_names))
    presets = _presets()

    def distance(preset: str) -> tuple[int, bool, str]:
        is_named = any(name.startswith(preset) for name in names)
        return len(differing_paths(texts, presets[preset])), not is_named, preset

    return min(presets, key=distance)


def preset_texts(name: str) -> Texts:
    """A preset's settings as text by path."""
    return _presets()[name]


def describe_fine_tuning(texts: Texts) -> str:
    """How a pretrained model goes on learning, apart from what its makers decided: its shape."""
    paths = differing_paths(texts, _defaults())
    return _described(texts, [path for path in paths if not path.startswith("model.")])


def describe_differences(texts: Texts, other: Texts) -> str:
    """The settings that differ with their own values: ``d_model=384 dropout=0.2``."""
    return _described(texts, differing_paths(texts, other))


def _described(texts: Texts, paths: Sequence[str]) -> str:
    return " ".join(f"{path.partition('.')[2]}={texts[path] or 'empty'}" for path in paths)


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
