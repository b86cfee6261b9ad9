import os

import pytest

from shakespeare_tui.data.available import available_corpora, unchecked_corpora
from shakespeare_tui.data.catalogue import CATALOGUE
from shakespeare_tui.data.download import cached_path
from shakespeare_tui.paths import shipped_folder

NAMED = {name: "shipped" if name == "sample" else "absent" for name in CATALOGUE}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def statuses(own=()) -> dict[str, str]:
    return {item.spec: item.status for item in available_corpora(own)}


def test_named_corpora_are_absent_or_shipped_on_a_bare_machine():
    assert statuses() == NAMED
    by_name = {item.spec: item for item in available_corpora()}
    assert by_name["sample"].size_bytes == (shipped_folder("data") / "sample.txt").stat().st_size
    assert by_name["tiny_shakespeare"].can_fetch
    assert not by_name["sample"].can_fetch


def test_before_anything_is_looked_at_the_same_corpora_are_named():
    assert [item.spec for item in unchecked_corpora()] == list(CATALOGUE)
    assert {item.status for item in unchecked_corpora()} == {"unchecked"}


def test_every_named_corpus_has_an_origin_and_a_licence():
    for item in unchecked_corpora():
        assert item.origin and item.licence and item.title


def test_a_damaged_fetch_counts_as_absent_and_a_wrong_file_in_data_is_refused(empty_folder):
    path = cached_path(CATALOGUE["tiny_shakespeare"])
    path.parent.mkdir(parents=True)
    path.write_text("half of it")
    assert statuses()["tiny_shakespeare"] == "absent"
    (empty_folder / "data").mkdir()
    (empty_folder / "data" / "tiny_shakespeare.txt").write_text("something else")
    (item,) = [item for item in available_corpora() if item.spec == "tiny_shakespeare"]
    assert item.status == "damaged"
    assert "SHA-256" in item.problem


def test_files_in_data_and_ones_own_are_listed_once(empty_folder):
    (empty_folder / "data").mkdir()
    (empty_folder / "data" / "mine.txt").write_text("my own words")
    (empty_folder / "other.txt").write_text("others")
    own = [str(empty_folder / "other.txt"), str(empty_folder / "data" / "mine.txt")]
    found = statuses(own)
    assert found == NAMED | {
        os.path.join("data", "mine.txt"): "own",
        own[0]: "own",
    }


def test_ones_own_that_is_gone_or_empty_stays_with_its_problem(empty_folder):
    (empty_folder / "empty.txt").touch()
    gone, empty = str(empty_folder / "gone.txt"), str(empty_folder / "empty.txt")
    items = {item.spec: item for item in available_corpora([gone, empty])}
    assert items[gone].status == items[empty].status == "damaged"
    assert "no longer exists" in items[gone].problem
    assert "empty" in items[empty].problem


def test_a_file_written_anew_is_told_from_the_old_one(empty_folder):
    path = empty_folder / "text.txt"
    path.write_text("some words")
    before = available_corpora([str(path)])[-1]
    assert available_corpora([str(path)])[-1] == before
    path.write_text("same width")
    os.utime(path, (1, 1))
    assert available_corpora([str(path)])[-1] != before


def test_a_folder_of_texts_is_one_corpus(empty_folder):
    for name in ("a.txt", "b.md", "c.png"):
        (empty_folder / name).write_text("12345")
    item = available_corpora([str(empty_folder)])[-1]
    assert (item.status, item.size_bytes, item.origin[:7]) == ("own", 10, "2 files")
