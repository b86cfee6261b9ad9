"""Shells ask the program what could stand at the cursor; asked here as bash, zsh and fish do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_trees import add_checkpoint, add_run
from real_cli import CommandLine


def offered(line: str, folder: Path, shell: str = "bash") -> list[str]:
    """What the program offers at the end of a command line."""
    answer = folder / "answer"
    program = "from shakespeare_tui.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_SHELL": shell,
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_COMP_WORDBREAKS": "",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        },
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # What is offered last may be closed by a blank; fish and zsh get descriptions behind it.
    words = (word.rstrip() for word in answer.read_text().split("\n"))
    return [word.partition("\t")[0].partition(":")[0] for word in words]


@pytest.fixture
def folder(tmp_path: Path, runs_root: Path) -> Path:
    for name in ("quick-1", "quick-2", "novel"):
        run = add_run(runs_root, name)
        add_checkpoint(run, 100, 1.7)
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "mine.txt").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gen", {"generate"}),
        ("config ", {"list", "show", "check", "schema", "guide"}),
        ("train --max", {"--max-steps"}),
        ("train --config t", {"tiny", "tinystories"}),
        ("train --config m", {"mile", "mine.yaml"}),
        ("train --corpus m", {"mine.txt"}),
        ("train --corpus tiny_", {"tiny_shakespeare"}),
        ("train --resume quick", {"quick-1", "quick-2"}),
        ("train --set model.n_l", {"model.n_layers="}),
        ("train --set training.precision=f", {"training.precision=float32"}),
        ("generate n", {"novel"}),
        ("generate quick-1@", {"quick-1@best", "quick-1@last", "quick-1@100"}),
        ("generate quick-1 --precision i", {"int8"}),
        ("generate quick-1 --draft l", {"lookup"}),
        ("compare novel quick-2@b", {"quick-2@best"}),
        ("watch q", {"quick-1", "quick-2"}),
        ("completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_what_is_offered(line: str, expected: set[str], folder: Path) -> None:
    found = offered(f"shakespeare-tui {line}", folder)
    assert {word for word in found if not word.startswith("--") or "--" in line} == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_code_and_gets_answers(shell: str, folder: Path, cli: CommandLine) -> None:
    outcome = cli("completion", shell)
    assert (outcome.code, outcome.err) == (0, "")
    assert "shakespeare-tui" in outcome.out and "_ARGCOMPLETE" in outcome.out
    assert "quick-1" in offered("shakespeare-tui generate quick", folder, shell)
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=outcome.out, text=True, check=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_in_a_real_bash(folder: Path) -> None:
    script = """
        shakespeare-tui() { "$PYTHON" -m shakespeare_tui "$@"; }
        source <(shakespeare-tui completion bash)
        complete -p shakespeare-tui
        COMP_LINE="shakespeare-tui generate nov" COMP_POINT=${#COMP_LINE} COMP_TYPE=9
        COMP_WORDS=(shakespeare-tui generate nov) COMP_CWORD=2
        COMP_POINT=${#COMP_LINE}
        _python_argcomplete shakespeare-tui nov generate
        printf '<%s>' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PYTHON": sys.executable},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert "-F _python_argcomplete shakespeare-tui" in done.stdout
    assert "<novel >" in done.stdout


def test_names_that_steer_a_terminal_are_not_offered(folder: Path, runs_root: Path) -> None:
    add_run(runs_root, "quick\x1b]0;x\x07")
    assert set(offered("shakespeare-tui watch q", folder)) == {"quick-1", "quick-2"}
