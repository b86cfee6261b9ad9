"""The lines of the Overview and of Speakers: a corpus's origin, its verdict, and its figures."""

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING

from textual.content import Content

from shakespeare_tui.data.available import AvailableCorpus
from shakespeare_tui.data.inspect import report
from shakespeare_tui.data.inspect.report import Figure, Row, Table
from shakespeare_tui.data.inspect.speeches import PlayStatistics, length_bins
from shakespeare_tui.data.inspect.verdict import Verdict, judge
from shakespeare_tui.ui.widgets.text_glyphs import glyphs
from shakespeare_tui.ui.widgets.text_page import (
    LABEL_CELLS,
    bar,
    beside,
    column_widths,
    heading,
    muted,
    pair,
    pair_lines,
    paragraph,
    sections,
)

if TYPE_CHECKING:
    from shakespeare_tui.data.inspect.scan import ScanState

TWO_COLUMNS_CELLS = 96
_TWO_COLUMNS_OF_SPEECHES_CELLS = 116
_LONGEST_BAR_CELLS = 32
_LONGEST_BAR_OF_SPEECHES_CELLS = 40
_NO_PLAY = (
    "No speeches found: the text is not laid out as a play. A speech begins after a blank line "
    "with the speaker's name and a colon on a line of their own:"
)
_EXAMPLE = ("First Citizen:", "Before we proceed any further, hear me speak.")
_MARKS = {"good": "✓", "note": "·", "warning": "!", "bad": "✗"}
_ASCII_MARKS = {"good": "+", "note": "-", "warning": "!", "bad": "x"}
_STYLES = {"good": "$success", "note": "$text-muted", "warning": "$warning", "bad": "$error"}


def waiting_lines(item: AvailableCorpus, advice: str, width: int) -> list[Content]:
    """What is known of a corpus without reading it, below what one can do."""
    return sections(paragraph(advice, width, "bold"), _origin(item, None, width))


def refused_lines(
    item: AvailableCorpus, verdict: Verdict, width: int, is_ascii: bool
) -> list[Content]:
    """Why a corpus cannot be read, and what to do."""
    return sections(_verdict(verdict, width, is_ascii), _origin(item, None, width))


def overview_lines(
    item: AvailableCorpus, state: "ScanState", width: int, is_ascii: bool
) -> list[Content]:
    """The figures of a corpus that was read, or is being read."""
    if width < TWO_COLUMNS_CELLS:
        left = right = width
    else:
        left, right = column_widths(width)
    verdict = (
        _verdict(judge(state.statistics), left, is_ascii)
        if state.is_read
        else _reading(state, left)
    )
    statistics = state.statistics
    cells = len(f"{statistics.characters:,}")
    sizes = report.size_figures(state.source, statistics)
    first = sections(
        verdict,
        _origin(item, state, left),
        _figures("size", sizes, max(len(figure.value) for figure in sizes), left),
    )
    second = sections(
        _table(
            report.baselines_table(state.baselines, state.phase == "done"),
            (14, 8, 12),
            right,
            is_ascii,
        ),
        _table(
            report.split_table(state.split), (14, cells, 9), right, is_ascii, "$accent", "$warning"
        ),
        _table(report.character_classes(statistics), (14, max(cells, 6), 9), right, is_ascii),
    )
    columns = (first, second) if width < TWO_COLUMNS_CELLS else (beside(first, second, left),)
    return sections(*columns, _vocabulary(state, width), _first_lines(state))


def _reading(state: "ScanState", width: int) -> Iterable[Content]:
    share = state.done_bytes / max(1, state.source.whole.size_bytes)
    yield heading("Verdict")
    text = f"{share:.0%} read: the figures are those of the text so far"
    yield from paragraph(text, width, "$text-muted")


def _verdict(verdict: Verdict, width: int, is_ascii: bool) -> Iterable[Content]:
    marks = _ASCII_MARKS if is_ascii else _MARKS
    style = "$success" if verdict.level == "note" else _STYLES[verdict.level]
    yield Content.assemble(heading("Verdict"), "  ", (verdict.summary, f"bold {style}")).truncate(
        width, ellipsis=True
    )
    for finding in verdict.findings:
        mark = Content.styled(f"{marks[finding.level]} ", _STYLES[finding.level])
        for line in pair_lines(finding.subject, finding.text, width - 2, 11):
            yield Content.assemble(mark, line)
            mark = Content("  ")


def _origin(item: AvailableCorpus, state: "ScanState | None", width: int) -> Iterable[Content]:
    yield heading("Corpus")
    if item.title != item.spec:
        yield from pair_lines("title", item.title, width)
    yield from pair_lines("origin", item.origin, width)
    if item.licence:
        yield pair("licence", item.licence, width)
    if item.path is not None and str(item.path) != item.origin:
        yield from pair_lines("file", str(item.path), width)
    if state is None and item.size_bytes is not None:
        about = "about " if item.is_size_rough else ""
        yield pair("size", f"{about}{item.size_bytes:,} bytes", width)
    digest = item.sha256 or (state.sha256 if state else None)
    if digest:
        # A digest that does not fit is cut into halves.
        half = len(digest) // 2
        fits = width - LABEL_CELLS >= len(digest)
        shown = digest if fits else f"{digest[:half]} {digest[half:]}"
        yield from pair_lines("sha-256", shown, min(width, LABEL_CELLS + len(digest)))
    yield from pair_lines("hash", _hash_words(item), width)


