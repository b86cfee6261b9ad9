"""Print an experiment's table: what differs, what came out, and which is best."""

import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from shakespeare_tui.cli.console import fits, print_result, print_table, terminal_width
from shakespeare_tui.experiments.conclusions import conclusions, spread_text
from shakespeare_tui.experiments.plan import short_name
from shakespeare_tui.experiments.table import (
    METRICS,
    TRIAL_LOOKS,
    ExperimentTable,
    RunRow,
    Spread,
    VariantRow,
)
from shakespeare_tui.formatting import (
    format_accuracy,
    format_count,
    format_duration,
    format_loss,
)
from shakespeare_tui.runs.losses import differ_in_tokenizer
from shakespeare_tui.visible_text import visible

if TYPE_CHECKING:
    pass

_STYLES = {"success": "green", "warning": "yellow", "error": "red", "muted": "bright_black"}
_LEFT_OUT_FIRST = ("accuracy", "tok/s", "parameters", "train loss", "perplexity", "time")
_TEXTS = ("", "run", "variant", "arm", "state")
_BEST = "★"
_MOST_DIFFERENCES = 12


def print_experiments(tables: Sequence[ExperimentTable]) -> None:
    """Print a list of experiments, a row each."""
    rows = [
        {
            "experiment": table.name,
            "runs": f"{table.count('finished', 'pruned')}/{table.planned}",
            "state": table.standing,
            "best": ", ".join(variant.variant.label for variant in table.best) or "-",
            "question": table.experiment.question,
        }
        for table in tables
    ]
    _print_rows(rows, left=("experiment", "state", "best", "question"), may_go=("question",))


def print_experiment(table: ExperimentTable, *, by_run: bool = False) -> None:
    """Print one experiment: a row for each variant, or each run, and what follows.

    Args:
        table: The experiment.
        by_run: A row for each run, also where variants have several seeds.
    """
    if table.experiment.question:
        _print_folded(table.experiment.question)
        print_result()
    has_seeds = any(len(variant.rows) > 1 for variant in table.variants)
    best = {id(variant) for variant in table.best}
    paths = table.differing[:_MOST_DIFFERENCES]
    rows: list[dict[str, str]] = []
    for variant in table.variants:
        mark = _BEST if id(variant) in best else ""
        if has_seeds and not by_run:
            rows.append({"": mark, **_variant_cells(table, variant, paths)})
        else:
            rows += [{"": mark, **_run_cells(table, row, paths, has_seeds)} for row in variant.rows]
    if rows:
        _print_rows(rows, left=(*_TEXTS, *map(short_name, paths)), may_go=_LEFT_OUT_FIRST)
        print_result()
    for line in conclusions(table):
        _print_folded(line)
    if (more := len(table.differing) - _MOST_DIFFERENCES) > 0:
        _print_folded(f"{more} more settings differ: --json has them")


def _print_folded(line: str) -> None:
    """A sentence, broken between words where stdout is a terminal."""
    if sys.stdout.isatty():
        line = textwrap.fill(line, terminal_width(), break_long_words=False)
    print_result(line)


def _run_cells(
    table: ExperimentTable, row: RunRow, paths: Sequence[str], has_seeds: bool
) -> dict[str, str]:
    figures = row.figures
    state = f"{TRIAL_LOOKS[row.state][0]} {row.state}"
    if row.state == "training" and figures.share is not None:
        state += f" {figures.share:.0%}"
    cells = {"run": row.name, "state": state, **_settings(table, row, paths)}
    if has_seeds:
        cells["seed"] = str(row.trial.seed)
    cells["steps"] = f"{figures.step:,}"
    cells["parameters"] = format_count(row.parameters) if row.parameters else "-"
    cells["train loss"] = format_loss(row.train_loss)
    cells["val loss"] = row.loss.short if row.loss else "-"
    if _is_mixed(table):
        cells["bits/byte"] = format_loss(row.bits_per_byte)
    cells["perplexity"] = _plain(METRICS["perplexity"].value(row), "{:.2f}")
    cells["accuracy"] = format_accuracy(row.accuracy)
    cells["tok/s"] = _plain(figures.tokens_per_second, "{:,.0f}")
    cells["time"] = "-" if row.seconds is None else format_duration(row.seconds)
    return cells


def _variant_cells(
    table: ExperimentTable, variant: VariantRow, paths: Sequence[str]
) -> dict[str, str]:
    rows, done = variant.rows, variant.finished

    def spread(value: Callable[[RunRow], float | None], form: str) -> str:
        return spread_text(Spread.of(map(value, done)), form)

    cells = {"state": _states(rows), **_settings(table, rows[0], paths)}
    cells["seeds"] = f"{len(done)}/{len(rows)}"
    cells["parameters"] = format_count(rows[0].parameters) if rows[0].parameters else "-"
    cells["train loss"] = spread(lambda row: row.train_loss, "{:.4f}")
    names = ("val_loss", "bits_per_byte") if _is_mixed(table) else ("val_loss",)
    for name in names:
        cells[METRICS[name].label] = spread_text(variant.spread(name), "{:.4f}")
    cells["perplexity"] = spread_text(variant.spread("perplexity"), "{:.2f}")
    cells["accuracy"] = spread(lambda row: row.accuracy, "{:.1%}")
    cells["tok/s"] = spread(lambda row: row.figures.tokens_per_second, "{:,.0f}")
    seconds = Spread.of(row.seconds for row in done)
    cells["time"] = "-" if seconds is None else format_duration(seconds.mean)
    return cells


def _settings(table: ExperimentTable, row: RunRow, paths: Sequence[str]) -> dict[str, str]:
    """The arm, and what differs between runs."""
    arm = {"arm": row.trial.variant.arm} if table.experiment.arms else {}
    return arm | {short_name(path): row.texts[path] or "empty" for path in paths}


def _states(rows: Sequence[RunRow]) -> str:
    states = dict.fromkeys(row.state for row in rows)
    return ", ".join(f"{TRIAL_LOOKS[state][0]} {state}" for state in states)


def _is_mixed(table: ExperimentTable) -> bool:
    measured = [row.unit for row in table.rows if row.losses]
    return table.experiment.metric == "bits_per_byte" or differ_in_tokenizer(measured)


def _plain(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _print_rows(
    rows: Sequence[Mapping[str, str]], *, left: Sequence[str], may_go: Sequence[str]
) -> None:
    """Rows with one set of titles; some columns go where the terminal is narrow."""
    from rich.table import Table
    from rich.text import Text

    looks = {f"{sign} {state}": _STYLES[tone] for state, (sign, tone) in TRIAL_LOOKS.items()}

    def table(titles: Sequence[str]) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for title in titles:
            justify: Literal["left", "right"] = "left" if title in left else "right"
            made.add_column(title, justify=justify, no_wrap=True)
        for row in rows:
            style = "bold" if row.get("") else None
            cells = (Text(visible(row[title]), looks.get(row[title], "")) for title in titles)
            made.add_row(*cells, style=style)
        return made

    titles = list(rows[0])
    for title in may_go:
        if fits(table(titles)):
            break
        if title in titles:
            titles.remove(title)
    print_table(table(titles))
