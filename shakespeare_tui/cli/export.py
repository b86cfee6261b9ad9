"""``export``: write a model as files that other programs open, verified before they are kept."""

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakespeare_tui.cli.completion import checkpoint_names, completes
from shakespeare_tui.cli.console import print_json, print_table, progress, say
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import format_bytes

if TYPE_CHECKING:
    from shakespeare_tui.data.tokenizers.tokenizer import TokenArray
    from shakespeare_tui.export.export import Exported
    from shakespeare_tui.export.registry import Format
    from shakespeare_tui.export.source import ExportSource, Options

# As in ``export.registry``, which takes longer to import than help should.
_NAMES = ("safetensors", "hf", "gguf", "onnx", "int8", "torchscript", "torch.export", "html")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "export",
        help="write a model as files that other programs open",
        description="Write a checkpoint as files that other programs open. Every export is opened "
        "again and compared with the model, logits and greedy text, before it gets its name.",
        epilog="Example: shakespeare-tui export quick-1 --to hf --output quick-hf",
    )
    checkpoint = parser.add_argument(
        "checkpoint", metavar="RUN[@REF]", help="a run, RUN@best, RUN@STEP, …"
    )
    completes(checkpoint, checkpoint_names)
    what = parser.add_mutually_exclusive_group(required=True)
    target = what.add_argument(
        "--to",
        metavar="FORMAT",
        help="safetensors (weights, config, tokenizer), hf (transformers), gguf (llama.cpp), onnx, "
        "int8 (TorchScript of a quarter of the size), torchscript, torch.export, or html (one page "
        "that runs the model in a browser)",
    )
    completes(target, lambda prefix: [name for name in _NAMES if name.startswith(prefix)])
    what.add_argument(
        "--all", action="store_true", help="every format that fits, into a folder, with a table"
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="PATH", help="the file or folder to write"
    )
    parser.add_argument(
        "--dtype",
        metavar="TYPE",
        help="of the weights: float32 (usual); bfloat16 or int8 (safetensors), float16 or q8_0 "
        "(gguf), int8 (onnx, html)",
    )
    parser.add_argument(
        "--kv-cache",
        action="store_true",
        help="onnx: keys and values go in and come out, so that each token is read once",
    )
    parser.add_argument(
        "--prune",
        type=_per_cent,
        default=0.0,
        metavar="PER_CENT",
        help="safetensors: set so much of each matrix, what is nearest to zero, to zero",
    )
    parser.add_argument(
        "--perplexity",
        action="store_true",
        help="measure the validation part by the export, exactly; always done where weights are "
        "rounded or left out",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace what is there, once the export is verified",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def _per_cent(text: str) -> float:
    try:
        return float(text.strip().removesuffix("%"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number of per cent, got {text!r}") from None


def run(arguments: argparse.Namespace) -> int:
    """Write, verify and report; 0 when done."""
    from shakespeare_tui.export.export import check_disk, check_target, disk_errors_told
    from shakespeare_tui.export.registry import FOLDER_OF_ALL, find_format
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.folder import find_checkpoint

    options = None
    if arguments.all:
        if arguments.dtype or arguments.kv_cache or arguments.prune:
            raise UserError("--all writes every type; leave out --dtype, --kv-cache and --prune")
        format_ = FOLDER_OF_ALL
    else:
        format_ = find_format(arguments.to)
        options = format_.options(
            arguments.dtype, kv_cache=arguments.kv_cache, prune=arguments.prune
        )
    check_target(arguments.output, format_, may_replace=arguments.overwrite)
    checkpoint = find_checkpoint(arguments.checkpoint, runs_folder())
    if checkpoint.weights_path.is_file():
        size = checkpoint.weights_bytes
        # All formats together are some eight times the weights.
        check_disk(arguments.output, size * (8 if arguments.all else 1))
    from shakespeare_tui.export.source import open_source

    source = open_source(checkpoint)
    with disk_errors_told(arguments.output):
        if options is None:
            return _run_all(arguments, source)
        return _run_one(arguments, source, format_, options)


def _run_one(
    arguments: argparse.Namespace, source: "ExportSource", format_: "Format", options: "Options"
) -> int:
    from shakespeare_tui.export.export import export_and_compare, report_lines

    with progress(f"{format_.name}: measuring", "tokens") as bar:
        done, before = export_and_compare(
            source,
            format_,
            options,
            arguments.output,
            measures=arguments.perplexity,
            notice=_note,
            report=lambda what: say(f"{format_.name}: {what}"),
            progressed=bar,
        )
    if arguments.json:
        print_json(
            {
                "checkpoint": source.checkpoint.reference,
                **done.as_json(),
                "model_perplexity": before,
            }
        )
        return 0
    for line in report_lines(done, before):
        say(line)
    return 0


def _note(text: str) -> None:
    say(f"note: {text}")


def _export(
    source: "ExportSource",
    format_: "Format",
    options: "Options",
    target: Path,
    validation: "TokenArray | None",
) -> "Exported":
    from shakespeare_tui.export.export import export

    with contextlib.ExitStack() as stack:
        # The bar of the measurement, the only part that takes long enough for one.
        bar = stack.enter_context(progress(f"{format_.name}: measuring", "tokens"))
        return export(
            source,
            format_,
            options,
            target,
            validation=validation,
            report=lambda what: say(f"{format_.name}: {what}"),
            progressed=bar,
        )


def _run_all(arguments: argparse.Namespace, source: "ExportSource") -> int:
    from shakespeare_tui.export.export import replacing, write_record
    from shakespeare_tui.export.registry import FORMATS, file_name, variants
    from shakespeare_tui.export.verify import validation_tokens

    validation = validation_tokens(source, _note)
    rows: list[Exported] = []
    refused: dict[str, str] = {}
    with replacing(arguments.output, is_folder=True) as folder:
        for format_ in FORMATS.values():
            for options in variants(format_):
                target = folder / file_name(format_, options)
                try:
                    rows.append(_export(source, format_, options, target, validation))
                except UserError as error:
                    say(f"{format_.name}: {error}")
                    refused[format_.name] = str(error)
                    break
        if not rows:
            raise UserError("no format could be written; the lines above say why")
        named = [_as_json(row, folder, arguments.output) for row in rows]
        result: dict[str, Any] = {"exports": named, "refused": refused}
        write_record(folder, source, result)
    result = {"checkpoint": source.checkpoint.reference, "path": str(arguments.output), **result}
    if arguments.json:
        print_json(result)
        return 0
    _print_table(rows, source.size_bytes)
    for name, why in refused.items():
        say(f"{name}: not written: {why}")
    return 0


def _as_json(row: "Exported", folder: Path, output: Path) -> dict[str, Any]:
    return row.as_json() | {"path": str(output / row.path.relative_to(folder))}


def _print_table(rows: "list[Exported]", plain_bytes: int) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("format", no_wrap=True)
    for name in ("size", "load", "tokens/s", "perplexity", "logits ±", "greedy text"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        found = row.verification
        table.add_row(
            row.title,
            f"{format_bytes(row.size_bytes)} ({row.size_bytes / plain_bytes:.0%})",
            f"{row.load_seconds:.2f} s",
            f"{found.tokens_per_second:,.0f}",
            "-" if row.perplexity is None else f"{row.perplexity:.4f}",
            f"{found.logit_difference:.1e}",
            f"{found.greedy_equal}/{found.greedy_tokens}",
        )
    print_table(table)
