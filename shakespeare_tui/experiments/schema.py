"""The declaration of experiment files, and how one is read: every problem at once, with its line.

A file names a base config and what its runs change of it: axes (values of settings, or ranges that
are searched), arms (named variants), seeds, and how long each run is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from shakespeare_tui.config.fields import (
    ConfigField,
    config_fields,
    find_field,
    read_value,
    section_types,
    unknown_path,
)
from shakespeare_tui.config.load import preset_names, preset_path, read_config_file
from shakespeare_tui.config.problems import (
    ConfigError,
    Problem,
    join_words,
    nearest,
    show_name,
    show_value,
    suggestion,
)
from shakespeare_tui.config.schema import (
    Boolean,
    Integer,
    Minutes,
    Number,
    OptionalInteger,
    OptionalNumber,
)
from shakespeare_tui.config.syntax import Mapping as MappingNode
from shakespeare_tui.config.syntax import Node, Scalar, plain, read_tree
from shakespeare_tui.errors import UserError
from shakespeare_tui.paths import shipped_folder

MetricName = Literal[
    "val_loss",
    "bits_per_byte",
    "perplexity",
    "accuracy",
    "train_loss",
    "seconds",
    "tokens_per_second",
]
ELSEWHERE = {
    "training.seed": "seeds",
    "training.max_steps": "budget",
    "training.minutes": "budget",
    "sampling.prompts": "prompts",
}
"""Settings that have a key of their own in an experiment."""
_TEXT = (
    "data.corpus",
    "data.validation",
    "data.val_fraction",
    "data.tokenizer",
    "data.vocab_size",
)


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Budget(_Closed):
    """How long each run is, by one of the three; empty leaves that to the config."""

    steps: OptionalInteger = Field(default=None, ge=1, le=100_000_000)
    """Optimiser steps."""
    minutes: Minutes | None = Field(default=None, examples=["3m", "1h"])
    """Time by the clock, as 100s, 1m 40s, 2h, or a number of minutes."""
    tokens: OptionalInteger = Field(default=None, ge=1, le=10**15)
    """Tokens to learn from, repetitions included; rounded up to whole steps."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name, value in self if value is not None]
        if len(given) > 1:
            raise ValueError(f"has {join_words(given, 'and')}; give one of them")
        return self

    def in_proportion(self, whole: "Budget", changed: "Budget") -> "Budget":
        """As many times ``changed`` as this is times ``whole``; ``changed`` if they do not compare.

        Args:
            whole: The budget of other runs.
            changed: What they get in its place.

        Raises:
            ValidationError: It is more than there may be.
        """
        factors = [
            value / getattr(whole, name)
            for name, value in self
            if value is not None and getattr(whole, name) is not None
        ]
        if not factors:
            return changed
        scaled = {
            name: value * factors[0] if name == "minutes" else max(1, round(value * factors[0]))
            for name, value in changed
            if value is not None
        }
        return Budget.model_validate(scaled)


class Range(_Closed):
    """Values that a search draws from; whole numbers where the setting is one."""

    low: Number
    """The smallest."""
    high: Number
    """The largest."""
    log: Boolean = False
    """Whether equal factors are equally likely, as for learning rates."""
    step: OptionalNumber = Field(default=None, gt=0)
    """Distance of the values from one another; empty leaves them free."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range must begin above 0, got {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; leave one of them out")
        return self


class Search(_Closed):
    """How values are searched for: by tree-structured Parzen estimators (TPE), with Optuna."""

    trials: Integer = Field(default=20, ge=1, le=100_000)
    """How many points are tried, by all processes together."""
    pruning: Boolean = True
    """Stop a run early where it lies above the median of the others at the same step."""
    startup_trials: Integer = Field(default=5, ge=1, le=100_000)
    """Points drawn at random, and finished, before any is chosen by what is known, or pruned."""
    seed: Integer = Field(default=0, ge=0, lt=2**32)
    """Of what is drawn."""
    storage: str = ""
    """Address of a database for the trials; empty keeps them in the experiment's folder."""


def _none_is_empty(value: Any) -> Any:
    return {} if value is None else value


Values = Annotated[dict[str, Any], BeforeValidator(_none_is_empty)]
Prompts = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=100)]
Seeds = Annotated[tuple[Annotated[Integer, Field(ge=0, lt=2**63)], ...], Field(max_length=1000)]


