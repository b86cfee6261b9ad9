"""A corpus's figures in words, for the command line and the lab to lay out each in its own way.

Titles are in lower case. Names in the corpus are as they stand there: who shows them makes them
harmless to a terminal.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shakespeare_tui.data.inspect.characters import TextStatistics
from shakespeare_tui.data.inspect.ngrams import BASELINE_ORDERS
from shakespeare_tui.data.inspect.speeches import MAX_NAMES, PlayStatistics
from shakespeare_tui.data.inspect.verdict import character_name
from shakespeare_tui.formatting import format_bytes

if TYPE_CHECKING:
    from shakespeare_tui.data.inspect.scan import Baselines, Split
    from shakespeare_tui.data.source import TextSource

_SHOWN_VOCABULARY = 400


class Figure(NamedTuple):
    """One figure, and what it is of or what else is known of it."""

    label: str
    value: str
    note: str = ""


class Row(NamedTuple):
    """A line of a table: its name and numbers, and its bar from 0 to 1; None: not known yet."""

    cells: tuple[str, ...]
    bar: float | None


@dataclass(frozen=True)
class Table:
    """Rows under a title; the remark stands below them, or in their place."""

    title: str
    rows: tuple[Row, ...] = ()
    remark: str = ""
    columns: tuple[str, ...] = ()
    """What the columns are called; empty where that is plain."""


FIRST_LINES = "first lines"
SPEECHES = "speeches"
VOCABULARY = "vocabulary, by code point"


def size_figures(source: "TextSource", statistics: TextStatistics) -> list[Figure]:
    """How large a corpus is, its validation text included."""
    source = source.whole
    files = len(source.paths)
    return [
        *([Figure("files", f"{files:,}")] if files > 1 else []),
        Figure("bytes", f"{source.size_bytes:,}", format_bytes(source.size_bytes)),
        Figure("characters", f"{statistics.characters:,}"),
        Figure("lines", f"{statistics.lines:,}", f"longest {statistics.longest_line_characters:,}"),
        Figure("vocabulary", f"{statistics.vocab_size:,}", "distinct characters"),
    ]


def vocabulary_names(statistics: TextStatistics) -> tuple[list[str], int]:
    """The first characters of the vocabulary as one can read them, and how many more there are."""
    shown = statistics.vocabulary[:_SHOWN_VOCABULARY]
    return list(map(character_name, shown)), statistics.vocab_size - len(shown)


def character_classes(statistics: TextStatistics) -> Table:
    """Which kinds of characters a text is made of."""
    return shares_table("character classes", statistics.kinds())


def shares_table(title: str, counts: Iterable[tuple[str, int, float]]) -> Table:
    """Names with counts and shares of the text."""
    rows = tuple(Row((name, f"{count:,}", f"{share:.2%}"), share) for name, count, share in counts)
    return Table(title, rows)


def split_table(split: "Split | None") -> Table:
    """What is learned from and what is measured on; None before the whole text has been read."""
    title = "train/validation split"
    if split is None:
        return Table(title, remark="available once the whole text has been read")
    n = split.train + split.validation
    rows = tuple(
        Row((label, f"{size:,}", f"{size / n:.1%}"), size / n)
        for label, size in (("training", split.train), ("validation", split.validation))
    )
    own = "validation has a text of its own" if split.val_fraction is None else ""
    return Table(title, rows, own)


def baselines_table(baselines: "Baselines", is_done: bool = True) -> Table:
    """The losses of n-gram models; until it ``is_done`` some are missing."""
    title, losses = "n-gram baselines", baselines.losses
    if not losses:
        missing = "the text is too short for n-gram baselines"
        waiting = "available once the whole text has been read"
        return Table(title, remark=missing if is_done else waiting)
    largest = max(losses.values()) or 1.0
    rows = tuple(
        Row((name, f"{losses[name]:.4f}", f"{math.exp(losses[name]):.2f}"), losses[name] / largest)
        if name in losses
        else Row((name, "…", ""), None)
        for name in ("uniform", *BASELINE_ORDERS)
    )
    remark = (
        f"nats per character on {baselines.validation:,} characters after the split, "
        f"counted on {baselines.train:,} before it"
    )
    return Table(title, rows, remark, ("model", "loss", "perplexity"))


def speech_figures(play: PlayStatistics) -> list[Figure]:
    """How many speeches a play has, and how long they are."""
    return [
        Figure("speeches", f"{play.speeches:,}"),
        Figure("speakers", f"{play.speakers:,}", "or more" if play.speakers == MAX_NAMES else ""),
        Figure("mean", f"{play.mean_characters:,.1f}", "characters a speech"),
        Figure("median", f"{play.median_characters:,.1f}", "characters"),
        Figure("longest", f"{play.longest_characters:,}", f"by {play.longest_speaker}"),
    ]


def speakers_table(play: PlayStatistics, characters: int) -> Table:
    """Who says most of a text of so many characters."""
    largest = max((speaker.characters for speaker in play.top_speakers), default=1) or 1
    rows = tuple(
        Row(
            (
                speaker.name,
                f"{speaker.speeches:,}",
                f"{speaker.characters:,}",
                f"{speaker.characters / max(1, speaker.speeches):,.0f}",
                f"{speaker.characters / max(1, characters):.2%}",
            ),
            speaker.characters / largest,
        )
        for speaker in play.top_speakers
    )
    columns = ("", "speeches", "characters", "mean", "share")
    return Table("who says most", rows, columns=columns)
