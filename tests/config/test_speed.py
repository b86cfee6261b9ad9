import math

import pytest

from shakespeare_tui.config.estimate.speed import (
    SPEED_STEPS,
    SpeedMeter,
    evaluation_seconds,
    mean_speed,
)


def test_the_mean_speed_is_all_tokens_over_all_seconds():
    # A step of 100 tokens in a second, and one in four.
    assert mean_speed([100.0, 25.0]) == pytest.approx(200 / 5)
    assert mean_speed([100.0, math.nan, 0.0, math.inf]) == pytest.approx(100)
    assert mean_speed([]) is None


def test_the_speed_is_that_of_the_latest_steps():
    speed = SpeedMeter()
    assert speed.tokens_per_second == 0
    for _ in range(SPEED_STEPS):
        assert not speed.is_steady
        speed.observe(1.0)
    assert speed.is_steady
    for _ in range(SPEED_STEPS):
        speed.observe(50.0)
    assert speed.tokens_per_second == pytest.approx(50)


def test_an_evaluation_costs_a_forward_pass_a_token():
    assert evaluation_seconds(3000, 100.0) == pytest.approx(10)
    assert evaluation_seconds(3000, 100.0, is_rounded=True) == pytest.approx(20)
    assert evaluation_seconds(3000, 0.0) == 0
