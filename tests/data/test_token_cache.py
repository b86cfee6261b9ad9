"""The encoded corpus on disk: against the tokenizer's own ids, damaged, cut short and pruned."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shakespeare_tui.data.source import TextSource, locate_corpus
from shakespeare_tui.data.tokenizers.tokenizer import (
    CharTokenizer,
    TokenArray,
    UnknownCharacterError,
)
from shakespeare_tui.data.tokens import (
    TokenSettings,
    open_tokenizer,
    split_tokens,
    tokenize_corpus,
)
from shakespeare_tui.errors import CancelledError

MEGABYTE = 1 << 20


def corpus(folder: Path, text: str, name: str = "corpus.txt") -> TextSource:
    path = folder / name
    path.write_bytes(text.encode())
    source = locate_corpus(str(path))
    assert source is not None
    return source


class TestTokenizingACorpus:
    def test_ids_are_the_tokenizers_own_in_the_smallest_type(self, tmp_path: Path) -> None:
        text = "ROMEO:\nWhat’s in a name? 中\r\n"
        source = corpus(tmp_path, text)
        tokenizer = open_tokenizer(TokenSettings(), source)
        assert source.survey().characters == len(text)
        assert isinstance(tokenizer, CharTokenizer)
        assert tokenizer.vocab == CharTokenizer(text).vocab
        tokens = tokenize_corpus(source, tokenizer, tmp_path / "cache")
        assert tokens.tolist() == tokenizer.encode(text).tolist()
        assert tokens.dtype == np.uint8

    def test_many_characters_take_two_bytes(self, tmp_path: Path) -> None:
        text = "".join(chr(0x4E00 + i) for i in range(300)) * 2
        source = corpus(tmp_path, text)
        tokenizer = open_tokenizer(TokenSettings(), source)
        tokens = tokenize_corpus(source, tokenizer, tmp_path / "cache")
        assert tokens.dtype == np.uint16
        assert tokens.tolist() == list(range(300)) * 2

    @pytest.mark.parametrize("most_in_memory", [0, MEGABYTE])
    def test_tokens_cannot_be_written_and_splits_are_views(
        self, most_in_memory: int, tmp_path: Path
    ) -> None:
        source, tokenizer = corpus(tmp_path, "some text"), CharTokenizer("some text")
        tokens = tokenize_corpus(
            source, tokenizer, tmp_path / "cache", most_in_memory=most_in_memory
        )
        assert tokens.tolist() == tokenizer.encode("some text").tolist()
        assert isinstance(tokens, np.memmap) == (most_in_memory == 0)
        with pytest.raises(ValueError, match="read-only"):
            tokens[0] = 1
        train, val = split_tokens(tokens, 0.3, 2)
        assert np.shares_memory(train, tokens) and np.shares_memory(val, tokens)

    def test_second_time_reads_what_the_first_wrote(self, tmp_path: Path) -> None:
        source, tokenizer = corpus(tmp_path, "abcabc"), CharTokenizer("abc")
        cache = tmp_path / "cache"
        first = tokenize_corpus(source, tokenizer, cache)
        (path,) = cache.iterdir()
        stamp = path.stat().st_mtime_ns
        again = tokenize_corpus(source, tokenizer, cache)
        assert again.tolist() == first.tolist()
        assert list(cache.iterdir()) == [path] and path.stat().st_mtime_ns == stamp

    def test_a_changed_text_or_tokenizer_is_encoded_anew(self, tmp_path: Path) -> None:
        cache = tmp_path / "cache"
        one = tokenize_corpus(corpus(tmp_path, "abcabc"), CharTokenizer("abc"), cache)
        two = tokenize_corpus(corpus(tmp_path, "cbacba"), CharTokenizer("abc"), cache)
        three = tokenize_corpus(corpus(tmp_path, "cbacba"), CharTokenizer("abcABC"), cache)
        assert one.tolist() == [0, 1, 2, 0, 1, 2]
        assert two.tolist() == [2, 1, 0, 2, 1, 0]
        assert three.tolist() == [5, 4, 3, 5, 4, 3]

    @pytest.mark.parametrize(
        "content", [b"", b"\0", b"\0\1\2\0\1", bytes(6), b"\xff" * 6, bytes(7)]
    )
    def test_a_damaged_cache_is_mended(self, content: bytes, tmp_path: Path) -> None:
        source, tokenizer, cache = corpus(tmp_path, "abcabc"), CharTokenizer("abc"), tmp_path / "c"
        tokenize_corpus(source, tokenizer, cache)
        (path,) = cache.iterdir()
        path.write_bytes(content)
        assert tokenize_corpus(source, tokenizer, cache).tolist() == [0, 1, 2, 0, 1, 2]
        assert [path.read_bytes() for path in cache.iterdir()] == [b"\0\1\2\0\1\2"]

    @pytest.mark.parametrize("most_in_memory", [0, MEGABYTE])
    @pytest.mark.parametrize("change", [b"", b"\xff" * 6000])
    def test_what_happens_to_the_file_later_does_not_reach_a_run(
        self, change: bytes, most_in_memory: int, tmp_path: Path
    ) -> None:
        text = "abc" * 2000
        source, tokenizer, cache = corpus(tmp_path, text), CharTokenizer("abc"), tmp_path / "c"
        tokens = tokenize_corpus(source, tokenizer, cache, most_in_memory=most_in_memory)
        (path,) = cache.iterdir()
        path.write_bytes(change)  # the same inode: a shared mapping would see it, or end here
        assert tokens.tolist() == tokenizer.encode(text).tolist()

    def test_processes_that_encode_at_the_same_time_do_not_meet(self, tmp_path: Path) -> None:
        text = "abc" * 2000
        source, tokenizer = corpus(tmp_path, text), CharTokenizer("abc")

        def encode(number: int) -> TokenArray:
            return tokenize_corpus(source, tokenizer, tmp_path / f"cache{number // 8}")

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(encode, range(80)))
        assert all(result.tolist() == tokenizer.encode(text).tolist() for result in results)
        assert len(list(tmp_path.glob("cache*/*"))) == 10

    def test_progress_ends_at_the_size_in_bytes(self, tmp_path: Path) -> None:
        text = "aé中🎭\n" * 150_000
        source = corpus(tmp_path, text)
        tokenizer = open_tokenizer(TokenSettings(), source)
        reports: list[tuple[int, int | None]] = []
        tokens = tokenize_corpus(
            source, tokenizer, tmp_path / "cache", lambda done, total: reports.append((done, total))
        )
        assert len(tokens) == len(text)
        assert len(reports) > 1
        assert reports == sorted(reports)
        assert reports[-1] == (len(text.encode()), len(text.encode()))

    def test_a_file_and_its_pieces_are_one_text(self, tmp_path: Path) -> None:
        folder = tmp_path / "plays"
        folder.mkdir()
        corpus(folder, "first\n", "a.txt")
        corpus(folder, "second\n", "b.txt")
        source = locate_corpus(str(folder))
        assert source is not None
        tokenizer = open_tokenizer(TokenSettings(), source)
        tokens = tokenize_corpus(source, tokenizer, tmp_path / "cache")
        assert tokenizer.decode(tokens) == "first\nsecond\n"

    def test_stopping_leaves_nothing_behind(self, tmp_path: Path) -> None:
        source = corpus(tmp_path, "ab" * MEGABYTE)
        polls = iter([False, True])
        with pytest.raises(CancelledError):
            tokenize_corpus(
                source, CharTokenizer("ab"), tmp_path / "cache", cancelled=lambda: next(polls)
            )
        assert list((tmp_path / "cache").iterdir()) == []

    @pytest.mark.parametrize("before", [3, MEGABYTE - 1, MEGABYTE, 2 * MEGABYTE + 17])
    def test_an_unknown_character_is_named_with_its_place_in_the_corpus(
        self, tmp_path: Path, before: int
    ) -> None:
        source = corpus(tmp_path, "a" * before + "ß" + "a" * 5)
        with pytest.raises(UnknownCharacterError) as caught:
            tokenize_corpus(source, CharTokenizer("a"), tmp_path / "cache")
        assert (caught.value.character, caught.value.position) == ("ß", before)
        assert f"U+00DF) at position {before} " in str(caught.value)
        assert list((tmp_path / "cache").iterdir()) == []

    @pytest.mark.parametrize("polls", [1, 2])
    def test_opening_can_be_cancelled(self, polls: int, tmp_path: Path) -> None:
        source, tokenizer = corpus(tmp_path, "ab" * 4 * MEGABYTE), CharTokenizer("ab")
        tokenize_corpus(source, tokenizer, tmp_path / "cache")
        answers = iter([False] * (polls - 1) + [True])
        with pytest.raises(CancelledError):
            tokenize_corpus(source, tokenizer, tmp_path / "cache", cancelled=lambda: next(answers))


class TestPruning:
    def encode(self, tmp_path: Path, text: str, most_bytes: int) -> TokenArray:
        source = corpus(tmp_path, text)
        return tokenize_corpus(
            source, CharTokenizer("abc"), tmp_path / "cache", most_bytes=most_bytes
        )

    def kept(self, tmp_path: Path) -> set[int]:
        """Sizes of what is left: each text here has one of its own."""
        return {path.stat().st_size for path in (tmp_path / "cache").iterdir()}

    def test_what_was_not_used_for_longest_goes_first(self, tmp_path: Path) -> None:
        for length in (100, 200, 300):
            self.encode(tmp_path, "abc" * length, 10_000)
        self.encode(tmp_path, "abc" * 100, 10_000)  # used again
        assert self.kept(tmp_path) == {300, 600, 900}
        self.encode(tmp_path, "abc" * 50, 1_400)
        assert self.kept(tmp_path) == {150, 300, 900}

    def test_the_corpus_in_use_stays_whatever_its_size(self, tmp_path: Path) -> None:
        self.encode(tmp_path, "abc", 10)
        assert self.encode(tmp_path, "abc" * 50, 10).tolist() == [0, 1, 2] * 50
        assert self.kept(tmp_path) == {150}

    def test_orphans_of_crashes_and_files_of_older_versions_go(self, tmp_path: Path) -> None:
        cache = tmp_path / "cache"
        self.encode(tmp_path, "abcabc", 1_000)
        identity = next(cache.iterdir()).name[:32]
        older = [cache / f"{identity}-6.uint8", cache / f"..{identity}.0123.abc"]
        at_work = cache / f"..{identity}.4567.def"
        for path in (*older, at_work):
            path.write_bytes(bytes(6))
        long_ago = time.time() - 7200
        os.utime(older[1], (long_ago, long_ago))
        self.encode(tmp_path, "abcabc", 1_000)
        assert at_work.exists() and not any(path.exists() for path in older)
