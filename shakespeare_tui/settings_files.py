"""Read the small YAML and JSON files that the lab remembers things in, never fatally.

Anybody may have written them. What is too large, too deep, or no regular file is refused at once;
dates are texts, and numbers that no setting could have are left out.
"""

import contextlib
import math
import re
from pathlib import Path
from typing import Any

from shakespeare_tui.config.syntax import Mapping, Node, Scalar, Sequence, read_tree
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import parse_json, read_bounded, reason

_MOST_BYTES = 1 << 18
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_INTEGER = re.compile(r"[-+]?\d{1,18}")
_NUMBER = re.compile(r"[-+]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][-+]?\d{1,3})?")


def read_yaml_file(path: Path) -> Any:
    """The value of a YAML file: mappings, lists, texts, finite numbers, truth values and None.

    Raises:
        FileNotFoundError: There is none.
        UserError: It cannot be used; the message says why, without the file's name.
    """
    try:
        text = read_bounded(path, _MOST_BYTES).decode("utf-8-sig")
        return _value(read_tree(text, path.name))
    except FileNotFoundError:
        raise
    except UserError as error:
        raise UserError(str(error).splitlines()[0]) from None
    except (OSError, ValueError) as error:
        raise UserError(reason(error)) from None


def read_json_file(path: Path, most_bytes: int = _MOST_BYTES) -> Any:
    """The value of a JSON file.

    Raises:
        FileNotFoundError: There is none.
        UserError: It cannot be used; the message says why, without the file's name.
    """
    try:
        return parse_json(read_bounded(path, most_bytes))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(reason(error)) from None


def set_aside(path: Path) -> str:
    """Rename a file that cannot be used to ``.damaged``; says what became of it."""
    kept = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(OSError):
        path.replace(kept)
        return f"it is kept as {kept}"
    return "it cannot be renamed either"


def _value(node: Node) -> Any:
    if isinstance(node, Mapping):
        return {entry.key: _value(entry.node) for entry in node.entries}
    if isinstance(node, Sequence):
        return [_value(item) for item in node.items]
    return _scalar(node)


def _scalar(node: Scalar) -> str | float | bool | None:
    text = node.text
    if text is None or node.is_quoted:
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text
