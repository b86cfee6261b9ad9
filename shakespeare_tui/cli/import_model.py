"""``import``: make a run of a pretrained model."""

import argparse

from shakespeare_tui.cli.console import print_json, progress, say
from shakespeare_tui.errors import UserError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "import",
        help="make a run of a pretrained model",
        description="Make a run whose step 0 is a pretrained model: GPT-2, Llama's family or "
        "Qwen3. Nothing of its publishers' is run; pickles are refused.",
        epilog="Example: shakespeare-tui import smollm2-135m",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="smollm2-135m, gpt2, a folder of Hugging Face, a GGUF file, or OWNER/NAME of the hub",
    )
    parser.add_argument("--name", help="the run's name; default: the source's and a number")
    parser.add_argument(
        "--tokenizer", metavar="FILE", help="a tokenizer.json in the place of the model's own"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fetch, read and write; 0 when done."""
    import contextlib
    from pathlib import Path

    from shakespeare_tui.data.catalogue import MODELS
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.folder import check_new_name

    root = runs_folder()
    name = arguments.name
    if name is None and arguments.source in MODELS:
        with contextlib.suppress(UserError):
            check_new_name(arguments.source, root)
            name = arguments.source
    elif name is not None:
        check_new_name(name, root)  # before anything is fetched
    import torch

    from shakespeare_tui.models.pretrained.source import read_pretrained
    from shakespeare_tui.training.device import free_memory
    from shakespeare_tui.training.import_model import import_model

    with contextlib.ExitStack() as stack:
        pretrained = read_pretrained(
            arguments.source,
            available_bytes=free_memory(torch.device("cpu")),
            report=lambda what: stack.enter_context(progress(f"fetching {what}")),
        )
    checkpoint = import_model(
        pretrained,
        arguments.source,
        root,
        name,
        None if arguments.tokenizer is None else Path(arguments.tokenizer),
    )
    info, config = checkpoint.run.info(), checkpoint.run.config()
    if arguments.json:
        print_json(
            {
                "run": info.name,
                "path": str(checkpoint.run.path),
                "family": pretrained.family,
                "parameters": info.parameters,
                "vocab_size": info.vocab_size,
                "context": config.seq_len,
                "max_context": config.model.max_seq_len,
                "chat": pretrained.chat_template is not None,
            }
        )
        return 0
    say(
        f"{info.name}: {pretrained.family}, {info.parameters:,} parameters, {info.vocab_size:,} "
        f"tokens, context {config.seq_len:,} of {config.model.max_seq_len:,}"
    )
    say("its losses do not compare with models trained here: it may have read the same texts")
    if pretrained.chat_template is not None:
        say(f"it was made for chats: shakespeare-tui serve {info.name}, then /v1/chat/completions")
    say(f"next: shakespeare-tui generate {info.name} --prompt 'The play begins'")
    return 0
