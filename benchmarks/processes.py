"""Train by one process with all threads, and by several under torchrun, in turn: tokens a second.

    python benchmarks/processes.py --config quick --config shakespeare --steps 30

Each process has its share of the cores. The median of a run's steps counts, its first few left out.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from shakespeare_tui.machine import usable_cores

_FIRST_STEPS = 5


def tokens_per_second(folder: Path, name: str, config: str, processes: int, steps: int) -> float:
    """The median over the steps of a run that is made for it."""
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command += ["shakespeare_tui", "train", "--no-ui", f"--config={config}", f"--name={name}"]
    command += [f"--max-steps={steps}", "--set=sampling.every=0", "--set=sampling.max_tokens=1"]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(max(1, usable_cores() // processes)),
        "SHAKESPEARE_TUI_RUNS": str(folder),
    }
    subprocess.run(command, env=environment, check=True, capture_output=True)
    lines = (folder / name / "events.jsonl").read_text(encoding="utf-8").splitlines()
    steps_made = [event for event in map(json.loads, lines) if event["type"] == "StepCompleted"]
    speeds: list[float] = [event["tokens_per_second"] for event in steps_made]
    return statistics.median(speeds[_FIRST_STEPS:])


def main() -> None:
    """Print a line for each config and number of processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", action="append", help="a preset; may be repeated")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    for config in arguments.config or ["quick"]:
        found: dict[int, list[float]] = {1: [], arguments.processes: []}
        with tempfile.TemporaryDirectory() as folder:
            for number in range(arguments.rounds):
                for processes, speeds in found.items():
                    name = f"run-{processes}-{number}"
                    speeds.append(
                        tokens_per_second(Path(folder), name, config, processes, arguments.steps)
                    )
        for processes, speeds in found.items():
            listed = ", ".join(f"{speed:,.0f}" for speed in speeds)
            print(f"{config}, {processes} processes: {statistics.median(speeds):,.0f} ({listed})")


if __name__ == "__main__":
    main()
