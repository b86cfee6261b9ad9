"""Every measure on texts whose answer is known, and loops against a plain search."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.data.source import locate_corpus
from shakespeare_tui.measures import (
    MEASURES,
    CorpusReference,
    Measures,
    measure_text,
    open_reference,
)
from shakespeare_tui.measures.report import (
    Loop,
    distinct_share,
    longest_loop,
    measure_layout,
    real_word_rate,
    repeated_share,
)

PLAY = """First Citizen:
Before we proceed any further, hear me speak.

All:
Speak, speak.

MENENIUS:
What work's, my countrymen, in hand? where go you
With bats and clubs? The matter? speak, I pray you.

"""


@pytest.fixture
def reference(tmp_path: Path) -> CorpusReference:
    path = tmp_path / "play.txt"
    path.write_text(PLAY + "the end" * 40)
    source = locate_corpus(str(path))
    assert source is not None
    return open_reference(source, 0.1, tmp_path / "references")


class TestWording:
    @pytest.mark.parametrize(
        ("text", "shares"),
        [
            ("a b c d", (1.0, 1.0, 1.0)),
            ("a b a b a", (2 / 5, 2 / 4, 2 / 3)),
            ("o o o o", (1 / 4, 1 / 3, 1 / 2)),
            ("one", (1.0, None, None)),
            ("", (None, None, None)),
        ],
    )
    def test_distinct(self, text: str, shares: tuple[float | None, ...]) -> None:
        assert tuple(distinct_share(text.split(), n) for n in (1, 2, 3)) == shares

    def test_repeated(self) -> None:
        assert repeated_share(["a", "b", "c", "d", "e"]) == 0
        # Runs of four: abca bcab cabc abca; the last came before.
        assert repeated_share(["a", "b", "c", "a", "b", "c", "a"]) == pytest.approx(1 / 4)
        assert repeated_share(["a", "b", "c"]) is None

    def test_real_words(self) -> None:
        assert real_word_rate(["hear", "me", "spaek", "me"], {"hear", "me"}) == 3 / 4
        assert real_word_rate([], {"me"}) is None


class TestLoops:
    @pytest.mark.parametrize(
        ("text", "loop"),
        [
            ("", None),
            ("a", None),
            ("abcdef", None),
            ("aa", Loop(0, 2, 1)),
            ("abcabc", Loop(0, 6, 3)),
            ("to be or not", None),
            ("no no no", Loop(0, 8, 3)),  # the last repetition is cut short
            ("x" + "the sea, " * 5 + "the end", Loop(1, 49, 9)),
            ("aaab" + "xyxyx", Loop(4, 5, 2)),
            ("mississippi", Loop(1, 7, 3)),
        ],
    )
    def test_known(self, text: str, loop: Loop | None) -> None:
        assert longest_loop(text) == loop

    @given(st.text("ab", max_size=40) | st.text("abcé\U0001f600", max_size=30))
    def test_against_a_plain_search(self, text: str) -> None:
        def is_loop(stretch: str, period: int) -> bool:
            return len(stretch) >= 2 * period and stretch[period:] == stretch[:-period]

        lengths = [
            end - start
            for start in range(len(text))
            for end in range(start + 2, len(text) + 1)
            if any(is_loop(text[start:end], p) for p in range(1, (end - start) // 2 + 1))
        ]
        loop = longest_loop(text)
        assert (loop.length if loop else 0) == max(lengths, default=0)
        if loop:
            assert is_loop(text[loop.start :][: loop.length], loop.unit_length)

    def test_a_long_loop_in_a_long_text(self) -> None:
        noise = "".join(chr(97 + i * i * 7919 % 101 % 26) for i in range(3000))
        loop = longest_loop(noise + "I had a dream. " * 300 + noise)
        assert loop is not None
        assert (loop.length // 15, loop.unit_length) == (300, 15)


class TestLayout:
    KNOWN = frozenset({"ROMEO", "First Citizen"})

    @pytest.mark.parametrize(
        ("text", "wellformed", "known"),
        [
            ("ROMEO:\nAy me!\n\nFirst Citizen:\nSpeak.\n", 1.0, 1.0),
            ("ROMEO:\nAy me!\n\nNobody:\nSpeak.\n", 1.0, 0.5),
            ("ROMEO:\nAy me!\n\nROMEO:\n", 0.5, 1.0),
            ("ROMEO:\n\nAy me!\n", 0.0, 1.0),
            ("ROMEO:\nAy me!\n\n[Exit]\n\nrome:\nyes\n\nROMEO: ay\nno", 0.25, 1.0),
            ("no heading\nat all", 0.0, None),
            ("ROMEO:\r\nAy me!\r\n\r\nNobody:\r\nYes.", 1.0, 0.5),
            ("\n\n \n\nROMEO:\nAy me!\n\n\n\nROMEO:\nAy!", 1.0, 1.0),
            ("", None, None),
            (" \n\n ", None, None),
        ],
    )
    def test_known(self, text: str, wellformed: float | None, known: float | None) -> None:
        layout = measure_layout(text, self.KNOWN)
        assert (layout.wellformed_share, layout.known_speaker_share) == (wellformed, known)

    def test_a_prompt_is_given_not_made(self) -> None:
        text = "ROMEO:\nAy me!\n\nNobody:\nSpeak.\n"
        at = text.index("Ay")
        assert measure_layout(text, self.KNOWN, at).known_speaker_share == 0
        assert measure_layout(text, self.KNOWN, at).wellformed_share == 1
        # The prompt's own speeches are nothing that the model did.
        assert measure_layout("x\n\ny\n\n" + text, self.KNOWN, 6).wellformed_share == 1

    def test_without_a_corpus(self) -> None:
        layout = measure_layout("ROMEO:\nAy me!", None)
        assert (layout.wellformed_share, layout.known_speaker_share) == (1, None)


class TestReport:
    TEXT = "All:\nSpeak, speak, spaek.\n\nHAL:\nBefore we proceed any further, hear you.\n"

    def test_all_at_once(self, reference: CorpusReference) -> None:
        measures = measure_text(self.TEXT, reference)
        words = 12
        assert measures.distinct_1 == (words - 1) / words
        assert measures.distinct_2 == measures.distinct_3 == 1
        assert measures.repeated_share == 0
        assert measures.real_word_rate == pytest.approx((words - 2) / words)  # spaek, HAL
        assert measures.wellformed_share == 1
        assert measures.known_speaker_share == 0.5
        assert measures.longest_loop == len("peak, speak, sp")
        copy = "\nBefore we proceed any further, hear "
        assert measures.longest_copy == len(":" + copy)
        (passage,) = measures.memorisation.passages  # type: ignore[union-attr]
        assert self.TEXT[passage.start : passage.end] == ":" + copy
        assert passage.source_line == 1
        assert measures.copied_share == pytest.approx(len(":" + copy) / len(self.TEXT))

    def test_the_prompt_is_left_out(self, reference: CorpusReference) -> None:
        prompt = self.TEXT.index("hear")
        measures = measure_text(self.TEXT, reference, prompt)
        assert measures.distinct_1 == 1
        assert measures.longest_copy == len(" you.\n")
        assert measures.memorisation is not None
        assert measures.memorisation.passages == ()
        longest = measures.memorisation.longest_passage
        assert longest is not None
        assert self.TEXT[longest.start : longest.end] == " you.\n"

    def test_without_a_corpus(self) -> None:
        measures = measure_text(self.TEXT, None)
        assert measures.distinct_1 is not None
        assert measures.longest_copy is measures.copied_share is measures.real_word_rate is None
        assert measures.as_json()["memorisation"] is None

    @pytest.mark.parametrize("text", ["", "\n", "é", "a"])
    def test_next_to_nothing(self, text: str, reference: CorpusReference) -> None:
        measures = measure_text(text, reference)
        assert measures.longest_loop == 0
        assert measures.longest_copy in (0, 1)
        assert measures.copied_share == 0

    def test_json_and_the_table_name_the_same(self, reference: CorpusReference) -> None:
        measures = measure_text(self.TEXT, reference).with_surprise(1.25)
        record = measures.as_json()
        assert record["mean_surprise"] == 1.25
        assert record["memorisation"].keys() == {"longest", "share", "passages"}
        assert record["memorisation"]["passages"][0].keys() == {"start", "end", "source_line"}
        assert record.keys() == {field.name for field in dataclasses.fields(Measures)}
        plain = record.keys() - {"memorisation", "characters"}
        assert MEASURES.keys() == plain | {"longest_copy", "copied_share"}
        assert {name: measures.value(name) for name in plain} == {n: record[n] for n in plain}
        for kind in MEASURES.values():
            assert len(kind.label) <= 14
            assert kind.help.endswith(".")
            assert len(kind.help) <= 90
            assert kind.format(None) == "-"
        assert MEASURES["longest_copy"].format(measures.longest_copy) == "38"
        assert MEASURES["copied_share"].format(0.125) == "12.5%"
        assert MEASURES["mean_surprise"].format(1.25) == "1.250"
