"""A validation text of its own: what is learned from and what is measured on, everywhere."""

import threading
from pathlib import Path

import pytest

from shakespeare_tui.config.estimate.figures import measure_corpus
from shakespeare_tui.data.inspect.scan import inspect_corpus, scan_corpus
from shakespeare_tui.data.source import TextSource, locate_corpus
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer
from shakespeare_tui.data.tokens import encode_split
from shakespeare_tui.errors import UserError
from shakespeare_tui.measures.reference import open_reference

TRAIN = "to be or not to be, that is the question" * 50
VALIDATION = "whether 'tis nobler\n" * 20


@pytest.fixture
def source(tmp_path: Path) -> TextSource:
    (tmp_path / "train.txt").write_text(TRAIN)
    (tmp_path / "apart.txt").write_text(VALIDATION)
    found = locate_corpus(str(tmp_path / "train.txt"), str(tmp_path / "apart.txt"))
    assert found is not None
    return found


def test_all_of_the_text_is_learned_from_and_the_other_measured_on(
    source: TextSource, tmp_path: Path
) -> None:
    tokenizer = CharTokenizer("".join(source.whole.iter_text()))
    train, val = encode_split(source, tokenizer, 0.5, 8, tmp_path / "cache")
    assert tokenizer.decode(train) == TRAIN
    assert tokenizer.decode(val) == VALIDATION


def test_too_short_a_validation_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(TRAIN)
    (tmp_path / "apart.txt").write_text("x")
    source = locate_corpus(str(tmp_path / "train.txt"), str(tmp_path / "apart.txt"))
    assert source is not None
    with pytest.raises(UserError, match="and 1 for validation"):
        encode_split(source, CharTokenizer(TRAIN + "x"), 0.5, 8, tmp_path / "cache")


def test_a_validation_text_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(TRAIN)
    with pytest.raises(UserError, match="no corpus, file or folder is called 'absent.txt'"):
        locate_corpus(str(tmp_path / "train.txt"), "absent.txt")
    with pytest.raises(UserError, match="data fetch tinystories"):
        locate_corpus(str(tmp_path / "train.txt"), "tinystories")


def test_both_texts_decide_the_digest(source: TextSource) -> None:
    alone = locate_corpus(str(source.paths[0]))
    assert alone is not None
    assert alone.sha256() == source.text_sha256() != source.sha256()
    assert source.validation is not None
    source.validation.paths[0].write_text(VALIDATION + "!")
    before = source.sha256()
    source.validation.paths[0].write_text(VALIDATION + "?")
    assert source.sha256() != before


def test_the_split_is_between_the_texts(source: TextSource) -> None:
    report = inspect_corpus(source, 0.3)
    # A line feed keeps files apart that do not end with one.
    assert (report.split.train, report.split.validation) == (len(TRAIN) + 1, len(VALIDATION))
    assert report.split.val_fraction is None
    assert report.sha256 == source.sha256()
    state = scan_corpus(source, lambda state: None, threading.Event(), 0.3)
    assert state.report() == report
    assert state.index.text(len(TRAIN) + 1, len(TRAIN) + 8) == "whether"


def test_figures_before_training_know_both_parts(source: TextSource) -> None:
    figures = measure_corpus(str(source.paths[0]), validation=str(source.whole.paths[1]))
    assert figures.validation_tokens == pytest.approx(len(VALIDATION), abs=1)
    assert figures.train_tokens(0.5) == pytest.approx(len(TRAIN), abs=2)


def test_copies_are_looked_for_in_all_that_was_learned_from(
    source: TextSource, tmp_path: Path
) -> None:
    reference = open_reference(source, 0.5, tmp_path / "references")
    assert reference.characters == len(TRAIN)
