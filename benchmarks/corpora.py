"""Train on a large generated corpus: the time to the first step, and memory at its peak.

    python benchmarks/corpora.py --gigabytes 1 --windows streamed
    python benchmarks/corpora.py --gigabytes 1 --windows random

The file holds stories of made-up words, one after the other; it is made in a temporary folder, as
is the cache, unless ``--folder`` keeps both: a second run with the same folder then shows what it
costs when everything has been encoded. Memory is that of the process in a tiny run, PyTorch's own
among it. Pages of the memory-mapped file count as resident, but are the system's to take back.
Beside other work the seconds of computing tell more than those of the clock.
"""

import argparse
import os
import random
import resource
import tempfile
import threading
import time
from pathlib import Path

_STORY_WORDS = 200
_BLOCK_STORIES = 4000


def write_corpus(path: Path, size_bytes: int) -> None:
    """Write stories up to a size; a block of them is made and repeated with numbers of its own."""
    generator = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(generator.choices(letters, k=generator.randint(2, 9))) for _ in range(8000)]
    stories = [" ".join(generator.choices(words, k=_STORY_WORDS)) for _ in range(_BLOCK_STORIES)]
    with path.open("w") as file:
        while file.tell() < size_bytes:
            number = file.tell()
            for story in stories:
                file.write(f"Story {number}: {story}.\n<|endoftext|>\n")


class PeakMemory(threading.Thread):
    """Watches this process's own memory; pages of memory-mapped files are the system's (Linux)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own_megabytes = 0.0

    def run(self) -> None:
        """Look twenty times a second."""
        while True:
            status = Path("/proc/self/status").read_text()
            own = next(line for line in status.splitlines() if line.startswith("RssAnon"))
            self.own_megabytes = max(self.own_megabytes, int(own.split()[1]) / 1024)
            time.sleep(0.05)


def main() -> None:
    """Make the corpus, train a few steps on it, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--windows", choices=("random", "shuffled", "streamed"), default="streamed")
    parser.add_argument("--folder", type=Path, help="where corpus and cache are kept")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["SHAKESPEARE_TUI_CACHE"] = str(folder / "cache")
        os.environ["SHAKESPEARE_TUI_RUNS"] = str(Path(temporary) / "runs")
        corpus = folder / f"stories-{arguments.gigabytes:g}.txt"
        if not corpus.is_file():
            write_corpus(corpus, int(arguments.gigabytes * 1e9))
            time.sleep(3)  # the digest of a file that has just been written is not remembered
        measure(corpus, arguments.windows)


def measure(corpus: Path, windows: str) -> None:
    """Train eight steps, and print when the first of them was done."""
    memory = PeakMemory()
    memory.start()
    started = time.perf_counter()
    import shakespeare_tui as st
    from shakespeare_tui.runs.events import RunStarted, StepCompleted

    seconds: dict[str, tuple[float, float]] = {}
    # A short one, for the exact evaluation at the end is not what is measured.
    validation = corpus.with_suffix(".validation.txt")
    validation.write_text(corpus.open().read(20_000))

    def elapsed() -> tuple[float, float]:
        return time.perf_counter() - started, time.process_time()

    def note(event: object) -> None:
        if isinstance(event, RunStarted):
            seconds["the run begins"] = elapsed()
        elif isinstance(event, StepCompleted):
            seconds.setdefault("first step", elapsed())

    st.train(
        "tiny",
        corpus=str(corpus),
        training={"max_steps": 8, "eval_every": 100, "precision": "float32"},
        data={"windows": windows, "validation": str(validation)},
        sampling={"every": 0},
        on_event=note,
    )
    print(f"{corpus.stat().st_size / 1e9:.2f} GB, {windows}")
    for name, (wall, computed) in seconds.items():
        print(f"{name:>16}: {wall:6.1f} s, {computed:.1f} of them computing on any core")
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{'own memory':>16}: {memory.own_megabytes:6.0f} MB at its peak")
    print(f"{'resident':>16}: {resident:6.0f} MB at its peak, with pages of files")


if __name__ == "__main__":
    main()
