import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoint_trees import add_checkpoint, add_run, add_run_with_losses, weights
from trained_run import trained

from shakespeare_tui.config.schema import Config
from shakespeare_tui.runs.catalog import CheckpointEntry, RunCatalog, RunEntry
from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.events import CommandApplied, RunFailed, RunFinished, StepCompleted
from shakespeare_tui.runs.folder import RunFolder, find_checkpoint
from shakespeare_tui.runs.notes import RunNotes, write_notes

__all__ = ["trained"]


def entries(root: Path) -> dict[str, RunEntry]:
    return {run.name: run for run in RunCatalog(root).entries()}


def only(root: Path, run: str, name: str) -> CheckpointEntry:
    return next(entry for entry in entries(root)[run].checkpoints if entry.name == name)


def test_a_trained_run_has_the_figures_of_its_files(trained: RunFolder, runs_root: Path) -> None:
    run = entries(runs_root)["alpha"]
    assert run.problem is None
    assert run.state == "finished"
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
    assert RunCatalog(tmp_path / "none").entries() == []


def test_runs_come_newest_first_with_their_notes(runs_root: Path) -> None:
    add_run(runs_root, "old", created=1.0)
    new = add_run(runs_root, "new", created=2.0)
    write_notes(new.path, RunNotes("[b]good[/b]"))
    found = RunCatalog(runs_root).entries()
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
    listing = RunCatalog(runs_root)
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
    listing = RunCatalog(runs_root)
    assert listing.entries()[0].checkpoints[0].problem
    path.write_bytes(weights())
    assert listing.entries()[0].checkpoints[0].problem is None


def end_with(run: RunFolder, *lines: str) -> None:
    """Put other lines in the place of the run's ending."""
    kept = [x for x in run.events_path.read_text().splitlines() if '"RunFinished"' not in x]
    run.events_path.write_text("\n".join([*kept, *lines]) + "\n")


def finished(reason: str) -> str:
    return RunFinished(step=30, reason=reason, val_loss=3.0, protocol="exact").to_json()


def entry_of(run: RunFolder) -> RunEntry:
    return entries(run.path.parent)[run.name]


def state_of(run: RunFolder) -> str:
    return entry_of(run).state


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ([finished("completed")], "finished"),
        ([finished("target")], "finished"),
        ([finished("patience")], "finished"),
        ([finished("stopped")], "stopped"),
        ([finished("interrupted")], "interrupted"),
        ([RunFailed(step=31, error="the disk is full").to_json()], "failed"),
        ([], "interrupted"),
        ([finished("completed")[:-9]], "interrupted"),
        (["not json", '{"type": "Unheard", "time": 1.0}'], "interrupted"),
        ([finished("completed"), '{"type": "Unheard", "time": 1.0}'], "finished"),
    ],
    ids=range(10),
)
def test_states_by_the_last_event(lines: list[str], state: str, trained: RunFolder) -> None:
    end_with(trained, *lines)
    if lines and not lines[-1].endswith("}"):
        trained.events_path.write_text(trained.events_path.read_text().rstrip("\n"))
    assert state_of(trained) == state


def test_the_ending_is_found_in_a_long_log(trained: RunFolder) -> None:
    step = StepCompleted(
        step=1, loss=1.0, learning_rate=1.0, grad_norm=1.0, tokens_per_second=1.0, elapsed_seconds=1
    )
    trained.events_path.write_text((step.to_json() + "\n") * 5000 + finished("stopped") + "\n")
    assert state_of(trained) == "stopped"


def test_training_while_the_lock_is_held(trained: RunFolder) -> None:
    with trained.locked():
        assert state_of(trained) == "training"
    assert state_of(trained) == "finished"


