"""``bench``: how fast this is on the machine at hand, beside a plain loop and other programs."""

import argparse
import importlib
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

from shakespeare_tui.cli.console import print_grid, print_json, print_result, say

if TYPE_CHECKING:
    from shakespeare_tui.bench.figures import Figures, Watcher

PARTS = {
    "ceilings": ("ceilings", "measure"),
    "start": ("training", "measure_start"),
    "training": ("training", "measure"),
    "loss": ("training", "measure_losses"),
    "decoding": ("decoding", "measure"),
    "screens": ("screens", "measure"),
    "rest": ("screens", "measure_rest"),
    "writing": ("screens", "measure_writing"),
    "beside": ("beside", "measure"),
    "memory": ("memory", "measure"),
    "texts": ("texts", "measure"),
    "catalog": ("texts", "measure_catalog"),
    "corpora": ("corpora", "measure"),
}
"""Module and function of each part."""
_CHOICES = {
    "shapes": ("--shape", ["decoding"]),
    "stream_counts": ("--streams", ["decoding"]),
    "configs": ("--config", ["training", "beside", "memory"]),
    "settings": ("--set", ["training", "memory"]),
}
"""Arguments of those functions, by what sets them, and the parts that have them."""
_USUAL = ("ceilings", "start", "training", "loss", "decoding", "screens")
# As in the part, which takes a while to import.
_SHAPES, _STREAMS = ("quick", "shakespeare"), (1, 8)
_PACKAGES = ("torch", "numpy", "numba", "transformers", "textual")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "bench",
        help="measure how fast this machine trains, writes and paints",
        description="Measure training, generation and screens beside a plain PyTorch loop and, "
        "where it is installed, transformers: medians of contenders that take turns.",
        epilog=f"Without a PART: {', '.join(_USUAL)}, about four minutes on two quiet cores. By "
        "name: the lab at rest, long texts in it, training beside other programs, in the lab and "
        "beside a text, the memory of a training, measures of text, listing 10,000 checkpoints, a "
        "corpus of a gigabyte. Other programs that compute meanwhile falsify all of it.",
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument(
        "--run",
        dest="reference",
        metavar="RUN[@REF]",
        help="measure generation by this checkpoint, nothing else",
    )
    choices: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("shapes", {"choices": _SHAPES}, "the shape of this preset alone"),
        ("stream_counts", {"type": int, "choices": _STREAMS}, "so many at once alone"),
        ("configs", {"metavar": "NAME|FILE"}, "what is trained"),
        ("settings", {"metavar": "SECTION.FIELD=VALUE"}, "change a setting of it"),
    )
    for name, values, what in choices:
        option, parts = _CHOICES[name]
        parser.add_argument(
            option,
            dest=name,
            action="append",
            help=f"with the part {', '.join(parts)}: {what}; may be repeated",
            **values,
        )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print each part as it comes."""
    from shakespeare_tui.bench.figures import Watcher
    from shakespeare_tui.config.problems import join_words
    from shakespeare_tui.errors import UserError, never

    for name in arguments.parts:
        if name not in PARTS:
            raise UserError(
                f"there is no part {name!r}; there are {join_words(list(PARTS), 'and')}"
            )
    only = _choices(arguments)
    machine = _machine()
    if not arguments.json:
        print_grid([(name, value) for name, value in machine.items()])
    if arguments.reference and arguments.parts:
        raise UserError("--run measures one checkpoint and no part beside it; leave out one")
    found: dict[str, list[dict[str, object]]] = {}
    watcher = Watcher(_tell, never)
    for name in ["decoding"] if arguments.reference else arguments.parts or _USUAL:
        for figures in _measured(name, watcher, arguments.reference, only):
            found.setdefault(name, []).append(figures.as_json())
            if not arguments.json:
                _print(figures)
    if arguments.json:
        print_json({"machine": machine, "parts": found})
    return 0


def _choices(arguments: argparse.Namespace) -> dict[str, Any]:
    """What options choose within the one part that is measured.

    Raises:
        UserError: That part has no such choice.
    """
    from shakespeare_tui.config.problems import join_words
    from shakespeare_tui.errors import UserError

    part = None if arguments.reference else " ".join(arguments.parts)
    found: dict[str, Any] = {}
    for name, (option, parts) in _CHOICES.items():
        value = getattr(arguments, name)
        if value and part not in parts:
            raise UserError(
                f"{option} chooses within one part, which is to be named: bench "
                f"{join_words(parts, 'or')}"
            )
        if value:
            found[name] = value
    return found


def _measured(
    part: str, watcher: "Watcher", run: str | None, only: dict[str, Any]
) -> "Iterator[Figures]":
    if run:
        from shakespeare_tui.bench.decoding import measure_run

        return measure_run(watcher, run)
    module, function = PARTS[part]
    measure: Any = getattr(importlib.import_module(f"shakespeare_tui.bench.{module}"), function)
    figures: Iterator[Figures] = measure(watcher, **only)
    return figures


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        say(line)


def _machine() -> dict[str, str]:
    from shakespeare_tui.formatting import format_bytes
    from shakespeare_tui.machine import memory, processor_name, usable_cores

    total = memory().total
    versions = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    return {
        "processor": f"{processor_name()}, {usable_cores()} cores",
        "memory": "unknown" if total is None else format_bytes(total),
        "system": platform.platform(),
        "versions": ", ".join(versions),
    }


def _print(figures: "Figures") -> None:
    print_result()
    print_result(f"{figures.title}, {figures.unit}")
    if figures.note:
        print_result(figures.note)
    rows = []
    for name, samples in figures.samples.items():
        cells = [name, _number(figures.median(name))]
        if samples[1:]:
            cells.append(f"({_number(min(samples))} to {_number(max(samples))})")
        rows.append((*cells, *(_ratio(figures, name, base) for base in figures.bases)))
    print_grid(rows)


def _ratio(figures: "Figures", name: str, base: str) -> str:
    if name == base:
        return ""
    better = figures.ratio(name, base)
    return f"{better:.2f} × {base}" if figures.is_rate else f"{1 / better:.2f} × as long as {base}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
