"""Remapped keys: read ``keys.yaml``."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from textual.binding import Binding
from textual.keys import Keys

from shakespeare_tui.errors import UserError
from shakespeare_tui.paths import settings_folder

_MODIFIERS = {"ctrl", "shift", "alt", "super", "hyper", "meta"}
_CHARACTERS = (chr(code) for code in range(33, 127) if chr(code) != ",")
_KEY_NAMES = (
    {key.value.rpartition("+")[2] for key in Keys}
    | {binding.key for binding in Binding.make_bindings((c, "") for c in _CHARACTERS)}
    | {f"f{number}" for number in range(1, 25)}
    | {"comma"}
) - {""}


@dataclass(frozen=True)
class KeyMap:
    """Keys by binding id, as Textual takes them, and what was wrong with the file."""

    keys: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def keymap_path() -> Path:
    """Where the user's keys are: ``keys.yaml`` beside the settings."""
    return settings_folder() / "keys.yaml"


def load_keymap(path: Path | None = None) -> KeyMap:
    """Read a key map; what cannot be used is left out and told in ``problems``, one line each."""
    path = path or keymap_path()
    if not os.path.lexists(path):
        return KeyMap()
    # Reading YAML waits until there is some.
    from shakespeare_tui.settings_files import read_yaml_file

    try:
        record = read_yaml_file(path)
    except FileNotFoundError:
        return KeyMap()
    except UserError as error:
        return KeyMap(problems=(f"{path} cannot be used ({error}); the keys stay as they are",))
    if record is None:
        return KeyMap()
    if not isinstance(record, dict):
        return KeyMap(problems=(f"{path}: each line is 'action: key'; the keys stay as they are",))
    keys, problems = {}, []
    for action, value in record.items():
        wanted = [str(key).strip() for key in (value if isinstance(value, list) else [value])]
        wanted = [
            key.strip()
            for keys_ in wanted
            for key in (keys_.split(",") if len(keys_) > 1 else [keys_])
        ]
        bad = [key for key in wanted if not is_key(key)]
        if bad:
            problems.append(f"{path.name}: {bad[0]!r} is no key (for {action}); try f5 or ctrl+t")
        else:
            keys[str(action)] = ",".join(wanted)
    return KeyMap(keys, tuple(problems))


def is_key(name: str) -> bool:
    """Whether Textual knows a key of this name: ``x``, ``ctrl+t``, ``f5``, ``question_mark``."""
    *modifiers, key = name.split("+") if name != "+" else [name]
    if not set(modifiers) <= _MODIFIERS:
        return False
    if len(key) == 1:
        return key.isprintable() and not key.isspace()
    return key in _KEY_NAMES
