"""What a report says: sections of sentences, tables and samples, each number with its run."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shakespeare_tui import __version__
from shakespeare_tui.experiments.plan import short_name, value_text
from shakespeare_tui.experiments.table import (
    METRICS,
    ExperimentTable,
    Judgement,
    RunRow,
    Spread,
    VariantRow,
)
from shakespeare_tui.formatting import (
    counted,
    format_accuracy,
    format_count,
    format_duration,
    format_loss,
)
from shakespeare_tui.report.readings import (
    CountedTokens,
    axis_lines,
    common_level,
    convergence,
    counted_tokens,
    groups_of,
    metric_of,
    protocol_spread,
    published_figures,
    welch_interval,
)
from shakespeare_tui.runs.events import SampleGenerated
from shakespeare_tui.runs.folder import pretrained_note
from shakespeare_tui.runs.losses import BITS_PER_BYTE, EXACT, NANOGPT

_FORMS = {
    "perplexity": "{:.2f}",
    "accuracy": "{:.2%}",
    "seconds": "{:.1f} s",
    "tokens_per_second": "{:,.0f}",
}
_METRIC_WORDS = {
    "val_loss": ("validation loss", " nats per token"),
    "train_loss": ("training loss", " nats per token"),
    "bits_per_byte": ("validation loss", " bits per byte"),
    "tokens_per_second": ("speed", " tokens per second"),
    "seconds": ("training time", ""),
}
_PROTOCOLS = {
    EXACT: "every token of the validation text but its first, once, in windows side by side",
    NANOGPT: "windows at random places of the validation text, as nanoGPT evaluates; an estimate",
}
_MOST_SAMPLES = 3
_MOST_PUBLISHED_VARIANTS = 6


@dataclass(frozen=True)
class Row:
    """Cells of a table; ``is_best`` marks what won."""

    cells: tuple[str, ...]
    is_best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows below a head; the first ``texts`` columns are words, the others numbers."""

    head: tuple[str, ...]
    rows: tuple[Row, ...]
    texts: int = 1
    note: str = ""


@dataclass(frozen=True)
class Sample:
    """What a model wrote."""

    source: str
    prompt: str
    text: str


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        name: As an anchor.
        title: Its heading.
        text: Paragraphs before everything else.
        picture: The name of its picture; empty where there is none.
        caption: What the picture shows, and of which runs.
        tables: After the picture.
        samples: Last.
    """

    name: str
    title: str
    text: tuple[str, ...] = ()
    picture: str = ""
    caption: str = ""
    tables: tuple[Table, ...] = ()
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Report:
    """All of it.

    Attributes:
        title: The question, or what it is about.
        subtitle: Which experiment or runs.
        made: When it was written.
        version: Of the program.
        answer: The question's, in sentences.
        cautions: What to bear in mind about it.
        figures: The few numbers that matter, each a label, a value and a remark.
        sections: The rest.
        tokens: Counts of the corpora's tokens, for the picture.
    """

    title: str
    subtitle: str
    made: str
    version: str
    answer: tuple[str, ...]
    cautions: tuple[str, ...]
    figures: tuple[tuple[str, str, str], ...]
    sections: tuple[Section, ...]
    tokens: tuple[CountedTokens, ...] = field(default=(), repr=False)


WriteSample = Callable[[RunRow, str], str]
"""Has a run's best checkpoint continue a prompt."""


def report_of(table: ExperimentTable, *, now: float, write_sample: WriteSample) -> Report:
    """Everything that a report says.

    Args:
        table: The runs.
        now: When it is written, Unix seconds.
        write_sample: Called for runs that are best and left no sample.
    """
    tokens = tuple(counted_tokens(table))
    search = table.experiment.search is not None
    builders: list[Section | None] = [
        _results(table),
        _curves(table),
        _search(table) if search else None,
        _sensitivity(table),
        _convergence(table),
        _gap(table),
        _speed(table),
        _references(table),
        _published(table),
        _tokens(tokens),
        _samples(table, write_sample),
        _settings(table),
        _runs(table),
    ]
    return Report(
        title=table.experiment.question or f"Comparison of {counted(len(table.rows), 'run')}"
        if len(table.rows) > 1 or table.experiment.question
        else f"The run {table.name}",
        subtitle=_subtitle(table),
        made=time.strftime("%Y-%m-%d %H:%M", time.localtime(now)),
        version=__version__,
        answer=tuple(_answer(table)),
        cautions=tuple(_cautions(table)),
        figures=tuple(_figures(table)),
        sections=tuple(section for section in builders if section is not None),
        tokens=tokens,
    )


