"""The lab on a terminal: how soon it is there, and how soon it answers keys while it trains."""

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from shakespeare_tui.bench.figures import Contenders, Figures, Watcher
from shakespeare_tui.bench.program import PROGRAM, environment, nothing_but_steps
from shakespeare_tui.bench.pseudo_terminal import PseudoTerminal
from shakespeare_tui.errors import check_cancelled

_MINIMAL = """
from textual.app import App
from textual.widgets import Label

class Minimal(App):
    def compose(self):
        yield Label("first paint")

Minimal().run()
"""
# Keys whose response has words that nothing else draws: the places, and help.
_RESPONSES = {
    "1": "Corpora",
    "2": "d_model",
    "4": "Strategy",
    "5": "Perpl.",
    "3": "tokens/s",
    "?": "esc closes",
    "\x1b": "tokens/s",
}
_NAMES = {"?": "help", "\x1b": "escape"}
_PLACES = {"1": "Data", "2": "Config", "3": "Train", "4": "Playground", "5": "Checkpoints"}
_PAINTS, _KEY_ROUNDS, _WRITING_ROUNDS = 3, 8, 3
_REST_ROUNDS, _REST_SECONDS = 3, 5.0
_SETTLE_SECONDS, _MOST_SETTLE_SECONDS = 3.0, 60.0
_COLUMNS, _ROWS = 140, 45


def measure(watcher: Watcher) -> Iterator[Figures]:
    """On pseudo-terminals, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        variables = environment(Path(folder))
        yield _first_paint(watcher, variables)
        yield _keys(watcher, variables)


def measure_rest(watcher: Watcher) -> Iterator[Figures]:
    """What each place takes of a core while nothing runs and nobody types (Linux)."""
    title = "The lab at rest"
    taken: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        PseudoTerminal(
            PROGRAM, environment=environment(Path(folder)), columns=_COLUMNS, rows=_ROWS
        ) as terminal,
    ):
        terminal.wait_for("3 Train", 60)
        for key, place in _PLACES.items():
            watcher.tell(f"{title}: {place}")
            terminal.send(key)
            _settle(terminal.process.pid)
            for _ in range(_REST_ROUNDS):
                check_cancelled(watcher.cancelled, "the benchmark")
                used = _processor_seconds(terminal.process.pid, _REST_SECONDS)
                taken.setdefault(place, []).append(100 * used / _REST_SECONDS)
    samples = {name: tuple(shares) for name, shares in taken.items()}
    yield Figures(title, "% of a core", samples, is_rate=False)


def measure_writing(watcher: Watcher) -> Iterator[Figures]:
    """A long text that scrolls by in the Playground: in one column, then in six at once."""
    with tempfile.TemporaryDirectory() as folder:
        variables = environment(Path(folder))
        command = [*nothing_but_steps("writer"), "--no-ui", "--max-steps=2"]
        subprocess.run(
            [*PROGRAM, *command], env=os.environ | variables, check=True, capture_output=True
        )
        # Keys that leave so many columns, and how long the text in each becomes.
        ways = {
            "one column": functools.partial(_text_in_lab, variables, "dd", 100_000, 1),
            "six columns": functools.partial(_text_in_lab, variables, "k", 20_000, 6),
        }
        title = "Texts in the Playground"
        samples = watcher.in_turn(title, ways, _WRITING_ROUNDS)
        yield Figures(title, "tokens/s in all", samples)


def _text_in_lab(variables: dict[str, str], keys: str, tokens: int, columns: int) -> float:
    # Nothing is remembered from round to round: the keys start from the columns of a first visit.
    with (
        tempfile.TemporaryDirectory() as fresh,
        PseudoTerminal(
            PROGRAM,
            environment=variables | {"SHAKESPEARE_TUI_CONFIG": fresh},
            columns=_COLUMNS,
            rows=_ROWS,
        ) as terminal,
    ):
        terminal.wait_for("3 Train", 60)
        terminal.press("4", "Strategy", 60)
        for key in keys:
            terminal.send(key)
            terminal.pause(0.5)
        # A short one first: the checkpoint is loaded then, and what writes it.
        for count in (100, tokens):
            terminal.press("l", "enter accepts", 60)
            terminal.send(f"\x15{count}\r")
            terminal.pause(0.5)
            seconds = terminal.press("g", rf"{count:,} · [\d,]+/s", 120)
            terminal.pause(1)
    return columns * tokens / seconds


def _settle(process: int) -> None:
    """Wait until what a place begins when it is shown, torch and the probe, has come to an end."""
    deadline = time.monotonic() + _MOST_SETTLE_SECONDS
    while time.monotonic() < deadline:
        if _processor_seconds(process, _SETTLE_SECONDS) < 0.05 * _SETTLE_SECONDS:
            return


def _processor_seconds(process: int, seconds: float) -> float:
    """User and system time that a process uses in so many seconds from now on, from /proc."""

    def used() -> float:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = used()
    time.sleep(seconds)
    return used() - before


def _first_paint(watcher: Watcher, variables: dict[str, str]) -> Figures:
    minimal = "a minimal Textual application"

    def paint(command: list[str], wanted: str) -> float:
        with PseudoTerminal(command, environment=variables) as terminal:
            return 1000 * (terminal.wait_for(wanted, 60) - terminal.started)

    ways: Contenders = {
        minimal: lambda: paint([sys.executable, "-c", _MINIMAL], "first paint"),
        "the lab": lambda: paint(PROGRAM, "3 Train"),
        "--help": lambda: paint([*PROGRAM, "--help"], "exit"),
    }
    title = "First paint"
    for way in ways.values():
        way()  # so that files are in memory
    samples = watcher.in_turn(title, ways, _PAINTS)
    return Figures(title, "ms", samples, (minimal,), is_rate=False)


def _keys(watcher: Watcher, variables: dict[str, str]) -> Figures:
    command = [*PROGRAM, *nothing_but_steps("keys")]
    title = "From a key to its painted response while quick trains"
    taken: dict[str, list[float]] = {}
    with PseudoTerminal(command, environment=variables, columns=_COLUMNS, rows=_ROWS) as terminal:
        watcher.tell(f"{title}: starting")
        terminal.wait_for(r"step [1-9]", 120)
        # The first round builds the places.
        for number in range(_KEY_ROUNDS + 1):
            watcher.tell(f"{title}: round {number} of {_KEY_ROUNDS}")
            for key, response in _RESPONSES.items():
                check_cancelled(watcher.cancelled, "the benchmark")
                seconds = terminal.press(key, response, 60)
                if number:
                    taken.setdefault(_NAMES.get(key, key), []).append(1000 * seconds)
                time.sleep(0.15)
    samples = {name: tuple(times) for name, times in taken.items()}
    samples["all"] = tuple(time for times in taken.values() for time in times)
    return Figures(title, "ms", samples, is_rate=False)
