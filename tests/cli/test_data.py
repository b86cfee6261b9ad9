import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from shakespeare_tui.cli.main import main
from shakespeare_tui.data.catalogue import CATALOGUE, CorpusEntry, UrlSource

PLAY = """\
ANNA:
Good morrow, Ben.

BEN:
Good morrow, [b]Anna[/b]. \x1b[31mIt rains.

ANNA:
I think it does. 9 é 中

"""


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    return folder


@pytest.fixture
def play(working_folder):
    path = working_folder / "play.txt"
    path.write_text(PLAY * 40, encoding="utf-8")
    return path


@pytest.fixture
def fetchable(tmp_path, monkeypatch):
    content = b"ANNA:\nFetched.\n\n" * 9
    (tmp_path / "origin.txt").write_bytes(content)
    entry = CorpusEntry(
        "fetchable",
        "A corpus to fetch",
        "CC0-1.0",
        len(content),
        hashlib.sha256(content).hexdigest(),
        (UrlSource((tmp_path / "origin.txt").as_uri()),),
    )
    monkeypatch.setitem(CATALOGUE, entry.name, entry)
    return entry


def test_list_shows_what_is_at_hand(capsys, fetchable, working_folder):
    (working_folder / "data").mkdir()
    (working_folder / "data" / "mine.txt").write_text("mine")
    assert main(["data", "list"]) == 0
    text = capsys.readouterr().out
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][:3] == ["tiny_shakespeare", "1.1", "MB"]
    assert "public domain" in text
    assert "not fetched yet" in text
    assert ["data/mine.txt", "4", "B"] in lines
    assert main(["data", "list", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    corpora = {corpus["name"]: corpus for corpus in record["corpora"]}
    assert corpora["tiny_shakespeare"]["path"] is None
    assert Path(corpora["sample"]["path"]).is_file()
    assert record["files"] == [{"path": "data/mine.txt", "size_bytes": 4}]


def test_list_goes_on_where_a_corpus_is_spoilt(capsys, fetchable, working_folder):
    (working_folder / "data").mkdir()
    (working_folder / "data" / "fetchable.txt").write_text("something else")
    assert main(["data", "list"]) == 0
    assert "SHA-256 differs" in " ".join(capsys.readouterr().out.split())


def test_fetch_prints_the_path(capsys, fetchable):
    assert main(["data", "fetch", "fetchable"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == fetchable.sha256
    assert main(["data", "fetch", "fetchable", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == {"name": "fetchable", "path": str(path), "fetched": False}
    assert main(["data", "fetch", "fetchable", "--json", "--force"]) == 0
    assert json.loads(capsys.readouterr().out)["fetched"] is True


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_fetch_of_what_is_shipped_prints_where_it_is(capsys, options):
    assert main(["data", "fetch", "sample", *options]) == 0
    assert Path(capsys.readouterr().out.strip()).name == "sample.txt"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "tiny_shakspeare"], "did you mean 'tiny_shakespeare'"),
        (["inspect", "tiny_shakspeare"], "did you mean 'tiny_shakespeare'"),
        (["inspect", "binary.txt"], "offset 3;"),
        (["inspect", "play.txt", "--val-fraction", "1"], "between 0 and 1"),
    ],
)
def test_wrong_input_is_one_line(capsys, play, arguments, message):
    Path("binary.txt").write_bytes(b"abc\xff")
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_failed_fetch_leaves_no_file(capsys, fetchable, tmp_path):
    (tmp_path / "origin.txt").write_bytes(b"x" * fetchable.size_bytes)
    assert main(["data", "fetch", "fetchable"]) == 2
    assert "wrong content" in capsys.readouterr().err
    assert not list((tmp_path / "cache").rglob("*.txt"))


def test_inspect_shows_the_figures(capsys, play):
    assert main(["data", "inspect", "play.txt", "--val-fraction", "0.2"]) == 0
    text = capsys.readouterr().out
    n = len(PLAY) * 40
    rows = [line.split() for line in text.splitlines()]
    assert ["characters", f"{n:,}"] in rows
    assert ["training", f"{int(0.8 * n):,}", "80.0%"] in [row[:3] for row in rows]
    assert ["speeches", "120"] in rows
    assert ["speakers", "2"] in rows
    assert [row[:3] for row in rows if row[:1] == ["space"]] == [
        ["space", f"{PLAY.count(' ') * 40:,}", f"{PLAY.count(' ') / len(PLAY):.2%}"]
    ]
    assert any(row[:1] == ["5-gram"] for row in rows)
    assert "Good morrow, Ben." in text
    # Text is shown as it is, and what would steer the terminal as an escape.
    assert r"[b]Anna[/b]. \x1b[31mIt" in text
    assert "\x1b" not in text


def test_inspect_as_json(capsys, play):
    assert main(["data", "inspect", "play.txt", "--json"]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["sha256"] == hashlib.sha256(play.read_bytes()).hexdigest()
    assert record["play"]["speeches"] == 120


@pytest.mark.parametrize("columns", [40, 60, 120])
def test_inspect_fits_the_terminal(capsys, play, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["data", "inspect", "play.txt"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert any("█" in line for line in lines)
    # No number is cut: a column that finds no room is left out.
    head = next(line.split() for line in lines if line.split()[:2] == ["speeches", "characters"])
    assert head == ["speeches", "characters", *(["mean"] if columns > 40 else []), "share"]


def test_works_in_a_pipe_without_utf8(play):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "NO_COLOR": "1", "TERM": "dumb"}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "shakespeare_tui", "data", "inspect", str(play)]
    done = subprocess.run(
        command, capture_output=True, env={**environment, "PYTHONPATH": str(root)}, check=True
    )
    text = done.stdout.decode("ascii")
    assert done.stderr == b""
    assert "#####" in text
    assert r"\xe9" in text


def test_importing_the_command_loads_nothing_heavy():
    root = Path(__file__).parents[2]
    script = (
        "import sys; from shakespeare_tui.cli import data\n"
        "loaded = {'numpy', 'pydantic', 'rich', 'torch', 'textual'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {loaded}' if loaded else 0)"
    )
    subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(root)}, check=True
    )
