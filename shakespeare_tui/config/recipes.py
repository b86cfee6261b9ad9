"""Which preset reaches the lowest loss in a given time on this machine.

Presets with a time budget of their own are the recipes: each was the best that was found for that
time by the measurements in ``docs/benchmarks.md``.
"""

import math
from collections.abc import Mapping
from functools import cache

from shakespeare_tui.config.load import DEFAULT_PRESET, load_config, preset_names

REFERENCE_TOKENS_PER_SECOND = 45_000
"""How fast the default preset trains where the recipes were measured: two cores, otherwise idle."""


@cache
def recipe_minutes() -> Mapping[str, float]:
    """The presets that are recipes, each with the minutes it is made for, the shortest first."""
    minutes = {name: load_config(name).training.minutes for name in preset_names()}
    known = {name: value for name, value in minutes.items() if value is not None}
    return dict(sorted(known.items(), key=lambda item: item[1]))


def recipe_for(minutes: float, tokens_per_second: float) -> str:
    """The preset whose own time is nearest, as a ratio, to what ``minutes`` of this machine are.

    Args:
        minutes: Time budget.
        tokens_per_second: How fast the default preset trains here.
    """
    worth = minutes * tokens_per_second / REFERENCE_TOKENS_PER_SECOND
    known = recipe_minutes()
    if worth <= 0:
        return DEFAULT_PRESET
    return min(known, key=lambda name: abs(math.log(known[name] / worth)))
