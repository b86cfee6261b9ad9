"""Measures of text, and listing many checkpoints: what the lab's screens wait for."""

import dataclasses
import functools
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from shakespeare_tui.bench.figures import Figures, Watcher
from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.catalogue import find_entry
from shakespeare_tui.data.download import cached_path
from shakespeare_tui.data.source import open_corpus
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer
from shakespeare_tui.errors import check_cancelled
from shakespeare_tui.measures import CorpusReference, measure_text, open_reference
from shakespeare_tui.measures.copies import find_copies
from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.folder import CheckpointInfo, RunFolder, new_run_info

_CHARACTERS, _ROUNDS = 1000, 50
_RUNS, _CHECKPOINTS, _LISTINGS = 100, 100, 5


def measure(watcher: Watcher) -> Iterator[Figures]:
    """The index of a training split, then measures of texts of 1,000 characters.

    They are stretches of the validation split, of the training split (one long copy), short copies
    side by side, and what a model writes that knows the ten characters before and nothing else.
    """
    is_there = cached_path(find_entry("tiny_shakespeare")).is_file()
    source = open_corpus("tiny_shakespeare" if is_there else "sample")
    text = "".join(source.iter_text())
    boundary = int(0.9 * len(text))
    with tempfile.TemporaryDirectory() as folder:
        title = f"The index of {source.name}, {boundary:,} characters"
        open_index = functools.partial(open_reference, source, 0.1, Path(folder))
        building = {"built": lambda: _milliseconds(open_index)}
        samples = watcher.in_turn(title, building, 1)
        opening = {"opened": lambda: _milliseconds(open_index)}
        samples |= watcher.in_turn(title, opening, _LISTINGS)
        yield Figures(title, "ms", samples, is_rate=False)
        reference = open_index()
        for name, make in _texts(text[:boundary], text[boundary:]).items():
            title = f"{_CHARACTERS:,} characters, {name}"
            ways = {
                "copies found": functools.partial(_of_text, make, find_copies, reference),
                "all measures": functools.partial(_of_text, make, measure_text, reference),
            }
            yield Figures(title, "ms", watcher.in_turn(title, ways, _ROUNDS), is_rate=False)


def _of_text(
    make: Callable[[], str],
    work: Callable[[str, CorpusReference], object],
    reference: CorpusReference,
) -> float:
    text = make()
    return _milliseconds(lambda: work(text, reference))


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)


def _texts(training: str, validation: str) -> dict[str, Callable[[], str]]:
    """Kinds of texts, by what makes another one each time."""
    generator = random.Random(1)

    def cut(source: str, length: int) -> str:
        start = generator.randrange(len(source) - length)
        return source[start : start + length]

    def ten_gram() -> str:
        text = cut(training, 30)
        while len(text) < _CHARACTERS:
            start = training.find(text[-10:], generator.randrange(len(training))) + 10
            text += training[start : start + generator.randrange(1, 12)]
        return text[:_CHARACTERS]

    return {
        "of the validation split": lambda: cut(validation, _CHARACTERS),
        "one long copy": lambda: cut(training, _CHARACTERS),
        "copies of 25 side by side": lambda: "".join(
            cut(training, 25) for _ in range(_CHARACTERS // 25)
        ),
        "by ten-grams": ten_gram,
    }


def measure_catalog(watcher: Watcher) -> Iterator[Figures]:
    """10,000 checkpoints of 100 runs listed for the first time, and again."""
    title = f"{_RUNS * _CHECKPOINTS:,} checkpoints listed"
    with tempfile.TemporaryDirectory() as folder:
        watcher.tell(f"{title}: making them")
        _make_runs(Path(folder))
        first, again = [], []
        for number in range(_LISTINGS):
            check_cancelled(watcher.cancelled, "the benchmark")
            watcher.tell(f"{title}: round {number + 1} of {_LISTINGS}")
            catalog = RunCatalog(Path(folder))
            first.append(_milliseconds(catalog.entries))
            again.append(_milliseconds(catalog.entries))
    samples = {"for the first time": tuple(first), "again": tuple(again)}
    yield Figures(title, "ms", samples, is_rate=False)


def _make_runs(root: Path) -> None:
    """Folders as a training leaves them; all checkpoints share a file of small weights."""
    weights = root / "weights.safetensors"
    save_file({"embedding": np.zeros((65, 4), np.float32)}, weights)
    tokenizer = CharTokenizer(" abcdefghijklmnopqrstuvwxyz")
    for number in range(_RUNS):
        run = RunFolder(root / f"run-{number}")
        run.path.mkdir()
        info = new_run_info(
            name=run.path.name,
            corpus="sample",
            corpus_sha256="",
            characters=0,
            vocab_size=tokenizer.vocab_size,
            parameters=260,
        )
        run.write_definition(info, Config(), tokenizer)
        for place in range(1, _CHECKPOINTS + 1):
            step, loss = 100 * place, 1.5 + 1 / place
            folder = run.checkpoint_folder(step)
            folder.mkdir()
            figures = CheckpointInfo(
                step=step,
                val_loss=loss,
                train_loss=loss - 0.1,
                protocol="exact",
                time=info.created + place,
                elapsed_seconds=float(place),
            )
            (folder / "info.json").write_text(json.dumps(dataclasses.asdict(figures)))
            os.link(weights, folder / weights.name)
        run.write_index(best=step, last=step)
