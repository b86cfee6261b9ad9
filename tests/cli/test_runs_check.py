"""``runs check``: everything in a run's folder is read, and what it says is what then happens."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from real_cli import CommandLine
from trained_run import fingerprints, trained

from shakespeare_tui.runs.folder import RunFolder

__all__ = ["trained"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def edit_config(run: RunFolder, old: str, new: str) -> None:
    path = run.path / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def swap_character(run: RunFolder) -> None:
    path = run.path / "tokenizer.json"
    record = json.loads(path.read_text())
    record["characters"][-1] = "~"
    path.write_text(json.dumps(record))


DAMAGE: dict[str, tuple[Callable[[RunFolder], object], str]] = {
    "weights": (lambda run: flip(run.checkpoint(30).weights_path), "cannot be used"),
    "state": (lambda run: flip(run.checkpoint(30).state_path), "generates text, cannot be resumed"),
    "info": (
        lambda run: (run.checkpoint_folder(30) / "info.json").write_text("{"),
        "cannot be used",
    ),
}


def test_a_whole_run_is_good_and_stays_as_it_is(
    cli: CommandLine, trained: RunFolder, runs_root: Path
) -> None:
    before = fingerprints(runs_root)
    for arguments in ((), ("alpha",)):
        outcome = cli("runs", "check", *arguments)
        assert outcome.code == 0
        assert outcome.out.splitlines() == [
            "alpha",
            *(f"  alpha@{step}  good" for step in (10, 20, 30)),
            "  resumes from step 30",
        ]
    assert fingerprints(runs_root) == before


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_it_says_of_a_checkpoint_is_what_happens(
    kind: str, cli: CommandLine, trained: RunFolder
) -> None:
    damage, words = DAMAGE[kind]
    damage(trained)
    outcome = cli("runs", "check", "alpha")
    assert outcome.code == 1
    (line,) = [line for line in outcome.out.splitlines() if "alpha@30" in line]
    assert words in line and "damaged" in line
    assert outcome.out.splitlines()[-1] == "  resumes from step 20"
    record = json.loads(cli("runs", "check", "alpha", "--json").out)
    assert record["is_good"] is False
    (run,) = record["runs"]
    assert run["resumes_from"] == 20
    for checkpoint in run["checkpoints"]:
        reference = checkpoint["reference"]
        assert checkpoint["generates"] == (cli("generate", reference, "--max-tokens=2").code == 0)
        resumes = cli("train", "--no-ui", f"--resume={reference}", "--max-steps=31")
        assert checkpoint["resumes"] == (resumes.code == 0)
        if resumes.code == 0:
            break  # later ones come again, whole
    else:
        raise AssertionError("no checkpoint could be resumed from")


def test_a_damaged_run_is_one_line_among_good_ones(
    cli: CommandLine, trained: RunFolder, runs_root: Path
) -> None:
    swap_character(trained)
    (runs_root / "broken").mkdir()
    (runs_root / "broken" / "run.json").write_text("{")
    outcome = cli("runs", "check")
    assert outcome.code == 1
    lines = outcome.out.splitlines()
    assert any(line.startswith("alpha: ") and "tokenizer.json" in line for line in lines)
    assert any(line.startswith("broken: ") and "run.json" in line for line in lines)
    assert cli("train", "--no-ui", "--resume=alpha").code == 2


def test_an_edited_setting_is_named(cli: CommandLine, trained: RunFolder) -> None:
    edit_config(trained, "  dropout: 0.1", "  dropout: 0.3")
    outcome = cli("runs", "check", "alpha")
    assert outcome.code == 1
    assert outcome.out.count("model.dropout is 0.3, was 0.1") == 1
    assert outcome.out.count("generates text") == 3
    assert outcome.out.splitlines()[-1] == "  cannot be resumed"


def test_a_run_that_does_not_exist_is_refused(cli: CommandLine, trained: RunFolder) -> None:
    outcome = cli("runs", "check", "alpah")
    assert outcome.code == 2
    assert "did you mean alpha?" in outcome.err


def test_a_run_without_a_checkpoint_is_said(cli: CommandLine, trained: RunFolder) -> None:
    for step in trained.steps():
        trained.remove_checkpoint(step)
    outcome = cli("runs", "check", "alpha")
    assert outcome.out.splitlines() == ["alpha", "  no checkpoint yet"]
