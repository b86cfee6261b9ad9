"""Tokens on disk and the windows that are cut out of them, against plain Python lists."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.data.source import TextSource, locate_corpus
from shakespeare_tui.data.tokenizers.kinds import tokenizer_kind
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer, TokenArray
from shakespeare_tui.data.tokens import TokenSettings, check_length, open_tokenizer, split_tokens
from shakespeare_tui.data.windows import TextDataset, WindowSampler, gather_windows
from shakespeare_tui.errors import CancelledError, UserError


def counting(length: int) -> TokenArray:
    return np.arange(length, dtype=np.uint16)


def test_a_corpus_of_a_byte_order_mark_alone_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("\ufeff")
    source = locate_corpus(str(path))
    assert source is not None
    with pytest.raises(UserError, match="empty"):
        open_tokenizer(TokenSettings(), source)


class TestSplit:
    @given(st.integers(60, 3000), st.floats(0.01, 0.9), st.integers(1, 20))
    def test_time_order_at_the_rounded_down_boundary(
        self, length: int, fraction: float, seq_len: int
    ) -> None:
        boundary = int((1 - fraction) * length)
        if boundary < max(seq_len + 1, 5) or length - boundary < 2:
            with pytest.raises(UserError, match="too short"):
                split_tokens(counting(length), fraction, seq_len)
            return
        train, val = split_tokens(counting(length), fraction, seq_len)
        assert train.tolist() == list(range(boundary))
        assert val.tolist() == list(range(boundary, length))

    def test_tiny_shakespeare_splits_as_everyone_splits_it(self) -> None:
        train, val = split_tokens(np.zeros(1_115_394, dtype=np.uint8), 0.1, 256)
        assert (len(train), len(val)) == (1_003_854, 111_540)

    def test_least_that_is_enough_and_one_less(self) -> None:
        check_length(18, 2, seq_len=17)
        with pytest.raises(UserError, match=r"window of 18 needs at least 19 and 2; use a longer"):
            check_length(18, 2, seq_len=18)
        with pytest.raises(UserError, match="19 for training and 1 for validation"):
            check_length(19, 1, seq_len=4)
        check_length(5, 5, seq_len=2)
        with pytest.raises(UserError, match="baselines need 5 to train on; use a longer text"):
            check_length(4, 4, seq_len=2)


class TestDataset:
    @given(st.integers(0, 60), st.integers(1, 12), st.integers(1, 15))
    def test_items_are_all_the_whole_windows_a_loop_finds(
        self, length: int, seq_len: int, stride: int
    ) -> None:
        dataset = TextDataset(counting(length), seq_len, stride)
        text = list(range(length))
        expected = [
            (text[start : start + seq_len], text[start + 1 : start + 1 + seq_len])
            for start in range(0, length, stride)
            if start + seq_len + 1 <= length
        ]
        assert [(x.tolist(), y.tolist()) for x, y in dataset] == expected
        assert len(dataset) == len(expected)
        for index, (x, y) in enumerate(expected):
            assert [part.tolist() for part in dataset[index]] == [x, y]

    def test_windows_do_not_overlap_unless_asked(self) -> None:
        dataset = TextDataset(counting(13), 4)
        assert [x.tolist() for x, _ in dataset] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]

    @pytest.mark.parametrize("index", [-1, 3, 100])
    def test_there_is_nothing_past_the_ends(self, index: int) -> None:
        with pytest.raises(IndexError):
            TextDataset(counting(13), 4)[index]


@st.composite
def shuffled_samplers(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """Length, seq_len, batch size, seed and stride."""
    seq_len = draw(st.integers(1, 12))
    return (
        seq_len + draw(st.integers(1, 80)),
        seq_len,
        draw(st.integers(1, 9)),
        draw(st.integers(0, 2**63 - 1)),
        draw(st.integers(1, 20)),
    )


def first_starts(sampler: WindowSampler, count: int) -> list[int]:
    batches = -(-count // sampler.batch_size)
    return [int(s) for batch in range(batches) for s in sampler.starts(batch)][:count]


class TestShuffledWindows:
    @settings(max_examples=200)
    @given(shuffled_samplers())
    def test_an_epoch_takes_every_window_once(self, shape: tuple[int, int, int, int, int]) -> None:
        length, seq_len, _, _, stride = shape
        possible = length - seq_len
        step = min(stride, possible)
        in_epoch = possible // step
        starts = first_starts(WindowSampler(*shape), 3 * in_epoch)
        for number in range(3):
            epoch = starts[number * in_epoch : (number + 1) * in_epoch]
            offset = min(epoch)
            assert 0 <= offset < step
            assert sorted(epoch) == list(range(offset, offset + in_epoch * step, step))
            assert max(epoch) + seq_len + 1 <= length

    def test_with_stride_1_every_start_comes_once_an_epoch(self) -> None:
        starts = first_starts(WindowSampler(50, 10, 8, 1, 1), 80)
        assert Counter(starts) == Counter({start: 2 for start in range(40)})

    def test_epochs_differ_in_order_and_offset(self) -> None:
        starts = first_starts(WindowSampler(1010, 10, 10, 1, 10), 500)
        epochs = [starts[i : i + 100] for i in range(0, 500, 100)]
        assert len({min(epoch) for epoch in epochs}) > 1
        orders = {tuple(np.argsort(epoch)) for epoch in epochs}
        assert len(orders) == 5
        assert all(epoch != sorted(epoch) for epoch in epochs)


class TestAllWindows:
    @given(shuffled_samplers(), st.booleans(), st.lists(st.integers(0, 500), max_size=6))
    def test_a_batch_hangs_on_its_number_alone(
        self, shape: tuple[int, int, int, int, int], is_random: bool, batches: list[int]
    ) -> None:
        length, seq_len, batch_size, seed, stride = shape
        options = (length, seq_len, batch_size, seed, None if is_random else stride)
        used = WindowSampler(*options)
        for batch in batches:
            starts = used.starts(batch)
            assert starts.shape == (batch_size,)
            assert starts.min() >= 0 and starts.max() + seq_len + 1 <= length
            assert starts.tolist() == WindowSampler(*options).starts(batch).tolist()

    @pytest.mark.parametrize("stride", [None, 7])
    def test_seeds_and_batches_differ(self, stride: int | None) -> None:
        drawn = {
            tuple(WindowSampler(10_000, 16, 12, seed, stride).starts(batch).tolist())
            for seed in (0, 1, 2**63 - 1)
            for batch in range(4)
        }
        assert len(drawn) == 12

    def test_random_starts_reach_every_place_evenly(self) -> None:
        sampler = WindowSampler(30, 10, 100, 3)
        counts = Counter(int(s) for batch in range(100) for s in sampler.starts(batch))
        assert set(counts) == set(range(20))
        # Chi-square with 19 degrees of freedom: 43.8 is passed once in a thousand.
        assert sum((count - 500) ** 2 / 500 for count in counts.values()) < 43.8

    def test_the_only_window_is_always_taken(self) -> None:
        for stride in (None, 1, 5):
            assert WindowSampler(9, 8, 4, 1, stride).starts(3).tolist() == [0] * 4


@given(st.integers(1, 10), st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_gathered_windows_are_slices(seq_len: int, starts: list[int]) -> None:
    tokens = counting(32)
    windows = gather_windows(tokens, np.array(starts), seq_len)
    assert windows.dtype == np.int64
    assert windows.tolist() == [tokens[s : s + seq_len + 1].tolist() for s in starts]
    windows[:] = 0
    assert tokens.tolist() == list(range(32))


class TestWhatIsLearned:
    TEXT = "it is the time of the year \n" * 90 + "zzzz qqqq zzzz qqqq é\n" * 26

    def source(self, tmp_path: Path) -> TextSource:
        (tmp_path / "a.txt").write_text(self.TEXT, encoding="utf-8")
        found = locate_corpus(str(tmp_path / "a.txt"))
        assert found is not None
        return found

    @pytest.mark.parametrize("kind", ["bpe", "word"])
    def test_the_validation_text_has_no_part_in_it(self, kind: str, tmp_path: Path) -> None:
        fraction = len("zzzz qqqq zzzz qqqq é\n") * 26 / len(self.TEXT)
        settings = TokenSettings(kind, val_fraction=fraction)
        tokenizer = open_tokenizer(settings, self.source(tmp_path))
        learned = tokenizer_kind(kind).from_corpus([self.TEXT[: -26 * 22]])
        assert tokenizer.fingerprint == learned.fingerprint
        contents = [tokenizer.token_bytes(token) for token in range(tokenizer.vocab_size)]
        assert any(b"time" in content for content in contents)
        assert not any(b"zz" in content or b"qq" in content for content in contents)
        if kind == "word":
            assert tokenizer.decode(tokenizer.encode(" the zzzz")) == " the <unk>"

    def test_characters_are_those_of_both_parts(self, tmp_path: Path) -> None:
        (tmp_path / "val.txt").write_text("ÿ" * 30, encoding="utf-8")
        self.source(tmp_path)
        source = locate_corpus(str(tmp_path / "a.txt"), str(tmp_path / "val.txt"))
        assert source is not None
        characters = open_tokenizer(TokenSettings(), source)
        assert isinstance(characters, CharTokenizer)
        assert characters.vocab == CharTokenizer(self.TEXT + "ÿ").vocab
        pairs = open_tokenizer(TokenSettings("bpe"), source)
        assert pairs.fingerprint == tokenizer_kind("bpe").from_corpus([self.TEXT]).fingerprint

    def test_progress_is_told_and_it_can_be_called_off(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text(
            "".join(f"{n:x} " for n in range(400_000)), encoding="utf-8"
        )
        source = locate_corpus(str(tmp_path / "a.txt"))
        assert source is not None
        told: list[str] = []
        settings = TokenSettings("bpe", 30_000)

        def report(what: str, done: int, total: int | None) -> None:
            if what.startswith("learning"):
                told.append(what)

        with pytest.raises(CancelledError):
            open_tokenizer(settings, source, report, lambda: len(told) > 2)
        assert set(told) == {"learning bpe from the training text"}
