"""What would steer a terminal is made visible; all other text stays what it is."""

import sys
import unicodedata

import pytest

from shakespeare_tui.visible_text import LINES, visible

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
DIRECTIONS = list("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.mark.parametrize("character", [*CONTROLS, *DIRECTIONS, "\u2028", "\u2029", "\ufeff"])
def test_what_steers_is_shown_as_its_code(character: str) -> None:
    shown = visible(f"a{character}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.startswith("a\\")
    # Nothing is lost: the code can be read back.
    assert shown.encode("ascii").decode("unicode_escape") == f"a{character}b"


def test_nothing_that_steers_is_left_of_any_character() -> None:
    for start in range(0, sys.maxunicode + 1, 4096):
        shown = set(visible("".join(map(chr, range(start, start + 4096)))))
        assert shown
        assert all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in shown)
        assert all(unicodedata.bidirectional(c) not in BIDI for c in shown)


BIDI = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def test_sequences_come_apart() -> None:
    assert visible("\x1b]0;owned\x07") == "\\x1b]0;owned\\x07"
    assert visible("\x9b31m\u202etxt") == "\\x9b31m\\u202etxt"


@pytest.mark.parametrize(
    "text",
    [
        "ROMEO: to be",
        "café naïve",
        "«\u00a0Ah\u202f!\u00a0»",
        "日本語",
        "می\u200cخواهم",
        "👩\u200d🔬",
    ],
)
def test_text_of_any_script_stays(text: str) -> None:
    assert visible(text) == text


def test_lines_are_kept_where_they_are_meant() -> None:
    assert visible("a\tb\nc\r\n") == "a\\tb\\nc\\r\\n"
    assert visible("a\tb\nc\r\n", keep=LINES) == "a\tb\nc\\r\n"
