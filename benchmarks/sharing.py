"""Text beside a training: what is left of the speed of each where both go on in one process.

The lab's own trainer and writer, without the screens: `quick` trains while a checkpoint of it
writes, alone and together in turn. Run it on an otherwise idle machine:

    python benchmarks/sharing.py --columns 1 3 --rounds 3
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from shakespeare_tui.cli.main import let_threads_sleep_soon
from shakespeare_tui.config.load import load_config
from shakespeare_tui.runs.commands import Stop
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.engine.training import TrainingController
from shakespeare_tui.ui.services import Engine

STRATEGIES = ("temperature=0.8", "temperature=0.8 top_k=20", "greedy", "top_p=0.9", "min_p=0.1")
_FIRST_STEPS, _FIRST_TOKENS = 10, 50
_MOST_TOKENS = 1_000_000


def steps_done(training: TrainingController) -> int:
    """The last step of the run."""
    training.drain()
    return training.history.last_step


def start_training(root: Path, name: str) -> TrainingController:
    """A run of `quick` that does nothing but steps, when it is under way."""
    training = TrainingController()
    changes = ["sampling.every=0", "training.eval_every=1000000", "training.minutes=60"]
    training.start(TrainingRequest(root=root, config=load_config("quick", changes), name=name))
    while steps_done(training) < _FIRST_STEPS:
        if not training.is_active:
            raise SystemExit(training.message)
        time.sleep(0.05)
    return training


def stop_training(training: TrainingController) -> None:
    """Save and stop."""
    training.post(Stop())
    training.join(60)
    training.drain()


def start_writing(root: Path, columns: int) -> GenerationJob:
    """A text under way."""
    request = GenerationRequest(
        runs_root=root,
        reference="writer@last",
        prompt="ROMEO:",
        strategies=STRATEGIES[:columns],
        max_tokens=_MOST_TOKENS,
    )
    job = GenerationJob(request, Engine().write)
    while sum(job.characters) < _FIRST_TOKENS:
        time.sleep(0.01)
    return job


def speeds(
    training: TrainingController | None, job: GenerationJob | None, seconds: float
) -> tuple[float, float]:
    """Steps and tokens a second over so many seconds."""
    first_step = steps_done(training) if training else 0
    first_token = sum(job.characters) if job else 0
    began = time.perf_counter()
    time.sleep(seconds)
    steps = steps_done(training) - first_step if training else 0
    tokens = sum(job.characters) - first_token if job else 0
    took = time.perf_counter() - began
    return steps / took, tokens / took


def measure(root: Path, columns: int, rounds: int, seconds: float) -> None:
    """Measure each alone and both together, in turn, and print medians."""
    alone: list[tuple[float, float]] = []
    together: list[tuple[float, float]] = []
    for index in range(rounds):
        job = start_writing(root, columns)
        _, tokens = speeds(None, job, seconds)
        job.stop()
        job.join(60)
        training = start_training(root, f"run-{columns}-{index}")
        steps, _ = speeds(training, None, seconds)
        alone.append((steps, tokens))
        job = start_writing(root, columns)
        together.append(speeds(training, job, seconds))
        job.stop()
        job.join(60)
        stop_training(training)
    print(f"{columns} columns")
    for place, what in enumerate(("steps/s", "tokens/s")):
        shares = [b[place] / a[place] for a, b in zip(alone, together, strict=True)]
        print(
            f"  {what:9} alone {statistics.median(a[place] for a in alone):8,.1f}   together "
            f"{statistics.median(b[place] for b in together):8,.1f}   share "
            f"{statistics.median(shares):.0%} ({min(shares):.0%} to {max(shares):.0%})",
            flush=True,
        )


def main() -> None:
    """Train a writer, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    let_threads_sleep_soon()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        stop_training(start_training(root, "writer"))
        for columns in arguments.columns:
            measure(root, columns, arguments.rounds, arguments.seconds)


if __name__ == "__main__":
    main()
