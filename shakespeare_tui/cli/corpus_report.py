"""Lay out what was found in a corpus as plain text for a terminal of any width and encoding."""

import textwrap
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import OverflowMethod
from rich.table import Table as RichTable
from rich.text import Text

from shakespeare_tui.cli.console import table_lines
from shakespeare_tui.data.inspect import report as worded
from shakespeare_tui.data.inspect.report import Figure, Table
from shakespeare_tui.data.inspect.scan import N_MOST_COMMON, N_RAREST, CorpusReport
from shakespeare_tui.data.inspect.verdict import character_name
from shakespeare_tui.visible_text import visible

_LONGEST_BAR = 30
_BLOCKS = "▏▎▍▌▋▊▉█"


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
    paths = report.source.whole.paths
    yield from page.paragraph(f"{report.source.name}: {report.source.title}")
    yield ""
    if len(paths) == 1:
        yield from page.pair("file", str(paths[0]))
    yield from page.pair("sha-256", report.sha256)
    yield from page.figures(worded.size_figures(report.source, statistics))
    yield from page.heading(worded.VOCABULARY)
    names, more = worded.vocabulary_names(statistics)
    ending = f" and {more:,} more" if more else ""
    yield from page.paragraph(" ".join(names) + ending, indent="  ")
    yield from page.table(worded.character_classes(statistics))
    common = statistics.most_common(N_MOST_COMMON)
    counts = ((character_name(c.character), c.count, c.share) for c in common)
    yield from page.table(worded.shares_table("most common characters", counts))
    if rare := statistics.rarest(N_RAREST):
        yield from page.heading("rarest characters")
        shown = ", ".join(f"{character_name(c.character)} ({c.count})" for c in rare)
        yield from page.paragraph(shown, indent="  ")
    if statistics.play is not None:
        yield from page.heading(worded.SPEECHES)
        yield from page.figures(worded.speech_figures(statistics.play))
        yield from page.table(worded.speakers_table(statistics.play, statistics.characters))
    yield from page.table(worded.split_table(report.split))
    yield from page.table(worded.baselines_table(report.baselines))
    yield from page.heading(worded.FIRST_LINES)
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

    def pair(self, label: str, value: str) -> Iterator[str]:
        """A label and a value, which goes below where it is too long for the line."""
        value = self.visible(value)
        line = f"  {label:<12}{value}".rstrip()
        if cell_len(line) <= self.width:
            yield line
        else:
            yield f"  {label}"
            yield from self.paragraph(value.strip(), indent="    ")

    def figures(self, figures: Sequence[Figure]) -> Iterator[str]:
        """Labels, numbers flush right, and notes."""
        cells = max(len(figure.value) for figure in figures)
        for label, value, note in figures:
            yield from self.pair(label, f"{value:>{cells}}  {note}")

    def table(self, table: Table) -> Iterator[str]:
        """Columns, the first flush left and the others flush right, with bars where these fit."""
        yield from self.heading(table.title)
        if table.rows:
            yield from self._rows(table)
        if table.remark:
            yield from self.paragraph(table.remark, indent="  ")

    def _rows(self, table: Table) -> Iterator[str]:
        rows = [*([table.columns] if table.columns else []), *(row.cells for row in table.rows)]
        # What is least missed goes where numbers find no room: those before the last.
        while (room_for_names := self.width - 2 - sum(2 + n for n in _widest(rows)[1:])) < 4:
            rows = [(*row[:-2], row[-1]) for row in rows]
        bars = [*([0.0] if table.columns else []), *(row.bar or 0.0 for row in table.rows)]
        laid = RichTable(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        # Names give way where the numbers would not fit.
        overflow: OverflowMethod = "ellipsis" if self.shows("…") else "crop"
        laid.add_column(no_wrap=True, overflow=overflow, max_width=room_for_names)
        for widest in _widest(rows)[1:]:
            laid.add_column(justify="right", no_wrap=True, min_width=widest)
        for row in rows:
            laid.add_row(*(Text(self.visible(text)) for text in row))
        lines = [f"  {line}" for line in table_lines(laid, self.width - 2)]
        room = max(0, min(_LONGEST_BAR, self.width - max(map(cell_len, lines)) - 2))
        largest = max(bars) or 1.0
        for line, share in zip(lines, bars, strict=True):
            yield f"{line}  {self._bar(room * share / largest)}".rstrip()

    def _bar(self, length: float) -> str:
        if not self._blocks:
            return "#" * round(length)
        full, eighths = divmod(max(0, round(8 * length)), 8)
        return self._blocks[-1] * full + (self._blocks[eighths - 1] if eighths else "")


def _widest(rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column in cells."""
    return [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
