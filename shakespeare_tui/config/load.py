"""Load configs: presets and YAML files with overrides, every problem reported at once."""

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shakespeare_tui.config.fields import (
    ConfigField,
    FieldProblem,
    config_fields,
    find_field,
    nested,
    read_value,
    section_types,
    unknown_key,
    unknown_path,
    unknown_section,
)
from shakespeare_tui.config.problems import (
    ConfigError,
    Problem,
    join_words,
    nearest,
    show_name,
    show_value,
)
from shakespeare_tui.config.schema import RULES, Config
from shakespeare_tui.config.syntax import Mapping, Node, Scalar, plain, read_tree
from shakespeare_tui.config.syntax import Sequence as ListNode
from shakespeare_tui.config.write import write_scalar
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import read_bounded, reason
from shakespeare_tui.paths import shipped_folder

__all__ = [
    "DEFAULT_PRESET",
    "ConfigError",
    "Problem",
    "load_config",
    "parse_config",
    "preset_description",
    "preset_names",
    "preset_path",
    "read_config_file",
]

DEFAULT_PRESET = "quick"

_LARGEST_BYTES = 128 * 1024


def preset_names() -> list[str]:
    """The names of the shipped configs, in alphabetical order."""
    return sorted(path.stem for path in shipped_folder("configs").glob("*.yaml"))


def preset_path(name: str) -> Path:
    """The file of a shipped config.

    Raises:
        UserError: There is no preset of this name.
    """
    if name in preset_names():
        return shipped_folder("configs") / f"{name}.yaml"
    raise UserError(f"no preset named {show_name(name)}{_preset_hint(name)}")


