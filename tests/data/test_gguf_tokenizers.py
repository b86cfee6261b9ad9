"""Tokenizers inside GGUF files, against the rule in plain loops and against ``transformers``."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.data.tokenizers.file import tokenizer_file
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
from shakespeare_tui.errors import UserError
from shakespeare_tui.paths import shipped_folder

gguf = pytest.importorskip("gguf")
PLAY = (shipped_folder("data") / "sample.txt").read_text(encoding="utf-8")
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def write(path: Path, kind: str, **extra: Any) -> list[str]:
    """A file with a vocabulary of pieces, in the order they were learned in, and no weights."""
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=600, show_progress=False)
    backend.train_from_iterator(PLAY.split("\n"), trainer)
    vocab = backend.get_vocab()
    pieces = sorted(vocab, key=lambda piece: vocab[piece])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens = [*special, *pieces]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(pieces)]
    scores = [0.0] * len(special) + [-float(number) for number in range(len(pieces))]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(kind)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_scores(extra.get("scores", scores))
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tokens


def by_the_rule(text: str, tokens: list[str]) -> list[int]:
    """SentencePiece's ids: the pair that makes the first piece of the file is joined, leftmost."""
    ids = {token: number for number, token in enumerate(tokens)}
    symbols = list("\u2581" + text.replace(" ", "\u2581"))
    while True:
        ranked = [
            (ids[first + second], place)
            for place, (first, second) in enumerate(zip(symbols, symbols[1:], strict=False))
            if first + second in ids
        ]
        if not ranked:
            break
        _, place = min(ranked)
        symbols[place : place + 2] = ["".join(symbols[place : place + 2])]
    pieces = [
        [symbol] if symbol in ids else [f"<0x{byte:02X}>" for byte in symbol.encode()]
        for symbol in symbols
    ]
    return [ids[piece] for several in pieces for piece in several]


TEXTS = st.lists(
    st.sampled_from(["the", "sea", " ", "  ", "\n", "Fisher:", "é", "中", "👋", ",", "aaa"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    max_size=20,
).map("".join)


@pytest.fixture(scope="module")
def of_the_rule(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, list[str]]:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    tokens = write(path, "llama")
    return tokenizer_file(str(path)), tokens


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_sentence_pieces_are_those_of_the_rule(
    of_the_rule: tuple[Tokenizer, list[str]], text: str
) -> None:
    ours, tokens = of_the_rule
    ids = ours.encode(text).tolist()
    assert ids == (by_the_rule(text, tokens) if text else [])
    assert ours.decode(ids) == (" " + text if text else "")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    theirs = pytest.importorskip("transformers.integrations.gguf")
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write(path, "llama")
    architecture, record, _ = theirs.get_gguf_tokenizer(str(path))
    backend, _ = theirs.convert_gguf_tokenizer(architecture, record)
    return tokenizer_file(str(path)), backend


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_sentence_pieces_are_those_of_transformers(pair: tuple[Tokenizer, Any], text: str) -> None:
    text = "x" + text  # before a first space transformers puts none, SentencePiece does
    ours, theirs = pair
    ids = ours.encode(text).tolist()
    assert ids == theirs.encode(text, add_special_tokens=False).ids
    assert ours.decode(ids) == " " + text


@pytest.mark.slow
def test_a_long_text_is_that_of_transformers(pair: tuple[Tokenizer, Any]) -> None:
    ours, theirs = pair
    text = PLAY * 6
    parts = list(ours.encode_stream([text]))
    assert len(parts) > 1
    assert np.concatenate(parts).tolist() == theirs.encode(text, add_special_tokens=False).ids


def test_what_cannot_be_read_exactly_is_refused_in_a_line(tmp_path: Path) -> None:
    write(tmp_path / "t5.gguf", "t5")
    with pytest.raises(UserError, match="kind 't5', which cannot be read exactly; give") as refusal:
        tokenizer_file(str(tmp_path / "t5.gguf"))
    assert "\n" not in str(refusal.value)
    write(tmp_path / "short.gguf", "llama", scores=[0.0, 1.0])
    with pytest.raises(UserError, match="damaged"):
        tokenizer_file(str(tmp_path / "short.gguf"))
    content = (tmp_path / "t5.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cut short"):
        tokenizer_file(str(tmp_path / "cut.gguf"))
    with pytest.raises(UserError, match="is no file; a tokenizer is char, bpe"):
        tokenizer_file(str(tmp_path / "none.gguf"))
    (tmp_path / "other.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="holds no tokenizer"):
        tokenizer_file(str(tmp_path / "other.json"))
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        tokenizer_file(str(tmp_path))
