"""Read values that another version of the program, or anybody, may have written."""

import math


def as_number(value: object) -> float | None:
    """``value`` where it is a finite number, else None: configs of other versions may surprise."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    return None