def test_a_paused_run_and_the_step_of_a_run_in_training(trained: RunFolder) -> None:
    """The step is the log's, far past the last checkpoint; a pause shows until it is over."""
    step = StepCompleted(
        step=238, loss=1.0, learning_rate=1, grad_norm=1, tokens_per_second=1, elapsed_seconds=1
    )
    pause = CommandApplied(step=238, command="Pause")
    with trained.locked():
        end_with(trained, step.to_json())
        assert (state_of(trained), entry_of(trained).step) == ("training", 238)
        end_with(trained, step.to_json(), pause.to_json())
        assert state_of(trained) == "paused"
        note = CommandApplied(step=238, command="AddNote", arguments={"text": "x"})
        end_with(trained, step.to_json(), pause.to_json(), note.to_json())
        assert state_of(trained) == "paused"
        resumed = CommandApplied(step=238, command="Resume")
        end_with(trained, step.to_json(), pause.to_json(), resumed.to_json())
        assert state_of(trained) == "training"


def test_before_the_first_checkpoint(trained: RunFolder) -> None:
    for path in ("index.json", "events.jsonl"):
        (trained.path / path).unlink()
    for step in trained.steps():
        shutil.rmtree(trained.checkpoint_folder(step))
    run = entry_of(trained)
    assert (run.state, run.step, run.best, run.problem) == ("interrupted", None, None, None)


def test_best_is_the_named_one_and_else_the_latest(runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0, 20: 2.5})
    assert entry_of(run).best == only(runs_root, "a", "step-00000010")
    (run.path / "index.json").unlink()
    assert entry_of(run).best == only(runs_root, "a", "step-00000020")


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("run.json", "{", "run.json is damaged"),
        ("run.json", "[]", "names no format"),
        ("run.json", '{"format": 99}', "newer version"),
        ("run.json", '{"format": 1}', "run.json is damaged"),
        ("run.json", "[" * 100_000, "nested too deeply"),
        ("run.json", '{"format": 1, "name": null}', "run.json is damaged"),
        ("run.json", " " * 2_000_000, "larger than 1,024 KB"),
        ("run.json", fifo, "not a regular file"),
        ("run.json", folder, "not a regular file"),
        ("index.json", "\0", "index.json is damaged"),
        ("index.json", '{"last": "x"}', "index.json is damaged"),
        ("index.json", '{"last": null}', "index.json is damaged"),
        ("index.json", fifo, "not a regular file"),
        ("index.json", folder, "not a regular file"),
        ("config.yaml", "model: [", "config.yaml:1"),
        ("config.yaml", "model:\n  d_model: -3\n  n_heads: 0\n", "(and 1 more)"),
        ("config.yaml", "[" * 100_000, "too many levels"),
        ("config.yaml", "a: " + "b" * 2_000_000, "larger than 128 KB"),
        ("config.yaml", fifo, "not a regular file"),
        ("config.yaml", folder, "is a folder"),
        ("config.yaml", Path.unlink, "config.yaml is missing"),
        ("events.jsonl", fifo, "not a regular file"),
        ("events.jsonl", folder, "not a regular file"),
    ],
)
def test_a_bad_run_is_one_entry_with_its_reason(
    file: str, content: Any, reason: str, trained: RunFolder, runs_root: Path
) -> None:
    """Whatever lies in the place of one file, the run is listed as damaged, the others as usual."""
    add_run_with_losses(runs_root, "good", {10: 2.0})
    path = trained.path / file
    path.write_text(content) if isinstance(content, str) else content(path)
    found = entries(runs_root)
    assert set(found) == {"alpha", "good"}
    assert found["good"].problem is None
    run = found["alpha"]
    assert run.state == "damaged"
    assert reason in (run.problem or "")
    assert "\n" not in (run.problem or "")
    assert bool(run.checkpoints) == (file in ("index.json", "events.jsonl"))


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"type": "StepCompleted", "step": null}', '{"a": ' * 50_000, "null", "{}"],
    ids=range(5),
)
def test_odd_lines_in_a_log_are_passed_over(line: str, trained: RunFolder) -> None:
    end_with(trained, finished("stopped"), line)
    assert (state_of(trained), entry_of(trained).problem) == ("stopped", None)
    assert list(read_events(trained.events_path))


