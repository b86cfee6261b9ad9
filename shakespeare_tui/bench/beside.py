"""Training beside other work: busy programs, the lab's own screen, and a text in the same process.

Steps are those of the run's log, by its clock. All of it is the program as people start it.
"""

import functools
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from shakespeare_tui.bench.figures import Contenders, Figures, Watcher
from shakespeare_tui.bench.program import (
    PROGRAM,
    environment,
    nothing_but_steps,
    running,
    steps_of,
    wait_for_step,
)
from shakespeare_tui.bench.pseudo_terminal import PseudoTerminal

_ROUNDS, _SECONDS = 5, 4.0
_FIRST_STEPS = 20
_COLUMNS, _ROWS = 140, 45
ALONE = "alone"


def measure(watcher: Watcher, configs: Sequence[str] = ("quick",)) -> Iterator[Figures]:
    """Steps a second alone, beside one and three busy programs, in the lab, and beside a text."""
    for config in configs:
        with tempfile.TemporaryDirectory() as folder:
            names = (f"run-{number}" for number in itertools.count())
            run = (Path(folder), names, config)
            ways: Contenders = {
                ALONE: functools.partial(_headless, *run, 0),
                "beside one busy program": functools.partial(_headless, *run, 1),
                "beside three": functools.partial(_headless, *run, 3),
                "with the lab open": functools.partial(_in_lab, *run),
                "with a text in the lab": functools.partial(_in_lab, *run, has_text=True),
            }
            title = f"Training {config}"
            samples = watcher.in_turn(title, ways, _ROUNDS)
            yield Figures(title, "steps/s", samples, (ALONE,))


def _headless(folder: Path, names: Iterator[str], config: str, others: int) -> float:
    name = next(names)
    arguments = [*nothing_but_steps(name, config), "--no-ui"]
    with ExitStack() as stack:
        process = stack.enter_context(running(arguments, environment(folder)))
        wait_for_step(process, folder / "runs" / name, _FIRST_STEPS)
        for _ in range(others):
            busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        return _steps_a_second(folder / "runs" / name)


def _in_lab(folder: Path, names: Iterator[str], config: str, *, has_text: bool = False) -> float:
    name = next(names)
    with PseudoTerminal(
        [*PROGRAM, *nothing_but_steps(name, config)],
        environment=environment(folder),
        columns=_COLUMNS,
        rows=_ROWS,
    ) as terminal:
        run = folder / "runs" / name
        wait_for_step(terminal.process, run, _FIRST_STEPS)
        if has_text:
            _write_text(terminal)
        return _steps_a_second(run)


def _write_text(terminal: PseudoTerminal) -> None:
    """A text of what the run has learned so far, which takes longer than is measured."""
    terminal.press("c", "saved", 60)
    terminal.press("4", "Strategy", 60)
    terminal.press("l", "enter accepts", 60)
    terminal.send("\x151000000\r")
    terminal.pause(1)
    terminal.press("g", r"[\d,]+/s", 120)


def _steps_a_second(run: Path) -> float:
    """Over some seconds from now on, whole steps only."""
    before = steps_of(run)[-1]
    deadline = time.monotonic() + _SECONDS
    while True:
        time.sleep(0.1)
        last = steps_of(run)[-1]
        if time.monotonic() >= deadline and last.step > before.step:
            return (last.step - before.step) / (last.time - before.time)
