"""The tree of branches."""

import pytest

from shakespeare_tui.ui.playground.surprise import BranchTree


def test_a_branch_shares_the_text_before_it_and_remembers_what_it_replaced() -> None:
    tree = BranchTree("ROMEO: what", 6, "greedy")
    made = tree.branch(1, 8, "W", "temperature=0.8")
    assert (made.text, made.replaced, made.start) == ("ROMEO: wW", "h", 8)
    assert made.prompt_length == 6
    inside = tree.branch(1, 3, "x", "greedy")
    assert (inside.text, inside.prompt_length) == ("ROMx", 3)
    at_end = tree.branch(1, len("ROMEO: what"), "!", "greedy")
    assert (at_end.text, at_end.replaced) == ("ROMEO: what!", "")


@pytest.mark.parametrize("position", [0, -1, 12])
def test_nothing_branches_outside_the_text(position: int) -> None:
    with pytest.raises(ValueError, match="no branch"):
        BranchTree("ROMEO: what", 6, "greedy").branch(1, position, "x", "greedy")


def test_rows_walk_depth_first_in_the_order_of_places() -> None:
    tree = BranchTree("abcdef", 1, "greedy")
    late = tree.branch(1, 5, "x", "greedy")
    early = tree.branch(1, 2, "y", "greedy")
    deep = tree.branch(late.number, 6, "z", "greedy")
    numbers = [(depth, branch.number) for depth, branch in tree.rows()]
    assert numbers == [(0, 1), (1, early.number), (1, late.number), (2, deep.number)]
    assert tree.neighbour(1, 1) is early
    assert tree.neighbour(early.number, 1) is late
    assert tree.neighbour(deep.number, 5) is deep
    assert tree.neighbour(1, -1) is tree[1]
