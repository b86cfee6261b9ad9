"""The whole program with tokens that are no characters: parts of one, one, or two of them."""

import codecs
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from byte_tokenizer import ByteTokenizer, bytes_kind
from real_cli import TINY, CommandLine

from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.torch_state import load_model
from shakespeare_tui.ui.engine import scoring

__all__ = ["bytes_kind"]
pytestmark = pytest.mark.usefixtures("bytes_kind")

TEXT = "ROMÉO:\nThe moon — “ô, thou” — is out 中.\n\nJULIET:\nÊtre, my love: the rest…\n\n"
BYTES = ("--set=data.tokenizer=bytes", "--set=model.max_seq_len=32", "--max-steps=20")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "own.txt"
    path.write_text(TEXT * 60, encoding="utf-8")
    return path


@pytest.fixture
def run(corpus: Path, cli: CommandLine, runs_root: Path) -> RunFolder:
    outcome = cli("train", "--no-ui", *TINY, f"--corpus={corpus}", *BYTES, "--name=bytes")
    assert outcome.code == 0, outcome.err
    return RunFolder(runs_root / "bytes")


def as_json(cli: CommandLine, *arguments: str) -> dict[str, Any]:
    outcome = cli(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


def validation_text() -> str:
    text = TEXT * 60
    return text[int(0.9 * len(text)) :]


def test_a_run_counts_its_tokens_and_its_characters(run: RunFolder) -> None:
    started = json.loads(run.events_path.read_text(encoding="utf-8").splitlines()[0])
    tokens = ByteTokenizer().encode(TEXT * 60)
    assert (started["characters"], started["tokens"]) == (len(TEXT) * 60, len(tokens))
    assert run.info().vocab_size == ByteTokenizer().vocab_size
    val = ByteTokenizer().encode(validation_text())
    expected = len(validation_text()) / len(val)
    assert started["characters_per_token"] == pytest.approx(expected, rel=0.01)


def test_a_run_stopped_and_resumed_is_the_uninterrupted_one(
    run: RunFolder, corpus: Path, cli: CommandLine, runs_root: Path
) -> None:
    tiny = (*TINY, f"--corpus={corpus}", *BYTES)
    assert cli("train", "--no-ui", *tiny, "--max-steps=10", "--name=short").code == 0
    resumed = cli("train", "--no-ui", "--resume=short", "--set=training.max_steps=20")
    assert resumed.code == 0, resumed.err
    final = [each.checkpoint(20).info.val_loss for each in (run, RunFolder(runs_root / "short"))]
    assert final[0] == final[1]


@pytest.mark.parametrize("split", ["val", "train"])
def test_bits_per_character_are_counted_on_the_text(
    split: str, run: RunFolder, cli: CommandLine
) -> None:
    figures = as_json(cli, "eval", "bytes", f"--split={split}")
    text = TEXT * 60
    at = int(0.9 * len(text))
    part = text[at:] if split == "val" else text[:at]
    tokens = ByteTokenizer().encode(part)
    assert figures["tokens"] == pytest.approx(len(tokens) - 1, abs=1)
    bits = figures["loss"] * figures["tokens"] / math.log(2)
    assert figures["bits_per_character"] == pytest.approx(bits / len(part), rel=0.005)
    assert figures["bits_per_byte"] == pytest.approx(bits / len(part.encode()), rel=0.005)
    assert figures["bits_per_character"] != pytest.approx(figures["loss"] / math.log(2), rel=0.01)


def test_a_text_ends_behind_its_stop_text_wherever_tokens_end(
    run: RunFolder, cli: CommandLine
) -> None:
    plain = ("generate", "bytes", "--prompt=RO", "--max-tokens=60", "--temperature=1.5")
    whole = as_json(cli, *plain)["samples"][0]["text"]
    tried = 0
    for start in range(0, min(len(whole), 40) - 2, 3):
        stop = whole[start : start + 2]
        if "\N{REPLACEMENT CHARACTER}" in stop or stop != stop.strip():
            continue
        tried += 1
        for option in ((), ("--draft=lookup", "--precision=float32")):
            if option and "\N{REPLACEMENT CHARACTER}" in whole:
                continue
            ended = as_json(cli, *plain, f"--stop={stop}", *option)["samples"][0]["text"]
            assert ended.count(stop) == (1 if not option or stop in ended else 0)
            if stop in ended:
                assert ended.endswith(stop)
            if not option:
                assert whole.startswith(ended)
    assert tried >= 3


def test_what_is_printed_while_it_is_written_is_whole_characters(
    run: RunFolder, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces: list[str] = []
    monkeypatch.setattr("shakespeare_tui.cli.generate.write_text", pieces.append)
    assert cli("generate", "bytes", "--prompt=É—", "--max-tokens=300", "--greedy").code == 0
    printed = "".join(pieces[1:])
    model, tokenizer = load_model(run.checkpoint(20), torch.device("cpu"))
    assert printed.strip("\n") == as_json(
        cli, "generate", "bytes", "--prompt=É—", "--max-tokens=300", "--greedy"
    )["samples"][0]["text"].strip("\n")
    for piece in pieces:
        piece.encode()  # no half of anything


def test_score_and_compare_measure_per_character(run: RunFolder, cli: CommandLine) -> None:
    text = "ROMÉO:\nThe moon — 中"
    scored = as_json(cli, "score", "bytes", f"--text={text}")
    model, tokenizer = load_model(run.checkpoint(20), torch.device("cpu"))
    tokens = torch.tensor(tokenizer.encode(text).tolist())
    with torch.inference_mode():
        log_p = model(tokens[None, :-1])[0].double().log_softmax(-1)
    nats = -log_p.gather(1, tokens[1:, None]).sum().item()
    assert scored["mean_surprise"] == pytest.approx(nats / (len(text) - 1), rel=1e-4)
    assert cli("score", "bytes", f"--text={text}").code == 0
    compared = as_json(cli, "compare", "bytes@10", "bytes@20", "--prompt=RO", "--max-tokens=30")
    assert [column["checkpoint"] for column in compared["columns"]] == ["bytes@10", "bytes@20"]


def test_the_surprise_view_gives_each_character_its_tokens(run: RunFolder, runs_root: Path) -> None:
    text = "RÉ: thé中"
    scored = scoring.score_text("bytes", runs_root, text, 0)
    assert len(scored.nats) == len(scored.entropy) == len(scored.rank) == len(text)
    assert np.isnan(scored.nats[0]) and np.isfinite(scored.nats[1:]).all()
    found = scoring.expectation_at("bytes", runs_root, text, text.index("h"))
    assert (found.start, found.chosen) == (text.index("t"), "th")
    assert ByteTokenizer().decode(found.tokens.tolist()) == text[: found.start]
    assert found.parts and "<C3>" in found.parts and "th" not in found.parts
    behind = scoring.expectation_at("bytes", runs_root, text, len(text))
    assert (behind.start, behind.chosen) == (len(text), "")
    weights = scoring.attention_of("bytes", runs_root, text, len(text))
    assert weights.shape[2] == len(text)
    assert weights.sum(axis=2) == pytest.approx(1, abs=1e-4)


def test_a_tokenizer_says_which_sampling_suits_it(run: RunFolder, cli: CommandLine) -> None:
    def read(strategy: str) -> str:
        written = as_json(cli, "generate", "bytes", "--prompt=RO", f"--strategy={strategy}")
        return str(written["settings"]["strategy"])

    assert read("mirostat") == "mirostat=2"
    assert read("dry=9") == "dry=9,allowed=7"


def test_half_a_character_waits_for_its_other_half() -> None:
    tokenizer = ByteTokenizer()
    content = "é中…th".encode()
    expected = codecs.getincrementaldecoder("utf-8")()
    decoder = tokenizer.decoder()
    for byte in content:
        assert decoder.feed(byte) == expected.decode(bytes([byte]))
    assert decoder.feed(content[0]) == ""
    assert decoder.flush() == "\N{REPLACEMENT CHARACTER}"
