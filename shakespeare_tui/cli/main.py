"""The entry point: parse the command line, run one command, turn errors into exit codes."""

import argparse
import atexit
import contextlib
import importlib
import io
import os
import sys
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

from shakespeare_tui import __version__
from shakespeare_tui.cli.console import hushed, reader_may_leave, say
from shakespeare_tui.config.problems import join_words, nearest, show_name, show_value, suggestion
from shakespeare_tui.errors import CancelledError, RunFailedError, UserError
from shakespeare_tui.machine import Launched, launched


def let_threads_sleep_soon() -> None:
    """Set how long torch's threads wait for one another before they sleep; before torch is loaded.

    By default GNU OpenMP has them wait busily for milliseconds. Where others want the cores too, a
    waiting thread then keeps the very core that the thread it waits for would run on: beside three
    busy processes, a step of two threads takes 2.6 times as long as it does this way. With nothing
    beside, this costs nothing; with a fifth of it, waking up costs a tenth of a small step.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "5000"


# Each module has `add_parser(subparsers)`, light to import, and `run(arguments) -> exit code`.
COMMANDS = (
    "train",
    "watch",
    "generate",
    "compare",
    "eval",
    "score",
    "runs",
    "experiment",
    "report",
    "data",
    "import_model",
    "export",
    "serve",
    "web",
    "config",
    "gradcheck",
    "bench",
    "doctor",
    "completion",
)


class _Parser(argparse.ArgumentParser):
    """A parser that complains in one line, and names what was most likely meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what this very command does not know is refused here, where its help is near."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            option = next((word for word in unknown if word.startswith("-")), None)
            if option is None:
                self.error(f"unexpected argument {show_value(unknown[0])}")
            name = option.partition("=")[0]
            self.error(f"unknown option {show_name(name)}{suggestion(name, self._options())}")
        return found, unknown

    def _options(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a word that is none of the choices, naming the nearest."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            near = nearest(str(value), known)
            advice = f"did you mean {near}?" if near else f"there are {join_words(known, 'and')}"
            if isinstance(action, argparse._SubParsersAction):
                what = str(action.metavar).lower()
                raise argparse.ArgumentError(None, f"unknown {what} {show_value(value)}; {advice}")
            raise argparse.ArgumentError(action, f"unknown value {show_value(value)}; {advice}")

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is, and leave with 2."""
        text = " ".join(message.split())
        see = " See" if text.endswith("?") else "; see"
        say(f"error: {text}{see} {self.prog} --help")
        self.exit(2)


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
    if "_ARGCOMPLETE" in os.environ:  # a shell asks
        from shakespeare_tui.cli.completion import answer

        answer(build_parser())
    place = launched()
    if not argv and place is None:
        from shakespeare_tui.cli.lab import is_terminal, open_lab

        # Without the parser of all commands: the lab is to be there at once.
        if is_terminal():
            return open_lab()
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if place is not None and arguments.command != "train":
        raise UserError(
            "torchrun (RANK and WORLD_SIZE are set) is for `train --no-ui`, which its processes "
            "share; start anything else without it"
        )
    if arguments.command is None:
        parser.print_help()
        return 0
    code: int = arguments.run(arguments)
    return code


def _follow(argv: Sequence[str], place: Launched) -> int:
    """Take part in what the first process does; it alone speaks, as long as it can."""
    failure: RunFailedError | None = None
    with hushed():
        try:
            return _run(argv)
        except UserError:
            return 2
        except RunFailedError as error:
            failure = error
        except Exception:  # noqa: BLE001 (the first process has been told what it is)
            return 1
    if place.rank == 1:
        say(f"failed: {failure}")
    return 1


def _open_missing_streams() -> None:
    """Where the caller closed a stream (``>&-``), there is nothing to read and no one to tell."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def program() -> NoReturn:
    """The command line as a process: ends it with the code of ``main``.

    A thread that compiles may be in the midst of LLVM, whose tear-down below it can end the process
    with a segmentation fault: it is left where it is.
    """
    code = main()
    others = [each for each in threading.enumerate() if each is not threading.main_thread()]
    if any(thread.daemon for thread in others):
        for thread in others:
            if not thread.daemon:
                thread.join()
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns 0, or 1 failed, 2 wrong input, 130 interrupted."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Text may hold what the terminal's encoding cannot say.
            stream.reconfigure(errors="replace")
    let_threads_sleep_soon()
    arguments = sys.argv[1:] if argv is None else argv
    process = launched()
    if process is not None and process.rank:
        return _follow(arguments, process)
    code = 0
    try:
        with reader_may_leave():
            code = _run(arguments)
        return code
    except UserError as error:
        say(f"error: {error}")
        return 2
    except RunFailedError as error:
        say(f"failed: {error}")
        return 1
    except CancelledError as error:
        say(f"cancelled: {error}")
        return 130
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        say("error: this needs PyTorch, which is not installed here; see shakespeare-tui doctor")
        return 2
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        say(f"failed: {place}{error.strerror or error}; check the path")
        return 1
