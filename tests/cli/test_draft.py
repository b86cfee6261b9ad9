"""``generate --draft``: proposals change the speed, never what may be written."""

import json
from pathlib import Path
from typing import Any

import pytest
from real_cli import TINY, CommandLine
from trained_run import fingerprints, trained

from shakespeare_tui.core.runs import RunFolder

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
