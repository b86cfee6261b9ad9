"""Write a config as YAML that explains itself and reads back equal."""

import re
import textwrap
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import yaml

from shakespeare_tui.config.fields import (
    ConfigField,
    config_fields,
    find_field,
    read_value,
    section_help,
)
from shakespeare_tui.config.problems import ConfigError
from shakespeare_tui.config.schema import Config
from shakespeare_tui.config.syntax import plain, read_tree
from shakespeare_tui.formatting import format_duration_exactly, parse_duration

_WIDTH = 88
_INDENT = "  "
_PLAIN_TEXT = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")


def config_to_yaml(config: Config, comments: bool = True) -> str:
    """Every setting of ``config`` as YAML.

    Args:
        config: What to write; ``parse_config`` reads the result back equal, and other YAML readers
            see the same numbers and texts, and a time budget as the text ``1m 40s``.
        comments: Whether each setting is preceded by its help and range.
    """
    return values_to_yaml(config.by_path(), comments)


def values_to_yaml(values: Mapping[str, Any], comments: bool = True) -> str:
    """``config_to_yaml`` of settings by path; text that is no value is written as it was typed."""
    lines: list[str] = []
    section = ""
    for field in config_fields():
        value = values[field.path]
        if field.section != section:
            section = field.section
            if comments:
                lines += [""] if lines else []
                lines += _comment(section_help(section), "")
            lines.append(f"{section}:")
        if comments:
            lines += _comment(_explanation(field), _INDENT)
        if field.kind == "minutes" and isinstance(value, float):
            lines.append(f"{_INDENT}{field.key}: {write_minutes(value)}")
        else:
            lines += _assignment(field.key, value)
    return "\n".join(lines) + "\n"


def _explanation(field: ConfigField) -> str:
    return f"{field.help} [{field.range_text}]" if field.range_text else field.help


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_on_hyphens=False,
    )


def _assignment(key: str, value: Any) -> list[str]:
    if isinstance(value, tuple):
        items = [write_scalar(item) for item in value]
        line = f"{_INDENT}{key}: [{', '.join(items)}]"
        if len(line) <= _WIDTH:
            return [line]
        return [f"{_INDENT}{key}:", *(f"{_INDENT * 2}- {item}" for item in items)]
    return [f"{_INDENT}{key}: {write_scalar(value)}"]


def write_minutes(minutes: float) -> str:
    """``1m 40s`` where that reads back equal, else the bare number of minutes."""
    text = format_duration_exactly(round(minutes * 60, 6))
    seconds = parse_duration(text)
    is_equal = seconds is not None and seconds / 60 == minutes
    return text if is_equal else write_scalar(float(minutes))


def write_scalar(value: str | float | bool | None) -> str:
    """One value as YAML on one line, unambiguous for YAML 1.1 and 1.2 readers."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # Without the point, YAML 1.1 readers take 1e-05 for a text.
        mantissa, e, exponent = repr(value).partition("e")
        return f"{mantissa}.0{e}{exponent}" if e and "." not in mantissa else repr(value)
    if isinstance(value, int):
        return str(value)
    if _PLAIN_TEXT.fullmatch(value) and isinstance(yaml.safe_load(value), str):
        return value
    quoted: str = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=2**31)
    return quoted.rstrip("\n")


def write_text(field: ConfigField, value: Any) -> str:
    """A value as a form shows it; ``read_text`` reads it back equal. None is the empty text."""
    if value is None:
        return ""
    if field.kind == "texts":
        return f"[{', '.join(write_scalar(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if field.kind == "minutes":
        return write_minutes(value)
    if isinstance(value, float):
        return _shortest(value)
    return f"{value:,}" if isinstance(value, int) and field.key != "seed" else str(value)


def read_text(field: ConfigField, text: str) -> tuple[Any, list[str]]:
    """Read what somebody typed for a setting.

    A list of texts is written as in YAML, ``["ROMEO:", "JULIET:"]``; without brackets the whole
    text is its only item.

    Returns:
        The value and no problems, or None and at least one problem.
    """
    return _read(field.path, text)


@lru_cache(maxsize=4096)
def _read(path: str, text: str) -> tuple[Any, list[str]]:
    field = find_field(path)
    assert field is not None
    raw: Any = text
    if field.kind == "texts":
        try:
            raw = _list_of(text)
        except ConfigError:
            return None, [
                'is no list of texts; write it like ["ROMEO:", "JULIET:"], also for a single text '
                "that begins with ["
            ]
    elif field.kind != "text":
        raw = text.strip()
        if not raw:
            if field.optional:
                return None, []
            return None, [f"must not be empty; the default is {write_text(field, field.default)}"]
    value, problems = read_value(field, raw)
    return value, [_with_item(problem.message, problem.item) for problem in problems]


def _list_of(text: str) -> Any:
    if not text.strip():
        return []
    if not text.lstrip().startswith("["):
        return [text]
    return plain(read_tree(text, "", lines=False))


def _with_item(message: str, item: int | None) -> str:
    return message if item is None else f"text {item + 1} {message}; put it in quotes"


def _shortest(number: float) -> str:
    short = f"{number:g}"
    if float(short) != number:
        short = repr(number)
    mantissa, e, exponent = short.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else short
