"""``runs``: list all runs; ``show`` tells of one, ``check`` verifies, ``export`` writes events."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from shakespeare_tui.cli.completion import completes, run_names
from shakespeare_tui.cli.console import add_chart, fits, print_json, print_result, print_table, say
from shakespeare_tui.data.tokenizers.kinds import token_noun
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import (
    format_accuracy,
    format_count,
    format_duration,
    format_loss,
)
from shakespeare_tui.runs.losses import Quantity, perplexity
from shakespeare_tui.runs.state import STATE_LOOKS
from shakespeare_tui.visible_text import visible

if TYPE_CHECKING:
    from shakespeare_tui.runs.catalog import RunEntry
    from shakespeare_tui.runs.compare.items import CheckpointItem
    from shakespeare_tui.runs.compare.query import Query
    from shakespeare_tui.training.verify import CheckpointCheck, RunCheck

_STYLES = {"success": "green", "warning": "yellow", "error": "red", "muted": "bright_black"}
_TEXTS = ("run", "state", "protocol", "corpus")
_LEFT_OUT_FIRST = ("perplexity", "parameters", "at step", "accuracy", "age", "corpus")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "runs",
        help="list, filter and sort runs; runs show, runs check and runs export",
        description="List the runs below the folder checkpoints (or $SHAKESPEARE_TUI_RUNS), each "
        "with the best of its checkpoints that match QUERY. Losses compare within a protocol only. "
        "`runs show RUN[@REF]` tells all that is known of one: where it comes from, its settings, "
        "losses, parameters and sizes by component, checkpoints and layers. "
        "`runs check [RUN ...]` reads all files of the runs instead and says which checkpoints can "
        "be used; it exits with 1 where anything is damaged. `runs export RUN ...` writes events "
        "for other programs.",
        epilog="Example: shakespeare-tui runs 'val<1.6 d_model=384 corpus:tiny' --sort val. QUERY "
        "is what the filter of the Checkpoints screen accepts: NAME<VALUE, NAME=VALUE, NAME:TEXT "
        "or a word, all of which must hold; 'or' separates alternatives, '!' negates a term.",
    )
    query = parser.add_argument("query", nargs="*", metavar="QUERY", help="which runs; all without")
    completes(query, lambda prefix: ["show", "check", "export", *run_names(prefix)])
    parser.add_argument(
        "--sort",
        metavar="NAME",
        help="by val, train, gap, elo, step, size, age, run or another figure (newest first)",
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument(
        "--tensorboard", metavar="DIR", help="with export: write DIR/RUN for TensorBoard"
    )
    parser.add_argument("--csv", metavar="FILE", help="with export: write one run's events as CSV")
    parser.add_argument("--parquet", metavar="FILE", help="with export: as Parquet")
    parser.add_argument("--force", action="store_true", help="with export: replace a file")
    output = parser.add_mutually_exclusive_group()
    add_chart(output, "draw the loss curves of the listed runs, too")
    output.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a table, or JSON."""
    import time

    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.catalog import RunCatalog
    from shakespeare_tui.runs.compare.query import parse_query, sort_name

    if arguments.query[:1] == ["show"]:
        from shakespeare_tui.cli.run_show import show_run

        return show_run(arguments.query[1:], as_json=arguments.json)
    if arguments.query[:1] == ["check"]:
        return check_runs(arguments.query[1:], as_json=arguments.json)
    if arguments.query[:1] == ["export"]:
        return export_runs(arguments)
    if arguments.tensorboard or arguments.csv or arguments.parquet or arguments.force:
        raise UserError("--tensorboard, --csv, --parquet and --force belong to: runs export RUN")
    query, now = parse_query(" ".join(arguments.query)), time.time()
    sort = None if arguments.sort is None else sort_name(arguments.sort)
    runs = RunCatalog(runs_folder()).entries()
    rows = _rows(runs, query, sort, arguments.reverse, now)
    if arguments.json:
        print_json({"runs": [_record(row, now) for row in rows]})
    elif rows:
        _print_table(rows, now)
        if arguments.chart:
            _print_chart(rows, arguments.chart)
    elif runs:
        say(f"none of {len(runs):,} runs matches {query.text}")
    else:
        say(f"no runs in {runs_folder()} yet; make one with: shakespeare-tui train --no-ui")
    return 0


