"""``eval``: measure a checkpoint's loss by a named protocol."""

import argparse
import contextlib
import math
from typing import TYPE_CHECKING

from shakespeare_tui.cli.completion import checkpoint_names, completes, corpus_names
from shakespeare_tui.cli.console import check_device, print_grid, print_json, say, whole_number
from shakespeare_tui.cli.writing import find_model
from shakespeare_tui.errors import UserError

if TYPE_CHECKING:
    from shakespeare_tui.config.schema import Config
    from shakespeare_tui.runs.folder import Checkpoint
    from shakespeare_tui.training.evaluate import Evaluation


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "eval",
        help="measure a checkpoint's loss",
        description="Measure loss, perplexity, bits per character and accuracy of a checkpoint.",
        epilog="Losses of different protocols do not compare.",
    )
    checkpoint = parser.add_argument(
        "checkpoint",
        metavar="RUN[@REF]",
        help="a run, RUN@best, RUN@STEP, …, or an exported .onnx or .gguf file",
    )
    completes(checkpoint, checkpoint_names)
    parser.add_argument(
        "--protocol",
        choices=("exact", "nanogpt"),
        default="exact",
        help="exact: every token once in non-overlapping windows; nanogpt: random windows",
    )
    parser.add_argument("--split", choices=("val", "train"), default="val")
    parser.add_argument(
        "--batches", type=whole_number, default=200, help="of the nanogpt protocol (200)"
    )
    corpus = parser.add_argument(
        "--corpus",
        metavar="NAME|FILE",
        help="of an exported file or an imported model; default: what its run was trained on",
    )
    completes(corpus, corpus_names)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print."""
    if arguments.batches < 1:
        raise UserError(f"--batches must be at least 1, got {arguments.batches}")
    check_device(arguments.device)
    from shakespeare_tui.data.tokenizers.kinds import token_noun
    from shakespeare_tui.data.tokens import foretold_size
    from shakespeare_tui.runs.folder import pretrained_note
    from shakespeare_tui.runs.losses import EXACT, bits_per_byte, bits_per_character, perplexity
    from shakespeare_tui.training.evaluate import evaluate, evaluate_nanogpt, open_splits

    found = find_model(arguments.checkpoint)
    checkpoint, tokenizer = found.checkpoint, found.tokenizer
    info = None if checkpoint is None else checkpoint.run.info()
    if info is not None and info.corpus_sha256 and arguments.corpus is not None:
        raise UserError(
            "--corpus is for exported files and imported models; a run that was trained here is "
            "measured on its own corpus"
        )
    config = found.config if arguments.corpus is None else _with_corpus(arguments.corpus)
    if config is None:
        raise UserError(
            f"{found.reference} does not say what it was trained on; add --corpus NAME|FILE"
        )
    source, train, val = open_splits(
        config, tokenizer, info.corpus_sha256 if info else "", info.name if info else ""
    )
    model = found.open(arguments.device, "auto")
    split = val if arguments.split == "val" else train
    if arguments.protocol == "exact":
        result = evaluate(model, split)
    else:
        batch_size = config.training.batch_size
        result = evaluate_nanogpt(
            model, split, batches=arguments.batches, batch_size=batch_size, seed=1337
        )
    if not math.isfinite(result.loss):
        raise UserError(
            f"{found.reference} has no loss: its weights are so large that the model computes "
            "no numbers; use an earlier checkpoint of the run"
        )
    is_usual = arguments.corpus is None and arguments.split == "val"
    if checkpoint is not None and result.protocol == EXACT and is_usual:
        _write_down(checkpoint, result)
    # Nothing foretells the first token: its text is not counted.
    foretold = len(split) - 1
    size = foretold_size(source, tokenizer, split, is_end=split is val)
    noun = token_noun(found.config.data.tokenizer if found.config else tokenizer.name)
    figures: dict[str, str | int | float | None] = {
        "checkpoint": found.reference,
        "split": arguments.split,
        "protocol": result.protocol,
        "tokens": result.tokens,
        "context": model.context,
        "loss": result.loss,
        "perplexity": perplexity(result.loss),
        "unit": f"nats per {noun}",
        "bits_per_character": (
            bits_per_character(result.loss, size.characters / foretold) if size else None
        ),
        "bits_per_byte": bits_per_byte(result.loss, size.bytes / foretold) if size else None,
        "accuracy": result.accuracy,
    }
    if size is None:
        say(
            f"note: the text has {noun}s that the vocabulary has not, so that the loss is about "
            "less than the text: it does not compare by bytes or characters"
        )
    if info is not None and info.pretrained is not None:
        say(f"note: {pretrained_note(info.pretrained)}")
        figures["pretrained"] = info.pretrained
    if arguments.json:
        print_json(figures)
        return 0
    print_grid((name.replace("_", " "), _shown(value)) for name, value in figures.items())
    return 0


def _with_corpus(corpus: str) -> "Config":
    """The usual settings, with this corpus."""
    from shakespeare_tui.config.schema import Config, DataConfig

    return Config(data=DataConfig(corpus=corpus))


def _shown(value: str | int | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else value


def _write_down(checkpoint: "Checkpoint", result: "Evaluation") -> None:
    """Let the exact loss count where checkpoints are compared; a run in training keeps its own."""
    from shakespeare_tui.runs.folder import best_step

    run = checkpoint.run
    with contextlib.suppress(UserError, OSError), run.locked(patience_seconds=0.2):
        run.record_exact_loss(checkpoint.info.step, result.loss, result.accuracy)
        index = run.index()
        if "last" in index:
            run.write_index(best_step(run.checkpoints()), index["last"])
