"""The speedrun of Tiny Shakespeare: the shortest time in which two cores reach a validation loss.

Each row is a recipe with the steps in which it claims to reach a target; the claim holds where the
median of the seeds' exact losses is at most the target. The rows of one target stand in the order
in which the ideas were added. Losses repeat on every machine, up to rounding; the seconds, those of
training, depend on it. Run it on an otherwise idle one:

    python benchmarks/speedrun.py --target 1.90
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Claim:
    """A recipe and its time.

    Attributes:
        target: Exact validation loss, nats per character.
        idea: What this row adds to the one above it.
        config: The preset.
        steps: How many it takes.
        sets: Settings on top.
    """

    target: float
    idea: str
    config: str
    steps: int
    sets: tuple[str, ...] = ()


CONVOLUTION = ("model.short_convolution=4",)
NGRAMS = (
    *CONVOLUTION,
    "model.ngram_embedding=3",
    "training.learning_rate=0.02",
    "training.warmup_steps=5",
)
CLAIMS = (
    Claim(1.90, "nanoGPT's recipe for CPUs", "nanogpt-cpu", 2000),
    Claim(1.90, "`quick`", "quick", 210),
    Claim(1.90, "short convolutions", "quick", 105, CONVOLUTION),
    Claim(1.90, "embeddings of n-grams at 2e-2", "quick", 48, NGRAMS),
    Claim(1.90, "32 windows of 64 (`sprint`)", "sprint", 42),
    Claim(1.60, "`quick`", "quick", 700),
    Claim(1.60, "short convolutions", "quick", 440, CONVOLUTION),
    Claim(1.60, "embeddings of n-grams at 2e-2", "quick", 230, NGRAMS),
    Claim(1.60, "short convolutions, NorMuon (`lap`)", "lap", 340),
    Claim(1.50, "short convolutions, NorMuon (`lap`)", "lap", 900),
    Claim(1.50, "embeddings of n-grams at 1e-2 (`dash`)", "dash", 600),
    Claim(1.47, "short convolutions, NorMuon (`lap`)", "lap", 1350),
)


def train(claim: Claim, seed: int) -> tuple[float, float]:
    """Train once; the exact loss and the seconds."""
    settings = [
        *(f"training.seed={seed}", "sampling.every=0", "training.eval_every=1000000"),
        *claim.sets,
    ]
    command = [sys.executable, "-m", "shakespeare_tui", "train", "--no-ui", "--json"]
    command += ["--config", claim.config, "--max-steps", str(claim.steps)]
    command += [part for setting in settings for part in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "SHAKESPEARE_TUI_RUNS": folder}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found["val_loss"], found["elapsed_seconds"]


def rows(claims: list[Claim], seeds: int) -> Iterator[str]:
    """The table, a line as soon as it is known."""
    yield "| target | idea | steps | seconds | exact loss: median (all) | holds |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for claim in claims:
        found = [train(claim, 1337 + number) for number in range(seeds)]
        losses = sorted(loss for loss, _ in found)
        seconds = statistics.median(taken for _, taken in found)
        median = statistics.median(losses)
        every = ", ".join(f"{loss:.4f}" for loss in losses)
        holds = "yes" if median <= claim.target else "no"
        yield (
            f"| {claim.target:.2f} | {claim.idea} | {claim.steps:,} | {seconds:.1f} | "
            f"{median:.4f} ({every}) | {holds} |"
        )


def main() -> None:
    """Run the claims and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=float, help="only the rows of this loss")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, ", end="")
    print(f"{torch.get_num_threads()} threads, Python {platform.python_version()}\n")
    chosen = [c for c in CLAIMS if arguments.target in (None, c.target)]
    for line in rows(chosen, arguments.seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
