"""What the open lab costs a run: training speed with the Train screen open over the speed without.

The preset `quick` on all cores, on a pseudo-terminal and headless, in interleaved pairs. Keys are
measured by `shakespeare-tui bench screens`.

Run with: python benchmarks/lab_throughput.py [--pairs 5] [--steps 250]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from shakespeare_tui.bench.pseudo_terminal import PseudoTerminal
from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.events import StepCompleted

_WARM_UP_STEPS = 50
_COLUMNS, _ROWS = 140, 45


def main() -> int:
    """Measure; 0 where the lab keeps 0.97 of the speed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs")
    parser.add_argument("--steps", type=int, default=300, help="steps of each run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "SHAKESPEARE_TUI_CONFIG": f"{folder}/config",
            "SHAKESPEARE_TUI_RUNS": f"{folder}/runs",
        }
        is_good = measure_speed(
            environment, Path(folder) / "runs", arguments.pairs, arguments.steps
        )
    return 0 if is_good else 1


def train_command(name: str, steps: int, *, has_lab: bool) -> list[str]:
    """A run of the preset `quick` that does nothing but steps."""
    options = [f"--name={name}", f"--max-steps={steps}", "--config=quick"]
    options += ["--set=training.eval_every=1000000", "--set=sampling.every=0"]
    options += ["--set=checkpoints.save_every=1000000"]
    if not has_lab:
        options.append("--no-ui")
    return [sys.executable, "-m", "shakespeare_tui", "train", *options]


def measure_speed(environment: dict[str, str], runs: Path, pairs: int, steps: int) -> bool:
    """Train with and without the lab in turn; whether the lab keeps 0.97 of the speed."""
    ratios = []
    for index in range(pairs):
        speeds = {}
        # Who goes first alternates, so that warming up favours neither.
        for has_lab in (True, False) if index % 2 else (False, True):
            name = f"speed-{index}-{'lab' if has_lab else 'headless'}"
            command = train_command(name, steps, has_lab=has_lab)
            if has_lab:
                with PseudoTerminal(
                    command, environment=environment, columns=_COLUMNS, rows=_ROWS
                ) as terminal:
                    wait_for_end(runs / name)
                    terminal.send("q")
                    terminal.wait(60)
            else:
                subprocess.run(
                    command, env={**os.environ, **environment}, check=True, capture_output=True
                )
            speeds[has_lab] = steps_a_second(runs / name)
        ratios.append(speeds[True] / speeds[False])
        print(
            f"pair {index + 1}: with the lab {speeds[True]:6.1f} steps/s, "
            f"without {speeds[False]:6.1f}, ratio {ratios[-1]:.3f}"
        )
    median = statistics.median(ratios)
    print(f"median ratio {median:.3f} (0.970 or more wanted)")
    return median >= 0.97


def wait_for_end(run: Path) -> None:
    """Wait until a run's stream ends."""
    while True:
        time.sleep(0.5)
        path = run / "events.jsonl"
        if path.is_file() and '"RunFinished"' in path.read_text()[-400:]:
            return


def steps_a_second(run: Path, warm_up: int = _WARM_UP_STEPS) -> float:
    """The speed between the warm-up and the last step, by the run's own clock."""
    events = read_events(run / "events.jsonl")
    steps = [event for event in events if isinstance(event, StepCompleted)]
    first, last = steps[warm_up], steps[-1]
    return (last.step - first.step) / (last.time - first.time)


if __name__ == "__main__":
    sys.exit(main())
