"""``eval`` of several checkpoints: the mean of their probabilities, by PyTorch's own arithmetic."""

import math

import pytest
import torch
import torch.nn.functional as F
from real_cli import TINY, CommandLine
from trained_run import evaluate, trained

from shakespeare_tui.paths import shipped_folder
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.torch_state import load_model

__all__ = ["trained"]


def log_probabilities(run: RunFolder, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every validation token but the first [N, V], each read in the model's own windows."""
    model, tokenizer = load_model(run.checkpoint(step), torch.device("cpu"))
    text = (shipped_folder("data") / "sample.txt").read_text(encoding="utf-8")
    tokens = torch.tensor(tokenizer.encode(text[int(0.9 * len(text)) :]).tolist())
    with torch.no_grad():
        found = [
            model(tokens[None, start : start + model.context][:, : len(tokens) - 1 - start])[0]
            for start in range(0, len(tokens) - 1, model.context)
        ]
    return F.log_softmax(torch.cat(found).double(), -1), tokens[1:]


def by_hand(*members: tuple[RunFolder, int]) -> tuple[float, float]:
    """Loss and accuracy of the mean probability."""
    each = [log_probabilities(run, step) for run, step in members]
    targets = each[0][1]
    mean = torch.stack([found for found, _ in each]).logsumexp(0) - math.log(len(members))
    right = (mean.argmax(-1) == targets).double().mean().item()
    return F.nll_loss(mean, targets).item(), right


def test_the_loss_is_that_of_the_mean_of_probabilities(
    cli: CommandLine, trained: RunFolder
) -> None:
    references = [f"alpha@{step}" for step in (10, 20, 30)]
    figures = evaluate(cli, *references)
    loss, accuracy = by_hand(*((trained, step) for step in (10, 20, 30)))
    assert figures["loss"] == pytest.approx(loss, rel=1e-6)
    assert figures["accuracy"] == pytest.approx(accuracy, abs=2 / figures["tokens"])
    assert figures["checkpoint"] == "alpha@10 + alpha@20 + alpha@30"
    for member, reference in zip(figures["models"], references, strict=True):
        alone = evaluate(cli, reference)
        assert member["checkpoint"] == reference
        assert member["loss"] == pytest.approx(alone["loss"], rel=1e-6)
        assert member["accuracy"] == pytest.approx(alone["accuracy"], abs=2 / alone["tokens"])
    shown = cli("eval", *references).out
    assert f"ensemble         16  {figures['loss']:.4f}" in shown
    # Each is as exact as when it is measured alone.
    assert trained.checkpoint(10).info.exact_val_loss == figures["models"][0]["loss"]


def test_members_may_differ_in_context_and_backend(
    cli: CommandLine, trained: RunFolder, runs_root: RunFolder
) -> None:
    short = [*TINY, "--max-steps=2", "--set=model.max_seq_len=7", "--backend=numpy"]
    assert cli("train", "--no-ui", *short, "--name=short").code == 0
    figures = evaluate(cli, "short@2", "alpha@30")
    other = RunFolder(trained.path.parent / "short")
    assert figures["loss"] == pytest.approx(by_hand((other, 2), (trained, 30))[0], rel=1e-5)
    assert figures["context"] is None
    assert [member["context"] for member in figures["models"]] == [7, 16]


def test_what_has_no_mean_is_refused(cli: CommandLine, trained: RunFolder) -> None:
    options = ["--no-ui", *TINY, "--max-steps=1"]
    assert cli("train", *options, "--set=data.val_fraction=0.2", "--name=fifth").code == 0
    assert cli("train", *options, "--set=data.tokenizer=bpe", "--name=pairs").code == 0
    text = trained.path.parent / "other.txt"
    text.write_text((shipped_folder("data") / "sample.txt").read_text(encoding="utf-8") + "A")
    assert cli("train", *options, f"--corpus={text}", "--name=other").code == 0
    for arguments, said in (
        (("alpha", "pairs"), "alpha@30 and pairs@1 have different tokenizers"),
        (("alpha", "other"), "trained on different texts (sample; "),
        (("alpha", "fifth"), "split sample at different places"),
        (("alpha", "alpha@30"), "alpha@30 is named twice"),
        (("alpha", "alpha@10", "--protocol=nanogpt"), "an ensemble is measured exactly"),
    ):
        outcome = cli("eval", *arguments)
        assert (outcome.code, outcome.out) == (2, ""), arguments
        assert said in outcome.err
        assert outcome.err.count("\n") == 1
