"""``experiment run --dry-run``: the runs with size, memory and time, before any is trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shakespeare_tui.cli.console import print_json, print_result, print_table, progress, say
from shakespeare_tui.config.estimate.figures import (
    CorpusFigures,
    Preflight,
    expects_half,
    measure_corpus,
    preflight,
)
from shakespeare_tui.config.estimate.speed import Speeds, flops_per_token, speed_key
from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import RunFailedError, UserError, never
from shakespeare_tui.experiments.plan import Definition, PlannedRun
from shakespeare_tui.formatting import (
    counted,
    format_bytes,
    format_count,
    format_duration,
)
from shakespeare_tui.machine import free_memory, has_bf16_products
from shakespeare_tui.visible_text import visible

_MOST_MEASURED = 4
"""Configs whose speed is measured, a second each; that of others is reckoned from them."""


@dataclass(frozen=True)
class _Estimate:
    """A run with what it will be; ``is_measured`` where its very speed was."""

    run: PlannedRun
    label: str
    corpus: CorpusFigures
    figures: Preflight
    is_measured: bool


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
    search = definition.experiment.search
    runs = definition.runs() if search is None else definition.ends()
    estimates = _estimates(runs, tokens_per_second)
    count = len(runs)
    seconds = [estimate.figures.seconds for estimate in estimates]
    known = [value for value in seconds if value is not None]
    total = sum(known) if len(known) == len(seconds) else None
    if search is not None:
        count = search.trials * len(definition.seeds)
        total = None if total is None or not runs else total / len(runs) * count
    if as_json:
        print_json(
            {
                "experiment": name,
                "question": definition.experiment.question,
                "count": count,
                "seconds": total,
                "runs": [_record(estimate) for estimate in estimates],
            }
        )
        return 0
    _print(definition, estimates)
    about = "" if total is None else f", about {format_duration(total)} on this machine"
    if search is not None:
        trials = f"a search of {counted(search.trials, 'trial')}, {counted(count, 'run')} at most"
        print_result(f"\n{trials}{about}; its smallest and largest values are above")
    else:
        print_result(f"\n{counted(count, 'run')}{about}, one after the other or several at a time")
    for note in dict.fromkeys(_notes(estimates)):
        say(f"note: {note}")
    return 0


def _estimates(runs: Sequence[PlannedRun], tokens_per_second: float | None) -> list[_Estimate]:
    corpora: dict[object, CorpusFigures] = {}

    def corpus_of(config: Config) -> CorpusFigures:
        key = (config.data.corpus, config.data.validation, config.tokens)
        if key not in corpora:
            corpora[key] = measure_corpus(*key)
        return corpora[key]

    speeds = Speeds()
    pairs = [(run.config, corpus_of(run.config).vocab_size) for run in runs]
    if tokens_per_second is None:
        _measure(pairs, speeds)
    elif pairs:
        speeds.add(*pairs[0], tokens_per_second)
    several = len({run.seed for run in runs}) > 1
    estimates = []
    for run, (config, vocab_size) in zip(runs, pairs, strict=True):
        speed = speeds.find(config, vocab_size)
        figures = preflight(
            config,
            corpus_of(config),
            tokens_per_second=speed.tokens_per_second if speed else None,
            is_half=expects_half(config, is_cpu=True, has_bf16=has_bf16_products()),
        )
        label = run.variant.label + (f", seed {run.seed}" if several else "")
        is_measured = bool(speed and speed.is_measured)
        estimates.append(_Estimate(run, label, corpus_of(config), figures, is_measured))
    return estimates


def _measure(pairs: Sequence[tuple[Config, int]], speeds: Speeds) -> None:
    """The speed of some of the configs, the smallest and the largest among them."""
    from shakespeare_tui.training.measure_speed import measure_speed

    different = list({(speed_key(config), size): (config, size) for config, size in pairs}.values())
    different.sort(key=lambda pair: flops_per_token(*pair))
    last = len(different) - 1
    most = min(_MOST_MEASURED, len(different))
    chosen = [different[round(n * last / max(1, most - 1))] for n in range(most)]
    with progress("measuring the speed", "configs") as report:
        for number, (config, vocab_size) in enumerate(chosen):
            report(number, most)
            try:
                speeds.add(config, vocab_size, measure_speed(config, never, vocab_size)[0])
            except (UserError, RunFailedError) as error:
                say(f"note: a speed could not be measured: {error}")


def _print(definition: Definition, estimates: Sequence[_Estimate]) -> None:
    from rich.table import Table
    from rich.text import Text

    if definition.experiment.question:
        print_result(f"{definition.experiment.question}\n")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("variant", overflow="fold")
    for title in ("parameters", "memory", "steps", "tokens", "epochs", "tok/s", "time"):
        table.add_column(title, justify="right", no_wrap=True)
    for estimate in estimates:
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


def _record(estimate: _Estimate) -> dict[str, Any]:
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


def _notes(estimates: Sequence[_Estimate]) -> Iterator[str]:
    free = free_memory()
    for estimate in estimates:
        if estimate.figures.problem or estimate.corpus.note:
            yield f"{estimate.run.config.data.corpus}: " + (
                estimate.figures.problem or estimate.corpus.note
            )
        if free is not None and estimate.figures.memory.total > free:
            yield f"{estimate.label}: {estimate.figures.memory.words(free)}"