class Arm(_Closed):
    """A named variant."""

    set: Values = Field(default_factory=dict)
    """Its settings that differ from the others', by section.key."""
    budget: Annotated[Budget | None, BeforeValidator(_none_is_empty)] = None
    """Replaces the experiment's; scaled with it where the command line gives another length."""
    prompts: Prompts | None = None
    """Texts that its runs continue, in place of the experiment's."""
    seeds: Seeds = ()
    """In place of the experiment's."""
    distill: str = ""
    """Another arm, which is trained first: the runs of this one learn from the mean probabilities
    of its runs, of those with the same values on the axes."""


class Experiment(_Closed):
    """One question, and the runs that answer it."""

    model_config = ConfigDict(title="shakespeare-tui experiment")

    question: str = ""
    """What the runs are to tell."""
    base: str = Field(default="quick", min_length=1)
    """A preset, or a YAML file beside this one: what all runs have in common."""
    set: Values = Field(default_factory=dict)
    """Settings of all runs that differ from the base's, by section.key."""
    arms: Annotated[dict[str, Arm], BeforeValidator(_none_is_empty)] = Field(
        default_factory=dict, max_length=100
    )
    """Variants by name, each with settings, budget, prompts, seeds and teachers of its own."""
    axes: Values = Field(default_factory=dict)
    """Settings, each with a list of values, or for a search with a range (low, high, log, step)."""
    design: Literal["grid", "one_at_a_time", "paired", "queue"] = "grid"
    """All combinations of the axes; each axis by itself from the base; lists side by side; or
    nothing but the runs that are added one by one."""
    seeds: Seeds = ()
    """Every variant is trained once with each, if its arm has none; empty means the base's."""
    budget: Annotated[Budget, BeforeValidator(_none_is_empty)] = Budget()
    """How long each run is."""
    metric: MetricName = "val_loss"
    """What the best is judged by."""
    prompts: Prompts | None = None
    """Texts that all runs continue; empty leaves them to the config."""
    search: Search | None = None
    """Search for values, instead of trying all of them in turn."""

    @property
    def ranges(self) -> dict[str, Range]:
        """The axes that are searched."""
        return {path: axis for path, axis in self.axes.items() if isinstance(axis, Range)}


@dataclass(frozen=True)
class ExperimentFile:
    """An experiment as it was read.

    Attributes:
        experiment: What it says, its settings checked each by itself.
        source: How messages name the file.
        lines: The line of what is written at a path of keys, for messages.
    """

    experiment: Experiment
    source: str
    lines: Mapping[tuple[str, ...], int]


def shipped_experiments() -> list[str]:
    """The names of the experiments that come with the program."""
    return sorted(path.stem for path in _shipped().glob("*.yaml"))


def _shipped() -> Path:
    return shipped_folder("configs") / "experiments"


def find_experiment_file(spec: str) -> Path:
    """The file of a path or of a shipped experiment's name.

    Raises:
        UserError: There is none.
    """
    path = Path(spec)
    if path.is_file():
        return path
    shipped = shipped_experiments()
    if spec in shipped:
        return _shipped() / f"{spec}.yaml"
    hint = suggestion(path.stem, shipped) or f"; there are {join_words(shipped, 'and')}"
    raise UserError(f"{show_name(spec)}: no such experiment file{hint}")


def experiment_description(name: str) -> str:
    """The first comment of a shipped experiment's file: what it is for."""
    lines = find_experiment_file(name).read_text(encoding="utf-8").splitlines()
    described = (line for line in lines if line.startswith("#") and "$schema" not in line)
    return next(described, "").lstrip("# ")


def base_path(base: str, folder: Path) -> Path:
    """The file of an experiment's base: a preset, or a file beside the experiment's.

    Raises:
        UserError: There is none.
    """
    if base in preset_names():
        return preset_path(base)
    path = folder / base
    read_config_file(path)
    return path


def parse_experiment(text: str, filename: str) -> ExperimentFile:
    """Read an experiment file's text.

    Raises:
        ConfigError: With every problem found, one line each.
    """
    source = show_name(filename)
    tree = read_tree(text, source)
    return _Reader(source, tree).read()


def find_setting(name: str) -> ConfigField | None:
    """The setting of ``section.key``, or of a key alone where only one section has it."""
    alone = [field for field in config_fields() if field.key == name]
    return alone[0] if len(alone) == 1 else find_field(name)