def _subtitle(table: ExperimentTable) -> str:
    seeds = len({row.trial.seed for row in table.rows})
    parts = [table.name, counted(len(table.rows), "run")]
    if len(table.variants) > 1:
        parts.append(counted(len(table.variants), "variant"))
    parts.append(counted(seeds, "seed"))
    return " · ".join(parts)


# --- the answer ----------------------------------------------------------------------------------


def _spread(spread: Spread | None, form: str) -> str:
    if spread is None:
        return "-"
    mean = form.format(spread.mean)
    return mean if spread.deviation is None else f"{mean} ± {form.format(spread.deviation)}"


def _names(variant: VariantRow) -> str:
    return ", ".join(row.name for row in variant.rows)


def _judged_by(table: ExperimentTable, judgement: Judgement) -> str:
    return "bits_per_byte" if judgement.unit == BITS_PER_BYTE else table.experiment.metric


def _answer(table: ExperimentTable) -> list[str]:
    lines = [_verdict(table, judgement) for judgement in table.judgements if judgement.ranked]
    if not lines:
        return ["No run has come far enough to say anything."]
    if len(table.judgements) > 1:
        lines.append(
            "Losses on different texts do not compare, so each text has a best of its own."
        )
        lines += _gaps(table)
    return lines


def _gaps(table: ExperimentTable) -> list[str]:
    """On which of several texts the best generalise how well."""
    gaps = []
    for row in _best_rows(table):
        best = row.entry.best if row.entry else None
        if row.gap is not None and best is not None and best.info is not None:
            where, loss = row.config.data.corpus.rpartition("/")[2], best.info.val_loss
            share = f" ({row.gap / loss:+.1%})" if loss else ""
            gaps.append(f"{row.gap:+.4f}{share} on {where} ({row.name})")
    if not gaps:
        return []
    return [f"Validation loss less training loss, in nats per token: {' and '.join(gaps)}."]


def _verdict(table: ExperimentTable, judgement: Judgement) -> str:
    name = _judged_by(table, judgement)
    metric, first = METRICS[name], judgement.ranked[0]
    form = _FORMS.get(name, "{:.4f}")
    found = first.spread(name)
    assert found is not None
    label, unit = _METRIC_WORDS.get(name, (metric.label, ""))
    how = f", {judgement.protocol} protocol" if judgement.protocol else ""
    seeds = f"mean ± standard deviation of {found.count} seeds" if found.count > 1 else "one seed"
    value = f"{label} {_spread(found, form)}{unit} ({seeds}{how}; {_names(first)})"
    where = judgement.corpus.rpartition("/")[2]
    if judgement.best is None:
        return f"On {where}, {first.variant.label} ends with {value}."
    second = judgement.ranked[1]
    other = second.spread(name)
    text = f"On {where}, {first.variant.label} is best: {value}."
    if other is None:
        return text
    margin = form.format(abs(found.mean - other.mean))
    text += f" The next, {second.variant.label} ({_names(second)}), is {margin} behind"
    interval = welch_interval(found, other)
    if interval is None:
        return f"{text}; with one seed each, how much of that is chance is not known."
    distance = abs(interval.difference)
    low, high = distance - interval.half_width, distance + interval.half_width
    limits = f"95 % interval of the difference {form.format(low)} to {form.format(high)}"
    if interval.excludes_zero:
        return f"{text} ({limits}): more than the seeds explain."
    return f"{text} ({limits}): that may be chance; more seeds would tell."


