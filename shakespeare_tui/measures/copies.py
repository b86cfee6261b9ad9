"""Find what a text has copied from the training split: every passage, exactly.

Whether a passage occurs takes one binary search in the training text's suffix array. A passage
that occurs stays one when it loses its first or last character, so one walk over the text finds
all the longest ones with about one search a character.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

_PARTS = 32
_LEAST_PART = 1 << 18
_KEY_BITS = 63

_Ids = npt.NDArray[np.unsignedinteger]
_Places = npt.NDArray[np.uint32]


def suffix_array(
    ids: _Ids,
    report: Callable[[int, int | None], None] = lambda done, total: None,
    least_part: int = _LEAST_PART,
) -> _Places:
    """The starts of all suffixes of ``ids`` in the order of the suffixes.

    Args:
        ids: Shape [n], values of at least 1, n below 2^32. A suffix that is the beginning of
            another comes before it.
        report: Told (suffixes in their final place, n).
        least_part: How many suffixes are sorted at a time, at least.

    Returns:
        A permutation of range(n), shape [n].
    """
    n = len(ids)
    order, ranks = np.empty(n, np.uint32), np.empty(n, np.uint32)
    bits = int(ids.max()).bit_length() if n else 1
    depth = _KEY_BITS // bits
    tied = []
    begin = 0
    for starts in _buckets(ids, least_part):
        places = np.arange(begin, begin + len(starts), dtype=np.uint32)
        keys = _prefix_keys(ids, starts, depth, bits)
        tied.append(_place(order, ranks, places, starts, keys))
        begin += len(starts)
        report(begin - sum(map(len, tied)), n)
    unsettled = np.concatenate(tied) if tied else np.empty(0, np.uint32)
    while len(unsettled):
        tied = []
        remaining = len(unsettled)
        for places in _parts(order, ranks, unsettled, least_part):
            members = order[places]
            keys = ranks[members].astype(np.uint64) << np.uint64(32)
            # 0 is the text's end, which comes before every suffix.
            follows = members.astype(np.int64) + depth
            inside = follows < n
            keys[inside] |= ranks[follows[inside]].astype(np.uint64) + np.uint64(1)
            tied.append(_place(order, ranks, places, members, keys))
            remaining += len(tied[-1]) - len(places)
            report(n - remaining, n)
        unsettled = np.concatenate(tied)
        depth *= 2
    return order


def _buckets(ids: _Ids, least_part: int) -> Iterator[npt.NDArray[np.int64]]:
    """The places of ``ids`` by value, in ascending parts of whole values and similar size."""
    if not len(ids):
        return
    ends = np.cumsum(np.bincount(ids))
    size = max(least_part, len(ids) // _PARTS)
    low = done = 0
    while done < len(ids):
        high = int(np.searchsorted(ends, min(done + size, len(ids)))) + 1
        yield np.flatnonzero((ids >= low) & (ids < high))
        low, done = high, int(ends[high - 1])


def _prefix_keys(
    ids: _Ids, members: npt.NDArray[np.int64], depth: int, bits: int
) -> npt.NDArray[np.uint64]:
    """The first ``depth`` ids of each suffix in one number; 0 stands behind the text's end."""
    keys = np.zeros(len(members), np.uint64)
    for offset in range(depth):
        keys <<= np.uint64(bits)
        inside = int(np.searchsorted(members, len(ids) - offset))
        keys[:inside] |= ids[members[:inside] + offset].astype(np.uint64)
    return keys


def _place(
    order: _Places,
    ranks: _Places,
    places: _Places,
    members: npt.NDArray[np.integer],
    keys: npt.NDArray[np.uint64],
) -> _Places:
    """Put suffixes into ``places`` by their keys; returns the places of those that are tied.

    A suffix' rank becomes the first place of its ties.
    """
    by_key = np.argsort(keys)
    members, keys = members[by_key], keys[by_key]
    is_first = np.empty(len(keys), bool)
    is_first[:1] = True
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    firsts = np.flatnonzero(is_first)
    order[places] = members
    ranks[members] = np.repeat(places[firsts], np.diff(firsts, append=len(keys)))
    is_alone = is_first & np.append(is_first[1:], True)
    tied: _Places = places[~is_alone]
    return tied


