import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from checkpoint_trees import NOW, add_run, add_run_with_losses
from trained_run import fingerprints, trained

from shakespeare_tui import files
from shakespeare_tui.errors import UserError
from shakespeare_tui.runs import editing as run_editing
from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.editing import (
    annotate_run,
    delete_checkpoint,
    delete_foreign,
    delete_run,
    rename_run,
)
from shakespeare_tui.runs.folder import RunFolder, find_checkpoint, find_run, list_runs
from shakespeare_tui.runs.notes import RunNames, RunNotes, read_notes, write_notes

__all__ = ["trained"]


def test_a_renamed_run_is_found_by_both_names(trained: RunFolder, runs_root: Path) -> None:
    weights = trained.checkpoint(20).weights_path.read_bytes()
    renamed = rename_run(trained, "beta")
    assert [run.name for run in list_runs(runs_root)] == ["beta"]
    assert renamed.info().name == "beta"
    for name in ("beta", "alpha"):
        assert find_run(name, runs_root).name == "beta"
        assert find_checkpoint(f"{name}@20", runs_root).weights_path.read_bytes() == weights


def test_a_name_that_went_to_another_run_means_that_one(runs_root: Path) -> None:
    rename_run(add_run(runs_root, "a"), "b")
    add_run(runs_root, "a", corpus="another")
    assert find_run("a", runs_root).info().corpus == "another"


def test_lineage_follows_names_in_time(runs_root: Path) -> None:
    first = add_run(runs_root, "a", created=10.0)
    rename_run(first, "b", now=20.0)
    add_run(runs_root, "a", created=30.0)
    rename_run(find_run("b", runs_root), "c", now=40.0)
    names = RunNames(RunCatalog(runs_root).entries())
    assert names.reference_now("a@5", 15.0) == "c@5"
    assert names.reference_now("b@5", 30.0) == "c@5"
    assert names.reference_now("a@5", 35.0) == "a@5"
    assert names.reference_now("c@5", 50.0) == "c@5"
    assert names.reference_now("gone@5", 35.0) is None
    # Before the first of them: one bearer of "b" only, two of "a".
    assert names.reference_now("b@5", 1.0) == "c@5"
    assert names.reference_now("a@5", 1.0) is None


def test_renaming_there_and_back_keeps_one_run(runs_root: Path) -> None:
    back = rename_run(rename_run(add_run(runs_root, "a"), "b", now=NOW + 1), "a", now=NOW + 2)
    assert back.name == "a"
    assert [run.name for run in list_runs(runs_root)] == ["a"]
    assert find_run("b", runs_root).name == "a"
    assert rename_run(back, "a").path == back.path


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "x" * 101, "taken"])
def test_a_bad_name_changes_nothing(runs_root: Path, name: str) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0})
    add_run(runs_root, "taken")
    before = fingerprints(runs_root)
    with pytest.raises(UserError):
        rename_run(run, name)
    assert fingerprints(runs_root) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda run: rename_run(run, "b"),
        delete_run,
        lambda run: delete_checkpoint(run, 10),
    ],
    ids=["rename", "delete_run", "delete_checkpoint"],
)
def test_a_run_in_training_is_left_alone(
    runs_root: Path, change: Callable[[RunFolder], object]
) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0, 20: 1.0})
    with run.locked():
        before = fingerprints(runs_root)
        with pytest.raises(UserError, match="is being trained"):
            change(run)
        assert fingerprints(runs_root) == before


def test_a_run_that_is_gone_is_named(runs_root: Path) -> None:
    run = add_run(runs_root, "a")
    shutil.rmtree(run.path)
    with pytest.raises(UserError, match="no run a any more"):
        delete_run(run)
    assert list(runs_root.iterdir()) == []


def test_a_note_is_kept_beside_former_names(runs_root: Path) -> None:
    run = rename_run(add_run(runs_root, "a"), "b", now=5.0)
    annotate_run(run, " a [b]good[/b] one\n")
    notes = read_notes(run.path)
    assert notes.note == "a [b]good[/b] one"
    assert [name.name for name in notes.former_names] == ["a"]
    annotate_run(run, "")
    assert read_notes(run.path).note == ""
    with pytest.raises(UserError, match="2,000 characters, not 2,001"):
        annotate_run(run, "x" * 2001)


