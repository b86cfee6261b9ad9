"""How long 10,000 checkpoints take to be listed, read for the first time and again.

python benchmarks/run_catalog.py --runs 100 --checkpoints 100
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))

from checkpoint_trees import add_run_with_losses

from shakespeare_tui.runs.catalog import RunCatalog


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Make a tree of runs, list it twice, and print the times as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--checkpoints", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(arguments.runs):
            losses = {100 * step: 1.5 + 1 / step for step in range(1, arguments.checkpoints + 1)}
            add_run_with_losses(root, f"run-{number}", losses, created=float(number))
        listing = RunCatalog(root)
        first, again = seconds(listing.entries), seconds(listing.entries)
        count = sum(len(run.checkpoints) for run in listing.entries())
    figures = {"checkpoints": count, "first_seconds": first, "again_seconds": again}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
