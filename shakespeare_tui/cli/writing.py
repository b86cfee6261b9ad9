"""Write texts with a model, as every command does that generates."""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from shakespeare_tui.cli.console import json_text, print_json, progress, say, write_text
from shakespeare_tui.cli.speed import SteadySpeed
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import reason
from shakespeare_tui.formatting import per_second
from shakespeare_tui.visible_text import read_line

if TYPE_CHECKING:
    from shakespeare_tui.config.schema import Config
    from shakespeare_tui.data.tokenizers.chat_template import ChatTemplate
    from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
    from shakespeare_tui.decoding.columns import Column
    from shakespeare_tui.decoding.decoder import Precision
    from shakespeare_tui.decoding.factory import AnyModel, Model
    from shakespeare_tui.decoding.streaming_text import StopTexts
    from shakespeare_tui.measures import CorpusReference
    from shakespeare_tui.runs.folder import Checkpoint, RunFolder


def open_model(
    checkpoint: "Checkpoint", device: str, precision: "Precision" = "auto"
) -> "tuple[Model, Tokenizer]":
    """The model of a checkpoint on ``device``, as ``--device`` names it, with its tokenizer.

    Raises:
        UserError: The checkpoint is damaged, or the device or the precision is not there.
    """
    from shakespeare_tui.training import session

    note = checkpoint.run.config().context_note
    if note and checkpoint.run.info().pretrained is None:
        say(f"note: {checkpoint.reference}: {note}")
    return session.open_model(checkpoint, device, precision=precision)


@dataclass(frozen=True)
class NamedModel:
    """What a command writes with: a checkpoint, or an exported file.

    Attributes:
        reference: How it is addressed.
        tokenizer: Its tokenizer.
        config: Of its run; None of another program's file.
        open: The model, given ``--device`` and ``--precision``.
        checkpoint: None of a file.
        chat_template: How it reads chats; None where it was not made for them.
    """

    reference: str
    tokenizer: "Tokenizer"
    config: "Config | None"
    open: "Callable[[str, Precision], AnyModel]"
    checkpoint: "Checkpoint | None" = None
    chat_template: "ChatTemplate | None" = None

    @property
    def prompts(self) -> Sequence[str]:
        """Of its run, the usual one first."""
        return self.config.sampling.prompts if self.config else ()


def find_model(reference: str) -> NamedModel:
    """What ``RUN``, ``RUN@REF``, a path of a run, or that of an ONNX or GGUF file means.

    Raises:
        UserError: There is no such thing, it is damaged, or a package is missing.
    """
    from shakespeare_tui.decoding.exported_file import is_exported_file, open_exported_file
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.folder import find_checkpoint

    if is_exported_file(reference):
        file = open_exported_file(Path(reference))

        def opened(device: str, precision: "Precision") -> "AnyModel":
            if device not in ("auto", "cpu"):
                raise UserError(f"an exported file is computed on the CPU, not on {device}")
            return file.model

        return NamedModel(
            reference, file.tokenizer, file.config, opened, chat_template=file.chat_template
        )
    checkpoint = find_checkpoint(reference, runs_folder())
    return NamedModel(
        checkpoint.reference,
        checkpoint.run.tokenizer(),
        checkpoint.run.config(),
        lambda device, precision: open_model(checkpoint, device, precision)[0],
        checkpoint,
        checkpoint.run.chat_template(),
    )


def reference_of(run: "RunFolder") -> "CorpusReference | None":
    """The run's training split; without it a text is measured as far as that goes, and says so."""
    from shakespeare_tui.measures import reference_for_run

    with progress("indexing the corpus", "characters") as report:
        reference = reference_for_run(
            run, report, notice=lambda reason: say(f"copies are not looked for: {reason}")
        )
    if reference is not None and not reference.is_whole:
        say(
            f"copies are looked for in the first {reference.indexed_characters:,} of "
            f"{reference.characters:,} characters of the training split"
        )
    return reference


STDIN = "-"
"""Stands for standard input where a file is named."""
_MOST_BYTES = 100_000_000
_PIECE_BYTES = 1 << 20
_ADVICE = "save it as UTF-8 or name another file"