def _parts(
    order: _Places, ranks: _Places, unsettled: _Places, least_part: int
) -> Iterator[_Places]:
    """Cut unsettled places into parts that split no ties."""
    size = max(least_part, len(order) // _PARTS)
    begin = 0
    while begin < len(unsettled):
        end = min(begin + size, len(unsettled))
        # Ties stand side by side and share a rank: the part ends where the next ones begin.
        rank = ranks[order[unsettled[end - 1]]]
        end = bisect_right(unsettled, rank, lo=end, key=lambda place: ranks[order[place]])
        yield unsettled[begin:end]
        begin = end


LEAST_COPY_CHARACTERS = 20
"""A shorter passage is common language rather than a copy."""


class Searchable(Protocol):
    """A training text in which passages can be found."""

    @property
    def is_whole(self) -> bool:
        """Whether all of the training split is searched."""

    def encode(self, text: str) -> "Encoded":
        """A text in the form in which it is compared."""

    def occurs(self, passage: bytes) -> bool:
        """Whether an encoded passage occurs."""

    def place(self, passage: bytes) -> tuple[int, int]:
        """Character offset and line (from 1) of the first occurrence of an encoded passage."""


@dataclass(frozen=True)
class Encoded:
    """A text as bytes of a fixed width a character."""

    content: bytes
    width: int

    def __len__(self) -> int:
        return len(self.content) // self.width

    def slice(self, start: int, end: int) -> bytes:
        """The characters from ``start`` up to ``end``."""
        return self.content[start * self.width : end * self.width]


@dataclass(frozen=True)
class Passage:
    """A stretch of text that occurs in the training split and cannot be extended on either side."""

    start: int
    """First character, counted in the whole text."""
    end: int
    """Behind the last character."""
    source_line: int
    """Line of the corpus, from 1, in which its first occurrence begins."""
    source_start: int
    """Character of the corpus, from 0, at which its first occurrence begins."""

    @property
    def length(self) -> int:
        """Characters."""
        return self.end - self.start

    def as_json(self) -> dict[str, int]:
        return {"start": self.start, "end": self.end, "source_line": self.source_line}


@dataclass(frozen=True)
class Memorisation:
    """How much of a text is copied from the training split, character by character."""

    longest: int
    """Length of the longest passage that occurs in the training split, however short."""
    share: float
    """Share of the text inside copies of at least ``LEAST_COPY_CHARACTERS``."""
    passages: tuple[Passage, ...]
    """Those copies in order; neighbours may overlap, none lies inside another."""
    longest_passage: Passage | None
    """The first of the longest; None where no character of the text occurs."""
    is_whole: bool
    """False where only the beginning of a very long training split was searched."""

    def as_json(self) -> dict[str, Any]:
        passages = [passage.as_json() for passage in self.passages]
        return {"longest": self.longest, "share": self.share, "passages": passages}


def find_copies(
    text: str, training: Searchable, start: int = 0, least: int = LEAST_COPY_CHARACTERS
) -> Memorisation:
    """What ``text`` from character ``start`` on has copied.

    Args:
        text: The whole text; the passages count their characters in it.
        training: Where to search.
        start: Characters at the beginning that are left out, a prompt for example.
        least: How many characters make a copy.
    """
    encoded = training.encode(text[start:])
    spans = list(_longest_spans(encoded, training.occurs, least))
    longest = max(spans, key=lambda span: span[1] - span[0], default=None)
    if longest is None:
        longest = _longest_span(encoded, training.occurs)

    def passage(first: int, end: int) -> Passage:
        source_start, source_line = training.place(encoded.slice(first, end))
        return Passage(start + first, start + end, source_line, source_start)

    covered = reached = 0
    for first, end in spans:
        covered += end - max(first, reached)
        reached = end
    return Memorisation(
        longest=longest[1] - longest[0],
        share=covered / len(encoded) if len(encoded) else 0.0,
        passages=tuple(passage(*span) for span in spans),
        longest_passage=passage(*longest) if longest[1] > longest[0] else None,
        is_whole=training.is_whole,
    )


def _longest_spans(
    text: Encoded, occurs: Callable[[bytes], bool], least: int
) -> Iterator[tuple[int, int]]:
    """All spans of at least ``least`` characters that occur and lie in no longer one that does."""
    earliest = 0
    end = _next_end(text, occurs, least, least)
    while end <= len(text):

        def begins(distance: int, end: int = end) -> bool:
            return occurs(text.slice(end - least - distance, end))

        first = end - least - _furthest(end - least - earliest, begins)

        def extends(distance: int, first: int = first, end: int = end) -> bool:
            return occurs(text.slice(first, end + distance))

        end += _furthest(len(text) - end, extends)
        yield first, end
        # What begins here and is one longer does not occur.
        earliest = first + 1
        end = _next_end(text, occurs, least, end + 1)


def _longest_span(text: Encoded, occurs: Callable[[bytes], bool]) -> tuple[int, int]:
    """The first of the longest spans that occur; (0, 0) where no character does."""
    length = 0
    best = (0, 0)
    # One more than the longest so far is all that one more character can bring.
    end = _next_end(text, occurs, 1, 1)
    while end <= len(text):
        length += 1
        best = (end - length, end)
        end = _next_end(text, occurs, length + 1, end + 1)
    return best


def _next_end(text: Encoded, occurs: Callable[[bytes], bool], length: int, end: int) -> int:
    """The first end from ``end`` on before which ``length`` characters stand that occur.

    It is beyond the text where there is none.
    """
    while end <= len(text) and not occurs(text.slice(end - length, end)):
        # Up to the longest tail that occurs, every window has something that does not: as in a
        # search for one word by its end (Boyer and Moore 1977), they are passed over.
        tails = range(length)
        misses = bisect_left(
            tails, True, lo=1, key=lambda tail: not occurs(text.slice(end - tail, end))
        )
        end += length - (misses - 1)
    return end


def _furthest(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest distance up to ``limit`` for which ``holds`` is true; it is true for 0.

    And once false, it stays so. The steps double, so that a near end costs few tests.
    """
    step = 1
    while step <= limit and holds(step):
        step *= 2
    distances = range(step // 2, min(step, limit + 1))
    return distances[bisect_left(distances, True, lo=1, key=lambda d: not holds(d)) - 1]
