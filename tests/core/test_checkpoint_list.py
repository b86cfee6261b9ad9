import json
import shutil
from pathlib import Path

import pytest
from checkpoint_trees import add_checkpoint, add_run, add_run_with_losses, weights
from trained_run import trained

from shakespeare_tui.core.checkpoint_list import CheckpointEntry, CheckpointList, RunEntry
from shakespeare_tui.core.run_notes import RunNotes, write_notes
from shakespeare_tui.core.runs import RunFolder

__all__ = ["trained"]


def entries(root: Path) -> dict[str, RunEntry]:
    return {run.name: run for run in CheckpointList(root).entries()}


def only(root: Path, run: str, name: str) -> CheckpointEntry:
    return next(entry for entry in entries(root)[run].checkpoints if entry.name == name)


def test_a_trained_run_has_the_figures_of_its_files(trained: RunFolder, runs_root: Path) -> None:
    run = entries(runs_root)["alpha"]
    assert run.problem is None
    assert run.state == "completed"
    assert run.info == trained.info()
    assert [entry.step for entry in run.checkpoints] == [30, 20, 10]
    for entry, checkpoint in zip(run.checkpoints, reversed(trained.checkpoints()), strict=True):
        assert entry.problem is None
        assert entry.info == checkpoint.info
        assert entry.size_bytes == checkpoint.size_bytes
        assert entry.reference == checkpoint.reference
        assert entry.is_last == (entry.step == trained.index()["last"])
        assert entry.is_best == (entry.step == trained.index()["best"])


def test_no_folder_is_an_empty_list(tmp_path: Path) -> None:
    assert CheckpointList(tmp_path / "none").entries() == []


def test_runs_come_newest_first_with_their_notes(runs_root: Path) -> None:
    add_run(runs_root, "old", created=1.0)
    new = add_run(runs_root, "new", created=2.0)
    write_notes(new.path, RunNotes("[b]good[/b]"))
    found = CheckpointList(runs_root).entries()
    assert [(run.name, run.notes.note) for run in found] == [("new", "[b]good[/b]"), ("old", "")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("info.json", b"{", "damaged"),
        ("info.json", b"[]", "names no format"),
        ("info.json", b'{"format": 9}', "newer version"),
        ("info.json", None, "missing"),
        ("weights.safetensors", None, "missing"),
        ("weights.safetensors", b"", "not a safetensors file"),
        ("weights.safetensors", b"PK\x03\x04 a pickle of another program", "not a safetensors"),
        ("weights.safetensors", weights(1000)[:-1], "cut off"),
        ("weights.safetensors", b"\x08" + bytes(7) + b"not json", "header is damaged"),
        ("weights.safetensors", b"\x02" + bytes(7) + b"[]", "header is damaged"),
        ("weights.safetensors", b'\x08\0\0\0\0\0\0\0{"a": 1}', "header is damaged"),
    ],
)
def test_a_damaged_checkpoint_is_listed_with_the_reason(
    runs_root: Path, name: str, content: bytes | None, reason: str
) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0, 20: 1.5})
    path = run.checkpoint_folder(20) / name
    path.unlink() if content is None else path.write_bytes(content)
    damaged = only(runs_root, "a", "step-00000020")
    assert damaged.info is None
    assert reason in (damaged.problem or "")
    assert only(runs_root, "a", "step-00000010").problem is None


def test_what_is_foreign_is_listed_with_the_reason(runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0})
    (run.path / "model.PT").write_bytes(b"x")
    (run.path / "step-x").mkdir()
    (run.path / "step-00000099").write_text("a file")
    (runs_root / "hf-model").mkdir()
    (runs_root / "old.ckpt").write_bytes(b"x")
    (runs_root / ".hidden").mkdir()
    (runs_root / "taste.jsonl").write_text("")
    found = entries(runs_root)
    assert set(found) == {"a", "hf-model", "old.ckpt"}
    assert "has no run.json" in (found["hf-model"].problem or "")
    assert "another program" in (found["old.ckpt"].problem or "")
    problems = {entry.name: entry.problem for entry in found["a"].checkpoints}
    assert problems.pop("step-00000010") is None
    assert set(problems) == {"model.PT", "step-x", "step-00000099"}
    assert all(problems.values())


def test_a_damaged_index_leaves_the_checkpoints_usable(runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0})
    (run.path / "index.json").write_text("[")
    entry = entries(runs_root)["a"]
    assert "index.json is damaged" in (entry.problem or "")
    assert entry.info is not None
    assert [c.problem for c in entry.checkpoints] == [None]


def test_what_changed_is_read_again(runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0, 20: 1.5})
    listing = CheckpointList(runs_root)
    first = listing.entries()[0].checkpoints
    assert listing.entries()[0].checkpoints == first
    path = run.checkpoint_folder(10) / "info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"val_loss": 1.25}))
    shutil.rmtree(run.checkpoint_folder(20))
    add_checkpoint(run, 30, 1.0)
    second = listing.entries()[0].checkpoints
    assert [(c.step, c.info and c.info.val_loss) for c in second] == [(30, 1.0), (10, 1.25)]


def test_a_mended_checkpoint_is_no_longer_damaged(runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0})
    path = run.checkpoint_folder(10) / "weights.safetensors"
    path.write_bytes(b"")
    listing = CheckpointList(runs_root)
    assert listing.entries()[0].checkpoints[0].problem
    path.write_bytes(weights())
    assert listing.entries()[0].checkpoints[0].problem is None
