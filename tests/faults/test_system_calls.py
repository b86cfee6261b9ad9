"""``kill -9`` at system calls, those of libraries in other languages too, with ``strace``.

All of them: ``python -m pytest -n 0 -m slow tests/faults``.
"""

import itertools
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from counted import FAULTS
from faulty_runs import RUN, assert_same, finish, reference
from real_cli import CliProcess, CommandLine

from shakespeare_tui.runs.folder import RunFolder

__all__ = ["reference"]

pytestmark = pytest.mark.usefixtures("own_processes")

CALLS = (
    *("write", "pwrite64", "ftruncate", "fsync", "rename", "renameat", "mkdir", "chmod", "fchmod"),
    *("unlink", "unlinkat", "rmdir", "flock", "symlink", "link"),
)
"""Those that change files; a kill at any other leaves what a kill at the next of these does."""


def wait_for_tracer() -> None:
    while not re.search(r"TracerPid:\t[1-9]", Path("/proc/self/status").read_text()):
        time.sleep(0.001)


@pytest.fixture
def is_traceable() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (apt install strace)")
    probe = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"strace may not trace here: {probe.stderr.strip()}")


def traced(folder: Path, *options: str) -> tuple[int, str]:
    """The run under ``strace``, from the moment at which everything is imported.

    Returns:
        How it ended, and the trace.
    """
    process = CliProcess([*RUN, "--name=run"], folder / "output", prepare=wait_for_tracer)
    trace = folder / "trace"
    command = ["strace", "-f", "-qq", "-o", str(trace), *options, "-p", str(process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        outcome = process.wait(120)
        tracer.wait(30)
    return outcome.code, trace.read_text(errors="replace")


def fresh_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("cache", "runs"):
        monkeypatch.setenv(f"SHAKESPEARE_TUI_{name.upper()}", str(folder / name))
    return folder / "runs"


def kills_at(
    call: str,
    numbers: Iterable[int],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: CommandLine,
    reference: RunFolder,
) -> int:
    """Kill at the given calls, one run each, until there is no such call; how many were killed."""
    for kills, number in enumerate(numbers):
        here = folder / f"{call}-{number}"
        runs_root = fresh_folders(here, monkeypatch)
        inject = f"inject={call}:signal=KILL:when={number}"
        code, _ = traced(here, "-e", f"trace={call}", "-e", inject)
        if code == 0:
            return kills
        assert code == -signal.SIGKILL, (call, number, code)
        finish(cli, runs_root)
        assert_same(RunFolder(runs_root / "run"), reference)
        FAULTS[f"kills at a system call {call}"] += 1
        shutil.rmtree(here)
    return kills + 1


@pytest.mark.parametrize(("call", "number"), [("write", 9), ("renameat", 3), ("fsync", 20)])
def test_killed_at_a_system_call_a_run_goes_on_exactly(
    call: str,
    number: int,
    is_traceable: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: CommandLine,
    reference: RunFolder,
) -> None:
    assert kills_at(call, [number], tmp_path, monkeypatch, cli, reference) == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("call", CALLS)
def test_killed_at_every_system_call_a_run_goes_on_exactly(
    call: str,
    is_traceable: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: CommandLine,
    reference: RunFolder,
) -> None:
    kills_at(call, itertools.count(1), tmp_path, monkeypatch, cli, reference)
