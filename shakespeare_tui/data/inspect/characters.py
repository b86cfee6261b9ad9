"""Character statistics of a text that comes in pieces, in memory that does not grow with it."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.inspect.speeches import PlayStatistics, SpeechScanner

N_CODE_POINTS = 0x110000
MAX_FIRST_LINES = 12
MAX_FIRST_LINE_CHARACTERS = 200
_NEWLINE = ord("\n")

_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CharacterCount:
    """How often a character occurs."""

    character: str
    count: int
    share: float
    """Of all characters of the text."""


_KINDS = (
    ("letters", "letters"),
    ("uppercase", "  upper case"),
    ("lowercase", "  lower case"),
    ("spaces", "spaces"),
    ("newlines", "newlines"),
    ("punctuation", "punctuation"),
    ("digits", "digits"),
    ("other", "other"),
)


@dataclass(frozen=True)
class CharacterShares:
    """Shares of all characters; upper and lower case are parts of ``letters``.

    ``letters`` (with their combining marks), ``spaces`` (U+0020), ``newlines``, ``digits``,
    ``punctuation`` and ``other`` (symbols, tabs, carriage returns, …) add up to 1. Letters, marks,
    digits and punctuation are those of Unicode's general categories L, M, Nd and P.
    """

    letters: float
    uppercase: float
    lowercase: float
    spaces: float
    newlines: float
    punctuation: float
    digits: float
    other: float


@dataclass(frozen=True)
class TextStatistics:
    """Figures of the text that was scanned so far."""

    characters: int
    lines: int
    """Newlines, and one more where the text does not end with one."""
    longest_line_characters: int
    vocabulary: str
    """The distinct characters, sorted by code point."""
    counts: _Counts = field(repr=False, compare=False)
    """(vocab_size,) occurrences of each character of ``vocabulary``."""
    shares: CharacterShares
    first_lines: tuple[str, ...]
    """At most ``MAX_FIRST_LINES``, cut at ``MAX_FIRST_LINE_CHARACTERS``."""
    play: PlayStatistics | None
    """None where the text is no play."""

    @property
    def vocab_size(self) -> int:
        """Number of distinct characters."""
        return len(self.vocabulary)

    def kinds(self) -> Iterator[tuple[str, int, float]]:
        """Label, count and share of each kind of characters; parts of a kind are indented."""
        for kind, label in _KINDS:
            share = getattr(self.shares, kind)
            yield label, round(share * self.characters), share

    def most_common(self, n: int) -> tuple[CharacterCount, ...]:
        """The ``n`` most frequent characters, ties in the order of their code points."""
        return self._counts_at(np.argsort(-self.counts, kind="stable")[:n])

    def rarest(self, n: int, max_count: int = 10) -> tuple[CharacterCount, ...]:
        """The ``n`` least frequent characters, those above ``max_count`` occurrences left out."""
        order = np.argsort(self.counts, kind="stable")[:n]
        return self._counts_at(order[self.counts[order] <= max_count])

    def _counts_at(self, places: npt.NDArray[np.intp]) -> tuple[CharacterCount, ...]:
        counts = [(self.vocabulary[place], int(self.counts[place])) for place in places]
        return tuple(CharacterCount(c, count, count / self.characters) for c, count in counts)


class CorpusScanner:
    """Takes a text piece by piece; ``snapshot`` gives the figures of what it has seen.

    One thread at a time: a live display gets its snapshots from the thread that feeds.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(N_CODE_POINTS, np.int64)
        self._characters = 0
        self._line_characters = 0
        self._longest_line_characters = 0
        self._first_lines: list[str] = [""]
        self._speeches = SpeechScanner()

    def feed(self, text: str) -> None:
        """Go on with the next piece of the text."""
        if not text:
            return
        codes = code_points(text)
        counts = np.bincount(codes)
        self._counts[: len(counts)] += counts
        self._characters += len(text)
        self._measure_lines(codes)
        self._keep_first_lines(text)
        self._speeches.feed(text)

    def snapshot(self) -> TextStatistics:
        """Figures of the text so far, as if it ended here."""
        present = np.flatnonzero(self._counts)
        vocabulary = present.astype("<u4").tobytes().decode("utf-32-le")
        counts = self._counts[present]
        n_newlines = int(self._counts[_NEWLINE])
        lines = self._first_lines[:MAX_FIRST_LINES]
        if len(self._first_lines) <= MAX_FIRST_LINES and not lines[-1]:
            lines.pop()
        return TextStatistics(
            characters=self._characters,
            lines=n_newlines + (self._line_characters > 0),
            longest_line_characters=max(self._longest_line_characters, self._line_characters),
            vocabulary=vocabulary,
            counts=counts,
            shares=_shares(vocabulary, counts),
            first_lines=tuple(lines),
            play=self._speeches.snapshot(),
        )

    def speech_lengths(self) -> dict[int, int]:
        """Number of the text's speeches by length in characters."""
        return self._speeches.lengths()

    def _measure_lines(self, codes: npt.NDArray[np.unsignedinteger]) -> None:
        ends = np.flatnonzero(codes == _NEWLINE)
        if len(ends) == 0:
            self._line_characters += len(codes)
            return
        lengths = np.diff(ends) - 1
        first = self._line_characters + int(ends[0])
        longest = int(lengths.max()) if len(lengths) else 0
        self._longest_line_characters = max(self._longest_line_characters, first, longest)
        self._line_characters = len(codes) - 1 - int(ends[-1])

    def _keep_first_lines(self, text: str) -> None:
        lines = self._first_lines
        if len(lines) > MAX_FIRST_LINES:
            return
        pieces = text.split("\n", MAX_FIRST_LINES + 1 - len(lines))
        lines[-1] = (lines[-1] + pieces[0])[:MAX_FIRST_LINE_CHARACTERS]
        lines += [piece[:MAX_FIRST_LINE_CHARACTERS] for piece in pieces[1:]]


def code_points(text: str) -> npt.NDArray[np.unsignedinteger]:
    """The code points of a text, shape (len(text),), uint8 where it is ASCII."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _shares(vocabulary: str, counts: _Counts) -> CharacterShares:
    totals = dict.fromkeys(
        ("letters", "uppercase", "lowercase", "spaces", "newlines", "punctuation", "digits"), 0
    )
    for character, count in zip(vocabulary, counts.tolist(), strict=True):
        category = unicodedata.category(character)
        if category[0] in "LM":
            totals["letters"] += count
            totals["uppercase"] += count * character.isupper()
            totals["lowercase"] += count * character.islower()
        elif character == " ":
            totals["spaces"] += count
        elif character == "\n":
            totals["newlines"] += count
        elif category[0] == "P":
            totals["punctuation"] += count
        elif category == "Nd":
            totals["digits"] += count
    n = int(counts.sum())
    cases = totals["uppercase"] + totals["lowercase"]
    other = n - (sum(totals.values()) - cases)
    return CharacterShares(
        **{name: total / n if n else 0.0 for name, total in totals.items()},
        other=other / n if n else 0.0,
    )
