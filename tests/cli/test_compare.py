"""``compare`` against ``generate`` and ``score``, which write and measure one text."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from real_cli import TINY, CommandLine
from safetensors.torch import load_file, save_file
from trained_run import fingerprints, trained

from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.sampling import CLASSIC

__all__ = ["trained"]
pytestmark = pytest.mark.usefixtures("trained")

PROMPT = "ROMEO:"
SIX = [strategy.text for strategy in CLASSIC]


def compare(cli: CommandLine, *arguments: str) -> list[dict[str, Any]]:
    outcome = cli("compare", f"--prompt={PROMPT}", "--max-tokens=40", "--json", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    result = json.loads(outcome.out)
    assert result.keys() == {"prompt", "columns"}
    assert result["prompt"] == PROMPT
    columns: list[dict[str, Any]] = result["columns"]
    return columns


def generated(cli: CommandLine, *arguments: str) -> str:
    outcome = cli("generate", f"--prompt={PROMPT}", "--max-tokens=40", "--json", *arguments)
    return str(json.loads(outcome.out)["samples"][0]["text"])


def test_a_column_is_what_generate_writes(cli: CommandLine) -> None:
    steps = [*SIX, "beam=3", "contrastive=4", "xtc=0.5,threshold=0.05 temperature=2", "mirostat=2"]
    columns = compare(cli, "alpha", f"--strategies={';'.join(steps)}", "--seed=9")
    assert [column["strategy"] for column in columns] == steps
    for column in columns:
        assert column.keys() == {"checkpoint", "strategy", "settings", "text", "measures"}
        assert column["checkpoint"] == "alpha@30"
        assert column["text"] == generated(
            cli, "alpha", f"--strategy={column['strategy']}", "--seed=9"
        )
    assert columns[8]["settings"] == {
        "xtc": 0.5,
        "xtc.threshold": 0.05,
        "temperature": 2,
        "seed": 9,
        "precision": "auto",
        "max_tokens": 40,
    }


def test_checkpoints_by_strategies(cli: CommandLine) -> None:
    pair = "--strategies=greedy; temperature=3"
    columns = compare(cli, "alpha@10", "alpha@last", pair, "--stop=e")
    assert [(column["checkpoint"], column["strategy"]) for column in columns] == [
        ("alpha@10", "greedy"),
        ("alpha@10", "temperature=3"),
        ("alpha@30", "greedy"),
        ("alpha@30", "temperature=3"),
    ]
    for column in columns:
        arguments = (column["checkpoint"], f"--strategy={column['strategy']}", "--stop=e")
        assert column["text"] == generated(cli, *arguments)
    (by_default,) = compare(cli, "alpha@10", "alpha@10")[:1]
    assert by_default["strategy"] == "temperature=0.8"
    assert by_default["text"] == generated(cli, "alpha@10")


def test_measures_are_of_the_text_without_its_prompt(cli: CommandLine) -> None:
    prompt = "ROMEO:\nO, what light through "
    (column,) = compare(cli, "alpha@20", "--strategies=temperature=2", f"--prompt={PROMPT}")
    measures = column["measures"]
    whole, given = (
        json.loads(cli("score", "alpha@20", f"--text={text}", "--json").out)
        for text in (PROMPT + column["text"], PROMPT)
    )
    characters = len(PROMPT) + len(column["text"])
    nats = whole["mean_surprise"] * (characters - 1) - given["mean_surprise"] * (len(PROMPT) - 1)
    assert measures["mean_surprise"] == pytest.approx(nats / len(column["text"]), rel=1e-4)
    assert measures.keys() == whole["measures"].keys()
    outcome = cli("compare", "alpha", "--strategies=classic", f"--prompt={prompt}", "--json")
    for column in json.loads(outcome.out)["columns"]:
        for passage in column["measures"]["memorisation"]["passages"]:
            assert passage["end"] > len(prompt)


def test_as_text_one_under_the_other(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns = compare(cli, "alpha", "--strategies=classic")
    outcome = cli(
        "compare", "alpha", "--strategies=classic", f"--prompt={PROMPT}", "--max-tokens=40"
    )
    assert (outcome.code, outcome.err) == (0, "")
    place = 0
    for number, column in enumerate(columns, start=1):
        place = outcome.out.index(f"─ {number}  alpha@30  {column['strategy']} ─", place)
        place = outcome.out.index(f"\n{PROMPT}{column['text']}\n", place)
    lines = outcome.out[outcome.out.index("─ measures ─") :].splitlines()[1:]
    assert lines[0].split() == ["1", "2", "3", "4", "5", "6"]
    table = {line[:15].strip(): line[15:].split() for line in lines[1:12]}
    loops = [column["measures"]["longest_loop"] for column in columns]
    best = min(loops)
    is_best = [n == best and loops.count(n) == 1 and n <= 10 for n in loops]
    marked = [f"{n}*" if is_one else str(n) for n, is_one in zip(loops, is_best, strict=True)]
    assert table["longest loop"] == marked
    assert not any("*" in cell for cell in table["surprise"])
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("other", ["temperature=5", "greedy"])
def test_two_side_by_side_and_where_they_part(
    other: str, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "130")
    pair = f"--strategies=greedy;{other}"
    columns = compare(cli, "alpha", pair)
    outcome = cli("compare", "alpha", pair, f"--prompt={PROMPT}", "--max-tokens=40")
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) <= 130
    assert lines[0][:63].rstrip() == "1  alpha@30  greedy"
    assert lines[0][66:] == f"2  alpha@30  {other}"
    at = next(i for i, line in enumerate(lines) if "─ measures ─" in line)
    left = "\n".join(line[:63].rstrip() for line in lines[2:at]).rstrip()
    right = "\n".join(line[66:].rstrip() for line in lines[2:at]).rstrip()
    texts = [
        "\n".join(line.rstrip() for line in (PROMPT + column["text"]).split("\n")).rstrip()
        for column in columns
    ]
    assert [left, right] == texts
    ours, theirs = (column["text"] for column in columns)
    if ours == theirs:
        assert lines[-1] == "the texts are the same"
    else:
        place = next(i for i in range(40) if ours[i] != theirs[i])
        assert lines[-1].startswith(f"the texts differ from character {place + 1} on")


def test_without_the_corpus_the_rest_is_measured(cli: CommandLine, tmp_path: Path) -> None:
    corpus = tmp_path / "mine.txt"
    corpus.write_text("To be, or not to be: that is all. " * 40)
    cli("train", "--no-ui", *TINY, f"--corpus={corpus}", "--max-steps=2", "--name=mine")
    corpus.unlink()
    outcome = cli("compare", "mine", "mine", "--prompt=be", "--max-tokens=30", "--json")
    assert outcome.code == 0
    assert outcome.err.startswith("copies are not looked for: ")
    assert outcome.err.count("\n") == 1
    for column in json.loads(outcome.out)["columns"]:
        assert column["measures"]["memorisation"] is None
        assert column["measures"]["mean_surprise"] > 0
    assert cli("compare", "mine", "mine", "--prompt=be", "--max-tokens=30").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("alpha",), ("nothing to compare with", "--strategies")),
        (("alpha", "beta"), ("'beta'", "runs here: alpha")),
        (("alpha@10", "alpha@11"), ("step 11", "10, 20, 30")),
        (("alpha", "--strategies="), ("no strategies",)),
        (("alpha", "--strategies=greedy; topk=3"), ("topk", "did you mean top_k")),
        (("alpha", f"--strategies={'classic;' * 11}"), ("66 columns", "64")),
        (("alpha", "alpha", "--prompt="), ("prompt is empty",)),
        (("alpha", "alpha@10", "--prompt=Hé"), ("alpha@30", "'é'", "position 1")),
        (("alpha", "alpha", "--max-tokens=0"), ("--max-tokens",)),
        (("alpha", "alpha", "--seed=-1"), ("seed",)),
        (("alpha", "alpha", "--device=gpu"), ("gpu", "cuda")),
        ((), ("RUN",)),
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
    outcome = cli("compare", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err
    assert fingerprints(tmp_path) == before


def test_a_checkpoint_without_finite_weights_is_refused(
    cli: CommandLine, trained: RunFolder
) -> None:
    path = trained.checkpoint(20).weights_path
    tensors = {name: torch.full_like(t, math.nan) for name, t in load_file(path).items()}
    save_file(tensors, path)
    outcome = cli("compare", "alpha@20", "alpha@30")
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert "use another checkpoint" in outcome.err


@pytest.mark.parametrize("strategies", ["beam=3", "contrastive=4", "beam=3;contrastive=4;greedy"])
def test_a_search_tells_no_more_progress_than_it_writes(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, strategies: str
) -> None:
    told: list[tuple[int, int | None]] = []

    @contextlib.contextmanager
    def bar(what: str, unit: str) -> Iterator[Callable[[int, int | None], None]]:
        yield lambda done, total: told.append((done, total))

    monkeypatch.setattr("shakespeare_tui.cli.columns.progress", bar)
    compare(cli, "alpha", "alpha@10", f"--strategies={strategies}")
    assert max(told) == (40, 40)