def _cautions(table: ExperimentTable) -> list[str]:
    lines = []
    if not table.is_complete and table.planned > table.count("finished", "pruned", "failed"):
        done = table.count("finished", "pruned")
        lines.append(f"{done:,} of {table.planned:,} runs are finished: this may change.")
    failed = [row for row in table.rows if row.state in ("failed", "damaged")]
    if failed:
        lines.append(
            f"{counted(len(failed), 'run')} failed and {'counts' if len(failed) == 1 else 'count'} "
            f"for nothing: {', '.join(row.name for row in failed)}."
        )
    compared = max((len(judgement.ranked) for judgement in table.judgements), default=0)
    if compared > 5:
        lines.append(
            f"{compared} variants were compared: the best of so many is flattered by chance, and "
            "by having been chosen on the very text that it is measured on."
        )
    for judgement in table.judgements:
        measured = [variant for variant in judgement.left_out if variant.losses]
        if measured:
            others = ", ".join(variant.variant.label for variant in measured)
            lines.append(f"Measured by another protocol, so not compared: {others}.")
    sources = {row.entry.info.pretrained for row in table.rows if row.entry and row.entry.info}
    for source in sorted(filter(None, sources)):
        lines.append(f"{pretrained_note(source)}.".capitalize())
    return lines


def _best_rows(table: ExperimentTable) -> list[RunRow]:
    """The best run of the best variant on each text."""
    found = []
    for judgement in table.judgements:
        rows = judgement.ranked[0].finished if judgement.ranked else []
        measured = [(row.loss.value, number) for number, row in enumerate(rows) if row.loss]
        if measured:
            found.append(rows[min(measured)[1]])
    return found


def _figures(table: ExperimentTable) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    several = len(table.judgements) > 1
    for row in _best_rows(table):
        loss = row.loss
        assert loss is not None
        on = f" on {row.config.data.corpus.rpartition('/')[2]}" if several else ""
        found.append(
            (f"lowest validation loss{on}", format_loss(loss.value), f"{loss.protocol}, {row.name}")
        )
        if row.bits_per_byte is not None:
            found.append((f"bits per byte{on}", format_loss(row.bits_per_byte), row.name))
        if row.accuracy is not None:
            found.append(
                (f"accuracy{on}", format_accuracy(row.accuracy), f"next token, {row.name}")
            )
    total = sum(row.seconds or 0.0 for row in table.rows)
    found.append(("training time", format_duration(total), f"of {counted(len(table.rows), 'run')}"))
    return found


# --- results -------------------------------------------------------------------------------------


def _of(variant: VariantRow, value: Callable[[RunRow], float | None], form: str) -> str:
    return _spread(Spread.of(map(value, variant.finished)), form)


def _is_best(table: ExperimentTable, variant: VariantRow) -> bool:
    return any(variant is best for best in table.best)


def _in_order(table: ExperimentTable) -> list[VariantRow]:
    """The best first on each text, then what was not ranked."""
    ranked = [v for judgement in table.judgements for v in (*judgement.ranked, *judgement.left_out)]
    return ranked or table.variants


def _results(table: ExperimentTable) -> Section:
    several = len(table.judgements) > 1
    rows = []
    for variant in _in_order(table):
        row = variant.rows[0]
        protocol = next((loss.protocol for loss in variant.losses), "-")
        corpus = (row.config.data.corpus.rpartition("/")[2],) if several else ()
        cells = (
            variant.variant.label,
            *corpus,
            protocol,
            _spread(variant.spread("val_loss"), "{:.4f}"),
            _spread(variant.spread("bits_per_byte"), "{:.4f}"),
            _spread(variant.spread("perplexity"), "{:.2f}"),
            _of(variant, lambda r: r.accuracy, "{:.1%}"),
            format_count(row.parameters) if row.parameters else "-",
            _tokens_per_parameter(variant),
            _names(variant),
        )
        rows.append(Row(cells, _is_best(table, variant)))
    head = (
        "variant",
        *(("corpus",) if several else ()),
        "protocol",
        "val loss",
        "bits/byte",
        "perplexity",
        "accuracy",
        "parameters",
        "tokens/param",
        "runs",
    )
    text = [
        "Of each run's best checkpoint. Validation losses are in nats per token; bits per byte do "
        "not depend on the tokenizer, perplexity and accuracy do."
    ]
    protocols = {loss.protocol for v in table.variants for loss in v.losses}
    protocols |= {protocol for group in groups_of(table) for protocol in group.protocols()}
    text += [f"Protocol {p}: {words}." for p in sorted(protocols) if (words := _protocol_words(p))]
    note = ""
    if any(len(variant.finished) > 1 for variant in table.variants):
        note = "± is the standard deviation over the seeds. "
    note += (
        "Tokens per parameter count repetitions; about 20 make the most of a budget of computation "
        "where text is not repeated (Hoffmann and others 2022, arXiv:2203.15556)."
    )
    return Section(
        "results",
        "Final losses",
        tuple(text),
        "final",
        "Bits per byte and perplexity of each variant; points are runs, lines reach one standard "
        "deviation over the seeds.",
        (Table(head, tuple(rows), 3 if several else 2, note),),
    )


