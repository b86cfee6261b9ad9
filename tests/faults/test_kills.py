"""``kill -9`` before any operation on files: the run goes on as if it never had been."""

import functools
import signal
from pathlib import Path

import pytest
from counted import FAULTS
from faulty_runs import RUN, assert_same, finish, operations, reference
from operations import die_at
from real_cli import CliProcess, CommandLine

from shakespeare_tui.runs.folder import RunFolder

__all__ = ["operations", "reference"]

pytestmark = [
    pytest.mark.usefixtures("own_processes"),
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc"),
]


def kill_and_finish(
    number: int, folder: Path, runs_root: Path, cli: CommandLine, reference: RunFolder
) -> None:
    process = CliProcess(
        [*RUN, "--name=run"],
        folder / "output",
        prepare=functools.partial(die_at, folder, number),
    )
    outcome = process.wait()
    assert outcome.code == -signal.SIGKILL, (number, outcome)
    finish(cli, runs_root)
    FAULTS["kills at an operation on files"] += 1
    assert_same(RunFolder(runs_root / "run"), reference)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.45, 0.6, 0.97])
def test_killed_anywhere_a_run_goes_on_exactly(
    share: float,
    operations: int,
    tmp_path: Path,
    runs_root: Path,
    cli: CommandLine,
    reference: RunFolder,
) -> None:
    kill_and_finish(1 + int(share * operations), tmp_path, runs_root, cli, reference)
