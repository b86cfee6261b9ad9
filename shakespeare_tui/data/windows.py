"""The windows that training and evaluation cut out of a split."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shakespeare_tui.errors import UserError

IntArray = npt.NDArray[np.int64]


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
        order: ``random`` or ``shuffled``, as ``data.windows``.
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
        stride = (self.stride or self.seq_len) if self.order == "shuffled" else None
        return WindowSampler(length, self.seq_len, self.batch_size, self.seed, stride)


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


def gather_windows(tokens: npt.NDArray[Any], starts: IntArray, seq_len: int) -> IntArray:
    """Copy windows out of ``tokens``: shape [len(starts), seq_len + 1], input and target in one."""
    windows: IntArray = tokens[starts[:, None] + np.arange(seq_len + 1)].astype(np.int64)
    return windows
