"""Command lines of the README and of the help, mutated: an exit code and words, never a traceback.

3,000 of them: ``python -m pytest -n 0 -m slow tests/faults/test_command_lines.py``.
"""

import argparse
import dataclasses
import io
import random
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from counted import FAULTS
from real_cli import TINY, CommandLine
from trained_run import NAME, trained

from shakespeare_tui.cli.main import build_parser
from shakespeare_tui.data.catalogue import CATALOGUE, UrlSource
from shakespeare_tui.runs.folder import RunFolder

__all__ = ["trained"]

ROOT = Path(__file__).parents[2]
SECONDS = 60
"""A line that takes longer hangs; a slow one takes a second."""
HOSTILE = (
    *("", " ", "-", "--", "=", "@", "nan", "-inf", "-1", "0", "1e400", "1_0", "0x10", "9" * 400),
    *("a" * 5000, "\x1b[31mred\x07", "\udcff", "\u202ex", "🎭", "{}", "[1", "{a: &a [*a]}"),
    *("!!python/object:os.system", "../..", "/", "~", ".", "no/such/file", "alpha@", "alpha@best"),
    *("alpha@20", "alpha@-1", f"alpha@{'9' * 40}", "temperature=", "top_k=1e9", "beam=1e9"),
    *("mirostat=nan", "1:2:0", "1:0:0.5", "0:9:1e-9", "3:1:1e99999999", "temperature=0:1:0.5"),
    *(
        "model.d_model=0",
        "training.seed=1e99",
        "data.corpus=",
        "section.key",
        "play.txt",
        "latin.txt",
    ),
)


class HangError(BaseException):
    """Nothing in the program catches it."""


def examples() -> list[list[str]]:
    """The command lines that the README and the help show, on things that are there."""
    text = (ROOT / "README.md").read_text()
    subparsers = next(
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for parser in subparsers.choices.values():
        text += f"\n{parser.epilog or ''}"
    lines = re.findall(r"shakespeare-tui ([^`|\n]+?)(?=`|\||\n|;|, |$)", text)
    found = []
    for line in lines:
        line = re.sub(r"\b(RUN|quick-1|novel)\b", NAME, line)
        line = re.sub(
            r"\b(FILE|TEXT|my-novel.txt|more.txt|speakers.txt|NAME\\|FILE)\b", "play.txt", line
        )
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        if words and words not in found:
            found.append(words)
    assert len(found) >= 25
    return found


def options_of(command: str) -> list[str]:
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction) and command in action.choices:
            options = action.choices[command]._actions
            return [option for action in options for option in action.option_strings]
    return ["--help", "--version"]


def mutated(dice: random.Random, words: list[str]) -> list[str]:
    words = list(words)
    options = options_of(words[0])
    for _ in range(dice.choice((1, 1, 1, 2))):
        at = dice.randrange(len(words)) if words else 0
        match dice.choice(("drop", "twice", "swap", "value", "value", "option", "cut", "letter")):
            case "drop" if words:
                del words[at]
            case "twice" if words:
                words.insert(at, words[at])
            case "swap" if words:
                other = dice.randrange(len(words))
                words[at], words[other] = words[other], words[at]
            case "value" if words:
                name, equals, _ = words[at].partition("=")
                hostile = dice.choice(HOSTILE)
                words[at] = f"{name}={hostile}" if equals else hostile
            case "option":
                words.insert(at + 1, dice.choice(options))
                words.insert(at + 2, dice.choice(HOSTILE))
            case "cut" if words:
                words[at] = words[at][: len(words[at]) // 2]
            case _ if words:
                word = words[at] or "x"
                place = dice.randrange(len(word))
                words[at] = f"{word[:place]}{chr(dice.randrange(32, 127))}{word[place + 1 :]}"
    return words


def bounded(words: list[str]) -> list[str]:
    """The same line, with what keeps a run or a text short where it would be made."""
    if words[:1] == ["train"]:
        if any(word.startswith("--r") for word in words):
            return [*words, "--max-steps=31"]
        return [*words, *TINY, "--max-steps=2"]
    if words[:1] in (["generate"], ["compare"]):
        return [*words, "--max-tokens=5"]
    return words


@pytest.fixture
def folder(
    tmp_path: Path, runs_root: Path, trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working folder with texts; nothing is fetched from anywhere, and nothing hangs."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "play.txt").write_text("ANNA:\nWell met, Ben, though I am late.\n\n" * 99)
    (folder / "latin.txt").write_bytes("Ça va ? ".encode("latin-1") * 99)
    for name, entry in CATALOGUE.items():
        if entry.sources:
            nowhere = UrlSource("http://127.0.0.1:9/nothing.txt")
            monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(entry, sources=(nowhere,)))
    return folder


@pytest.fixture
def alarm() -> Iterator[None]:
    def hang(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, hang)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def run_lines(
    count: int, seed: int, runs_root: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> dict[int, int]:
    """How often each exit code came."""
    dice = random.Random(seed)
    shown = examples()
    original = shutil.copytree(runs_root / NAME, runs_root.parent / "original")
    codes: dict[int, int] = {}
    for number in range(count):
        words = bounded(mutated(dice, dice.choice(shown)))
        # The first takes seconds as it is shown, the others go on until they are stopped or done.
        while words == ["doctor"] or words[:1] in (["serve"], ["web"], ["experiment"]):
            words = bounded(mutated(dice, dice.choice(shown)))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ROMEO:\n")))
        signal.alarm(SECONDS)
        try:
            outcome = cli(*words)
        except (Exception, HangError) as error:
            raise AssertionError(f"{number}: {words!r}: {type(error).__name__}: {error}") from error
        signal.alarm(0)
        where = f"{number}: {words!r}: {outcome}"
        assert outcome.code in (0, 1, 2, 130), where
        assert "Traceback" not in outcome.err, where
        if outcome.code:
            assert re.search(r"^(error|failed|cancelled): .", outcome.err, re.MULTILINE), where
        codes[outcome.code] = codes.get(outcome.code, 0) + 1
        FAULTS[f"mutated command lines with exit code {outcome.code}"] += 1
        if words[:1] == ["train"]:
            shutil.rmtree(runs_root)
            shutil.copytree(original, runs_root / NAME)
    return codes


def test_mutated_command_lines_end_in_words(
    folder: Path,
    alarm: None,
    runs_root: Path,
    cli: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes = run_lines(100, 1, runs_root, cli, monkeypatch)
    assert codes[0] and codes[2]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_mutated_command_lines_end_in_words(
    seed: int,
    folder: Path,
    alarm: None,
    runs_root: Path,
    cli: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_lines(300, seed, runs_root, cli, monkeypatch)
