"""``data``: list the corpora, fetch one, inspect one or any text of one's own."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from shakespeare_tui.cli.completion import completes, corpus_names
from shakespeare_tui.cli.console import (
    print_grid,
    print_json,
    print_result,
    progress,
    say,
    terminal_width,
    write_text,
)

if TYPE_CHECKING:
    from shakespeare_tui.data.catalogue import CorpusEntry


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command and its three actions."""
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
    inspecting.add_argument(
        "--val-fraction",
        type=float,
        default=0.1,
        metavar="F",
        help="share of the text, at its end, kept for validation (0.1)",
    )
    output = inspecting.add_mutually_exclusive_group()
    output.add_argument(
        "--chart", action="store_true", help="draw how often words and characters occur, by rank"
    )
    inspecting.set_defaults(run=run_inspect)
    for action in (listing, fetching, output):
        action.add_argument("--json", action="store_true", help="print one JSON object")


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


def _describe(entry: "CorpusEntry") -> dict[str, Any]:
    from shakespeare_tui.data.source import locate_corpus
    from shakespeare_tui.errors import UserError

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
