"""``generate --sweep`` and ``--batch`` against ``generate``, once for each value or prompt."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from real_cli import CommandLine
from trained_run import fingerprints, trained

from shakespeare_tui.runs.folder import RunFolder

__all__ = ["trained"]
pytestmark = pytest.mark.usefixtures("trained")

PROMPT = "ROMEO:"


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def generate(cli: CommandLine, *arguments: str) -> dict[str, Any]:
    outcome = cli("generate", "alpha", "--max-tokens=40", "--json", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    result: dict[str, Any] = json.loads(outcome.out)
    return result


def texts(cli: CommandLine, *arguments: str) -> list[str]:
    return [sample["text"] for sample in generate(cli, *arguments)["samples"]]


class TestSweep:
    @pytest.mark.parametrize(
        ("arguments", "strategies"),
        [
            (
                ("--sweep=temperature=0.3:1.5:0.2",),
                [
                    f"temperature={value}"
                    for value in ("0.3", "0.5", "0.7", "0.9", "1.1", "1.3", "1.5")
                ],
            ),
            (
                ("--sweep=top-k=20:5:-7", "--temperature=2"),
                ["temperature=2 top_k=20", "temperature=2 top_k=13", "temperature=2 top_k=6"],
            ),
            (
                ("--sweep=dry.base=1.5:2:0.5", "--strategy=dry=2,allowed=3 temperature=1.5"),
                [
                    "dry=2,base=1.5,allowed=3 temperature=1.5",
                    "dry=2,base=2,allowed=3 temperature=1.5",
                ],
            ),
            (("--sweep=beam=2:3:1", "--strategy=beam"), ["beam=2", "beam=3"]),
            (("--sweep=min_p=0.1:0.1:1", "--strategy=temperature=3"), ["temperature=3 min_p=0.1"]),
        ],
    )
    def test_a_column_for_each_value(
        self, arguments: tuple[str, ...], strategies: list[str], cli: CommandLine
    ) -> None:
        result = generate(cli, f"--prompt={PROMPT}", *arguments, "--seed=5")
        assert result.keys() == {"prompt", "columns"}
        assert [column["strategy"] for column in result["columns"]] == strategies
        for column in result["columns"]:
            wanted = (f"--strategy={column['strategy']}", f"--prompt={PROMPT}", "--seed=5")
            assert [column["text"]] == texts(cli, *wanted)
            assert column["checkpoint"] == "alpha@30"
            assert column["measures"]["mean_surprise"] > 0

    def test_as_text_and_into_a_file(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "150")
        arguments = ("alpha", f"--prompt={PROMPT}", "--max-tokens=40", "--sweep=top_p=0.5:1:0.5")
        columns = generate(cli, *arguments[1:])["columns"]
        outcome = cli("generate", *arguments)
        assert (outcome.code, outcome.err) == (0, "")
        for number, column in enumerate(columns, start=1):
            assert f"─ {number}  alpha@30  {column['strategy']} ─" in outcome.out
            assert f"─\n{PROMPT}{column['text']}\n─" in outcome.out
        saved = cli("generate", *arguments, "--output=sweep.txt")
        assert (saved.code, saved.out, saved.err) == (0, "", "wrote 2 texts to sweep.txt\n")
        assert Path("sweep.txt").read_text(encoding="utf-8") == outcome.out


class TestBatch:
    def test_every_line_as_generate_continues_it(self, cli: CommandLine) -> None:
        Path("speakers.txt").write_bytes(b"ROMEO:\r\n\nJULIET:\n  \nROMEO:\nO ")
        arguments = ("--strategy=temperature=2", "--num-samples=2", "--seed=3")
        batch = ("generate", "alpha", "--batch=speakers.txt", "--max-tokens=40", *arguments)
        outcome = cli(*batch, "--output=out.json", "--json")
        assert (outcome.code, outcome.out) == (0, "")
        assert outcome.err == "wrote 8 samples to out.json\n"
        result = json.loads(Path("out.json").read_text(encoding="utf-8"))
        assert result["checkpoint"] == "alpha@30"
        assert result["tokens_per_second"] > 0
        wanted = [
            {"prompt": prompt, "text": text}
            for prompt in ("ROMEO:", "JULIET:", "ROMEO:", "O ")
            for text in texts(cli, f"--prompt={prompt}", *arguments)
        ]
        assert result["samples"] == wanted
        assert result["settings"] == generate(cli, *arguments)["settings"]

        assert cli(*batch, "--output=out.txt").code == 0
        content = Path("out.txt").read_text(encoding="utf-8")
        place = 0
        for sample in wanted:
            page = f"\n{sample['prompt']}{sample['text']}\n"
            place = content.index(f"─ {sample['prompt'].strip()} ", place)
            place = content.index(page, place)

    def test_from_stdin(self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ROMEO:\n")))
        arguments = ("--batch=-", "--max-tokens=40", "--output=out.json", "--json")
        assert cli("generate", "alpha", *arguments).code == 0
        samples = json.loads(Path("out.json").read_text())["samples"]
        assert [sample["text"] for sample in samples] == texts(cli, f"--prompt={PROMPT}")


OUT = "--output=out.txt"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sweep=temperature",), ("--sweep must be like", "'temperature'")),
        (("--sweep=temperature=0.3:1.5",), ("--sweep must be like",)),
        (("--sweep=temperature=0.3:1.5:nan",), ("--sweep must be like",)),
        (("--sweep=temperature=0.3:1.5:hot",), ("--sweep must be like",)),
        (("--sweep=temperature=1:1e999999:1",), ("--sweep must be like",)),
        (("--sweep=top_k=3:1:1e99999999",), ("--sweep must be like",)),
        (("--sweep=top_k=-1e99999999:1:1",), ("--sweep must be like",)),
        (("--sweep=top_k=1:3:1e-99999999",), ("never gets from 1 to 3",)),
        (("--sweep==1:2:1",), ("--sweep must be like",)),
        (("--sweep=",), ("--sweep must be like",)),
        (("--sweep=temperature=0.3:1.5:0",), ("never gets from 0.3 to 1.5",)),
        (("--sweep=temperature=1.5:0.3:0.2",), ("never gets from 1.5 to 0.3",)),
        (("--sweep=temperature=0.3:1.5:0.001",), ("1,201 columns", "64")),
        (("--sweep=top_p=0.5:1.5:0.5",), ("top_p", "at most 1", "1.5")),
        (("--sweep=top_k=1:2:0.5",), ("top_k", "whole number", "1.5")),
        (("--sweep=temprature=1:2:1",), ("temprature", "did you mean temperature")),
        (("--sweep=dry.bass=1:2:1",), ("dry has no bass", "did you mean base")),
        (("--sweep=greedy=1:2:1",), ("greedy takes no values",)),
        (("--sweep=beam=1:2:1", "--greedy"), ("exclude each other",)),
        (("--sweep=top_k=1:2:1", "--num-samples=2"), ("--num-samples",)),
        (("--sweep=top_k=1:2:1", "--batch=speakers.txt", OUT), ("--sweep and --batch",)),
        (("--batch=speakers.txt",), ("--batch", "--output FILE")),
        (("--batch=nobody.txt", OUT), ("'nobody.txt'", "check the path")),
        (("--batch=.", OUT), ("cannot read '.'",)),
        (("--batch=blank.txt", OUT), ("blank.txt has only blank lines",)),
        (("--batch=empty.txt", OUT), ("empty.txt is empty",)),
        (("--batch=photo.bin", OUT), ("photo.bin is not text",)),
        (("--batch=accent.txt", OUT), ("accent.txt, line 4", "'é'", "position 1")),
        (("--batch=speakers.txt", "--output=speakers.txt", "--force"), ("--output would replace",)),
        (("--batch=speakers.txt", "--output=speakers.txt"), ("exists", "--force")),
        (("--batch=speakers.txt", "--prompt=O", OUT), ("--prompt", "--batch")),
        (("--batch=speakers.txt", "--max-tokens=1000000", "--num-samples=99", OUT), ("tokens",)),
        (("--batch=speakers.txt", "--output=nowhere/out.txt"), ("--output",)),
        (("--batch=speakers.txt", "--stop=é", OUT), ("--stop", "'é'")),
    ],
)
def test_wrong_input(
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    cli: CommandLine,
    trained: RunFolder,
    tmp_path: Path,
) -> None:
    Path("speakers.txt").write_text("ROMEO:\nJULIET:\n")
    Path("accent.txt").write_text("ROMEO:\n\n\nHé:\n", encoding="utf-8")
    Path("blank.txt").write_text("\n  \n")
    Path("empty.txt").touch()
    Path("photo.bin").write_bytes(bytes(range(256)))
    before = fingerprints(tmp_path)
    outcome = cli("generate", "alpha", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err
    assert fingerprints(tmp_path) == before
