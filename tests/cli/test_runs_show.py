"""``runs show``: what is told of one run is what its files say."""

import json
from typing import Any

import pytest
from checkpoint_trees import add_checkpoint, add_run, add_run_with_losses
from real_cli import CommandLine
from safetensors.numpy import load_file
from trained_run import trained

from shakespeare_tui.config.load import load_config
from shakespeare_tui.runs.folder import RunFolder

__all__ = ["trained"]


def show(cli: CommandLine, *arguments: str) -> dict[str, Any]:
    outcome = cli("runs", "show", *arguments, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    record: dict[str, Any] = json.loads(outcome.out)
    return record


def test_a_trained_run(cli: CommandLine, trained: RunFolder) -> None:
    record = show(cli, "alpha@20")
    weights = load_file(trained.checkpoint(20).weights_path)
    numbers = sum(array.size for array in weights.values())
    assert record["parameters"]["model"]["count"] == numbers == trained.info().parameters
    assert record["parameters"]["model"]["bytes"]["float32"] == 4 * numbers
    assert record["parameters"]["trained_share"] == 1
    assert (record["checkpoint"]["reference"], record["step"]) == ("alpha@20", 30)
    assert [item["step"] for item in record["checkpoints"]] == [30, 20, 10]
    loss = record["checkpoints"][0]["losses"][0]
    info = trained.checkpoint(30).info
    assert (loss["protocol"], loss["loss"]) == ("exact", info.loss.value if info.loss else None)
    assert loss["bits_per_byte"] == pytest.approx(loss["loss"] / 0.6931472)
    assert record["config"]["model.dropout"] == 0.1
    assert record["changed"]["model.dropout"]["value"] == "0.1"
    assert record["tokenizer"]["vocab_size"] == trained.info().vocab_size


def test_as_text(cli: CommandLine, trained: RunFolder) -> None:
    text = cli("runs", "show", "alpha").out
    best = trained.best()
    assert best is not None and best.info.loss is not None
    for told in (
        "dropout=0.1",
        f"{best.info.loss.value:.4f} (exact)",
        "bits per byte",
        "token embedding",
        f"{trained.info().parameters:,}",
        "feed-forward",
        "update/weight",
    ):
        assert told in text, told


def test_where_a_run_comes_from_and_what_went_on_from_it(cli: CommandLine, runs_root: Any) -> None:
    tuned = load_config("nanogpt-cpu", ["training.lora_rank=4"])
    add_run_with_losses(runs_root, "first", {10: 2.0}, created=1.0)
    add_run_with_losses(runs_root, "second", {5: 1.9}, created=2.0, parent="first@10")
    add_run(runs_root, "third", created=3.0, parent="second@5", config=tuned)
    record = show(cli, "third")
    assert record["parents"] == ["second@5", "first@10"]
    assert record["checkpoint"] is None
    adapters = record["parameters"]["adapters"]
    assert record["parameters"]["trained"] == adapters["trained"] == adapters["count"] > 0
    assert record["parameters"]["model"]["trained"] == 0
    assert show(cli, "first")["children"] == ["second"]
    assert "second@5 ← first@10" in cli("runs", "show", "third").out


def test_damage_is_told_and_hides_nothing_else(cli: CommandLine, runs_root: Any) -> None:
    run = add_run(runs_root, "torn")
    add_checkpoint(run, 5, 2.0)
    (run.path / "config.yaml").unlink()
    outcome = cli("runs", "show", "torn")
    assert outcome.code == 0
    assert "config.yaml is missing" in outcome.out


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("nobody",), ("alpha@7",)])
def test_what_is_not_there(
    cli: CommandLine, trained: RunFolder, arguments: tuple[str, ...]
) -> None:
    outcome = cli("runs", "show", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1
