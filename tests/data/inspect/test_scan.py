import hashlib
import threading
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from shakespeare_tui.data.inspect.scan import inspect_corpus, scan_corpus
from shakespeare_tui.data.inspect.speeches import SpeechScanner, length_bins
from shakespeare_tui.data.inspect.words import WordCounter, thin_ranks, zipf_slope
from shakespeare_tui.data.source import TextSource, locate_corpus
from shakespeare_tui.errors import CancelledError, UserError


def source_of(folder, text: str) -> TextSource:
    path = folder / "text.txt"
    path.write_bytes(text.encode())
    source = locate_corpus(str(path))
    assert source is not None
    return source


def scanned(source: TextSource, val_fraction: float = 0.1):
    return scan_corpus(source, lambda state: None, threading.Event(), val_fraction)


def test_the_figures_are_those_of_data_inspect():
    source = locate_corpus("sample")
    report = scanned(source).report()
    assert report.to_json() == inspect_corpus(source).to_json()


def test_a_folder_with_other_alphabets_gives_the_same_figures_and_the_same_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffἐν ἀρχῇ ἦν ὁ λόγος".encode())
    (tmp_path / "b.txt").write_bytes("太初有道 🎭\n".encode() * 40)
    source = locate_corpus(str(tmp_path))
    state = scanned(source, 0.25)
    assert state.report().to_json() == inspect_corpus(source, 0.25).to_json()
    text = "".join(source.iter_text())
    assert state.index.text(0, len(text)) == text


def test_figures_arrive_while_the_text_is_read(tmp_path):
    source = source_of(tmp_path, "To be, or not to be.\n" * 500)
    states = []
    never = threading.Event()
    final = scan_corpus(source, states.append, never, chunk_bytes=1000, publish_seconds=0.0)
    reading = [state for state in states if state.phase == "reading"]
    assert len(reading) > 5
    for before, after in pairwise(reading):
        assert before.done_bytes < after.done_bytes
        assert before.statistics.characters < after.statistics.characters
        assert before.index.n_rows <= after.index.n_rows
    assert all(state.report() is None for state in states[:-1])
    assert [len(s.baselines.losses) for s in states if s.phase == "predicting"] == [0, 1, 2, 3, 4]
    assert final is states[-1]
    assert final.sha256 == hashlib.sha256(source.paths[0].read_bytes()).hexdigest()


def test_a_scan_can_be_called_off_while_it_reads(tmp_path):
    cancelled = threading.Event()
    seen = []

    def publish(state):
        seen.append(state)
        cancelled.set()

    with pytest.raises(CancelledError):
        source = source_of(tmp_path, "word " * 1000)
        scan_corpus(source, publish, cancelled, chunk_bytes=100, publish_seconds=0.0)
    assert len(seen) == 1


@pytest.mark.parametrize("content", [b"\x00\x01\x02", b"caf\xe9", b"\xef\xbb\xbf"])
def test_what_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(UserError):
        scanned(locate_corpus(str(path)))


@pytest.mark.parametrize("text", ["a", "ab", "abcdef"])
def test_a_tiny_text_is_scanned_without_reference_losses(tmp_path, text):
    state = scanned(source_of(tmp_path, text))
    assert state.report().to_json() == inspect_corpus(state.source).to_json()


class TestWords:
    @pytest.mark.parametrize("size", [1, 7, 1000])
    def test_pieces_do_not_change_the_counts(self, size: int) -> None:
        text = "The king's men; the King, and THE queen\nl’été 42 x_y " * 3
        counter = WordCounter()
        for start in range(0, len(text), size):
            counter.feed(text[start : start + size])
        words = counter.snapshot()
        expected = Counter(
            ["the"] * 3 + ["king's", "men", "king", "and", "queen", "l’été", "x", "y"]
        )
        assert dict(words.top) == {word: 3 * n for word, n in expected.items()}
        assert words.counts.tolist() == sorted((3 * n for n in expected.values()), reverse=True)
        assert words.is_whole

    def test_counting_stops_at_the_limit_and_says_so(self) -> None:
        counter = WordCounter(max_characters=11)
        counter.feed("one two one")
        assert counter.snapshot().is_whole
        counter.feed(" three")
        words = counter.snapshot()
        assert dict(words.top) == {"one": 2, "two": 1}
        assert not words.is_whole

    def test_slope_of_an_exact_power_law(self) -> None:
        counts = np.round(1e9 / np.arange(1, 20_001) ** 1.3).astype(np.int64)
        assert zipf_slope(counts) == pytest.approx(-1.3, abs=0.001)
        assert zipf_slope(counts[:2]) is None

    def test_thinned_ranks_begin_and_end_with_the_first_and_last(self) -> None:
        counts = np.arange(5000, 0, -1)
        ranks, heights = thin_ranks(counts, 40)
        assert (ranks[0], ranks[-1]) == (1, 5000)
        assert len(ranks) <= 40
        assert heights.tolist() == counts[ranks - 1].tolist()


class TestSpeechLengths:
    def test_every_speech_is_counted_in_the_bin_of_its_length(self) -> None:
        lengths = [3, 10, 11, 50, 51, 700]
        text = "".join(f"SOMEBODY:\n{'x' * n}\n\n" for n in lengths)
        scanner = SpeechScanner()
        scanner.feed(text)
        assert scanner.lengths() == dict.fromkeys(lengths, 1)
        bins = {(b.least, b.most): b.speeches for b in length_bins(scanner.lengths())}
        assert bins == {
            (0, 10): 2,
            (11, 20): 1,
            (21, 50): 1,
            (51, 100): 1,
            (101, 200): 0,
            (201, 500): 0,
            (501, 1000): 1,
        }

    def test_very_long_speeches_have_an_open_bin(self) -> None:
        (last,) = length_bins({9000: 2})
        assert (last.least, last.most, last.speeches) == (5001, None, 2)
        assert length_bins({}) == []
