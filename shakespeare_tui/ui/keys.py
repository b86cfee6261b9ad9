"""Check a key map against the bindings there are, and write a template with all of them."""

import importlib
from collections.abc import Iterable
from pathlib import Path

from textual.binding import Binding
from textual.dom import DOMNode


def known_bindings() -> dict[type[DOMNode], list[Binding]]:
    """The remappable bindings of the lab by the class that has them; loads all places."""
    from shakespeare_tui.ui.place_bar import PLACES

    for place in PLACES:
        importlib.import_module(f"shakespeare_tui.ui.{place}.screen")
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
