"""Time to the first paint on a pseudo-terminal: the lab against a minimal Textual application.

Run with: python benchmarks/first_paint.py [--pairs 7]
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from pseudo_terminal import PseudoTerminal

MINIMAL = """
from textual.app import App
from textual.widgets import Label

class Minimal(App):
    def compose(self):
        yield Label("first paint")

Minimal().run()
"""


def seconds_to_paint(command: list[str], wanted: str, folder: str) -> float:
    """Seconds from starting a process until ``wanted`` is on its terminal."""
    environment = {
        "SHAKESPEARE_TUI_CONFIG": f"{folder}/config",
        "SHAKESPEARE_TUI_CACHE": f"{folder}/cache",
        "SHAKESPEARE_TUI_RUNS": f"{folder}/runs",
    }
    with PseudoTerminal(command, environment=environment) as terminal:
        return terminal.wait_for(wanted, 60) - terminal.started


def main() -> int:
    """Measure pairs in turn; 0 where the ratio of the medians is below two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    lab = [sys.executable, "-m", "shakespeare_tui"]
    minimal = [sys.executable, "-c", MINIMAL]
    times: dict[str, list[float]] = {"minimal": [], "lab": []}
    with tempfile.TemporaryDirectory() as folder:
        # The first pair warms the disk cache and the compiled modules.
        for index in range(arguments.pairs + 1):
            pair = {
                "minimal": seconds_to_paint(minimal, "first paint", folder),
                "lab": seconds_to_paint(lab, "3 Train", folder),
            }
            if index:
                for name, taken in pair.items():
                    times[name].append(taken)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    ratio = medians["lab"] / medians["minimal"]
    for name, seconds in times.items():
        print(
            f"{name:8} median {medians[name] * 1000:5.0f} ms   best {min(seconds) * 1000:5.0f} ms"
        )
    print(f"ratio    {ratio:.2f} (below 2.00 wanted)")
    return 0 if ratio < 2 else 1


if __name__ == "__main__":
    sys.exit(main())
