"""The steps of which strategies are made; each module registers its own when it is imported."""

from shakespeare_tui.sampling.steps import (
    exclusion,
    methods,
    mirostat,
    penalties,
    repeats,
    temperatures,
    truncation,
    typicality,
)

__all__ = [
    "exclusion",
    "methods",
    "mirostat",
    "penalties",
    "repeats",
    "temperatures",
    "truncation",
    "typicality",
]
