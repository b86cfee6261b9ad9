"""``--strategy`` and ``--stop``: every step is within reach; the plain flags are short forms."""

import json
from pathlib import Path
from typing import Any

import pytest
from real_cli import CommandLine
from trained_run import fingerprints, trained

from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.sampling import STEP_KINDS

__all__ = ["trained"]
pytestmark = pytest.mark.usefixtures("trained")


def generate(cli: CommandLine, *arguments: str) -> dict[str, Any]:
    outcome = cli("generate", "alpha", "--prompt=ROMEO:", "--max-tokens=40", "--json", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    result: dict[str, Any] = json.loads(outcome.out)
    return result


def text(cli: CommandLine, *arguments: str) -> str:
    (sample,) = generate(cli, *arguments)["samples"]
    return str(sample["text"])


@pytest.mark.parametrize("name", sorted(STEP_KINDS))
def test_every_step_writes_and_says_how(name: str, cli: CommandLine) -> None:
    result = generate(cli, f"--strategy={name}", "--seed=3")
    assert len(result["samples"][0]["text"]) == 40
    assert result["settings"]["strategy"].startswith(name)
    assert name in result["settings"]
    again = generate(cli, f"--strategy={result['settings']['strategy']}", "--seed=3")
    assert again["samples"] == result["samples"]


def test_flags_are_short_for_a_strategy(cli: CommandLine) -> None:
    assert text(cli) == text(cli, "--strategy=temperature=0.8")
    assert text(cli, "--greedy") == text(cli, "--strategy=greedy")
    flags = ("--top-p=0.9", "--top-k=20", "--temperature=1.5", "--repetition-penalty=1.3")
    steps = "--strategy=repetition_penalty=1.3 temperature=1.5 top_k=20 top_p=0.9"
    assert text(cli, *flags) == text(cli, steps)
    assert text(cli, "--strategy=top_p=0.5 temperature=3") != text(
        cli, "--strategy=temperature=3 top_p=0.5"
    )


def test_a_search_is_streamed_when_it_is_found(cli: CommandLine) -> None:
    arguments = ("--prompt=ROMEO:", "--max-tokens=40", "--strategy=beam=3")
    outcome = cli("generate", "alpha", *arguments)
    assert outcome.out == "ROMEO:" + text(cli, "--strategy=beam=3") + "\n"
    found = generate(cli, "--strategy=beam=3", "--num-samples=3")["samples"]
    assert len({sample["text"] for sample in found}) == 3


@pytest.mark.parametrize("steps", ["temperature=1.5", "contrastive=4", "greedy"])
def test_stop_ends_each_text_after_it(steps: str, cli: CommandLine) -> None:
    whole = text(cli, f"--strategy={steps}")
    stop = whole[7:9]
    ended = text(cli, f"--strategy={steps}", f"--stop={stop}", "--stop=qqqqqq")
    assert ended == whole[: whole.index(stop) + 2]


def test_help_names_every_step_and_its_options(cli: CommandLine) -> None:
    outcome = cli("generate", "--help")
    assert outcome.code == 0
    for kind in STEP_KINDS.values():
        assert f"\n  {kind.name}" in outcome.out
        for parameter in kind.parameters[1:]:
            assert parameter.name in outcome.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--strategy=top_q=3",), ("top_q", "did you mean top_p")),
        (("--strategy=",), ("strategy is empty",)),
        (("--strategy=top_k=0",), ("top_k", "from 1")),
        (("--strategy=dry=0.8,bass=2",), ("dry", "did you mean base")),
        (("--strategy=greedy", "--temperature=1"), ("--strategy", "--temperature")),
        (("--strategy=greedy", "--top-k=0"), ("--strategy", "--top-k")),
        (("--strategy=greedy", "--top-p=1"), ("--strategy", "--top-p")),
        (("--strategy=greedy", "--repetition-penalty=2"), ("--repetition-penalty",)),
        (("--strategy=greedy", "--greedy"), ("--strategy", "--greedy")),
        (("--strategy=classic",), ("six strategies",)),
        (("--strategy=beam=2", "--num-samples=3"), ("beam=2", "2 or fewer")),
        (("--stop=",), ("--stop is empty",)),
        (("--stop=Hé",), ("--stop", "'é'")),
    ],
)
def test_wrong_input(
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    cli: CommandLine,
    trained: RunFolder,
    tmp_path: Path,
) -> None:
    before = fingerprints(tmp_path)
    outcome = cli("generate", "alpha", "--prompt=O", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err
    assert fingerprints(tmp_path) == before
