from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.data.inspect.characters import CorpusScanner, TextStatistics

TEXTS = st.text(
    st.one_of(st.sampled_from("\n\n aB9.,\r\t"), st.characters(exclude_categories=["Cs"])),
    max_size=300,
)


def scan(text: str, size: int) -> TextStatistics:
    scanner = CorpusScanner()
    for start in range(0, len(text), size):
        scanner.feed(text[start : start + size])
    return scanner.snapshot()


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 100))
def test_counts_equal_those_of_plain_python(text, size):
    found = scan(text, size)
    expected = Counter(text)
    assert found.characters == len(text)
    assert found.vocabulary == "".join(sorted(expected))
    assert found.counts.tolist() == [expected[c] for c in found.vocabulary]
    lines = text.removesuffix("\n").split("\n") if text else []
    assert found.lines == len(lines)
    assert found.longest_line_characters == max(map(len, lines), default=0)
    assert list(found.first_lines) == [line[:200] for line in lines[:12]]


def test_kinds_of_characters():
    text = 'Ab, é\n9¾\t$"人\u0301'
    shares = scan(text, 3).shares
    n = len(text)
    assert shares.letters == pytest.approx(5 / n)  # A b é 人 and the accent
    assert shares.uppercase == pytest.approx(1 / n)
    assert shares.lowercase == pytest.approx(2 / n)
    assert shares.spaces == pytest.approx(1 / n)
    assert shares.newlines == pytest.approx(1 / n)
    assert shares.digits == pytest.approx(1 / n)
    assert shares.punctuation == pytest.approx(2 / n)  # , and "
    assert shares.other == pytest.approx(3 / n)  # ¾, tab and $


def test_most_common_and_rarest():
    found = scan("aaaabbbbccd" + "e" * 20, 4)
    assert [(c.character, c.count) for c in found.most_common(3)] == [
        ("e", 20),
        ("a", 4),
        ("b", 4),
    ]
    assert found.most_common(1)[0].share == pytest.approx(20 / 31)
    assert [(c.character, c.count) for c in found.rarest(9, max_count=3)] == [("d", 1), ("c", 2)]
    assert [c.character for c in found.rarest(1)] == ["d"]


def test_snapshot_is_frozen_while_feeding_goes_on():
    scanner = CorpusScanner()
    scanner.feed("aab")
    before = scanner.snapshot()
    scanner.feed("bbb\nccc")
    assert before.counts.tolist() == [2, 1]
    assert before.first_lines == ("aab",)
    assert scanner.snapshot().counts.tolist() == [1, 2, 4, 3]


def test_nothing_yet():
    found = CorpusScanner().snapshot()
    assert (found.characters, found.lines, found.vocab_size) == (0, 0, 0)
    assert found.shares.letters == 0
    assert found.most_common(5) == ()


def test_every_unicode_character_once():
    text = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    found = scan(text, 1 << 20)
    assert found.vocabulary == text
    assert set(found.counts.tolist()) == {1}