def preset_description(name: str) -> str:
    """The first comment of a preset's file: what it is for.

    Raises:
        UserError: There is no preset of this name.
    """
    for line in preset_path(name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "yaml-language-server" not in line:
            return line.lstrip("# ")
    return ""


def load_config(spec: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load a preset or a YAML file and put overrides on top.

    Args:
        spec: A preset's name or a file's path; a preset wins, ``./tiny`` names the file.
        overrides: ``section.key=value`` each, the value as YAML; later ones win.

    Raises:
        ConfigError: The content or an override is wrong; one line a problem.
        UserError: There is no such preset or file, or it cannot be read.
    """
    path = preset_path(spec) if isinstance(spec, str) and spec in preset_names() else Path(spec)
    return parse_config(read_config_file(path), str(path), overrides)


def parse_config(text: str, filename: str, overrides: Sequence[str] = ()) -> Config:
    """Turn YAML text into a config; settings that it does not name keep their defaults.

    Args:
        text: The YAML; empty text gives the defaults.
        filename: How messages name it.
        overrides: As for ``load_config``.

    Raises:
        ConfigError: With every problem found, one line each.
    """
    problems: list[Problem] = []
    given: dict[str, _Given] = {}
    for item in _file_values(text, show_name(filename), problems):
        given[item.field.path] = item
    for override in overrides:
        if set_value := _override_value(override, problems):
            given[set_value.field.path] = set_value
    values = {field.path: field.default for field in config_fields()}
    refused = set()
    for path, item in given.items():
        value, found = read_value(item.field, plain(item.node))
        values[path] = value
        if found:
            refused.add(path)
            problems.extend(item.problem(problem) for problem in found)
    problems.extend(_rule_problems(values, given, refused))
    if problems:
        raise ConfigError(sorted(problems, key=_by_place))
    return Config.model_validate(nested({path: values[path] for path in given}))


@dataclass(frozen=True)
class _Given:
    """A value that the user wrote; ``in_file`` tells a file from a ``--set``."""

    field: ConfigField
    node: Node
    source: str
    in_file: bool
    line: int

    def problem(self, found: FieldProblem | str) -> Problem:
        """``found`` with the place where the user wrote the value."""
        if isinstance(found, str):
            found = FieldProblem(found)
        place, node, line = self.field.path, self.node, self.line
        if found.item is not None and isinstance(node, ListNode):
            place += f"[{found.item}]"
            node = node.items[found.item]
            line = node.line
        message = found.message
        if self.field.kind in ("text", "texts"):
            message += _quoting_hint(node, self.field.kind == "texts" and found.item is None)
        if self.in_file:
            return Problem(self.source, line, place, message)
        return Problem(self.source, None, "", message)


def _file_values(text: str, source: str, problems: list[Problem]) -> Iterator[_Given]:
    """The settings in a file; what is no setting goes to ``problems``."""
    for section, node, line in _entries(read_tree(text, source), source, "", problems):
        if section not in section_types():
            problems.append(Problem(source, line, show_name(section), unknown_section(section)))
            continue
        for key, value, key_line in _entries(node, source, section, problems):
            path = f"{section}.{key}"
            if field := find_field(path):
                yield _Given(field, value, source, True, key_line)
            else:
                message = unknown_key(section, key)
                problems.append(Problem(source, key_line, show_name(path), message))


def _entries(
    node: Node, source: str, section: str, problems: list[Problem]
) -> Iterator[tuple[str, Node, int]]:
    """Key, value and line of a mapping; duplicates and other kinds of node are problems."""
    if isinstance(node, Scalar) and node.text is None:
        return
    if not isinstance(node, Mapping):
        got = show_value(plain(node))
        need = (
            "keys with values, such as 'd_model: 128'" if section else "sections, such as 'model:'"
        )
        problems.append(Problem(source, node.line, section, f"must hold {need}, got {got}"))
        return
    first_lines: dict[str, int] = {}
    for entry in node.entries:
        if entry.key in first_lines:
            path = show_name(f"{section}.{entry.key}" if section else entry.key)
            message = f"given twice; the first is on line {first_lines[entry.key]}"
            problems.append(Problem(source, entry.line, path, message))
            continue
        first_lines[entry.key] = entry.line
        yield entry.key, entry.node, entry.line


def _override_value(override: str, problems: list[Problem]) -> _Given | None:
    """Read ``section.key=value``; None, with a problem, where that cannot be."""
    source = f"--set {show_name(override)}"
    path, equals, text = override.partition("=")
    path = path.strip()
    field = find_field(path)
    if field is None:
        problems.append(Problem(source, None, "", unknown_path(path)))
    elif not equals:
        message = f"a value is missing; write --set {path}=VALUE"
        problems.append(Problem(source, None, "", message))
    elif field.kind == "text" and text.strip()[:1] not in ("'", '"'):
        # A path on the command line may hold anything; quotes still work.
        return _Given(field, Scalar(text.strip(), 1), source, False, 1)
    else:
        try:
            return _Given(field, read_tree(text, source, lines=False), source, False, 1)
        except ConfigError as error:
            problems.extend(error.problems)
    return None


def _rule_problems(
    values: dict[str, Any], given: dict[str, _Given], refused: set[str]
) -> Iterator[Problem]:
    """The broken rules, each put where the user wrote one of its settings."""
    for rule in RULES:
        if refused.intersection(rule.paths):
            continue
        message = rule.problem(*(values[path] for path in rule.paths))
        if message is None:
            continue
        culprits = [given[path] for path in rule.paths if path in given]
        yield min(culprits, key=lambda item: item.in_file).problem(message)


def _quoting_hint(node: Node, needs_list: bool) -> str:
    """What to write where YAML took ``ROMEO:`` for a key, or a text stands for a list."""
    text = None
    if isinstance(node, Mapping) and len(node.entries) == 1:
        entry = node.entries[0]
        if isinstance(entry.node, Scalar):
            text = f"{entry.key}: {entry.node.text or ''}".strip()
    elif isinstance(node, Scalar) and needs_list:
        text = node.text
    if text is None:
        return ""
    return f"; write {f'[{write_scalar(text)}]' if needs_list else write_scalar(text)}"


def _by_place(problem: Problem) -> tuple[bool, int]:
    return problem.line is None, problem.line or 0


def read_config_file(path: Path) -> str:
    """The text of a config's file.

    Raises:
        UserError: There is none, or it cannot be a config.
    """
    name = show_name(str(path))
    try:
        content = read_bounded(path, _LARGEST_BYTES)
    except FileNotFoundError:
        raise UserError(f"{name}: no such config{_preset_hint(path.stem)}") from None
    except (OSError, ValueError) as error:
        if os.path.isdir(path):
            inside = path / "config.yaml"
            hint = f"; did you mean {inside}?" if inside.is_file() else "; give a YAML file in it"
            raise UserError(f"{name}: is a folder, not a config{hint}") from None
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            raise UserError(f"{name}: {error.strerror}, so not a config; is it a corpus?") from None
        raise UserError(f"{name}: cannot be read ({reason(error)}); give another file") from None
    return _decode(content, name)


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ConfigError([Problem(name, line, "", message)]) from None


def _preset_hint(name: str) -> str:
    presets = preset_names()
    found = nearest(name, presets)
    meant = f"; did you mean the preset {found}?" if found else ""
    return f"{meant} (presets: {join_words(presets, 'and')})"
