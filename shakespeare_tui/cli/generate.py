"""``generate``: continue a prompt with a checkpoint."""

import argparse
from typing import TYPE_CHECKING

from shakespeare_tui.cli.completion import checkpoint_names, completes
from shakespeare_tui.cli.console import check_device, rule, say, whole_number, write_text
from shakespeare_tui.cli.draft import check_draft, find_draft, write_drafted
from shakespeare_tui.cli.sampling_options import (
    StepsHelp,
    add_flags,
    add_stop,
    all_settings,
    chosen_strategy,
    stop_texts,
)
from shakespeare_tui.cli.speed import default_speed, say_if_slower
from shakespeare_tui.cli.writing import (
    PRECISIONS,
    Limits,
    add_output,
    add_prompt,
    check_amount,
    check_output,
    chosen_prompt,
    deliver,
    encode_prompt,
    find_model,
    open_model,
    write,
)
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import counted

if TYPE_CHECKING:
    from shakespeare_tui.runs.folder import Checkpoint

_MOST_SAMPLES = 10_000


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "generate",
        help="continue a prompt with a trained model",
        description="Continue a prompt with a checkpoint, printing the text as it is made.",
        epilog="Example: shakespeare-tui generate quick-1 --prompt 'ROMEO:' --temperature 0.7",
        add_help=False,
    )
    parser.add_argument("-h", "--help", action=StepsHelp)
    checkpoint = parser.add_argument(
        "checkpoint",
        metavar="RUN[@REF]",
        help="a run, RUN@best, RUN@last, RUN@STEP, a path, or an exported .onnx or .gguf file",
    )
    completes(checkpoint, checkpoint_names)
    given = parser.add_mutually_exclusive_group()
    add_prompt(given, "the run's")
    given.add_argument(
        "--batch", metavar="FILE", help="continue every line of FILE, into the file of --output"
    )
    parser.add_argument(
        "--max-tokens", type=whole_number, default=500, metavar="N", help="tokens to generate (500)"
    )
    add_flags(parser)
    parser.add_argument(
        "--sweep",
        metavar="STEP=A:B:BY",
        help="one text for each value from A to B, with measures: temperature=0.3:1.5:0.2",
    )
    add_stop(parser)
    parser.add_argument(
        "--num-samples",
        type=whole_number,
        default=1,
        metavar="N",
        help="continuations, made together",
    )
    parser.add_argument(
        "--seed",
        type=whole_number,
        default=42,
        metavar="S",
        help="the same seed gives the same text (42)",
    )
    draft = parser.add_argument(
        "--draft",
        metavar="RUN[@REF]",
        help="let a smaller model propose tokens, or lookup: the text itself; faster where they "
        "guess well, with the same distribution",
    )
    completes(draft, lambda prefix: ["lookup", *checkpoint_names(prefix)])
    parser.add_argument(
        "--no-cache", action="store_true", help="re-read the whole context for every token (slow)"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="auto computes in the model's own precision; bfloat16 and int8 round the weights",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add_output(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Generate and print or save."""
    _check(arguments)
    check_draft(arguments, chosen_strategy(arguments))
    if arguments.sweep is not None:
        from shakespeare_tui.cli.sweep import run_sweep

        return run_sweep(arguments)
    if arguments.batch is not None:
        from shakespeare_tui.cli.batch import run_batch

        return run_batch(arguments)
    return _run_one(arguments)


def _run_one(arguments: argparse.Namespace) -> int:
    found = find_model(arguments.checkpoint)
    checkpoint, tokenizer = found.checkpoint, found.tokenizer
    if checkpoint is None and arguments.draft is not None:
        raise UserError("--draft checks tokens against a run; name the run, not an exported file")
    # The prompt is checked before the model is loaded: a wrong one fails at once.
    prompt = chosen_prompt(arguments, found.prompts, tokenizer)
    tokens = encode_prompt(prompt, tokenizer)
    strategy = chosen_strategy(arguments, tokenizer)
    limits = Limits(
        arguments.max_tokens,
        stop_texts(arguments.stop, tokenizer, past_end=arguments.past_end),
        arguments.precision,
        not arguments.no_cache,
    )
    draft = None
    if checkpoint is not None and arguments.draft is not None:
        draft = find_draft(arguments.draft, checkpoint)
    from shakespeare_tui.decoding.columns import Column

    column = Column(strategy=strategy, samples=arguments.num_samples, seed=arguments.seed)
    model = found.open(arguments.device, arguments.precision)
    is_streamed = not arguments.json and arguments.output is None
    if is_streamed:
        write_text(_heading(1, arguments.num_samples) + prompt)

    def show(pieces: list[str]) -> None:
        if is_streamed and pieces[0]:
            write_text(pieces[0])

    figures: dict[str, object] = {}
    if arguments.draft is None:
        written = write(model, tokenizer, tokens, [column], limits, show)
    else:
        drafting = open_model(draft, arguments.device, arguments.precision)[0] if draft else None
        written, acceptance = write_drafted(
            model, tokenizer, tokens, strategy, arguments.seed, limits, drafting, show
        )
        figures["draft_acceptance"] = acceptance.rate
    option = _speed_option(arguments)
    default = default_speed(model, tokens, [column]) if option else 0.0
    if option:
        figures["steady_tokens_per_second"] = written.steady
        figures["default_tokens_per_second"] = default
    texts = written.texts
    if is_streamed:
        write_text("\n")
        for number, text in enumerate(texts[1:], start=2):
            write_text(_heading(number, len(texts)) + prompt + text + "\n")
        say(f"{written.tokens_per_second:,.0f} tokens/s")
    if not arguments.json:
        if arguments.draft is not None and acceptance.rate is not None:
            say(f"{acceptance.rate:.0%} of {acceptance.proposed:,} proposed tokens were accepted")
        say_if_slower(option, written.steady, default)
    if is_streamed:
        return 0
    result = {
        "checkpoint": found.reference,
        "prompt": prompt,
        "settings": all_settings(arguments, strategy) | _draft_setting(arguments, draft),
        "samples": [{"text": text} for text in texts],
        "tokens_per_second": written.tokens_per_second,
        **figures,
    }
    deliver(result, lambda: _pages(prompt, texts), counted(len(texts), "sample"), arguments)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    samples = arguments.num_samples
    if not 1 <= samples <= _MOST_SAMPLES:
        raise UserError(f"--num-samples must be from 1 to {_MOST_SAMPLES:,}, got {samples}")
    check_amount(arguments.max_tokens, samples)
    check_device(arguments.device)
    check_output(arguments)


def _speed_option(arguments: argparse.Namespace) -> str:
    """The options that were given to write faster, as they were given."""
    given = [] if arguments.draft is None else [f"--draft {arguments.draft}"]
    if arguments.precision in ("bfloat16", "int8"):
        given.append(f"--precision {arguments.precision}")
    return " with ".join(given)


def _draft_setting(arguments: argparse.Namespace, draft: "Checkpoint | None") -> dict[str, object]:
    if arguments.draft is None:
        return {}
    return {"draft": draft.reference if draft else arguments.draft}


def _pages(prompt: str, texts: list[str]) -> str:
    return "\n".join(
        _heading(number, len(texts)) + prompt + text + "\n"
        for number, text in enumerate(texts, start=1)
    )


def _heading(number: int, count: int) -> str:
    if count == 1:
        return ""
    return rule(f"sample {number} of {count}") + "\n"
