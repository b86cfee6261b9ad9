"""What every command shares: results on stdout, narration and progress on stderr."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from shakespeare_tui.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def say(text: str = "") -> None:
    """Print narration to stderr."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print one JSON object to stdout, escaped where its encoding cannot say it; NaN is refused."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=not is_utf8, allow_nan=False), flush=True)


def fits(table: "Table") -> bool:
    """Whether a table can be printed whole: always, where stdout is no terminal."""
    console = _console()
    return not console.is_terminal or _width_of(table, console) <= console.width


def print_table(table: "Table") -> None:
    """Print a table to stdout: coloured and cut to the width on a terminal, whole elsewhere."""
    console = _console()
    if not console.is_terminal:
        console.width = _width_of(table, console)
    console.print(table)


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _width_of(table: "Table", console: "Console") -> int:
    return console.measure(table, options=console.options.update(width=100_000)).maximum


def whole_number(text: str) -> int:
    """An argument's value as an integer of at most 63 bits.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is None or abs(number) >= 2**63:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise argparse.ArgumentTypeError(f"must be a whole number below 2^63, got {shown!r}")
    return number


def check_device(spec: str) -> None:
    """Refuse a ``--device`` that torch could not even read.

    Raises:
        UserError: It does not look like a device.
    """
    from shakespeare_tui.core.config_fields import find_field, read_value

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
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
