"""Find the past run whose config is nearest to the one at hand."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from shakespeare_tui.config.fields import ConfigField, config_fields
from shakespeare_tui.config.schema import Config
from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.losses import Loss

_MOST_RUNS = 200
_COMPARED = ("model", "training", "data")
# They change the course of a run little or not at all.
_PASSED_OVER = (
    "model.norm_eps",
    "model.rope_theta",
    "model.rope_factor",
    "model.rope_base_context",
    "training.seed",
    "training.backend",
    "training.device",
    "training.precision",
    "training.eval_every",
    "training.on_nan",
    "training.patience",
    "training.target_loss",
    "training.target_train_loss",
    "training.train_loss_steps",
)
_ANOTHER_CHOICE = 1.0
_ANOTHER_CORPUS = 4.0
_MOST_FOR_A_NUMBER = 3.0


@dataclass(frozen=True)
class PastRun:
    """A run with the validation loss of its best checkpoint, None before its first evaluation.

    One with a ``problem`` is damaged and may have no config.
    """

    name: str
    config: Config | None
    loss: Loss | None
    problem: str | None = None

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """Every value by path, with the meaning of empty ones filled in where they have one."""
        return {} if self.config is None else _resolved(self.config)


@dataclass(frozen=True)
class NearestRun:
    """The past run most like a config, and how many of the compared settings differ."""

    run: PastRun
    differing: int


class PastRuns:
    """Reads the runs below a folder, each once until it changes."""

    def __init__(self, root: Path) -> None:
        self._catalog = RunCatalog(root)

    def read(self) -> list[PastRun]:
        """The newest runs, newest first, damaged ones too. Safe in a thread."""
        return [
            PastRun(run.name, run.config, run.loss, run.problem)
            for run in self._catalog.entries()[:_MOST_RUNS]
        ]


def nearest_run(config: Config, runs: Iterable[PastRun]) -> NearestRun | None:
    """The evaluated run whose settings are nearest; the first of equals, None of none.

    Numbers are as far apart as their logarithms, any two choices as a factor of e.
    """
    nearest: NearestRun | None = None
    least = math.inf
    values = _resolved(config)
    for run in runs:
        if run.config is None or run.loss is None:
            continue
        distance, differing = _distance(values, run.values)
        if distance < least:
            least, nearest = distance, NearestRun(run, differing)
    return nearest


def _distance(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[float, int]:
    total, differing = 0.0, 0
    for field in _compared_fields():
        a, b = ours[field.path], theirs[field.path]
        # An empty weight decay would come to what a run has.
        is_by_corpus = field.path == "training.weight_decay" and None in (a, b)
        if a != b and not is_by_corpus:
            differing += 1
            total += _apart(field, a, b)
    return total, differing


@cache
def _compared_fields() -> tuple[ConfigField, ...]:
    return tuple(
        field
        for field in config_fields()
        if field.section in _COMPARED and field.path not in _PASSED_OVER
    )


def _apart(field: ConfigField, a: object, b: object) -> float:
    if field.path == "data.corpus":
        return _ANOTHER_CORPUS
    if field.kind in ("integer", "number") and a and b:
        assert isinstance(a, int | float) and isinstance(b, int | float)
        return min(abs(math.log(a / b)), _MOST_FOR_A_NUMBER)
    return _ANOTHER_CHOICE


def _resolved(config: Config) -> dict[str, Any]:
    return config.by_path() | config.effective_values()
