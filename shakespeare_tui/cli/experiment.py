"""``experiment``: several runs that answer one question; run, look at, and stop them."""

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from shakespeare_tui.cli.completion import completes, config_names, experiment_names, yaml_files
from shakespeare_tui.cli.config import add_overrides
from shakespeare_tui.cli.console import (
    print_grid,
    print_json,
    print_result,
    say,
    whole_number,
)
from shakespeare_tui.cli.report import add_options
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import counted

if TYPE_CHECKING:
    from shakespeare_tui.experiments.folder import ExperimentFolder
    from shakespeare_tui.experiments.plan import Changes, Definition
    from shakespeare_tui.experiments.runner import Executor, RunPaths, Work
    from shakespeare_tui.experiments.table import ExperimentTable


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "experiment",
        help="train several runs that answer one question, and compare them",
        description="Work with experiments: several runs that answer one question, told in one "
        "YAML file. What experiments are and what stands in a file is in docs/experiments.md.",
        epilog="Example: shakespeare-tui experiment run sensitivity --minutes 1 --limit 12",
    )
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    _add_run(actions)
    status = actions.add_parser(
        "status",
        help="list experiments, or the runs of one with their figures",
        description="List the experiments below the folder experiments (or "
        "$SHAKESPEARE_TUI_EXPERIMENTS); of one, its runs as they stand, the best marked.",
    )
    completes(status.add_argument("experiment", nargs="?", metavar="NAME"), experiment_names)
    status.add_argument(
        "--runs", action="store_true", help="a row for each run, also where seeds are several"
    )
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(run=run_status)
    stop = actions.add_parser(
        "stop",
        help="have all that train it save and stop",
        description="Have every process that works on an experiment, on any machine, save its runs "
        "and stop. `experiment run NAME` goes on.",
    )
    completes(stop.add_argument("experiment", metavar="NAME"), experiment_names)
    stop.add_argument("--json", action="store_true", help="print one JSON object")
    stop.set_defaults(run=run_stop)

    add = actions.add_parser(
        "add",
        help="add a run to one, or queue a config",
        description="Add a single run to an experiment: the settings in which it differs from the "
        "others, or with --config a whole config, for which a new experiment is begun where there "
        "is none of the name. Whoever works on the experiment trains it in its turn.",
        epilog="Example: shakespeare-tui experiment add sensitivity d_model=96 seed=2",
    )
    completes(add.add_argument("experiment", metavar="NAME"), experiment_names)
    add.add_argument(
        "settings", nargs="*", metavar="KEY=VALUE", help="its settings; arm=NAME takes an arm's"
    )
    config = add.add_argument("--config", metavar="NAME|FILE", help="a preset or a YAML file")
    completes(config, config_names)
    add_overrides(add)
    add.add_argument("--json", action="store_true", help="print one JSON object")
    add.set_defaults(run=run_add)

    report = actions.add_parser(
        "report",
        help="write one as a page to read",
        description="The same as `shakespeare-tui report`: a page, a text and pictures.",
    )
    add_options(report)
    schema = actions.add_parser(
        "schema",
        help="print the JSON Schema of experiment files",
        description="Print the JSON Schema of experiment files, with which editors complete them.",
        epilog="To use it, save it beside the file as experiment.schema.json and begin the file "
        "with: # yaml-language-server: $schema=experiment.schema.json",
    )
    schema.set_defaults(run=run_schema)