def _protocol_words(protocol: str) -> str:
    """What a protocol measures; empty where that is not known."""
    if protocol.startswith("subset-"):
        windows = protocol.removeprefix("subset-")
        return f"{windows} windows, evenly spaced over the validation text; an estimate"
    return _PROTOCOLS.get(protocol, "")


def _tokens_per_parameter(variant: VariantRow) -> str:
    found = [row.tokens / row.parameters for row in variant.finished if row.parameters]
    return f"{statistics.fmean(found):,.1f}" if found else "-"


def _curves(table: ExperimentTable) -> Section:
    protocols = sorted({p for group in groups_of(table) for p in group.protocols()})
    return Section(
        "curves",
        "Loss over training",
        (
            f"Validation loss by the protocol {' and '.join(protocols) or 'of each run'}, and the "
            "running mean of the training loss, over steps and over training time. Dashed lines "
            "are what counting alone attains: n-gram models of the training text.",
        ),
        "curves",
        "A thin line for each run, a thick one for the mean of a variant's seeds, a band between "
        f"their extremes. Runs: {', '.join(row.name for row in table.rows)}.",
    )


# --- axes and searches ---------------------------------------------------------------------------


def _sensitivity(table: ExperimentTable) -> Section | None:
    if table.experiment.search is not None:
        return None
    name = metric_of(table)
    metric, form = METRICS[name], _FORMS.get(name, "{:.4f}")
    tables = []
    ranges = []
    for path, lines in axis_lines(table).items():
        rows = []
        for line in lines:
            spreads = [variant.spread(name) for variant in line.variants]
            known = [(s.mean, v) for s, v in zip(spreads, line.values, strict=True) if s]
            if len(known) > 1:
                means = [mean for mean, _ in known]
                ranges.append((max(means) - min(means), path, line, known))
            best = None
            if known:
                pick = max if metric.is_greatest_best else min
                best = pick(mean for mean, _ in known)
            for variant, value, spread in zip(line.variants, line.values, spreads, strict=True):
                row = variant.rows[0]
                change = "-" if spread is None or best is None else f"{spread.mean - best:+.4f}"
                seconds = Spread.of(r.seconds for r in variant.finished)
                cells = (
                    value_text(path, value),
                    line.others or "-",
                    _spread(spread, form),
                    change,
                    _of(variant, lambda r: r.train_loss, "{:.4f}"),
                    format_count(row.parameters) if row.parameters else "-",
                    "-" if seconds is None else format_duration(seconds.mean),
                    _names(variant),
                )
                rows.append(Row(cells, spread is not None and spread.mean == best))
        head = (
            short_name(path),
            "others",
            metric.label,
            "from best",
            "train loss",
            "parameters",
            "time",
            "runs",
        )
        if rows:
            tables.append(Table(head, tuple(rows), 2))
    if not tables:
        return None
    ranges.sort(key=lambda found: -found[0])
    text = [f"What one setting does to {metric.label} while the others stay as they are."]
    told: set[str] = set()
    for width, path, line, known in ranges:
        if path in told:
            continue
        told.add(path)
        pick = max if metric.is_greatest_best else min
        best_value = pick(known, key=lambda pair: pair[0])[1]
        other = f" (at {line.others})" if line.others else ""
        text.append(
            f"{short_name(path)} moves it by up to {form.format(width)}{other}; best at "
            f"{value_text(path, best_value)}."
        )
    return Section(
        "sensitivity",
        "What each setting does",
        tuple(text),
        "sensitivity",
        f"{metric.label} by setting; points are means over the seeds, bars one standard deviation.",
        tuple(tables),
    )


