"""All measures of one text at once, and what each is called, means and is good for."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.inspect.characters import code_points
from shakespeare_tui.data.inspect.speeches import heading_name, text_blocks
from shakespeare_tui.data.inspect.words import words_of
from shakespeare_tui.measures.copies import Memorisation, find_copies
from shakespeare_tui.measures.reference import CorpusReference

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


_Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Loop:
    """A stretch of text that repeats its first ``unit_length`` characters until it ends."""

    start: int
    length: int
    """Characters, at least twice the unit's; the last repetition may be cut short."""
    unit_length: int


def longest_loop(text: str) -> Loop | None:
    """The longest loop, the first of equally long ones; None where nothing is repeated at once."""
    n = len(text)
    if n < 2:
        return None
    names = _names(text)
    # Every pair of neighbouring multiples of every period up to n / 2: about n · ln n of them.
    periods = np.arange(1, n // 2 + 1)
    pairs = (n - 1) // periods
    period = np.repeat(periods, pairs)
    number = np.arange(len(period)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    left = number * period
    # A loop covers both characters of the pair, which therefore are equal.
    is_equal = names[0][left] == names[0][left + period]
    left, period = left[is_equal], period[is_equal]
    forward = _agreement(names, left, left + period)
    backward = _agreement_before(names, left, left + period)
    length = forward + backward + period
    length[forward + backward < period] = 0
    start = left - backward
    if not length.any():
        return None
    best = int(np.lexsort((period, start, -length))[0])
    return Loop(int(start[best]), int(length[best]), int(period[best]))


def _names(text: str) -> list[_Ids]:
    """For each level k, numbers that are equal where substrings of 2^k characters are.

    Level k has shape [n − 2^k + 1].
    """
    levels = [np.unique(code_points(text), return_inverse=True)[1].astype(np.int64)]
    width = 1
    while 2 * width <= len(text):
        first, second = levels[-1][:-width], levels[-1][width:]
        joined = first * (int(levels[-1].max()) + 1) + second
        levels.append(np.unique(joined, return_inverse=True)[1].astype(np.int64))
        width *= 2
    return levels


def _agreement(names: list[_Ids], left: _Ids, right: _Ids) -> _Ids:
    """Characters for which the text from ``left`` on equals itself from ``right`` > ``left`` on."""
    agreed = np.zeros(len(left), np.int64)
    for level in reversed(names):
        equal = np.flatnonzero(right + agreed < len(level))
        a, b = left[equal] + agreed[equal], right[equal] + agreed[equal]
        width = len(names[0]) - len(level) + 1
        agreed[equal[level[a] == level[b]]] += width
    return agreed


def _agreement_before(names: list[_Ids], left: _Ids, right: _Ids) -> _Ids:
    """Characters for which the text up to ``left`` equals itself up to ``right``, from the end."""
    agreed = np.zeros(len(left), np.int64)
    for level in reversed(names):
        width = len(names[0]) - len(level) + 1
        inside = np.flatnonzero(left - agreed >= width)
        a = left[inside] - agreed[inside] - width
        b = right[inside] - agreed[inside] - width
        agreed[inside[level[a] == level[b]]] += width
    return agreed


@dataclass(frozen=True)
class Layout:
    """Shares of a text's blocks and headings; None where there are none."""

    wellformed_share: float | None
    """Blocks that are a heading with at least one line of text below it."""
    known_speaker_share: float | None
    """Headings that name a known speaker."""


def measure_layout(text: str, speakers: Collection[str] | None, prompt_length: int = 0) -> Layout:
    r"""Measure the layout of what follows the prompt.

    A block that the prompt began counts if something follows in it; a heading that the prompt
    completed does not.

    Args:
        text: The whole text; ``\r\n`` counts as ``\n``.
        speakers: The names that are known; None leaves their share unmeasured.
        prompt_length: Characters of the prompt at its beginning.
    """
    prompt_length = len(text[:prompt_length].replace("\r\n", "\n"))
    text = text.replace("\r\n", "\n")
    blocks = wellformed = headings = known = 0
    for start, block in text_blocks(text):
        if not text[max(start, prompt_length) : start + len(block)].strip():
            continue
        blocks += 1
        first, _, rest = block.partition("\n")
        name = heading_name(first)
        if name is None:
            continue
        wellformed += bool(rest.strip())
        if start + len(first) > prompt_length:
            headings += 1
            known += speakers is not None and name in speakers
    return Layout(
        wellformed_share=wellformed / blocks if blocks else None,
        known_speaker_share=known / headings if headings and speakers is not None else None,
    )


# A quarter of the text in one loop, or every second run of four words said before.
_LOOPING_SHARE, _REPEATING_SHARE = 0.25, 0.5


@dataclass(frozen=True)
class MeasureKind:
    """What a measure is called and how it is read."""

    name: str
    """The attribute of ``Measures``; ``longest_copy`` and ``copied_share`` are properties."""
    label: str
    """At most 14 characters."""
    unit: Literal["nats", "share", "characters"]
    direction: Literal["higher", "lower", "neither"]
    """Which is better, other things being equal."""
    help: str
    """One sentence."""

    def format(self, value: float | None) -> str:
        """A value as it stands in a table; a dash where there is none."""
        if value is None:
            return "-"
        if self.unit == "share":
            return f"{value:.1%}"
        return f"{value:.3f}" if self.unit == "nats" else f"{value:,}"


_KINDS = (
    MeasureKind(
        "mean_surprise",
        "surprise",
        "nats",
        "neither",
        "Mean surprise of the model a character; text of its corpus comes near its loss.",
    ),
    MeasureKind("distinct_1", "distinct-1", "share", "higher", "Distinct words among all words."),
    MeasureKind(
        "distinct_2",
        "distinct-2",
        "share",
        "higher",
        "Distinct word bigrams among all bigrams.",
    ),
    MeasureKind(
        "distinct_3",
        "distinct-3",
        "share",
        "higher",
        "Distinct word trigrams among all trigrams.",
    ),
    MeasureKind(
        "longest_loop",
        "longest loop",
        "characters",
        "lower",
        "Longest stretch of one unit repeated back to back.",
    ),
    MeasureKind(
        "repeated_share",
        "repeated",
        "share",
        "lower",
        "Word 4-grams that occurred earlier in the text.",
    ),
    MeasureKind(
        "real_word_rate",
        "real words",
        "share",
        "higher",
        "Words that occur in the training split, ignoring case.",
    ),
    MeasureKind(
        "wellformed_share",
        "well-formed",
        "share",
        "higher",
        "Blocks that are a heading with text below it.",
    ),
    MeasureKind(
        "known_speaker_share",
        "known speakers",
        "share",
        "higher",
        "Headings that are speakers in the training split.",
    ),
    MeasureKind(
        "longest_copy",
        "longest copy",
        "characters",
        "lower",
        "Longest passage that also occurs in the training split.",
    ),
    MeasureKind(
        "copied_share",
        "copied",
        "share",
        "lower",
        "Text inside copies of 20 characters or more.",
    ),
)

MEASURES: dict[str, MeasureKind] = {kind.name: kind for kind in _KINDS}
"""All measures by name, in the order in which they are shown."""


@dataclass(frozen=True, kw_only=True)
class Measures:
    """The measures of one text; None where there is nothing to measure or to measure against."""

    mean_surprise: float | None = None
    """Nats per character under a model; the engine fills it in."""
    characters: int
    """How long the text is that was measured."""
    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None
    longest_loop: int
    """Characters; 0 where nothing is repeated back to back."""
    repeated_share: float | None
    real_word_rate: float | None
    wellformed_share: float | None
    known_speaker_share: float | None
    memorisation: Memorisation | None

    @property
    def longest_copy(self) -> int | None:
        """Characters of the longest copied passage."""
        return None if self.memorisation is None else self.memorisation.longest

    @property
    def copied_share(self) -> float | None:
        """Share of the text inside copies of at least 20 characters."""
        return None if self.memorisation is None else self.memorisation.share

    @property
    def is_looping(self) -> bool:
        """Whether the text is caught in a loop: it says much of what it says again and again."""
        is_loop = self.longest_loop > _LOOPING_SHARE * self.characters
        return is_loop or (self.repeated_share or 0.0) > _REPEATING_SHARE

    def value(self, name: str) -> float | None:
        """The value of one of ``MEASURES``.

        Raises:
            KeyError: There is no such measure.
        """
        value: float | None = getattr(self, MEASURES[name].name)
        return value

    def with_surprise(self, mean_surprise: float | None) -> Self:
        """The same with the surprise filled in."""
        return replace(self, mean_surprise=mean_surprise)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``: by name, with the copied passages under ``memorisation``."""
        record = asdict(self)
        record["memorisation"] = self.memorisation.as_json() if self.memorisation else None
        return record


def measure_text(text: str, reference: CorpusReference | None, prompt_length: int = 0) -> Measures:
    """Measure what follows the first ``prompt_length`` characters of a text.

    Args:
        text: The whole text, prompt included.
        reference: The training split to compare with; None leaves out what needs it.
        prompt_length: Characters that were given rather than generated.
    """
    written = text[prompt_length:]
    words = words_of(written)
    loop = longest_loop(written)
    speakers = reference.speakers if reference else None
    layout = measure_layout(text, speakers, prompt_length)
    return Measures(
        characters=len(written),
        distinct_1=distinct_share(words, 1),
        distinct_2=distinct_share(words, 2),
        distinct_3=distinct_share(words, 3),
        longest_loop=loop.length if loop else 0,
        repeated_share=repeated_share(words),
        real_word_rate=real_word_rate(words, reference.words) if reference else None,
        wellformed_share=layout.wellformed_share,
        known_speaker_share=layout.known_speaker_share,
        memorisation=find_copies(text, reference, prompt_length) if reference else None,
    )


def best_measures(
    measures: Sequence[Measures | None],
    show: Callable[[MeasureKind, float | None], str] = MeasureKind.format,
) -> list[frozenset[str]]:
    """For each text, the names of those measures by which it is better than all others.

    A tie has no winner, and neither has a measure whose best text is caught in a loop: what such a
    text does well, it does for nothing.

    Args:
        measures: Of the texts, of which one has none yet.
        show: How values are shown; what is shown alike is a tie.
    """
    best: list[set[str]] = [set() for _ in measures]
    for name, kind in MEASURES.items():
        if kind.direction == "neither":
            continue
        ranked = sorted(
            (
                (value, column)
                for column, each in enumerate(measures)
                if each is not None and (value := each.value(name)) is not None
            ),
            reverse=kind.direction == "higher",
        )
        if len(ranked) < 2 or show(kind, ranked[0][0]) == show(kind, ranked[1][0]):
            continue
        column = ranked[0][1]
        winner = measures[column]
        if winner is not None and not winner.is_looping:
            best[column].add(name)
    return [frozenset(names) for names in best]
