"""Which words of a text are new compared with an earlier one."""

import difflib
import re
from dataclasses import dataclass

_PIECES = re.compile(r"\s+|\w+|[^\w\s]")
_LONGEST = 400


@dataclass(frozen=True)
class Changes:
    """A text cut into pieces, each new or not.

    Attributes:
        pieces: The text in order, and whether each piece is new.
        share: The share of its characters, blanks left out, that are new.
    """

    pieces: tuple[tuple[str, bool], ...]
    share: float


def changed_words(before: str, after: str) -> Changes:
    """What of ``after`` does not stand in ``before`` in the same order, word by word.

    Only the first 400 words and marks are compared; what follows counts as new.
    """
    old, new = _PIECES.findall(before), _PIECES.findall(after)
    matcher = difflib.SequenceMatcher(None, old[:_LONGEST], new[:_LONGEST], autojunk=False)
    pieces: list[tuple[str, bool]] = []
    kept = 0
    position = 0
    for block in matcher.get_matching_blocks():
        if block.b > position:
            pieces.append(("".join(new[position : block.b]), True))
        if block.size:
            same = "".join(new[block.b : block.b + block.size])
            pieces.append((same, False))
            kept += _letters(same)
        position = block.b + block.size
    if position < len(new):
        pieces.append(("".join(new[position:]), True))
    total = _letters(after)
    return Changes(tuple(pieces), 1 - kept / total if total else 0.0)


def _letters(text: str) -> int:
    return sum(not character.isspace() for character in text)


def first_difference(text: str, other: str) -> int | None:
    """The number of the first character in which two texts differ; None where one begins so."""
    for number, (ours, theirs) in enumerate(zip(text, other, strict=False)):
        if ours != theirs:
            return number
    return None
