"""What every decoder does: read tokens, remember them, and tell what may come next."""

from collections.abc import Callable
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.decoding.draws import Draws

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Precision = Literal["auto", "float32", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class WriteAhead(Protocol):
    """Reads and draws many tokens at once."""

    def __call__(
        self,
        text: IntArray,
        length: int,
        draws: Draws,
        given: FloatArray | None = None,
        unread: int = 1,
    ) -> int:
        """Draw T tokens of ``text`` [B, L] from ``length`` on; returns how many were drawn.

        They are fewer where the model gives numbers that are no logits. All that is drawn is read
        but for the last.

        Args:
            text: Of its first ``length`` tokens all have been read but the last ``unread``.
            length: How many tokens there are; those after them are written over.
            draws: How tokens are drawn, T of each stream.
            given: The logits of each draw go here, [B, T, V].
            unread: At least 1.

        Raises:
            ValueError: The context would be exceeded.
        """


class Decoder(Protocol):
    """A model that remembers what it has read, for B streams of the same length.

    Shapes: B streams, T tokens of one read, V vocabulary, C width of the model.

    Attributes:
        vocab_size: V.
        context: How many tokens fit.
    """

    vocab_size: int
    context: int

    @property
    def make_drafter(self) -> Callable[[], "Drafter | None"] | None:
        """Makes a faster, less exact copy, of one stream; None where that does not pay.

        It drafts tokens for this decoder to check many at once, where each is chosen outside of
        it. It is None as long as it is not ready.
        """

    @property
    def write_ahead(self) -> WriteAhead | None:
        """Draws many tokens at once; None where that cannot be done, or not yet."""

    @property
    def streams(self) -> int:
        """B."""

    @property
    def length(self) -> int:
        """How many tokens of each stream have been read."""

    @property
    def hidden(self) -> FloatArray:
        """Hidden states [B, T, C] after the last norm, of the tokens of the last read."""

    def read(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, V] of what comes next.

        Raises:
            ValueError: The context would be exceeded.
        """

    def read_all(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, T, V] after each of them.

        Raises:
            ValueError: The context would be exceeded.
        """

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on from stream ``rows[i]``; more or fewer rows change B."""


class Drafter(Decoder, Protocol):
    """A decoder that drafts for another one, its leader."""

    def follow(self, leader: Decoder) -> None:
        """Go on from what ``leader`` has read: its keys and values are shared.

        Until ``leader`` reads on, or either makes room; what is read here beyond its tokens is
        written over by it.
        """


def check_room(length: int, context: int) -> None:
    """Refuse to read up to ``length`` tokens where only ``context`` fit.

    Raises:
        ValueError: They do not fit.
    """
    if length > context:
        raise ValueError(f"{length} tokens are more than the context of {context}")


class RereadingDecoder:
    """Reads all its tokens again with every new one: slow, and free of any memory.

    Args:
        decoder: Does the reading, each time from the beginning.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.vocab_size, self.context = decoder.vocab_size, decoder.context
        self.make_drafter: Callable[[], Drafter | None] | None = None
        self.write_ahead: WriteAhead | None = None
        self._decoder = decoder
        self._tokens = np.empty((decoder.streams, 0), np.int64)
        self._last_read = 0

    @property
    def streams(self) -> int:
        """B."""
        return len(self._tokens)

    @property
    def length(self) -> int:
        """How many tokens of each stream have been read."""
        return self._tokens.shape[1]

    @property
    def hidden(self) -> FloatArray:
        """Hidden states [B, T, C] after the last norm, of the tokens of the last read."""
        return self._decoder.hidden[:, -self._last_read :]

    def read(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, V] of what comes next."""
        self._take(tokens)
        return self._decoder.read(self._tokens)

    def read_all(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, T, V] after each of them."""
        self._take(tokens)
        return self._decoder.read_all(self._tokens)[:, -self._last_read :]

    def _take(self, tokens: IntArray) -> None:
        self._tokens = np.concatenate((self._tokens, tokens), axis=1)
        self._last_read = tokens.shape[1]
        self._decoder.rewind(0)

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        self._tokens = self._tokens[:, :length]

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on from stream ``rows[i]``; more or fewer rows change B."""
        self._tokens = self._tokens[rows]
        self._decoder.reorder(rows)
