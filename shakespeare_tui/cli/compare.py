"""``compare``: the same prompt and seed by several checkpoints or strategies."""

import argparse

from shakespeare_tui.cli.completion import checkpoint_names, completes
from shakespeare_tui.cli.console import (
    check_device,
    print_json,
    print_result,
    terminal_width,
    whole_number,
)
from shakespeare_tui.cli.sampling_options import StepsHelp, add_stop
from shakespeare_tui.cli.writing import PRECISIONS, add_prompt, check_amount, chosen_prompt
from shakespeare_tui.errors import UserError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "compare",
        help="one prompt by several checkpoints or strategies",
        description="Continue one prompt by several checkpoints, or by several strategies, all "
        "from the same seed, and measure each text.",
        epilog="Example: shakespeare-tui compare quick-1@100 quick-1@best --prompt 'ROMEO:'",
        add_help=False,
    )
    parser.add_argument("-h", "--help", action=StepsHelp)
    checkpoints = parser.add_argument(
        "checkpoints",
        metavar="RUN[@REF]",
        nargs="+",
        help="a run, RUN@best, RUN@last, RUN@STEP or a path",
    )
    completes(checkpoints, checkpoint_names)
    add_prompt(parser, "the first run's")
    parser.add_argument(
        "--strategies",
        metavar="STEPS;...",
        help="strategies separated by ';', or classic for a set of six (temperature=0.8)",
    )
    parser.add_argument(
        "--max-tokens", type=whole_number, default=500, metavar="N", help="tokens of each (500)"
    )
    add_stop(parser)
    parser.add_argument(
        "--seed",
        type=whole_number,
        default=42,
        metavar="S",
        help="the same seed gives the same texts (42)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="auto computes in the model's own precision; bfloat16 and int8 round the weights",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write, measure and print."""
    if len(arguments.checkpoints) == 1 and arguments.strategies is None:
        raise UserError("there is nothing to compare with; name another RUN or give --strategies")
    check_device(arguments.device)
    from shakespeare_tui.cli.columns import Order, check_columns, write_columns
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.folder import find_checkpoint
    from shakespeare_tui.sampling import parse_strategies

    text = "temperature=0.8" if arguments.strategies is None else arguments.strategies
    count = len(parse_strategies(text)) * len(arguments.checkpoints)
    check_columns(count, "name fewer checkpoints or strategies")
    check_amount(arguments.max_tokens, count)
    checkpoints = [find_checkpoint(name, runs_folder()) for name in arguments.checkpoints]
    first = checkpoints[0].run
    prompt = chosen_prompt(arguments, first.config().sampling.prompts, first.tokenizer())
    columns = write_columns(
        Order(
            checkpoints=checkpoints,
            strategies=lambda tokenizer: parse_strategies(text, tokenizer.sampling_defaults()),
            prompt=prompt,
            max_tokens=arguments.max_tokens,
            seed=arguments.seed,
            stop=arguments.stop,
            past_end=arguments.past_end,
            precision=arguments.precision,
            use_cache=True,
            device=arguments.device,
        )
    )
    if arguments.json:
        print_json({"prompt": prompt, "columns": [column.as_json() for column in columns]})
        return 0
    from shakespeare_tui.cli.columns_report import columns_lines

    print_result("\n".join(columns_lines(prompt, columns, terminal_width(), beside=True)))
    return 0
