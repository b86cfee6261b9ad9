"""Lay out texts that continue one prompt, with their measures side by side."""

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.cells import chop_cells, set_cell_size
from rich.table import Table

from shakespeare_tui.cli.columns import TextColumn
from shakespeare_tui.cli.console import rule, table_lines
from shakespeare_tui.measures import MEASURES, best_measures
from shakespeare_tui.measures.changes import first_difference
from shakespeare_tui.visible_text import visible

_WIDE = 120
_MOST_BESIDE = 3
_GAP = 3
_LABEL, _CELL = 15, 9
_BEST = "*"
_BEFORE = 20


def columns_lines(
    prompt: str, columns: Sequence[TextColumn], width: int, *, beside: bool
) -> Iterator[str]:
    """Yield the report line by line.

    Args:
        prompt: What all texts continue.
        columns: The texts.
        width: Of the terminal, in columns.
        beside: Whether two or three texts may stand side by side where there is room.
    """
    if beside and width >= _WIDE and 2 <= len(columns) <= _MOST_BESIDE:
        yield from _side_by_side(prompt, columns, width)
    else:
        for number, column in enumerate(columns, start=1):
            yield rule(_title(number, column))
            yield prompt + column.text
    yield rule("measures")
    yield from _table(columns, width)
    if len(columns) == 2:
        yield ""
        yield _parting(columns[0].text, columns[1].text)


def _title(number: int, column: TextColumn) -> str:
    return f"{number}  {column.checkpoint}  {column.strategy.text}"


def _side_by_side(prompt: str, columns: Sequence[TextColumn], width: int) -> Iterator[str]:
    each = (width - _GAP * (len(columns) - 1)) // len(columns)
    blocks = [
        [
            *chop_cells(_title(number, column), each),
            rule()[0] * each,
            *_wrap(prompt + column.text, each),
        ]
        for number, column in enumerate(columns, start=1)
    ]
    for row in zip_longest(*blocks, fillvalue=""):
        yield (" " * _GAP).join(set_cell_size(cell, each) for cell in row).rstrip()


def _wrap(text: str, width: int) -> Iterator[str]:
    for line in text.split("\n"):
        pieces = textwrap.wrap(visible(line), width, break_on_hyphens=False)
        # Wrapped by characters; some of them are two columns wide.
        yield from (part for piece in pieces or [""] for part in chop_cells(piece, width) or [""])


def _table(columns: Sequence[TextColumn], width: int) -> Iterator[str]:
    """A row a measure; so many columns that they do not fit go on in a table below."""
    best = best_measures([column.measures for column in columns])
    fitting = max(1, (width - _LABEL) // _CELL)
    for first in range(0, len(columns), fitting):
        shown = range(first, min(first + fitting, len(columns)))
        if first:
            yield ""
        table = Table(box=None, pad_edge=False, padding=0)
        table.add_column(width=_LABEL, no_wrap=True)
        for number in shown:
            table.add_column(str(number + 1), width=_CELL - 1, justify="right", no_wrap=True)
            table.add_column(width=1)  # for the star
        for name, kind in MEASURES.items():
            cells = (
                (kind.format(columns[place].measures.value(name)), _BEST * (name in best[place]))
                for place in shown
            )
            table.add_row(kind.label, *itertools.chain.from_iterable(cells))
        yield from table_lines(table, _LABEL + _CELL * len(shown))
    yield f"{_BEST} best of its row; none for a tie, or for a text caught in a loop"


def _parting(text: str, other: str) -> str:
    """Where two texts part, in words."""
    if text == other:
        return "the texts are the same"
    place = first_difference(text, other)
    if place is None:
        shorter = min(len(text), len(other))
        return f"the texts are the same for {shorter:,} characters, then one of them ends"
    before = f" after '{visible(text[max(0, place - _BEFORE) : place])}'" if place else ""
    return (
        f"the texts differ from character {place + 1:,} on{before}: "
        f"'{visible(text[place])}' and '{visible(other[place])}'"
    )
