"""Wrong input of every kind: one line that helps, exit code 2, and nothing changed on disk."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoint_trees import add_run
from real_cli import TINY, CommandLine
from trained_run import fingerprints, trained

from shakespeare_tui.runs.folder import RunFolder

__all__ = ["trained"]


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("notes.txt").write_text("a file of the user's own\n")
    Path("play.txt").write_text("ANNA:\nWell met, Ben, though I am late.\n\n" * 50)
    return folder


def write_config(text: str) -> str:
    Path("mine.yaml").write_text(text)
    return "mine.yaml"


def edit_json(path: Path, **changes: object) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **changes}))


def rewrite(path: Path, content: bytes | str) -> None:
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


PLAY = (*TINY, "--corpus=play.txt")
"""Tiny training on a corpus that has not been encoded yet, as every new one."""

Prepare = Callable[[RunFolder], object]


def nothing(run: RunFolder) -> None:
    pass


# What goes wrong, how it comes about, the arguments, and words that the line must have.
Case = tuple[str, Prepare, tuple[str, ...], tuple[str, ...]]

CORPUS: list[Case] = [
    (
        "corpus of one byte",
        lambda run: Path("one.txt").write_text("a"),
        ("train", "--corpus=one.txt"),
        ("too short", "use a longer text"),
    ),
    (
        "corpus with four training tokens",
        lambda run: Path("four.txt").write_text("abababab"),
        ("train", "--corpus=four.txt", "--set=model.max_seq_len=2", "--set=data.val_fraction=0.5"),
        ("too short: 8 tokens split into 4 for training", "need 5", "use a longer text"),
    ),
    (
        "corpus of one character, repeated",
        lambda run: Path("aaa.txt").write_text("a" * 5000),
        ("train", "--corpus=aaa.txt"),
        ("one character repeated", "nothing to learn", "at least two different"),
    ),
    (
        "empty corpus",
        lambda run: Path("empty.txt").write_text(""),
        ("train", "--corpus=empty.txt"),
        ("empty.txt is empty", "name a file"),
    ),
    (
        "binary corpus",
        lambda run: Path("photo.txt").write_bytes(bytes(range(256)) * 40),
        ("train", "--corpus=photo.txt"),
        ("photo.txt", "byte"),
    ),
    (
        "corpus in another encoding",
        lambda run: Path("latin.txt").write_bytes("Ça va, mon frère ? ".encode("latin-1") * 99),
        ("train", "--corpus=latin.txt"),
        ("latin.txt", "UTF-8"),
    ),
    ("missing corpus", nothing, ("train", "--corpus=hamlet.txt"), ("hamlet.txt", "no corpus")),
    ("near-name corpus", nothing, ("train", "--corpus=smple"), ("smple", "sample")),
    (
        "folder without text",
        lambda run: Path("pictures").mkdir(),
        ("train", "--corpus=pictures"),
        ("pictures", "no text files"),
    ),
    ("empty corpus name", nothing, ("train", "--corpus="), ("corpus",)),
]

CONFIG: list[Case] = [
    (
        "typo in a config's key",
        lambda run: write_config("model:\n  n_layer: 2\n"),
        ("train", "--config=mine.yaml"),
        ("mine.yaml:2", "model.n_layer", "n_layers"),
    ),
    (
        "wrong type in a config",
        lambda run: write_config("model:\n  d_model: wide\n"),
        ("train", "--config=mine.yaml"),
        ("mine.yaml:2", "model.d_model", "whole number", "'wide'"),
    ),
    (
        "heads that do not divide the width",
        nothing,
        ("train", "--set=model.d_model=100", "--set=model.n_heads=3"),
        ("d_model", "n_heads", "100", "3"),
    ),
    ("unknown preset", nothing, ("train", "--config=tinny"), ("tinny", "did you mean", "tiny")),
    ("config that is a folder", nothing, ("train", "--config=."), (".", "folder")),
    (
        "config that is no YAML",
        lambda run: write_config("model: [1, 2\n"),
        ("train", "--config=mine.yaml"),
        ("mine.yaml",),
    ),
    ("empty config name", nothing, ("train", "--config="), ("config",)),
    ("--set without a value", nothing, ("train", "--set=model.d_model"), ("value is missing",)),
    ("--set without a section", nothing, ("train", "--set=d_model=64"), ("model.d_model",)),
    ("--set of an unknown key", nothing, ("train", "--set=training.lr=1"), ("learning_rate",)),
    ("--set of nothing", nothing, ("train", "--set="), ("--set",)),
    ("no steps", nothing, ("train", "--max-steps=0"), ("max_steps", "at least 1")),
    ("steps in words", nothing, ("train", "--max-steps=ten"), ("max_steps", "whole number")),
    ("negative minutes", nothing, ("train", "--minutes", "-1"), ("minutes", "-1")),
    (
        "minutes and steps",
        nothing,
        ("train", "--minutes=1", "--max-steps=5"),
        ("--max-steps", "--minutes"),
    ),
    (
        "device that is not there",
        nothing,
        ("train", *TINY, "--set=training.device=cuda:99"),
        ("cuda:99", "auto"),
    ),
    (
        "model beyond the memory",
        nothing,
        ("train", "--corpus=sample", "--set=model.d_model=16384", "--set=model.n_layers=256"),
        ("memory", "lower model.d_model"),
    ),
]

NAMES: list[Case] = [
    (
        "name already taken",
        nothing,
        ("train", *PLAY, "--name=alpha"),
        ("alpha", "--resume"),
    ),
    (
        "name with a slash",
        nothing,
        ("train", *PLAY, "--name=a/b"),
        ("'a/b'", "letters"),
    ),
    (
        "name that climbs out",
        nothing,
        ("train", *PLAY, "--name=.."),
        ("'..'", "letters"),
    ),
    ("empty name", nothing, ("train", *PLAY, "--name="), ("''", "letters")),
    ("unknown run", nothing, ("generate", "beta"), ("'beta'", "runs here: alpha")),
    ("nearly the name of a run", nothing, ("eval", "alpah"), ("did you mean alpha?",)),
    ("empty reference", nothing, ("generate", ""), ("no run ''",)),
    ("unknown step", nothing, ("generate", "alpha@15"), ("step 15", "10, 20, 30")),
    ("step beyond reason", nothing, ("eval", f"alpha@{'9' * 400}"), ("alpha",)),
    ("step of 5000 digits", nothing, ("eval", f"alpha@{'9' * 5000}"), ("alpha",)),
    ("reference beyond reason", nothing, ("eval", "a" * 5000), ("no run",)),
    ("bad reference", nothing, ("generate", "alpha@newest"), ("best, last or a step", "'newest'")),
    ("step below zero", nothing, ("generate", "alpha@-10"), ("best, last or a step",)),
    ("folder that is no run", nothing, ("generate", "."), ("no run '.'",)),
]

GENERATE: list[Case] = [
    ("unknown character", nothing, ("generate", "alpha", "--prompt=Hé"), ("'é'", "position 1")),
    ("empty prompt", nothing, ("generate", "alpha", "--prompt="), ("prompt is empty",)),
    ("bad temperature", nothing, ("generate", "alpha", "--temperature=-1"), ("temperature", "-1")),
    ("temperature NaN", nothing, ("generate", "alpha", "--temperature=nan"), ("temperature",)),
    ("temperature in words", nothing, ("generate", "alpha", "--temperature=hot"), ("'hot'",)),
    ("top-p of 0", nothing, ("generate", "alpha", "--top-p=0"), ("top_p", "above 0")),
    ("top-p above 1", nothing, ("generate", "alpha", "--top-p=1.5"), ("top_p", "1.5")),
    ("negative top-k", nothing, ("generate", "alpha", "--top-k=-3"), ("top_k", "-3")),
    ("penalty of 0", nothing, ("generate", "alpha", "--repetition-penalty=0"), ("above 0",)),
    ("negative seed", nothing, ("generate", "alpha", "--seed=-1"), ("seed",)),
    ("no tokens", nothing, ("generate", "alpha", "--max-tokens=0"), ("--max-tokens", "at least 1")),
    ("tokens beyond memory", nothing, ("generate", "alpha", f"--max-tokens={10**13}"), ("tokens",)),
    ("seed beyond reason", nothing, ("generate", "alpha", f"--seed={'9' * 400}"), ("seed",)),
    ("no samples", nothing, ("generate", "alpha", "--num-samples=0"), ("--num-samples",)),
    ("unknown device", nothing, ("generate", "alpha", "--device=gpu"), ("gpu", "cuda")),
    ("absent device", nothing, ("eval", "alpha", "--device=cuda:99"), ("cuda:99",)),
    (
        "output into a missing folder",
        nothing,
        ("generate", "alpha", "--output=nowhere/out.txt"),
        ("nowhere/out.txt",),
    ),
    ("output onto a folder", nothing, ("generate", "alpha", "--output=."), ("--output",)),
    ("unknown option", nothing, ("generate", "alpha", "--hot"), ("--hot",)),
    ("missing argument", nothing, ("generate",), ("RUN",)),
    ("unknown command", nothing, ("trian",), ("trian", "train")),
    ("unknown protocol", nothing, ("eval", "alpha", "--protocol=best"), ("exact", "nanogpt")),
    ("no batches", nothing, ("eval", "alpha", "--batches=0"), ("--batches",)),
    ("score of a missing file", nothing, ("score", "alpha", "--file=no.txt"), ("'no.txt'", "path")),
    ("score of a folder", nothing, ("score", "alpha", "--file=."), ("'.'", "text file")),
    (
        "score of a binary file",
        lambda run: rewrite(Path("photo.txt"), b"GIF\x00\x01"),
        ("score", "alpha", "--file=photo.txt"),
        ("photo.txt is not text", "offset 3"),
    ),
    (
        "score of another encoding",
        lambda run: rewrite(Path("latin.txt"), "Ça va".encode("latin-1")),
        ("score", "alpha", "--file=latin.txt"),
        ("latin.txt", "UTF-8", "0xc7"),
    ),
    (
        "score of an empty file",
        lambda run: rewrite(Path("empty.txt"), ""),
        ("score", "alpha", "--file=empty.txt"),
        ("empty.txt is empty",),
    ),
    ("score of no text", nothing, ("score", "alpha", "--text="), ("--text is empty",)),
    ("score of one character", nothing, ("score", "alpha", "--text=a"), ("two tokens",)),
    (
        "score of an unknown character",
        nothing,
        ("score", "alpha", "--text=Hé"),
        ("'é'", "position 1"),
    ),
    ("score of nothing", nothing, ("score", "alpha"), ("--file", "--text")),
    ("score twice", nothing, ("score", "alpha", "--text=ab", "--file=notes.txt"), ("--file",)),
    ("score of an unknown run", nothing, ("score", "beta", "--text=ab"), ("'beta'",)),
    ("watch at no speed", nothing, ("watch", "alpha", "--speed=0"), ("--speed", "1000")),
]


def without_checkpoints(run: RunFolder) -> None:
    (run.path / "index.json").unlink()
    for step in run.steps():
        shutil.rmtree(run.checkpoint_folder(step))


RESUME: list[Case] = [
    (
        "resume of a run without checkpoint",
        without_checkpoints,
        ("train", "--no-ui", "--resume=alpha"),
        ("alpha", "no checkpoint", "new run"),
    ),
    ("resume of nothing", nothing, ("train", "--no-ui", "--resume="), ("no run ''",)),
    ("resume of an unknown step", nothing, ("train", "--resume=alpha@7"), ("step 7", "10, 20, 30")),
    ("resume of a bad step", nothing, ("train", "--resume=alpha@best!"), ("alpha@STEP",)),
    (
        "resume with another model",
        nothing,
        ("train", "--resume=alpha", "--set=model.d_model=32"),
        ("model", "start a new run"),
    ),
    (
        "resume with another corpus",
        nothing,
        ("train", "--resume=alpha", "--corpus=play.txt"),
        ("data", "start a new run"),
    ),
    (
        "resume with another optimiser",
        nothing,
        ("train", "--resume=alpha", "--set=training.optimizer=sgd"),
        ("training.optimizer", "start a new run"),
    ),
    ("resume and name", nothing, ("train", "--resume=alpha", "--name=b"), ("--resume",)),
    ("resume and from", nothing, ("train", "--resume=alpha", "--from=alpha"), ("--from",)),
    ("from nothing", nothing, ("train", *TINY, "--from="), ("no run ''",)),
    ("from another shape", nothing, ("train", *TINY, "--from=alpha", "--set=model.n_layers=2"),
     ("another shape", "config.yaml")),
]  # fmt: skip

DAMAGE: list[Case] = [
    (
        "truncated weights",
        lambda run: cut(run.checkpoint(30).weights_path, 1000),
        ("generate", "alpha"),
        ("weights.safetensors", "damaged", "another checkpoint"),
    ),
    (
        "truncated state",
        lambda run: cut(run.checkpoint(30).state_path, 1000),
        ("train", "--no-ui", "--resume=alpha@30"),
        ("state.safetensors", "damaged"),
    ),
    (
        "pickle for weights",
        lambda run: torch.save({"a": torch.ones(2)}, run.checkpoint(30).weights_path),
        ("generate", "alpha"),
        ("weights.safetensors", "not a checkpoint"),
    ),
    (
        "newer checkpoint",
        lambda run: edit_json(run.checkpoint_folder(30) / "info.json", format=99),
        ("generate", "alpha"),
        ("info.json", "newer version", "update shakespeare-tui"),
    ),
    (
        "newer run",
        lambda run: edit_json(run.path / "run.json", format=99),
        ("train", "--no-ui", "--resume=alpha"),
        ("run.json", "newer version", "update shakespeare-tui"),
    ),
    (
        "garbage in info.json",
        lambda run: rewrite(run.checkpoint_folder(30) / "info.json", "{"),
        ("generate", "alpha"),
        ("info.json", "damaged"),
    ),
    (
        "garbage in index.json",
        lambda run: rewrite(run.path / "index.json", b"\xff\xfe\x00"),
        ("generate", "alpha"),
        ("index.json", "alpha@STEP"),
    ),
    (
        "garbage in tokenizer.json",
        lambda run: rewrite(run.path / "tokenizer.json", '{"type": "char", "characters": ["ab"]}'),
        ("generate", "alpha"),
        ("tokenizer.json", "damaged"),
    ),
    (
        "missing config.yaml",
        lambda run: (run.path / "config.yaml").unlink(),
        ("eval", "alpha"),
        ("config.yaml",),
    ),
    (
        "config with a typo in a run",
        lambda run: rewrite(run.path / "config.yaml", "model: {d_mdel: 3}"),
        ("eval", "alpha"),
        ("config.yaml:1", "d_model"),
    ),
]  # fmt: skip

CASES = [*CORPUS, *CONFIG, *NAMES, *GENERATE, *RESUME, *DAMAGE]


@pytest.mark.parametrize(("prepare", "arguments", "words"), [c[1:] for c in CASES],
                         ids=[c[0] for c in CASES])  # fmt: skip
def test_one_line_code_2_and_an_untouched_disk(
    prepare: Prepare,
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    trained: RunFolder,
    cli: CommandLine,
    tmp_path: Path,
) -> None:
    prepare(trained)
    before = fingerprints(tmp_path)
    outcome = cli(*arguments)
    lines = outcome.err.removeprefix("no terminal here: training without the lab\n").splitlines()
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < 1000
    for word in words:
        assert word in lines[0]
    assert fingerprints(tmp_path) == before


def test_twenty_kinds_and_more() -> None:
    assert len({case[0] for case in CASES}) == len(CASES) >= 20


def test_a_config_with_several_problems_has_a_line_for_each(
    cli: CommandLine, tmp_path: Path
) -> None:
    write_config("model:\n  d_model: 0\n  n_layer: 2\ntraining:\n  learning_rate: fast\n")
    before = fingerprints(tmp_path)
    outcome = cli("train", "--no-ui", "--config=mine.yaml", "--set=training.max_steps=0")
    assert outcome.code == 2
    places = ("mine.yaml:2", "mine.yaml:3", "mine.yaml:5", "--set training.max_steps=0")
    lines = outcome.err.removeprefix("error: ").splitlines()
    assert [place for place, line in zip(places, lines, strict=True) if line.startswith(place)] == [
        *places
    ]
    assert fingerprints(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--no-ui", "--config=tinny"),
        ("generate", "nobody", "--prompt=O"),
        ("generate", "--max-tokens", "many"),
    ],
)
def test_as_a_process(arguments: tuple[str, ...], working_folder: Path) -> None:
    command = [sys.executable, "-m", "shakespeare_tui", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in working_folder.iterdir()) == ["notes.txt", "play.txt"]


class TestPlacesThatCannotBeWritten:
    """Not the command's fault: exit code 1, still one line and no traceback."""

    def test_runs_folder_is_a_file(
        self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("SHAKESPEARE_TUI_RUNS", str(tmp_path / "work" / "notes.txt"))
        outcome = cli("train", *TINY, "--no-ui", "--max-steps=1")
        assert outcome.code == 1
        assert outcome.err.startswith("failed: ")
        assert "notes.txt" in outcome.err
        assert outcome.err.count("\n") == 1

    def test_cache_is_a_file(self, cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", "notes.txt")
        outcome = cli("train", *TINY, "--no-ui", "--max-steps=1")
        assert outcome.code == 1
        assert outcome.err.startswith("failed: ")
        assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("source", ["/dev/zero", "stdin"])
def test_a_text_without_end_is_refused(
    source: str, cli: CommandLine, trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device is refused by its first bytes, a text that goes on by the limit."""
    from shakespeare_tui.cli import writing as text_input

    class Endless:
        def read(self, size: int) -> bytes:
            return b"To be. " * (size // 7)

    if source == "/dev/zero":
        outcome = cli("score", "alpha", "--file", "/dev/zero")
        assert "/dev/zero is not text: NUL byte at offset 0" in outcome.err
    else:
        monkeypatch.setattr(text_input.sys, "stdin", type("Stdin", (), {"buffer": Endless()}))
        outcome = cli("score", "alpha", "--file", "-")
        assert "stdin is longer than 100 MB" in outcome.err
    assert (outcome.code, outcome.out) == (2, "")


@pytest.mark.parametrize("option", [("--config", "pipe"), ("--config", "/dev/zero")])
def test_a_config_that_is_no_file_is_not_waited_for(
    option: tuple[str, str], cli: CommandLine
) -> None:
    os.mkfifo("pipe")
    outcome = cli("train", "--no-ui", *option)
    assert (outcome.code, outcome.out) == (2, "")
    assert "cannot be read (not a regular file)" in outcome.err


def test_a_config_of_fifty_megabytes_is_refused_at_once(
    cli: CommandLine, trained: RunFolder
) -> None:
    """The run's own, too: it is listed with the reason, and not used."""
    (trained.path / "config.yaml").write_text("model:\n" + "  d_model: 64\n" * 4_000_000)
    for arguments in (("generate", "alpha"), ("train", "--no-ui", "--resume", "alpha")):
        outcome = cli(*arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert "larger than 128 KB" in outcome.err
    assert "larger than 128 KB" in cli("runs").err


def test_a_run_without_weights_says_so_and_a_damaged_one_is_not_called_missing(
    cli: CommandLine, trained: RunFolder, runs_root: Path
) -> None:
    shutil.copytree(trained.path, runs_root / "young", ignore=lambda *_: ["index.json"])
    for step in RunFolder(runs_root / "young").steps():
        shutil.rmtree(RunFolder(runs_root / "young").checkpoint_folder(step))
    outcome = cli("generate", "young")
    assert (outcome.code, outcome.out) == (2, "")
    assert "run young has no checkpoint yet, so there are no weights" in outcome.err
    (trained.path / "run.json").write_text("{")
    outcome = cli("generate", "alpha")
    assert "no run" not in outcome.err
    assert "run.json is damaged" in outcome.err


def test_runs_here_are_counted_where_not_all_are_named(cli: CommandLine, runs_root: Path) -> None:
    for number in range(9):
        add_run(runs_root, f"run-{number}", created=number)
    outcome = cli("generate", "zzz")
    assert "and 3 more" in outcome.err
    assert "shakespeare-tui runs" in outcome.err


RUN_FILES = (
    *("run.json", "config.yaml", "tokenizer.json", "events.jsonl", "commands.jsonl"),
    *("index.json", "notes.json"),
    *(
        f"step-00000030/{name}"
        for name in ("info.json", "weights.safetensors", "state.safetensors")
    ),
)
COMMANDS = (
    ("train", "--no-ui", "--resume", "alpha", "--max-steps=31"),
    ("generate", "alpha@30", "--max-tokens=2"),
    ("runs",),
)


@pytest.mark.parametrize("file", RUN_FILES)
def test_a_fifo_in_the_place_of_any_file_of_a_run_is_never_waited_for(
    file: str, cli: CommandLine, trained: RunFolder
) -> None:
    (trained.path / file).unlink(missing_ok=True)
    os.mkfifo(trained.path / file)
    for arguments in COMMANDS:
        outcome = cli(*arguments)
        assert outcome.code in (0, 1, 2), outcome
        assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"uniform": NaN}', f'{{"a": {"9" * 400}}}', " " * 5_000_000, "[1]", None],
    ids=["deep", "nan", "digits", "huge", "list", "fifo"],
)
def test_a_damaged_cache_is_measured_anew(
    content: str | None, cli: CommandLine, trained: RunFolder, runs_root: Path
) -> None:
    cache = runs_root.parent / "cache"
    paths = [*(cache / "baselines").iterdir(), cache / "precisions.json"]
    assert len(paths) == 2
    for path in paths:
        path.unlink(missing_ok=True)
        os.mkfifo(path) if content is None else path.write_text(content)
    outcome = cli("train", "--no-ui", *TINY, "--max-steps=1", "--name=fresh", "--json")
    assert outcome.code == 0, outcome.err
    started = json.loads((runs_root / "fresh" / "events.jsonl").read_text().splitlines()[0])
    first = json.loads(trained.events_path.read_text().splitlines()[0])
    assert started["baselines"] == first["baselines"]
