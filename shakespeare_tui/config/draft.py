"""The config being edited: changes to it, undo and redo, and what differs from what.

A draft holds what the user typed, also where it is no valid value yet, so that nothing is ever
lost; a ``Config`` comes out of it whenever everything in it is valid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import filelock

from shakespeare_tui.config.fields import ConfigField, config_fields, find_field, nested
from shakespeare_tui.config.load import load_config, parse_config, preset_names
from shakespeare_tui.config.schema import RULES, Config
from shakespeare_tui.config.write import config_to_yaml, read_text, values_to_yaml, write_text
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import write_json_atomically
from shakespeare_tui.formatting import counted
from shakespeare_tui.settings_files import read_json_file, set_aside

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

    def described(self) -> str:
        """``quick (2 settings changed) on tiny_shakespeare``: what a valid one would train.

        The corpus, which is named anyway, does not count as a change.
        """
        assert self.config is not None
        values, text = self.config.by_path(), self.origin.stem
        if text in preset_names():
            preset = load_config(text).by_path()
            changed = sum(
                value != preset[path] for path, value in values.items() if path != "data.corpus"
            )
            text += f" ({counted(changed, 'setting')} changed)" if changed else ""
        return f"{text} on {Path(self.config.data.corpus).name}"

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
    if path == "training.weight_decay":
        return "by the corpus"
    field, values = find_field(path), config.effective_values()
    return write_text(field, values[path]) if field is not None and path in values else ""


_MOST_UNDO_STEPS = 500


@dataclass(frozen=True)
class _Typing:
    path: str
    before: DraftState


class ConfigDraft:
    """A config under the hands of a user.

    Args:
        origin: What to begin with.
    """

    def __init__(self, origin: Origin) -> None:
        self._present = DraftState(origin, origin.texts)
        self._past: list[DraftState] = []
        self._future: list[DraftState] = []
        self._typing: _Typing | None = None

    # --- what it is now ------------------------------------------------------------------------

    @property
    def state(self) -> DraftState:
        """The present moment: origin, texts, problems and config."""
        return self._present

    @property
    def origin(self) -> Origin:
        """What changes are measured against."""
        return self._present.origin

    @property
    def config(self) -> Config | None:
        """The config; None while anything is wrong."""
        return self._present.config

    @property
    def runnable(self) -> DraftState:
        """What a run would be started with: the present moment, or the last one that was valid."""
        moments = (self._present, *reversed(self._past))
        valid = (moment for moment in moments if moment.config is not None)
        return next(valid, DraftState(self.origin, self.origin.texts))

    @property
    def problems(self) -> Mapping[str, tuple[str, ...]]:
        """What is wrong, by the path of the setting that it is shown beside."""
        return self._present.problems

    @property
    def changed_paths(self) -> tuple[str, ...]:
        """The settings that differ from the origin, in the order of the declaration."""
        paths = (field.path for field in config_fields())
        return tuple(path for path in paths if self._present.is_changed(path))

    @property
    def can_undo(self) -> bool:
        """Whether there is something to take back."""
        return bool(self._past) or self._is_typing_changed()

    def text(self, path: str) -> str:
        """The text of one setting as it was typed."""
        return self._present.texts[path]

    def differences(self, other: Config) -> tuple[Difference, ...]:
        """The settings whose values differ from those of ``other``, also invalid ones."""
        theirs, values = other.by_path(), self._present.values
        texts = config_texts(other)
        return tuple(
            Difference(field, self.text(field.path), texts[field.path])
            for field in config_fields()
            if field.path not in values or values[field.path] != theirs[field.path]
        )

    def to_yaml(self) -> str:
        """The draft as YAML with comments; what is invalid stands there as it was typed."""
        return values_to_yaml({**self._present.texts, **self._present.values})

    # --- editing -------------------------------------------------------------------------------

    def set_text(self, path: str, text: str) -> bool:
        """Change one setting as one step; whether anything changed.

        Raises:
            KeyError: There is no such setting.
        """
        return self.set_texts({path: text})

    def set_texts(self, changes: Mapping[str, str]) -> bool:
        """Change several settings as one step; whether anything changed.

        Raises:
            KeyError: There is no such setting.
        """
        self.end_typing()
        if unknown := changes.keys() - self._present.texts.keys():
            raise KeyError(", ".join(sorted(unknown)))
        return self._step(replace(self._present, texts={**self._present.texts, **changes}))

    def reset(self, path: str) -> bool:
        """Give one setting the origin's value back; whether anything changed."""
        return self.set_text(path, self.origin.texts[path])

    def load(self, origin: Origin) -> bool:
        """Replace everything, as one step that undo takes back; whether anything changed."""
        self.end_typing()
        return self._step(DraftState(origin, origin.texts))

    def load_yaml(self, text: str, filename: str) -> bool:
        """Take every value from YAML and keep the origin; whether anything changed.

        Raises:
            ConfigError: With every problem, one line each; the draft is as it was.
        """
        self.end_typing()
        texts = config_texts(parse_config(text, filename))
        return self._step(replace(self._present, texts=texts))

    def restore(self, kept: "ConfigDraft") -> None:
        """Go on from a draft that was kept; what was changed here becomes its last step."""
        changes = {path: self.text(path) for path in self.changed_paths}
        self._present, self._past, self._future = kept._present, kept._past, kept._future
        self.set_texts(changes)

    def rebase(self, origin: Origin) -> bool:
        """Measure changes against something else from now on; the values stay."""
        self.end_typing()
        return self._step(replace(self._present, origin=origin))

    def forget_weights(self) -> bool:
        """Start from new weights instead of a checkpoint's; whether anything changed."""
        return self.rebase(replace(self.origin, start_from=None))

    # --- typing: many small changes that are one step ------------------------------------------

    def type_text(self, path: str, text: str) -> None:
        """Change a setting while it is being typed; ``end_typing`` makes one step of it all."""
        if self._typing is None or self._typing.path != path:
            self.end_typing()
            self._typing = _Typing(path, self._present)
        self._present = replace(self._present, texts={**self._present.texts, path: text})

    def end_typing(self) -> bool:
        """Make one step of what was typed; whether anything changed."""
        if self._typing is None:
            return False
        typed, self._present, self._typing = self._present, self._typing.before, None
        return self._step(typed)

    def cancel_typing(self) -> None:
        """Put back what was there before typing."""
        if self._typing is not None:
            self._present, self._typing = self._typing.before, None

    def _is_typing_changed(self) -> bool:
        return self._typing is not None and self._typing.before != self._present

    # --- undo and redo -------------------------------------------------------------------------

    def undo(self) -> tuple[str, ...] | None:
        """Take the last step back; the paths whose texts changed, None where there is no step."""
        self.end_typing()
        if not self._past:
            return None
        self._future.append(self._present)
        return self._go_to(self._past.pop())

    def redo(self) -> tuple[str, ...] | None:
        """Do the step again that was taken back last; as ``undo``."""
        self.end_typing()
        if not self._future:
            return None
        self._past.append(self._present)
        return self._go_to(self._future.pop())

    def _step(self, after: DraftState) -> bool:
        if after == self._present:
            return False
        self._past.append(self._present)
        del self._past[:-_MOST_UNDO_STEPS]
        self._future.clear()
        self._present = after
        return True

    def _go_to(self, state: DraftState) -> tuple[str, ...]:
        before, self._present = self._present, state
        return tuple(path for path, text in state.texts.items() if text != before.texts[path])

    # --- history as data -----------------------------------------------------------------------

    def history(self, most: int) -> tuple[list[DraftState], int]:
        """Up to ``most`` moments on either side of the present, and the present's place in them.

        Moments never change, so that another thread may read them. Typing that has not ended
        counts as a step.
        """
        past, future = self._past[-most:], self._future[-most:][::-1]
        if self._typing is not None and self._is_typing_changed():
            past, future = [*past, self._typing.before][-most:], []
        return [*past, self._present, *future], len(past)

    @classmethod
    def from_history(cls, states: list[DraftState], present: int) -> "ConfigDraft":
        """The draft whose ``history`` this was.

        Raises:
            IndexError: There is no such moment.
        """
        draft = cls(states[present].origin)
        draft._present = states[present]
        draft._past = states[:present]
        draft._future = states[present + 1 :][::-1]
        return draft


