"""``runs``: list all runs."""

import argparse

from shakespeare_tui.cli.console import print_json, say


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
    from dataclasses import asdict

    from shakespeare_tui.core.paths import runs_folder
    from shakespeare_tui.core.run_summary import summarise_runs

    summaries = summarise_runs(runs_folder())
    if arguments.json:
        print_json({"runs": [asdict(summary) for summary in summaries]})
        return 0
    if not summaries:
        say(f"no runs in {runs_folder()} yet; make one with: shakespeare-tui train --no-ui")
        return 0
    from shakespeare_tui.core.formatting import format_count, format_duration

    rows = [("run", "step", "val_loss", "perplexity", "parameters", "corpus", "state", "age")]
    for s in summaries:
        rows.append(
            (
                s.name,
                "-" if s.step is None else f"{s.step:,}",
                s.loss.short if s.loss else "-",
                "-" if s.perplexity is None else f"{s.perplexity:.2f}",
                "-" if s.parameters is None else format_count(s.parameters),
                s.corpus or "-",
                s.state,
                format_duration(s.age_seconds),
            )
        )
    is_number = (False, True, True, True, True, False, False, True)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        )
        print("  ".join(cells).rstrip())
    for s in summaries:
        if s.problem:
            say(f"{s.name}: {s.problem}")
    return 0
