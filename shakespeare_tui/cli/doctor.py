"""``doctor``: check everything that training needs; each line is ok or says how to mend it."""

import argparse
import io
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from shakespeare_tui.cli.console import print_json, print_result, say

if TYPE_CHECKING:
    from shakespeare_tui.cli.doctor_checks import Check


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="check this machine; each line is ok or a fix",
        description="Check Python, torch, devices (measured), memory, disk, terminal and corpora.",
        epilog="Exits with 1 only where something makes training impossible.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print all checks; 1 where training is impossible, else 0."""
    from shakespeare_tui.cli.doctor_checks import all_checks

    if sys.stderr.isatty():
        say("measuring this machine ...")
    checks = all_checks()
    can_train = all(check.status != "fail" for check in checks)
    if arguments.json:
        print_json({"ok": can_train, "checks": [asdict(check) for check in checks]})
    else:
        # The doctor is called where a terminal cannot show every character.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        print_result(_table(checks, shutil.get_terminal_size().columns))
        print_result()
        print_result("ready to train" if can_train else "not ready: fix what fails above")
    return 0 if can_train else 1


def _table(checks: "Sequence[Check]", columns: int) -> str:
    """Status, name and detail side by side; on a narrow terminal, the detail below the name."""
    indent = max(len(check.name) for check in checks) + 8
    width = max(30, min(columns, 100))
    narrow = width < indent + 30
    if narrow:
        indent = 6
    lines = []
    for check in checks:
        start = f"{check.status:<6}{check.name}"
        if narrow:
            lines.append(start)
        texts = [check.detail, *([f"fix: {check.fix}"] if check.fix else [])]
        for number, text in enumerate(texts):
            beside = start.ljust(indent) if number == 0 and not narrow else " " * indent
            lines.append(_folded(text, beside, indent, width))
    return "\n".join(lines)


def _folded(text: str, start: str, indent: int, width: int) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=start,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
