"""Which preset reaches the lowest loss in a given time on this machine.

Each recipe was the best that was found for its own time, as ``docs/speedrun.md`` tells. The default
preset is none of them: it is a plain transformer that every export takes.
"""

import math
from collections.abc import Mapping
from functools import cache

from shakespeare_tui.config.load import load_config

_RECIPES = ("sprint", "lap", "mile", "best")
REFERENCE_TOKENS_PER_SECOND = 27_000
"""How fast the default preset trains where the recipes were measured: two cores, otherwise idle."""


@cache
def recipe_minutes() -> Mapping[str, float]:
    """The recipes, each with the minutes that it is made for, the shortest first."""
    return {name: load_config(name).training.minutes or math.inf for name in _RECIPES}


def recipe_for(minutes: float, tokens_per_second: float) -> str:
    """The preset whose own time is nearest, as a ratio, to what ``minutes`` of this machine are.

    Args:
        minutes: Time budget.
        tokens_per_second: How fast the default preset trains here.
    """
    worth = minutes * tokens_per_second / REFERENCE_TOKENS_PER_SECOND
    known = recipe_minutes()
    return min(known, key=lambda name: abs(math.log(known[name] / worth)))
