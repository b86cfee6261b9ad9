import numpy as np
import pytest

from shakespeare_tui.chart_axes import Axis
from shakespeare_tui.runs.series import StepSeries, Window, reduce_columns


def filled(values: np.ndarray, capacity: int = 64, block: int = 17) -> StepSeries:
    series = StepSeries(capacity)
    steps = np.arange(1, len(values) + 1)
    for start in range(0, len(values), block):
        part = slice(start, start + block)
        series.extend(steps[part].tolist(), values[part].tolist())
    return series


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(2.0, 1.0, count)


def plain_reduction(window: Window, positions: np.ndarray) -> dict[int, set[float]]:
    """Column by column with plain NumPy: which values must be there."""
    wanted = {}
    for column in np.unique(np.floor(positions)).astype(int):
        values = window.values[np.floor(positions) == column]
        wanted[column] = {float(np.nanmin(values)), float(np.nanmax(values))}
    return wanted


def test_a_short_series_is_kept_exactly():
    values = noise(90)
    window = filled(values).window()
    np.testing.assert_array_equal(window.steps, np.arange(1, 91))
    np.testing.assert_array_equal(window.values, values)


@pytest.mark.parametrize("count", [200, 1_000, 20_000])
def test_a_long_series_is_exact_at_both_ends_and_keeps_its_extremes(count):
    values = noise(count)
    window = filled(values).window()
    assert len(window) < 64 * 12
    np.testing.assert_array_equal(window.values[:32], values[:32])
    np.testing.assert_array_equal(window.steps[-32:], np.arange(count - 31, count + 1))
    np.testing.assert_array_equal(window.values, values[window.steps - 1])
    assert (np.diff(window.steps) > 0).all()
    assert window.values.min() == values.min()
    assert window.values.max() == values.max()


@pytest.mark.parametrize("cut", [1, 20, 32, 33, 500, 4_990, 5_000])
def test_truncation_forgets_later_points_and_goes_on(cut):
    values = noise(5_000)
    series = filled(values)
    series.truncate(cut)
    window = series.window()
    assert window.steps[-1] <= cut
    # What was condensed already cannot be had back: no more than a group of it is missing.
    assert window.steps[-1] >= cut - 8 * 4**3
    again = noise(3_000, seed=1)
    series.extend(list(range(cut + 1, cut + 3_001)), again.tolist())
    both = series.window()
    assert (np.diff(both.steps) > 0).all()
    later = both.steps > cut
    np.testing.assert_array_equal(both.values[later], again[both.steps[later] - cut - 1])
    np.testing.assert_array_equal(both.values[~later], values[both.steps[~later] - 1])


def test_gaps_stay_gaps_and_never_become_extremes():
    values = noise(4_000)
    values[1_000:3_000] = np.nan
    values[10] = np.inf
    window = filled(values).window()
    in_gap = (window.steps > 1_100) & (window.steps < 2_900)
    assert in_gap.any()
    assert np.isnan(window.values[in_gap]).all()
    assert np.isnan(window.values[10])
    finite = values[np.isfinite(values)]
    assert np.nanmax(window.values) == finite.max()
    assert np.nanmin(window.values) == finite.min()


def test_a_window_can_bring_its_neighbours():
    series = filled(noise(50))
    assert series.window(10, 20).steps.tolist() == list(range(10, 21))
    assert series.window(10, 20, neighbours=1).steps.tolist() == list(range(9, 22))
    assert series.window(1, 50, neighbours=1).steps.tolist() == list(range(1, 51))
    assert len(series.window(60, 70)) == 0


@pytest.mark.parametrize("is_log", [False, True])
@pytest.mark.parametrize("columns", [1, 7, 80, 400])
def test_columns_hold_their_smallest_and_largest_value(columns, is_log):
    window = Window(np.arange(1, 3_001), noise(3_000))
    positions = Axis(1, 3_000, columns, is_log).position(window.steps)
    reduced = reduce_columns(window, positions)
    kept = Axis(1, 3_000, columns, is_log).position(reduced.steps)
    assert np.unique(np.floor(kept), return_counts=True)[1].max() <= 2
    assert plain_reduction(reduced, kept) == plain_reduction(window, positions)
    assert (np.diff(reduced.steps) > 0).all()


def test_columns_of_nothing_but_gaps_keep_a_gap():
    values = noise(100)
    values[20:60] = np.nan
    reduced = reduce_columns(Window(np.arange(100), values), np.arange(100) / 10)
    assert np.isnan(reduced.values).sum() == 4
    assert len(reduced) == 6 * 2 + 4


def test_equal_values_take_two_points_a_column_at_most():
    reduced = reduce_columns(Window(np.arange(100), np.ones(100)), np.arange(100) / 10)
    assert len(reduced) <= 20
    assert len(reduce_columns(Window(np.arange(0), np.ones(0)), np.zeros(0))) == 0
