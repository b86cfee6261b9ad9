"""Measures of wording: how varied a text is, how much it repeats, whether its words are real."""

from collections.abc import Collection, Sequence

REPEATED_NGRAM_WORDS = 4
"""Length of the n-grams whose repetition is measured, as is usual for generated text."""


def distinct_share(words: Sequence[str], n: int) -> float | None:
    """Different n-grams as a share of all (distinct-n, arXiv:1510.03055); None where none fits."""
    total = len(words) - n + 1
    if total < 1:
        return None
    return len({tuple(words[i : i + n]) for i in range(total)}) / total


def repeated_share(words: Sequence[str]) -> float | None:
    """Share of n-grams of four words that occurred before in the text; None where none fits.

    This is seq-rep-4 of arXiv:1908.04319.
    """
    distinct = distinct_share(words, REPEATED_NGRAM_WORDS)
    return None if distinct is None else 1 - distinct


def real_word_rate(words: Sequence[str], known: Collection[str]) -> float | None:
    """Share of ``words`` that are among the ``known``; None where there are no words."""
    return sum(word in known for word in words) / len(words) if words else None
