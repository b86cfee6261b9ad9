"""Tokenizers of pretrained models behind the program's protocol."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.data.tokenizers.hugging_face import HuggingFaceTokenizer, whole_words
from shakespeare_tui.data.tokenizers.tokenizer import load_tokenizer
from shakespeare_tui.errors import UserError
from shakespeare_tui.paths import shipped_folder

PLAY = (shipped_folder("data") / "sample.txt").read_text(encoding="utf-8")


def byte_level(regex: str | None = None) -> Any:
    """A tokenizer as GPT-2's, or one that splits words by a pattern as Llama 3's."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    before = tokenizers.pre_tokenizers
    backend.pre_tokenizer = before.ByteLevel(add_prefix_space=False, use_regex=regex is None)
    if regex is not None:
        split = before.Split(tokenizers.Regex(regex), "isolated")
        backend.pre_tokenizer = before.Sequence([split, backend.pre_tokenizer])
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=before.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([PLAY], trainer)
    return backend


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BACKENDS = [byte_level(), byte_level(LLAMA3)]
OURS = [HuggingFaceTokenizer(json.loads(backend.to_str())) for backend in BACKENDS]
WORDS = st.sampled_from(
    ["a", "It", "'s", " ", "  ", "\n", "\n\n", "\r\n", ".", "_", "1234", "é…", "👋"]
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([0, 1]), st.lists(WORDS | st.text(max_size=3), max_size=20))
def test_ids_and_text_are_those_of_the_package(which: int, words: list[str]) -> None:
    text, ours = "".join(words), OURS[which]
    ids = ours.encode(text)
    assert ids.tolist() == BACKENDS[which].encode(text).ids
    assert ours.decode(ids.tolist()) == text
    assert b"".join(map(ours.token_bytes, ids.tolist())) == text.encode()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([0, 1]), st.lists(WORDS, max_size=30), st.integers(1, 9), st.integers(1, 9))
def test_between_words_a_text_may_be_cut(
    which: int, words: list[str], size: int, least: int
) -> None:
    text = "".join(words)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    cut = list(whole_words(pieces, least))
    assert "".join(cut) == text
    ids = [token for piece in cut for token in OURS[which].encode(piece).tolist()]
    assert ids == OURS[which].encode(text).tolist()


@pytest.mark.parametrize("which", [0, 1])
def test_a_stream_gives_the_ids_of_the_whole(which: int) -> None:
    text = PLAY * 8
    pieces = [text[start : start + 70_001] for start in range(0, len(text), 70_001)]
    parts = list(OURS[which].encode_stream(pieces))
    assert np.concatenate(parts).tolist() == OURS[which].encode(text).tolist()


def test_where_words_are_not_split_nothing_is_cut() -> None:
    backend = byte_level()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    ours = HuggingFaceTokenizer(json.loads(backend.to_str()))
    pieces = ["so it", " is ", PLAY * 4]
    (ids,) = ours.encode_stream(pieces)
    assert ids.tolist() == backend.encode("".join(pieces)).ids


def test_a_special_token_is_one_token_and_its_text() -> None:
    ids = OURS[0].encode("so<|endoftext|>it").tolist()
    assert OURS[0].decode(ids) == "so<|endoftext|>it"
    assert OURS[0].token_bytes(ids[1] if len(ids) == 3 else 0) == b"<|endoftext|>"


def test_sentencepiece_bytes_and_spaces() -> None:
    vocab = {"<unk>": 0, "<0x0A>": 1, "<0xE2>": 2, "▁": 3, "a": 4, "▁a": 5}
    backend = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab, [("▁", "a")], unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = tokenizers.normalizers.Replace(" ", "▁")
    backend.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback()]
    )
    ours = HuggingFaceTokenizer(json.loads(backend.to_str()))
    assert [ours.token_bytes(token) for token in (1, 2, 3, 5)] == [b"\n", b"\xe2", b" ", b" a"]
    ids = [part.tolist() for part in ours.encode_stream([" a", "\n a"])]
    assert ids == [[5, 1, 5]] and ours.decode(ids[0]) == " a\n a"


def test_saved_it_opens_here_and_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    ours = OURS[0].padded(OURS[0].vocab_size + 3)
    ours.save(path)
    again = load_tokenizer(path)
    assert again.fingerprint == ours.fingerprint and again.vocab_size == OURS[0].vocab_size + 3
    elsewhere = tokenizers.Tokenizer.from_file(str(path))
    assert elsewhere.get_vocab_size() == again.vocab_size
    assert elsewhere.encode(PLAY[:500]).ids == again.encode(PLAY[:500]).tolist()


@pytest.mark.parametrize("rows", [10, 399, 600, 50_000])
def test_one_that_does_not_fit_the_weights_is_refused(rows: int) -> None:
    with pytest.raises(UserError, match="does not fit the weights: it has 400 tokens"):
        OURS[0].padded(rows)


def test_what_is_no_tokenizer_is_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text('{"model": {"type": "BPE", "vocab": 3}}')
    with pytest.raises(UserError, match="is damaged") as refusal:
        load_tokenizer(path)
    assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="no UTF-8"):
        OURS[0].encode("\ud800")
    with pytest.raises(UserError, match="imported"):
        HuggingFaceTokenizer.from_corpus(["text"])
    with pytest.raises(UserError, match="below the vocabulary size"):
        OURS[0].token_bytes(400)


def sentence_pieces(*, prefix: bool) -> Any:
    """Pieces of words with ▁ for the space before them, as Llama's."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, fuse_unk=True))
    before = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.pre_tokenizer = before
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    backend.train_from_iterator(PLAY.split("\n"), trainer)
    backend.pre_tokenizer = None
    steps = [tokenizers.normalizers.Prepend("▁")] if prefix else []
    backend.normalizer = tokenizers.normalizers.Sequence(
        [*steps, tokenizers.normalizers.Replace(" ", "▁")]
    )
    backend.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback()]
    )
    record = json.loads(backend.to_str())
    del record["added_tokens"][1:]  # bytes are plain tokens
    return tokenizers.Tokenizer.from_str(json.dumps(record))


@pytest.mark.parametrize("prefix", [True, False])
def test_only_the_beginning_of_a_text_gets_a_space(prefix: bool) -> None:
    """However it is cut into pieces, and into parts that are encoded by themselves."""
    backend = sentence_pieces(prefix=prefix)
    ours, text = HuggingFaceTokenizer(json.loads(backend.to_str())), PLAY * 8
    pieces = [text[start : start + 70_001] for start in range(0, len(text), 70_001)]
    parts = list(ours.encode_stream(pieces))
    assert len(parts) > 1
    whole = backend.encode(text).ids
    assert np.concatenate(parts).tolist() == whole
    assert ours.decode(whole) == " " * prefix + text
    cut = text.index(" ", len(text) // 2)
    halves = (
        ids
        for start, piece in ((0, text[:cut]), (cut, text[cut:]))
        for ids in ours.encode_stream([piece], is_beginning=not start)
    )
    assert np.concatenate(list(halves)).tolist() == whole