@pytest.mark.parametrize("name", ["info.json", "weights.safetensors"])
def test_a_fifo_in_a_checkpoint_is_damage_and_not_waited_for(name: str, runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0, 20: 1.5})
    fifo(run.checkpoint_folder(20) / name)
    assert "not a regular file" in (only(runs_root, "a", "step-00000020").problem or "")
    assert only(runs_root, "a", "step-00000010").problem is None


def flip(path: Path) -> None:
    """Change a byte in place, as a failing disk or a careless tool does."""
    with path.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        byte = file.read(1)
        file.seek(-5, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))


def test_weights_damaged_in_place_are_noticed_when_listed_again(trained: RunFolder) -> None:
    """Neither size nor header tell; nor does the time of writing, which is set back."""
    catalog = RunCatalog(trained.path.parent)
    assert all(c.problem is None for c in catalog.entries()[0].checkpoints)
    path = trained.checkpoint(20).weights_path
    before = path.stat()
    flip(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    problems = {c.step: c.problem for c in catalog.entries()[0].checkpoints}
    assert "SHA-256" in (problems.pop(20) or "")
    assert set(problems.values()) == {None}
    flip(path)
    assert all(c.problem is None for c in catalog.entries()[0].checkpoints)


def test_weights_written_to_after_they_were_saved_are_noticed_at_once(trained: RunFolder) -> None:
    path = trained.checkpoint(20).weights_path
    flip(path)
    later = path.stat().st_mtime + 60
    os.utime(path, (later, later))
    assert "SHA-256" in (only(trained.path.parent, "alpha", "step-00000020").problem or "")


def test_a_fifo_for_notes_is_no_note(runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0})
    fifo(run.path / "notes.json")
    assert entry_of(run).notes == RunNotes()


def test_a_run_that_may_not_be_read_is_one_entry(
    runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it belongs to somebody else; root may read everything, so the system is asked to."""
    add_run_with_losses(runs_root, "good", {10: 2.0})
    locked = add_run_with_losses(runs_root, "locked", {10: 2.0})
    really_open = os.open

    def guarded(path: Any, *rest: Any, **named: Any) -> int:
        if str(path).startswith(str(locked.path)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really_open(path, *rest, **named)

    monkeypatch.setattr(os, "open", guarded)
    found = entries(runs_root)
    assert found["good"].problem is None
    assert "Permission denied" in (found["locked"].problem or "")


def test_links_are_listed_under_their_own_names(runs_root: Path, tmp_path: Path) -> None:
    elsewhere = add_run_with_losses(tmp_path / "disk", "original", {10: 2.0})
    runs_root.mkdir()
    (runs_root / "linked").symlink_to(elsewhere.path)
    (runs_root / "gone").symlink_to(tmp_path / "nothing")
    found = entries(runs_root)
    assert set(found) == {"linked", "gone"}
    assert [c.reference for c in found["linked"].checkpoints] == ["linked@10"]
    assert RunFolder(found["linked"].path).name == "linked"
    assert find_checkpoint("linked@10", runs_root).reference == "linked@10"
    assert "what is not there" in (found["gone"].problem or "")


def test_settings_are_read_with_the_runs_or_later(runs_root: Path) -> None:
    add_run_with_losses(runs_root, "a", {10: 2.0})
    assert RunCatalog(runs_root).entries(reads_configs=False)[0].config is None
    run = RunCatalog(runs_root).entries()[0]
    assert run.config == Config()
    assert run.texts is not None
    assert run.texts["model.d_model"] == str(Config().model.d_model)


def test_looking_changes_nothing(trained: RunFolder) -> None:
    from trained_run import fingerprints

    before = fingerprints(trained.path)
    entry_of(trained)
    assert fingerprints(trained.path) == before