def _add_run(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = actions.add_parser(
        "run",
        help="train the runs of an experiment, or go on with it",
        description="Train the runs of a YAML file, of an experiment that ships with the program, "
        "or of one that was begun: whatever is not finished goes on exactly where it stopped, "
        "however that was. Several processes, also of several machines with a disk in common, "
        "share the runs of one experiment. Exits with 1 where a run failed, with 130 where "
        "something is left to do.",
        epilog="Example: shakespeare-tui experiment run two-corpora-short --minutes 3",
    )
    spec = parser.add_argument(
        "experiment", metavar="FILE|NAME", help="a YAML file, or an experiment's name"
    )
    completes(spec, lambda prefix: [*yaml_files(prefix), *experiment_names(prefix)])
    parser.add_argument("--name", help="of the experiment; default: the file's")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        metavar="TIME",
        help="of each run, in place of the file's budget; an arm's own is scaled with it",
    )
    length.add_argument("--max-steps", metavar="N", help="of each run, in place of the budget")
    length.add_argument("--tokens", metavar="N", help="of each run, in place of the budget")
    parser.add_argument("--seeds", metavar="N,N,…", help="in place of the file's")
    add_overrides(parser)
    parser.add_argument(
        "--limit", type=whole_number, metavar="N", help="the first N runs; of a search, N trials"
    )
    parser.add_argument("--jobs", type=whole_number, metavar="N", help="train N runs at a time (1)")
    parser.add_argument(
        "--threads",
        type=whole_number,
        metavar="N",
        help="of each run; default: the cores shared among the jobs. What was begun keeps its own",
    )
    parser.add_argument(
        "--on", choices=("local", "ray"), default="local", help="where the runs are trained"
    )
    parser.add_argument("--retry", action="store_true", help="try runs again that failed")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="where the file has changed: leave out runs that it does not ask for any more",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the runs with memory and time, train nothing"
    )
    parser.add_argument(
        "--tokens-per-second",
        type=float,
        metavar="N",
        help="with --dry-run: the first run's speed, instead of measuring it; for other machines",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run_run)


