"""Write texts with a model, as every command does that generates."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakespeare_tui.cli.console import json_text, print_json, say, write_text
from shakespeare_tui.cli.speed import SteadySpeed
from shakespeare_tui.cli.text_input import STDIN, read_text
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import per_second
from shakespeare_tui.one_line import read_line

if TYPE_CHECKING:
    from shakespeare_tui.data.tokenizers import Tokenizer
    from shakespeare_tui.decoding import Column, Precision
    from shakespeare_tui.models.transformer import Transformer
    from shakespeare_tui.runs.folder import Checkpoint, RunFolder

PRECISIONS = ("auto", "float32", "bfloat16", "int8")
_MOST_TOKENS = 1_000_000
_MOST_TOKENS_TOGETHER = 100_000_000


@dataclass(frozen=True)
class Limits:
    """How texts are written, whatever chooses their tokens.

    Attributes:
        max_tokens: The most tokens of each text.
        stop: Token sequences that end a text.
        precision: Of the matrix products.
        use_cache: Remember what was read.
    """

    max_tokens: int
    stop: tuple[tuple[int, ...], ...]
    precision: "Precision"
    use_cache: bool = True


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        streams: The new tokens of every sample, column by column.
        seconds: How long it took.
        steady: Tokens by the second, once all was loaded; 0 where there were too few to tell.
    """

    streams: list[list[int]]
    seconds: float
    steady: float

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all streams by the second."""
        return per_second(sum(map(len, self.streams)), self.seconds)


def write(
    model: "Transformer",
    prompt: Sequence[int],
    columns: "Sequence[Column]",
    limits: Limits,
    each_row: Callable[[list[int]], None] = lambda row: None,
) -> Written:
    """Continue a prompt with every column at once.

    Args:
        model: In evaluation mode.
        prompt: Token ids.
        columns: The strategies.
        limits: How much is written, and how.
        each_row: Told each row of tokens; one below 0 is none.
    """
    from shakespeare_tui.decoding import generate_columns

    streams: list[list[int]] = [[] for column in columns for _ in range(column.samples)]
    speed = SteadySpeed()
    started = time.perf_counter()
    for row in generate_columns(
        model,
        prompt,
        columns,
        max_tokens=limits.max_tokens,
        stop=limits.stop,
        precision=limits.precision,
        use_cache=limits.use_cache,
    ):
        for stream, token in zip(streams, row, strict=True):
            if token >= 0:
                stream.append(token)
        speed.count(sum(token >= 0 for token in row))
        each_row(row)
    return Written(streams, time.perf_counter() - started, speed.tokens_per_second)


def check_amount(max_tokens: int, texts: int) -> None:
    """Refuse what could not be held in memory.

    Raises:
        UserError: There are no tokens to write, or too many for so many texts.
    """
    if max_tokens < 1:
        raise UserError(f"--max-tokens must be at least 1, got {max_tokens}")
    if max_tokens > _MOST_TOKENS or max_tokens * texts > _MOST_TOKENS_TOGETHER:
        raise UserError(
            f"--max-tokens must be at most {_MOST_TOKENS:,}, and {_MOST_TOKENS_TOGETHER:,} over "
            f"all texts, got {max_tokens} for each of {texts}"
        )


def encode_prompt(prompt: str, tokenizer: "Tokenizer") -> list[int]:
    """A prompt's tokens.

    Raises:
        UserError: It is empty, or has a character that the model does not know.
    """
    tokens = tokenizer.encode(prompt)
    if not tokens:
        raise UserError("the prompt is empty; give at least one character, a newline for example")
    return tokens


def add_prompt(group: "argparse._ActionsContainer", whose: str) -> None:
    """``--prompt``; ``whose`` first prompt is taken without it."""
    group.add_argument(
        "--prompt",
        metavar="TEXT",
        help=rf"text to continue, \n is a new line; - reads it from stdin, as it is; default: "
        f"{whose} first prompt",
    )


def chosen_prompt(arguments: argparse.Namespace, checkpoint: "Checkpoint") -> str:
    """The prompt as ``--prompt`` or stdin gives it, else the first of the checkpoint's run.

    Raises:
        UserError: Stdin is empty or no text.
    """
    if arguments.prompt is None:
        return default_prompt(checkpoint.run, checkpoint.run.tokenizer())
    if arguments.prompt == STDIN:
        return read_text(STDIN)
    return read_line(arguments.prompt)


def default_prompt(run: "RunFolder", tokenizer: "Tokenizer") -> str:
    """The first of the run's prompts that its corpus has the characters for."""
    for prompt in (*run.config().sampling.prompts, "\n"):
        try:
            tokenizer.encode(prompt)
        except UserError:
            continue
        return prompt
    return tokenizer.decode([0])


def add_output(parser: argparse.ArgumentParser) -> None:
    """``--output FILE`` and ``--force``."""
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the result to FILE; one that exists is refused without --force",
    )
    parser.add_argument("--force", action="store_true", help="replace the FILE of --output")


def check_output(arguments: argparse.Namespace) -> None:
    """Refuse an ``--output`` that cannot be written, before anything is computed.

    Raises:
        UserError: What is in the way.
    """
    if arguments.output is not None:
        from shakespeare_tui.output_file import check_output_file

        try:
            check_output_file(arguments.output, may_replace=arguments.force)
        except UserError as error:
            raise UserError(f"--output {error}") from None
    elif arguments.force:
        raise UserError("--force replaces the file of --output; add --output FILE")


def deliver(
    result: dict[str, Any], text: Callable[[], str], what: str, arguments: argparse.Namespace
) -> None:
    """Print or save a result as ``--json`` and ``--output`` say.

    Args:
        result: The JSON object.
        text: Makes the same for people.
        what: What is delivered: ``3 samples``.
        arguments: As they were given.

    Raises:
        RunFailedError: The file cannot be written.
    """
    if arguments.output is None:
        if arguments.json:
            print_json(result)
        else:
            write_text(text())
        return
    from shakespeare_tui.output_file import write_output_file

    content = json_text(result) + "\n" if arguments.json else text()
    write_output_file(arguments.output, content)
    say(f"wrote {what} to {arguments.output}")


def count_of(number: int, noun: str) -> str:
    """``1 sample``, ``2 samples``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
