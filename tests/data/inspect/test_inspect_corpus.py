import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from shakespeare_tui.data.inspect import ngrams
from shakespeare_tui.data.inspect.scan import inspect_corpus
from shakespeare_tui.data.source import DEFAULT_CHUNK_BYTES, locate_corpus
from shakespeare_tui.errors import CancelledError, UserError


def source_of(folder: Path, text: str):
    path = folder / "text.txt"
    path.write_bytes(text.encode())
    return locate_corpus(str(path))


def tokens_of(text: str) -> tuple[np.ndarray, int]:
    ids = {character: i for i, character in enumerate(sorted(set(text)))}
    return np.array([ids[character] for character in text]), len(ids)


def test_report_of_the_sample_agrees_with_a_plain_count():
    source = locate_corpus("sample")
    text = source.paths[0].read_text("utf-8")
    report = inspect_corpus(source)
    assert report.sha256 == source.sha256()
    assert report.statistics.characters == len(text)
    assert report.split.train == int(0.9 * len(text))
    assert report.split.train + report.split.validation == len(text)
    tokens, vocab_size = tokens_of(text)
    parts = tokens[: report.split.train], tokens[report.split.train :]
    assert report.baselines.losses == ngrams.baselines(*parts, vocab_size)
    losses = report.baselines.losses
    assert losses["5-gram"] < losses["bigram"] < losses["unigram"] < losses["uniform"]
    assert report.statistics.play.speeches > 100


@pytest.mark.parametrize("val_fraction", [0.05, 0.5632])
def test_a_long_corpus_is_measured_around_its_split(tmp_path, val_fraction):
    words = np.random.default_rng(0).choice(["to", "be", "or", "not", "é中", "🎭"], 600_000)
    text = " ".join(words)
    # The counted part lies across a boundary between two pieces that are read.
    assert len(text.encode()) > 2 * DEFAULT_CHUNK_BYTES
    report = inspect_corpus(source_of(tmp_path, text), val_fraction, max_baseline_tokens=5000)
    split = int((1 - val_fraction) * len(text))
    assert report.split.train == split
    n_train, n_val = report.baselines.train, report.baselines.validation
    assert n_train + n_val == pytest.approx(5000, abs=1)
    assert n_val / 5000 == pytest.approx(min(val_fraction, 0.5), abs=0.01)
    tokens, vocab_size = tokens_of(text)
    expected = ngrams.baselines(
        tokens[split - n_train : split], tokens[split : split + n_val], vocab_size
    )
    assert report.baselines.losses == expected


def test_json_is_plain_and_complete(tmp_path):
    report = inspect_corpus(source_of(tmp_path, "ANNA:\nO [b]é[/b]\x1b!\n\n" * 9))
    record = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert record["vocabulary"] == list(report.statistics.vocabulary)
    assert record["vocab_size"] == len(record["vocabulary"])
    assert record["split"] == {"val_fraction": 0.1, "train": 162, "validation": 18}
    assert record["play"]["top_speakers"] == [
        {"name": "ANNA", "speeches": 9, "characters": 9 * len("O [b]é[/b]\x1b!")}
    ]
    assert record["first_lines"][1] == "O [b]é[/b]\x1b!"
    assert math.isclose(record["baselines"]["uniform"], math.log(record["vocab_size"]))


@pytest.mark.parametrize("text", ["a", "ab\n", "abcdef"])
def test_texts_too_short_for_a_reference(tmp_path, text):
    report = inspect_corpus(source_of(tmp_path, text), val_fraction=0.5)
    assert report.statistics.characters == len(text)
    assert report.baselines.losses == {}
    json.dumps(report.to_json(), allow_nan=False)


def test_progress_rises_to_the_whole(tmp_path):
    reported = []
    source = source_of(tmp_path, "word " * 1000)
    inspect_corpus(source, report=lambda done, total: reported.append((done, total)))
    amounts = [done for done, _ in reported]
    assert amounts == sorted(amounts)
    assert reported[-1] == (5000, 5000)


def test_cancelling_ends_it(tmp_path):
    cancelled = threading.Event()
    source = source_of(tmp_path, "word " * 1000)
    with pytest.raises(CancelledError):
        inspect_corpus(source, report=lambda done, total: cancelled.set(), cancelled=cancelled)


@pytest.mark.parametrize("val_fraction", [0, 1, -0.1, 1.5, math.nan])
def test_fraction_that_leaves_no_part(tmp_path, val_fraction):
    with pytest.raises(UserError, match="between 0 and 1"):
        inspect_corpus(source_of(tmp_path, "text"), val_fraction)


def test_a_byte_order_mark_alone_is_no_text(tmp_path):
    with pytest.raises(UserError, match="no characters"):
        inspect_corpus(source_of(tmp_path, "\ufeff"))


@pytest.mark.slow
def test_a_gigabyte_takes_less_than_400_megabytes_of_memory(tmp_path):
    block = locate_corpus("sample").paths[0].read_bytes() * 40
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        while file.tell() < 1_000_000_000:
            file.write(block)
    script = (
        "import resource, sys\n"
        "from shakespeare_tui.cli.main import main\n"
        "code = main(['data', 'inspect', sys.argv[1]])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
        "sys.exit(code)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    assert int(done.stderr) * unit_bytes < 400_000_000
    path.unlink()
