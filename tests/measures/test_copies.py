"""Copies against a plain search with ``in``, and the index of a corpus on disk."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.data.source import TextSource, locate_corpus
from shakespeare_tui.errors import UserError
from shakespeare_tui.measures import CorpusReference, Passage, open_reference
from shakespeare_tui.measures.copies import Memorisation, find_copies, suffix_array
from shakespeare_tui.measures.reference import write_reference


def source_of(path: Path, text: str) -> TextSource:
    path.write_text(text, encoding="utf-8", newline="")
    source = locate_corpus(str(path))
    assert source is not None
    return source


def sample(tmp_path: Path) -> tuple[CorpusReference, str]:
    """The shipped play's reference and its training split."""
    source = locate_corpus("sample")
    assert source is not None
    text = source.paths[0].read_text(encoding="utf-8")
    return open_reference(source, 0.1, tmp_path / "references"), text[: int(0.9 * len(text))]


def plain_search(text: str, training: str, least: int) -> list[tuple[int, int]]:
    """Spans that occur and lie in no longer one that does, by trying every one."""
    spans = []
    for start in range(len(text)):
        end = start
        while end < len(text) and text[start : end + 1] in training:
            end += 1
        if end - start >= least and (not spans or end > spans[-1][1]):
            spans.append((start, end))
    return spans


def check(found: Memorisation, text: str, training: str, start: int = 0, least: int = 20) -> None:
    """Compare everything that was found with the plain search."""
    spans = plain_search(text[start:], training, least)
    spans = [(start + first, start + end) for first, end in spans]
    assert [(p.start, p.end) for p in found.passages] == spans
    covered = {i for first, end in spans for i in range(first, end)}
    assert found.share == pytest.approx(len(covered) / max(1, len(text) - start))
    lengths = [end - first for first, end in plain_search(text[start:], training, 1)]
    assert found.longest == max(lengths, default=0)
    if found.longest_passage is not None:
        assert found.longest_passage.length == found.longest
    for passage in (*found.passages, found.longest_passage):
        if passage is not None:
            place = training.index(text[passage.start : passage.end])
            assert passage.source_start == place
            assert passage.source_line == training[:place].count("\n") + 1


