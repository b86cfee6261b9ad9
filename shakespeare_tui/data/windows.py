"""The split of a corpus, and the windows that training and evaluation cut out of it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.inspect.ngrams import HIGHEST_BASELINE_ORDER
from shakespeare_tui.data.source import TextSource
from shakespeare_tui.data.tokenizers import CharTokenizer, TokenArray
from shakespeare_tui.errors import CancelledError, UserError

IntArray = npt.NDArray[np.int64]


def fit_char_tokenizer(
    source: TextSource, cancelled: Callable[[], bool] = lambda: False
) -> tuple[CharTokenizer, int]:
    """Fit a character tokenizer on a corpus, streaming; also returns the count of characters.

    Raises:
        UserError: The corpus is empty or cannot be decoded.
        CancelledError: ``cancelled``, polled between chunks, became true.
    """
    characters: set[str] = set()
    count = 0
    for text in source.iter_text():
        if cancelled():
            raise CancelledError("reading the corpus was cancelled")
        characters.update(text)
        count += len(text)
    if not count:
        raise UserError(f"{source.name} is empty; a corpus needs text to learn from")
    return CharTokenizer.from_vocabulary(sorted(characters)), count


def check_length(tokens: int, val_fraction: float, seq_len: int) -> None:
    """Refuse a corpus that leaves too little on either side of the split.

    Raises:
        UserError: The training part holds no window with its target or too little for the n-gram
            baselines, or the validation part not two tokens.
    """
    train = int((1 - val_fraction) * tokens)
    least = max(seq_len + 1, HIGHEST_BASELINE_ORDER)
    if train >= least and tokens - train >= 2:
        return
    found = (
        f"the corpus is too short: {tokens:,} tokens split into {train:,} for training and "
        f"{tokens - train:,} for validation, but"
    )
    if train >= seq_len + 1 and tokens - train >= 2:
        raise UserError(f"{found} its n-gram baselines need {least} to train on; use a longer text")
    raise UserError(
        f"{found} a window of {seq_len} needs at least {least:,} and 2; use a longer text or a "
        "smaller model.max_seq_len"
    )


def check_vocabulary(vocab_size: int) -> None:
    """Refuse a corpus in which every next character is certain.

    Raises:
        UserError: It has one character only.
    """
    if vocab_size == 1:
        raise UserError(
            "the corpus is one character repeated: every next character is certain and there is "
            "nothing to learn; choose a text with at least two different characters"
        )


def split_tokens(
    tokens: TokenArray, val_fraction: float, seq_len: int
) -> tuple[TokenArray, TokenArray]:
    """Split in time order at ``int((1 - val_fraction) * n)`` without shuffling.

    Args:
        tokens: Ids, shape [n].
        val_fraction: Share of the end kept for validation.
        seq_len: Window length; the training part must hold one window and its shifted target.

    Returns:
        The training and validation parts, both views.

    Raises:
        UserError: A part is too short.
    """
    check_length(len(tokens), val_fraction, seq_len)
    boundary = int((1 - val_fraction) * len(tokens))
    return tokens[:boundary], tokens[boundary:]


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
        per_epoch = self._windows_an_epoch()
        positions = batch * self.batch_size + np.arange(self.batch_size)
        return np.array(
            [self._shuffled(int(p) // per_epoch)[int(p) % per_epoch] for p in positions]
        )

    def _windows_an_epoch(self) -> int:
        # The offset may move each epoch's first window by up to stride - 1 tokens; counting one
        # window less than fits keeps the number the same for every offset.
        assert self._stride is not None
        return max(1, self._starts_in_all // self._stride)

    def _shuffled(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch != self._epoch:
            assert self._stride is not None
            generator = self._generator(epoch)
            offset = int(generator.integers(0, self._stride))
            order = generator.permutation(self._windows_an_epoch())
            self._epoch_starts = np.minimum(order * self._stride + offset, self._starts_in_all - 1)
            self._epoch = epoch
        return self._epoch_starts

    def _generator(self, index: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=[self._seed, index]))


def gather_windows(tokens: npt.NDArray[Any], starts: IntArray, seq_len: int) -> IntArray:
    """Copy windows out of ``tokens``: shape [len(starts), seq_len + 1], input and target in one."""
    windows: IntArray = tokens[starts[:, None] + np.arange(seq_len + 1)].astype(np.int64)
    return windows
