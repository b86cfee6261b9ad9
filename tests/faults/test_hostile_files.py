"""Hostile files in every reader: an exit code and words, never a traceback, never a hang.

All of them: ``python -m pytest -n 0 -m slow tests/faults/test_hostile_files.py``.
"""

import hashlib
import itertools
import json
import os
import re
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from counted import FAULTS
from hostile import TEXTS, YAMLS, odd_metadata, odd_records, odd_tensors
from real_cli import CommandLine
from trained_run import NAME, trained

from shakespeare_tui.runs.folder import RunFolder

__all__ = ["trained"]

CHECKPOINT = "step-00000030"
SECONDS = 60
COMMANDS = (
    ("runs",),
    ("runs", "--json"),
    ("generate", NAME, "--prompt=A", "--max-tokens=3"),
    ("train", "--no-ui", f"--resume={NAME}", "--max-steps=32"),
    ("eval", f"{NAME}@last"),
    ("score", f"{NAME}@last", "--text=To be"),
    ("compare", NAME, f"{NAME}@last", "--prompt=A", "--max-tokens=3"),
    ("watch", NAME),
)
RECORDS = ("run.json", "index.json", f"{CHECKPOINT}/info.json", "tokenizer.json", "notes.json")
LOGS = ("events.jsonl", "commands.jsonl")
TENSORS = (f"{CHECKPOINT}/weights.safetensors", f"{CHECKPOINT}/state.safetensors")

Case = tuple[str, str, bytes | None]
"""What is hostile, the file in the run's folder, and what is in it; a FIFO where that is None."""


class HangError(BaseException):
    """Nothing in the program catches it."""


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    def hang(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, hang)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def cases(run: RunFolder) -> Iterator[Case]:
    for file in (*RECORDS, *LOGS, "config.yaml"):
        for words, content in TEXTS.items():
            yield words, file, content
        yield "a FIFO", file, None
    for file in RECORDS[:3]:
        for words, content in odd_records(json.loads((run.path / file).read_bytes())):
            yield words, file, content
    for words, content in YAMLS.items():
        yield words, "config.yaml", content
    for file in LOGS:
        before = (run.path / file).read_bytes() if (run.path / file).exists() else b""
        for words, content in TEXTS.items():
            yield f"at the end {words}", file, before + content + b"\n"
    lines = (run.path / "events.jsonl").read_bytes().splitlines()
    for line in {json.loads(line)["type"]: line for line in lines}.values():
        for words, content in odd_records(json.loads(line)):
            yield words, "events.jsonl", b"\n".join([*lines[:-1], content, lines[-1], b""])
    for file in TENSORS:
        for words, content in odd_tensors((run.path / file).read_bytes()):
            yield words, file, content
        yield "a FIFO", file, None
    for words, content in odd_metadata((run.path / TENSORS[1]).read_bytes()):
        yield words, TENSORS[1], content


def put(run: RunFolder, file: str, content: bytes | None) -> None:
    path = run.path / file
    path.unlink(missing_ok=True)
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    if file in TENSORS:
        sign(run, path, content or b"")


def sign(run: RunFolder, path: Path, content: bytes) -> None:
    """Whoever makes a hostile file makes its digest, too."""
    info = path.parent / "info.json"
    digests = {f"{path.stem}_sha256": hashlib.sha256(content).hexdigest()}
    info.write_text(json.dumps(json.loads(info.read_text()) | digests))


def attack(cases: Iterable[tuple[Case, tuple[str, ...]]], run: RunFolder, cli: CommandLine) -> None:
    """Put each file into the run, give the command, and put the run back."""
    original = shutil.copytree(run.path, run.path.parent.parent / "original")
    for (words, file, content), command in cases:
        put(run, file, content)
        case = f"{file}: {words}: {' '.join(command)}"
        signal.alarm(SECONDS)
        try:
            outcome = cli(*command)
        except (Exception, HangError) as error:
            raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error
        signal.alarm(0)
        assert outcome.code in (0, 1, 2), (case, outcome)
        assert "Traceback" not in outcome.err, (case, outcome)
        if command[0] == "runs":
            assert outcome.code == 0, (case, outcome)
        elif outcome.code:
            assert re.search(r"^(error|failed): .", outcome.err, re.MULTILINE), (case, outcome)
        if command[0] == "generate" and file == TENSORS[0] and words in ("NaN", "infinite"):
            assert outcome.code == 2, (case, outcome)
        FAULTS["hostile files of a run"] += 1
        shutil.rmtree(run.path)
        shutil.copytree(original, run.path)


def test_hostile_files_of_a_run_end_in_words(trained: RunFolder, cli: CommandLine) -> None:
    # Every 29th, each with the next command.
    some = itertools.islice(cases(trained), 0, None, 29)
    attack(zip(some, itertools.cycle(COMMANDS)), trained, cli)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[:2]))
def test_all_hostile_files_of_a_run_end_in_words(
    command: tuple[str, ...], trained: RunFolder, cli: CommandLine
) -> None:
    attack(((case, command) for case in list(cases(trained))), trained, cli)


CONFIGS = TEXTS | {f"YAML: {words}": content for words, content in YAMLS.items()}


@pytest.mark.parametrize("words", CONFIGS)
def test_a_hostile_config_ends_in_words(words: str, cli: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(CONFIGS[words])
    signal.alarm(SECONDS)
    outcome = cli("config", "show", str(path))
    assert outcome.code in (0, 2), outcome
    if outcome.code:
        assert outcome.err.startswith("error: "), outcome
    assert "\x1b" not in outcome.out + outcome.err
    FAULTS["hostile configs"] += 1


@pytest.mark.parametrize("words", CONFIGS)
def test_hostile_settings_keys_and_drafts_never_keep_the_lab_from_opening(
    words: str, tmp_path: Path
) -> None:
    from shakespeare_tui.ui.keys import load_keymap
    from shakespeare_tui.ui.settings import Settings

    path = tmp_path / "file.yaml"
    path.write_bytes(CONFIGS[words])
    signal.alarm(SECONDS)
    settings = Settings.load(path)
    assert isinstance(settings.theme, str)
    keymap = load_keymap(path)
    assert all(isinstance(item, str) for pair in keymap.keys.items() for item in pair)
    FAULTS["hostile settings and key maps"] += 2
