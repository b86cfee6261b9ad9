"""Exported texts: what is in the file is what was written, whatever the text holds."""

import json
from pathlib import Path

import pytest

from shakespeare_tui.errors import UserError
from shakespeare_tui.ui.playground.export import WrittenText, export_texts

ONE = WrittenText(
    checkpoint="quick-1@2000",
    strategy="temperature=0.8",
    settings={"temperature": 0.8, "seed": 42},
    prompt="ROMEO:",
    text="\n```\n[b]a``` | pipe\n````",
    measures={"distinct_2": 0.5, "longest_loop": 3, "memorisation": {"longest": 4}, "copied": None},
)
TWO = WrittenText(checkpoint="", strategy="", settings={}, prompt="", text="plain\n")


def test_one_text_is_written_as_it_is(tmp_path: Path) -> None:
    export_texts(tmp_path / "a.txt", [ONE])
    assert (tmp_path / "a.txt").read_text() == ONE.prompt + ONE.text + "\n"


def test_several_texts_have_a_title_each(tmp_path: Path) -> None:
    export_texts(tmp_path / "a.TXT", [ONE, TWO])
    written = (tmp_path / "a.TXT").read_text()
    assert written.startswith("=== quick-1@2000 · temperature=0.8 ===\nROMEO:\n")
    assert written.endswith("\n=== text ===\nplain\n")


def test_json_reads_back(tmp_path: Path) -> None:
    export_texts(tmp_path / "a.json", [ONE, TWO])
    columns = json.loads((tmp_path / "a.json").read_text())["columns"]
    assert columns[0]["text"] == ONE.text
    assert columns[0]["settings"] == {"temperature": 0.8, "seed": 42}
    assert columns[0]["measures"]["memorisation"] == {"longest": 4}
    assert list(columns[1]) == [
        *("checkpoint", "strategy", "settings"),
        *("prompt", "text", "measures"),
    ]


def test_a_fence_in_markdown_is_longer_than_any_in_the_text(tmp_path: Path) -> None:
    export_texts(tmp_path / "a.md", [ONE, TWO])
    lines = (tmp_path / "a.md").read_text().splitlines()
    assert lines.count("`````text") == 1
    start = lines.index("`````text")
    end = lines.index("`````")
    assert "\n".join(lines[start + 1 : end]) == ONE.prompt + ONE.text
    assert "| distinct_2 | 0.5 |" in lines
    assert "| copied | - |" in lines
    assert "## text" in lines


def test_an_unknown_ending_and_a_folder_in_the_way_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.txt, \.md or \.json"):
        export_texts(tmp_path / "a.doc", [ONE])
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export_texts(tmp_path / "file" / "a.txt", [ONE])
