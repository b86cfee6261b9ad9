"""How checkpoints are put in order by their figures."""

from pathlib import Path

from checkpoint_trees import NOW, add_checkpoint, add_run

from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.compare.items import items_of, sort_items


def test_losses_are_sorted_within_a_protocol_and_exact_ones_come_first(tmp_path: Path) -> None:
    run = add_run(tmp_path, "a")
    add_checkpoint(run, 1, 1.1, protocol="subset-9")
    add_checkpoint(run, 2, 1.0, protocol="subset-9")
    add_checkpoint(run, 3, 0.5, protocol="subset-8")
    add_checkpoint(run, 4, 0.4, protocol="subset-8", exact=2.0)
    add_checkpoint(run, 5, 0.3, protocol="subset-8", exact=1.9)
    add_checkpoint(run, 6, None)
    items = items_of(RunCatalog(tmp_path).entries())

    def order(name: str, *, is_descending: bool = False) -> list[int]:
        found = sort_items(items, name, is_descending=is_descending, now=NOW)
        return [item.checkpoint.step for item in found if item.checkpoint]

    assert order("val") == order("ppl") == [5, 4, 3, 2, 1, 6]
    assert order("val", is_descending=True) == [4, 5, 3, 1, 2, 6]
    assert order("step") == [1, 2, 3, 4, 5, 6]


def test_accuracies_are_sorted_as_the_losses_they_were_measured_with(tmp_path: Path) -> None:
    run = add_run(tmp_path, "a")
    add_checkpoint(run, 1, 1.1, protocol="subset-9", accuracy=0.6)
    add_checkpoint(run, 2, 1.0, protocol="subset-9", accuracy=0.7)
    add_checkpoint(run, 3, 0.4, protocol="subset-9", exact=2.0, accuracy=0.5)
    add_checkpoint(run, 4, 1.2, protocol="subset-9")
    items = items_of(RunCatalog(tmp_path).entries())
    found = sort_items(items, "accuracy", is_descending=True, now=NOW)
    assert [item.checkpoint.step for item in found if item.checkpoint] == [3, 2, 1, 4]
    assert [item.accuracy for item in found] == [0.5, 0.7, 0.6, None]
