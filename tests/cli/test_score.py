"""The ``score`` command against figures worked out by hand."""

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from real_cli import TINY, CommandLine
from trained_run import trained

from shakespeare_tui.paths import shipped_folder
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.torch_state import load_model

__all__ = ["trained"]

CORPUS = (shipped_folder("data") / "sample.txt").read_text(encoding="utf-8")
TRAINING = CORPUS[: int(0.9 * len(CORPUS))]
COPY = TRAINING[1000:1100]
TEXT = f"Zounds, Jupp!\n\nJUPP:\n{COPY}zz zz zz\n"


def score(cli: CommandLine, *arguments: str) -> dict[str, Any]:
    outcome = cli("score", *arguments, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    figures: dict[str, Any] = json.loads(outcome.out)
    return figures


def by_hand(run: RunFolder, step: int, text: str) -> tuple[float, float]:
    """Mean nats and accuracy, a pass a character, windows in hops of half the context of 16."""
    model, tokenizer = load_model(run.checkpoint(step), torch.device("cpu"))
    tokens = torch.tensor(tokenizer.encode(text).tolist())
    nats, right = [], []
    with torch.no_grad():
        for place in range(1, len(tokens)):
            start = 0
            while place - start > 16:
                start += 8
            logits = model(tokens[None, start:place])[0, -1:]
            nats.append(F.cross_entropy(logits.double(), tokens[place : place + 1]).item())
            right.append(logits.argmax().item() == tokens[place].item())
    return sum(nats) / len(nats), sum(right) / len(right)


@pytest.mark.parametrize("step", [10, 30])
def test_the_figures_are_those_by_hand(step: int, cli: CommandLine, trained: RunFolder) -> None:
    figures = score(cli, f"alpha@{step}", f"--text={TEXT}")
    mean, share = by_hand(trained, step, TEXT)
    assert figures.keys() == {
        *("mean_surprise", "perplexity", "accuracy", "unknown_share"),
        *("memorisation", "measures"),
    }
    assert figures["mean_surprise"] == pytest.approx(mean, rel=1e-5)
    assert figures["perplexity"] == pytest.approx(math.exp(mean), rel=1e-4)
    assert figures["accuracy"] == pytest.approx(share)
    memorisation = figures["memorisation"]
    assert memorisation.keys() == {"longest", "share", "passages"}
    (passage,) = memorisation["passages"]
    # What stands around the copy may go on as in the corpus.
    copied = TEXT[passage["start"] : passage["end"]]
    assert COPY in copied
    assert memorisation["longest"] == len(copied)
    assert memorisation["share"] == pytest.approx(len(copied) / len(TEXT))
    assert passage["source_line"] == TRAINING[: TRAINING.index(copied)].count("\n") + 1
    assert figures["measures"]["memorisation"] == memorisation
    assert figures["measures"]["mean_surprise"] == figures["mean_surprise"]
    assert figures["measures"]["known_speaker_share"] == 1
    assert figures["measures"]["longest_loop"] >= len("zz zz zz")


def test_a_file_stdin_and_the_text_itself_are_the_same(
    cli: CommandLine, trained: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8", newline="")
    figures = score(cli, "alpha", f"--text={TEXT}")
    assert score(cli, "alpha", f"--file={tmp_path / 'text.txt'}") == figures
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert score(cli, "alpha", "--file=-") == figures


def test_as_text(cli: CommandLine, trained: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = cli("score", "alpha", f"--text={TEXT}")
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 80
    figures = score(cli, "alpha", f"--text={TEXT}")
    (passage,) = figures["memorisation"]["passages"]
    assert f"mean surprise   {figures['mean_surprise']:.4f} nats per character" in lines
    assert f"perplexity      {figures['perplexity']:.4f}" in lines
    assert f"accuracy        {figures['accuracy']:.1%}" in lines
    table = {line[:16].strip(): line[16:24].strip() for line in lines[5:15]}
    assert table["longest copy"] == str(figures["memorisation"]["longest"])
    assert table["known speakers"] == "100.0%"
    place = f"{passage['start']} to {passage['end']}"
    assert any(place in line and f"line {passage['source_line']} " in line for line in lines)
    at = next(i for i, line in enumerate(lines) if line.startswith("most surprising"))
    nats = [float(line.split()[0]) for line in lines[at + 1 :]]
    assert nats == sorted(nats, reverse=True)
    assert len(nats) == 5


def test_without_the_corpus_the_rest_is_measured(cli: CommandLine, tmp_path: Path) -> None:
    corpus = tmp_path / "mine.txt"
    corpus.write_text("To be, or not to be: that is all. " * 40)
    cli("train", "--no-ui", *TINY, f"--corpus={corpus}", "--max-steps=2", "--name=mine")
    assert score(cli, "mine", "--text=or not to be: that is all")["memorisation"]["share"] == 1
    for spoil in (lambda: corpus.write_text("that is all"), corpus.unlink):
        spoil()
        outcome = cli("score", "mine", "--text=or not to be: that is all", "--json")
        assert outcome.code == 0
        assert outcome.err.startswith("copies are not looked for: ")
        assert outcome.err.count("\n") == 1
        figures = json.loads(outcome.out)
        assert figures["memorisation"] is None
        assert figures["mean_surprise"] > 0
        assert figures["measures"]["distinct_1"] == 1
        assert cli("score", "mine", "--text=not all").code == 0


def test_a_checkpoint_without_finite_weights_is_refused(
    cli: CommandLine, trained: RunFolder
) -> None:
    from safetensors.torch import load_file, save_file

    path = trained.checkpoint(30).weights_path
    tensors = {name: torch.full_like(t, math.nan) for name, t in load_file(path).items()}
    save_file(tensors, path)
    outcome = cli("score", "alpha@30", "--text=To be")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "use another checkpoint" in outcome.err
