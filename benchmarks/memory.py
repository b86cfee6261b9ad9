"""The most memory that a training takes, measured in a process of its own, beside the estimate.

What the program, the corpus and its tokens take is measured by a model of width 8, and taken off:

    python benchmarks/memory.py --config quick --steps 5
    python benchmarks/memory.py --from runs/smollm2-135m --steps 2 --set training.lora_rank=8
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from shakespeare_tui.config.estimate.figures import estimate_memory, measure_corpus
from shakespeare_tui.config.load import load_config
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.paths import runs_folder
from shakespeare_tui.runs.folder import find_checkpoint

TINY = [
    word
    for setting in (
        "model.d_model=8",
        "model.d_ff=8",
        "model.n_heads=1",
        "model.n_kv_heads=1",
        "model.n_layers=1",
        "model.max_seq_len=8",
        "data.seq_len=8",
        "data.tokenizer=char",
        "data.corpus=tiny_shakespeare",
        "training.batch_size=1",
        "training.max_steps=1",
        "training.minutes=",
    )
    for word in ("--set", setting)
]


def peak(arguments: list[str], folder: Path) -> int:
    """The most resident bytes of a Python process."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | {"SHAKESPEARE_TUI_RUNS": str(folder)},
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Measure one training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="quick")
    parser.add_argument("--from", dest="start", help="a run to start from, with its config")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], help="SECTION.FIELD=VALUE")
    arguments = parser.parse_args()
    overrides = [f"training.max_steps={arguments.steps}", "training.minutes=", *arguments.set]
    config, vocab_size = arguments.config, 0
    if arguments.start:
        run = find_checkpoint(arguments.start, runs_folder()).run
        config, vocab_size = str(run.path / "config.yaml"), run.tokenizer().vocab_size
        overrides.append("data.corpus=tiny_shakespeare")
    loaded = load_config(config, overrides)
    if not vocab_size:
        corpus = measure_corpus(loaded.data.corpus, settings=loaded.tokens)
        vocab_size = corpus.vocab_size
    train = ["-m", "shakespeare_tui", "train", "--no-ui", "--config", config]
    sets = [word for override in overrides for word in ("--set", override)]
    start = ["--from", str(run.path)] if arguments.start else []
    with tempfile.TemporaryDirectory() as folder:
        before = peak([*train, *TINY], Path(folder))
        taken = peak([*train, *start, *sets], Path(folder)) - before
    for precision in ("float32", "bfloat16"):
        estimate = estimate_memory(loaded, vocab_size, is_half=precision == "bfloat16")
        print(
            f"{precision}: measured {format_bytes(taken)} beside {format_bytes(before)} of the "
            f"program, estimated {format_bytes(estimate.total)} ({estimate.parts()}): "
            f"{estimate.total / taken - 1:+.0%}"
        )


if __name__ == "__main__":
    main()
