"""A small run that is trained once by the real program; every test gets a copy of its own."""

import functools
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from real_cli import TINY, CommandLine

from shakespeare_tui.cli.main import main
from shakespeare_tui.runs.folder import RunFolder

NAME = "alpha"
STEPS = (10, 20, 30)


@functools.cache
def _train_once(folder: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("cache", "runs", "config"):
            patch.setenv(f"SHAKESPEARE_TUI_{name.upper()}", str(folder / name))
        arguments = ["--max-steps=30", f"--name={NAME}", "--set=model.dropout=0.1"]
        assert main(["train", "--no-ui", *TINY, *arguments]) == 0
    return folder / "runs" / NAME


@pytest.fixture
def trained(tmp_path_factory: pytest.TempPathFactory, runs_root: Path) -> RunFolder:
    """A finished run of 30 steps, saved and evaluated at steps 10, 20 and 30, and its cache."""
    original = _train_once(tmp_path_factory.getbasetemp() / "trained-once")
    shutil.copytree(original.parent.parent / "cache", runs_root.parent / "cache")
    return RunFolder(shutil.copytree(original, runs_root / NAME))


def evaluate(cli: CommandLine, *arguments: str) -> dict[str, Any]:
    outcome = cli("eval", *arguments, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    figures: dict[str, Any] = json.loads(outcome.out)
    return figures


def fingerprints(*folders: Path) -> dict[str, str]:
    """A hash of everything below the folders, by path: what a failed command must not change."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b"(folder)"
            found[str(path)] = hashlib.sha256(content).hexdigest()
    return found
