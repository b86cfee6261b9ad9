"""``generate --sweep``: one text for each value of one parameter."""

import argparse
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from shakespeare_tui.cli.columns import Order, check_columns, write_columns
from shakespeare_tui.cli.console import terminal_width
from shakespeare_tui.cli.sampling_options import chosen_strategy
from shakespeare_tui.cli.writing import check_amount, chosen_prompt, deliver, find_model
from shakespeare_tui.config.problems import show_value
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import counted

if TYPE_CHECKING:
    from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
    from shakespeare_tui.sampling import Strategy

_EXAMPLE = "temperature=0.3:1.5:0.2"
_LARGEST, _FINEST = Decimal(10**9), Decimal("1e-9")


def run_sweep(arguments: argparse.Namespace) -> int:
    """Write a text for each value, all from the same seed; print or save them with measures.

    Args:
        arguments: Of ``generate``.
    """
    if arguments.batch is not None:
        raise UserError("--sweep and --batch exclude each other; keep one of them")
    if arguments.num_samples != 1:
        raise UserError("--sweep writes one text for each value; leave out --num-samples")

    def strategies(tokenizer: "Tokenizer | None") -> "tuple[Strategy, ...]":
        return sweep_strategies(arguments.sweep, chosen_strategy(arguments, tokenizer))

    check_amount(arguments.max_tokens, len(strategies(None)))
    found = find_model(arguments.checkpoint)
    if found.checkpoint is None:
        raise UserError("--sweep measures texts against the run's corpus; name the run, not a file")
    prompt = chosen_prompt(arguments, found.prompts, found.tokenizer)
    columns = write_columns(
        Order(
            checkpoints=[found.checkpoint],
            strategies=strategies,
            prompt=prompt,
            max_tokens=arguments.max_tokens,
            seed=arguments.seed,
            stop=arguments.stop,
            past_end=arguments.past_end,
            precision=arguments.precision,
            use_cache=not arguments.no_cache,
            device=arguments.device,
        )
    )

    def pages() -> str:
        from shakespeare_tui.cli.columns_report import columns_lines

        lines = columns_lines(prompt, columns, terminal_width(), beside=False)
        return "".join(f"{line}\n" for line in lines)

    result = {"prompt": prompt, "columns": [column.as_json() for column in columns]}
    deliver(result, pages, counted(len(columns), "text"), arguments)
    return 0


def sweep_strategies(text: str, strategy: "Strategy") -> "tuple[Strategy, ...]":
    """The strategy with each of a row of values for one parameter.

    Args:
        text: ``STEP=FROM:TO:BY`` or ``STEP.OPTION=FROM:TO:BY``; ``TO`` is included where it is met.
        strategy: A step that it lacks is added to it.

    Raises:
        UserError: The sweep cannot be read, has too many values, or one is out of range.
    """
    from shakespeare_tui.sampling import Strategy, parse_strategy

    target, has_values, values = text.partition("=")
    name, has_option, option = target.strip().replace("-", "_").partition(".")
    if not has_values or len(name.split()) != 1 or set(name) & {",", ";"}:
        raise _unreadable(text)
    if strategy.step(name) is None:
        strategy = Strategy((*strategy.steps, *parse_strategy(name).steps))
    numbers = _numbers(text, values)
    parameter = option if has_option else name
    return tuple(
        strategy.with_value(name, parameter, int(number) if number % 1 == 0 else float(number))
        for number in numbers
    )


def _numbers(text: str, values: str) -> list[Decimal]:
    # Decimals: 0.3 + 0.2 + 0.2 is to be 0.7, and the last value is not to be missed.
    try:
        first, last, by = (Decimal(part.strip()) for part in values.split(":"))
    except (ValueError, InvalidOperation):
        raise _unreadable(text) from None
    for number in (first, last, by):
        # Without arithmetic, which 1e99999999 would overflow.
        if not number.is_finite() or number.copy_abs() > _LARGEST:
            raise _unreadable(text)
    if by.copy_abs() < _FINEST or (last - first) * by < 0:
        raise UserError(
            f"--sweep {show_value(text)} never gets from {first} to {last} by steps of {by}; "
            f"write for example {_EXAMPLE}"
        )
    count = int((last - first) / by) + 1
    check_columns(count, "take larger steps")
    return [first + by * place for place in range(count)]


def _unreadable(text: str) -> UserError:
    return UserError(f"--sweep must be like {_EXAMPLE}, got {show_value(text)}")
