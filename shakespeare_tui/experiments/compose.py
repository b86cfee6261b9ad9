"""Make experiments of configs: a file with axes, a run to add to one, a queue of configs."""

import dataclasses
import itertools
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from shakespeare_tui.config.draft import config_texts
from shakespeare_tui.config.fields import find_field, unknown_path
from shakespeare_tui.config.load import DEFAULT_PRESET, load_config, preset_path
from shakespeare_tui.config.schema import Config
from shakespeare_tui.config.write import read_text
from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.folder import ExperimentFolder, Trial, new_folder
from shakespeare_tui.experiments.plan import (
    AddedRun,
    Changes,
    Definition,
    Variant,
    read_definition,
    short_name,
)
from shakespeare_tui.experiments.schema import ELSEWHERE, Budget, find_setting
from shakespeare_tui.runs.compare.settings import preset_of

QUEUE = "queue"
"""The experiment whose runs are configs that wait for their turn."""
_MINUTES = 60.0
_HEAD = "# What may stand here is in docs/experiments.md.\n"


def read_values(path: str, text: str) -> list[Any]:
    """The values of an axis as a person writes them, with commas between.

    Raises:
        UserError: One is none, or stands there twice.
    """
    field = find_field(path)
    assert field is not None
    if path in ELSEWHERE and path != "training.seed":
        raise UserError(f"{path} is the same for all runs of an experiment")
    values = []
    for part in filter(None, map(str.strip, text.split(","))):
        value, problems = read_text(field, part)
        if problems:
            raise UserError(f"{part}: {problems[0]}")
        if value in values:
            raise UserError(f"{part} stands there twice")
        values.append(value)
    return values


def experiment_text(
    config: Config, axes: Mapping[str, Sequence[Any]], *, name: str, question: str = ""
) -> str:
    """An experiment file whose runs are a config with the values of axes, every combination.

    Args:
        config: What all runs have in common.
        axes: Values by the path of a setting; the seed's are the experiment's.
        name: Of the config, which the preset is guessed by where several are as near.
        question: What the runs are to tell.
    """
    base = preset_of(name, (), config_texts(config))
    theirs, ours = load_config(base).by_path(), config.by_path()
    changed = {path: value for path, value in ours.items() if value != theirs[path]}
    settings = {path: v for path, v in changed.items() if path not in (*ELSEWHERE, *axes)}
    seeds = list(axes.get("training.seed", ()))
    if not seeds and "training.seed" in changed:
        seeds = [config.training.seed]
    minutes, steps = config.training.minutes, config.training.max_steps
    prompts = list(config.sampling.prompts) if "sampling.prompts" in changed else []
    varied = {path: list(values) for path, values in axes.items() if path not in ELSEWHERE}
    document = {
        "question": question or _question(varied),
        "base": base,
        "set": settings,
        "axes": varied,
        "seeds": seeds,
        "budget": {"steps": steps} if minutes is None else {"minutes": minutes},
        "prompts": prompts,
    }
    return _yaml({key: value for key, value in document.items() if value})


def _question(axes: Mapping[str, Any]) -> str:
    names = [short_name(path) for path in axes]
    if not names:
        return "How far apart are runs that differ in nothing but their seed?"
    verb = "does" if len(names) == 1 else "do"
    return f"What {verb} {' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))} do?"


