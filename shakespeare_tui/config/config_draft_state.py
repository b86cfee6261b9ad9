"""One moment of a config being edited: what is written, what is wrong with it, what it comes to."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from shakespeare_tui.config.config_field_text import read_text, write_text
from shakespeare_tui.config.config_rules import RULES
from shakespeare_tui.config.fields import ConfigField, config_fields, find_field, section_types
from shakespeare_tui.config.load import load_config
from shakespeare_tui.config.schema import Config

OriginKind = Literal["preset", "file", "run", "config"]

_FREE_WITH_WEIGHTS = ("model.dropout",)


@dataclass(frozen=True)
class Origin:
    """Where a draft came from, and what its changes are measured against.

    Attributes:
        kind: A preset, a file, a run, or a config handed over by another place.
        name: The preset's or run's name, or the file's path.
        config: Its values.
        stem: What a run of it is called before its number.
        start_from: The checkpoint ``RUN@STEP`` whose weights the new run starts from.
    """

    kind: OriginKind
    name: str
    config: Config
    stem: str = "run"
    start_from: str | None = None

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """Every value as the form shows it, by ``section.key``."""
        return config_texts(self.config)


@dataclass(frozen=True)
class Difference:
    """A setting whose texts differ between a draft and something else."""

    field: ConfigField
    ours: str
    theirs: str


@dataclass(frozen=True)
class DraftState:
    """One moment of a draft; moments are what undo goes back to."""

    origin: Origin
    texts: Mapping[str, str]

    @cached_property
    def values(self) -> dict[str, Any]:
        """The values of the valid texts by path."""
        read = {field.path: read_text(field, self.texts[field.path]) for field in config_fields()}
        return {path: value for path, (value, problems) in read.items() if not problems}

    @cached_property
    def problems(self) -> dict[str, tuple[str, ...]]:
        """What is wrong, by the path of the setting that it is shown beside."""
        found: dict[str, list[str]] = {}
        for field in config_fields():
            _, problems = read_text(field, self.texts[field.path])
            if problems:
                found[field.path] = problems
        for rule in RULES:
            if all(path in self.values for path in rule.paths):
                message = rule.problem(*(self.values[path] for path in rule.paths))
                if message:
                    changed = [path for path in rule.paths if self.is_changed(path)]
                    for path in changed or rule.paths[:1]:
                        found.setdefault(path, []).append(message)
        for path in self._unlike_the_weights():
            theirs = self.origin.texts[path] or "empty"
            found.setdefault(path, []).append(
                f"the weights of {self.origin.start_from} need {theirs}; restore it, or start "
                "from new weights"
            )
        return {path: tuple(messages) for path, messages in found.items()}

    def _unlike_the_weights(self) -> list[str]:
        if self.origin.start_from is None:
            return []
        paths = (field.path for field in config_fields() if field.section == "model")
        return [path for path in paths if path not in _FREE_WITH_WEIGHTS and self.is_changed(path)]

    @cached_property
    def config(self) -> Config | None:
        """The config; None while anything is wrong."""
        return None if self.problems else Config.model_validate(nested(self.values))

    def is_changed(self, path: str) -> bool:
        """Whether a setting has another value than in the origin, however it is written."""
        return path not in self.values or self.values[path] != self._origin_values[path]

    @cached_property
    def _origin_values(self) -> dict[str, Any]:
        return self.origin.config.by_path()


def config_texts(config: Config) -> dict[str, str]:
    """Every value of a config as the form shows it, by path."""
    values = config.by_path()
    return {field.path: write_text(field, values[field.path]) for field in config_fields()}


def preset_origin(name: str) -> Origin:
    """A preset as an origin.

    Raises:
        UserError: There is no such preset.
    """
    return Origin("preset", name, load_config(name), stem=name)


def effective_text(config: Config, path: str) -> str:
    """What an empty setting stands for, as text; empty where it simply is not used."""
    meaning: dict[str, float] = {
        "model.d_ff": config.model.feedforward_width,
        "training.min_lr": config.training.final_learning_rate,
        "data.seq_len": config.seq_len,
        "data.stride": config.data.stride or config.seq_len,
    }
    field = find_field(path)
    return write_text(field, meaning[path]) if field is not None and path in meaning else ""


def nested(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``section.key`` settings as sections of keys; every section is there."""
    sections: dict[str, dict[str, Any]] = {name: {} for name in section_types()}
    for path, value in values.items():
        section, _, key = path.partition(".")
        sections[section][key] = value
    return sections
