from checkpoint_trees import add_checkpoint, add_run, add_run_with_losses

from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.losses import Loss
from shakespeare_tui.runs.run_rank import rank_of


def make_run(root, name, loss, *, corpus="a", protocol="exact"):
    run = add_run(root, name, corpus=corpus)
    add_checkpoint(run, 1, loss, protocol=protocol)
    run.write_index(1, 1)
    return run


def test_a_run_stands_among_those_on_the_same_text_and_protocol(tmp_path):
    make_run(tmp_path, "better", 1.5)
    make_run(tmp_path, "worse", 1.9)
    make_run(tmp_path, "elsewhere", 1.0, corpus="b")
    make_run(tmp_path, "otherwise", 1.1, protocol="subset-9")
    rank = rank_of(make_run(tmp_path, "mine", 1.7), tmp_path)
    assert (rank.place, rank.runs, rank.left_out) == (2, 3, 1)
    assert (rank.best_name, rank.best_loss) == ("better", Loss(1.5, "exact"))


def test_each_run_stands_for_its_best_checkpoint(tmp_path):
    add_run_with_losses(tmp_path, "other", {10: 1.5, 20: 1.9})
    mine = add_run_with_losses(tmp_path, "mine", {10: 1.4, 20: 2.5})
    assert rank_of(mine, tmp_path).place == 1


def test_equal_losses_share_a_rank(tmp_path):
    make_run(tmp_path, "twin", 1.7)
    assert rank_of(make_run(tmp_path, "mine", 1.7), tmp_path).place == 1


def test_one_that_nothing_compares_with_is_not_called_the_first(tmp_path):
    make_run(tmp_path, "other", 1.7)
    mine = rank_of(make_run(tmp_path, "mine", 1.9, protocol="subset-9"), tmp_path)
    assert (mine.place, mine.runs, mine.left_out) == (1, 1, 1)


def test_a_run_that_was_not_evaluated_has_no_rank(tmp_path):
    make_run(tmp_path, "other", 1.7)
    assert rank_of(make_run(tmp_path, "mine", None), tmp_path) is None
    assert rank_of(RunFolder(tmp_path / "absent"), tmp_path) is None


def test_a_damaged_run_is_passed_over(tmp_path):
    (make_run(tmp_path, "damaged", 1.2).path / "run.json").write_text("{")
    rank = rank_of(make_run(tmp_path, "mine", 1.7), tmp_path)
    assert (rank.runs, rank.left_out) == (1, 0)
