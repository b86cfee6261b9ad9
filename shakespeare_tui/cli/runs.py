"""``runs``: list all runs."""

import argparse
from typing import TYPE_CHECKING, Any, Literal

from shakespeare_tui.cli.console import fits, print_json, print_table, say
from shakespeare_tui.core.formatting import format_count, format_duration, format_loss, perplexity
from shakespeare_tui.core.run_state import STATE_LOOKS
from shakespeare_tui.core.visible_text import visible

if TYPE_CHECKING:
    from shakespeare_tui.core.run_catalog import RunEntry

_STYLES = {"success": "green", "warning": "yellow", "error": "red", "muted": "bright_black"}
_TEXTS = ("run", "state", "protocol", "corpus")
_LEFT_OUT_FIRST = ("perplexity", "parameters", "at step", "age", "corpus")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the command."""
    parser = subparsers.add_parser(
        "runs",
        help="list all runs",
        description="List all runs below the folder checkpoints (or $SHAKESPEARE_TUI_RUNS).",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a table, or JSON."""
    import time

    from shakespeare_tui.core.paths import runs_folder
    from shakespeare_tui.core.run_catalog import RunCatalog

    runs, now = RunCatalog(runs_folder()).entries(), time.time()
    if arguments.json:
        print_json({"runs": [_record(run, now) for run in runs]})
    elif runs:
        _print_table(runs, now)
    else:
        say(f"no runs in {runs_folder()} yet; make one with: shakespeare-tui train --no-ui")
    return 0


def _record(run: "RunEntry", now: float) -> dict[str, Any]:
    """A run as JSON: the loss is that of the checkpoint at ``best_step``, under ``protocol``."""
    best = run.best.info if run.best else None
    loss = best.loss if best else None
    return {
        "name": run.name,
        "path": str(run.path),
        "state": run.state,
        "step": run.step,
        "best_step": best.step if best else None,
        "val_loss": loss.value if loss else None,
        "protocol": loss.protocol if loss else None,
        "perplexity": perplexity(loss.value) if loss else None,
        "parameters": run.info.parameters if run.info else None,
        "corpus": run.info.corpus if run.info else None,
        "parent": run.info.parent if run.info else None,
        "age_seconds": now - _written(run),
        "problem": run.problem,
    }


def _written(run: "RunEntry") -> float:
    """When its latest checkpoint was written, or the run was made; Unix seconds."""
    return max((c.info.time for c in run.checkpoints if c.info), default=run.created)


def _print_table(runs: "list[RunEntry]", now: float) -> None:
    """The runs; columns that can be done without go where the terminal is narrow."""
    from rich.table import Table
    from rich.text import Text

    def table(titles: "list[str]") -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for title in titles:
            justify: Literal["left", "right"] = "left" if title in _TEXTS else "right"
            made.add_column(title, justify=justify, no_wrap=True)
        for run in runs:
            cells = _cells(run, now)
            cells["state"].stylize(_STYLES[STATE_LOOKS[run.state][1]])
            made.add_row(*(cells[title] for title in titles), style="dim" if run.problem else None)
        return made

    def _cells(run: "RunEntry", now: float) -> dict[str, Text]:
        best, info = run.best.info if run.best else None, run.info
        loss = best.loss if best else None
        figure = perplexity(loss.value) if loss else None
        texts = {
            "run": run.name,
            "state": f"{STATE_LOOKS[run.state][0]} {run.state}",
            "step": "-" if run.step is None else f"{run.step:,}",
            "val loss": format_loss(loss.value if loss else None),
            "protocol": loss.protocol or "-" if loss else "-",
            "at step": f"{best.step:,}" if best else "-",
            "perplexity": "-" if figure is None else f"{figure:.2f}",
            "parameters": format_count(info.parameters) if info else "-",
            "corpus": info.corpus if info else "-",
            "age": format_duration(now - _written(run)),
        }
        return {title: Text(visible(text)) for title, text in texts.items()}

    titles = list(_cells(runs[0], now))
    for title in _LEFT_OUT_FIRST:
        if fits(table(titles)):
            break
        titles.remove(title)
    print_table(table(titles))
    for run in runs:
        if run.problem:
            say(f"{run.name}: {run.problem}")
