"""Paths that are completed as one types them."""

import os
import shutil
from pathlib import Path

import pytest

from shakespeare_tui.ui.widgets.path_dialog import PathSuggester, common_start, complete_path

TEXTS = (".txt", ".md")


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("hamlet.txt", "henry.txt", "Hero.md", "héloïse.txt", "image.png", ".hidden"):
        (tmp_path / name).write_text("x" * 10)
    (tmp_path / "history").mkdir()
    (tmp_path / "history" / "john.txt").write_text("king")
    return tmp_path


def texts_of(typed: str) -> list[str]:
    return [item.text for item in complete_path(typed, TEXTS)]


def test_folders_come_first_then_texts_then_the_rest(texts: Path) -> None:
    found = texts_of("")
    assert found[0] == f"history{os.sep}"
    assert found[-1] == "image.png"
    assert ".hidden" not in found
    assert texts_of(".h") == [".hidden"]


def test_a_prefix_narrows_and_case_matters_only_where_it_helps(texts: Path) -> None:
    assert texts_of("hen") == ["henry.txt"]
    assert texts_of("HEN") == ["henry.txt"]
    assert texts_of("He") == ["Hero.md"]
    assert texts_of("nothing") == []


def test_inside_folders_and_with_absolute_paths(texts: Path) -> None:
    assert texts_of(f"history{os.sep}") == [f"history{os.sep}john.txt"]
    assert texts_of(f"{texts}{os.sep}ham") == [f"{texts}{os.sep}hamlet.txt"]
    assert texts_of(f"missing{os.sep}x") == []
    assert texts_of("\0") == []


def test_the_home_folder_keeps_its_tilde(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(texts))
    monkeypatch.setenv("USERPROFILE", str(texts))
    assert texts_of(f"~{os.sep}hen") == [f"~{os.sep}henry.txt"]


def test_what_all_have_in_common_is_completed(texts: Path) -> None:
    shutil.rmtree(texts / "history")
    typed = "h"
    assert common_start(typed, complete_path(typed, TEXTS)) == "h"
    assert common_start("hen", complete_path("hen", TEXTS)) == "henry.txt"
    assert common_start("x", ()) == "x"


@pytest.mark.parametrize(
    ("typed", "suggestion"),
    [
        ("h", "hamlet.txt"),
        ("his", f"history{os.sep}"),
        ("hen", "henry.txt"),
        ("HEN", None),
        ("henry.txt", None),
        ("i", None),
        (".h", None),
        ("", None),
    ],
)
async def test_a_field_suggests_the_first_that_goes_on_from_what_is_typed(
    texts: Path, typed: str, suggestion: str | None
) -> None:
    assert await PathSuggester(TEXTS).get_suggestion(typed) == suggestion
