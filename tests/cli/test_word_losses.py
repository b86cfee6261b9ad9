"""Losses of a run whose tokens are words."""

import json
import math
from pathlib import Path

import pytest
from real_cli import TINY, CommandLine

from shakespeare_tui.runs.folder import RunFolder

LINES = "the king is dead , long live the king .\nwho is there ? the queen and the king .\n"
WORDS = ("--set=data.tokenizer=word", "--set=model.max_seq_len=16", "--max-steps=3")


def train(cli: CommandLine, folder: Path, ending: str) -> str:
    corpus = folder / "own.txt"
    corpus.write_text(LINES * 60 + ending)
    outcome = cli("train", "--no-ui", *TINY, f"--corpus={corpus}", *WORDS, "--name=words")
    assert outcome.code == 0, outcome.err
    return outcome.out


@pytest.mark.parametrize("split", ["val", "train"])
def test_they_are_by_word_and_by_byte_where_every_word_is_known(
    split: str, cli: CommandLine, tmp_path: Path, runs_root: Path
) -> None:
    shown = train(cli, tmp_path, "")
    assert "nats per word, exact" in shown
    assert "bits/byte" in shown
    text = LINES * 60
    at = int(0.9 * len(text))
    part = text[at:] if split == "val" else text[:at]
    figures = json.loads(cli("eval", "words", f"--split={split}", "--json").out)
    assert figures["unit"] == "nats per word"
    bits = figures["loss"] * figures["tokens"] / math.log(2)
    assert figures["bits_per_byte"] == pytest.approx(bits / len(part), rel=0.01)
    tokens = len(LINES.split()) + len(LINES.splitlines())
    size = RunFolder(runs_root / "words").info().bytes_per_token
    assert size == pytest.approx(len(LINES) / tokens, rel=0.05)
    assert "loss/word" in cli("runs").out


def test_they_are_not_by_byte_where_a_word_is_not_known(
    cli: CommandLine, tmp_path: Path, runs_root: Path
) -> None:
    shown = train(cli, tmp_path, "and flights of angels sing thee to thy rest !\n")
    assert "nats per word" in shown
    assert "bits/" not in shown
    assert RunFolder(runs_root / "words").info().bytes_per_token is None
    outcome = cli("eval", "words", "--json")
    figures = json.loads(outcome.out)
    assert (figures["bits_per_byte"], figures["bits_per_character"]) == (None, None)
    assert "words that the vocabulary has not" in outcome.err
    known = json.loads(cli("eval", "words", "--split=train", "--json").out)
    assert known["bits_per_byte"] > 0
    said = json.loads(cli("score", "words", "--text= the king is dead", "--json").out)
    assert said["unknown_share"] == 0
    assert said["mean_surprise"] > 0
    outcome = cli("score", "words", "--text= the knave is dead")
    assert "25.0% of the tokens" in outcome.out
    assert "words that the vocabulary has not" in outcome.err
    assert "nats per word" in outcome.out
    assert "nats per character" not in outcome.out
    unsaid = json.loads(cli("score", "words", "--text= the knave is dead", "--json").out)
    assert (unsaid["mean_surprise"], unsaid["perplexity"]) == (None, None)
    # It is what stood for the word that surprises, at the word's own place.
    assert "the [ <unk>] is dead" in " ".join(outcome.out.split())
