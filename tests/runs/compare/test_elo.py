import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.runs.compare.blind_tests import (
    MEAN,
    POINTS_A_LOGIT,
    PRIOR_DEVIATION,
    Game,
    rate,
)


def log_posterior(games: list[Game], points: dict[str, float]) -> float:
    """The model of the docstring, restated on Elo's own scale."""
    total = 0.0
    for value in points.values():
        total -= ((value - MEAN) / PRIOR_DEVIATION) ** 2 / 2
    for game in games:
        expected = 1 / (1 + 10 ** ((points[game.second] - points[game.first]) / 400))
        total += game.score * math.log(expected) + (1 - game.score) * math.log(1 - expected)
    return total


def test_two_players_against_a_grid() -> None:
    games = [Game("a", "b", 1)] * 3 + [Game("b", "a", 1), Game("a", "b", 0.5)]
    grid = np.arange(1000.0, 2000.0, 2.0)
    density = np.array([[log_posterior(games, {"a": a, "b": b}) for b in grid] for a in grid])
    i, j = np.unravel_index(density.argmax(), density.shape)
    found = rate(games).by_name()
    assert found["a"].points == pytest.approx(grid[i], abs=3)
    assert found["b"].points == pytest.approx(grid[j], abs=3)
    assert (found["a"].games, found["b"].games) == (5, 5)


def test_errors_are_the_curvature_at_the_top() -> None:
    games = [Game("a", "b", 1), Game("b", "c", 0.5), Game("a", "c", 1)]
    found = rate(games).by_name()
    names = sorted(found)
    top = {name: found[name].points for name in names}
    step, n = 1.0, len(names)
    hessian = np.zeros((n, n))
    for i, j in itertools.product(range(n), repeat=2):
        for a, b in itertools.product((1, -1), repeat=2):
            points = dict(top)
            points[names[i]] += a * step
            points[names[j]] += b * step
            hessian[i, j] -= a * b * log_posterior(games, points) / (4 * step**2)
    errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
    assert [found[name].error for name in names] == pytest.approx(errors, rel=1e-3)


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([0, 0.5, 1])), max_size=60
    ),
    st.randoms(use_true_random=False),
)
def test_it_is_the_top_whatever_the_order(
    plays: list[tuple[int, int, float]], draw: random.Random
) -> None:
    games = [Game(f"p{a}", f"p{b}", score) for a, b, score in plays if a != b]
    found = rate(games).by_name()
    shuffled = list(games)
    draw.shuffle(shuffled)
    # Whichever of two is named first, and in whichever order.
    turned = [Game(g.second, g.first, 1 - g.score) for g in shuffled]
    for name, rating in rate(turned).by_name().items():
        assert rating.points == pytest.approx(found[name].points, abs=1e-4)
        assert rating.error == pytest.approx(found[name].error, abs=1e-4)
    points = {name: rating.points for name, rating in found.items()}
    top = log_posterior(games, points)
    for name in points:
        for change in (-5, 5):
            assert log_posterior(games, points | {name: points[name] + change}) < top


def test_one_who_always_wins_stays_finite_and_doubtful() -> None:
    once = rate([Game("a", "b", 1)]).by_name()["a"]
    often = rate([Game("a", "b", 1)] * 1000).by_name()["a"]
    assert MEAN < once.points < often.points < MEAN + 4 * PRIOR_DEVIATION
    assert often.error < once.error < PRIOR_DEVIATION


def test_many_verdicts_find_the_true_strengths() -> None:
    draw = random.Random(1)
    truth = {"a": 1700.0, "b": 1500.0, "c": 1300.0}
    games = []
    for _ in range(3000):
        first, second = draw.sample(sorted(truth), 2)
        chance = 1 / (1 + 10 ** ((truth[second] - truth[first]) / 400))
        games.append(Game(first, second, float(draw.random() < chance)))
    found = rate(games).by_name()
    for name, points in truth.items():
        assert found[name].points == pytest.approx(points, abs=40)
    for a, b in itertools.pairwise(sorted(truth)):
        assert found[a].points - found[b].points == pytest.approx(200, abs=30)


def test_nothing_judged_is_nothing_known() -> None:
    assert rate([]).by_name() == {}
    assert rate([Game("a", "a", 1)]).by_name() == {}
    ratings = rate([], ["a", "b"])
    assert ratings.by_name() == {}
    assert np.sqrt(np.diag(ratings.covariance)) * POINTS_A_LOGIT == pytest.approx(PRIOR_DEVIATION)
    assert str(rate([Game("a", "b", 0.5)]).by_name()["a"]).startswith("1500±")
