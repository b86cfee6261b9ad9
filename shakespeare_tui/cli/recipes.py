"""What is trained where nothing but a time, or nothing at all, is said: the best known for it."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from shakespeare_tui.errors import UserError

if TYPE_CHECKING:
    from shakespeare_tui.config.schema import Config

# The default preset is none of them: it is a plain transformer that every export takes.
_RECIPES = ("sprint", "dash", "lap", "mile", "best")
REFERENCE_TOKENS_PER_SECOND = 27_000
"""How fast the default preset trains where the recipes were measured: two cores, otherwise idle."""
# From so many minutes of the machine of the recipes on, several models and a student of theirs end
# lower than one, which no longer gains by seeing a text of so many characters any more often.
_TAUGHT_MINUTES, _TAUGHT_CHARACTERS = 48, 1_003_854
# Of this machine, however fast: a tenth is all there is for four starts and for reading teachers.
_LEAST_MINUTES = 20
HOUR = "hour"
"""The experiment that ships, in which they are trained."""
# What a config computes with, not what.
_MACHINE_SETTINGS = ("training.backend", "training.device", "training.precision")


@cache
def recipe_minutes() -> Mapping[str, float]:
    """The presets that are the best known for a time, each with its minutes, the shortest first."""
    from shakespeare_tui.config.load import load_config

    return {name: load_config(name).training.minutes or math.inf for name in _RECIPES}


def recipe_for(
    minutes: float,
    tokens_per_second: float,
    train_tokens: int | None = None,
    overrides: Sequence[str] = (),
) -> str:
    """The recipe whose own time is nearest, as a ratio, to what ``minutes`` of this machine are.

    Args:
        minutes: Time budget.
        tokens_per_second: How fast the default preset trains here.
        train_tokens: To learn from: recipes that would memorise so few are passed over; None where
            that is not known.
        overrides: Settings of the user's, which may keep a recipe from that.
    """
    from shakespeare_tui.config.estimate.advice import advise_on_memorising
    from shakespeare_tui.config.load import load_config

    worth = minutes * tokens_per_second / REFERENCE_TOKENS_PER_SECOND
    known = recipe_minutes()
    nearest = sorted(known, key=lambda name: abs(math.log(known[name] / worth)))
    if train_tokens:
        epochs = 60 * minutes * tokens_per_second / train_tokens
        for name in nearest:
            config = load_config(name, overrides)
            if not advise_on_memorising(config, epochs, config.decay_for(train_tokens, epochs)):
                return name
    return nearest[0]


class Recipe(NamedTuple):
    """The best known for a time budget.

    Attributes:
        preset: Its name.
        known: For which time, in words.
        here: How fast this machine is beside those on which it was measured, in words.
        benefits: Whether several such models, and one that learns from them, end lower than one.
    """

    preset: str
    known: str
    here: str
    benefits: bool


def choose_recipe(overrides: Sequence[str]) -> Recipe:
    """The best known for a time budget on this machine, whose speed is measured for that.

    Args:
        overrides: Settings of the user's, the time among them.

    Raises:
        UserError: There is no time among them.
    """
    from shakespeare_tui.config.load import DEFAULT_PRESET, load_config
    from shakespeare_tui.formatting import format_duration
    from shakespeare_tui.training.measure_speed import measure_throughput

    config = load_config(DEFAULT_PRESET, overrides)
    minutes = config.training.minutes
    if minutes is None:
        raise UserError("--minutes takes a time, such as 5 or 1h; --max-steps trains by steps")
    characters = _train_characters(config)
    how = [o for o in overrides if o.partition("=")[0].strip() in _MACHINE_SETTINGS]
    speed = measure_throughput(load_config(DEFAULT_PRESET, how))
    ratio = speed / REFERENCE_TOKENS_PER_SECOND
    name, nearest = recipe_for(minutes, speed, characters, overrides), recipe_for(minutes, speed)
    known = f"known for about {format_duration(recipe_minutes()[nearest] * 60)} on two cores"
    if name != nearest:
        known += f" that does not memorise so short a text ({nearest} would)"
    return Recipe(
        name,
        known,
        f"this machine trains {ratio:.2g} times as fast as those",
        name == _RECIPES[-1] and benefits_from_teachers(minutes, ratio, characters),
    )


def benefits_from_teachers(minutes: float, ratio: float, train_tokens: int | None) -> bool:
    """Whether several models and a student of theirs end lower than one trained for as long.

    So they do where one would see the text too often to gain by it any more, and where the time of
    each is enough nevertheless.

    Args:
        minutes: For all of them.
        ratio: How many times as fast this machine is as that of the recipes.
        train_tokens: To learn from; None where that is not known.
    """
    worth = minutes * ratio
    most = _TAUGHT_CHARACTERS * worth / _TAUGHT_MINUTES
    is_long = minutes >= _LEAST_MINUTES and worth >= _TAUGHT_MINUTES
    return is_long and train_tokens is not None and train_tokens <= most


def _train_characters(config: "Config") -> int | None:
    """About how many there are to learn from; None where several corpora are to be fetched."""
    from shakespeare_tui.data.catalogue import CATALOGUE
    from shakespeare_tui.data.source import locate_corpus

    data = config.data
    source = locate_corpus(data.corpus, data.validation)
    if source is not None:
        size, is_apart = source.size_bytes, source.validation is not None
    elif entry := CATALOGUE.get(data.corpus):
        size, is_apart = entry.size_bytes or entry.about_bytes or 0, entry.validation is not None
    else:
        return None
    return round(size * (1 if is_apart else 1 - data.val_fraction))


def against_memorising(overrides: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Settings of the default preset for a text that it would memorise, but for those given.

    Returns:
        What is to be said of them, and they.
    """
    from shakespeare_tui.config.estimate.advice import advise_on_memorising
    from shakespeare_tui.config.load import DEFAULT_PRESET, load_config

    config = load_config(DEFAULT_PRESET, overrides)
    training, characters = config.training, _train_characters(config)
    if not characters:
        return "", ()
    tokens: float = training.max_steps * config.tokens_per_step
    if training.minutes is not None:
        tokens = 60 * training.minutes * REFERENCE_TOKENS_PER_SECOND
    epochs = tokens / characters
    advice = advise_on_memorising(config, epochs, config.decay_for(characters, epochs))
    given = {override.partition("=")[0].strip() for override in overrides}
    changes = [c for c in (advice.overrides if advice else ()) if c[0] not in given]
    if not changes:
        return "", ()
    settings = tuple(f"{path}={text}" for path, text in changes)
    # How often it is seen is told when the run's own speed is known.
    return f"for so short a text, not to memorise it: {', '.join(settings)}", settings
