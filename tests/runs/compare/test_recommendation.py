from pathlib import Path

import pytest
from checkpoint_trees import add_checkpoint, add_run, add_run_with_losses

from shakespeare_tui.measures import Memorisation
from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.compare.items import items_of
from shakespeare_tui.runs.compare.recommendation import Recommendation, recommend


def copied(longest: int, share: float) -> Memorisation:
    return Memorisation(longest, share, passages=(), longest_passage=None, is_whole=True)


def advised(root: Path, copies: dict[str, Memorisation] | None = None) -> Recommendation | None:
    return recommend(items_of(RunCatalog(root).entries()), copies)


def advice(root: Path, copies: dict[str, Memorisation] | None = None) -> Recommendation:
    found = advised(root, copies)
    assert found is not None
    return found


def test_nothing_evaluated_is_no_advice(tmp_path: Path) -> None:
    assert advised(tmp_path) is None
    add_checkpoint(add_run(tmp_path, "a"), 10, None)
    assert advised(tmp_path) is None


def test_the_lowest_loss_is_taken_and_the_next_run_named(tmp_path: Path) -> None:
    add_run_with_losses(tmp_path, "a", {10: 2.0, 20: 1.6})
    add_run_with_losses(tmp_path, "b", {10: 1.9, 20: 1.55, 30: 1.5512})
    found = advice(tmp_path)
    assert found.item.key == "b@20"
    assert found.reason == (
        "lowest validation loss of 5: 1.5500, subset-64; 0.0500 below a@20, the next run's best"
    )
    assert (found.warnings, found.alternative) == ((), None)


def test_within_a_run_the_next_step_is_named(tmp_path: Path) -> None:
    add_run_with_losses(tmp_path, "a", {10: 2.0, 20: 1.6})
    assert "0.4000 below a@10, the next" in advice(tmp_path).reason


def test_one_alone_and_a_tie(tmp_path: Path) -> None:
    add_run_with_losses(tmp_path, "a", {10: 2.0})
    assert advice(tmp_path).reason.startswith("the only checkpoint evaluated this way: 2.0000")
    add_run_with_losses(tmp_path, "b", {10: 2.004})
    assert "b@10 is as good (0.0040 behind, within noise)" in advice(tmp_path).reason


def test_a_training_loss_of_zero_is_no_divisor(tmp_path: Path) -> None:
    add_checkpoint(add_run(tmp_path, "a"), 10, 0.5, train_loss=0.0)
    assert advice(tmp_path).warnings == ("overfitted: validation is 0.50 above training",)


def test_losses_that_do_not_compare_are_left_out(tmp_path: Path) -> None:
    add_run_with_losses(tmp_path, "a", {10: 2.0, 20: 1.9})
    add_run_with_losses(tmp_path, "b", {10: 1.0}, corpus="another")
    found = advice(tmp_path)
    assert found.item.key == "a@20"
    assert "of 2:" in found.reason
    assert found.left_out == ("not compared, since on another corpus: b",)


def test_exact_figures_decide_between_runs_that_were_measured_differently(tmp_path: Path) -> None:
    quick = add_run(tmp_path, "quick-1")
    add_checkpoint(quick, 1400, 1.531, protocol="subset-300")
    add_checkpoint(quick, 1500, 1.529, protocol="subset-300", exact=1.5347)
    for number in (2, 3):
        other = add_run(tmp_path, f"small-{number}")
        for step in (100, 200, 300):
            add_checkpoint(other, step, 1.4 + 10 / step, protocol="subset-120")
        add_checkpoint(other, 400, 1.41, protocol="subset-120", exact=1.55 + number / 100)
    found = advice(tmp_path)
    assert found.item.key == "quick-1@1500"
    assert found.reason == (
        "lowest validation loss of 4: 1.5347, exact; 0.0353 below small-2@400, the next run's best"
    )
    assert found.left_out == ()


