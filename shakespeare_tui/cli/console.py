"""What every command shares: results on stdout, narration and progress on stderr."""

import argparse
import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from shakespeare_tui.config.problems import show_value
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import parse_integer, ungrouped
from shakespeare_tui.runs.losses import QUANTITIES
from shakespeare_tui.visible_text import LINES, is_harmless, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PIPE_WIDTH = 100
_LEAST_FOLDED = 30  # columns that a folded cell needs to be read easily


def add_chart(group: "argparse._MutuallyExclusiveGroup", what: str) -> None:
    """Options whether a chart of runs is drawn (``what`` says which), and of what."""
    group.add_argument("--chart", action="store_const", const=QUANTITIES[0], help=what)
    group.add_argument(
        "--chart-of",
        dest="chart",
        choices=QUANTITIES,
        help="the same chart of perplexity or accuracy",
    )


def say(text: str = "") -> None:
    """Print narration to stderr; where nobody reads it any more, that stops nothing."""
    try:
        print(visible(text, keep=LINES), file=sys.stderr, flush=True)
    except BrokenPipeError:
        discard(sys.stderr)
    except OSError:  # a full disk behind 2>FILE
        pass


def print_result(text: str = "") -> None:
    """Print a result that is meant for people to stdout."""
    print(visible(text, keep=LINES), flush=True)


def write_text(text: str) -> None:
    """Write to stdout what a pipe or a file is to have as it is; a terminal is not steered by it.

    No newline is added.
    """
    sys.stdout.write(visible(text, keep=LINES) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def print_coloured(text: str) -> None:
    """Print what the program has drawn to stdout, with its colours; names in it are harmless."""
    print(text, flush=True)


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """Where the reader of stdout (head, less) leaves, the block ends and nothing is wrong."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)


def discard(stream: TextIO) -> None:
    """What is still in the stream's buffer, and all that follows, goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """What the block prints, by libraries beneath Python too, is seen by nobody."""
    kept = [(stream.fileno(), os.dup(stream.fileno())) for stream in (sys.stdout, sys.stderr)]
    for stream in (sys.stdout, sys.stderr):
        discard(stream)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)


def json_text(value: Any, *, ensure_ascii: bool = False) -> str:
    """Indented JSON that steers no terminal; NaN is refused."""
    text = json.dumps(value, indent=2, ensure_ascii=ensure_ascii, allow_nan=False)
    return re.sub(
        r"[^\x20-\x7e\n]", lambda c: c[0] if is_harmless(c[0]) else json.dumps(c[0])[1:-1], text
    )


def print_json(value: Any) -> None:
    """Print one JSON object to stdout, escaped where its encoding cannot say it."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json_text(value, ensure_ascii=not is_utf8), flush=True)


def terminal_width(stream: TextIO | None = None) -> int:
    """Columns of the terminal that a stream (stdout) is, or 100 in a pipe."""
    stream = sys.stdout if stream is None else stream
    if "COLUMNS" in os.environ:
        return max(20, shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns)
    try:
        return max(20, os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):
        return _PIPE_WIDTH


def shows(characters: str, stream: TextIO | None = None) -> bool:
    """Whether the encoding of a stream (stdout) has these characters."""
    try:
        characters.encode((sys.stdout if stream is None else stream).encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def has_colour() -> bool:
    """Whether stdout is a terminal with colours that nobody has switched off."""
    console = _console()
    return console.color_system is not None and not console.no_color


def rule(title: str = "", stream: TextIO | None = None) -> str:
    """A horizontal line with a title, in ASCII where the stream (stdout) cannot do better."""
    line = "─" if shows("─", stream) else "-"
    width = min(terminal_width(stream), 72)
    room = width - 6  # for the line on both sides
    title = visible(title)
    short = title if len(title) <= room else f"{title[: room - 3]}..."
    head = f"{line * 2} {short} " if title else ""
    return head + line * max(2, width - len(head))


def fits(table: "Table") -> bool:
    """Whether a table can be printed whole: always, where stdout is no terminal."""
    console = _console()
    return not console.is_terminal or _width_of(table, console) <= console.width


def print_table(table: "Table") -> None:
    """Print a table to stdout: coloured and cut to the width on a terminal, whole elsewhere."""
    console = _console()
    if not console.is_terminal:
        console.width = _width_of(table, console)
    # Not printed by rich itself, which would end the program where the reader has left.
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write(captured.get())
    sys.stdout.flush()


def print_grid(rows: Iterable[Sequence[str]]) -> None:
    """Print rows of cells to stdout, the last cell folded at the terminal's width.

    On a narrow terminal the last cell stands below the one before it; in a pipe every row is one
    line.
    """
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    cells = [[visible(cell, keep=LINES) for cell in row] for row in rows]
    width = min(terminal_width(), _PIPE_WIDTH)
    is_pipe = "COLUMNS" not in os.environ and not sys.stdout.isatty()
    before = sum(max(len(row[n]) for row in cells) + 2 for n in range(len(cells[0]) - 1))
    is_narrow = not is_pipe and width < before + _LEAST_FOLDED
    table = Table.grid(padding=(0, 2, 0, 0))
    for row in cells:
        *first, last = (Text(cell, overflow="fold") for cell in row)
        if is_narrow:
            table.add_row(*first[:-1], Group(first[-1], Padding(last, (0, 0, 0, 2))))
        else:
            table.add_row(*first, last)
    console = _console()
    for line in table_lines(table, _width_of(table, console) if is_pipe else width):
        print(line)
    sys.stdout.flush()


def table_lines(table: "Table", width: int) -> list[str]:
    """A table as plain lines, for a report or a file."""
    console = _console(width=max(width, 1), color_system=None)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


def _console(**options: Any) -> "Console":
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, **options)


def _width_of(table: "Table", console: "Console") -> int:
    return console.measure(table, options=console.options.update(width=100_000)).maximum


def whole_number(text: str) -> int:
    """An argument's value, ``500``, ``131,072`` or ``1e6``, as an integer of at most 63 bits.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    number = parse_integer(text)
    if number is not None and abs(number) < 2**63:
        return number
    try:
        is_large = abs(float(ungrouped(text))) >= 2**63
    except ValueError:
        is_large = False
    need = "below 2^63" if is_large else "a whole number"
    raise argparse.ArgumentTypeError(f"must be {need}, got {show_value(text)}")


def check_device(spec: str) -> None:
    """Refuse a ``--device`` that torch could not even read.

    Raises:
        UserError: It does not look like a device.
    """
    from shakespeare_tui.config.fields import find_field, read_value

    field = find_field("training.device")
    assert field is not None
    for problem in read_value(field, spec)[1]:
        raise UserError(f"--device {problem.message}")


@contextlib.contextmanager
def progress(description: str, unit: str = "bytes") -> Iterator[Callable[[int, int | None], None]]:
    """Yield ``report(done, total)``: a progress bar on stderr, silent where that is no terminal.

    ``unit`` is ``bytes`` (shown as sizes and speed) or any plural noun (shown as counts).
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    amount: ProgressColumn = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        amount,
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(visible(description), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def progresses() -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield ``report(what, done, total)``: of several things, one after the other, a bar each."""
    with contextlib.ExitStack() as stack:
        shown: dict[str, Callable[[int, int | None], None]] = {}

        def report(what: str, done: int, total: int | None) -> None:
            if what not in shown:
                stack.close()
                shown.clear()
                unit = "functions" if "compiling" in what else "bytes"
                shown[what] = stack.enter_context(progress(what, unit))
            shown[what](done, total)
            if total is not None and done >= total:
                stack.close()
                shown.clear()

        yield report
