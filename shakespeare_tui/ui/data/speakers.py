"""The lines about a play: how many speeches, how long they are, and who says most."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from textual.content import Content

from shakespeare_tui.data.inspect.speeches import MAX_NAMES, length_bins
from shakespeare_tui.ui.widgets.text_glyphs import glyphs
from shakespeare_tui.ui.widgets.text_page import (
    bar,
    beside,
    column_widths,
    heading,
    muted,
    pair,
    paragraph,
    sections,
)

if TYPE_CHECKING:
    from shakespeare_tui.data.inspect.scan import ScanState
    from shakespeare_tui.data.inspect.speeches import PlayStatistics

_TWO_COLUMNS_CELLS = 116
_LONGEST_BAR_CELLS = 40
_NO_PLAY = (
    "No speeches found: the text is not laid out as a play. A speech begins after a blank line "
    "with the speaker's name and a colon on a line of their own:"
)
_EXAMPLE = ("First Citizen:", "Before we proceed any further, hear me speak.")


def speaker_lines(state: "ScanState", width: int, is_ascii: bool) -> list[Content]:
    """What is known of a play's speeches; or why nothing is."""
    play = state.statistics.play
    if play is None:
        lines = paragraph(_NO_PLAY, width) if state.is_read else [muted("no speeches so far")]
        return sections(lines, [muted(f"  {line}") for line in _EXAMPLE] if state.is_read else [])
    if width < _TWO_COLUMNS_CELLS:
        left = right = width
    else:
        left, right = column_widths(width)
    first = sections(_figures(play, left), _lengths(state, left, is_ascii))
    second = _speakers(play, state.statistics.characters, right, is_ascii)
    if width < _TWO_COLUMNS_CELLS:
        return sections(first, second)
    return beside(first, list(second), left)


def _figures(play: "PlayStatistics", width: int) -> Iterable[Content]:
    at_least = " or more" if play.speakers == MAX_NAMES else ""
    rows = [
        ("speeches", f"{play.speeches:,}", ""),
        ("speakers", f"{play.speakers:,}", at_least.strip()),
        ("mean", f"{play.mean_characters:,.1f}", "characters a speech"),
        ("median", f"{play.median_characters:,.1f}", "characters"),
        ("longest", f"{play.longest_characters:,}", f"by {glyphs(play.longest_speaker)}"),
    ]
    yield heading("Speeches")
    for label, number, remark in rows:
        value = Content.assemble(number.rjust(9), (f"  {remark}", "$text-muted"))
        yield pair(label, value, width)


def _lengths(state: "ScanState", width: int, is_ascii: bool) -> Iterable[Content]:
    bins = length_bins(state.speech_lengths)
    if not bins:
        return
    total = sum(item.speeches for item in bins)
    largest = max(item.speeches for item in bins)
    room = max(0, min(_LONGEST_BAR_CELLS, width - 15 - 8 - 9 - 2))
    yield heading("Length of speeches, in characters")
    for item in bins:
        span = f"{item.least:,} or more" if item.most is None else f"{item.least:,}–{item.most:,}"
        yield Content.assemble(
            (span.rjust(13) + "  ", "$text-muted"),
            f"{item.speeches:>8,}{item.speeches / total:>9.1%}  ",
            (bar(item.speeches / largest, room, is_ascii), "$accent"),
        )


def _speakers(
    play: "PlayStatistics", n_characters: int, width: int, is_ascii: bool
) -> Iterable[Content]:
    largest = max((speaker.characters for speaker in play.top_speakers), default=1) or 1
    names = [glyphs(speaker.name) for speaker in play.top_speakers]
    cells = min(max([8, *map(len, names)]), max(8, width - 42))
    room = max(0, min(_LONGEST_BAR_CELLS, width - cells - 9 - 11 - 7 - 8 - 2))
    yield heading("Who says most")
    yield muted(f"{'':<{cells}}{'speeches':>9}{'characters':>11}{'mean':>7}{'share':>8}")
    for speaker, name in zip(play.top_speakers, names, strict=True):
        label = Content(name).truncate(cells, ellipsis=True)
        mean = speaker.characters / max(1, speaker.speeches)
        yield Content.assemble(
            label.pad_right(cells - label.cell_length),
            f"{speaker.speeches:>9,}{speaker.characters:>11,}{mean:>7,.0f}",
            f"{speaker.characters / max(1, n_characters):>8.2%}  ",
            (bar(speaker.characters / largest, room, is_ascii), "$accent"),
        )
