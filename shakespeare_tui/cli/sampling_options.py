"""Options that say how tokens are chosen, shared by all commands that write text."""

import argparse
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from shakespeare_tui.cli.console import whole_number
from shakespeare_tui.errors import UserError
from shakespeare_tui.visible_text import read_line

if TYPE_CHECKING:
    from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
    from shakespeare_tui.decoding.streaming_text import StopTexts
    from shakespeare_tui.sampling import StepKind, Strategy

# What each plain flag is where it is not given.
_FLAGS = {"temperature": 0.8, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
_NAME_WIDTH = 25


class StepsHelp(argparse.Action):
    """``--help`` with all steps of a strategy, which are loaded only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(
            option_strings,
            argparse.SUPPRESS,
            nargs=0,
            default=argparse.SUPPRESS,
            help="show this help message and exit",
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Print the help and leave."""
        width = max(40, shutil.get_terminal_size((80, 24)).columns - 2)
        example = textwrap.fill(parser.epilog or "", width)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = "\n".join((example, "", *_steps(width)))
        parser.print_help()
        parser.exit()


def _steps(width: int) -> Iterator[str]:
    from shakespeare_tui.sampling import STEP_KINDS

    yield from textwrap.wrap(
        "steps of a strategy, written in the order in which they are applied, with their usual "
        "values; options follow a value, as in dry=0.8,base=1.75:",
        width,
    )
    for name in sorted(STEP_KINDS):
        kind = STEP_KINDS[name]
        yield from textwrap.wrap(
            _help_of(kind),
            width,
            initial_indent=f"  {_usual(kind):<{_NAME_WIDTH}} ",
            subsequent_indent=" " * (_NAME_WIDTH + 3),
        )


def _usual(kind: "StepKind") -> str:
    return f"{kind.name}={kind.parameters[0].default:g}" if kind.parameters else kind.name


def _help_of(kind: "StepKind") -> str:
    options = ", ".join(each.name for each in kind.parameters[1:])
    return f"{kind.help} Options: {options}." if options else kind.help


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The plain settings, and ``--strategy`` for everything beyond them."""
    parser.add_argument("--temperature", type=float, metavar="T", help="0.8; 0: greedy")
    parser.add_argument(
        "--top-k", type=whole_number, metavar="K", help="keep the K most likely tokens"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="keep the most likely tokens with cumulative probability P",
    )
    parser.add_argument(
        "--repetition-penalty", type=float, metavar="R", help="above 1 repeats less"
    )
    parser.add_argument("--greedy", action="store_true", help="always take the most likely token")
    parser.add_argument(
        "--strategy",
        metavar="STEPS",
        help="instead of these: steps in their order, for example 'top_k=20 temperature=0.7'",
    )


def add_stop(parser: argparse.ArgumentParser) -> None:
    """``--stop TEXT``, as often as wanted, and ``--past-end``."""
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        type=read_line,
        metavar="TEXT",
        help=r"end a text after TEXT, which is part of it; \n is a new line; repeatable",
    )
    parser.add_argument(
        "--past-end",
        action="store_true",
        help="write on where the model ends its text by a token of its own, such as <|endoftext|>",
    )


def flag_settings(arguments: argparse.Namespace) -> dict[str, float]:
    """The plain settings by name, with their usual values where they are not given."""
    given = {name: getattr(arguments, name) for name in _FLAGS}
    settings = {
        name: usual if given[name] is None else given[name] for name, usual in _FLAGS.items()
    }
    return {**settings, "temperature": 0.0} if arguments.greedy else settings


def chosen_strategy(
    arguments: argparse.Namespace, tokenizer: "Tokenizer | None" = None
) -> "Strategy":
    """The strategy of ``--strategy`` or of the plain flags.

    Args:
        arguments: Of a command that writes text.
        tokenizer: What is not written suits its tokens; None before it is known.

    Raises:
        UserError: It cannot be read, or both are given.
    """
    from shakespeare_tui.sampling import parse_strategy, strategy_from_flags

    if arguments.strategy is None:
        settings = flag_settings(arguments)
        return strategy_from_flags(
            settings["temperature"],
            int(settings["top_k"]),
            settings["top_p"],
            settings["repetition_penalty"],
        )
    given = [name for name in _FLAGS if getattr(arguments, name) is not None]
    given += ["greedy"] if arguments.greedy else []
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise UserError(f"--strategy and {flag} exclude each other; write it into the strategy")
    return parse_strategy(arguments.strategy, tokenizer.sampling_defaults() if tokenizer else {})


def all_settings(arguments: argparse.Namespace, strategy: "Strategy") -> dict[str, object]:
    """What ``--json`` says of how samples were written: as it was asked for."""
    is_plain = arguments.strategy is None
    steps = flag_settings(arguments) if is_plain else strategy.parameters
    return {
        **({} if is_plain else {"strategy": strategy.text}),
        **steps,
        "seed": arguments.seed,
        "precision": arguments.precision,
        "max_tokens": arguments.max_tokens,
        "num_samples": arguments.num_samples,
    }


def stop_texts(
    texts: Sequence[str], tokenizer: "Tokenizer", *, past_end: bool
) -> "StopTexts | None":
    """What ``--stop``, and the model unless ``--past-end``, end a text after; None is nothing.

    Raises:
        UserError: One is empty, or the model can never write it.
    """
    from shakespeare_tui.decoding.streaming_text import StopTexts

    if "" in texts:
        raise UserError("--stop is empty; give the text after which to end")
    for text in texts:
        try:
            tokenizer.encode(text)
        except UserError as error:
            raise UserError(f"--stop: {error}") from None
    return StopTexts(texts, tokenizer, past_end=past_end) or None