def run_run(arguments: argparse.Namespace) -> int:
    """Train what is left of an experiment and print its table."""
    for option in ("limit", "jobs", "threads"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise UserError(f"--{option} must be at least 1, got {value}")
    folder, definition = _definition(arguments)
    if arguments.dry_run:
        from shakespeare_tui.cli.experiment_plan import print_plan

        return print_plan(
            folder.name,
            definition,
            tokens_per_second=arguments.tokens_per_second,
            as_json=arguments.json,
        )
    if arguments.tokens_per_second is not None:
        raise UserError("--tokens-per-second belongs to --dry-run")
    return _train(arguments, folder, definition)


def _definition(arguments: argparse.Namespace) -> "tuple[ExperimentFolder, Definition]":
    """The experiment's folder and what it is to be: that of a file, or of one that was begun."""
    import dataclasses
    from pathlib import Path

    from shakespeare_tui.experiments.folder import ExperimentFolder, new_folder
    from shakespeare_tui.experiments.plan import read_definition
    from shakespeare_tui.experiments.schema import shipped_experiments
    from shakespeare_tui.paths import experiments_folder

    changes = _changes(arguments)
    begun = ExperimentFolder(experiments_folder() / arguments.experiment)
    is_shipped = arguments.experiment in shipped_experiments()
    is_new = Path(arguments.experiment).is_file() or (is_shipped and arguments.name is not None)
    if begun.exists and not is_new:
        if arguments.name is not None:
            raise UserError(f"experiment {begun.name} was begun; a new --name needs its file")
        definition = begun.record().definition
        merged = definition.changes.with_later(changes)
        return begun, dataclasses.replace(definition, changes=merged)
    definition = read_definition(arguments.experiment, changes)
    name = arguments.name or Path(definition.filename).stem
    return new_folder(name, experiments_folder()), definition


def _changes(arguments: argparse.Namespace) -> "Changes":
    from pydantic import ValidationError

    from shakespeare_tui.experiments.plan import Changes
    from shakespeare_tui.experiments.schema import Budget

    given = {
        "steps": arguments.max_steps,
        "minutes": arguments.minutes,
        "tokens": arguments.tokens,
    }
    given = {name: value for name, value in given.items() if value is not None}
    try:
        budget = Budget.model_validate(given) if given else None
    except ValidationError as error:
        name, value = next(iter(given.items()))
        option = "max-steps" if name == "steps" else name
        said = error.errors()[0]["msg"].replace("Input should", "must")
        raise UserError(f"--{option} {said}, got {value}") from None
    seeds = tuple(_seed(text) for text in (arguments.seeds or "").split(",") if text.strip())
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {arguments.seeds} has a seed twice")
    return Changes(
        budget=budget, overrides=tuple(arguments.overrides), seeds=seeds, limit=arguments.limit
    )


def _seed(text: str) -> int:
    if not text.strip().isdecimal() or int(text) >= 2**63:
        raise UserError(f"--seeds must be whole numbers such as 1,2,3, got {text!r}")
    return int(text)


def _train(
    arguments: argparse.Namespace, folder: "ExperimentFolder", definition: "Definition"
) -> int:
    from shakespeare_tui.cli.experiment_table import print_experiment
    from shakespeare_tui.experiments.runner import threads_per_job
    from shakespeare_tui.paths import runs_folder

    threads = arguments.threads or threads_per_job(arguments.jobs or 1)
    if definition.experiment.search is not None:
        definition.ends()  # values that can never go together are refused at once
    record, left_out = folder.prepare(
        definition, runs_folder(), threads=threads, may_replace=arguments.replace
    )
    if left_out:
        say(f"left out: {', '.join(left_out)}; they stay among the runs")
    if threads != record.threads and (arguments.jobs or arguments.threads):
        each = counted(record.threads, "thread")
        say(f"note: each run keeps {each}, with which the experiment was begun: others round apart")
    table = train_runs(folder, jobs=arguments.jobs, retry=arguments.retry, on=arguments.on)
    if arguments.json:
        print_json(table.as_json())
    else:
        print_experiment(table)
    return exit_code(folder, table)


def train_runs(
    folder: "ExperimentFolder",
    *,
    jobs: int | None = None,
    retry: bool = False,
    on: str = "local",
) -> "ExperimentTable":
    """Train what is left of an experiment's runs, told as it goes; signals save and stop them.

    Args:
        folder: The experiment's.
        jobs: How many at a time; None for one, or on a cluster for as many as there is room for.
        retry: Whether runs are tried again that failed.
        on: Where they are trained: ``local`` or ``ray``.

    Returns:
        What became of them.
    """
    from shakespeare_tui.cli.experiment_console import ExperimentConsole
    from shakespeare_tui.experiments.runner import Runner, RunPaths
    from shakespeare_tui.experiments.table import ExperimentReader
    from shakespeare_tui.paths import runs_folder

    root = runs_folder()
    paths = RunPaths(folder, root)
    work = _work(folder, paths, retry=retry)
    with (
        _executor(on, jobs, folder.record().threads) as (executor, places),
        ExperimentConsole(folder, places) as console,
    ):
        runner = Runner(folder, work, paths, executor, jobs=places, listener=console)
        with _signals_stop(runner):
            runner.run()
    return ExperimentReader(folder, root).read()


def exit_code(folder: "ExperimentFolder", table: "ExperimentTable") -> int:
    """What an experiment's runs came to, what is left being said: 0, 1 (failed) or 130 (left)."""
    from shakespeare_tui.experiments.table import OVER

    failed = {row.trial.run for row in table.rows if row.state in ("failed", "damaged")}
    left = [row for row in table.rows if row.state not in OVER]
    if left and all(failed.intersection(row.trial.teachers) for row in left):
        say(
            f"{counted(len(left), 'run')} {'is' if len(left) == 1 else 'are'} left, whose teachers "
            "failed; try those again: "
            f"shakespeare-tui experiment run {folder.name} --retry"
        )
        return 1
    if not table.is_complete:
        say(f"go on with: shakespeare-tui experiment run {folder.name}")
        return 130
    return 1 if table.count("failed", "damaged") else 0


def _work(folder: "ExperimentFolder", paths: "RunPaths", *, retry: bool) -> "Work":
    from shakespeare_tui.experiments.runner import PlannedWork

    if folder.record().definition.experiment.search is None:
        return PlannedWork(folder, paths, retry=retry)
    from shakespeare_tui.experiments.search import SearchWork

    if retry:
        raise UserError("a search tries no point again that failed; it goes on with others")
    return SearchWork(folder, paths)


@contextlib.contextmanager
def _executor(on: str, jobs: int | None, threads: int) -> "Iterator[tuple[Executor, int]]":
    """Where runs are trained, and how many at a time."""
    from shakespeare_tui.experiments.runner import LocalExecutor

    if on == "local":
        yield LocalExecutor(), jobs or 1
        return
    from shakespeare_tui.experiments.on_ray import ray_cluster

    with ray_cluster(threads) as (executor, places):
        yield executor, jobs or places


@contextlib.contextmanager
def _signals_stop(runner: Any) -> Iterator[None]:
    from shakespeare_tui.cli.signals import signals_stop

    with signals_stop(
        runner.stop, "saving the runs; press Ctrl-C again to abandon what they do meanwhile"
    ):
        yield


def run_status(arguments: argparse.Namespace) -> int:
    """Print what there is, or the table of one."""
    from shakespeare_tui.cli.experiment_table import print_experiment, print_experiments
    from shakespeare_tui.experiments.folder import find_experiment, list_experiments
    from shakespeare_tui.experiments.table import ExperimentReader
    from shakespeare_tui.paths import experiments_folder, runs_folder

    root = experiments_folder()
    if arguments.experiment is not None:
        table = ExperimentReader(find_experiment(arguments.experiment, root), runs_folder()).read()
        if arguments.json:
            print_json(table.as_json())
        else:
            print_experiment(table, by_run=arguments.runs)
        return 0
    found = list_experiments(root)
    tables = []
    for folder in found:
        try:
            tables.append(ExperimentReader(folder, runs_folder()).read())
        except UserError as error:  # the others are none the worse
            say(f"{folder.name}: {error}")
    if arguments.json:
        print_json({"experiments": [table.as_json() for table in tables]})
    elif tables:
        print_experiments(tables)
    elif not found:
        say(f"no experiments in {root} yet; make one with: shakespeare-tui experiment run FILE")
        print_shipped()
    return 0


def print_shipped() -> None:
    """Say which experiments come with the program."""
    from shakespeare_tui.experiments.schema import experiment_description, shipped_experiments

    print_grid([(name, experiment_description(name)) for name in shipped_experiments()])


def run_stop(arguments: argparse.Namespace) -> int:
    """Have all that work on an experiment stop."""
    from shakespeare_tui.experiments.folder import find_experiment
    from shakespeare_tui.experiments.runner import stop_experiment
    from shakespeare_tui.paths import experiments_folder, runs_folder

    folder = find_experiment(arguments.experiment, experiments_folder())
    stopping = stop_experiment(folder, runs_folder())
    if arguments.json:
        print_json({"experiment": folder.name, "stopping": stopping})
    elif stopping:
        say(f"{counted(stopping, 'run')} will save and stop")
    else:
        say(f"no run of {folder.name} is in training; what works on it will begin none")
    return 0


def run_add(arguments: argparse.Namespace) -> int:
    """Add a run, and say how to train it."""
    from pathlib import Path

    from shakespeare_tui.config.load import load_config
    from shakespeare_tui.experiments.compose import add_config, read_added
    from shakespeare_tui.experiments.folder import find_experiment
    from shakespeare_tui.experiments.runner import threads_per_job
    from shakespeare_tui.paths import experiments_folder, runs_folder

    root, runs_root = experiments_folder(), runs_folder()
    if arguments.config is not None:
        trial = add_config(
            load_config(arguments.config, [*arguments.settings, *arguments.overrides]),
            Path(arguments.config).stem,
            root,
            runs_root,
            experiment=arguments.experiment,
            threads=threads_per_job(1),
        )
    else:
        folder = find_experiment(arguments.experiment, root)
        words = [*arguments.settings, *arguments.overrides]
        added = read_added(words, folder.record().definition)
        trial = folder.add_run(added, runs_root)
    if arguments.json:
        print_json({"experiment": arguments.experiment, "run": trial.run})
    else:
        print_result(f"{trial.run}: {trial.variant.label}, seed {trial.seed}")
        say(f"train it with: shakespeare-tui experiment run {arguments.experiment}")
    return 0


def run_schema(arguments: argparse.Namespace) -> int:
    """Print the JSON Schema."""
    from pydantic.json_schema import GenerateJsonSchema

    from shakespeare_tui.experiments.schema import Experiment

    print_json({"$schema": GenerateJsonSchema.schema_dialect, **Experiment.model_json_schema()})
    return 0