FORMAT_VERSION = 1
_MOST_SLOTS = 9
_MOST_BYTES = 1 << 22

Record = dict[str, Any]


class DraftStore:
    """The draft's file, one for each lab that runs at the same time.

    The first lab has ``config-draft.json``; while it runs, a second one has
    ``config-draft-2.json``, so that neither overwrites the other's edits.

    Args:
        folder: The settings folder; it is made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._lock: filelock.BaseFileLock | None = None

    @property
    def path(self) -> Path | None:
        """The file; None until it was opened."""
        return self._path

    def open(self) -> ConfigDraft | None:
        """Take a file that no other lab has, and read the draft in it.

        Returns:
            The draft as it was left, or None where there is none.

        Raises:
            UserError: The folder cannot be written, or the file is damaged; the damaged one is
                kept under another name and the next call succeeds without it.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for slot in range(1, _MOST_SLOTS + 1):
                name = "config-draft" if slot == 1 else f"config-draft-{slot}"
                lock = filelock.FileLock(self._folder / f"{name}.lock", thread_local=False)
                try:
                    lock.acquire(timeout=0)
                except filelock.Timeout:
                    continue
                self._path, self._lock = self._folder / f"{name}.json", lock
                return self._read(self._path)
        except OSError as error:
            raise UserError(
                f"edits of the config will not outlive this session: {self._folder} cannot be "
                f"written ({error.strerror or error}); set SHAKESPEARE_TUI_CONFIG to a folder of "
                "yours"
            ) from None
        raise UserError(
            f"{_MOST_SLOTS} labs are open; this one's edits of the config will not outlive it, "
            "save them as a file"
        )

    def close(self) -> None:
        """Leave the file to the next lab."""
        if self._lock is not None:
            self._lock.release()
        self._lock = self._path = None

    def save(self, record: Record) -> None:
        """Write what ``draft_record`` made; may be called from any thread.

        Raises:
            OSError: The disk is full or the folder cannot be written; the old file is untouched.
        """
        if self._path is not None:
            write_json_atomically(self._path, record)

    def _read(self, path: Path) -> ConfigDraft | None:
        try:
            return read_record(read_json_file(path, _MOST_BYTES))
        except FileNotFoundError:
            return None
        except (ValueError, UserError) as error:
            raise UserError(
                f"the saved draft of the config is damaged ({_first_line(error)}); "
                f"{set_aside(path)}, and a new one begins"
            ) from None


