"""``experiment run --dry-run``: the runs with size, memory and time, before any is trained."""

from typing import Any

from shakespeare_tui.cli.console import print_json, print_result, print_table, progress, say
from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import never
from shakespeare_tui.experiments.estimate import Estimate, Plan, Planner
from shakespeare_tui.experiments.plan import Definition
from shakespeare_tui.formatting import (
    counted,
    format_bytes,
    format_count,
    format_duration,
)
from shakespeare_tui.visible_text import visible


def print_plan(
    name: str, definition: Definition, *, tokens_per_second: float | None, as_json: bool
) -> int:
    """Print every run of an experiment, or the ends of a search; nothing is trained.

    Args:
        name: The experiment's.
        definition: What it is.
        tokens_per_second: The first run's speed, in place of a measurement.
        as_json: Print JSON.
    """
    with progress("measuring the speed", "configs") as report:
        plan = Planner().plan(
            definition, measure=_measure, tokens_per_second=tokens_per_second, report=report
        )
    search = definition.experiment.search
    if as_json:
        print_json(
            {
                "experiment": name,
                "question": definition.experiment.question,
                "count": plan.count,
                "seconds": plan.seconds,
                "runs": [_record(estimate) for estimate in plan.estimates],
            }
        )
        return 0
    _print(plan)
    seconds = plan.seconds
    about = "" if seconds is None else f", about {format_duration(seconds)} on this machine"
    runs = counted(plan.count, "run")
    if search is not None:
        trials = f"a search of {counted(search.trials, 'trial')}, {runs} at most"
        print_result(f"\n{trials}{about}; its smallest and largest values are above")
    else:
        print_result(f"\n{runs}{about}, one after the other or several at a time")
    for note in dict.fromkeys(plan.notes()):
        say(f"note: {note}")
    return 0


def _measure(config: Config, vocab_size: int) -> float:
    from shakespeare_tui.training.measure_speed import measure_speed

    return measure_speed(config, never, vocab_size)[0]


def _print(plan: Plan) -> None:
    from rich.table import Table
    from rich.text import Text

    if question := plan.definition.experiment.question:
        print_result(f"{question}\n")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("variant", overflow="fold")
    for title in ("parameters", "memory", "steps", "tokens", "epochs", "tok/s", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    for estimate in plan.estimates:
        figures = estimate.figures
        about = "" if estimate.is_measured else "~"
        speed, seconds = figures.tokens_per_second, figures.seconds
        table.add_row(
            Text(visible(estimate.label)),
            format_count(figures.parameter_count),
            format_bytes(figures.memory.total),
            "-" if figures.steps is None else f"{'~' * figures.is_budget}{figures.steps:,.0f}",
            "-" if figures.tokens is None else format_count(figures.tokens),
            "-" if figures.epochs is None else f"{figures.epochs:.2g}",
            "-" if speed is None else f"{about}{speed:,.0f}",
            "-"
            if seconds is None
            else f"{'' if figures.is_budget else about}{format_duration(seconds)}",
        )
    print_table(table)


def _record(estimate: Estimate) -> dict[str, Any]:
    figures, run = estimate.figures, estimate.run
    return {
        "variant": run.variant.label,
        "arm": run.variant.arm or None,
        "values": dict(run.variant.values),
        "seed": run.seed,
        "parameters": figures.parameter_count,
        "memory_bytes": figures.memory.total,
        "steps": figures.steps,
        "tokens": figures.tokens,
        "tokens_per_second": figures.tokens_per_second,
        "seconds": figures.seconds,
        "note": estimate.corpus.note or None,
        "problem": figures.problem or None,
        "config": run.config.model_dump(mode="json"),
    }