@pytest.mark.parametrize(
    "content", ["", "[]", "null", '{"note": 3, "former_names": [1, {"name": 2}, {}]}', "[" * 9999]
)
def test_damaged_notes_are_no_notes(tmp_path: Path, content: str) -> None:
    (tmp_path / "notes.json").write_text(content)
    assert read_notes(tmp_path) == RunNotes()


def test_a_full_disk_leaves_the_old_note(runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = add_run(runs_root, "a")
    annotate_run(run, "old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        annotate_run(run, "new")
    monkeypatch.undo()
    assert read_notes(run.path).note == "old"


def test_deleting_a_run_leaves_the_others(runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0})
    add_run(runs_root, "b")
    delete_run(run)
    assert [path.name for path in runs_root.iterdir()] == ["b"]


def test_a_broken_off_deletion_is_out_of_sight_and_swept(
    runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0})
    monkeypatch.setattr(run_editing.shutil, "rmtree", lambda *_, **__: None)
    delete_run(run)
    monkeypatch.undo()
    assert len(list(runs_root.iterdir())) == 1
    assert list_runs(runs_root) == []
    assert RunCatalog(runs_root).entries() == []
    delete_run(add_run(runs_root, "b"))
    assert list(runs_root.iterdir()) == []


@pytest.mark.parametrize(
    ("deleted", "index"),
    [
        (10, {"best": 20, "last": 30}),
        (20, {"best": 30, "last": 30}),
        (30, {"best": 20, "last": 20}),
    ],
)
def test_best_and_last_name_what_is_left(
    runs_root: Path, deleted: int, index: dict[str, int]
) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0, 20: 1.0, 30: 1.5})
    delete_checkpoint(run, deleted)
    assert run.index() == index
    assert run.steps() == sorted({10, 20, 30} - {deleted})
    assert find_checkpoint("a", runs_root).info.step == index["best"]


def test_the_last_checkpoint_can_go_too(runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0})
    delete_checkpoint(run, 10)
    assert (run.index(), run.steps()) == ({}, [])
    with pytest.raises(UserError, match="no checkpoint at step 10"):
        delete_checkpoint(run, 10)


def test_a_damaged_checkpoint_can_be_deleted(runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0, 20: 1.0})
    (run.checkpoint_folder(20) / "info.json").write_text("{")
    (run.path / "index.json").write_text("{")
    delete_checkpoint(run, 20)
    assert (run.index(), run.steps()) == ({"best": 10, "last": 10}, [10])


def test_what_is_foreign_can_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "x").write_text("")
    (tmp_path / "a.pt").write_text("")
    for name in ("hf", "a.pt"):
        delete_foreign(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_notes_are_json_for_other_programs(tmp_path: Path) -> None:
    write_notes(tmp_path, RunNotes("fine").with_former_name("a", 5.0))
    assert json.loads((tmp_path / "notes.json").read_text()) == {
        "format": 1,
        "note": "fine",
        "former_names": [{"name": "a", "until": 5.0}],
    }


def test_a_link_is_renamed_and_deleted_and_the_folder_elsewhere_stays(
    runs_root: Path, tmp_path: Path
) -> None:
    """What is deleted and half deleted beside the real folder is another place's business."""
    disk = tmp_path / "disk"
    original = add_run_with_losses(disk, "original", {10: 2.0})
    (disk / ".deleted-other-1").mkdir()
    with original.locked():
        pass
    runs_root.mkdir(exist_ok=True)
    (runs_root / "linked").symlink_to(original.path)
    before = fingerprints(disk)

    renamed = rename_run(RunFolder(runs_root / "linked"), "another")
    assert renamed.path == runs_root / "another"
    assert renamed.path.is_symlink()
    assert [run.name for run in list_runs(runs_root)] == ["another"]
    assert fingerprints(disk) == before

    delete_run(renamed)
    assert not os.path.lexists(runs_root / "another")
    assert fingerprints(disk) == before


def test_a_run_in_a_linked_folder_of_runs_is_deleted_there(tmp_path: Path) -> None:
    add_run_with_losses(tmp_path / "disk", "a", {10: 2.0})
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    delete_run(RunFolder(tmp_path / "runs" / "a"))
    assert list((tmp_path / "disk").iterdir()) == []
