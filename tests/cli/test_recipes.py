"""Which preset a time budget alone chooses."""

import pytest

from shakespeare_tui.cli.recipes import (
    REFERENCE_TOKENS_PER_SECOND,
    benefits_from_teachers,
    recipe_for,
    recipe_minutes,
)
from shakespeare_tui.config.load import load_config


@pytest.mark.parametrize("name", recipe_minutes())
def test_a_recipe_is_chosen_for_its_own_time_at_its_own_speed(name: str) -> None:
    minutes = load_config(name).training.minutes
    assert minutes is not None
    assert recipe_for(minutes, REFERENCE_TOKENS_PER_SECOND) == name
    # Half the speed, twice the time.
    assert recipe_for(2 * minutes, REFERENCE_TOKENS_PER_SECOND / 2) == name


SHAKESPEARE_TOKENS = 1_003_854


@pytest.mark.parametrize("name", recipe_minutes())
def test_the_corpus_that_recipes_were_made_for_changes_nothing(name: str) -> None:
    minutes = load_config(name).training.minutes
    assert minutes is not None
    assert recipe_for(minutes, REFERENCE_TOKENS_PER_SECOND, SHAKESPEARE_TOKENS) == name


def test_a_short_text_gets_a_recipe_that_does_not_memorise_it() -> None:
    for minutes in (0.1, 0.5, 5 / 3, 5, 60):
        name = recipe_for(minutes, REFERENCE_TOKENS_PER_SECOND, SHAKESPEARE_TOKENS // 50)
        config = load_config(name)
        assert config.model.dropout and config.training.weight_decay is None


def test_what_is_given_against_memorising_is_heeded() -> None:
    minutes, tokens = 5 / 3, SHAKESPEARE_TOKENS // 8
    assert recipe_for(minutes, REFERENCE_TOKENS_PER_SECOND, tokens) == "mile"
    given = ["model.dropout=0.1", "training.weight_decay=null"]
    assert recipe_for(minutes, REFERENCE_TOKENS_PER_SECOND, tokens, given) == "lap"


def test_the_shortest_and_the_longest_take_what_lies_beyond() -> None:
    shortest, *_, longest = recipe_minutes()
    assert recipe_for(0.001, REFERENCE_TOKENS_PER_SECOND) == shortest
    assert recipe_for(10_000, REFERENCE_TOKENS_PER_SECOND) == longest


@pytest.mark.parametrize(
    ("minutes", "ratio", "tokens", "benefits"),
    [
        (60, 1, SHAKESPEARE_TOKENS, True),
        (30, 2, SHAKESPEARE_TOKENS, True),
        (60, 0.5, SHAKESPEARE_TOKENS, False),
        # One model has not come to its end by then.
        (30, 1, SHAKESPEARE_TOKENS, False),
        (60, 1, 10 * SHAKESPEARE_TOKENS, False),
        (600, 1, 10 * SHAKESPEARE_TOKENS, True),
        # A few minutes for each are too few, however short the text, or fast the machine.
        (10, 1, SHAKESPEARE_TOKENS // 10, False),
        (10, 50, SHAKESPEARE_TOKENS, False),
        (600, 1, None, False),
    ],
)
def test_several_models_are_trained_where_one_would_gain_no_more(
    minutes: float, ratio: float, tokens: int | None, benefits: bool
) -> None:
    assert benefits_from_teachers(minutes, ratio, tokens) == benefits
