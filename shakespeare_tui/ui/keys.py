"""The user's key map: read, checked against the bindings there are, and a template of them all."""

import importlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from textual.binding import Binding
from textual.dom import DOMNode
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


def known_bindings() -> dict[type[DOMNode], list[Binding]]:
    """The remappable bindings of the lab by the class that has them; loads all screens."""
    from shakespeare_tui.ui.lab_screen import SCREENS

    for mode in SCREENS:
        importlib.import_module(f"shakespeare_tui.ui.{mode}.screen")
    found = {}
    for node_type in _subclasses(DOMNode):
        if node_type.__module__.startswith("shakespeare_tui."):
            bindings = [
                b for b in Binding.make_bindings(vars(node_type).get("BINDINGS", [])) if b.id
            ]
            if bindings:
                found[node_type] = bindings
    return found


def check_keymap(keys: dict[str, str], bindings: dict[type[DOMNode], list[Binding]]) -> list[str]:
    """What is wrong with a key map, one line a problem: unknown actions and keys given twice."""
    import difflib

    known = {binding.id for group in bindings.values() for binding in group if binding.id}
    problems = []
    for action in keys:
        if action not in known:
            near = difflib.get_close_matches(action, known, n=1)
            hint = (
                f"; did you mean {near[0]}?"
                if near
                else "; the palette writes a key map with all of them"
            )
            problems.append(f"keys.yaml: there is no action {action}{hint}")
    for group in bindings.values():
        problems += _clashes(group, keys)
    return problems


def _clashes(group: Iterable[Binding], keys: dict[str, str]) -> list[str]:
    taken: dict[str, str] = {}
    problems = []
    for binding in group:
        assert binding.id is not None
        for key in keys.get(binding.id, binding.key).split(","):
            other = taken.setdefault(_long_name(key), binding.id)
            if other != binding.id:
                problems.append(f"keys.yaml: {key} is both {other} and {binding.id}")
    return problems


def _long_name(key: str) -> str:
    (binding,) = Binding.make_bindings([Binding(key, "")])
    return binding.key


def write_template(path: Path) -> bool:
    """Write a key map with every action as a comment; False where there is a file already.

    Raises:
        OSError: The folder cannot be written.
    """
    from shakespeare_tui.files import write_atomically

    if path.exists():
        return False
    lines = [
        "# Keys of the lab. Take the # from a line and change the key; several: 'j,down'.",
        "# Names: a, A, f5, ctrl+t, shift+left, space, enter, question_mark …",
    ]
    for node_type, group in sorted(known_bindings().items(), key=lambda item: item[0].__name__):
        lines.append(f"\n# {node_type.__name__}")
        by_action: dict[str, list[Binding]] = {}
        for binding in group:
            by_action.setdefault(binding.id or "", []).append(binding)
        for action, same in by_action.items():
            keys = ",".join(binding.key for binding in same)
            lines.append(f'# {action}: "{keys}"  # {same[0].description}'.rstrip())
    write_atomically(path, "\n".join(lines) + "\n")
    return True


def _subclasses(node_type: type[DOMNode]) -> Iterable[type[DOMNode]]:
    for child in node_type.__subclasses__():
        yield child
        yield from _subclasses(child)
