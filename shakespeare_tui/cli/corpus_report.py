"""Lay out what was found in a corpus as plain text for a terminal of any width and encoding."""

import math
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import OverflowMethod
from rich.table import Table
from rich.text import Text

from shakespeare_tui.cli.console import table_lines
from shakespeare_tui.data.inspect.characters import TextStatistics
from shakespeare_tui.data.inspect.scan import Baselines, CorpusReport
from shakespeare_tui.data.inspect.speeches import MAX_NAMES, PlayStatistics
from shakespeare_tui.formatting import counted, format_bytes
from shakespeare_tui.visible_text import visible

_LONGEST_BAR = 30
_BLOCKS = "▏▎▍▌▋▊▉█"
_SHOWN_VOCABULARY = 400
_NAMES = {" ": "space", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def report_lines(report: CorpusReport, width: int, encoding: str) -> Iterator[str]:
    """Yield the report line by line.

    Args:
        report: What was found.
        width: Columns at hand; tables need about 36.
        encoding: Of the stream that the lines are meant for; characters that it lacks, and those
            that would steer the terminal, are shown as escapes.
    """
    page = _Page(width, encoding)
    statistics = report.statistics
    paths = report.source.paths
    yield from page.paragraph(f"{report.source.name}: {report.source.title}")
    yield ""
    yield from page.pairs(
        ("size", f"{report.source.size_bytes:,} bytes ({format_bytes(report.source.size_bytes)})"),
        ("files", f"{len(paths):,}") if len(paths) > 1 else ("file", page.visible(str(paths[0]))),
        ("characters", f"{statistics.characters:,}"),
        ("lines", f"{statistics.lines:,}, longest {statistics.longest_line_characters:,}"),
        ("vocabulary", counted(statistics.vocab_size, "character")),
        ("sha-256", report.sha256),
    )
    yield from page.heading("vocabulary, by code point")
    yield from page.paragraph(_vocabulary(statistics, page), indent="  ")
    yield from page.heading("kinds of characters")
    yield from page.distribution(statistics.kinds())
    yield from page.heading("most common characters")
    common = statistics.most_common(20)
    yield from page.distribution((page.name(c.character), c.count, c.share) for c in common)
    if rare := statistics.rarest(20):
        yield from page.heading("rarest characters")
        shown = ", ".join(f"{page.name(c.character)} ({c.count})" for c in rare)
        yield from page.paragraph(shown, indent="  ")
    if statistics.play is not None:
        yield from _play(statistics.play, statistics.characters, page)
    yield from page.heading("train/validation split")
    own = ", a text of its own" if report.split.val_fraction is None else ""
    yield from page.pairs(
        ("training", f"{report.split.train:,} characters"),
        ("validation", f"{report.split.validation:,} characters{own}"),
    )
    yield from _baselines(report.baselines, page)
    yield from page.heading("first lines")
    for line in statistics.first_lines:
        yield page.clip("  " + page.visible(line)).rstrip()


class _Page:
    """How text is fitted to a terminal."""

    def __init__(self, width: int, encoding: str) -> None:
        self.width = max(20, width)
        self.encoding = encoding
        self._blocks = _BLOCKS if self.shows(_BLOCKS) else ""

    def shows(self, text: str) -> bool:
        """Whether the terminal's encoding has these characters."""
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            return False
        return True

    def visible(self, text: str) -> str:
        """The text with escapes in place of what cannot or must not be sent to a terminal."""
        return "".join(
            character
            if self.shows(character)
            else character.encode("unicode_escape").decode("ascii")
            for character in visible(text)
        )

    def name(self, character: str) -> str:
        """A character as it can stand in a table."""
        if unicodedata.category(character).startswith("M"):
            return f"U+{ord(character):04X}"  # would join what stands before it
        return _NAMES.get(character) or self.visible(character)

    def clip(self, line: str) -> str:
        """The line cut to the width."""
        return set_cell_size(line, self.width) if cell_len(line) > self.width else line

    def paragraph(self, text: str, indent: str = "") -> Iterator[str]:
        """Wrap running text."""
        yield from textwrap.wrap(
            self.visible(text),
            self.width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )

    def heading(self, text: str) -> Iterator[str]:
        """A blank line and a title."""
        yield ""
        yield from self.paragraph(text)

    def pairs(self, *pairs: tuple[str, str]) -> Iterator[str]:
        """Labels and values in two columns; a value too long for its column goes below."""
        for label, value in pairs:
            line = f"  {label:<12}{value}"
            if len(line) <= self.width:
                yield line
            else:
                yield f"  {label}"
                yield from self.paragraph(value, indent="    ")

    def table(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        """Columns, the first flush left and the others flush right."""
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        # Names give way where the numbers would not fit.
        overflow: OverflowMethod = "ellipsis" if self.shows("…") else "crop"
        table.add_column(no_wrap=True, overflow=overflow, min_width=4)
        for column in list(zip(*rows, strict=True))[1:]:
            widest = max(map(cell_len, column))
            table.add_column(justify="right", no_wrap=True, min_width=widest)
        for row in rows:
            table.add_row(*map(Text, row))
        for line in table_lines(table, self.width - 2):
            yield f"  {line}"

    def distribution(self, rows: Iterable[tuple[str, int, float]]) -> Iterator[str]:
        """A table of names, counts and shares, with bars where there is room for them."""
        listed = list(rows)
        lines = list(self.table([(name, f"{n:,}", f"{share:.2%}") for name, n, share in listed]))
        room = max(0, min(_LONGEST_BAR, self.width - max(map(cell_len, lines)) - 2))
        largest = max(share for _, _, share in listed) or 1.0
        for line, (_, _, share) in zip(lines, listed, strict=True):
            yield f"{line}  {self._bar(room * share / largest)}".rstrip()

    def _bar(self, length: float) -> str:
        if not self._blocks:
            return "#" * round(length)
        full, eighths = divmod(max(0, round(8 * length)), 8)
        return self._blocks[-1] * full + (self._blocks[eighths - 1] if eighths else "")


def _vocabulary(statistics: TextStatistics, page: _Page) -> str:
    shown = " ".join(map(page.name, statistics.vocabulary[:_SHOWN_VOCABULARY]))
    hidden = statistics.vocab_size - _SHOWN_VOCABULARY
    return f"{shown} and {hidden:,} more" if hidden > 0 else shown


def _play(play: PlayStatistics, characters: int, page: _Page) -> Iterator[str]:
    at_least = " or more" if play.speakers == MAX_NAMES else ""
    yield from page.heading("speeches")
    yield from page.pairs(
        ("speeches", f"{play.speeches:,}"),
        ("speakers", f"{play.speakers:,}{at_least}"),
        ("mean", f"{play.mean_characters:,.1f} characters"),
        ("median", f"{play.median_characters:,.1f} characters"),
        ("longest", f"{play.longest_characters:,} characters"),
        ("", f"by {page.visible(play.longest_speaker)}"),
    )
    yield from page.heading("who says most")
    rows = [("speaker", "speeches", "characters", "share")]
    for s in play.top_speakers:
        share = f"{s.characters / characters:.2%}"
        rows.append((page.visible(s.name), f"{s.speeches:,}", f"{s.characters:,}", share))
    yield from page.table(rows)


def _baselines(baselines: Baselines, page: _Page) -> Iterator[str]:
    yield from page.heading("n-gram baselines on the validation split, nats per character")
    if not baselines.losses:
        yield from page.paragraph("the text is too short for any", indent="  ")
        return
    rows = [("model", "loss", "perplexity")]
    for name, loss in baselines.losses.items():
        rows.append((name, f"{loss:.4f}", f"{math.exp(loss):.2f}"))
    yield from page.table(rows)
    yield from page.paragraph(
        f"counted on {baselines.train:,} characters before the split, measured on "
        f"{baselines.validation:,} after it",
        indent="  ",
    )
