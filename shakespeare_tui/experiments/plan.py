"""What an experiment comes to: its variants, their seeds, and the config of each run."""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from pydantic import ValidationError

from shakespeare_tui.config.fields import config_fields, find_field, nested
from shakespeare_tui.config.load import parse_config, read_config_file
from shakespeare_tui.config.problems import ConfigError, Problem
from shakespeare_tui.config.schema import RULES, Config
from shakespeare_tui.config.write import config_to_yaml, write_text
from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.schema import (
    ELSEWHERE,
    Budget,
    Experiment,
    ExperimentFile,
    Range,
    base_path,
    find_experiment_file,
    parse_experiment,
)

MOST_RUNS = 2000


@cache
def short_name(path: str) -> str:
    """A setting's key, or ``section.key`` where several sections have it."""
    counts = Counter(field.key for field in config_fields())
    key = path.partition(".")[2]
    return key if counts[key] == 1 else path


def value_text(path: str, value: Any) -> str:
    """A setting's value as a form shows it."""
    field = find_field(path)
    return str(value) if field is None else write_text(field, value) or "empty"


@dataclass(frozen=True)
class Variant:
    """What is compared: an arm, or none, and a value for each axis; its runs differ in the seed."""

    arm: str
    values: Mapping[str, Any]

    @property
    def label(self) -> str:
        """``wikitext2 d_model=64``; ``base`` where nothing is changed."""
        parts = [self.arm] if self.arm else []
        parts += [f"{short_name(path)}={value_text(path, v)}" for path, v in self.values.items()]
        return " ".join(parts) or "base"


