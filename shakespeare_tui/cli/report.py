"""``report``: one experiment, or several runs, as a page to read, a text and pictures."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from shakespeare_tui.cli.completion import completes, experiment_names, run_names
from shakespeare_tui.cli.console import print_json, print_result, say
from shakespeare_tui.errors import UserError

if TYPE_CHECKING:
    from shakespeare_tui.experiments.table import ExperimentTable, RunRow

_SAMPLE_TOKENS = 200


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "report",
        help="write an experiment, or several runs, as a page to read",
        description="Write what came of an experiment, or of any runs, as one HTML page that needs "
        "no network, a Markdown text, and PNG pictures for light and dark pages: the answer with "
        "its uncertainty, curves, final losses, what each setting does, speed, generalisation, "
        "published figures of the same protocol, samples, and every number with its run.",
        epilog="Example: shakespeare-tui report optimizers --output optimizers-report",
    )
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes, also as an action of ``experiment``."""
    names = parser.add_argument(
        "names", metavar="EXPERIMENT|RUN", nargs="+", help="an experiment, or one or more runs"
    )
    completes(names, _names)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where to write (reports/NAME); an earlier report there is replaced",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def _names(prefix: str) -> Iterable[str]:
    return [*experiment_names(prefix), *run_names(prefix)]


def run(arguments: argparse.Namespace) -> int:
    """Read, write, and say where."""
    import time

    from shakespeare_tui.report.content import report_of
    from shakespeare_tui.report.write import check_folder, write_report

    table = _table(arguments.names)
    name = arguments.names[0].rstrip("/").rpartition("/")[2]
    if len(arguments.names) > 1:
        name += f"-and-{len(arguments.names) - 1}-more"
    folder = arguments.output or Path("reports") / name
    check_folder(folder)
    report = report_of(table, now=time.time(), write_sample=_write_sample)
    files = write_report(report, table, folder)
    if arguments.json:
        print_json(
            {
                "title": report.title,
                "answer": list(report.answer),
                "cautions": list(report.cautions),
                "files": [str(path) for path in files],
            }
        )
        return 0
    for line in (*report.answer, *report.cautions):
        print_result(line)
    say(f"{files[0]}, {files[1].name} and {len(files) - 2} pictures beside them")
    return 0


def _table(names: list[str]) -> "ExperimentTable":
    """The table of one experiment, or of runs that were named.

    Raises:
        UserError: There are no such runs, or nothing was trained yet.
    """
    from shakespeare_tui.experiments.folder import find_experiment, list_experiments
    from shakespeare_tui.experiments.table import ExperimentReader, table_of_runs
    from shakespeare_tui.paths import experiments_folder, runs_folder
    from shakespeare_tui.runs.catalog import RunCatalog
    from shakespeare_tui.runs.folder import find_run

    root = experiments_folder()
    known = {folder.name for folder in list_experiments(root)}
    is_path = len(names) == 1 and (Path(names[0]) / "experiment.json").is_file()
    if is_path or (len(names) == 1 and names[0] in known):
        table = ExperimentReader(find_experiment(names[0], root), runs_folder()).read()
    else:
        if mixed := [name for name in names if name in known]:
            raise UserError(f"{mixed[0]} is an experiment; report it by itself, or name runs alone")
        found = {}
        for name in names:
            path = find_run(name, runs_folder()).path.resolve()
            if path not in found:
                entries = RunCatalog(path.parent).entries()
                found[path] = next(e for e in entries if e.path.resolve() == path)
        damaged = [entry for entry in found.values() if entry.config is None]
        if damaged:
            raise UserError(f"run {damaged[0].name} is damaged: {damaged[0].problem}")
        table = table_of_runs(list(found.values()))
    if not any(row.history.started for row in table.rows):
        raise UserError(f"nothing of {table.name} was trained yet; there is nothing to report")
    return table


def _write_sample(row: "RunRow", prompt: str) -> str:
    from shakespeare_tui.library import load

    say(f"{row.name} left no samples; it writes one")
    try:
        model = load(str(row.path))
        return "".join(model.stream(prompt, max_tokens=_SAMPLE_TOKENS))
    except UserError as error:
        say(f"note: {error}")
        return ""
