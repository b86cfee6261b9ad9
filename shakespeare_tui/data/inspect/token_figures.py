"""What a tokenizer makes of a text: how many tokens, how long they are, which are frequent."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.download import Report
from shakespeare_tui.data.source import TextSource
from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
from shakespeare_tui.errors import UserError, check_cancelled, never


@dataclass(frozen=True)
class TokenFigures:
    """How often each token of a vocabulary occurs in a text.

    Attributes:
        tokenizer: What gives the tokens.
        counts: By id, shape [vocab_size].
        lengths: Bytes of each id, shape [vocab_size].
        text_bytes: Of the text in UTF-8.
    """

    tokenizer: Tokenizer
    counts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    text_bytes: int

    @property
    def tokens(self) -> int:
        """Of the text."""
        return int(self.counts.sum())

    @property
    def used(self) -> int:
        """How many ids occur."""
        return int(np.count_nonzero(self.counts))

    @property
    def bytes_per_token(self) -> float:
        """How far the text is compressed."""
        return self.text_bytes / self.tokens

    def longest(self, most: int) -> list[int]:
        """Ids that occur, the longest first, the more frequent of equals first."""
        order = np.lexsort((-self.counts, -self.lengths))
        return [int(token) for token in order if self.counts[token]][:most]

    def commonest(self, most: int) -> list[int]:
        """Ids that occur, the most frequent first."""
        order = np.argsort(-self.counts, kind="stable")[:most]
        return [int(token) for token in order if self.counts[token]]


def count_tokens(
    tokenizer: Tokenizer, pieces: Iterable[str], cancelled: Callable[[], bool] = never
) -> TokenFigures:
    """Encode a text that comes in pieces, and count its tokens.

    Raises:
        UserError: The text is empty, or cannot be expressed.
        CancelledError: ``cancelled`` became true.
    """
    text_bytes = 0

    def read() -> Iterator[str]:
        nonlocal text_bytes
        for piece in pieces:
            check_cancelled(cancelled, "counting tokens")
            text_bytes += len(piece.encode("utf-8", "surrogatepass"))
            yield piece

    size = tokenizer.vocab_size
    counts = np.zeros(size, np.int64)
    for part in tokenizer.encode_stream(read()):
        counts += np.bincount(part, minlength=size)
    if not text_bytes:
        raise UserError("the text is empty; there are no tokens to count")
    lengths = np.array([len(tokenizer.token_bytes(token)) for token in range(size)], np.int64)
    return TokenFigures(tokenizer, counts, lengths, text_bytes)


def reported(source: TextSource, report: Report) -> Iterator[str]:
    """The corpus's text, with word of how far it has been read."""
    done = 0
    for text in source.iter_text():
        yield text
        done += len(text.encode("utf-8", "surrogatepass"))
        report(done, source.size_bytes)
