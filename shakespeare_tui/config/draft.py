"""The config being edited: changes to it, undo and redo, and what differs from what.

A draft holds what the user typed, also where it is no valid value yet, so that nothing is ever
lost; a ``Config`` comes out of it whenever everything in it is valid.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shakespeare_tui.config.config_draft_state import (
    Difference,
    DraftState,
    Origin,
    config_texts,
    nested,
)
from shakespeare_tui.config.fields import config_fields, section_types
from shakespeare_tui.config.load import parse_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.config.write import config_to_yaml

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
        values = {**self._present.texts, **self._present.values}
        sections = {
            name: section_types()[name].model_construct(**settings)
            for name, settings in nested(values).items()
        }
        return config_to_yaml(Config.model_construct(**sections))  # type: ignore[arg-type]

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