def draft_record(history: tuple[list[DraftState], int]) -> Record:
    """What ``ConfigDraft.history`` gave, as JSON's types; safe in any thread."""
    states, present = history
    origins: list[Origin] = []
    moments = []
    for state in states:
        if state.origin not in origins:
            origins.append(state.origin)
        moments.append(
            {"origin": origins.index(state.origin), "texts": _unlike(state.texts, _DEFAULT_TEXTS)}
        )
    return {
        "format": FORMAT_VERSION,
        "origins": [
            {
                "kind": origin.kind,
                "name": origin.name,
                "stem": origin.stem,
                "start_from": origin.start_from,
                "config": config_to_yaml(origin.config, comments=False),
            }
            for origin in origins
        ],
        "moments": moments,
        "present": present,
    }


def read_record(record: Any) -> ConfigDraft:
    """The draft that ``draft_record`` was made of.

    Settings that this version does not know are left out, and those that the record does not know
    have their defaults.

    Raises:
        ValueError: It is no such record.
        UserError: A config in it no longer fits.
    """
    try:
        if record["format"] != FORMAT_VERSION:
            raise ValueError(f"format {record['format']!r}, this program reads {FORMAT_VERSION}")
        origins = [_read_origin(item) for item in record["origins"]]
        states = [
            DraftState(origins[moment["origin"]], _with_defaults(moment["texts"]))
            for moment in record["moments"]
        ]
        return ConfigDraft.from_history(states, record["present"])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"not a draft: {error}") from None


_DEFAULT_TEXTS = config_texts(Config())


def _read_origin(item: Mapping[str, Any]) -> Origin:
    if item["kind"] not in get_args(OriginKind):
        raise ValueError(f"an origin of kind {item['kind']!r}")
    start_from = item["start_from"]
    return Origin(
        kind=item["kind"],
        name=str(item["name"]),
        config=parse_config(item["config"], str(item["name"])),
        stem=str(item["stem"]),
        start_from=None if start_from is None else str(start_from),
    )


def _with_defaults(texts: Mapping[str, Any]) -> dict[str, str]:
    return {path: str(texts.get(path, default)) for path, default in _DEFAULT_TEXTS.items()}


def _unlike(texts: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    return {path: text for path, text in texts.items() if text != others[path]}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
