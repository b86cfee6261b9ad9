r"""Find the speeches of a play in a stream of text: who speaks, how often and how long.

A speech is a block of text, between blank lines, whose first line is a heading: the speaker's name
and a colon. What follows a blank line without a heading (stage directions, scene titles) belongs to
no speech.
"""

import heapq
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

LONGEST_NAME_CHARACTERS = 60
"""A longer line is no heading."""

MAX_NAMES = 100_000
"""Names that are told apart; beyond them further names only add to the count of speeches."""

_BLANK_LINE = re.compile(r"\n[ \t]{0,8}\n")
_BLANK_LINES = re.compile(r"(?:^|\n)(?:[ \t]{0,8}\n)+")
_BLANK_LINE_CHARACTERS = 10
# A heading begins with a letter that is not in lower case.
_NAME_AND_COLON = r"([^\W\d_a-z][^\n:]{0,59}):[ \t]{0,4}"
_HEADING = re.compile(rf"\n[ \t]{{0,8}}\n{_NAME_AND_COLON}(?=\n)")
_HEADING_BY_ITSELF = re.compile(_NAME_AND_COLON)
_HEADING_CHARACTERS = _BLANK_LINE_CHARACTERS + LONGEST_NAME_CHARACTERS + 6
_HEADING_LINE = re.compile(r"[A-Z][A-Za-z'\- ]*")
_LONGEST_LINE_CHARACTERS = 200
_LEAST_SPEECHES = 3
_LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Speaker:
    """One speaker of a play."""

    name: str
    speeches: int
    characters: int
    """Of the speeches, without their headings."""


@dataclass(frozen=True)
class PlayStatistics:
    """Who speaks and how long; lengths in characters, without the heading."""

    speeches: int
    speakers: int
    """Different names in headings; ``MAX_NAMES`` stands for that many or more."""
    mean_characters: float
    median_characters: float
    longest_characters: int
    longest_speaker: str
    top_speakers: tuple[Speaker, ...]
    """Those who say most, first the one who says the most."""
    heading_lines: int
    """Lines anywhere that consist of a capitalised name and a colon.

    A looser count than ``speeches``: verse lines that happen to end with a colon are in it.
    """
    distinct_heading_lines: int


class SpeechScanner:
    """Finds speeches in text that comes in pieces; memory does not grow with the text."""

    def __init__(self) -> None:
        # A text may begin with a heading; the blank line stands for what is before it.
        self._carry = "\n\n"
        self._held = ""
        self._speaker: str | None = None
        self._length = 0
        self._characters = 0
        self._heading_characters = 0
        self._lengths: Counter[int] = Counter()
        self._speakers: dict[str, tuple[int, int]] = {}
        self._longest = (-1, "")
        self._heading_lines = _HeadingLineCounter()

    def feed(self, text: str) -> None:
        r"""Go on with the next piece of the text; ``\r\n`` counts as ``\n``."""
        self._characters += len(text)
        text = self._held + text
        self._held = "\r" if text.endswith("\r") else ""
        if "\r" in text:
            text = text.removesuffix("\r").replace("\r\n", "\n")
        self._heading_lines.feed(text)
        buffer = self._carry + text
        position = 0
        while True:
            if self._speaker is not None:
                end = _BLANK_LINE.search(buffer, position)
                if end is None:
                    self._keep(buffer, position, _BLANK_LINE_CHARACTERS)
                    return
                self._length += end.start() - position
                self._close(self._speaker)
                position = end.start()
            heading = _HEADING.search(buffer, position)
            if heading is None:
                self._keep(buffer, position, _HEADING_CHARACTERS)
                return
            self._speaker = heading[1].strip()
            self._heading_characters += heading.end() - heading.start(1)
            position = heading.end()

    def snapshot(self, top: int = 10) -> PlayStatistics | None:
        """Figures of the text so far, with its ``top`` speakers; None where it is no play.

        A play has at least three speeches, and they make up at least half of its text.
        """
        lengths, speakers = self._lengths, self._speakers
        longest = self._longest
        if self._speaker is not None:
            # The text may go on, so the speech that is under way counts in copies.
            lengths, speakers = lengths.copy(), speakers.copy()
            length = self._length + len(self._carry.rstrip("\n"))
            longest = _add_speech(lengths, speakers, longest, self._speaker, length)
        speeches = lengths.total()
        spoken = sum(length * count for length, count in lengths.items())
        if speeches < _LEAST_SPEECHES:
            return None
        if spoken + self._heading_characters < _LEAST_SHARE * self._characters:
            return None
        ranked = heapq.nlargest(top, speakers.items(), key=lambda item: (item[1][1], item[1][0]))
        return PlayStatistics(
            speeches=speeches,
            speakers=len(speakers),
            mean_characters=spoken / speeches,
            median_characters=_median(lengths),
            longest_characters=longest[0],
            longest_speaker=longest[1],
            top_speakers=tuple(Speaker(name, *totals) for name, totals in ranked),
            heading_lines=self._heading_lines.count,
            distinct_heading_lines=len(self._heading_lines.names),
        )

    def lengths(self) -> dict[int, int]:
        """Number of speeches by length in characters, the one under way left out."""
        return dict(self._lengths)

    def _close(self, speaker: str) -> None:
        self._longest = _add_speech(
            self._lengths, self._speakers, self._longest, speaker, self._length
        )
        self._speaker = None
        self._length = 0

    def _keep(self, buffer: str, position: int, n_characters: int) -> None:
        """Carry the end of the buffer over, where something may begin that it cannot show yet."""
        cut = max(position, len(buffer) - n_characters)
        if self._speaker is not None:
            self._length += cut - position
        self._carry = buffer[cut:]