def _plain(value: Any) -> Any:
    """Without types that YAML would name."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def read_added(words: Sequence[str], definition: Definition) -> AddedRun:
    """A run of ``key=value`` words; ``arm=NAME`` takes it from one of the arms.

    Raises:
        UserError: A word is wrong.
    """
    experiment = definition.experiment
    values: dict[str, Any] = {}
    arm = ""
    for word in words:
        name, _, text = word.partition("=")
        if name == "arm":
            if text not in experiment.arms:
                raise UserError(f"there is no arm {text!r}; there are {', '.join(experiment.arms)}")
            arm = text
            continue
        field = find_field("training.seed") if name == "seed" else find_setting(name)
        if field is None or "=" not in word:
            example = "write settings such as d_model=96 seed=2"
            raise UserError(f"{word}: {unknown_path(name) if '=' in word else example}")
        if field.path in ELSEWHERE and field.path != "training.seed":
            raise UserError(f"{name}: is the same for all runs, by '{ELSEWHERE[field.path]}:'")
        value, problems = read_text(field, text)
        if problems:
            raise UserError(f"{name}: {problems[0]}")
        values[field.path] = value
    if experiment.arms and not arm:
        raise UserError(f"name an arm, such as arm={next(iter(experiment.arms))}")
    if not values and not arm:
        raise UserError("write settings such as d_model=96 seed=2")
    return AddedRun(values=values, arm=arm)


def add_config(
    config: Config, name: str, root: Path, runs_root: Path, *, experiment: str, threads: int
) -> Trial:
    """Take a config as a run into an experiment, which is begun as a queue where there is none.

    Args:
        config: What is trained.
        name: What it is called in the table.
        root: The folder of all experiments.
        runs_root: The folder of all runs.
        experiment: The experiment's name.
        threads: Of each run of a new experiment.

    Raises:
        UserError: The experiment has that very run, or searches.
    """
    folder = new_folder(experiment, root)
    if not folder.exists:
        folder.prepare(_queue(), runs_root, threads=threads, may_replace=False)
    definition = folder.record().definition
    others = definition.config(Variant("", {}), definition.seeds[0]).by_path()
    values = {path: value for path, value in config.by_path().items() if value != others[path]}
    return folder.add_run(AddedRun(values=values, name=_free_name(name, folder)), runs_root)


def for_time(spec: str, config: Config, overrides: Sequence[str]) -> Definition:
    """An experiment that was made for an hour, with a config's time in place of that.

    Args:
        spec: An experiment that ships, whose runs and what lies between them take an hour.
        config: Its time budget is shared out as the hour is, and its seed is the first one.
        overrides: ``section.key=value`` each, which made ``config`` and change every run.
    """
    paths = [override.partition("=")[0].strip() for override in overrides]
    kept = tuple(o for o, path in zip(overrides, paths, strict=True) if path not in ELSEWHERE)
    found = read_definition(spec, Changes())
    document = yaml.safe_load(found.text)
    if "training.seed" in paths:
        arms = [arm for arm in document["arms"].values() if arm.get("seeds")]
        shift = config.training.seed - min(seed for arm in arms for seed in arm["seeds"])
        for arm in arms:
            arm["seeds"] = [(seed + shift) % 2**63 for seed in arm["seeds"]]
    if "sampling.prompts" in paths:
        document["prompts"] = list(config.sampling.prompts)
    minutes = found.experiment.budget.minutes
    assert minutes is not None
    assert config.training.minutes is not None
    budget = Budget(minutes=minutes * config.training.minutes / _MINUTES)
    changes = Changes(budget=budget, overrides=kept)
    return dataclasses.replace(found, text=_yaml(document), changes=changes)


def unbegun(name: str | None, stem: str, root: Path) -> ExperimentFolder:
    """Where a new experiment is to be.

    Args:
        name: Its name; None takes ``stem``, or that and a letter.
        stem: Of free names.
        root: The folder of all experiments.

    Raises:
        UserError: There is one of the name, or the name is no good.
    """
    if name is None:
        # Not numbers, which are those of runs.
        ends = itertools.chain(("",), (f"-{letter}" for letter in string.ascii_lowercase[1:]))
        folders = (new_folder(stem + end, root) for end in ends)
        if free := next((folder for folder in folders if not folder.exists), None):
            return free
        raise UserError(f"there are many experiments called {stem}; give this one a --name")
    folder = new_folder(name, root)
    if folder.exists:
        raise UserError(
            f"there is an experiment {name} already; go on with it: shakespeare-tui experiment run "
            f"{name}; or give another --name"
        )
    return folder


def _yaml(document: Mapping[str, Any]) -> str:
    return _HEAD + yaml.safe_dump(_plain(document), sort_keys=False, allow_unicode=True, width=100)


def _queue() -> Definition:
    text = f"{_HEAD}question: Configs that were queued, one after the other\ndesign: queue\n"
    text += f"base: {DEFAULT_PRESET}\n"
    return Definition(text, f"{QUEUE}.yaml", preset_path(DEFAULT_PRESET).read_text("utf-8"))


def _free_name(name: str, folder: ExperimentFolder) -> str:
    taken = {trial.variant.label for trial in folder.trials(folder.record())}
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} {number}"
    return free
