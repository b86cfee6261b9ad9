"""Sort all suffixes of a text: the index in which any passage of it is found at once.

Prefix doubling (Manber and Myers 1993) that sorts again only what is still tied (Larsson and
Sadakane 2007), as NumPy sorts of whole groups. Work goes part by part, so that besides the result
and the ranks, 8 bytes a character, memory stays small.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from shakespeare_tui.errors import CancelledError

_PARTS = 32
_LEAST_PART = 1 << 18
_KEY_BITS = 63

_Ids = npt.NDArray[np.unsignedinteger]
_Places = npt.NDArray[np.uint32]


def suffix_array(
    ids: _Ids,
    report: Callable[[int, int | None], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> _Places:
    """The starts of all suffixes of ``ids`` in the order of the suffixes.

    Args:
        ids: Shape [n], values of at least 1, n below 2^32. A suffix that is the beginning of
            another comes before it.
        report: Told (suffixes in their final place, n).
        cancelled: Polled between parts.

    Returns:
        A permutation of range(n), shape [n].

    Raises:
        CancelledError: ``cancelled`` became true.
    """
    n = len(ids)
    order, ranks = np.empty(n, np.uint32), np.empty(n, np.uint32)
    bits = int(ids.max()).bit_length() if n else 1
    depth = _KEY_BITS // bits
    tied = []
    begin = 0
    for starts in _buckets(ids):
        if cancelled():
            raise CancelledError("indexing the corpus was stopped")
        places = np.arange(begin, begin + len(starts), dtype=np.uint32)
        keys = _prefix_keys(ids, starts, depth, bits)
        tied.append(_place(order, ranks, places, starts, keys))
        begin += len(starts)
        report(begin - sum(map(len, tied)), n)
    unsettled = np.concatenate(tied) if tied else np.empty(0, np.uint32)
    while len(unsettled):
        tied = []
        remaining = len(unsettled)
        for places in _parts(order, ranks, unsettled):
            if cancelled():
                raise CancelledError("indexing the corpus was stopped")
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


def _buckets(ids: _Ids) -> Iterator[npt.NDArray[np.int64]]:
    """The places of ``ids`` by value, in ascending parts of whole values and similar size."""
    if not len(ids):
        return
    ends = np.cumsum(np.bincount(ids))
    size = max(_LEAST_PART, len(ids) // _PARTS)
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


def _parts(order: _Places, ranks: _Places, unsettled: _Places) -> Iterator[_Places]:
    """Cut unsettled places into parts that split no ties."""
    size = max(_LEAST_PART, len(order) // _PARTS)
    begin = 0
    while begin < len(unsettled):
        end = min(begin + size, len(unsettled))
        # Ties stand side by side and share a rank: the part ends where the next ones begin.
        rank = ranks[order[unsettled[end - 1]]]
        end = bisect_right(unsettled, rank, lo=end, key=lambda place: ranks[order[place]])
        yield unsettled[begin:end]
        begin = end
