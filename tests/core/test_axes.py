import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.core.axes import Axis

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
