"""Rename, annotate and delete runs and checkpoints, so that a crash leaves them as they were."""

import contextlib
import dataclasses
import errno
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from shakespeare_tui.errors import UserError
from shakespeare_tui.files import fsync_folder, write_json_atomically
from shakespeare_tui.runs.folder import Checkpoint, RunFolder, best_step, check_run_name
from shakespeare_tui.runs.notes import read_notes, write_notes

_DELETED = ".deleted-"
_CAN_RENAME_WHAT_IS_OPEN = os.name != "nt"


def rename_run(run: RunFolder, name: str, *, now: float | None = None) -> RunFolder:
    """Give a run another name; what refers to it by the old one still finds it.

    The old name is noted in the run before the folder is renamed: lineage of forks and results of
    blind tests are never rewritten. Of a link the link is renamed, and the folder elsewhere stays
    as it is.

    Args:
        run: The run.
        name: Its new name.
        now: Until when the old name held, Unix seconds; None takes the clock.

    Returns:
        The run under its new name.

    Raises:
        UserError: The name is taken or no good, or a trainer holds the run.
        OSError: The folder cannot be written.
    """
    if name == run.name:
        return run
    root = _root_of(run)
    check_run_name(name)
    path = root / name
    if os.path.lexists(path):
        raise UserError(f"there is already a run {name!r}; choose another name")
    with _without_trainer(run, "renamed"):
        if run.path.is_symlink():
            run.path.rename(path)
            fsync_folder(root)
            return RunFolder(path)
        info = run.info()
        notes = read_notes(run.path)
        until = time.time() if now is None else now
        write_notes(run.path, notes.with_former_name(run.name, until))
        try:
            run.path.rename(path)
        except OSError as error:
            write_notes(run.path, notes)
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                raise UserError(f"there is already a run {name!r}; choose another name") from None
            raise
        fsync_folder(root)
        renamed = RunFolder(path)
        write_json_atomically(
            path / "run.json", dataclasses.asdict(dataclasses.replace(info, name=name))
        )
    return renamed


def annotate_run(run: RunFolder, note: str) -> None:
    """Replace a run's note; blank takes it away. A trainer does not mind.

    Raises:
        UserError: The note is too long.
        OSError: The folder cannot be written; the old note stays.
    """
    write_notes(run.path, dataclasses.replace(read_notes(run.path), note=note.strip()))


def delete_run(run: RunFolder) -> None:
    """Delete a run with all its checkpoints; a crash leaves it whole or out of sight.

    Of a link only the link is deleted.

    Raises:
        UserError: A trainer holds the run.
        OSError: The folder cannot be written.
    """
    root = _root_of(run)
    with _without_trainer(run, "deleted"):
        if run.path.is_symlink():
            run.path.unlink()
        else:
            run.path.rename(root / f"{_DELETED}{run.name}-{time.time_ns()}")
    fsync_folder(root)
    # What an earlier deletion left behind when it was interrupted goes as well.
    for left in root.glob(f"{_DELETED}*"):
        shutil.rmtree(left, ignore_errors=True)


def _root_of(run: RunFolder) -> Path:
    """The folder in which a run is listed, whatever links lead to it."""
    return Path(os.path.abspath(run.path)).parent


def delete_checkpoint(run: RunFolder, step: int) -> None:
    """Delete a checkpoint, damaged or not; ``best`` and ``last`` then name what is left.

    Raises:
        UserError: There is none, or a trainer holds the run.
        OSError: The folder cannot be written.
    """
    with _without_trainer(run, "changed"):
        if step not in run.steps():
            raise UserError(f"run {run.name} has no checkpoint at step {step} any more")
        left = [checkpoint for checkpoint in run.checkpoints() if checkpoint.info.step != step]
        # Named first: a crash in between leaves one too many, never a name without a checkpoint.
        _name_best_and_last(run, left, step)
        run.remove_checkpoint(step)


def delete_foreign(path: Path) -> None:
    """Delete a file or a folder that is no run or checkpoint of this program.

    Raises:
        OSError: It cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _name_best_and_last(run: RunFolder, left: list[Checkpoint], deleted: int) -> None:
    named: dict[str, int] = {}
    with contextlib.suppress(UserError):
        named = run.index()
    if named and deleted not in named.values():
        return
    if not left:
        (run.path / "index.json").unlink(missing_ok=True)
        return
    steps = [checkpoint.info.step for checkpoint in left]
    best = named.get("best")
    if best not in steps:
        best = best_step(left)
    run.write_index(best, max(steps))


@contextlib.contextmanager
def _without_trainer(run: RunFolder, what: str) -> Iterator[None]:
    """Keep trainers out of a run meanwhile."""
    if not run.path.is_dir():
        raise UserError(f"there is no run {run.name} any more; r reads the folder again")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(run.locked(patience_seconds=0.2))
        except UserError:
            raise UserError(
                f"run {run.name} is being trained and cannot be {what} now; stop its training first"
            ) from None
        if not _CAN_RENAME_WHAT_IS_OPEN:
            held.close()
        yield
