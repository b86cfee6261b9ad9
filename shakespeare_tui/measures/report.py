"""All measures of one text at once, and what each is called, means and is good for."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from shakespeare_tui.data.inspect.words import words_of
from shakespeare_tui.measures.copies import Memorisation, find_copies
from shakespeare_tui.measures.layout import measure_layout
from shakespeare_tui.measures.loops import longest_loop
from shakespeare_tui.measures.reference import CorpusReference
from shakespeare_tui.measures.wording import distinct_share, real_word_rate, repeated_share

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
        "Mean surprise of the model at each character; text of its corpus comes near its loss.",
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
