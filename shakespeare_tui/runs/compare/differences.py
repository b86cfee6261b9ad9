"""What is special about a run's settings: how they differ from a preset's or another run's."""

import functools
from collections.abc import Mapping

from shakespeare_tui.config.config_draft_state import config_texts
from shakespeare_tui.config.fields import config_fields
from shakespeare_tui.config.load import load_config, preset_names
from shakespeare_tui.runs.notes import FormerName

Texts = Mapping[str, str]
_LEFT_OUT = ("logging", "checkpoints", "sampling")
"""Sections that do not change what is learned."""


@functools.cache
def _presets() -> Mapping[str, Texts]:
    return {name: config_texts(load_config(name)) for name in preset_names()}


def differing_paths(texts: Texts, other: Texts) -> list[str]:
    """The settings that differ and matter for what is learned, in the order of the declaration."""
    return [
        field.path
        for field in config_fields()
        if field.section not in _LEFT_OUT and texts.get(field.path) != other.get(field.path)
    ]


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


def describe_differences(texts: Texts, other: Texts) -> str:
    """The settings that differ with their own values: ``d_model=384 dropout=0.2``."""
    paths = differing_paths(texts, other)
    return " ".join(f"{path.partition('.')[2]}={texts[path] or 'empty'}" for path in paths)
