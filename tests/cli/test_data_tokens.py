"""``data tokens``: what a tokenizer makes of a corpus."""

import json
from pathlib import Path

import pytest
from real_cli import CommandLine

from shakespeare_tui.data.tokenizers.byte_pair import BytePairTokenizer

PLAY = "ANNA:\nGood morrow, Ben.\n\nBEN:\nGood morrow, [b]Anna[/b]. It rains. 9 é 中\n\n" * 40


@pytest.fixture
def play(tmp_path: Path) -> Path:
    path = tmp_path / "play.txt"
    path.write_text(PLAY, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["char", "bpe", "word"])
def test_figures_are_those_of_the_tokens(kind: str, play: Path, cli: CommandLine) -> None:
    outcome = cli("data", "tokens", str(play), "--tokenizer", kind, "--json")
    found = json.loads(outcome.out)
    assert outcome.code == 0
    assert found["bytes"] == len(PLAY.encode())
    assert found["bytes_per_token"] == pytest.approx(found["bytes"] / found["tokens"])
    assert found["used"] <= found["vocab_size"] <= 512
    if kind == "char":
        assert (found["tokens"], found["vocab_size"]) == (len(PLAY), len(set(PLAY)))
    if kind == "word":
        assert found["commonest"][0]["text"] == "\n"
    lengths = [token["bytes"] for token in found["longest"]]
    counts = [token["count"] for token in found["commonest"]]
    assert lengths == sorted(lengths, reverse=True)
    assert counts == sorted(counts, reverse=True)


def test_a_file_and_a_vocabulary_of_ones_own(play: Path, cli: CommandLine, tmp_path: Path) -> None:
    learned_from = PLAY[: int(0.9 * len(PLAY))]  # the rest is for validation
    tokenizer = BytePairTokenizer.from_corpus([learned_from], 300)
    tokenizer.save(tmp_path / "tokenizer.json")
    by_file = json.loads(cli("data", "tokens", str(play), f"--tokenizer={tmp_path}", "--json").out)
    learned = json.loads(cli("data", "tokens", str(play), "--vocab-size=300", "--json").out)
    assert by_file["tokens"] == learned["tokens"] == len(tokenizer.encode(PLAY))
    text = cli("data", "tokens", str(play), "--vocab-size=300").out
    assert "bytes per token" in text
    assert "commonest tokens" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tokenizer=nope"], "no tokenizer is called 'nope': give one of char, bpe"),
        (["--vocab-size=200"], "data.vocab_size must be at least 257"),
        (["--tokenizer=huggingface"], "comes with a pretrained model"),
    ],
)
def test_what_is_wrong_is_one_line(
    options: list[str], words: str, play: Path, cli: CommandLine
) -> None:
    outcome = cli("data", "tokens", str(play), *options)
    assert outcome.code == 2
    assert words in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_a_text_that_is_no_utf8_and_a_damaged_tokenizer(cli: CommandLine, tmp_path: Path) -> None:
    text, tokenizer = tmp_path / "text.txt", tmp_path / "tokenizer.json"
    text.write_bytes(b"so \xff\xfe\n" * 99)
    outcome = cli("data", "tokens", str(text))
    assert outcome.code == 2
    assert len(outcome.err.strip().splitlines()) == 1
    text.write_bytes(b"so it is\n" * 99)
    tokenizer.write_text('{"model": {}}')
    outcome = cli("data", "tokens", str(text), f"--tokenizer={tokenizer}")
    assert outcome.code == 2
    assert "is damaged" in outcome.err
