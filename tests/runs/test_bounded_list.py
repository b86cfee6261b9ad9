from shakespeare_tui.runs.series import BoundedList


def test_a_short_list_keeps_everything_in_order():
    items = BoundedList(10)
    for number in range(10):
        items.append(number)
    assert list(items) == list(range(10))
    assert items[-1] == 9
    assert list(reversed(items))[0] == 9


def test_a_long_list_thins_out_what_is_old():
    items = BoundedList(100)
    for number in range(10_000):
        items.append(number)
    kept = list(items)
    assert len(kept) <= 100
    assert kept[0] == 0
    assert kept == sorted(kept)
    assert kept[-50:] == list(range(9_950, 10_000))
    old = [number for number in kept if number < 9_900]
    gaps = {later - earlier for earlier, later in zip(old, old[1:], strict=False)}
    assert len(old) > 15
    assert len(gaps) <= 2


def test_items_can_be_taken_back():
    items = BoundedList(16)
    for number in range(100):
        items.append(number)
    items.keep_only(lambda number: number < 95)
    items.append(200)
    assert list(items)[-2:] == [94, 200]
