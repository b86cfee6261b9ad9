"""What an experiment's table says in words: which variant is best, by what, and what went wrong."""

from shakespeare_tui.experiments.table import METRICS, ExperimentTable, Judgement, Spread
from shakespeare_tui.formatting import counted
from shakespeare_tui.runs.losses import BITS_PER_BYTE
from shakespeare_tui.visible_text import visible


def conclusions(table: ExperimentTable) -> list[str]:
    """What is best on each text and by what, and what went wrong."""
    lines = [_verdict(table, judgement) for judgement in table.judgements if judgement.ranked]
    if len(table.judgements) > 1:
        lines.append("losses on different texts do not compare: each has a best of its own")
    if any(len(variant.finished) > 1 for variant in table.variants):
        lines.append("± is the standard deviation over the seeds")
    pruned = [row for row in table.rows if row.state == "pruned"]
    if pruned:
        steps = ", ".join(f"{row.name} at step {row.pruned_at:,}" for row in pruned)
        lines.append(f"given up early, for they would not have won: {steps}")
    lines += [f"{row.name} failed: {row.failure}" for row in table.rows if row.failure]
    waiting = table.planned - table.count("finished", "failed", "pruned", "damaged")
    if waiting:
        lines.append(f"{counted(waiting, 'run')} of {table.planned:,} not finished")
    return [visible(line) for line in lines]


def _verdict(table: ExperimentTable, judgement: Judgement) -> str:
    """``best on tiny_shakespeare: d_model=128, val loss 1.8711 (exact), 0.0312 below the next``."""
    name = table.experiment.metric
    metric, first = METRICS[name], judgement.ranked[0]
    if judgement.unit == BITS_PER_BYTE:
        name, metric = "bits_per_byte", METRICS["bits_per_byte"]
    form = _FORMS.get(name, "{:.4f}")
    found = first.spread(name)
    assert found is not None
    protocol = f" ({judgement.protocol})" if judgement.protocol else ""
    head = "best" if judgement.best is not None else "alone"
    text = f"{head} on {judgement.corpus}: {first.variant.label}, {metric.label} "
    text += spread_text(found, form) + protocol
    second = judgement.ranked[1].spread(name) if judgement.best is not None else None
    if second is not None:
        margin = abs(found.mean - second.mean)
        text += f", {form.format(margin)} from the next, {judgement.ranked[1].variant.label}"
        if margin < 2 * max(found.deviation or 0.0, second.deviation or 0.0):
            text += ", which is within the spread of the seeds"
        elif found.deviation is None:
            text += " (one seed)"
    measured = [variant for variant in judgement.left_out if variant.losses]
    if measured and metric.of_loss is not None:
        others = ", ".join(variant.variant.label for variant in measured)
        text += f"; measured by other protocols and left out: {others}"
    return text


_FORMS = {
    "perplexity": "{:.2f}",
    "accuracy": "{:.2%}",
    "seconds": "{:.1f} s",
    "tokens_per_second": "{:,.0f}",
}


def spread_text(spread: Spread | None, form: str) -> str:
    """A mean, with the standard deviation where there are several; a dash of nothing."""
    if spread is None:
        return "-"
    mean = form.format(spread.mean)
    return mean if spread.deviation is None else f"{mean} ± {form.format(spread.deviation)}"