class TestSuffixArray:
    @given(st.lists(st.integers(1, 3), max_size=60), st.sampled_from(["u1", ">u2", ">u4"]))
    def test_order(self, ids: list[int], kind: str) -> None:
        order = suffix_array(np.array(ids, dtype=kind))
        assert order.tolist() == sorted(range(len(ids)), key=lambda i: ids[i:])

    @pytest.mark.parametrize("period", [1, 7, 1000])
    def test_long_repetitions_in_many_parts(self, period: int) -> None:
        unit = np.random.default_rng(period).integers(1, 60, period)
        ids = np.tile(unit, 4000 // period)[:3990].astype(np.uint8)
        reported: list[tuple[int, int | None]] = []
        order = suffix_array(ids, lambda done, total: reported.append((done, total)), least_part=50)
        content = ids.tobytes()
        assert order.tolist() == sorted(range(len(ids)), key=lambda i: content[i:])
        assert reported == sorted(reported)
        assert reported[-1] == (3990, 3990)


@given(
    training=st.text("ab\n", min_size=1, max_size=80),
    text=st.text("abc\n", max_size=40),
    start=st.integers(0, 5),
    least=st.integers(1, 6),
)
def test_random_texts(
    tmp_path_factory: pytest.TempPathFactory, training: str, text: str, start: int, least: int
) -> None:
    folder = tmp_path_factory.mktemp("reference")
    write_reference(folder, training, corpus="noise", characters=len(training))
    found = find_copies(text, CorpusReference(folder), start, least)
    check(found, text, training, start, least)


@settings(max_examples=12)
@given(st.randoms(use_true_random=False))
def test_copies_planted_in_noise(
    tmp_path_factory: pytest.TempPathFactory, generator: random.Random
) -> None:
    reference, training = sample(tmp_path_factory.getbasetemp())
    parts, at, planted = [], 0, []
    for length in (19, 20, 21, 40, 300):
        noise = "".join(generator.choices("qzxj\u00e9#", k=generator.randrange(1, 60)))
        begin = generator.randrange(len(training) - length)
        parts += [noise, training[begin : begin + length]]
        at += len(noise)
        planted.append((at, at + length))
        at += length
    text = "".join(parts)
    found = find_copies(text, reference)
    check(found, text, training)
    # Noise may go on as the corpus does, but never shortens a copy.
    for start, end in planted[1:]:
        assert any(p.start <= start and end <= p.end for p in found.passages)


def test_neighbouring_copies(tmp_path: Path) -> None:
    reference, training = sample(tmp_path)
    pieces = [training[i : i + 25] for i in range(100, 20000, 500)]
    text = "".join(pieces)
    found = find_copies(text, reference)
    check(found, text, training)
    assert found.share == 1
    # Pieces that overlap: every passage overlaps the next.
    text = "".join(training[i : i + 30] for i in (1000, 1015, 1030, 5000, 5020))
    check(find_copies(text, reference), text, training)


def test_all_of_the_training_split_is_one_copy(tmp_path: Path) -> None:
    reference, training = sample(tmp_path)
    found = find_copies(training, reference)
    assert (found.longest, found.share) == (len(training), 1)
    assert found.passages == (Passage(0, len(training), 1, 0),)
    assert reference.source(100, 200) == training[100:200]


def test_the_validation_split_is_no_source(tmp_path: Path) -> None:
    hidden = "What is never trained on cannot be copied."
    text = "To be, or not to be.\n" * 20 + hidden
    source = source_of(tmp_path / "play.txt", text)
    reference = open_reference(source, 0.1, tmp_path / "references")
    assert reference.characters == reference.indexed_characters == int(0.9 * len(text))
    assert find_copies(hidden, reference).passages == ()
    assert "cannot" not in reference.words
    assert reference.words == {"to", "be", "or", "not"}


@pytest.mark.parametrize("alphabet", [range(0x4E00, 0x4E00 + 400), range(0x10000, 0x10000 + 70000)])
def test_large_alphabets(alphabet: range, tmp_path: Path) -> None:
    training = "".join(map(chr, alphabet)) + "\n" + "".join(map(chr, alphabet[:100]))
    write_reference(tmp_path, training, corpus="signs", characters=len(training))
    reference = CorpusReference(tmp_path)
    text = "a" + training[30:80] + "\U0010ffff" + training[390:410] + "\u00e9"
    check(find_copies(text, reference), text, training)
    assert reference.source(30, 80) == training[30:80]


class TestStore:
    def test_is_built_once(self, tmp_path: Path) -> None:
        source = source_of(tmp_path / "play.txt", "To be, or not to be.\n" * 30)
        reports: list[tuple[int, int | None]] = []

        def report(done: int, total: int | None) -> None:
            reports.append((done, total))

        open_reference(source, 0.1, tmp_path / "references", report)
        assert reports[-1] == (567, 567)
        reports.clear()
        reference = open_reference(source, 0.1, tmp_path / "references", report)
        assert reports == []
        assert reference.corpus == "play"
        assert find_copies("or not to be.\nTo be, or", reference).longest == 23
        # Another split or another text is another reference.
        assert open_reference(source, 0.5, tmp_path / "references").characters == 315
        changed = source_of(tmp_path / "play.txt", "To see, or not to see.\n" * 30)
        reference = open_reference(changed, 0.1, tmp_path / "references")
        assert "see" in reference.words

    def test_a_damaged_one_is_built_anew(self, tmp_path: Path) -> None:
        source = source_of(tmp_path / "play.txt", "To be, or not to be.\n" * 30)
        open_reference(source, 0.1, tmp_path / "references")
        (folder,) = (tmp_path / "references").iterdir()
        for path in folder.iterdir():
            content = path.read_bytes()
            for damage in (content[:-3], b""):
                path.write_bytes(damage)
                reference = open_reference(source, 0.1, tmp_path / "references")
                assert find_copies("or not to be.\nTo be, or", reference).longest == 23
            path.unlink()
            reference = open_reference(source, 0.1, tmp_path / "references")
            assert "not" in reference.words

    def test_a_very_long_text_is_searched_in_part(self, tmp_path: Path) -> None:
        text = "".join(map(chr, range(97, 123))) * 10 + "\n"
        source = source_of(tmp_path / "play.txt", text + "0123456789" * 30)
        reference = open_reference(source, 0.1, tmp_path / "references", max_characters=200)
        assert not reference.is_whole
        assert (reference.indexed_characters, reference.characters) == (200, 504)
        found = find_copies(text[:250], reference)
        assert (found.longest, found.is_whole) == (200, False)

    def test_an_interrupt_leaves_nothing(self, tmp_path: Path) -> None:
        def interrupt(done: int, total: int | None) -> None:
            raise KeyboardInterrupt

        source = source_of(tmp_path / "play.txt", "To be, or not to be.\n" * 30)
        with pytest.raises(KeyboardInterrupt):
            open_reference(source, 0.1, tmp_path / "refs", interrupt)
        assert list((tmp_path / "refs").iterdir()) == []

    def test_two_at_the_same_time(self, tmp_path: Path) -> None:
        source = source_of(tmp_path / "play.txt", "To be, or not to be.\n" * 30)
        began = []

        def interrupt(done: int, total: int | None) -> None:
            if not began:
                began.append(done)
                open_reference(source, 0.1, tmp_path / "references")

        reference = open_reference(source, 0.1, tmp_path / "references", interrupt)
        assert reference.is_whole
        assert len(list((tmp_path / "references").iterdir())) == 1

    def test_no_training_split(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="longer text"):
            open_reference(source_of(tmp_path / "a.txt", "a"), 0.5, tmp_path / "references")
