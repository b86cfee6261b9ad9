"""``generate --batch``: continue many prompts, one after another, into one file."""

import argparse
from typing import TYPE_CHECKING

from shakespeare_tui.cli.console import progress, rule
from shakespeare_tui.cli.sampling_options import all_settings, chosen_strategy, stop_texts
from shakespeare_tui.cli.speed import say_if_precision_is_slower
from shakespeare_tui.cli.writing import (
    STDIN,
    Limits,
    NamedModel,
    check_amount,
    deliver,
    encode_prompt,
    find_model,
    read_text,
    write,
)
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import counted, per_second

if TYPE_CHECKING:
    from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
    from shakespeare_tui.sampling import Strategy


def run_batch(arguments: argparse.Namespace) -> int:
    """Continue every line, all from the same seed, and save what was written.

    Args:
        arguments: Of ``generate``.
    """
    if arguments.output is None:
        raise UserError("--batch needs a file to write to; add --output FILE")
    lines = _read_lines(arguments.batch)
    output = arguments.output
    if arguments.batch != STDIN and output.exists() and output.samefile(arguments.batch):
        raise UserError("--output would replace the prompts of --batch; name another file")
    check_amount(arguments.max_tokens, len(lines) * arguments.num_samples)
    found = find_model(arguments.checkpoint)
    # All lines are checked before the model is loaded: a wrong one fails at once.
    tokenizer = found.tokenizer
    strategy = chosen_strategy(arguments, tokenizer)
    prompts = {line: _encode(arguments.batch, number, line, tokenizer) for number, line in lines}
    limits = Limits(
        arguments.max_tokens,
        stop_texts(arguments.stop, tokenizer, past_end=arguments.past_end),
        arguments.precision,
        not arguments.no_cache,
    )
    texts, speed = _write_all(arguments, strategy, found, prompts, limits)
    samples = [(prompt, text) for _, prompt in lines for text in texts[prompt]]
    result = {
        "checkpoint": found.reference,
        "settings": all_settings(arguments, strategy),
        "samples": [{"prompt": prompt, "text": text} for prompt, text in samples],
        "tokens_per_second": speed,
    }
    deliver(result, lambda: _pages(samples), counted(len(samples), "sample"), arguments)
    return 0


def _read_lines(file: str) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1.

    Raises:
        UserError: The file cannot be read, or there is none.
    """
    lines = [line.removesuffix("\r") for line in read_text(file).split("\n")]
    found = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise UserError(f"{file} has only blank lines; write one prompt a line, ROMEO: for example")
    return found


def _encode(file: str, number: int, line: str, tokenizer: "Tokenizer") -> list[int]:
    try:
        return encode_prompt(line, tokenizer)
    except UserError as error:
        raise UserError(f"{file}, line {number}: {error}") from None


def _write_all(
    arguments: argparse.Namespace,
    strategy: "Strategy",
    found: NamedModel,
    prompts: dict[str, list[int]],
    limits: Limits,
) -> tuple[dict[str, list[str]], float]:
    """The texts of each prompt, and new tokens by the second."""
    from shakespeare_tui.decoding.columns import Column

    column = Column(strategy=strategy, samples=arguments.num_samples, seed=arguments.seed)
    model, tokenizer = found.open(arguments.device, limits.precision), found.tokenizer
    texts: dict[str, list[str]] = {}
    tokens, seconds = 0, 0.0
    with progress("writing", "prompts") as report:
        for prompt, ids in prompts.items():
            written = write(model, tokenizer, ids, [column], limits)
            texts[prompt] = written.texts
            tokens += sum(map(len, written.streams))
            seconds += written.seconds
            report(len(texts), len(prompts))
    say_if_precision_is_slower(limits.precision, written.steady, model, ids, [column])
    return texts, per_second(tokens, seconds)


def _pages(samples: list[tuple[str, str]]) -> str:
    return "\n".join(_page(prompt, text) for prompt, text in samples)


def _page(prompt: str, text: str) -> str:
    return f"{rule(prompt)}\n{prompt}{text}\n"