def _rows(
    runs: "list[RunEntry]", query: "Query", sort: str | None, is_reversed: bool, now: float
) -> "list[CheckpointItem]":
    """A row a run: the best of its checkpoints that match, or the run itself where it has none."""
    from itertools import groupby

    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.compare.blind_tests import games_now, ratings_of, read_verdicts
    from shakespeare_tui.runs.compare.items import GREATEST_FIRST, items_of, sort_items
    from shakespeare_tui.runs.losses import best_of
    from shakespeare_tui.runs.notes import RunNames

    ratings = ratings_of(games_now(read_verdicts(runs_folder()), RunNames(runs)))
    matching = (item for item in items_of(runs, ratings=ratings) if query.matches(item, now))
    rows = []
    for _, found in groupby(matching, key=lambda item: item.run.name):
        items = list(found)
        named = (item for item in items if item.checkpoint and item.checkpoint.is_best)
        usable = [item for item in items if item.is_usable] or items
        best = best_of(usable, lambda item: item.losses)
        rows.append(next(named, best or usable[0]))
    if sort is None:
        return rows[::-1] if is_reversed else rows
    is_descending = (sort in GREATEST_FIRST) != is_reversed
    return sort_items(rows, sort, is_descending=is_descending, now=now)


def _record(row: "CheckpointItem", now: float) -> dict[str, Any]:
    """A run as JSON: the loss is that of the checkpoint at ``best_step``, under ``protocol``."""
    run, loss, info = row.run, row.loss, row.run.info
    return {
        "name": run.name,
        "path": str(run.path),
        "state": run.state,
        "step": run.step,
        "best_step": row.checkpoint.step if row.checkpoint and row.is_usable else None,
        "val_loss": loss.value if loss else None,
        "protocol": loss.protocol if loss else None,
        "perplexity": perplexity(loss.value) if loss else None,
        "accuracy": loss.accuracy if loss else None,
        "bits_per_byte": row.bits_per_byte,
        "parameters": info.parameters if info else None,
        "corpus": info.corpus if info else None,
        "parent": info.parent if info else None,
        "experiment": info.experiment if info else None,
        "variant": info.variant if info else None,
        "age_seconds": now - _written(run),
        "problem": "; ".join(_problems(run)) or None,
    }


def _written(run: "RunEntry") -> float:
    """When its latest checkpoint was written, or the run was made; Unix seconds."""
    return max((c.info.time for c in run.checkpoints if c.info), default=run.created)


def _problems(run: "RunEntry") -> list[str]:
    """What is damaged in it, a line each."""
    found = [] if run.problem is None else [f"{run.name}: {run.problem}"]
    return found + [f"{c.reference}: {c.problem}" for c in run.checkpoints if c.problem is not None]


def _print_table(rows: "list[CheckpointItem]", now: float) -> None:
    """The runs; columns that can be done without go where the terminal is narrow."""
    from rich.table import Table
    from rich.text import Text

    from shakespeare_tui.runs.losses import differ_in_tokenizer

    def table(titles: "list[str]") -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for title in titles:
            justify: Literal["left", "right"] = "left" if title in _TEXTS else "right"
            made.add_column(title, justify=justify, no_wrap=True)
        for row in rows:
            cells = _cells(row, now)
            cells["state"].stylize(_STYLES[STATE_LOOKS[row.run.state][1]])
            style = "dim" if row.run.problem else None
            made.add_row(*(cells[title] for title in titles), style=style)
        return made

    noun = _noun(rows)
    # Losses of different tokenizers compare by the text's bytes only.
    is_mixed = differ_in_tokenizer(row.unit for row in rows if row.losses)

    def _cells(row: "CheckpointItem", now: float) -> dict[str, Text]:
        run, loss, info = row.run, row.loss, row.run.info
        step = row.checkpoint.step if row.checkpoint and row.is_usable else None
        figure = perplexity(loss.value) if loss else None
        texts = {
            "run": run.name,
            "state": f"{STATE_LOOKS[run.state][0]} {run.state}",
            "step": "-" if run.step is None else f"{run.step:,}",
            "loss/word" if noun == "word" else "val loss": format_loss(
                loss.value if loss else None
            ),
            "protocol": loss.protocol or "-" if loss else "-",
            "at step": "-" if step is None else f"{step:,}",
            "perplexity": "-" if figure is None else f"{figure:.2f}",
            "accuracy": format_accuracy(loss.accuracy if loss else None),
            **({"bits/byte": format_loss(row.bits_per_byte)} if is_mixed else {}),
            "parameters": format_count(info.parameters) if info else "-",
            "corpus": info.corpus if info else "-",
            "age": format_duration(now - _written(run)),
        }
        return {title: Text(visible(text)) for title, text in texts.items()}

    titles = list(_cells(rows[0], now))
    for title in _LEFT_OUT_FIRST:
        if fits(table(titles)):
            break
        titles.remove(title)
    print_table(table(titles))
    for row in rows:
        for problem in _problems(row.run):
            say(problem)


