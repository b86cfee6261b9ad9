import math

import numpy as np
import pytest

from shakespeare_tui.runs.series import SMOOTHING_STEPS, SmoothedSeries


def weighted_means(values, smoothing_steps):
    """The definition, written out: every mean from all values before it."""
    decay = 1 - 1 / smoothing_steps
    means = []
    for last in range(len(values)):
        weights = decay ** np.arange(last, -1, -1.0)
        means.append(np.sum(weights * values[: last + 1]) / np.sum(weights))
    return means


@pytest.mark.parametrize("smoothing_steps", SMOOTHING_STEPS)
def test_the_mean_is_the_definitions(smoothing_steps):
    values = np.random.default_rng(0).normal(3, 1, 300)
    smoothed = SmoothedSeries(smoothing_steps)
    smoothed.extend(range(1, 101), values[:100].tolist())
    smoothed.extend(range(101, 301), values[100:].tolist())
    window = smoothed.series.window()
    np.testing.assert_allclose(window.values, weighted_means(values, smoothing_steps), rtol=1e-9)


def test_gaps_stay_gaps_and_do_not_enter_the_mean():
    smoothed = SmoothedSeries(5)
    smoothed.extend([1, 2, 3, 4], [2.0, None, math.inf, 2.0])
    window = smoothed.series.window()
    assert window.values.tolist() == pytest.approx([2, math.nan, math.nan, 2], nan_ok=True)


def test_a_thinned_log_has_the_same_time_constant():
    steps = np.arange(1, 1001)
    values = 4.0 - steps / 500
    full, thin = SmoothedSeries(50), SmoothedSeries(50)
    full.extend(steps.tolist(), values.tolist())
    thin.extend(steps[9::10].tolist(), values[9::10].tolist())
    assert thin.series.last() == pytest.approx(full.series.last(), abs=0.02)


@pytest.mark.parametrize("cut", [0, 1, 60, 99])
def test_going_back_leaves_no_trace_of_what_came_after(cut):
    values = np.random.default_rng(1).normal(3, 1, 200)
    straight, detour = SmoothedSeries(25), SmoothedSeries(25)
    straight.extend(range(1, 201), values.tolist())
    detour.extend(range(1, cut + 1), values[:cut].tolist())
    detour.extend(range(cut + 1, 151), [99.0] * (150 - cut))
    detour.truncate(cut)
    detour.extend(range(cut + 1, 201), values[cut:].tolist())
    np.testing.assert_allclose(
        detour.series.window().values, straight.series.window().values, rtol=1e-9
    )
