"""Rows of the n-gram embedding: which vectors stand for a token together with those before it.

The last two tokens together, and the last three, have embeddings of their own, which are added to
the token's: what n-grams know does not have to be learned by attention first. It is the bigram hash
embedding of modded-nanogpt's speedruns; Engram (arXiv:2601.07372) is the same for large models.
"""

from typing import Any

MOST_ROWS = 32_749
"""For n-grams of one length: the largest prime below 2^15. Where there are more of them, those of
the same remainder share a row."""


def ngram_rows(vocab_size: int, longest: int) -> list[int]:
    """How many rows there are for the last 2, 3, … ``longest`` tokens together.

    ``vocab_size`` is a token, too: it stands for each one before the first.
    """
    counts = (vocab_size * (vocab_size + 1) ** (n - 1) for n in range(2, longest + 1))
    return [min(count, MOST_ROWS) for count in counts]


def ngram_ids(tokens: Any, vocab_size: int, longest: int) -> list[Any]:
    """The row of each of the last T tokens, [B, T], for each length of n-grams.

    Args:
        tokens: Of any array library, int64 [B, longest - 1 + T]; the first ``longest - 1`` are
            looked back on only.
        vocab_size: V.
        longest: The most tokens that are taken together.
    """
    end = tokens.shape[1]
    code, first, ids = tokens[:, longest - 1 :], 0, []
    for back, rows in enumerate(ngram_rows(vocab_size, longest), 1):
        code = code * (vocab_size + 1) + tokens[:, longest - 1 - back : end - back]
        ids.append(code % rows + first)
        first += rows
    return ids
