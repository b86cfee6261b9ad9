"""Losses of different tokenizers are compared in bits per byte, never per token."""

import json
import math
from pathlib import Path

import pytest
from checkpoint_trees import NOW, add_checkpoint, add_run

from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.compare.items import items_of, sort_items
from shakespeare_tui.runs.compare.recommendation import recommend
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.losses import bits_per_byte
from shakespeare_tui.runs.run_rank import rank_of


def make_run(root: Path, name: str, loss: float, bytes_per_token: float | None) -> RunFolder:
    run = add_run(root, name)
    path = run.path / "run.json"
    kind = {"tokenizer_sha256": None, "bytes_per_token": bytes_per_token}
    if bytes_per_token != 1.0:
        kind["vocab_size"] = 512
    path.write_text(json.dumps(json.loads(path.read_text()) | kind))
    add_checkpoint(run, 1, loss, protocol="exact")
    run.write_index(1, 1)
    return run


@pytest.fixture
def pairs_and_characters(runs_root: Path) -> Path:
    make_run(runs_root, "pairs", 2.6, 2.0)
    make_run(runs_root, "characters", 1.5, 1.0)
    make_run(runs_root, "unknown", 0.9, None)
    return runs_root


def test_the_loss_per_byte() -> None:
    assert bits_per_byte(math.log(2), 1.0) == pytest.approx(1.0)
    assert bits_per_byte(3 * math.log(2), 4.0) == pytest.approx(0.75)


def test_ranks_and_the_recommendation_go_by_bytes(pairs_and_characters: Path) -> None:
    rank = rank_of(RunFolder(pairs_and_characters / "characters"), pairs_and_characters)
    assert rank is not None
    assert (rank.place, rank.runs, rank.best_name, rank.left_out) == (2, 2, "pairs", 1)
    assert str(rank.best_loss) == "1.8755 bits per byte, exact"
    items = items_of(RunCatalog(pairs_and_characters).entries())
    advice = recommend(items)
    assert advice is not None
    assert advice.item.run.name == "pairs"
    assert "1.8755 bits per byte" in advice.reason


@pytest.mark.parametrize("figure", ["val", "bits", "ppl", "train"])
def test_a_table_is_sorted_by_bytes(pairs_and_characters: Path, figure: str) -> None:
    items = items_of(RunCatalog(pairs_and_characters).entries())
    rows = sort_items(items, figure, is_descending=False, now=NOW)
    assert [row.run.name for row in rows] == ["pairs", "characters", "unknown"]


def test_runs_has_a_column_where_tokenizers_differ(pairs_and_characters: Path, cli) -> None:  # type: ignore[no-untyped-def]
    records = {run["name"]: run for run in json.loads(cli("runs", "--json").out)["runs"]}
    assert records["pairs"]["bits_per_byte"] == pytest.approx(1.8755, abs=1e-4)
    assert records["unknown"]["bits_per_byte"] is None
    assert "bits/byte" in cli("runs").out
    assert "bits/byte" not in cli("runs", "characters").out
