"""The system refuses an operation on files: one line, nothing lost, and the run goes on exactly.

All of them: ``python -m pytest -n 0 -m slow tests/faults``.
"""

import errno
import os
import shutil
from pathlib import Path

import pytest
from counted import FAULTS
from faulty_runs import RUN, assert_same, finish, operations, reference
from operations import watching
from real_cli import CommandLine

from shakespeare_tui.runs.folder import RunFolder

__all__ = ["operations", "reference"]

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EINVAL)


def refuse(
    code: int,
    number: int,
    is_lasting: bool,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: CommandLine,
    reference: RunFolder,
) -> None:
    """The run meets the error at operation ``number``, from 1, or from there on."""
    done = 0

    def act(name: str, paths: tuple[str, ...]) -> None:
        nonlocal done
        done += 1
        if done == number or (is_lasting and done > number):
            raise OSError(code, os.strerror(code), paths[0])

    for name in ("cache", "runs"):
        monkeypatch.setenv(f"SHAKESPEARE_TUI_{name.upper()}", str(root / name))
    root.mkdir()
    with watching(root, act):
        outcome = cli(*RUN, "--name=run")
    case = (errno.errorcode[code], number, is_lasting, outcome.err)
    assert outcome.code in (0, 1, 2), case
    assert "Traceback" not in outcome.err, case
    if outcome.code:
        assert outcome.err.splitlines()[-1].startswith(("failed: ", "error: ")), case
        finish(cli, root / "runs")
    assert_same(RunFolder(root / "runs" / "run"), reference)
    FAULTS[f"{'lasting' if is_lasting else 'single'} errors {errno.errorcode[code]}"] += 1
    shutil.rmtree(root)


@pytest.mark.parametrize("is_lasting", [False, True])
@pytest.mark.parametrize("code", ERRORS)
def test_a_refused_operation_costs_nothing_that_was_saved(
    code: int,
    is_lasting: bool,
    operations: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: CommandLine,
    reference: RunFolder,
) -> None:
    share = (ERRORS.index(code) + 4 * is_lasting + 0.5) / 8
    number = 1 + int(share * operations)
    refuse(code, number, is_lasting, tmp_path / "disk", monkeypatch, cli, reference)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("is_lasting", [False, True])
@pytest.mark.parametrize("code", ERRORS)
def test_any_refused_operation_costs_nothing_that_was_saved(
    code: int,
    is_lasting: bool,
    operations: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: CommandLine,
    reference: RunFolder,
) -> None:
    for number in range(1, operations + 1):
        refuse(code, number, is_lasting, tmp_path / "disk", monkeypatch, cli, reference)
