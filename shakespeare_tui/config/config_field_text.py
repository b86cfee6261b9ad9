"""One setting's value as text for a form, and back."""

from functools import lru_cache
from typing import Any

from shakespeare_tui.config.fields import ConfigField, find_field, read_value
from shakespeare_tui.config.problems import ConfigError
from shakespeare_tui.config.syntax import plain, read_tree
from shakespeare_tui.config.write import write_minutes, write_scalar


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