def _hash_words(item: AvailableCorpus) -> str:
    return {
        "verified": "verified" if item.sha256 else "as on the first download",
        "shipped": "shipped with the program, nothing to verify",
        "own": "your own file, nothing to compare with",
        "absent": "will be verified when it is fetched"
        if item.sha256
        else "none is known; that of the first download will count",
        "damaged": "not verified",
        "unchecked": "not checked yet",
    }[item.status]


def _vocabulary(state: "ScanState", width: int) -> Iterable[Content]:
    names, more = report.vocabulary_names(state.statistics)
    yield heading(report.VOCABULARY.capitalize())
    yield from paragraph(" ".join(names), width)
    if more:
        yield muted(f"and {more:,} more: see Characters")


def _first_lines(state: "ScanState") -> Iterable[Content]:
    yield heading(report.FIRST_LINES.capitalize())
    for line in state.statistics.first_lines:
        yield Content(glyphs(line))


def speaker_lines(state: "ScanState", width: int, is_ascii: bool) -> list[Content]:
    """What is known of a play's speeches; or why nothing is."""
    play = state.statistics.play
    if play is None:
        lines = paragraph(_NO_PLAY, width) if state.is_read else [muted("no speeches so far")]
        return sections(lines, [muted(f"  {line}") for line in _EXAMPLE] if state.is_read else [])
    if width < _TWO_COLUMNS_OF_SPEECHES_CELLS:
        left = right = width
    else:
        left, right = column_widths(width)
    first = sections(
        _figures(report.SPEECHES, report.speech_figures(play), 9, left),
        _lengths(state, left, is_ascii),
    )
    second = _speakers(play, state.statistics.characters, right, is_ascii)
    if width < _TWO_COLUMNS_OF_SPEECHES_CELLS:
        return sections(first, second)
    return beside(first, list(second), left)


def _lengths(state: "ScanState", width: int, is_ascii: bool) -> Iterable[Content]:
    bins = length_bins(state.speech_lengths)
    if not bins:
        return ()
    total = sum(item.speeches for item in bins)
    largest = max(item.speeches for item in bins)
    rows = []
    for item in bins:
        span = f"{item.least:,} or more" if item.most is None else f"{item.least:,}–{item.most:,}"
        cells = (span.rjust(13), f"{item.speeches:,}", f"{item.speeches / total:.1%}")
        rows.append(Row(cells, item.speeches / largest))
    table = Table("length of speeches, in characters", tuple(rows))
    longest = _LONGEST_BAR_OF_SPEECHES_CELLS
    return _table(table, (15, 8, 9), width, is_ascii, longest_bar=longest)


def _speakers(
    play: PlayStatistics, n_characters: int, width: int, is_ascii: bool
) -> Iterable[Content]:
    table = report.speakers_table(play, n_characters)
    names = (glyphs(row.cells[0]) for row in table.rows)
    cells = min(max([8, *map(len, names)]), max(8, width - 42))
    longest = _LONGEST_BAR_OF_SPEECHES_CELLS
    return _table(table, (cells, 9, 11, 7, 8), width, is_ascii, longest_bar=longest, label_style="")


def _figures(
    title: str, figures: Iterable[Figure], value_cells: int, width: int
) -> Iterable[Content]:
    yield heading(title.capitalize())
    for figure in figures:
        note = f"  {glyphs(figure.note)}"
        value = Content.assemble(figure.value.rjust(value_cells), (note, "$text-muted"))
        yield pair(figure.label, value, width)


def _table(
    table: Table,
    cells: Sequence[int],
    width: int,
    is_ascii: bool,
    *bar_styles: str,
    longest_bar: int = _LONGEST_BAR_CELLS,
    label_style: str = "$text-muted",
) -> Iterable[Content]:
    """A heading and rows with bars; ``cells`` are the widths of the columns.

    ``bar_styles`` are those of the first rows, the accent where there are none.
    """

    def numbers(texts: Sequence[str]) -> str:
        return "".join(
            text.rjust(column) for text, column in zip(texts[1:], cells[1:], strict=True)
        )

    yield heading(table.title.capitalize())
    if table.columns:
        yield muted(table.columns[0].ljust(cells[0]) + numbers(table.columns))
    bar_cells = max(0, min(longest_bar, width - sum(cells) - 2))
    styles = chain(bar_styles, repeat("$accent"))
    for row, style in zip(table.rows, styles, strict=False):
        label = Content(glyphs(row.cells[0])).truncate(cells[0], ellipsis=True)
        label = label.pad_right(cells[0] - label.cell_length)
        if row.bar is None:
            yield muted(label.plain + numbers(row.cells))
            continue
        yield Content.assemble(
            label.stylize(label_style),
            numbers(row.cells) + "  ",
            (bar(row.bar, bar_cells, is_ascii), style),
        )
    if table.remark:
        yield from paragraph(table.remark, width, "$text-muted")
