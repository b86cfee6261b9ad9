"""The lab on a terminal: how soon it is there, and how soon it answers keys while it trains."""

import sys
import tempfile
import time
from collections.abc import Iterator

from shakespeare_tui.bench.figures import Contenders, Figures, Watcher
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
_PAINTS, _KEY_ROUNDS = 3, 8
_COLUMNS, _ROWS = 140, 45


def measure(watcher: Watcher) -> Iterator[Figures]:
    """On pseudo-terminals, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "SHAKESPEARE_TUI_CONFIG": f"{folder}/config",
            "SHAKESPEARE_TUI_RUNS": f"{folder}/runs",
        }
        yield _first_paint(watcher, environment)
        yield _keys(watcher, environment)


def _first_paint(watcher: Watcher, environment: dict[str, str]) -> Figures:
    minimal = "a minimal Textual application"

    def paint(command: list[str], wanted: str) -> float:
        with PseudoTerminal(command, environment=environment) as terminal:
            return 1000 * (terminal.wait_for(wanted, 60) - terminal.started)

    ways: Contenders = {
        minimal: lambda: paint([sys.executable, "-c", _MINIMAL], "first paint"),
        "the lab": lambda: paint([sys.executable, "-m", "shakespeare_tui"], "3 Train"),
    }
    title = "First paint"
    for way in ways.values():
        way()  # so that files are in memory
    samples = watcher.in_turn(title, ways, _PAINTS)
    return Figures(title, "ms", samples, (minimal,), is_rate=False)


def _keys(watcher: Watcher, environment: dict[str, str]) -> Figures:
    options = ["--name=keys", "--max-steps=1000000", "--config=quick"]
    options += ["--set=training.eval_every=1000000", "--set=sampling.every=0"]
    options += ["--set=checkpoints.save_every=1000000", "--corpus=sample"]
    command = [sys.executable, "-m", "shakespeare_tui", "train", *options]
    title = "From a key to its painted response while quick trains"
    taken: dict[str, list[float]] = {}
    with PseudoTerminal(command, environment=environment, columns=_COLUMNS, rows=_ROWS) as terminal:
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
