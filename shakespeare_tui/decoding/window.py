"""Which part of a text predicts the next token, and reading it.

While all tokens fit into the model's context, every one is seen. When it is full, the older half is
dropped and the rest is read again, so the window moves in hops of half a context. This is the
definition for generation with and without a cache, which therefore agree; a cache that slides token
by token would not, since its deeper layers still know the dropped text.
"""

import math

from shakespeare_tui.decoding.decoder import Decoder, FloatArray, IntArray


def window_start(tokens: int, context: int) -> int:
    """First token of the window that predicts the token after ``tokens`` tokens.

    A pure function of the length, so that it does not matter where generation began.
    """
    if tokens <= context:
        return 0
    hop = max(1, context // 2)
    return math.ceil((tokens - context) / hop) * hop


class WindowReader:
    """Lets a decoder read a growing text through its window.

    Args:
        decoder: Has read nothing yet.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._start = 0

    def read(self, text: IntArray) -> FloatArray:
        """Logits [B, V] of what comes after ``text`` [B, L], which begins as it did before."""
        return self.decoder.read(self.to_read(text))

    def read_all(self, text: IntArray, last: int) -> FloatArray:
        """Logits [B, last, V] after each of the last so many tokens of ``text`` [B, L].

        The window is that of the whole text; ``room`` says how many tokens have the same.
        """
        self.forget_after(text.shape[1] - last)
        return self.decoder.read_all(self.to_read(text))[:, -last:]

    def forget_after(self, length: int) -> None:
        """Take back what was read beyond the first ``length`` tokens of the text."""
        self.decoder.rewind(max(0, length - self._start))

    def room(self, length: int) -> int:
        """How many tokens more than ``length`` the same window holds."""
        context = self.decoder.context
        return window_start(length, context) + context - length

    def unread(self, length: int) -> int:
        """How many of the first ``length`` tokens of the text are to be read next."""
        start = window_start(length, self.decoder.context)
        return length - start - (self.decoder.length if start == self._start else 0)

    def to_read(self, text: IntArray) -> IntArray:
        """What of ``text`` [B, L] the decoder is to read next, which now is in its window."""
        start = window_start(text.shape[1], self.decoder.context)
        if start != self._start:
            self.decoder.rewind(0)
            self._start = start
        return text[:, start + self.decoder.length :]
