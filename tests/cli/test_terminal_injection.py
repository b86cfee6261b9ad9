"""No character from a corpus, a name, a file or an option steers the terminal of any command."""

import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkpoint_trees import add_run
from real_cli import TINY, CommandLine, Outcome

from shakespeare_tui.cli.main import COMMANDS, main
from shakespeare_tui.visible_text import is_harmless

pty = pytest.importorskip("pty")

CONTROLS = "".join(chr(c) for c in (*range(1, 0x20), *range(0x7F, 0xA0)) if chr(c) not in "\n\t")
DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
SEQUENCES = "\x1b]0;owned\x07 \x1b]52;c;b3duZWQ=\x1b\\ \x1b[31m \x9b2J \x1b[?1049l \x90q\x9c"
HOSTILE = f"{SEQUENCES}{CONTROLS}{DIRECTIONS}\u2028"
NAME = f"bad{HOSTILE}".replace("/", "")[:80]

OnTerminal = Callable[..., Outcome]


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[OnTerminal]:
    """Runs a command with a pseudo-terminal for stdout and stderr; what it got, and nothing else.

    The terminal is a dumb one: whatever steers it comes from outside, and not from this program.
    """
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: str) -> Outcome:
        outer, inner = pty.openpty()
        read: list[bytes] = []

        def drain() -> None:
            while True:
                try:
                    piece = os.read(outer, 65536)
                except OSError:  # the other end is closed
                    return
                read.append(piece)

        reader = threading.Thread(target=drain)
        reader.start()
        terminal = io.TextIOWrapper(
            os.fdopen(inner, "wb", buffering=0), "utf-8", write_through=True
        )
        with monkeypatch.context() as streams:
            streams.setattr(sys, "stdout", terminal)
            streams.setattr(sys, "stderr", terminal)
            try:
                code = main(list(arguments))
            except SystemExit as ending:
                code = int(ending.code or 0)
        terminal.close()
        reader.join()
        os.close(outer)
        text = b"".join(read).decode("utf-8").replace("\r\n", "\n")
        steering = {hex(ord(c)) for c in text if c not in "\n\t\r" and not is_harmless(c)}
        assert steering == set(), repr(text)
        return Outcome(code, text, "")

    yield run


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a corpus and a config of hostile names, and a run with one."""
    monkeypatch.chdir(tmp_path)
    corpus = tmp_path / f"corpus{NAME[3:40]}.txt"
    corpus.write_text(f"SPEAKER{HOSTILE}:\nsays {HOSTILE}\n\n" * 40, encoding="utf-8")
    return corpus


def test_what_is_trained_written_and_measured(
    hostile: Path, on_terminal: OnTerminal, cli: CommandLine, runs_root: Path
) -> None:
    prompt = f"says {HOSTILE[:8]}"
    prompts = f"--set=sampling.prompts={json.dumps([prompt])}"
    trained = on_terminal(
        *("train", "--no-ui", *TINY, f"--corpus={hostile}", prompts, "--max-steps=20"),
        *("--name=run", "--set=training.precision=float32"),
    )
    assert trained.code == 0, trained.out
    assert "\\x1b]0;ow" in trained.out

    for command in (
        ("generate", "run", "--max-tokens=300", "--temperature=2"),
        ("generate", "run", "--max-tokens=300", "--temperature=2", "--num-samples=2", "--json"),
        ("generate", "run", "--max-tokens=50", "--sweep=temperature=1:2:1"),
        ("generate", "run", "--max-tokens=50", f"--prompt={prompt}", f"--stop={HOSTILE[:4]}"),
        ("compare", "run@10", "run@20", "--max-tokens=60"),
        ("compare", "run", "--strategies=greedy;temperature=2", "--max-tokens=60"),
        ("score", "run", "--file", str(hostile)),
        ("score", "run", f"--text={HOSTILE}", "--json"),
        ("eval", "run"),
        ("data", "inspect", str(hostile)),
        ("data", "inspect", str(hostile), "--json"),
        ("config", "show", "tiny", prompts),
    ):
        outcome = on_terminal(*command)
        assert outcome.code == 0, outcome.out

    # Into a pipe the text stays what it is.
    written = cli("generate", "run", "--max-tokens=300", "--temperature=2")
    assert written.out.startswith(prompt)
    as_json = cli("generate", "run", "--max-tokens=300", "--temperature=2", "--json")
    assert written.out == prompt + json.loads(as_json.out)["samples"][0]["text"] + "\n"
    assert any(not is_harmless(c) for c in written.out.replace("\n", ""))


def test_names_of_runs(on_terminal: OnTerminal, runs_root: Path) -> None:
    add_run(runs_root, NAME, corpus=HOSTILE, parent=HOSTILE)
    damaged = add_run(runs_root, f"worse{NAME[3:]}")
    (damaged.path / "run.json").write_text(json.dumps({"format": HOSTILE}))
    listed = on_terminal("runs")
    assert listed.code == 0
    assert "bad\\x1b]0;owned" in listed.out
    assert on_terminal("runs", "--json").code == 0
    for command in (
        ("generate", NAME),
        ("generate", f"nobody{HOSTILE}"),
        ("generate", f"{NAME}@{HOSTILE}"),
        ("train", "--no-ui", f"--resume={NAME}"),
        ("train", "--no-ui", f"--name={NAME}"),
        ("watch", f"worse{NAME[3:]}"),
    ):
        assert on_terminal(*command).code == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_messages_about_whatever_was_typed(
    command: str, on_terminal: OnTerminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{NAME[:40]}.yaml").write_text(f"model: {{'{HOSTILE!r}': 1}}\n{HOSTILE}: 2\n")
    for line in (
        (f"{command}{HOSTILE}",),
        (command, f"--option{HOSTILE}"),
        (command, HOSTILE, f"--device={HOSTILE}", f"--strategy={HOSTILE}", f"--seed={HOSTILE}"),
        (command, "run", f"--max-tokens={HOSTILE}"),
        (command, "--no-ui", f"--set={HOSTILE}"),
        (command, "--no-ui", f"--set=model.d_model={HOSTILE}"),
        (command, "--no-ui", f"--corpus={HOSTILE}"),
        (command, "--no-ui", f"--config={NAME[:40]}.yaml"),
        (command, "show", f"{NAME[:40]}.yaml"),
        (command, "inspect", HOSTILE),
        (command, "run", f"--output={tmp_path / NAME / 'x'}"),
        (command, "run", f"--file={HOSTILE}"),
        (command, "run", f"--sweep={HOSTILE}"),
    ):
        # A query of runs may be any words.
        assert on_terminal(*line).code in ((0, 2) if command == "runs" else (2,))
