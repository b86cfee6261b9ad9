"""Processor time of the lab while nothing runs and nobody types, in every place.

Run with: python benchmarks/idle_cpu.py [--seconds 10]
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from shakespeare_tui.bench.pseudo_terminal import PseudoTerminal

SCREENS = {"1": "Data", "2": "Config", "3": "Train", "4": "Playground", "5": "Checkpoints"}
_SETTLE_SECONDS = 3.0
_MOST_SETTLE_SECONDS = 60.0


def cpu_seconds(process: int) -> float:
    """Processor time that a process has used so far, user and system, from /proc."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settle(process: int) -> None:
    """Wait until what a place begins when it is shown, torch and the probe, has come to an end."""
    deadline = time.perf_counter() + _MOST_SETTLE_SECONDS
    used = _SETTLE_SECONDS
    while used > 0.05 * _SETTLE_SECONDS and time.perf_counter() < deadline:
        before = cpu_seconds(process)
        time.sleep(_SETTLE_SECONDS)
        used = cpu_seconds(process) - before


def main() -> int:
    """Measure every place; 0 where each stays below one per cent of a core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    shares = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "SHAKESPEARE_TUI_CONFIG": f"{folder}/config",
            "SHAKESPEARE_TUI_RUNS": f"{folder}/runs",
        }
        command = [sys.executable, "-m", "shakespeare_tui"]
        with PseudoTerminal(command, environment=environment, columns=120, rows=40) as terminal:
            terminal.wait_for("3 Train", 60)
            for key, place in SCREENS.items():
                terminal.send(key)
                settle(terminal.process.pid)
                before, started = cpu_seconds(terminal.process.pid), time.perf_counter()
                time.sleep(seconds)
                used = cpu_seconds(terminal.process.pid) - before
                shares[place] = used / (time.perf_counter() - started)
                print(f"{place:12} {shares[place]:7.2%} of a core")
    print(f"most         {max(shares.values()):7.2%} (below 1.00% wanted)")
    return 0 if max(shares.values()) < 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
