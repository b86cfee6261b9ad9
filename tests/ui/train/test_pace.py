"""How often a screen updates: by what the thread that draws has spent."""

import gc

import pytest

from shakespeare_tui.ui.app import QuietCollection
from shakespeare_tui.ui.train.screen import Pace


class Clocks:
    """A time of day and a processor time that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = self.spent = 0.0


def waits_after(cost: float) -> float:
    """Seconds until the next update is due, where the last one took ``cost`` of processor time."""
    clocks = Clocks()
    pace = Pace(lambda: clocks.now, lambda: clocks.spent)
    assert pace.is_due()
    pace.start()
    clocks.spent += cost
    while not pace.is_due():
        clocks.now += 0.01
        assert clocks.now < 60
    return clocks.now


def test_cheap_updates_come_twice_a_second() -> None:
    assert waits_after(0.001) == pytest.approx(0.5, abs=0.02)


def test_costly_updates_take_two_per_cent_of_a_processor() -> None:
    assert waits_after(0.02) == pytest.approx(1.0, abs=0.02)


def test_no_update_is_put_off_for_long() -> None:
    assert waits_after(5.0) == pytest.approx(2.0, abs=0.02)


def test_full_collections_wait_for_a_quiet_moment() -> None:
    clocks = Clocks()
    before = gc.get_threshold()
    collection = QuietCollection(lambda: clocks.now)
    with collection.in_charge():
        gc.collect()
        for _ in range(10):
            gc.collect(1)
        collection.note_input()
        collection.collect_if_due()
        assert gc.get_count()[2] >= 10, "it collected while someone was at the keys"
        clocks.now += 10
        collection.collect_if_due()
        assert gc.get_count()[2] == 0
    assert gc.get_threshold() == before
