"""Seconds until ``--help`` is there, the best of several, by the clock and by the processor.

Run with: python benchmarks/help.py [--times 9]
"""

import argparse
import resource
import subprocess
import sys
import time

COMMANDS: tuple[list[str], ...] = ([], ["train"], ["generate"], ["compare"], ["data"], ["runs"])


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock, and seconds of the processor, of one call."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    program = [sys.executable, "-m", "shakespeare_tui", *command, "--help"]
    subprocess.run(program, check=True, capture_output=True)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Print a line a command; 1 where one takes more than 0.3 seconds of the processor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=9)
    arguments = parser.parse_args()
    slowest = 0.0
    for command in COMMANDS:
        measured = [measure(command) for _ in range(arguments.times)]
        clock, processor = (min(seconds) for seconds in zip(*measured, strict=True))
        slowest = max(slowest, processor)
        print(f"{' '.join([*command, '--help']):<16} {clock:.3f} s, processor {processor:.3f} s")
    return int(slowest > 0.3)


if __name__ == "__main__":
    sys.exit(main())