class _HeadingLineCounter:
    """Counts the lines that consist of a capitalised name and a colon."""

    def __init__(self) -> None:
        self.count = 0
        self.names: set[str] = set()
        self._carry = "\n"

    def feed(self, text: str) -> None:
        buffer = self._carry + text
        position = 0
        while (colon := buffer.find(":\n", position)) >= 0:
            start = buffer.rfind("\n", max(0, colon - _LONGEST_LINE_CHARACTERS), colon) + 1
            if start and _HEADING_LINE.fullmatch(buffer, start, colon):
                self.count += 1
                if len(self.names) < MAX_NAMES:
                    self.names.add(buffer[start:colon])
            position = colon + 1
        self._carry = buffer[max(position, len(buffer) - _LONGEST_LINE_CHARACTERS - 1) :]


def heading_name(line: str) -> str | None:
    """The speaker that a line names if it is a heading; whether it begins a block is not seen."""
    match = _HEADING_BY_ITSELF.fullmatch(line)
    return match[1].strip() if match else None


def speaker_names(text: str) -> set[str]:
    """The names in all headings of a text."""
    # A text may begin with a heading; the blank line stands for what is before it.
    return {match[1].strip() for match in _HEADING.finditer("\n\n" + text.replace("\r\n", "\n"))}


def text_blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield the blocks of a text: the place of each and its lines, blank lines left out."""
    start = 0
    for gap in _BLANK_LINES.finditer(text):
        if text[start : gap.start()].strip():
            yield start, text[start : gap.start()]
        start = gap.end()
    if text[start:].strip():
        yield start, text[start:]


def _add_speech(
    lengths: Counter[int],
    speakers: dict[str, tuple[int, int]],
    longest: tuple[int, str],
    speaker: str,
    length: int,
) -> tuple[int, str]:
    """Enter a speech of ``length`` characters, its first newline included; the longest so far."""
    length = max(0, length - 1)
    lengths[length] += 1
    if speaker in speakers or len(speakers) < MAX_NAMES:
        speeches, characters = speakers.get(speaker, (0, 0))
        speakers[speaker] = (speeches + 1, characters + length)
    return max(longest, (length, speaker), key=lambda pair: pair[0])


def _median(lengths: Counter[int]) -> float:
    """Median of a multiset that is not empty."""
    total = lengths.total()
    middle: list[int] = []
    seen = 0
    for length in sorted(lengths):
        seen += lengths[length]
        while len(middle) < 2 and seen > (total - 1 + len(middle)) // 2:
            middle.append(length)
    return sum(middle) / 2


_EDGES = (0, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


@dataclass(frozen=True)
class LengthBin:
    """Speeches from ``least`` to ``most`` characters long; ``most`` is None in the last bin."""

    least: int
    most: int | None
    speeches: int


def length_bins(lengths: Mapping[int, int]) -> list[LengthBin]:
    """A histogram with bins that widen, empty ones at both ends left out."""
    counts = [0] * len(_EDGES)
    for length, count in lengths.items():
        place = sum(length > edge for edge in _EDGES[1:])
        counts[place] += count
    bins = [
        LengthBin(
            0 if place == 0 else low + 1,
            _EDGES[place + 1] if place + 1 < len(_EDGES) else None,
            counts[place],
        )
        for place, low in enumerate(_EDGES)
    ]
    filled = [place for place, item in enumerate(bins) if item.speeches]
    return bins[filled[0] : filled[-1] + 1] if filled else []
