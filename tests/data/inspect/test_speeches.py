import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.data.inspect.speeches import SpeechScanner
from shakespeare_tui.data.source import locate_corpus

PLAY = """\
ANNA:
Good morrow, Ben.

BEN:
Good morrow.
It rains.

[Enter Carl, wet]

FIRST CITIZEN, aside:
O!

ANNA:
This verse line ends in a colon:
so it is no heading.
"""


def scan(text: str, size: int = 1 << 20, top: int = 10):
    scanner = SpeechScanner()
    for start in range(0, len(text), size):
        scanner.feed(text[start : start + size])
    return scanner.snapshot(top)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_speeches_of_a_small_play(size, newline):
    found = scan(PLAY.replace("\n", newline), size)
    bodies = {
        "ANNA": [
            "Good morrow, Ben.",
            "This verse line ends in a colon:\nso it is no heading.",
        ],
        "BEN": ["Good morrow.\nIt rains."],
        "FIRST CITIZEN, aside": ["O!"],
    }
    lengths = sorted(len(body) for own in bodies.values() for body in own)
    assert found.speeches == 4
    assert found.speakers == 3
    assert found.mean_characters == sum(lengths) / 4
    assert found.median_characters == (lengths[1] + lengths[2]) / 2
    assert (found.longest_characters, found.longest_speaker) == (lengths[-1], "ANNA")
    assert [(s.name, s.speeches, s.characters) for s in found.top_speakers] == [
        (name, len(own), sum(map(len, own))) for name, own in bodies.items()
    ]
    # The heading with a comma is left out, the verse line is taken for one.
    assert (found.heading_lines, found.distinct_heading_lines) == (4, 3)


def test_snapshot_counts_the_speech_under_way_and_does_not_disturb_it():
    scanner = SpeechScanner()
    for character in PLAY:
        scanner.feed(character)
        scanner.snapshot()
    assert scanner.snapshot() == scan(PLAY)
    half = SpeechScanner()
    half.feed(PLAY + "\nBEN:\nI go")
    assert half.snapshot().speeches == 5
    assert half.snapshot().top_speakers[1].characters == len("Good morrow.\nIt rains.") + 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Just prose.\n\nAnd more of it.\n",
        "ANNA:\nOnly one speech.\n",
        "Things to buy:\nmilk\n\nThings to sell:\nold milk\n\nThings to keep:\ncow\n\n"
        + "word " * 99,
        "\n" * 1000,
    ],
)
def test_what_is_no_play(text):
    assert scan(text) is None


def test_a_speech_may_be_empty_and_spaces_may_surround_the_heading():
    text = "ANNA:\n\nBEN: \nYes.\n \t\nCARL:\nNo.\n\n\n\nANNA:\nAh.\n"
    found = scan(text)
    assert [(s.name, s.speeches, s.characters) for s in found.top_speakers] == [
        ("BEN", 1, 4),
        ("ANNA", 2, 3),
        ("CARL", 1, 3),
    ]


def test_endless_lists_of_names_stay_bounded(monkeypatch):
    monkeypatch.setattr("shakespeare_tui.data.inspect.speeches.MAX_NAMES", 10)
    text = "".join(f"Speaker {chr(65 + i)}:\nWord.\n\n" for i in range(20)) + "Speaker A:\nMore.\n"
    found = scan(text)
    assert found.speeches == 21
    assert found.speakers == 10
    assert found.top_speakers[0].name == "Speaker A"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["ANNA", "Ben", "O'HARA"]), st.integers(1, 300)), min_size=4
    ),
    st.integers(1, 400),
)
def test_pieces_of_any_size_give_the_same(speeches, size):
    text = "\n\n".join(f"{name}:\n{'word ' * (n // 5)}{'x' * (n % 5)}." for name, n in speeches)
    assert scan(text, size) == scan(text)
    assert scan(text).speeches == len(speeches)


def test_tiny_shakespeare():
    source = locate_corpus("tiny_shakespeare")
    if source is None:
        pytest.skip("needs Tiny Shakespeare at hand")
    found = scan("".join(source.iter_text()))
    assert (found.speeches, found.speakers) == (7222, 309)
    assert (found.heading_lines, found.distinct_heading_lines) == (7972, 1059)
