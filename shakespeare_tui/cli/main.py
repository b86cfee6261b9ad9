"""The entry point: parse the command line, run one command, turn errors into exit codes."""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from shakespeare_tui import __version__
from shakespeare_tui.core.errors import CancelledError, RunFailedError, UserError
from shakespeare_tui.core.waiting_threads import let_threads_sleep_soon

# Each module has `add_parser(subparsers)`, light to import, and `run(arguments) -> exit code`.
COMMANDS = (
    "train",
    "watch",
    "generate",
    "compare",
    "eval",
    "score",
    "runs",
    "data",
    "config",
    "doctor",
)


class _Parser(argparse.ArgumentParser):
    """A parser that complains in one line, as the rest of the program does."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is, and leave with 2."""
        self.exit(2, f"error: {' '.join(message.split())}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; importing and building it loads no heavy library."""
    parser = _Parser(
        prog="shakespeare-tui",
        description="The laboratory for small language models that lives in a terminal. "
        "Without a command it opens the lab.",
    )
    parser.add_argument("--version", action="version", version=f"shakespeare-tui {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"shakespeare_tui.cli.{name}").add_parser(subparsers)
    return parser


def _run(argv: Sequence[str]) -> int:
    if not argv:
        from shakespeare_tui.cli.lab import is_terminal, open_lab

        # Without the parser of all commands: the lab is to be there at once.
        if is_terminal():
            return open_lab()
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    code: int = arguments.run(arguments)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns 0, or 1 failed, 2 wrong input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Text may hold what the terminal's encoding cannot say.
            stream.reconfigure(errors="replace")
    let_threads_sleep_soon()
    arguments = sys.argv[1:] if argv is None else argv
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunFailedError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except CancelledError as error:
        print(f"cancelled: {error}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) left; a second error at exit would only be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"failed: {place}{error.strerror or error}; check the path", file=sys.stderr)
        return 1