def read_text(file: str) -> str:
    """The content of a text file; ``-`` is standard input.

    Raises:
        UserError: There is none, it is empty, or it is not text.
    """
    is_stdin = file == STDIN
    name = "stdin" if is_stdin else file
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if is_stdin else open(file, "rb") as source:
            content = _read(source, name)
    except FileNotFoundError:
        raise UserError(f"there is no file {name!r}; check the path") from None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {name!r}: {reason(error)}; name a text file") from None
    if not content:
        raise UserError(f"{name} is empty; name a file with text in it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at offset {error.start:,}"
        raise UserError(f"{name} is not UTF-8 text: {byte}; {_ADVICE}") from None


def _read(source: IO[bytes], name: str) -> bytes:
    """All of it, as far as a text can go on: devices and pipes need not end.

    Raises:
        UserError: It is not text, or longer than can be read.
    """
    content = bytearray()
    while piece := source.read(_PIECE_BYTES):
        # A NUL is valid UTF-8, but no text has one: it is the surest sign of a binary file.
        if 0 in piece:
            offset = len(content) + piece.index(0)
            raise UserError(f"{name} is not text: NUL byte at offset {offset:,}; {_ADVICE}")
        content += piece
        if len(content) > _MOST_BYTES:
            raise UserError(
                f"{name} is longer than {_MOST_BYTES // 10**6} MB; name a shorter text or cut it"
            )
    return bytes(content)


PRECISIONS = ("auto", "float32", "bfloat16", "int8")
_MOST_TOKENS = 1_000_000
_MOST_TOKENS_TOGETHER = 100_000_000


@dataclass(frozen=True)
class Limits:
    """How texts are written, whatever chooses their tokens.

    Attributes:
        max_tokens: The most tokens of each text.
        stop: What ends a text; None is nothing.
        precision: Of the matrix products.
        use_cache: Remember what was read.
    """

    max_tokens: int
    stop: "StopTexts | None"
    precision: "Precision"
    use_cache: bool = True


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        streams: The new tokens of every sample, column by column.
        texts: Their texts, up to a stop text.
        seconds: How long it took.
        steady: Tokens by the second, once all was loaded; 0 where there were too few to tell.
    """

    streams: list[list[int]]
    texts: list[str]
    seconds: float
    steady: float

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all streams by the second."""
        return per_second(sum(map(len, self.streams)), self.seconds)


def write(
    model: "AnyModel",
    tokenizer: "Tokenizer",
    prompt: Sequence[int],
    columns: "Sequence[Column]",
    limits: Limits,
    each_row: Callable[[list[str]], None] = lambda pieces: None,
) -> Written:
    """Continue a prompt with every column at once.

    Args:
        model: In evaluation mode.
        tokenizer: The model's.
        prompt: Token ids.
        columns: The strategies.
        limits: How much is written, and how.
        each_row: Told what the next rows of tokens, one or those drawn together, add to each text.
    """
    from shakespeare_tui.decoding.columns import generate_bursts
    from shakespeare_tui.decoding.factory import make_decoder
    from shakespeare_tui.decoding.streaming_text import StreamedText

    streams: list[list[int]] = [[] for column in columns for _ in range(column.samples)]
    streamed = [StreamedText(tokenizer, limits.stop) for _ in streams]
    texts: list[list[str]] = [[] for _ in streams]

    def add(pieces: list[str]) -> None:
        for text, piece in zip(texts, pieces, strict=True):
            text.append(piece)
        each_row(pieces)

    speed = SteadySpeed()
    started = time.perf_counter()
    decoder = make_decoder(model, 1, precision=limits.precision, use_cache=limits.use_cache)
    for rows in generate_bursts(
        decoder, prompt, columns, max_tokens=limits.max_tokens, stop=limits.stop, draw_ahead=True
    ):
        for row in rows:
            speed.count(sum(token >= 0 for token in row))
        tokens_of = list(zip(*rows, strict=True))
        for stream, tokens in zip(streams, tokens_of, strict=True):
            stream += (token for token in tokens if token >= 0)
        add(
            [
                "".join(map(text.feed, tokens))
                for text, tokens in zip(streamed, tokens_of, strict=True)
            ]
        )
    seconds = time.perf_counter() - started
    left = [text.flush() for text in streamed]
    if any(left):
        add(left)
    return Written(streams, ["".join(text) for text in texts], seconds, speed.tokens_per_second)


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
    tokens: list[int] = tokenizer.encode(prompt).tolist()
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


def chosen_prompt(
    arguments: argparse.Namespace, prompts: Sequence[str], tokenizer: "Tokenizer"
) -> str:
    """The prompt as ``--prompt`` or stdin gives it, else the first that can be expressed.

    Raises:
        UserError: Stdin is empty or no text.
    """
    if arguments.prompt is None:
        return default_prompt(prompts, tokenizer)
    if arguments.prompt == STDIN:
        return read_text(STDIN)
    return read_line(arguments.prompt)


def default_prompt(prompts: Sequence[str], tokenizer: "Tokenizer") -> str:
    """The first of a run's prompts that its corpus has the characters for."""
    for prompt in (*prompts, "\n"):
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
        from shakespeare_tui.files import check_output_file

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
    from shakespeare_tui.files import write_output_file

    content = json_text(result) + "\n" if arguments.json else text()
    write_output_file(arguments.output, content)
    say(f"wrote {what} to {arguments.output}")
