"""Time the measures of text on a corpus: the index once, then a text of 1,000 characters.

    python benchmarks/measures.py tiny_shakespeare --repeats 50

The texts are stretches of the validation split, of the training split (one long copy), short copies
side by side, and what a model writes that knows the ten characters before and nothing else.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from shakespeare_tui.data.source import TextSource, open_corpus
from shakespeare_tui.measures import CorpusReference, measure_text, open_reference
from shakespeare_tui.measures.copies import find_copies

CHARACTERS = 1000


def texts(training: str, validation: str) -> dict[str, list[str]]:
    """Ten texts of each kind."""
    generator = random.Random(1)

    def cut(source: str, length: int) -> str:
        start = generator.randrange(len(source) - length)
        return source[start : start + length]

    def ten_gram() -> str:
        text = cut(training, 30)
        while len(text) < CHARACTERS:
            start = training.find(text[-10:], generator.randrange(len(training))) + 10
            text += training[start : start + generator.randrange(1, 12)]
        return text[:CHARACTERS]

    kinds: dict[str, Callable[[], str]] = {
        "validation split": lambda: cut(validation, CHARACTERS),
        "one long copy": lambda: cut(training, CHARACTERS),
        "copies of 25 side by side": lambda: "".join(cut(training, 25) for _ in range(40)),
        "a ten-gram model's": ten_gram,
    }
    return {name: [make() for _ in range(10)] for name, make in kinds.items()}


def milliseconds(work: Callable[[str], object], samples: list[str], repeats: int) -> list[float]:
    """How long each of ``repeats`` calls took."""
    times = []
    for repeat in range(repeats):
        started = time.perf_counter()
        work(samples[repeat % len(samples)])
        times.append((time.perf_counter() - started) * 1e3)
    return times


def main() -> None:
    """Build the index, time it, and print medians and the slowest of each kind of text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", metavar="NAME|FILE")
    parser.add_argument("--repeats", type=int, default=50)
    arguments = parser.parse_args()
    source = open_corpus(arguments.corpus)
    text = "".join(source.iter_text())
    boundary = int(0.9 * len(text))
    with tempfile.TemporaryDirectory() as folder:
        reference = timed_reference(source, Path(folder))
        for name, samples in texts(text[:boundary], text[boundary:]).items():
            for what, work in (
                ("copies", lambda sample: find_copies(sample, reference)),
                ("all measures", lambda sample: measure_text(sample, reference)),
            ):
                times = milliseconds(work, samples, arguments.repeats)
                print(
                    f"{name:<26} {what:<13} median {statistics.median(times):6.2f} ms, "
                    f"slowest {max(times):6.2f} ms"
                )


def timed_reference(source: TextSource, folder: Path) -> CorpusReference:
    """Build, then open once more, printing both times and the size on disk."""
    for what in ("built", "opened"):
        started = time.perf_counter()
        reference = open_reference(source, 0.1, folder)
        print(f"{what} in {time.perf_counter() - started:.3f} s")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{reference.characters:,} characters, {size / 1e6:.1f} MB on disk")
    return reference


if __name__ == "__main__":
    main()
