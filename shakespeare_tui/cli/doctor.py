"""``doctor``: check everything that training needs; each line is ok or names the fix."""

import argparse
import io
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from shakespeare_tui.cli.console import print_grid, print_json, print_result, say

if TYPE_CHECKING:
    from shakespeare_tui.cli.machine_checks import Check


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
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
    from shakespeare_tui.cli.machine_checks import all_checks

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
        print_grid(_row(check) for check in checks)
        print_result()
        print_result("ready to train" if can_train else "not ready: fix what fails above")
    return 0 if can_train else 1


def _row(check: "Check") -> tuple[str, str, str]:
    fix = f"\nfix: {check.fix}" if check.fix else ""
    return check.status, check.name, check.detail + fix
