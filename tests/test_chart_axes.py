import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.chart_axes import Axis, tick_labels

numbers = st.floats(1e-6, 1e6)


@given(numbers, numbers, st.integers(1, 500), st.booleans(), st.floats(0, 1))
def test_value_and_position_are_inverse(low, distance, size, is_log, share):
    axis = Axis(low, low + max(distance, low / 100), size, is_log)
    position = share * size
    assert axis.position(axis.value(position)) == pytest.approx(position, abs=1e-3)
    assert 0 <= axis.cell(axis.value(position)) < size


@given(numbers, numbers, st.booleans(), st.integers(1, 12))
def test_ticks_are_few_in_order_and_inside(low, distance, is_log, most):
    axis = Axis(low, low + max(distance, low / 100), 50, is_log)
    ticks = axis.ticks(most)
    assert 1 <= len(ticks) <= max(most, 1)
    assert ticks == sorted(ticks)
    slack = (axis.high - axis.low) * 1e-6
    assert all(axis.low - slack <= tick <= axis.high + slack for tick in ticks)


def test_ticks_are_round():
    assert Axis(0, 2000, 60).ticks(6) == [0, 500, 1000, 1500, 2000]
    assert Axis(1.37, 4.2, 20).ticks(4) == [2, 3, 4]
    assert Axis(1, 1e6, 60, True).ticks(7) == [10**power for power in range(7)]


def test_a_log_axis_takes_zero_to_its_low_end():
    positions = Axis(1, 100, 10, True).position([0, -5, 1, 10, np.nan])
    np.testing.assert_allclose(positions, [0, 0, 0, 5, np.nan])


def test_cells_outside_are_brought_in():
    axis = Axis(0, 10, 5)
    assert [axis.cell(value) for value in (-3, 0, 3, 10, 99)] == [0, 0, 1, 4, 4]


losses = st.just(0.0) | st.floats(1e-12, 1e9)


@given(losses, losses, st.integers(2, 60), st.booleans())
def test_an_axis_covers_any_losses_zero_and_equal_ones_too(one, other, size, is_log):
    low, high = sorted((one, other))
    axis = Axis.covering(low, high, size, is_log=is_log)
    assert axis.low < axis.high
    least = max(low, high / 1e6) if axis.is_log else low
    positions = axis.position([low, least, high])
    assert np.isfinite(positions).all()
    assert -1e-6 <= positions[1] <= positions[2] <= size
    assert axis.is_log == (is_log and high > 0)
    ticks = axis.ticks(max(2, size // 3))
    assert all(len(label) <= 6 for label in tick_labels(ticks, 5))


def test_a_log_axis_leaves_no_room_below_the_lowest_loss():
    axis = Axis.covering(1.2, 100, 15, is_log=True)
    assert 1 < axis.low < 1.2 and 100 < axis.high < 125


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([1.0, 10.0, 100.0], ["1.0", "10.0", "100.0"]),
        ([0.01, 0.1, 1.0, 10.0, 100.0], ["0.01", "0.1", "1", "10", "100"]),
        ([500.0, 1000.0, 1500.0], ["500", "1000", "1500"]),
        ([0.0, 5e4, 1e5, 1.5e5], ["0", "5e4", "1e5", "1.5e5"]),
        ([1e-7, 1e-5], ["1e-7", "1e-5"]),
        ([1.25, 1.5, 1.75], ["1.25", "1.50", "1.75"]),
    ],
)
def test_the_ticks_of_an_axis_have_one_format(ticks, labels):
    assert tick_labels(ticks, 5) == labels
