"""Training beside other programs: steps of `quick` a second, with and without short waits.

Threads of GNU OpenMP that wait for one another keep their core for milliseconds by default. The
program has them sleep sooner. This trains both ways in turn, alone and beside processes that
compute without end:

    python benchmarks/busy_machine.py --rounds 3 --others 0 1 3
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from lab_throughput import steps_a_second, train_command

WAITS = {"libgomp's own": "300000", "ours": "5000"}
"""GOMP_SPINCOUNT: how often a thread looks whether the others are there before it sleeps."""


def train(folder: Path, name: str, steps: int, spin_count: str) -> float:
    """Train without the lab; steps a second."""
    runs = folder / "runs"
    environment = os.environ | {
        "SHAKESPEARE_TUI_RUNS": str(runs),
        "SHAKESPEARE_TUI_CONFIG": str(folder / "config"),
        "GOMP_SPINCOUNT": spin_count,
    }
    command = train_command(name, steps, has_lab=False)
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return steps_a_second(runs / name, warm_up=2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--others", type=int, nargs="+", default=[0, 1, 3])
    arguments = parser.parse_args()
    for others in arguments.others:
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
        speeds: dict[str, list[float]] = {name: [] for name in WAITS}
        with tempfile.TemporaryDirectory() as folder:
            for index in range(arguments.rounds):
                for number, (name, count) in enumerate(WAITS.items()):
                    run = f"round-{index}-{number}"
                    speeds[name].append(train(Path(folder), run, arguments.steps, count))
        for process in busy:
            process.kill()
        for name, found in speeds.items():
            print(
                f"beside {others} busy processes, waits {name:14} "
                f"{statistics.median(found):6.2f} steps/s ({min(found):.2f} to {max(found):.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
