"""The lab while it trains at full load: how fast keys are answered, and what the screen costs.

Two measurements on a pseudo-terminal, with the preset `quick` on all cores: seconds from a key to
its painted response, and the training speed with the Train screen open over the speed without the
lab, in interleaved pairs.

Run with: python benchmarks/ui_under_training.py [--keys 100] [--pairs 5] [--steps 250]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from pseudo_terminal import PseudoTerminal

from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.events import StepCompleted

# Keys whose response has words that nothing else draws: the places, and help.
RESPONSES = (
    ("1", "Corpora"),
    ("2", "d_model"),
    ("4", "Strategy"),
    ("5", "Perpl."),
    ("3", "tokens/s"),
    ("?", "esc closes"),
    ("\x1b", "tokens/s"),
)
_WARM_UP_STEPS = 50
_COLUMNS, _ROWS = 140, 45


def main() -> int:
    """Measure both; 0 where both are as wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=140, help="keys to press")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs; 0: keys only")
    parser.add_argument("--steps", type=int, default=300, help="steps of each run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "SHAKESPEARE_TUI_CONFIG": f"{folder}/config",
            "SHAKESPEARE_TUI_RUNS": f"{folder}/runs",
        }
        is_good = measure_keys(environment, arguments.keys)
        if arguments.pairs:
            runs = Path(folder) / "runs"
            is_good &= measure_speed(environment, runs, arguments.pairs, arguments.steps)
    return 0 if is_good else 1


def train_command(name: str, steps: int, *, has_lab: bool) -> list[str]:
    """A run of the preset `quick` that does nothing but steps."""
    options = [f"--name={name}", f"--max-steps={steps}", "--config=quick"]
    options += ["--set=training.eval_every=1000000", "--set=sampling.every=0"]
    options += ["--set=checkpoints.save_every=1000000"]
    if not has_lab:
        options.append("--no-ui")
    return [sys.executable, "-m", "shakespeare_tui", "train", *options]


def measure_keys(environment: dict[str, str], keys: int) -> bool:
    """Press keys while a run goes on; whether the 95th percentile is below 100 ms."""
    command = train_command("keys", 1_000_000, has_lab=True)
    seconds: dict[str, list[float]] = {}
    with PseudoTerminal(command, environment=environment, columns=_COLUMNS, rows=_ROWS) as terminal:
        terminal.wait_for(r"step [1-9]", 120)
        for index in range(keys + len(RESPONSES)):
            key, response = RESPONSES[index % len(RESPONSES)]
            taken = terminal.press(key, response, 60)
            # The first round builds the places.
            if index >= len(RESPONSES):
                seconds.setdefault(repr(key), []).append(taken)
            time.sleep(0.15)
    for key, times in seconds.items():
        print(
            f"key {key:7} median {statistics.median(times) * 1000:4.0f} ms   "
            f"most {max(times) * 1000:4.0f} ms"
        )
    every = [taken for times in seconds.values() for taken in times]
    p95 = statistics.quantiles(every, n=20)[-1]
    print(
        f"all keys    median {statistics.median(every) * 1000:4.0f} ms   "
        f"95th percentile {p95 * 1000:4.0f} ms (below 100 wanted)"
    )
    return p95 < 0.1


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