@dataclass(frozen=True, kw_only=True)
class AddedRun:
    """A run that was added to an experiment by itself.

    Attributes:
        values: Settings by path, with values of their types; its seed may be among them.
        name: How it is called in place of its values, which then are all that differs from the
            base's, and may be any.
        arm: Of the experiment, whose settings it has otherwise.
    """

    values: Mapping[str, Any]
    name: str = ""
    arm: str = ""

    @property
    def variant(self) -> Variant:
        """What it is compared as."""
        if self.name:
            return Variant(self.name, {})
        values = {path: v for path, v in self.values.items() if path != "training.seed"}
        return Variant(self.arm, values)


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What the command line changes of a file, for all runs.

    Attributes:
        budget: In place of the file's; an arm's own is scaled with it, if both are of one kind, and
            else replaced, too.
        overrides: ``section.key=value`` each.
        seeds: In place of the file's, its arms' included.
        limit: The most runs, the first ones; of a search the number of trials.
        added: Single runs beside those of the file.
    """

    budget: Budget | None = None
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    limit: int | None = None
    added: tuple[AddedRun, ...] = ()

    def with_later(self, other: "Changes") -> "Changes":
        """Those of an earlier command line with those of a later one, which win."""
        return Changes(
            budget=other.budget or self.budget,
            overrides=(*self.overrides, *other.overrides),
            seeds=other.seeds or self.seeds,
            limit=other.limit or self.limit,
            added=(*self.added, *other.added),
        )

    def as_json(self) -> dict[str, Any]:
        budget = None if self.budget is None else self.budget.model_dump()
        return {**dataclasses.asdict(self), "budget": budget}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Changes":
        budget = record.get("budget")
        return cls(
            budget=None if budget is None else Budget.model_validate(budget),
            overrides=tuple(record.get("overrides", ())),
            seeds=tuple(record.get("seeds", ())),
            limit=record.get("limit"),
            added=tuple(AddedRun(**added) for added in record.get("added", ())),
        )


@dataclass(frozen=True)
class PlannedRun:
    """A run that is to be made."""

    variant: Variant
    seed: int
    config: Config

    @cached_property
    def yaml(self) -> str:
        """The config as it is given to the trainer, and by which the run is known again."""
        return config_to_yaml(self.config, comments=False)


@dataclass(frozen=True)
class Definition:
    """Everything that decides an experiment's runs; what it was read from may change or go.

    Attributes:
        text: The experiment file's.
        filename: How messages name it.
        base_text: The base config's YAML.
        changes: What the command line changes of it.
    """

    text: str
    filename: str
    base_text: str
    changes: Changes = Changes()

    @cached_property
    def file(self) -> ExperimentFile:
        """The experiment file.

        Raises:
            ConfigError: With every problem found.
        """
        return parse_experiment(self.text, self.filename)

    @cached_property
    def experiment(self) -> Experiment:
        """What the file says, with the changes in it.

        Raises:
            ConfigError: With every problem found.
            UserError: An arm would be longer than may be.
        """
        found, changes = self.file.experiment, self.changes
        update: dict[str, Any] = {}
        arms = dict(found.arms)
        if changes.budget is not None:
            update["budget"] = changes.budget
            for name, arm in arms.items():
                if arm.budget is None:
                    continue
                try:
                    budget = arm.budget.in_proportion(found.budget, changes.budget)
                except ValidationError as error:
                    said = error.errors()[0]["msg"].replace("Input should", "must")
                    raise UserError(
                        f"{self.file.source}: the budget of arm {name}, scaled like the others, "
                        f"{said}"
                    ) from None
                arms[name] = arm.model_copy(update={"budget": budget})
        if changes.seeds:
            update["seeds"] = changes.seeds
            arms = {name: arm.model_copy(update={"seeds": ()}) for name, arm in arms.items()}
        update["arms"] = arms
        if changes.limit is not None and found.search is not None:
            update["search"] = found.search.model_copy(update={"trials": changes.limit})
        return found.model_copy(update=update)

    @cached_property
    def base(self) -> Config:
        """The base config."""
        return parse_config(self.base_text, self.experiment.base)

    @cached_property
    def overrides(self) -> dict[str, Any]:
        """The command line's settings with values of their types.

        Raises:
            UserError: One is wrong, or is what the experiment varies.
        """
        if not self.changes.overrides:
            return {}
        values = parse_config(
            self.base_text, self.experiment.base, self.changes.overrides
        ).by_path()
        paths = [text.partition("=")[0].strip() for text in self.changes.overrides]
        for path in paths:
            if path in self.experiment.axes:
                raise UserError(
                    f"--set {path}: is an axis of the experiment; change its values in the file"
                )
            if path in ELSEWHERE:
                raise UserError(
                    f"--set {path}: belongs to '{ELSEWHERE[path]}:' of the experiment; --seeds, "
                    "--minutes and --max-steps change it here, prompts the file"
                )
        return {path: values[path] for path in paths}

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every variant whose arm has none of its own, at least one."""
        return self.experiment.seeds or (self.base.training.seed,)

    def seeds_of(self, variant: Variant) -> tuple[int, ...]:
        """The seeds of a variant, at least one."""
        arm = self.experiment.arms.get(variant.arm)
        return (arm.seeds if arm else ()) or self.seeds

    def teaching_arm(self, variant: Variant) -> str:
        """The arm whose runs a variant's learn from; empty where they learn from none."""
        arm = self.experiment.arms.get(variant.arm)
        return arm.distill if arm else ""

    def config(self, variant: Variant, seed: int) -> Config:
        """The config of one run.

        Raises:
            ConfigError: Its settings do not go together.
        """
        experiment = self.experiment
        arm = experiment.arms.get(variant.arm)
        values = self.base.by_path() | experiment.set
        values |= (arm.set if arm else {}) | self.overrides | dict(variant.values)
        values["training.seed"] = seed
        prompts = arm.prompts if arm and arm.prompts is not None else experiment.prompts
        if prompts is not None:
            values["sampling.prompts"] = prompts
        budget = arm.budget if arm and arm.budget is not None else experiment.budget
        values |= _length(budget, values)
        return checked_config(values, variant.label, self.file.source, self._line(variant))

    def _line(self, variant: Variant) -> int | None:
        """Where what makes a variant stands in the file."""
        lines = self.file.lines
        found = [lines[key] for key in [("arms", variant.arm)] if key in lines]
        found += [
            line
            for keys, line in lines.items()
            if len(keys) > 1 and keys[0] == "axes" and _names(keys[1:], variant.values)
        ]
        return max(found, default=lines.get(("set",), 1))

    def variants(self) -> Iterator[Variant]:
        """What is compared, in order; of a search nothing, for that chooses as it goes."""
        experiment = self.experiment
        if experiment.search is not None or experiment.design == "queue":
            return
        axes = {path: tuple(axis) for path, axis in experiment.axes.items()}
        for arm in experiment.arms or ("",):
            if experiment.design == "one_at_a_time":
                yield Variant(arm, {})
                yield from self._one_at_a_time(arm, axes)
                continue
            rows = zip(*axes.values(), strict=True)
            combined = itertools.product(*axes.values())
            for values in rows if experiment.design == "paired" and axes else combined:
                yield Variant(arm, dict(zip(axes, values, strict=True)))

    def _one_at_a_time(self, arm: str, axes: Mapping[str, tuple[Any, ...]]) -> Iterator[Variant]:
        """Each value by itself; one that the base has is that run already."""
        config = self.config(Variant(arm, {}), self.seeds[0])
        base = config.by_path() | config.effective_values()
        for path, values in axes.items():
            yield from (Variant(arm, {path: value}) for value in values if value != base[path])

    def runs(self) -> list[PlannedRun]:
        """Every run that there is to make, in order; none of a search.

        Raises:
            ConfigError: Settings of some do not go together; each is named.
            UserError: There are too many.
        """
        variants = list(itertools.islice(self.variants(), MOST_RUNS + 1))
        seeds = list(map(self.seeds_of, variants))
        if sum(map(len, seeds)) > MOST_RUNS:
            raise UserError(
                f"{self.file.source}: more than {MOST_RUNS:,} runs; take fewer values, or a search"
            )
        planned: list[PlannedRun] = []
        problems: list[Problem] = []
        # Every variant once before any has its second seed: what can be compared early is. But who
        # learns from others comes after all of them.
        in_rounds = [
            (seed, variant)
            for round_ in itertools.zip_longest(*seeds)
            for seed, variant in zip(round_, variants, strict=True)
            if seed is not None
        ]
        for seed, variant in sorted(in_rounds, key=lambda pair: bool(self.teaching_arm(pair[1]))):
            try:
                planned.append(PlannedRun(variant, seed, self.config(variant, seed)))
            except ConfigError as error:
                problems += error.problems
        planned = planned[: self.changes.limit]
        for added in self.changes.added:
            try:
                planned.append(self.added_run(added))
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(dict.fromkeys(problems))
        return planned

    def added_run(self, added: AddedRun) -> PlannedRun:
        """A run that was added by itself.

        Raises:
            ConfigError: Its settings do not go together.
        """
        seed = added.values.get("training.seed", self.seeds_of(added.variant)[0])
        if not added.name:
            return PlannedRun(added.variant, seed, self.config(added.variant, seed))
        values = self.config(added.variant, seed).by_path() | dict(added.values)
        return PlannedRun(added.variant, seed, checked_config(values, added.name))

    def ends(self) -> list[PlannedRun]:
        """What a search of the smallest values, and of the largest, would train, in each arm.

        Raises:
            ConfigError: They do not go together with the other settings.
        """
        experiment, seed = self.experiment, self.seeds[0]
        found = []
        for arm, end in itertools.product(experiment.arms or ("",), (0, -1)):
            values = {
                path: drawn(path, (axis.low, axis.high)[end])
                if isinstance(axis, Range)
                else axis[end]
                for path, axis in experiment.axes.items()
            }
            variant = Variant(arm, values)
            found.append(PlannedRun(variant, seed, self.config(variant, seed)))
        return found

    def as_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "changes": self.changes.as_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Definition":
        """Read back what ``as_json`` gave.

        Raises:
            KeyError: Something is missing.
        """
        return cls(
            record["text"],
            record["filename"],
            record["base_text"],
            Changes.from_json(record["changes"]),
        )