def _search(table: ExperimentTable) -> Section:
    pruned = [row for row in table.rows if row.state == "pruned"]
    name = metric_of(table)
    tried = sum(any(row.history.started for row in v.rows) for v in table.variants)
    text = [f"{counted(tried, 'point')} of {table.planned:,} planned runs were tried."]
    if pruned:
        steps = ", ".join(f"{row.name} at step {row.pruned_at:,}" for row in pruned)
        text.append(f"Given up early, for they would not have won: {steps}.")
    paths = list(table.experiment.axes)
    rows = []
    for variant in _in_order(table)[:10]:
        spread = variant.spread(name)
        if spread is None:
            continue
        values = (
            value_text(p, variant.variant.values[p]) if p in variant.variant.values else "-"
            for p in paths
        )
        cells = (_names(variant), *values, _spread(spread, _FORMS.get(name, "{:.4f}")))
        rows.append(Row(cells, _is_best(table, variant)))
    head = ("runs", *map(short_name, paths), METRICS[name].label)
    return Section(
        "search",
        "The search",
        tuple(text),
        "parallel",
        "A line for each point that was tried, from setting to setting to its "
        f"{METRICS[name].label}; the best is thick, those given up are dashed, and end at their "
        "last evaluation.",
        (Table(head, tuple(rows), 1, "The ten best."),),
    )


# --- how they learned ----------------------------------------------------------------------------


def _convergence(table: ExperimentTable) -> Section | None:
    rows = []
    text = []
    for group in groups_of(table):
        level = common_level(group)
        if level is not None and sum(len(v.finished) for v in group.variants) > 1:
            text.append(
                f"On {group.corpus} every finished run reached {level:.4f} nats per token "
                f"({group.protocols()[0]} protocol); the table says when each did."
            )
        for variant in group.variants:
            for row in variant.finished:
                found = convergence(row, level if level is not None else float("-inf"))
                if found is None:
                    continue
                cells = (
                    row.name,
                    variant.variant.label,
                    _convergence_verdict(found.last_doubling, found.rise),
                    "-" if found.step is None else f"{found.step:,}",
                    "-" if found.tokens is None else format_count(found.tokens),
                    "-" if found.seconds is None else format_duration(found.seconds),
                    f"{found.last_doubling:+.4f}",
                    f"{found.rise:.4f}",
                )
                rows.append(Row(cells))
    if not rows:
        return None
    head = (
        "run",
        "variant",
        "verdict",
        "step of the common loss",
        "tokens",
        "time",
        "second half's gain",
        "rise after best",
    )
    note = (
        "The second half's gain is what the validation loss fell by in the second half of the run: "
        "how much one more doubling of its length may bring, at most."
    )
    return Section(
        "convergence",
        "How fast it converged",
        tuple(text),
        tables=(Table(head, tuple(rows), 3, note),),
    )


def _convergence_verdict(gain: float, rise: float) -> str:
    if rise > 0.02:
        return "past its best: validation loss rose"
    if gain > 0.02:
        return "still falling: longer would help"
    return "levelled off"


def gap_verdict(gap: float, val_loss: float) -> str:
    """What the distance of validation from training loss means, by its share of the former."""
    share = gap / val_loss
    if share < 0.01:
        return "none: a larger model or longer training may help"
    if share < 0.05:
        return "small: it generalises well"
    if share < 0.15:
        return "clear: it begins to fit the training text alone"
    return "large: it overfits; more text, dropout or fewer steps"


def _gap(table: ExperimentTable) -> Section | None:
    rows = []
    for variant in _in_order(table):
        for row in variant.finished:
            best = row.entry.best if row.entry else None
            if row.gap is None or best is None or best.info is None or best.info.val_loss is None:
                continue
            cells = (
                row.name,
                variant.variant.label,
                gap_verdict(row.gap, best.info.val_loss),
                best.info.protocol or "-",
                format_loss(best.info.train_loss),
                format_loss(best.info.val_loss),
                f"{row.gap:+.4f}",
                "-" if row.figures.epoch is None else f"{row.figures.epoch:.2f}",
            )
            rows.append(Row(cells, _is_best(table, variant)))
    if not rows:
        return None
    head = ("run", "variant", "verdict", "protocol", "train loss", "val loss", "gap", "epochs")
    note = "Both losses were measured alike, at the best checkpoint, in nats per token."
    return Section(
        "gap",
        "Generalisation",
        ("How much worse a model is on text that it has not learned from.",),
        "gap",
        "Training loss (hollow) and validation loss (filled) of each run's best checkpoint.",
        (Table(head, tuple(rows), 4, note),),
    )


