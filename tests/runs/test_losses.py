"""Which of several losses is the lowest, where they were measured in different ways."""

import math

import pytest

from shakespeare_tui.runs.losses import EXACT, Loss, best_of, bits, losses, rank_by_loss

SUBSET = "subset-300"


def ranked(measured, prefer=None):
    """Names in order, names left out, and the protocol."""
    ranking = rank_by_loss(measured, lambda name: measured[name], prefer)
    return ranking.ranked, ranking.left_out, ranking.protocol


def test_a_shared_protocol_ranks_all_and_the_first_of_equals_is_first():
    measured = {
        name: losses(value, SUBSET)
        for name, value in [("a", 3.0), ("b", 1.0), ("c", 2.0), ("d", 1.0)]
    }
    assert ranked(measured) == (("b", "d", "c", "a"), (), SUBSET)


def test_a_lower_loss_of_another_protocol_does_not_win():
    measured = {"a": losses(1.6, SUBSET), "b": losses(1.5, SUBSET), "c": losses(0.2, "subset-60")}
    assert ranked(measured) == (("b", "a"), ("c",), SUBSET)


def test_without_a_shared_protocol_the_exact_figures_decide_even_if_they_are_few():
    measured = {
        "a": losses(1.2, SUBSET),
        "b": losses(1.1, SUBSET),
        "c": losses(1.3, "subset-60", exact=1.4),
    }
    assert ranked(measured) == (("c",), ("a", "b"), EXACT)


def test_the_exact_figure_counts_between_two_that_have_it():
    measured = {
        "early": losses(1.50, SUBSET, exact=1.56),
        "last": losses(1.51, SUBSET, exact=1.55),
        "between": losses(1.53, SUBSET),
    }
    assert ranked(measured) == (("last", "early", "between"), (), SUBSET)


def test_an_exact_figure_does_not_lift_what_is_worse_by_the_shared_protocol():
    # The last checkpoint of a run that overfits is the only one that was measured exactly.
    measured = {"best": losses(1.4, SUBSET), "last": losses(2.0, SUBSET, exact=1.9)}
    assert best_of(measured, lambda name: measured[name]) == "best"


def test_bits_are_of_characters_where_each_is_a_token_and_else_of_bytes():
    assert bits(math.log(2), 1.0, 1.1) == (pytest.approx(1.0), "bits/char")
    assert bits(math.log(2), 2.0, 2.5) == (pytest.approx(0.4), "bits/byte")
    assert bits(math.log(2), 2.0, None) == (pytest.approx(0.5), "bits/char")


def test_a_preferred_protocol_decides_where_nothing_is_exact():
    measured = {
        "a": losses(1.2, SUBSET),
        "b": losses(1.1, SUBSET),
        "c": losses(1.3, "subset-60"),
    }
    assert ranked(measured)[0] == ("b", "a")
    assert ranked(measured, "subset-60") == (("c",), ("a", "b"), "subset-60")
    assert ranked(measured, "nanogpt")[0] == ("b", "a")


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_was_not_measured_is_not_ranked(value):
    measured = {"a": losses(value, SUBSET), "b": losses(value, SUBSET, exact=value)}
    assert best_of(measured, lambda name: measured[name]) is None
    measured["c"] = losses(9.0, SUBSET)
    assert ranked(measured) == (("c",), (), SUBSET)


def test_the_figure_that_counts_comes_first_and_names_its_protocol():
    both = losses(1.5, SUBSET, exact=1.54321)
    assert both == [Loss(1.54321, EXACT), Loss(1.5, SUBSET)]
    assert [str(loss) for loss in both] == ["1.5432, exact", "1.5000, subset-300"]
    assert [loss.short for loss in both] == ["1.5432", "~1.5000"]
    assert losses(1.5, EXACT, exact=1.6) == [Loss(1.6, EXACT)]
    assert str(Loss(2.0, "")) == "2.0000, protocol unknown"
