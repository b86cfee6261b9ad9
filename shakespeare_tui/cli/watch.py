"""``watch``: see a run that another process trains, or replay one that is over."""

import argparse

from shakespeare_tui.cli.completion import completes, run_names
from shakespeare_tui.errors import UserError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "watch",
        help="watch a run that another process trains, or replay one",
        description="Open the lab on a run: attached while another process trains it, with "
        "commands where its folder can be written; replayed when it is over.",
        epilog="Example: shakespeare-tui watch quick-1 --speed 100",
    )
    run_name = parser.add_argument("run_name", metavar="RUN", help="a run's name or folder")
    completes(run_name, run_names)
    parser.add_argument(
        "--speed",
        type=float,
        default=1.0,
        metavar="N",
        help="replay N times as fast, from 1 to 1000 (1)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Open the lab on the run."""
    from shakespeare_tui.cli.lab import is_terminal, open_lab
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.folder import find_run

    if not 1 <= arguments.speed <= 1000:
        raise UserError(f"--speed must be from 1 to 1000, got {arguments.speed:g}")
    found = find_run(arguments.run_name, runs_folder())
    found.info()
    if not is_terminal():
        raise UserError(
            f"watch needs a terminal; without one, follow the file: tail -f {found.events_path}"
        )
    return open_lab("train", lambda app: app.open_run(arguments.run_name, speed=arguments.speed))
