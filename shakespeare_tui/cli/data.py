"""``data``: list the corpora, fetch one, inspect one or any text of one's own."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakespeare_tui.cli.completion import completes, corpus_names, files
from shakespeare_tui.cli.console import (
    print_grid,
    print_json,
    print_result,
    progress,
    progresses,
    say,
    terminal_width,
    whole_number,
    write_text,
)
from shakespeare_tui.data.tokenizers.kinds import NEW_KINDS, TOKENIZERS, is_tokenizer_file
from shakespeare_tui.errors import UserError

if TYPE_CHECKING:
    from shakespeare_tui.data.catalogue import CorpusEntry
    from shakespeare_tui.data.inspect.token_figures import TokenFigures

_TOKENS_SHOWN = 12


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command and its actions."""
    parser = subparsers.add_parser(
        "data",
        help="list, fetch and inspect corpora",
        description="List, fetch and inspect corpora.",
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser(
        "list",
        help="list the named corpora and the text files in data/",
        description="List the named corpora and the text files in data/.",
    )
    listing.set_defaults(run=run_list)
    fetching = actions.add_parser(
        "fetch",
        help="download a corpus into the cache, verified by its SHA-256",
        description="Download a corpus into the cache, verify its SHA-256 (where none is known: "
        "remember that of the first download), and print its path.",
        epilog="SHAKESPEARE_TUI_CACHE moves the cache.",
    )
    name = fetching.add_argument("name", metavar="NAME", help="a name from the list")
    completes(name, corpus_names)
    fetching.add_argument(
        "--force", action="store_true", help="download it even if it is in the cache"
    )
    fetching.set_defaults(run=run_fetch)
    inspecting = actions.add_parser(
        "inspect",
        help="measure a corpus: characters, speeches, split, n-gram baselines",
        description="Measure a corpus: size, vocabulary, character distribution, speeches of a "
        "play, split sizes, and the losses of n-gram models on the validation split.",
    )
    corpus = inspecting.add_argument(
        "corpus", metavar="NAME|FILE", help="a name from the list, a text file or a folder of them"
    )
    completes(corpus, corpus_names)
    _add_val_fraction(inspecting)
    output = inspecting.add_mutually_exclusive_group()
    output.add_argument(
        "--chart", action="store_true", help="draw how often words and characters occur, by rank"
    )
    inspecting.set_defaults(run=run_inspect)
    counting = actions.add_parser(
        "tokens",
        help="encode a corpus: tokens, bytes per token, the longest and the commonest",
        description="Encode a corpus by a tokenizer: how many tokens it has, how many bytes each "
        "is, the longest and the commonest of them.",
    )
    corpus = counting.add_argument(
        "corpus", metavar="NAME|FILE", help="a name from the list, a text file or a folder of them"
    )
    completes(corpus, corpus_names)
    tokenizer = counting.add_argument(
        "--tokenizer",
        default="bpe",
        metavar="KIND|FILE",
        help="char, bpe (learned from the training text), gpt2, word (of the training text), or a "
        "tokenizer.json, a folder with one or a GGUF file (bpe)",
    )
    completes(tokenizer, lambda prefix: [*NEW_KINDS, *files(prefix, (".json", ".gguf"))])
    counting.add_argument(
        "--vocab-size",
        type=whole_number,
        metavar="N",
        help="tokens of bpe or word (512 for bpe, every word for word)",
    )
    _add_val_fraction(counting)
    counting.set_defaults(run=run_tokens)
    for action in (listing, fetching, output, counting):
        action.add_argument("--json", action="store_true", help="print one JSON object")


def _add_val_fraction(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--val-fraction",
        type=float,
        default=0.1,
        metavar="F",
        help="share of the text, at its end, kept for validation (0.1)",
    )


def run_list(arguments: argparse.Namespace) -> int:
    """Print the catalogue and what of it is at hand."""
    from shakespeare_tui.data.available import files_in_data
    from shakespeare_tui.data.catalogue import CATALOGUE
    from shakespeare_tui.formatting import format_bytes

    corpora = [_describe(entry) for entry in CATALOGUE.values()]
    files: list[dict[str, Any]] = [
        {"path": str(path), "size_bytes": path.stat().st_size} for path in files_in_data()
    ]
    if arguments.json:
        print_json({"corpora": corpora, "files": files})
        return 0
    rows = []
    for corpus in corpora:
        about = CATALOGUE[corpus["name"]].about_bytes
        size = f"~{format_bytes(about)}" if about else ""
        if corpus["size_bytes"] is not None:
            size = format_bytes(corpus["size_bytes"])
        where = f"at hand: {corpus['path']}" if corpus["path"] else corpus["problem"]
        text = f"{corpus['title']}\n{corpus['licence']}\n{where or 'not fetched yet'}"
        rows.append((corpus["name"], size, text))
    rows += [(file["path"], format_bytes(file["size_bytes"]), "") for file in files]
    print_grid(rows)
    return 0


def run_fetch(arguments: argparse.Namespace) -> int:
    """Fetch a named corpus unless it is at hand, and print its path."""
    from shakespeare_tui.data.catalogue import find_entry
    from shakespeare_tui.data.download import fetch
    from shakespeare_tui.data.source import locate_corpus

    entry = find_entry(arguments.name)
    source = locate_corpus(entry.name)
    is_fetched = bool(entry.sources) and (arguments.force or source is None)
    if is_fetched:
        with progress(f"fetching {entry.name}") as report:
            path = fetch(entry, report, force=arguments.force)
    else:
        assert source is not None
        path = source.paths[0]
        say(f"{entry.name} is at hand already")
    if arguments.json:
        print_json({"name": entry.name, "path": str(path), "fetched": is_fetched})
    else:
        write_text(f"{path}\n")
    return 0


def run_inspect(arguments: argparse.Namespace) -> int:
    """Measure a corpus, fetching it where it has to be, and print what was found."""
    from shakespeare_tui.cli.corpus_report import report_lines
    from shakespeare_tui.data.inspect.scan import check_val_fraction, inspect_corpus
    from shakespeare_tui.data.source import locate_corpus, open_corpus

    check_val_fraction(arguments.val_fraction)
    source = locate_corpus(arguments.corpus)
    if source is None:
        with progress(f"fetching {arguments.corpus}") as report:
            source = open_corpus(arguments.corpus, report)
    with progress(f"reading {source.name}") as report:
        found = inspect_corpus(source, arguments.val_fraction, report)
    if arguments.json:
        print_json(found.to_json())
    else:
        encoding = sys.stdout.encoding or "ascii"
        print_result("\n".join(report_lines(found, terminal_width(), encoding)))
    if arguments.chart:
        from shakespeare_tui.cli.charts import print_rank_frequency

        print_result("\nwords and characters by rank\n")
        print_rank_frequency(source, found.statistics)
    return 0


def run_tokens(arguments: argparse.Namespace) -> int:
    """Encode a corpus, fetching it where it has to be, and print what came of it."""
    from shakespeare_tui.data.inspect.scan import check_val_fraction
    from shakespeare_tui.data.inspect.token_figures import count_tokens, reported
    from shakespeare_tui.data.source import open_corpus
    from shakespeare_tui.data.tokens import TokenSettings, open_tokenizer

    check_val_fraction(arguments.val_fraction)
    settings = TokenSettings(
        _tokenizer_spec(arguments.tokenizer), arguments.vocab_size, arguments.val_fraction
    )
    with progresses() as report:
        source = open_corpus(arguments.corpus, lambda *done: report("fetching the corpus", *done))
        tokenizer = open_tokenizer(settings, source, report)
        found = count_tokens(
            tokenizer, reported(source.whole, lambda *done: report("counting tokens", *done))
        )
    longest, commonest = (
        [_token_record(found, token) for token in tokens]
        for tokens in (found.longest(_TOKENS_SHOWN), found.commonest(_TOKENS_SHOWN))
    )
    figures = {
        "corpus": source.name,
        "tokenizer": arguments.tokenizer,
        "tokens": found.tokens,
        "vocab_size": tokenizer.vocab_size,
        "used": found.used,
        "bytes": found.text_bytes,
        "bytes_per_token": found.bytes_per_token,
    }
    if arguments.json:
        print_json({**figures, "longest": longest, "commonest": commonest})
        return 0
    print_grid((name.replace("_", " "), _shown(value)) for name, value in figures.items())
    for title, tokens in (("longest", longest), ("commonest", commonest)):
        print_result(f"\n{title} tokens")
        print_grid(
            (f"{token['id']:,}", f"{token['count']:,}", repr(token["text"])) for token in tokens
        )
    return 0


def _tokenizer_spec(name: str) -> str:
    """As ``data.tokenizer`` has it; here a file needs no ``./`` before its name."""
    if name in TOKENIZERS or is_tokenizer_file(name):
        return name
    if Path(name).exists():
        return f"./{name}"
    kinds = ", ".join(NEW_KINDS)
    raise UserError(
        f"no tokenizer is called {name!r}: give one of {kinds}, a tokenizer.json, a folder with "
        "one, or a GGUF file"
    )


def _token_record(found: "TokenFigures", token: int) -> dict[str, Any]:
    from shakespeare_tui.data.tokenizers.tokenizer import shown_token

    return {
        "id": token,
        "text": shown_token(found.tokenizer, token),
        "bytes": int(found.lengths[token]),
        "count": int(found.counts[token]),
    }


def _shown(value: str | int | float) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value


def _describe(entry: "CorpusEntry") -> dict[str, Any]:
    from shakespeare_tui.data.source import locate_corpus

    problem = None
    try:
        source = locate_corpus(entry.name)
    except UserError as error:
        source, problem = None, str(error)
    return {
        "name": entry.name,
        "title": entry.title,
        "licence": entry.licence,
        "size_bytes": source.size_bytes if source else entry.size_bytes,
        "sha256": entry.sha256,
        "path": str(source.paths[0]) if source else None,
        "validation_path": (
            str(source.validation.paths[0]) if source and source.validation else None
        ),
        "problem": problem,
    }
