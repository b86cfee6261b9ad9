"""A list that never outgrows its limit: what is old grows thinner, what is new stays whole."""

from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


class BoundedList(Generic[Item]):
    """Items in order; of those older than the newest half, evenly spaced ones are kept.

    The first item is never dropped to make room.

    Args:
        limit: The most items that are kept, at least 8.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbered: list[tuple[int, Item]] = []
        self._appended = 0
        self._stride = 1

    def append(self, item: Item) -> None:
        """Add an item at the end."""
        self._numbered.append((self._appended, item))
        self._appended += 1
        if len(self._numbered) > self._limit:
            self._thin_out()

    def _thin_out(self) -> None:
        newest = self._numbered[-(self._limit // 2) :]
        old = self._numbered[: len(self._numbered) - len(newest)]
        while len(old) > 3 * self._limit // 8:
            old = [entry for entry in old if entry[0] % self._stride == 0]
            if len(old) > 3 * self._limit // 8:
                self._stride *= 2
        self._numbered = old + newest

    def keep_only(self, is_kept: Callable[[Item], bool]) -> None:
        """Drop all items but those."""
        self._numbered = [entry for entry in self._numbered if is_kept(entry[1])]

    def __len__(self) -> int:
        return len(self._numbered)

    def __iter__(self) -> Iterator[Item]:
        return (item for _, item in self._numbered)

    def __reversed__(self) -> Iterator[Item]:
        return (item for _, item in reversed(self._numbered))

    def __getitem__(self, index: int) -> Item:
        return self._numbered[index][1]

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        """A list of its own of the same items, which nobody changes."""
        twin = type(self)(self._limit)
        twin._numbered = self._numbered.copy()
        twin._appended, twin._stride = self._appended, self._stride
        return twin
