"""The program itself as a process of its own: training without a terminal, and what it left."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.events import StepCompleted

PROGRAM = [sys.executable, "-m", "shakespeare_tui"]
_WAIT_SECONDS = 300.0


def nothing_but_steps(name: str, config: str = "quick") -> list[str]:
    """Arguments of a training that neither measures, writes nor saves, and does not end."""
    settings = (
        "training.eval_every=1000000",
        "training.minutes=60",
        "sampling.every=0",
        "checkpoints.save_every=1000000",
    )
    sets = [f"--set={setting}" for setting in settings]
    return ["train", f"--name={name}", f"--config={config}", "--corpus=sample", *sets]


def environment(folder: Path) -> dict[str, str]:
    """Variables with which runs and remembered choices lie below a folder."""
    return {
        "SHAKESPEARE_TUI_CONFIG": str(folder / "config"),
        "SHAKESPEARE_TUI_RUNS": str(folder / "runs"),
    }


@contextmanager
def running(
    arguments: Sequence[str], variables: dict[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """The program at work, until it is no longer wanted."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def steps_of(run: Path) -> list[StepCompleted]:
    """The steps that a run has made so far."""
    return [
        event for event in read_events(run / "events.jsonl") if isinstance(event, StepCompleted)
    ]


def wait_for_step(process: "subprocess.Popen[bytes]", run: Path, step: int) -> StepCompleted:
    """The step of a run that a process trains, as soon as it was made.

    Raises:
        UserError: The process ended before, or it took minutes.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for made in steps_of(run):
            if made.step >= step:
                return made
        time.sleep(0.05)
    raise UserError(f"a training that is to be measured made no {step} steps; try it by itself")
