"""Compare presets by what they reach in the same time on this machine, one after the other.

Trains `nanogpt-cpu` for its 2,000 steps, then `quick` for as many seconds as that took (or for
--seconds), and prints exact validation losses. Run it on an otherwise idle machine:

    python benchmarks/quick.py --repeats 3
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

import torch


def train(config: str, folder: str, *arguments: str) -> dict[str, float]:
    """Train a preset in a folder of its own; returns the command's JSON."""
    command = [sys.executable, "-m", "shakespeare_tui", "train", "--no-ui", "--json"]
    result = subprocess.run(
        [*command, "--config", config, *arguments],
        env={**os.environ, "SHAKESPEARE_TUI_RUNS": folder},
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def main() -> None:
    """Run the comparison and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="for quick; default: what nanogpt-cpu took")
    parser.add_argument("--only-quick", action="store_true")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, Python {platform.python_version()}")
    losses: dict[str, list[float]] = {"nanogpt-cpu": [], "quick": []}
    for repeat in range(arguments.repeats):
        seed = f"training.seed={1337 + repeat}"
        seconds = arguments.seconds or 100.0
        with tempfile.TemporaryDirectory() as folder:
            for config in ("quick",) if arguments.only_quick else ("nanogpt-cpu", "quick"):
                length = ("--minutes", f"{seconds / 60:.4f}") if config == "quick" else ()
                figures = train(config, folder, "--set", seed, *length)
                if config == "nanogpt-cpu" and arguments.seconds is None:
                    seconds = figures["elapsed_seconds"]
                losses[config].append(figures["val_loss"])
                print(
                    f"{config:<12} seed {1337 + repeat}: exact validation loss "
                    f"{figures['val_loss']:.4f}, {figures['step']:,} steps, "
                    f"{figures['elapsed_seconds']:.1f} s",
                    flush=True,
                )
    for config, values in losses.items():
        if values:
            spread = f"{min(values):.4f} to {max(values):.4f}"
            print(f"{config:<12} median {statistics.median(values):.4f} ({spread})")


if __name__ == "__main__":
    main()
