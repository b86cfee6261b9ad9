"""Judge a text as training material: encoding, size, rare characters, and what else stands out."""

import shlex
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shakespeare_tui.data.inspect.characters import TextStatistics
from shakespeare_tui.formatting import counted

Level = Literal["good", "note", "warning", "bad"]
_RANKS: dict[Level, int] = {"good": 0, "note": 1, "warning": 2, "bad": 3}

TOO_SHORT_CHARACTERS = 1_000
SHORT_CHARACTERS = 100_000
SMALL_CHARACTERS = 500_000
RARE_OCCURRENCES = 10
"""Characters that occur no more often can hardly be learned."""
LARGE_VOCABULARY = 1_000
HUGE_VOCABULARY = 8_000
_LONG_LINE_CHARACTERS = 100_000
_NAMED_CHARACTERS = 12
_HEAD_BYTES = 1 << 16
_REPLACEMENT = "\ufffd"
_USUAL_CONTROLS = "\n\r\t"
_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32", "UTF-32"),
    (b"\xff\xfe", "UTF-16", "UTF-16"),
    (b"\xfe\xff", "UTF-16", "UTF-16"),
    (b"\x1f\x8b", "gzip", ""),
    (b"PK\x03\x04", "zip", ""),
    (b"%PDF", "PDF", ""),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and how it stands."""

    level: Level
    subject: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """All findings and what they come to."""

    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst of the findings."""
        return max((finding.level for finding in self.findings), key=_RANKS.__getitem__)

    @property
    def summary(self) -> str:
        """One line for the user."""
        return {
            "good": "ready for training",
            "note": "ready for training",
            "warning": "usable, with reservations",
            "bad": "not usable as it is",
        }[self.level]


def judge(statistics: TextStatistics) -> Verdict:
    """Judge a text by its figures."""
    return Verdict((_encoding(statistics), _size(statistics), *_characters(statistics)))


def judge_unreadable(error: str, path: Path | None = None) -> Verdict:
    """Judge a corpus that cannot be read.

    Args:
        error: What went wrong, one line.
        path: The file, where it is its content that is wrong: what it may be is then guessed.
    """
    findings = [Finding("bad", "encoding" if path else "file", error)]
    guess, command = guess_encoding(path) if path is not None else (None, None)
    if guess:
        findings.append(Finding("note", "guess", guess))
    if command:
        findings.append(Finding("note", "convert", command))
    return Verdict(tuple(findings))


def guess_encoding(path: Path) -> tuple[str | None, str | None]:
    """What a file that is not UTF-8 text may be, and the command that converts it.

    Never raises: without an idea, and where the file cannot be read, both are None.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None, None
    for mark, name, codec in _MARKS:
        if head.startswith(mark):
            return (
                (f"it is {name}", _iconv(f"-f {codec}", path))
                if codec
                else (
                    f"it is a {name} file: unpack or export the text first",
                    None,
                )
            )
    zeros = (head[::2].count(0), head[1::2].count(0))
    if max(zeros) > 0.2 * len(head) > 10 * min(zeros):
        codec = "UTF-16LE" if zeros[1] > zeros[0] else "UTF-16BE"
        return f"it looks like {codec}", _iconv(f"-f {codec}", path)
    if sum(byte < 32 and byte not in b"\n\r\t\f" for byte in head) > len(head) // 50:
        return "it is a binary file, not a text", None
    text = head.decode("utf-8", "replace")
    damaged = text.count(_REPLACEMENT)
    if damaged * 4 <= sum(not c.isascii() for c in text) - damaged:
        return "it is UTF-8 with damaged places, which this drops", _iconv("-c -f UTF-8", path)
    return "it looks like Windows-1252 or Latin-1", _iconv("-f WINDOWS-1252", path)


def _iconv(options: str, path: Path) -> str:
    new = path.with_name(f"{path.stem}-utf8.txt")
    return f"iconv {options} -t UTF-8 {shlex.quote(str(path))} > {shlex.quote(str(new))}"


def _encoding(statistics: TextStatistics) -> Finding:
    vocabulary = statistics.vocabulary
    name = "ASCII" if vocabulary.isascii() else "UTF-8"
    if _REPLACEMENT in vocabulary:
        text = f"{name}, but with U+FFFD: it was decoded wrongly once before"
        return Finding("warning", "encoding", text)
    controls = [c for c in vocabulary if unicodedata.category(c) == "Cc"]
    strange = [c for c in controls if c not in _USUAL_CONTROLS]
    if strange:
        return Finding("warning", "encoding", f"{name}, with control characters {names(strange)}")
    if "\r" in vocabulary:
        text = f"{name}, with carriage returns (\\r): the model learns them as characters"
        return Finding("note", "encoding", text)
    return Finding("good", "encoding", name)


def _size(statistics: TextStatistics) -> Finding:
    n = statistics.characters
    amount = counted(n, "character")
    if n < TOO_SHORT_CHARACTERS:
        return Finding("bad", "size", f"too short to split and train on: {amount}")
    if n < SHORT_CHARACTERS:
        return Finding("warning", "size", f"{amount}: a model memorises them within minutes")
    if n < SMALL_CHARACTERS:
        return Finding("note", "size", f"{amount}: enough for a small model; watch for overfitting")
    return Finding("good", "size", f"{amount}: enough for a character model")


def _characters(statistics: TextStatistics) -> Iterator[Finding]:
    size = statistics.vocab_size
    rare = statistics.rarest(size, RARE_OCCURRENCES)
    vocabulary = f"vocabulary of {size:,}"
    if size == 1:
        text = "one character repeated: there is nothing to learn"
        yield Finding("bad", "characters", text)
    elif size > HUGE_VOCABULARY:
        yield Finding("warning", "characters", f"{vocabulary}: most of the model is its embedding")
    elif size > LARGE_VOCABULARY:
        yield Finding("note", "characters", f"{vocabulary}: a large one for a character model")
    else:
        yield Finding("good", "characters", vocabulary)
    if rare:
        named = names([item.character for item in rare[:_NAMED_CHARACTERS]])
        more = (
            f" and {len(rare) - _NAMED_CHARACTERS:,} more" if len(rare) > _NAMED_CHARACTERS else ""
        )
        share = len(rare) / size
        level: Level = "warning" if share > 0.3 and len(rare) > 50 else "note"
        yield Finding(
            level,
            "rare",
            f"{len(rare):,} of them {'occurs' if len(rare) == 1 else 'occur'} at most "
            f"{RARE_OCCURRENCES} times: {named}{more}",
        )
    else:
        yield Finding("good", "rare", f"every character occurs more than {RARE_OCCURRENCES} times")
    if statistics.longest_line_characters > _LONG_LINE_CHARACTERS:
        n = statistics.longest_line_characters
        yield Finding("note", "lines", f"the longest line has {n:,} characters: is that intended?")


def names(characters: list[str]) -> str:
    """Characters as one can read them, those without a shape as escapes or code points."""
    return " ".join(map(character_name, characters))


def character_name(character: str) -> str:
    r"""How a character is written in a list: ``a``, ``space``, ``\n``, ``U+0301``."""
    if character == " ":
        return "space"
    if character in _USUAL_CONTROLS:
        return repr(character)[1:-1]
    category = unicodedata.category(character)
    if category[0] in "MZC":
        return f"U+{ord(character):04X}"
    return character
