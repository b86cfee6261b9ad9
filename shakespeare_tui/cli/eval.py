"""``eval``: measure a checkpoint's loss by a named protocol."""

import argparse
import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakespeare_tui.cli.completion import checkpoint_names, completes, corpus_names
from shakespeare_tui.cli.console import (
    check_device,
    print_grid,
    print_json,
    print_result,
    print_table,
    progress,
    say,
    whole_number,
)
from shakespeare_tui.cli.writing import PRECISIONS, NamedModel, find_model
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import format_accuracy, format_loss
from shakespeare_tui.visible_text import visible

if TYPE_CHECKING:
    from shakespeare_tui.config.schema import Config
    from shakespeare_tui.decoding.decoder import FloatArray, IntArray, Precision
    from shakespeare_tui.decoding.factory import AnyModel
    from shakespeare_tui.runs.folder import Checkpoint, RunInfo
    from shakespeare_tui.training.evaluate import Evaluation, PredictingModel


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "eval",
        help="measure the loss of a checkpoint, or of several as an ensemble",
        description="Measure loss, perplexity, bits per character and accuracy of a checkpoint; of "
        "several also of their ensemble, whose probabilities are the mean of theirs.",
        epilog="Losses of different protocols do not compare.",
    )
    checkpoints = parser.add_argument(
        "checkpoints",
        nargs="+",
        metavar="RUN[@REF]",
        help="a run, RUN@best, RUN@STEP, …, or an exported .onnx or .gguf file",
    )
    completes(checkpoints, checkpoint_names)
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
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="auto measures the model itself; others what generate computes in that precision",
    )
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
    from shakespeare_tui.training.evaluate import open_splits

    found = [find_model(reference) for reference in arguments.checkpoints]
    infos = [each.checkpoint.run.info() if each.checkpoint else None for each in found]
    if len(found) > 1:
        if arguments.protocol != "exact":
            raise UserError(
                "an ensemble is measured exactly; leave --protocol out, or name one RUN"
            )
        _check_same_tokens(found)
        _check_same_text(found, infos)
    # What was trained here says on which text; that is the text of all.
    place = next((n for n, info in enumerate(infos) if info and info.corpus_sha256), 0)
    first, info = found[place], infos[place]
    if info is not None and info.corpus_sha256 and arguments.corpus is not None:
        raise UserError(
            "--corpus is for exported files and imported models; a run that was trained here is "
            "measured on its own corpus"
        )
    config = first.config if arguments.corpus is None else _with_corpus(arguments.corpus)
    if config is None:
        raise UserError(
            f"{first.reference} does not say what it was trained on; add --corpus NAME|FILE"
        )
    tokenizer = first.tokenizer
    source, train, val = open_splits(
        config, tokenizer, info.corpus_sha256 if info else "", info.name if info else ""
    )
    models = [
        _rounded(each.open(arguments.device, arguments.precision), arguments.precision)
        for each in found
    ]
    split = val if arguments.split == "val" else train
    result, each_result = _measure(models, split, config, arguments)
    for one, its in zip(found, each_result, strict=True):
        if not math.isfinite(its.loss):
            raise UserError(
                f"{one.reference} has no loss: its weights are so large that the model computes "
                "no numbers; use an earlier checkpoint of the run"
            )
    is_usual = (arguments.corpus, arguments.split, arguments.precision) == (None, "val", "auto")
    if result.protocol == EXACT and is_usual:
        for one, known, its in zip(found, infos, each_result, strict=True):
            # Of an imported model in an ensemble, it is not the loss on its own text.
            is_own = len(found) == 1 or (known is not None and known.corpus_sha256)
            if one.checkpoint is not None and is_own:
                _write_down(one.checkpoint, its)
    # Nothing foretells the first token: its text is not counted.
    foretold = len(split) - 1
    size = foretold_size(source, tokenizer, split, is_end=split is val)
    noun = token_noun(first.config.data.tokenizer if first.config else tokenizer.name)
    contexts = [model.context for model in models]
    figures: dict[str, Any] = {
        "checkpoint": " + ".join(one.reference for one in found),
        "split": arguments.split,
        "protocol": result.protocol,
        "tokens": result.tokens,
        "context": contexts[0] if len(set(contexts)) == 1 else None,
        **({} if arguments.precision == "auto" else {"precision": arguments.precision}),
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
    for origin in dict.fromkeys(each.pretrained for each in infos if each and each.pretrained):
        say(f"note: {pretrained_note(origin)}")
        figures.setdefault("pretrained", origin)
    if len(found) > 1:
        figures["models"] = [
            {
                "checkpoint": one.reference,
                "context": context,
                "loss": its.loss,
                "perplexity": perplexity(its.loss),
                "accuracy": its.accuracy,
            }
            for one, context, its in zip(found, contexts, each_result, strict=True)
        ]
    if arguments.json:
        print_json(figures)
        return 0
    members = figures.pop("models", None)
    if members is not None:
        _print_members(members, figures)
        figures["checkpoint"] = f"ensemble of {len(members)}: the mean of their probabilities"
        if figures["context"] is None:
            del figures["context"]
    print_grid((name.replace("_", " "), _shown(value)) for name, value in figures.items())
    return 0


def _check_same_tokens(found: Sequence[NamedModel]) -> None:
    """Refuse models whose probabilities are not of the same things, or one that is named twice."""
    first = found[0]
    for number, other in enumerate(found[1:], 1):
        if other.reference in [each.reference for each in found[:number]]:
            raise UserError(f"{other.reference} is named twice; name each member once")
        if other.tokenizer.fingerprint != first.tokenizer.fingerprint:
            raise UserError(
                f"{first.reference} and {other.reference} have different tokenizers: there is no "
                "mean of probabilities of different tokens; eval them one by one, and compare bits "
                "per byte"
            )


def _check_same_text(found: Sequence[NamedModel], infos: "Sequence[RunInfo | None]") -> None:
    """Refuse models that were trained on other texts, or on other parts of one."""
    trained = [
        (one.reference, info.corpus, info.corpus_sha256, one.config.data)
        for one, info in zip(found, infos, strict=True)
        if info is not None and info.corpus_sha256 and one.config is not None
    ]
    for reference, corpus, sha256, data in trained[1:]:
        first, first_corpus, first_sha256, first_data = trained[0]
        if sha256 != first_sha256:
            raise UserError(
                f"{first} and {reference} were trained on different texts ({first_corpus}; "
                f"{corpus}) and have no validation split in common; eval them one by one"
            )
        is_streamed = [each.windows == "streamed" for each in (first_data, data)]
        if data.val_fraction != first_data.val_fraction or is_streamed[0] != is_streamed[1]:
            raise UserError(
                f"{first} and {reference} split {corpus} at different places (data.val_fraction "
                f"{first_data.val_fraction:g} and windows {first_data.windows}; "
                f"{data.val_fraction:g} and {data.windows}): one may have learned what the other "
                "is measured on; eval them one by one"
            )


def _measure(
    models: "Sequence[PredictingModel]",
    split: Any,
    config: "Config",
    arguments: argparse.Namespace,
) -> "tuple[Evaluation, list[Evaluation]]":
    """What is asked for, of all models together and of each."""
    from shakespeare_tui.training.evaluate import evaluate, evaluate_ensemble, evaluate_nanogpt

    if arguments.protocol != "exact":
        result = evaluate_nanogpt(
            models[0],
            split,
            batches=arguments.batches,
            batch_size=config.training.batch_size,
            seed=1337,
        )
        return result, [result]
    with progress("measuring the loss", "tokens") as report:
        if len(models) > 1:
            return evaluate_ensemble(models, split, progressed=report)
        result = evaluate(models[0], split, progressed=report)
        return result, [result]


def _rounded(model: "AnyModel", precision: "Precision") -> "PredictingModel":
    """The model, or what decoders compute with its weights in a precision of theirs."""
    import numpy as np

    from shakespeare_tui.decoding.factory import make_decoder
    from shakespeare_tui.decoding.logits_model import LogitsModel

    if precision == "auto":
        return model
    decoder = make_decoder(model, 1, precision=precision)

    def logits(tokens: "IntArray") -> "FloatArray":
        decoder.rewind(0)
        if decoder.streams != len(tokens):
            decoder.reorder(np.zeros(len(tokens), np.int64))
        return decoder.read_all(tokens)

    return LogitsModel(logits, model.config, model.vocab_size, model.context)


def _print_members(members: Sequence[Mapping[str, Any]], ensemble: Mapping[str, Any]) -> None:
    """A line for each model; the last is that of all together."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("checkpoint", no_wrap=True)
    for title in ("context", "loss", "perplexity", "accuracy"):
        table.add_column(title, justify="right", no_wrap=True)
    for each in (*members, {**ensemble, "checkpoint": "ensemble"}):
        context, likely = each["context"], each["perplexity"]
        table.add_row(
            visible(each["checkpoint"]),
            "" if context is None else f"{context:,}",
            format_loss(each["loss"]),
            "-" if likely is None else f"{likely:.2f}",
            format_accuracy(each["accuracy"]),
        )
    print_table(table)
    print_result()


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