def test_what_does_not_compare_is_named_with_what_would_help(tmp_path: Path) -> None:
    add_checkpoint(add_run(tmp_path, "a"), 10, 1.5, protocol="subset-300", exact=1.6)
    add_checkpoint(add_run(tmp_path, "b"), 20, 1.2, protocol="subset-60")
    found = advice(tmp_path)
    assert found.item.key == "a@10"
    assert found.left_out == (
        "not compared, since not measured by exact: b@20 (1.2000, subset-60); "
        "shakespeare-tui eval b@20 measures it exactly",
    )


def test_a_run_that_is_left_out_is_not_the_next_one(tmp_path: Path) -> None:
    about = {"tokenizer_sha256": "pairs", "bytes_per_token": 2.0}
    pairs = add_run(tmp_path, "pairs", **about)
    add_checkpoint(pairs, 10, 2.0, protocol="subset-300", exact=2.2, train_loss=2.0)
    quick = {"tokenizer_sha256": "characters", "bytes_per_token": 1.0}
    add_checkpoint(add_run(tmp_path, "quick", **quick), 10, 1.1, protocol="subset-300")
    add_checkpoint(add_run(tmp_path, "other", **quick), 10, 1.2, protocol="subset-60", exact=1.3)
    found = advice(tmp_path)
    assert found.reason == (
        "lowest validation loss of 2: 1.5870 bits per byte, exact; "
        "0.2885 below other@10, the next run's best"
    )
    (line,) = found.left_out
    assert "quick@10 (1.5870 bits per byte, subset-300)" in line


def test_a_pretrained_model_may_have_read_the_text(tmp_path: Path) -> None:
    add_run_with_losses(tmp_path, "tuned", {10: 1.2}, pretrained="smollm2-135m")
    add_run_with_losses(tmp_path, "other", {10: 1.3}, pretrained="gpt2")
    add_run_with_losses(tmp_path, "quick", {10: 1.6})
    found = advice(tmp_path)
    assert found.item.key == "tuned@10"
    assert found.warnings == ("weights from smollm2-135m, which may have read this text",)
    assert found.alternative is not None
    assert found.alternative.key == "quick@10"


def test_the_last_step_of_an_overfitted_run_does_not_stand_for_it(tmp_path: Path) -> None:
    """The last one alone has an exact figure; by the subset an earlier one is better."""
    run = add_run(tmp_path, "a")
    add_checkpoint(run, 10, 1.5, train_loss=1.4)
    add_checkpoint(run, 20, 2.0, train_loss=1.9, exact=1.9)
    assert advice(tmp_path).item.key == "a@10"


def test_a_gap_warns_and_offers_what_has_none(tmp_path: Path) -> None:
    run = add_run_with_losses(tmp_path, "a", {10: 1.6}, gap=0.1)
    add_checkpoint(run, 20, 1.5, train_loss=1.0)
    add_checkpoint(run, 30, 1.7, train_loss=0.8)
    found = advice(tmp_path)
    assert found.item.key == "a@20"
    assert found.warnings == (
        "overfitted: validation is 0.50 (50%) above training, and later steps of the run are worse",
    )
    assert found.alternative is not None
    assert found.alternative.key == "a@10"


@pytest.mark.parametrize(("val", "train", "warns"), [(0.14, 0.1, False), (1.2, 1.0, False)])
def test_a_small_gap_does_not_warn(tmp_path: Path, val: float, train: float, warns: bool) -> None:
    add_checkpoint(add_run(tmp_path, "a"), 10, val, train_loss=train)
    assert bool(advice(tmp_path).warnings) is warns


def test_recitals_warn(tmp_path: Path) -> None:
    add_run_with_losses(tmp_path, "a", {10: 1.6, 20: 1.5})
    found = advice(tmp_path, {"a@20": copied(131, 0.62), "a@10": copied(20, 0.02)})
    assert found.item.key == "a@20"
    assert found.warnings == (
        "memorised: 62% of a sample lies in copies of 20 characters or more, the longest of 131",
    )
    assert found.alternative is not None
    assert found.alternative.key == "a@10"
    assert advice(tmp_path, {"a@20": copied(40, 0.2)}).warnings == ()