def _noun(rows: "list[CheckpointItem]") -> str:
    """``word`` where all losses are by words."""
    kinds = {row.config.get("data.tokenizer") for row in rows if row.config and row.losses}
    return token_noun(*kinds) if len(kinds) == 1 else "token"


def _print_chart(rows: "list[CheckpointItem]", quantity: Quantity) -> None:
    """One curve for each run, as far as they can be told apart."""
    from shakespeare_tui.cli.charts import MOST_CURVES, comparable_curve, print_losses
    from shakespeare_tui.runs.folder import RunFolder

    if len(rows) > MOST_CURVES:
        say(f"the first {MOST_CURVES} of {len(rows):,} runs are drawn; a query or --sort chooses")
    is_accuracy = quantity == "accuracy"
    title = "accuracy on validation" if is_accuracy else f"training {quantity}, smoothed"
    print_result(f"\n{title}\n")
    curves = [
        comparable_curve(RunFolder(row.run.path).events_path, row.run.name, quantity)
        for row in rows[:MOST_CURVES]
    ]
    print_losses(curves, quantity, _noun(rows))


def export_runs(arguments: argparse.Namespace) -> int:
    """Write events of the named runs where TensorBoard and other programs read them."""
    from pathlib import Path

    from shakespeare_tui.files import check_output_file, write_output_file
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.event_log import read_events
    from shakespeare_tui.runs.export import TensorBoardWriter, events_as_csv, events_as_parquet
    from shakespeare_tui.runs.folder import find_run

    names = arguments.query[1:]
    files = [Path(name) for name in (arguments.csv, arguments.parquet) if name]
    if not names or not (files or arguments.tensorboard):
        raise UserError(
            "name a run and where to: runs export RUN --tensorboard DIR, --csv FILE or "
            "--parquet FILE"
        )
    if files and len(names) > 1:
        raise UserError("a file holds the events of one run; --tensorboard takes several")
    found = [find_run(name, runs_folder()) for name in names]
    for file in files:
        check_output_file(file, may_replace=arguments.force)
    written = []
    for run in found:
        if arguments.tensorboard:
            folder = Path(arguments.tensorboard) / run.name
            with TensorBoardWriter(folder) as writer:
                writer.clear()
                for event in read_events(run.events_path):
                    writer(event)
            written.append(str(folder))
        if arguments.csv:
            write_output_file(Path(arguments.csv), events_as_csv(read_events(run.events_path)))
        if arguments.parquet:
            content = events_as_parquet(read_events(run.events_path))
            write_output_file(Path(arguments.parquet), content)
    written += map(str, files)
    if arguments.json:
        print_json({"written": written})
    else:
        print_result("\n".join(written))
    return 0


def check_runs(names: list[str], *, as_json: bool) -> int:
    """Check the named runs, or all; 1 where anything is wrong."""
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.catalog import RunCatalog
    from shakespeare_tui.runs.folder import RunFolder, find_run
    from shakespeare_tui.training.verify import RunCheck, check_run

    root = runs_folder()
    if names:
        checks = [check_run(find_run(name, root)) for name in names]
    else:
        checks = [
            check_run(RunFolder(entry.path))
            if entry.info
            else RunCheck(name=entry.name, path=str(entry.path), problem=entry.problem)
            for entry in RunCatalog(root).entries()
        ]
    is_good = all(check.is_good for check in checks)
    if as_json:
        runs = [asdict(check) | {"is_good": check.is_good} for check in checks]
        print_json({"runs": runs, "is_good": is_good})
    else:
        for check in checks:
            print_result("\n".join(_check_lines(check)))
        if not checks:
            say(f"no runs in {root} yet; make one with: shakespeare-tui train --no-ui")
    return 0 if is_good else 1


def _check_lines(check: "RunCheck") -> list[str]:
    lines = [check.name if check.problem is None else f"{check.name}: {check.problem}"]
    lines += [
        f"  {checkpoint.reference}  {_verdict(checkpoint)}" for checkpoint in check.checkpoints
    ]
    if check.resumes_from is not None:
        lines.append(f"  resumes from step {check.resumes_from:,}")
    elif check.checkpoints:
        lines.append("  cannot be resumed")
    elif check.problem is None:
        lines.append("  no checkpoint yet")
    return lines


def _verdict(checkpoint: "CheckpointCheck") -> str:
    if checkpoint.problem is None and not checkpoint.resumes:
        return "generates text"
    if checkpoint.problem is None:
        return "good" if checkpoint.has_digests else "good, as far as can be told without digests"
    use = "generates text, cannot be resumed" if checkpoint.generates else "cannot be used"
    return f"{use}: {checkpoint.problem}"