def _speed(table: ExperimentTable) -> Section:
    rows = []
    for variant in _in_order(table):
        row = variant.rows[0]
        started = row.history.started
        cells = (
            variant.variant.label,
            started.device if started else "-",
            _of(variant, lambda r: r.figures.tokens_per_second, "{:,.0f}"),
            _duration(variant),
            f"{row.figures.step:,}",
            format_count(row.tokens) if row.tokens else "-",
            _names(variant),
        )
        rows.append(Row(cells))
    head = ("variant", "device", "tokens/s", "time", "steps", "tokens", "runs")
    return Section(
        "speed",
        "Learning rate and speed",
        ("Speeds leave evaluations and samples out; times hold for this machine alone.",),
        "schedule",
        "The learning rate as it was applied, and tokens per second, of each variant's first run.",
        (Table(head, tuple(rows), 2),),
    )


def _duration(variant: VariantRow) -> str:
    seconds = Spread.of(row.seconds for row in variant.finished)
    return "-" if seconds is None else format_duration(seconds.mean)


# --- beside others -------------------------------------------------------------------------------


def _references(table: ExperimentTable) -> Section | None:
    tables = []
    for group in groups_of(table):
        baselines = group.baselines()
        rows = [Row((name, f"{loss:.4f}")) for name, loss in reversed(baselines.items())]
        for variant in group.variants:
            name = "bits_per_byte" if group.in_bits else "val_loss"
            spread = variant.spread(name)
            if spread is not None and baselines:
                label = f"{variant.variant.label} ({_names(variant)})"
                rows.append(Row((label, _spread(spread, "{:.4f}")), _is_best(table, variant)))
        if baselines:
            tables.append(Table((f"on {group.corpus}", group.unit), tuple(rows), 1))
    if not tables:
        return None
    return Section(
        "references",
        "Beside counting",
        (
            "What guessing blindly (uniform) and counting n-grams of the training text attain on "
            "the same validation text; 5-grams are smoothed (interpolated modified Kneser–Ney).",
        ),
        tables=tuple(tables),
    )


def _published(table: ExperimentTable) -> Section | None:
    rows: list[Row] = []
    found_protocols: set[str] = set()
    for judgement in table.judgements:
        variants = [*judgement.ranked, *judgement.left_out][:_MOST_PUBLISHED_VARIANTS]
        for item in published_figures():
            about = [v for v in variants if item.is_about(v.rows[0])]
            if not about:
                continue
            deviation = f" ± {item.deviation:.4f}" if item.deviation is not None else ""
            figure = f"{item.loss:g}{deviation}"
            rows.append(
                Row(
                    (
                        item.name,
                        item.protocol,
                        item.parameters,
                        figure,
                        "",
                        f"{item.source}; {item.note}",
                    )
                )
            )
            for variant in about:
                spread = protocol_spread(variant, item.protocol)
                if spread is None:
                    continue
                found_protocols.add(item.protocol)
                row = variant.rows[0]
                cells = (
                    f"→ {variant.variant.label}",
                    item.protocol,
                    format_count(row.parameters) if row.parameters else "-",
                    _spread(spread, "{:.4f}"),
                    f"{spread.mean - item.loss:+.4f}",
                    _names(variant),
                )
                rows.append(Row(cells, _is_best(table, variant)))
    if not rows:
        return None
    text = [
        "Published losses of the same text, split and tokens. Only figures of one protocol are "
        "set against each other: windows at random places, or overlapping ones, give others."
    ]
    if not found_protocols:
        text.append("No run here was measured by their protocol, so nothing is compared.")
    head = ("figure", "protocol", "parameters", "nats per token", "difference", "source")
    return Section(
        "published", "Beside published figures", tuple(text), tables=(Table(head, tuple(rows), 2),)
    )


# --- the text ------------------------------------------------------------------------------------


