import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.measures.changes import changed_words, first_difference


def new_pieces(before: str, after: str) -> list[str]:
    return [piece for piece, is_new in changed_words(before, after).pieces if is_new]


def test_only_the_words_that_changed_are_new():
    assert new_pieces("the king is dead, long live", "the queen is dead, long live he") == [
        "queen",
        " he",
    ]


def test_the_share_counts_letters():
    assert changed_words("aa bb", "aa cc").share == pytest.approx(0.5)
    assert changed_words("same", "same").share == 0
    assert changed_words("", "all new").share == 1
    assert changed_words("gone", "").share == 0


@given(st.text(alphabet="ab \n,", max_size=60), st.text(alphabet="ab \n,", max_size=60))
def test_the_pieces_are_the_whole_text(before, after):
    changes = changed_words(before, after)
    assert "".join(piece for piece, _ in changes.pieces) == after
    assert 0 <= changes.share <= 1


def test_a_very_long_text_is_compared_in_its_beginning():
    words = [f"w{number}" for number in range(5000)]
    changes = changed_words(" ".join(words), " ".join(words))
    assert changes.pieces[0][1] is False
    assert "".join(piece for piece, _ in changes.pieces) == " ".join(words)


@given(st.text(max_size=8), st.text(max_size=8))
def test_the_first_difference_is_the_end_of_what_is_common(text: str, other: str) -> None:
    found = first_difference(text, other)
    common = os.path.commonprefix([text, other])
    assert found == (None if common in (text, other) else len(common))
