"""``generate --draft``: proposals change the speed, never what may be written."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from real_cli import TINY, CommandLine
from trained_run import fingerprints, trained

from shakespeare_tui.cli.speed import is_clearly_slower
from shakespeare_tui.runs.folder import RunFolder

__all__ = ["trained"]
pytestmark = pytest.mark.usefixtures("trained")


def generate(cli: CommandLine, *arguments: str) -> dict[str, Any]:
    outcome = cli("generate", "alpha", "--prompt=ROMEO:", "--max-tokens=50", "--json", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    result: dict[str, Any] = json.loads(outcome.out)
    return result


@pytest.mark.parametrize("draft", ["alpha@10", "lookup"])
def test_greedy_is_what_the_model_writes_alone(draft: str, cli: CommandLine) -> None:
    alone, drafted = generate(cli, "--greedy"), generate(cli, "--greedy", f"--draft={draft}")
    assert drafted["samples"] == alone["samples"]
    assert drafted["settings"] == {**alone["settings"], "draft": draft}


@pytest.mark.parametrize("draft", ["alpha@10", "lookup"])
def test_one_seed_one_text_streamed_or_not(draft: str, cli: CommandLine) -> None:
    option = f"--draft={draft}"
    drafted = generate(cli, option, "--seed=3")
    assert len(drafted["samples"][0]["text"]) == 50
    assert generate(cli, option, "--seed=3")["samples"] == drafted["samples"]
    assert generate(cli, option, "--seed=4")["samples"] != drafted["samples"]
    outcome = cli("generate", "alpha", "--prompt=ROMEO:", "--max-tokens=50", option, "--seed=3")
    assert outcome.out == f"ROMEO:{drafted['samples'][0]['text']}\n"
    stop = drafted["samples"][0]["text"][20:22]
    (ended,) = generate(cli, option, "--seed=3", f"--stop={stop}")["samples"]
    assert ended["text"].index(stop) == len(ended["text"]) - 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--draft=beta",), ("'beta'", "runs here")),
        (("--draft=foreign",), ("foreign@2", "same corpus")),
        (("--draft=lookup", "--num-samples=2"), ("--draft", "leave out --num-samples")),
        (("--draft=lookup", "--sweep=top_k=1:2:1"), ("leave out --sweep",)),
        (("--draft=lookup", "--batch=x", "--output=y"), ("leave out --batch",)),
        (("--draft=lookup", "--no-cache"), ("leave out --no-cache",)),
        (("--draft=lookup", "--strategy=beam=4"), ("beam=4",)),
    ],
)
def test_wrong_input(
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    cli: CommandLine,
    trained: RunFolder,
    tmp_path: Path,
) -> None:
    if "--draft=foreign" in arguments:
        (tmp_path / "abc.txt").write_text("abc abd " * 100)
        corpus = f"--corpus={tmp_path / 'abc.txt'}"
        cli("train", "--no-ui", *TINY, corpus, "--max-steps=2", "--name=foreign")
    before = fingerprints(tmp_path)
    outcome = cli("generate", "alpha", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err
    assert fingerprints(tmp_path) == before


def test_a_model_that_drafts_for_itself_is_always_right(cli: CommandLine) -> None:
    drafted = generate(cli, "--greedy", "--draft=alpha@best")
    assert drafted["draft_acceptance"] == 1.0
    outcome = cli(
        "generate", "alpha@best", "--prompt=ROMEO:", "--max-tokens=50", "--greedy",
        "--draft=alpha@best",
    )  # fmt: skip
    assert "100% of " in outcome.err and " proposed tokens were accepted" in outcome.err


def test_chance_accepts_a_share(cli: CommandLine) -> None:
    assert 0 < generate(cli, "--draft=alpha@10")["draft_acceptance"] < 1
    assert "draft_acceptance" not in generate(cli)


@pytest.mark.parametrize(
    "options", [("--draft=alpha@10",), ("--precision=int8",), ("--precision=bfloat16",)]
)
def test_what_an_option_costs_is_measured(options: tuple[str, ...], cli: CommandLine) -> None:
    figures = generate(cli, *options)
    assert figures["steady_tokens_per_second"] > 0
    assert figures["default_tokens_per_second"] > 0
    assert "default_tokens_per_second" not in generate(cli)


def test_what_does_not_pay_is_said_with_both_figures(cli: CommandLine) -> None:
    """The draft computes a hundred times what the model does: it can only be slower."""
    large = ("--set=model.d_model=128", "--set=model.n_layers=4", "--set=model.d_ff=512")
    assert cli("train", "--no-ui", *TINY, *large, "--max-steps=1", "--name=large").code == 0
    outcome = cli("generate", "alpha", "--prompt=ROMEO:", "--max-tokens=90", "--draft=large")
    said = re.search(
        r"--draft large does not pay on this model: ([\d,]+) tokens/s, ([\d,]+) without it",
        outcome.err,
    )
    assert said
    slow, fast = (int(number.replace(",", "")) for number in said.groups())
    assert slow < fast


@pytest.mark.parametrize(
    ("found", "default", "expected"),
    [(289.0, 3107.0, True), (3000.0, 3107.0, False), (5000.0, 3107.0, False), (0.0, 3.0, False)],
)
def test_only_what_is_clearly_slower_is_said(found: float, default: float, expected: bool) -> None:
    assert is_clearly_slower(found, default) is expected