def _tokens(found: Sequence[CountedTokens]) -> Section | None:
    if not found:
        return None
    text, tables = [], []
    for item in found:
        if item.figures is None:
            text.append(f"{item.label}: not counted, {item.note}.")
            continue
        figures = item.figures
        used, size = figures.used, figures.tokenizer.vocab_size
        commonest = figures.commonest(10)
        share = sum(int(figures.counts[token]) for token in commonest) / figures.tokens
        note = f" ({item.note})" if item.note else ""
        text.append(
            f"{item.label}{note}: {figures.tokens:,} tokens of {figures.bytes_per_token:.2f} bytes "
            f"on average. {used:,} of {size:,} tokens of the vocabulary occur ({used / size:.1%}), "
            f"and the ten commonest make {share:.1%} of the text. Tokenizer of {item.run}."
        )
        rows = tuple(
            Row(
                (
                    _readable(figures.tokenizer.token_bytes(token)),
                    str(rank),
                    f"{int(figures.counts[token]):,}",
                    f"{int(figures.counts[token]) / figures.tokens:.2%}",
                )
            )
            for rank, token in enumerate(commonest, start=1)
        )
        tables.append(Table((f"token ({item.label})", "rank", "count", "share"), rows, 1))
    return Section(
        "tokens",
        "The text in tokens",
        tuple(text),
        "tokens" if tables else "",
        "How often each token occurs, by its rank, both on logarithmic scales.",
        tuple(tables),
    )


def _readable(token: bytes) -> str:
    text = token.decode("utf-8", "backslashreplace")
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥").replace("\r", "␍")


def _samples(table: ExperimentTable, write_sample: WriteSample) -> Section | None:
    found = []
    for row in _best_rows(table):
        found += recorded_samples(row) or [
            Sample(f"{row.name}, its best checkpoint, written for this report", p, text)
            for p in row.config.sampling.prompts[:_MOST_SAMPLES]
            if (text := write_sample(row, p))
        ]
    if not found:
        return None
    return Section(
        "samples",
        "What the best write",
        ("Each begins with its prompt. They stand as they came, not chosen.",),
        samples=tuple(found),
    )


def recorded_samples(row: RunRow) -> list[Sample]:
    """The last text for each prompt up to a run's best checkpoint, or after it if there is none."""
    best = row.entry.best if row.entry else None
    latest: dict[str, SampleGenerated] = {}
    for event in row.history.samples:
        is_later = best is not None and event.step > best.step
        if not (is_later and event.prompt in latest):
            latest[event.prompt] = event
    return [
        Sample(f"{row.name}, step {event.step:,}", event.prompt, event.text)
        for event in [*latest.values()][:_MOST_SAMPLES]
    ]


# --- what was run --------------------------------------------------------------------------------


def _settings(table: ExperimentTable) -> Section:
    paths = table.differing
    if not paths:
        return Section("settings", "Settings that differ", ("None: the runs share all of them.",))
    rows = tuple(
        Row(
            (
                variant.variant.label,
                *(variant.rows[0].texts[path] or "empty" for path in paths),
                _names(variant),
            )
        )
        for variant in table.variants
    )
    head = ("variant", *map(short_name, paths), "runs")
    return Section(
        "settings",
        "Settings that differ",
        ("All others are the same in every run; each run's folder holds its whole config.",),
        tables=(Table(head, rows, len(head)),),
    )


def _runs(table: ExperimentTable) -> Section:
    rows = []
    for row in table.rows:
        state = row.state if row.pruned_at is None else f"given up at step {row.pruned_at:,}"
        state += f": {row.failure}" if row.failure else ""
        cells = (
            row.name,
            row.trial.variant.label,
            state,
            str(row.path or "-"),
            str(row.trial.seed),
            f"{row.figures.step:,}",
            str(row.loss) if row.loss else "-",
            format_loss(row.bits_per_byte),
            format_loss(row.train_loss),
            "-" if row.seconds is None else format_duration(row.seconds),
        )
        rows.append(Row(cells))
    head = (
        "run",
        "variant",
        "state",
        "folder",
        "seed",
        "steps",
        "val loss, protocol",
        "bits/byte",
        "train loss",
        "time",
    )
    return Section("runs", "All runs", tables=(Table(head, tuple(rows), 4),))