def checked_config(
    values: Mapping[str, Any], label: str, source: str = "", line: int | None = None
) -> Config:
    """The config of values that are valid each by itself.

    Args:
        values: By path.
        label: How messages name it.
        source: The file that it is from.
        line: Where in the file.

    Raises:
        ConfigError: They do not go together.
    """
    broken = [rule.problem(*(values[path] for path in rule.paths)) for rule in RULES]
    if problems := [message for message in broken if message]:
        raise ConfigError(Problem(source, line, label, message) for message in problems)
    return Config.model_validate(nested(values))


def drawn(path: str, value: float) -> float:
    """A number that a search has drawn, as the setting has it: whole, or of four digits."""
    field = find_field(path)
    return round(value) if field and field.kind == "integer" else float(f"{value:.4g}")


def read_definition(spec: str, changes: Changes) -> Definition:
    """The experiment of a file, or of a shipped one's name.

    Raises:
        UserError: It cannot be read.
        ConfigError: With every problem found.
    """
    path = find_experiment_file(spec)
    text = read_config_file(path)
    base = parse_experiment(text, str(path)).experiment.base
    base_text = read_config_file(base_path(base, path.parent))
    definition = Definition(text, str(path), base_text, changes)
    # What is wrong with the base is said of the base.
    parse_config(base_text, base)
    return definition


def _names(keys: tuple[str, ...], values: Mapping[str, Any]) -> bool:
    return keys[0] in values or any(short_name(path) == keys[0] for path in values)


def _length(budget: Budget, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that make a run as long as its budget."""
    if budget.minutes is not None:
        return {"training.minutes": budget.minutes}
    steps = budget.steps
    if budget.tokens is not None:
        seq_len = values["data.seq_len"] or values["model.max_seq_len"]
        tokens = values["training.batch_size"] * values["training.grad_accumulation"] * seq_len
        steps = math.ceil(budget.tokens / tokens)
    return {} if steps is None else {"training.max_steps": steps, "training.minutes": None}
