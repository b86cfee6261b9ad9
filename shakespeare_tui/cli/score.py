"""``score``: how surprised a checkpoint is by a text, and what the text has copied."""

import argparse

from shakespeare_tui.cli.completion import checkpoint_names, completes
from shakespeare_tui.cli.console import check_device, print_json, print_result, say, terminal_width
from shakespeare_tui.cli.writing import open_model, read_text
from shakespeare_tui.errors import UserError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "score",
        help="surprise and memorisation of a text",
        description="Measure how surprised a checkpoint is by a text, how the text is made, and "
        "what of it is copied from the training split.",
        epilog="Example: shakespeare-tui score quick-1 --text 'To be, or not to be'",
    )
    checkpoint = parser.add_argument(
        "checkpoint", metavar="RUN[@REF]", help="a run, RUN@best, RUN@STEP, …"
    )
    completes(checkpoint, checkpoint_names)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--file", metavar="FILE", help="a text file; - reads from stdin")
    given.add_argument("--text", metavar="TEXT", help="the text itself")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Score and print."""
    check_device(arguments.device)
    text = _read_text(arguments)
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.folder import find_checkpoint, pretrained_note

    checkpoint = find_checkpoint(arguments.checkpoint, runs_folder())
    # The text is checked before the model is loaded: a wrong one fails at once.
    tokens, starts = checkpoint.run.tokenizer().encode_in_place(text)
    if len(tokens) < 2:
        raise UserError("the text is too short to be scored: it takes two tokens or more")
    from shakespeare_tui.cli.writing import reference_of
    from shakespeare_tui.data.tokenizers.kinds import token_noun
    from shakespeare_tui.data.tokenizers.tokenizer import unsaid_share
    from shakespeare_tui.decoding.score import score_tokens
    from shakespeare_tui.measures import measure_text
    from shakespeare_tui.runs.losses import perplexity

    if source := checkpoint.run.info().pretrained:
        say(f"note: {pretrained_note(source)}")
    model, tokenizer = open_model(checkpoint, arguments.device)
    surprise = score_tokens(model, tokens)
    unsaid = unsaid_share(tokenizer, text)
    if unsaid:
        say(
            f"note: {unsaid:.1%} of the tokens stand for words that the vocabulary has not: losses "
            "per token are about less than the text, and none is given by its characters"
        )
    mean = None if unsaid else surprise.nats_per_character(starts)
    measures = measure_text(text, reference_of(checkpoint.run)).with_surprise(mean)
    if arguments.json:
        record = measures.as_json()
        figures = {
            "mean_surprise": record["mean_surprise"],
            "perplexity": perplexity(record["mean_surprise"]),
            "accuracy": surprise.accuracy(),
            "unknown_share": unsaid,
            "memorisation": record["memorisation"],
            "measures": record,
        }
        print_json(figures)
        return 0
    from shakespeare_tui.cli.score_report import ScoredText, score_lines

    noun = token_noun(checkpoint.run.config().data.tokenizer)
    scored = ScoredText(text, checkpoint.reference, tokenizer, noun, surprise, starts, unsaid)
    print_result("\n".join(score_lines(scored, measures, terminal_width())))
    return 0


def _read_text(arguments: argparse.Namespace) -> str:
    """The text that is to be scored.

    Raises:
        UserError: There is none, or it is not text.
    """
    if arguments.text is None:
        return read_text(arguments.file)
    if not arguments.text:
        raise UserError("--text is empty; give at least two characters")
    return str(arguments.text)
