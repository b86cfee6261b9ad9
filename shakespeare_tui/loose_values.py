"""Read values that another version of the program, or anybody, may have written."""

import json
from typing import Any

_LARGEST = 1e300


def as_number(value: object) -> float | None:
    """``value`` where it is a finite number of sane size, else None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST:
        return value
    return None


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: It is no JSON, is nested too deeply to be read, or is not in UTF-8.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
