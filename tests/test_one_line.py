"""Texts typed in one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.visible_text import read_line, write_line


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (r"ROMEO:\nO", "ROMEO:\nO"),
        (r"a\tb", "a\tb"),
        (r"a\\nb", r"a\nb"),
        (r"C:\dir", r"C:\dir"),
        ("end\\", "end\\"),
        ("two\nlines", "two\nlines"),
        ("", ""),
    ],
)
def test_what_is_meant(line: str, text: str) -> None:
    assert read_line(line) == text


@given(st.text(alphabet="nt\\\n\tab"))
def test_any_text_comes_back_from_one_line(text: str) -> None:
    line = write_line(text)
    assert "\n" not in line and "\t" not in line
    assert read_line(line) == text
