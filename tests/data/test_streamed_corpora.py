"""Corpora larger than memory: parts encoded in parallel and ahead of training, their windows."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.data.source import TextSource, locate_corpus
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer, UnknownCharacterError
from shakespeare_tui.data.tokens import EncodedParts, encode_split, stream_split, tokenize_corpus
from shakespeare_tui.data.windows import PARTS_AT_A_TIME, StreamedWindows, WindowSampler, permuted
from shakespeare_tui.errors import CancelledError, UserError

TEXT = "".join(
    f"The {number}. ‘sentence’ has {number % 7} words, or so — 中文 too.\n" for number in range(900)
)
PART_BYTES = 1500


def corpus(folder: Path, text: str = TEXT, name: str = "corpus.txt") -> TextSource:
    path = folder / name
    path.write_bytes(text.encode())
    source = locate_corpus(str(path))
    assert source is not None
    return source


def encoded(source: TextSource, tokenizer: CharTokenizer, cache: Path) -> EncodedParts:
    return EncodedParts(source, tokenizer, cache, PART_BYTES)


class TestParts:
    def test_together_they_are_the_text_and_words_stay_whole(self, tmp_path: Path) -> None:
        tokenizer = CharTokenizer(TEXT)
        parts = encoded(corpus(tmp_path), tokenizer, tmp_path / "cache")
        texts = [tokenizer.decode(parts.tokens(number)) for number in range(len(parts))]
        assert "".join(texts) == TEXT
        assert len(texts) == len(TEXT.encode()) // PART_BYTES > 20
        assert all(text[0] == " " and text[1].isascii() for text in texts[1:])
        assert [parts.count(n) for n in range(len(parts))] == [len(text) for text in texts]

    @pytest.mark.parametrize("text", ["中文🎭é" * 900, "x" * 9000, "a " * 9000, "\ufeffé" * 5000])
    @pytest.mark.parametrize("most_in_memory", [0, 1 << 20])
    def test_texts_without_good_places_are_cut_between_characters(
        self, tmp_path: Path, text: str, most_in_memory: int
    ) -> None:
        tokenizer = CharTokenizer(text)
        tokens = tokenize_corpus(
            corpus(tmp_path, text),
            tokenizer,
            tmp_path / "cache",
            part_bytes=PART_BYTES,
            most_in_memory=most_in_memory,
        )
        assert tokenizer.decode(tokens) == text.removeprefix("\ufeff")

    def test_files_of_a_folder_run_on(self, tmp_path: Path) -> None:
        folder = tmp_path / "texts"
        folder.mkdir()
        for number in range(9):
            (folder / f"{number}.txt").write_text(f"\ufeffnumber {number} " + "and so on " * 90)
        source = locate_corpus(str(folder))
        assert source is not None
        text = "".join(source.iter_text())
        tokenizer = CharTokenizer(text)
        tokens = tokenize_corpus(source, tokenizer, tmp_path / "cache", part_bytes=PART_BYTES)
        assert tokenizer.decode(tokens) == text

    def test_any_order_writes_the_same_files_and_none_twice(self, tmp_path: Path) -> None:
        source, tokenizer = corpus(tmp_path), CharTokenizer(TEXT)
        encoded(source, tokenizer, tmp_path / "a").encode(range(20))
        backwards = encoded(source, tokenizer, tmp_path / "b")
        for number in reversed(range(len(backwards))):
            backwards.tokens(number)
        written = {path.name for path in (tmp_path / "b").iterdir()}
        assert {path.name for path in (tmp_path / "a").iterdir()} <= written
        again = encoded(source, tokenizer, tmp_path / "b")
        again.encode(range(len(again)), lambda done, total: pytest.fail("encoded twice"))

    def test_what_was_encoded_ahead_is_taken(self, tmp_path: Path) -> None:
        tokenizer = CharTokenizer(TEXT)
        parts = encoded(corpus(tmp_path), tokenizer, tmp_path / "cache")
        parts.ahead([3, 1, 3])
        parts.ahead([1])
        assert tokenizer.decode(parts.tokens(3)) in TEXT
        assert tokenizer.decode(parts.tokens(1)) in TEXT
        assert len(list((tmp_path / "cache").iterdir())) == 2

    @pytest.mark.parametrize("damage", [b"", b"\xff" * 100])
    def test_a_damaged_part_is_encoded_anew(self, tmp_path: Path, damage: bytes) -> None:
        tokenizer = CharTokenizer(TEXT)
        parts = encoded(corpus(tmp_path), tokenizer, tmp_path / "cache")
        before = parts.tokens(2).tolist()
        for path in (tmp_path / "cache").iterdir():
            path.write_bytes(damage)
        assert parts.tokens(2).tolist() == before

    def test_progress_adds_up_over_all_threads(self, tmp_path: Path) -> None:
        source, tokenizer = corpus(tmp_path), CharTokenizer(TEXT)
        told: list[tuple[int, int | None]] = []
        parts = encoded(source, tokenizer, tmp_path / "cache")
        parts.encode(range(len(parts)), lambda done, total: told.append((done, total)))
        size = len(TEXT.encode())
        assert told == sorted(told)
        assert told[-1] == (size, size)

    def test_the_first_error_ends_all_and_names_the_place(self, tmp_path: Path) -> None:
        text = TEXT[:20_000] + "§" + TEXT
        with pytest.raises(UnknownCharacterError) as caught:
            tokenize_corpus(
                corpus(tmp_path, text), CharTokenizer(TEXT), tmp_path / "c", part_bytes=PART_BYTES
            )
        assert (caught.value.character, caught.value.position) == ("§", 20_000)

    def test_what_is_no_text_is_named_by_file_and_byte(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.txt"
        path.write_bytes(TEXT.encode() + b"\xff" + TEXT.encode())
        bad = TextSource("bad", "bad", (path,), path.stat().st_size)
        with pytest.raises(UserError, match=f"0xff at offset {len(TEXT.encode()):,}"):
            EncodedParts(bad, CharTokenizer(TEXT), tmp_path / "c", PART_BYTES).encode(range(60))

    def test_calling_it_off_leaves_nothing_partial(self, tmp_path: Path) -> None:
        polls = iter(range(10_000))
        with pytest.raises(CancelledError):
            tokenize_corpus(
                corpus(tmp_path),
                CharTokenizer(TEXT),
                tmp_path / "cache",
                cancelled=lambda: next(polls) > 5,
                part_bytes=PART_BYTES,
            )
        assert not [path for path in (tmp_path / "cache").iterdir() if path.name[0] == "."]


class TestSplit:
    def test_whole_parts_at_the_end_are_kept(self, tmp_path: Path) -> None:
        source, tokenizer = corpus(tmp_path), CharTokenizer(TEXT)
        cache = tmp_path / "cache"
        train, val = stream_split(source, tokenizer, 0.25, 16, cache, part_bytes=PART_BYTES)
        learned = "".join(tokenizer.decode(train.tokens(n)) for n in range(len(train)))
        assert learned + tokenizer.decode(val) == TEXT
        assert len(tokenizer.decode(val)) / len(TEXT) == pytest.approx(0.25, abs=0.05)

    def test_evaluating_later_finds_the_same_parts(self, tmp_path: Path) -> None:
        text = TEXT * 160
        source, tokenizer, cache = corpus(tmp_path, text), CharTokenizer(TEXT), tmp_path / "cache"
        parts, val = stream_split(source, tokenizer, 0.5, 16, cache)
        train, again = encode_split(source, tokenizer, 0.5, 16, cache, is_streamed=True)
        assert again.tolist() == val.tolist()
        assert len(train) == sum(parts.count(n) for n in range(len(parts)))

    def test_a_short_corpus_is_refused(self, tmp_path: Path) -> None:
        source = corpus(tmp_path, TEXT[:2000])
        with pytest.raises(UserError, match="too short for data.windows=streamed, .* 8.4 MB"):
            stream_split(source, CharTokenizer(TEXT), 0.1, 16, tmp_path / "cache")


class Texts:
    """Parts of known lengths; every id is its own place in the whole."""

    def __init__(self, lengths: list[int]) -> None:
        ends = np.cumsum(lengths)
        self._parts = [np.arange(e - n, e) for e, n in zip(ends, lengths, strict=True)]
        self.used: list[int] = []

    def __len__(self) -> int:
        return len(self._parts)

    def tokens(self, number: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
        self.used.append(number)
        return self._parts[number]

    def count(self, number: int) -> int:
        self.used.append(number)
        return len(self._parts[number])


class TestWindows:
    @settings(max_examples=80)
    @given(
        st.integers(1, 14),
        st.integers(20, 60),
        st.integers(1, 8),
        st.integers(1, 9),
        st.integers(1, 7),
        st.integers(0, 2**63 - 1),
    )
    def test_an_epoch_takes_every_window_of_a_group_once(
        self, parts: int, length: int, seq_len: int, stride: int, batch_size: int, seed: int
    ) -> None:
        sizes = [PARTS_AT_A_TIME * length] * (parts // PARTS_AT_A_TIME)
        if rest := parts % PARTS_AT_A_TIME:
            sizes.append(rest * length)
        in_epoch = sum((size - seq_len) // stride for size in sizes)
        windows = StreamedWindows(Texts([length] * parts), seq_len, batch_size, seed, stride)
        batches = range(-(-2 * in_epoch // batch_size))
        seen = np.concatenate([windows(batch) for batch in batches])
        assert seen.shape[1] == seq_len + 1
        for epoch in range(2):
            part = seen[epoch * in_epoch : (epoch + 1) * in_epoch]
            assert len({int(window[0]) for window in part}) == in_epoch
            # The ids are places: but for the seams of parts, a window is a run of them.
            seams = (np.diff(part, axis=1) != 1).any(axis=1).sum()
            assert seams <= (parts - len(sizes)) * -(-(seq_len + 1) // stride)

    def test_a_batch_hangs_on_its_number_alone(self) -> None:
        lengths = [50 + n for n in range(19)]
        forwards = StreamedWindows(Texts(lengths), 5, 6, 3, 5)
        expected = [forwards(batch).tolist() for batch in range(100)]
        for batch in (99, 0, 41, 42, 7):
            resumed = StreamedWindows(Texts(lengths), 5, 6, 3, 5)
            assert resumed(batch).tolist() == expected[batch]
        assert forwards(12).tolist() == expected[12]

    def test_the_first_batch_needs_the_first_parts_only(self) -> None:
        texts = Texts([1000] * 40)
        told: list[list[int]] = []
        windows = StreamedWindows(texts, 8, 4, 1, 8, told.append)
        first = windows(0)
        assert len(set(texts.used)) == PARTS_AT_A_TIME
        assert set(first[:, 0] // 1000) <= set(texts.used)
        assert set(texts.used) < set(told[-1])
        assert len(windows.first_tokens) == 1000 * PARTS_AT_A_TIME

    def test_seeds_and_epochs_have_orders_of_their_own(self) -> None:
        def starts(seed: int, batches: range) -> tuple[int, ...]:
            windows = StreamedWindows(Texts([400] * 8), 8, 10, seed, 8)
            return tuple(int(w[0]) for batch in batches for w in windows(batch))

        orders = {starts(seed, range(10)) for seed in (0, 1, 2**63 - 1)}
        assert len(orders) == 3
        assert starts(0, range(0, 39)) != starts(0, range(39, 78))

    def test_parts_without_a_window_are_refused(self) -> None:
        with pytest.raises(UserError, match="no part of the corpus holds a window"):
            StreamedWindows(Texts([2] * 6), 100, 4, 1, 100)(0)

    def test_batches_stay_what_they_are(self) -> None:
        """Runs that were begun with them resume with them."""
        streamed = StreamedWindows(Texts([5000 + 7 * n for n in range(11)]), 16, 8, 1337, 16)
        shuffled = WindowSampler(1_003_854, 128, 16, 1337, 128)
        random = WindowSampler(1_003_854, 128, 16, 1337)
        found = [
            hashlib.sha256(np.concatenate([f(b) for b in (0, 1, 900)]).tobytes()).hexdigest()[:16]
            for f in (streamed, shuffled.starts, random.starts)
        ]
        assert found == GOLDEN


GOLDEN = ["c742e9d3812da0ea", "24aa0b4b68b10378", "97abd61a8e88401b"]


class TestPermutation:
    @given(st.integers(1, 3000), st.integers(0, 2**32))
    def test_every_place_goes_to_another(self, size: int, seed: int) -> None:
        keys = np.random.default_rng(seed).integers(0, 1 << 63, 6, dtype=np.uint64)
        assert sorted(permuted(np.arange(size), size, keys)) == list(range(size))

    def test_it_looks_random(self) -> None:
        """Neighbours part, and fixed points are as rare as in a random permutation."""
        size, fixed, near = 5000, 0, 0
        for seed in range(20):
            keys = np.random.default_rng(seed).integers(0, 1 << 63, 6, dtype=np.uint64)
            found = permuted(np.arange(size), size, keys)
            fixed += int((found == np.arange(size)).sum())
            near += int((np.abs(np.diff(found)) < 50).sum())
        # One fixed point is expected each time, and a neighbour within 50 for 2 in 100.
        assert fixed < 40
        assert near / (20 * size) == pytest.approx(0.02, abs=0.003)

    def test_large_sizes_take_no_memory(self) -> None:
        size = 3_000_000_000_000
        keys = np.arange(6, dtype=np.uint64)
        found = permuted(np.array([0, 1, size - 1]), size, keys)
        assert len(set(found.tolist())) == 3
        assert found.min() >= 0 and found.max() < size