class _Reader:
    def __init__(self, source: str, tree: Node) -> None:
        self._source, self._tree = source, tree
        self._problems: list[Problem] = []
        self._lines: dict[tuple[str, ...], int] = {}

    def read(self) -> ExperimentFile:
        tree = self._tree
        if isinstance(tree, Scalar) and tree.text is None:
            tree = MappingNode((), 1)
        if not isinstance(tree, MappingNode):
            message = "must hold keys with values, such as 'base: quick'"
            raise ConfigError([Problem(self._source, tree.line, "", message)])
        self._note_lines(tree, ())
        values = plain(tree)
        try:
            found = Experiment.model_validate(values)
        except ValidationError as error:
            self._problems += map(self._explained, error.errors(include_url=False))
            raise self._refusal() from None
        settings = self._settings(("set",), found.set)
        arms = {
            name: arm.model_copy(update={"set": self._settings(("arms", name, "set"), arm.set)})
            for name, arm in found.arms.items()
        }
        axes = self._axes(found.axes)
        changes = {"set": settings, "arms": arms, "axes": axes}
        experiment = found.model_copy(update=changes)
        self._check(experiment)
        if self._problems:
            raise self._refusal()
        return ExperimentFile(experiment, self._source, self._lines)

    def _refusal(self) -> ConfigError:
        return ConfigError(sorted(self._problems, key=lambda problem: problem.line or 0))

    def _note_lines(self, node: Node, path: tuple[str, ...]) -> None:
        """Remember where every key is, and refuse what is given twice."""
        if not isinstance(node, MappingNode):
            return
        for entry in node.entries:
            inner = (*path, entry.key)
            if inner in self._lines:
                message = f"given twice; the first is on line {self._lines[inner]}"
                where = show_name(".".join(inner))
                self._problems.append(Problem(self._source, entry.line, where, message))
            self._lines.setdefault(inner, entry.line)
            self._note_lines(entry.node, inner)

    def _refuse(self, path: tuple[str, ...], message: str) -> None:
        self._problems.append(self._problem(path, message))

    def _problem(self, path: tuple[str, ...], message: str) -> Problem:
        line = next(
            (self._lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._lines), 1
        )
        return Problem(self._source, line, show_name(".".join(path)) if path else "", message)

    def _explained(self, details: ErrorDetails) -> Problem:
        """One of the validator's problems in words for people."""
        keys = tuple(part for part in details["loc"] if isinstance(part, str))
        got = show_value(details["input"])
        match details["type"]:
            case "extra_forbidden":
                known = list(_known_keys(keys[:-1]))
                found = nearest(keys[-1], known)
                there_are = f"there are {join_words(known, 'and')}"
                message = f"unknown key; {f'did you mean {found}?' if found else there_are}"
            case "missing":
                message = f"is missing: a range has {keys[-1]}"
            case "value_error":
                message = str(details["ctx"]["error"])
            case "literal_error":
                message = f"must be {details['ctx']['expected']}, got {got}"
            case "string_too_short":
                message = "must not be empty"
            case "model_type" | "dict_type":
                message = f"must hold keys with values, got {got}"
            case "tuple_type":
                message = f"must be a list, such as [1, 2], got {got}"
            case _:
                message = f"{details['msg'].replace('Input should', 'must')}, got {got}"
        return self._problem(keys, message)

    def _settings(self, path: tuple[str, ...], values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with values of their types, by ``section.key``."""
        found = {}
        for key, raw in values.items():
            if key in section_types() and isinstance(raw, dict):
                inner = {f"{key}.{name}": ((*path, key, name), v) for name, v in raw.items()}
            else:
                inner = {key: ((*path, key), raw)}
            for name, (where, value) in inner.items():
                field = self._field(where, name)
                if field is not None:
                    found[field.path] = self._value(where, field, value)
        return found

    def _field(self, where: tuple[str, ...], name: str) -> ConfigField | None:
        """The setting of a name: ``section.key``, or the key alone where one section has it."""
        field = find_setting(name)
        if field is None:
            self._refuse(where, unknown_path(name))
        elif field.path in ELSEWHERE:
            key = ELSEWHERE[field.path]
            self._refuse(where, f"belongs under '{key}:' of the experiment or of an arm")
            return None
        return field

    def _value(self, where: tuple[str, ...], field: ConfigField, raw: Any) -> Any:
        value, problems = read_value(field, raw)
        for problem in problems:
            self._refuse(where, problem.message)
        return value

    def _axes(self, axes: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, raw in axes.items():
            where = ("axes", name)
            field = self._field(where, name)
            if field is None:
                continue
            if field.path in found:
                self._refuse(where, f"{field.path} is an axis already")
            if isinstance(raw, list):
                found[field.path] = tuple(self._value(where, field, item) for item in raw)
                if not raw:
                    self._refuse(where, "has no values; list some, such as [1, 2]")
                elif len(set(map(str, found[field.path]))) < len(raw):
                    self._refuse(where, "has a value twice")
            elif isinstance(raw, dict):
                found[field.path] = self._range(where, field, raw)
            else:
                self._refuse(where, f"must be a list of values or a range, got {show_value(raw)}")
        return found

    def _range(self, where: tuple[str, ...], field: ConfigField, raw: Any) -> Range | None:
        try:
            found = Range.model_validate(raw)
        except ValidationError as error:
            for details in error.errors(include_url=False):
                details["loc"] = (*where, *details["loc"])
                self._problems.append(self._explained(details))
            return None
        if field.kind not in ("integer", "number", "minutes"):
            self._refuse(where, f"is no number; list its values, such as {_example(field)}")
            return None
        for key in ("low", "high"):
            value = getattr(found, key)
            whole = int(value) if field.kind == "integer" and value == int(value) else value
            self._value((*where, key), field, whole)
        if field.kind == "integer" and found.step is not None and found.step != int(found.step):
            self._refuse((*where, "step"), f"must be a whole number, got {found.step:g}")
        return found

    def _check(self, experiment: Experiment) -> None:
        """What ties keys together."""
        lists = {path: axis for path, axis in experiment.axes.items() if isinstance(axis, tuple)}
        if experiment.ranges and experiment.search is None:
            message = "is a range, which needs 'search:' with the number of trials"
            self._refuse(("axes", next(iter(experiment.ranges))), message)
        if experiment.search is not None and not experiment.axes and not experiment.arms:
            self._refuse(("search",), "has nothing to search; name axes")
        if experiment.search is not None and experiment.design != "grid":
            self._refuse(("design",), "a search draws its values; leave design out")
        if experiment.design == "paired" and len({len(axis) for axis in lists.values()}) > 1:
            lengths = join_words([f"{path} has {len(axis)}" for path, axis in lists.items()], "and")
            self._refuse(("design",), f"paired axes need lists of one length; {lengths}")
        if experiment.search is not None and "data.corpus" in self._varied(experiment):
            message = "losses on different texts do not compare, so that none is best; no search"
            self._refuse(("search",), message)
        if experiment.design == "queue" and (experiment.axes or experiment.arms):
            self._refuse(("design",), "a queue has no axes and no arms: its runs are added")
        if len(set(experiment.seeds)) < len(experiment.seeds):
            self._refuse(("seeds",), "has a seed twice")
        for name, arm in experiment.arms.items():
            if len(set(arm.seeds)) < len(arm.seeds):
                self._refuse(("arms", name, "seeds"), "has a seed twice")
            if arm.seeds and experiment.search is not None:
                self._refuse(("arms", name, "seeds"), "a search has the same seeds for all arms")
            if arm.distill:
                self._check_teachers(experiment, name, arm.distill)

    def _check_teachers(self, experiment: Experiment, name: str, teachers: str) -> None:
        where = ("arms", name, "distill")
        if experiment.search is not None:
            self._refuse(where, "a search has no teachers; name single runs by --distill")
        elif teachers not in experiment.arms or teachers == name:
            others = [arm for arm in experiment.arms if arm != name]
            there_are = f"there are {join_words(others, 'and')}" if others else "there is none"
            self._refuse(where, f"{show_name(teachers)} is no other arm; {there_are}")
        elif experiment.arms[teachers].distill:
            self._refuse(
                where, f"{teachers} learns from teachers itself; name an arm that does not"
            )
        else:
            theirs = experiment.arms[teachers].set
            for path, value in experiment.arms[name].set.items():
                if path in _TEXT and value != theirs.get(path):
                    message = "a student has the text and the tokens of its teachers"
                    self._refuse(
                        ("arms", name, "set", path), f"{message}; set it in {teachers}, too"
                    )

    @staticmethod
    def _varied(experiment: Experiment) -> set[str]:
        return {*experiment.axes, *(path for arm in experiment.arms.values() for path in arm.set)}


def _known_keys(path: tuple[str, ...]) -> Iterator[str]:
    """The keys that may stand below a path."""
    match path:
        case ():
            yield from Experiment.model_fields
        case ("arms", _):
            yield from Arm.model_fields
        case ("search",):
            yield from Search.model_fields
        case ("axes", _):
            yield from Range.model_fields
        case _:
            yield from Budget.model_fields


def _example(field: ConfigField) -> str:
    values = field.choices[:2] or (("true", "false") if field.kind == "boolean" else ("a", "b"))
    return f"[{', '.join(values)}]"
