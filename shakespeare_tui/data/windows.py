"""The windows that training and evaluation cut out of a split."""

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shakespeare_tui.errors import UserError

IntArray = npt.NDArray[np.int64]

Windows = Callable[[int], IntArray]
"""The windows of a batch, input and target in one, by its number from 0: [batch, seq_len + 1]."""


class TextDataset:
    """Windows over tokens: item i is (input, target), the target one token later.

    Args:
        tokens: Ids, shape [n].
        seq_len: Window length.
        stride: Distance between the starts of neighbouring windows; None lets none overlap.

    Raises:
        UserError: Length or stride is below 1.
    """

    def __init__(self, tokens: npt.ArrayLike, seq_len: int, stride: int | None = None) -> None:
        for name, value in (("seq_len", seq_len), ("stride", 1 if stride is None else stride)):
            if value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        self.tokens = np.asarray(tokens)
        self.seq_len = seq_len
        self.stride = stride or seq_len

    def __len__(self) -> int:
        """Number of whole windows."""
        return max(0, (len(self.tokens) - self.seq_len - 1) // self.stride + 1)

    def __getitem__(self, index: int) -> tuple[IntArray, IntArray]:
        """Input and target of one window, each of shape [seq_len]."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        (window,) = gather_windows(self.tokens, np.array([index * self.stride]), self.seq_len)
        return window[:-1], window[1:]

    def __iter__(self) -> Iterator[tuple[IntArray, IntArray]]:
        """All windows in order."""
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True)
class WindowCut:
    """How a training split is cut into windows, and in which order they are taken.

    Attributes:
        seq_len: Tokens of a window.
        stride: Distance between neighbours of shuffled windows; None lets none overlap.
        order: ``random``, ``shuffled`` or ``streamed``, as ``data.windows``.
        batch_size: Windows in a batch.
        seed: Of the order.
    """

    seq_len: int
    stride: int | None
    order: str
    batch_size: int
    seed: int

    def sampler(self, length: int) -> "WindowSampler":
        """The windows of a training split of ``length`` tokens."""
        stride = None if self.order == "random" else self.stride or self.seq_len
        return WindowSampler(length, self.seq_len, self.batch_size, self.seed, stride)

    def streamed(
        self, parts: "Parts", ahead: Callable[[list[int]], None] = lambda numbers: None
    ) -> "StreamedWindows":
        """The windows of a training split that comes in parts."""
        stride = self.stride or self.seq_len
        return StreamedWindows(parts, self.seq_len, self.batch_size, self.seed, stride, ahead)


class WindowSampler:
    """The starts of training windows, a pure function of the seed and the batch's number.

    Nothing is drawn in sequence, so the position after a resume needs no saved generator.

    Args:
        length: Tokens in the training part.
        seq_len: Window length.
        batch_size: Windows in a batch.
        seed: Seed of the order.
        stride: None for random starts with replacement; otherwise every window of this stride
            comes once an epoch, in an order and at an offset of the epoch's own.
    """

    def __init__(
        self, length: int, seq_len: int, batch_size: int, seed: int, stride: int | None = None
    ) -> None:
        self.batch_size = batch_size
        self._starts_in_all = length - seq_len
        self._seed = seed
        self._stride = stride
        self._epoch = -1
        self._epoch_starts = np.empty(0, dtype=np.int64)
        if stride is not None:
            self._stride = min(stride, self._starts_in_all)

    def starts(self, batch: int) -> IntArray:
        """Starts of the windows of batch number ``batch`` (from 0), shape [batch_size]."""
        if self._stride is None:
            return self._generator(batch).integers(0, self._starts_in_all, self.batch_size)
        per_epoch = self.windows_an_epoch()
        positions = batch * self.batch_size + np.arange(self.batch_size)
        return np.array(
            [self._shuffled(int(p) // per_epoch)[int(p) % per_epoch] for p in positions]
        )

    def start(self, number: int) -> int:
        """Where the window of a number (from 0) starts, counted in the order of training."""
        batch, place = divmod(number, self.batch_size)
        return int(self.starts(batch)[place])

    def windows_an_epoch(self) -> int:
        """How many windows, of shuffled ones, come once before one comes again."""
        # The offset may move each epoch's first window by up to stride - 1 tokens; counting one
        # window less than fits keeps the number the same for every offset.
        assert self._stride is not None
        return max(1, self._starts_in_all // self._stride)

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch != self._epoch:
            assert self._stride is not None
            generator = self._generator(epoch)
            offset = int(generator.integers(0, self._stride))
            order = generator.permutation(self.windows_an_epoch())
            self._epoch_starts = np.minimum(order * self._stride + offset, self._starts_in_all - 1)
            self._epoch = epoch
        return self._epoch_starts

    def _generator(self, index: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self._seed, index]))


class Parts(Protocol):
    """A text in parts that may yet have to be encoded."""

    def __len__(self) -> int:
        """Number of parts."""

    def tokens(self, number: int) -> npt.NDArray[Any]:
        """The ids of a part, shape [n]."""

    def count(self, number: int) -> int:
        """How many ids a part has."""


PARTS_AT_A_TIME = 4
"""Parts that windows are mixed from: they come from different places of the text."""


class StreamedWindows:
    """Windows of a text that is read, and encoded, part by part, a few of them at a time.

    An epoch takes the parts in a shuffled order, four at a time, and of these four every window
    once, in a shuffled order. A batch hangs on its number and on the text alone; it needs the
    parts before it to be encoded, and none behind it but for ``ahead``.

    Args:
        parts: The text.
        seq_len: Window length.
        batch_size: Windows in a batch.
        seed: Seed of all orders.
        stride: Distance between the starts of neighbouring windows, before they are shuffled.
        ahead: Told which parts will be needed next, each time others come to be used.
    """

    def __init__(
        self,
        parts: Parts,
        seq_len: int,
        batch_size: int,
        seed: int,
        stride: int,
        ahead: Callable[[list[int]], None] = lambda numbers: None,
    ) -> None:
        self._parts = parts
        self._seq_len = seq_len
        self._batch_size = batch_size
        self._seed = seed
        self._stride = stride
        self._ahead = ahead
        self._groups_an_epoch = -(-len(parts) // PARTS_AT_A_TIME)
        self._ends: list[int] = []
        """How many windows come before the end of each group, of all epochs so far."""
        self._order_of = (-1, np.empty(0, np.int64))
        self._group = -1
        self._tokens: npt.NDArray[Any] = np.empty(0, np.uint8)

    def __call__(self, batch: int) -> IntArray:
        """The windows of batch number ``batch`` (from 0), shape [batch_size, seq_len + 1].

        Raises:
            UserError: A part cannot be read, or has a character that the tokenizer does not know.
            OSError: An encoded part cannot be kept.
        """
        positions = batch * self._batch_size + np.arange(self._batch_size)
        windows = np.empty((self._batch_size, self._seq_len + 1), np.int64)
        done = 0
        while done < self._batch_size:
            group = self._group_at(int(positions[done]))
            inside = positions[done:][positions[done:] < self._ends[group]]
            self._load(group)
            starts = self._starts(group, inside - (self._ends[group - 1] if group else 0))
            gathered = gather_windows(self._tokens, starts, self._seq_len)
            windows[done : done + len(inside)] = gathered
            done += len(inside)
        return windows

    @property
    def first_tokens(self) -> npt.NDArray[Any]:
        """The ids of the parts that are used first, shape [n]: a sample of the whole text."""
        self._group_at(0)
        self._load(0)
        return self._tokens

    def _members(self, group: int) -> list[int]:
        """The parts of a group; groups are counted on through all epochs."""
        epoch, place = divmod(group, self._groups_an_epoch)
        if self._order_of[0] != epoch:
            order = self._generator(epoch, 0).permutation(len(self._parts))
            self._order_of = (epoch, order)
        first = place * PARTS_AT_A_TIME
        return [int(number) for number in self._order_of[1][first : first + PARTS_AT_A_TIME]]

    def _group_at(self, position: int) -> int:
        while not self._ends or self._ends[-1] <= position:
            group = len(self._ends)
            if group and group % self._groups_an_epoch == 0 and self._ends[-1] == 0:
                raise UserError("no part of the corpus holds a window; use a longer text")
            members = self._members(group)
            self._ahead(members)
            tokens = sum(self._parts.count(number) for number in members)
            before = self._ends[-1] if self._ends else 0
            # One window less than fits, so that the offset may move them all.
            self._ends.append(before + max(0, (tokens - self._seq_len) // self._stride))
        return bisect.bisect_right(self._ends, position)

    def _load(self, group: int) -> None:
        if group != self._group:
            members = self._members(group)
            self._ahead([*members, *self._members(group + 1)])
            self._tokens = np.concatenate([self._parts.tokens(number) for number in members])
            self._group = group

    def _starts(self, group: int, places: IntArray) -> IntArray:
        """Starts in the group's tokens of its windows number ``places``."""
        generator = self._generator(group, 1)
        offset = int(generator.integers(0, self._stride))
        keys = generator.integers(0, 1 << 63, _ROUNDS, dtype=np.uint64)
        windows = self._ends[group] - (self._ends[group - 1] if group else 0)
        return permuted(places, windows, keys) * self._stride + offset

    def _generator(self, index: int, purpose: int) -> np.random.Generator:
        # Apart from the generators of ``WindowSampler``, whose second word is below 2⁶³.
        return np.random.Generator(
            np.random.Philox(key=[self._seed, (1 << 63) + 2 * index + purpose])
        )


_ROUNDS = 6
_MIX = np.uint64(0x9E3779B97F4A7C15)


def permuted(places: IntArray, size: int, keys: npt.NDArray[np.uint64]) -> IntArray:
    """Where a keyed permutation of ``range(size)`` sends ``places``, without holding it in memory.

    A Feistel network permutes the next larger square of a power of two; what it sends outside is
    sent on until it is inside (cycle walking: Black & Rogaway 2002, "Ciphers with Arbitrary Finite
    Domains").

    Args:
        places: Numbers below ``size``, shape [n].
        size: How many numbers are permuted; at least 1.
        keys: A key for each round.
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    found = places.astype(np.uint64)
    outside = np.ones(len(found), bool)
    while outside.any():
        left, right = found[outside] >> half, found[outside] & mask
        for key in keys:
            mixed = (right ^ key) * _MIX
            mixed ^= mixed >> np.uint64(29)
            mixed *= _MIX
            left, right = right, left ^ ((mixed >> np.uint64(32)) & mask)
        found[outside] = (left << half) | right
        outside = found >= size
    return found.astype(np.int64)


def gather_windows(tokens: npt.NDArray[Any], starts: IntArray, seq_len: int) -> IntArray:
    """Copy windows out of ``tokens``: shape [len(starts), seq_len + 1], input and target in one."""
    windows: IntArray = tokens[starts[:, None] + np.arange(seq_len + 1)].astype(np.int64)
    return windows
