"""Several corpora at once, some of them read more often than others."""

from pathlib import Path

import pytest

from shakespeare_tui.config.load import parse_config
from shakespeare_tui.data.source import locate_corpus
from shakespeare_tui.errors import UserError


@pytest.fixture(autouse=True)
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAKESPEARE_TUI_CACHE", str(tmp_path / "cache"))
    (tmp_path / "plays").mkdir()
    (tmp_path / "plays" / "one.txt").write_text("one\n")
    (tmp_path / "plays" / "two.txt").write_text("two\n")
    (tmp_path / "letters.txt").write_text("letters")
    (tmp_path / "apart.txt").write_text("apart\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_texts_follow_one_another_each_as_often_as_it_says() -> None:
    source = locate_corpus("plays*2 + letters.txt*3", "apart.txt")
    assert source is not None
    text = "".join(source.iter_text())
    assert text == "one\ntwo\none\ntwo\nletters\nletters\nletters"
    assert source.size_bytes == 2 * 8 + 3 * 7
    assert source.name == "plays+letters"
    assert source.validation is not None
    assert "".join(source.validation.iter_text()) == "apart\n"


def test_without_weights_the_end_is_kept_as_of_a_folder() -> None:
    source = locate_corpus("letters.txt + plays")
    assert source is not None
    assert "".join(source.iter_text()) == "letters\none\ntwo\n"
    assert source.validation is None


def test_what_is_read_twice_needs_a_validation_text() -> None:
    with pytest.raises(UserError, match="data.validation=FILE"):
        locate_corpus("letters.txt*2")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("letters.txt + absent.txt", "no corpus, file or folder is called 'absent.txt'"),
        ("letters.txt*0 + plays", "a weight is 1 or more"),
        ("letters.txt + ", "the name of a corpus is empty"),
    ],
)
def test_what_is_wrong_is_named(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        locate_corpus(spec)


def test_what_is_not_fetched_yet_leaves_all_to_be_fetched() -> None:
    assert locate_corpus("letters.txt + tinystories") is None


def test_a_file_of_such_a_name_is_itself(texts: Path) -> None:
    (texts / "a + b*2").write_text("itself")
    source = locate_corpus("a + b*2")
    assert source is not None
    assert "".join(source.iter_text()) == "itself"


def test_a_list_in_yaml_is_the_same() -> None:
    written = "data:\n  corpus:\n    - {path: plays, weight: 2}\n    - letters.txt\n"
    assert parse_config(written, "-").data.corpus == "plays*2 + letters.txt"


@pytest.mark.parametrize("member", ["{weight: 3}", "{path: a, weight: much}", "{paths: a}", "[a]"])
def test_a_list_of_anything_else_is_refused(member: str) -> None:
    with pytest.raises(UserError, match="corpus"):
        parse_config(f"data:\n  corpus: [{member}]\n", "-")
