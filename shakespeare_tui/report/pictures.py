"""The pictures of a report, drawn by matplotlib in the colours of a light or a dark page."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

from shakespeare_tui.data.inspect.words import thin_ranks
from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.plan import short_name, value_text
from shakespeare_tui.experiments.table import METRICS, ExperimentTable, VariantRow
from shakespeare_tui.report.content import Report
from shakespeare_tui.report.readings import (
    Curve,
    Group,
    axis_lines,
    curve,
    groups_of,
    mean_curve,
    metric_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 8.4  # inches: a column of text
_MOST_NAMED = 8
"""Variants that have a colour of their own."""
_DASHES = ("-", "--", ":", "-.")
_MOST_POINTS = 400


@dataclass(frozen=True)
class Palette:
    """The colours of a page; ``series`` are told apart by most readers with defective vision."""

    ink: str
    muted: str
    grid: str
    paper: str
    series: tuple[str, ...]


LIGHT = Palette(
    "#1f2329",
    "#5c6570",
    "#d5dae1",
    "#ffffff",
    ("#0067b0", "#c4500a", "#00795a", "#a8408c", "#8a6a00", "#2a8fbd", "#b3202c", "#4f5bd5"),
)
DARK = Palette(
    "#e8eaed",
    "#a3abb5",
    "#3a414a",
    "#15181c",
    ("#5cb3ff", "#ff9b5c", "#3fcf9f", "#e889cf", "#e0bd45", "#7fd3f7", "#ff7f88", "#9aa4ff"),
)


def colour_names(palette: Palette) -> dict[str, str]:
    """What a page's style sheet calls the colours, by name."""
    names = {"ink": palette.ink, "muted": palette.muted, "grid": palette.grid}
    names |= {f"series-{number}": colour for number, colour in enumerate(palette.series)}
    return {**names, "paper": palette.paper}


class Pictures:
    """Draws the pictures of one report.

    Args:
        report: What it says.
        table: Its runs.

    Raises:
        UserError: matplotlib is not installed.
    """

    def __init__(self, report: Report, table: ExperimentTable) -> None:
        try:
            import matplotlib
        except ImportError:
            raise UserError(
                "a report takes packages that are not installed: "
                "pip install 'shakespeare-tui[report]'"
            ) from None
        self._matplotlib = matplotlib
        self._report, self._table = report, table

    def svg(self, name: str) -> str:
        """A picture as an SVG element whose colours are variables of the page's style sheet."""
        buffer = StringIO()
        with self._style(LIGHT, name):
            figure = _DRAWN[name](self._table, self._report, LIGHT)
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        for variable, colour in colour_names(LIGHT).items():
            text = text.replace(colour, f"var(--{variable})")
        return text

    def png(self, name: str, palette: Palette) -> bytes:
        """A picture as a PNG file."""
        buffer = BytesIO()
        with self._style(palette, name):
            figure = _DRAWN[name](self._table, self._report, palette)
            figure.savefig(buffer, format="png", dpi=160, facecolor=palette.paper)
        return buffer.getvalue()

    def _style(self, palette: Palette, name: str) -> Any:
        return self._matplotlib.rc_context(
            {
                "svg.fonttype": "none",  # text that is text: searched, copied, read aloud
                "svg.hashsalt": name,
                "svg.id": name,
                "font.size": 9,
                "font.family": "sans-serif",
                "font.sans-serif": ["DejaVu Sans"],
                "text.color": palette.ink,
                "text.parse_math": False,
                "axes.edgecolor": palette.muted,
                "axes.labelcolor": palette.muted,
                "axes.titlecolor": palette.ink,
                "axes.titlesize": 10,
                "axes.titlelocation": "left",
                "axes.facecolor": "none",
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "axes.axisbelow": True,
                "grid.color": palette.grid,
                "grid.linewidth": 0.6,
                "xtick.color": palette.muted,
                "ytick.color": palette.muted,
                "legend.frameon": False,
                "legend.fontsize": 8,
                "axes.formatter.useoffset": False,
            }
        )


def _figure(rows: int, columns: int, height: float) -> "tuple[Figure, Any]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _colours(
    table: ExperimentTable, variants: Sequence[VariantRow], palette: Palette
) -> dict[int, str]:
    """A colour for each variant, by its number among all; what is far from best is grey."""
    ranked = [v for judgement in table.judgements for v in judgement.ranked]
    is_few = len(table.variants) <= _MOST_NAMED
    named = table.variants if is_few else (ranked or table.variants)[:_MOST_NAMED]
    colours = dict(zip(map(id, named), palette.series, strict=False))
    return {id(v): colours.get(id(v), palette.muted) for v in variants}


# --- curves --------------------------------------------------------------------------------------


def _draw_curves(table: ExperimentTable, report: Report, palette: Palette) -> "Figure":
    groups = groups_of(table)
    figure, all_axes = _figure(2 * len(groups), 2, 5.4 * len(groups) + 0.5)
    for group, of_val, of_train in zip(groups, all_axes[::2], all_axes[1::2], strict=True):
        protocols = " and ".join(group.protocols()) or "no"
        of_val[0].set_title(f"{group.corpus}: validation, {protocols} protocol")
        of_train[0].set_title(f"{group.corpus}: training, running mean")
        for pair, name in ((of_val, "val_loss"), (of_train, "loss")):
            _draw_losses(table, group, name, pair, palette)
    _legend(figure, table.variants, _colours(table, table.variants, palette), palette)
    return figure


def _draw_losses(
    table: ExperimentTable, group: Group, name: str, pair: "Sequence[Axes]", palette: Palette
) -> None:
    """One of the losses of a group's runs, over steps and over time."""
    by_step, by_time = pair
    by_step.set_xlabel("step")
    by_step.set_ylabel(group.unit)
    longest = max((row.seconds or 0.0 for v in group.variants for row in v.rows), default=0.0)
    unit, seconds = ("minutes", 60.0) if longest > 180 else ("seconds", 1.0)
    by_time.set_xlabel(f"training time, {unit}")
    colours = _colours(table, group.variants, palette)
    drawn = []
    for variant in reversed(group.variants):
        colour = colours[id(variant)]
        is_named = colour != palette.muted
        lines = []
        for row in variant.rows:
            found = curve(row, name)
            found = Curve(found.steps, group.shown(found.values, row))
            if not len(found.steps):
                continue
            lines.append(found)
            elapsed = curve(row, "elapsed_seconds")
            if len(elapsed.steps):
                thin = Curve(*_thinned(found))
                at = np.interp(thin.steps, elapsed.steps, elapsed.values) / seconds
                width = 1.3 if is_named else 0.6
                by_time.plot(at, thin.values, _marker(found), color=colour, lw=width, ms=3)
        mean = mean_curve(lines)
        for line in lines:
            width = 0.6 if mean or not is_named else 1.6
            by_step.plot(*_thinned(line), _marker(line), color=colour, lw=width, ms=3)
        if mean is not None:
            middle, low, high = mean
            stride = _stride(middle)
            band = (middle.steps[::stride], low[::stride], high[::stride])
            by_step.fill_between(*band, color=colour, alpha=0.18, lw=0)
            by_step.plot(*_thinned(middle), color=colour, lw=1.8)
        drawn += lines
    _limit(by_step, group, drawn)
    by_time.set_ylim(by_step.get_ylim())
    _draw_baselines(by_step, group, palette, labels=False)
    _draw_baselines(by_time, group, palette)


def _marker(found: Curve) -> str:
    """How a curve is drawn: one point makes no line."""
    return "o" if len(found.steps) == 1 else "-"


def _limit(axes: "Axes", group: Group, drawn: Sequence[Curve]) -> None:
    """Room for the curves, without what the first steps and divergence would take of it."""
    if not drawn:
        return
    values = np.concatenate([line.values for line in drawn])
    late = np.concatenate([line.values[line.steps >= 0.05 * line.steps[-1]] for line in drawn])
    baselines = group.baselines()
    low, high = float(values.min()), float(late.max())
    worst = max(baselines.values(), default=math.inf)
    if low < worst < high:
        high = 1.02 * worst
    room = max(high - low, 0.02)
    below = [loss for loss in baselines.values() if low - 0.35 * room < loss < low]
    low = max(below, default=low)
    axes.set_ylim(low - 0.08 * room, high + 0.05 * room)


def _draw_baselines(axes: "Axes", group: Group, palette: Palette, *, labels: bool = True) -> None:
    low, high = axes.get_ylim()
    for name, loss in group.baselines().items():
        if not low < loss < high:
            continue
        axes.axhline(loss, color=palette.muted, lw=0.9, ls=(0, (4, 3)))
        if labels:
            axes.annotate(
                f"{name} {loss:.2f}",
                (1, loss),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=palette.muted,
            )


def _legend(
    figure: "Figure",
    variants: Sequence[VariantRow],
    colours: Mapping[int, str],
    palette: Palette,
) -> None:
    """Which colour is which variant, below everything: labels may be long."""
    from matplotlib.lines import Line2D

    named = [v for v in variants if colours[id(v)] != palette.muted]
    handles = [Line2D([], [], color=colours[id(v)], lw=2, label=_name(v)) for v in named]
    if len(named) < len(variants):
        rest = f"{len(variants) - len(named)} others"
        handles.append(Line2D([], [], color=palette.muted, lw=1, label=rest))
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = 4 if longest < 20 else 3 if longest < 32 else 2
    figure.legend(handles=handles, loc="outside lower left", ncols=columns)


def _name(variant: VariantRow, most: int = 52) -> str:
    """Its label; a long one, whose values would be cut off, gives way to the names of its runs."""
    label = variant.variant.label
    return label if len(label) <= most else _short(", ".join(r.name for r in variant.rows), most)


def _short(label: str, most: int) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


# --- final figures -------------------------------------------------------------------------------


def _draw_final(table: ExperimentTable, report: Report, palette: Palette) -> "Figure":
    groups = groups_of(table)
    ranked = [v for j in table.judgements for v in (*j.ranked, *j.left_out) if v.losses]
    orders = [[v for v in ranked if v in group.variants] for group in groups]
    figure, all_axes = _figure(len(groups), 2, sum(0.3 * len(order) + 0.95 for order in orders))
    for group, order, pair in zip(groups, orders, all_axes, strict=True):
        colours = _colours(table, group.variants, palette)
        for axes, name in zip(pair, ("bits_per_byte", "perplexity"), strict=True):
            for place, variant in enumerate(order):
                spread = variant.spread(name)
                if spread is None:
                    continue
                colour = colours[id(variant)]
                values = [METRICS[name].value(row) for row in variant.finished]
                known = [value for value in values if value is not None]
                axes.plot(known, [place] * len(known), "o", color=colour, ms=4, alpha=0.55, mew=0)
                axes.errorbar(
                    spread.mean,
                    place,
                    xerr=spread.deviation or 0,
                    color=colour,
                    fmt="D",
                    ms=5,
                    lw=2,
                )
                form = "{:.3f}" if name == "bits_per_byte" else "{:.2f}"
                axes.annotate(
                    form.format(spread.mean),
                    (spread.mean, place),
                    xytext=(0, 6),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7.5,
                )
            axes.set_yticks(
                range(len(order)),
                [_name(v) for v in order] if axes is pair[0] else [],
            )
            axes.set_ylim(len(order) - 0.5, -0.7)
            axes.margins(x=0.15)
            title = "bits per byte" if name == "bits_per_byte" else "perplexity per token"
            axes.set_title(f"{group.corpus}: {title}" if len(groups) > 1 else title)
            axes.grid(axis="y", visible=False)
    return figure


def _draw_gap(table: ExperimentTable, report: Report, palette: Palette) -> "Figure":
    rows = [row for v in table.variants for row in v.finished if row.gap is not None][:24]
    figure, ((axes,),) = _figure(1, 1, 0.24 * len(rows) + 0.9)
    colours = _colours(table, table.variants, palette)
    owner = {row.name: colours[id(v)] for v in table.variants for row in v.rows}
    for place, row in enumerate(rows):
        assert row.train_loss is not None and row.gap is not None
        ends = row.train_loss, row.train_loss + row.gap
        colour = owner[row.name]
        axes.plot(ends, (place, place), color=colour, lw=2, alpha=0.5)
        axes.plot(ends[0], place, "o", mfc="none", mec=colour, ms=6, mew=1.6)
        axes.plot(ends[1], place, "o", color=colour, ms=6)
    labels = [_short(f"{row.name}  {row.trial.variant.label}", 64) for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("nats per token: training ○ and validation ●")
    axes.grid(axis="y", visible=False)
    return figure


# --- rates and speed -----------------------------------------------------------------------------


def _draw_schedule(table: ExperimentTable, report: Report, palette: Palette) -> "Figure":
    figure, ((rates, speeds),) = _figure(1, 2, 3.2)
    rates.set_title("learning rate")
    speeds.set_title("tokens per second")
    colours = _colours(table, table.variants, palette)
    for number, variant in enumerate(table.variants):
        row = variant.rows[0]
        colour = colours[id(variant)]
        # Schedules of many variants lie on one another: dashes show what is below.
        dashes = _DASHES[number % len(_DASHES)]
        rate = curve(row, "learning_rate")
        rates.plot(*_thinned(rate), color=colour, lw=1.5, ls=dashes)
        speed = curve(row, "tokens_per_second")
        if len(speed.values):
            size = max(1, len(speed.values) // 20)
            whole = len(speed.values) // size * size
            steps = speed.steps[:whole].reshape(-1, size).mean(axis=1)
            # The median: a step during which the machine did something else says nothing.
            values = np.median(speed.values[:whole].reshape(-1, size), axis=1)
            speeds.plot(steps, values, color=colour, lw=1.5)
    for axes in (rates, speeds):
        axes.set_xlabel("step")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(_plain_number)
    _legend(figure, table.variants, colours, palette)
    return figure


def _plain_number(value: float, place: int) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:g}"


def _stride(found: Curve) -> int:
    return max(1, len(found.steps) // _MOST_POINTS)


def _thinned(found: Curve) -> tuple[Any, Any]:
    stride = _stride(found)
    return found.steps[::stride], found.values[::stride]


# --- settings ------------------------------------------------------------------------------------


def _draw_sensitivity(table: ExperimentTable, report: Report, palette: Palette) -> "Figure":
    name = metric_of(table)
    lines = axis_lines(table)
    columns = min(2, len(lines))
    rows = math.ceil(len(lines) / columns)
    figure, all_axes = _figure(rows, columns, 2.7 * rows)
    places = list(all_axes.flat)
    for axes in places[len(lines) :]:
        axes.set_visible(False)
    for (path, found), axes in zip(lines.items(), places, strict=False):
        values = list(dict.fromkeys(value for line in found for value in line.values))
        is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if is_number:
            values.sort()
        texts = [value_text(path, value) for value in values]
        is_log = is_number and values[0] > 0 and values[-1] >= 4 * values[0]
        for number, line in enumerate(found):
            at = line.values if is_number else [values.index(value) for value in line.values]
            spreads = [variant.spread(name) for variant in line.variants]
            known = [(x, s) for x, s in zip(at, spreads, strict=True) if s is not None]
            if not known:
                continue
            axes.errorbar(
                [x for x, _ in known],
                [s.mean for _, s in known],
                yerr=[s.deviation or 0.0 for _, s in known],
                fmt="o-",
                ms=5,
                lw=1.6,
                capsize=3,
                color=palette.series[number % len(palette.series)],
                label=line.others or None,
            )
        if is_log:
            axes.set_xscale("log")
        axes.set_xticks(values if is_number else range(len(values)), texts)
        axes.minorticks_off()
        axes.margins(x=0.12, y=0.18)
        axes.set_xlabel(short_name(path))
        axes.set_ylabel(METRICS[name].label)
        if 1 < len(found) <= _MOST_NAMED and any(line.others for line in found):
            axes.legend()
    return figure


def _draw_parallel(table: ExperimentTable, report: Report, palette: Palette) -> "Figure":
    name = metric_of(table)
    metric = METRICS[name]
    paths = list(table.experiment.axes)
    figure, ((axes,),) = _figure(1, 1, 3.9)
    points = []
    for variant in table.variants:
        if not all(path in variant.variant.values for path in paths):
            continue
        is_pruned = any(row.state == "pruned" for row in variant.rows)
        spread = variant.spread(name)
        end = spread.mean if spread is not None else _last_known(variant, name)
        if end is not None:
            points.append((variant, [variant.variant.values[p] for p in paths], end, is_pruned))
    scales = [_Scale.of(table.experiment.axes[path], path) for path in paths]
    ends = [end for _, _, end, _ in points]
    if ends:
        good = sorted(ends, reverse=metric.is_greatest_best)
        # The better three quarters get the room; what diverged lies at the edge.
        worst = good[min(len(good) - 1, (3 * len(good)) // 4)]
        is_cut = worst != good[-1]
        scales.append(_Scale((worst, good[0]), False, (), worst_note=" or worse" if is_cut else ""))
    best = {id(variant) for variant in table.best}
    for variant, values, end, is_pruned in sorted(points, key=lambda p: id(p[0]) in best):
        heights = [s.height(v) for s, v in zip(scales, [*values, end], strict=True)]
        heights[-1] = min(max(heights[-1], 0.0), 1.0)
        is_best = id(variant) in best
        axes.plot(
            range(len(heights)),
            heights,
            # By opacity: what is good stands out on a dark page, too.
            color=palette.series[1 if is_best else 0],
            alpha=1.0 if is_best else 0.35 + 0.65 * heights[-1],
            lw=2.8 if is_best else 1.2,
            ls=(0, (3, 2)) if is_pruned else "-",
        )
    axes.set_xticks(range(len(scales)), [*map(short_name, paths), metric.label][: len(scales)])
    axes.set_xlim(-0.15, len(scales) - 0.6)
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    for place, scale in enumerate(scales):
        axes.axvline(place, color=palette.muted, lw=0.9)
        for height, text in scale.ticks():
            axes.annotate(
                text,
                (place, height),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=palette.ink,
                bbox={
                    "boxstyle": "square,pad=0.1",
                    "fc": palette.paper,
                    "ec": "none",
                    "alpha": 0.7,
                },
            )
    return figure


def _last_known(variant: VariantRow, name: str) -> float | None:
    """What a variant that was given up had come to, by its last evaluation."""
    of_loss = METRICS[name].of_loss
    for row in variant.rows:
        found = curve(row, "val_loss")
        if of_loss is not None and len(found.values):
            return of_loss(float(found.values[-1]), row.unit)
    return None


@dataclass(frozen=True)
class _Scale:
    """Where the values of a setting lie from 0 to 1; ``names`` where they are no numbers.

    ``worst_note`` is said beside the lower end.
    """

    ends: tuple[float, float]
    is_log: bool
    names: tuple[str, ...]
    path: str = ""
    worst_note: str = ""

    @classmethod
    def of(cls, axis: Any, path: str) -> "_Scale":
        if hasattr(axis, "low"):
            return cls((axis.low, axis.high), axis.log, (), path)
        return cls((0, len(axis) - 1), False, tuple(value_text(path, v) for v in axis), path)

    def height(self, value: Any) -> float:
        number = self.names.index(value_text(self.path, value)) if self.names else float(value)
        low, high = (math.log(end) if self.is_log else end for end in self.ends)
        if low == high:
            return 0.5
        return ((math.log(number) if self.is_log else number) - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        if self.names:
            last = max(1, len(self.names) - 1)
            return [(place / last, name) for place, name in enumerate(self.names)]
        low, high = self.ends
        if low == high:
            return [(0.5, f"{low:.4g}")]
        middle = math.sqrt(low * high) if self.is_log else (low + high) / 2
        texts = [f"{end:.4g}" for end in (low, middle, high)]
        texts[0] += self.worst_note
        return [(self.height(e), t) for e, t in zip((low, middle, high), texts, strict=True)]


# --- tokens --------------------------------------------------------------------------------------


def _draw_tokens(table: ExperimentTable, report: Report, palette: Palette) -> "Figure":
    figure, ((axes,),) = _figure(1, 1, 3.3)
    for number, item in enumerate(t for t in report.tokens if t.figures is not None):
        assert item.figures is not None
        descending = np.sort(item.figures.counts[item.figures.counts > 0])[::-1]
        ranks, heights = thin_ranks(descending, _MOST_POINTS)
        marker = "o" if len(ranks) < 120 else None
        colour = palette.series[number % len(palette.series)]
        axes.plot(ranks, heights, color=colour, lw=1.6, marker=marker, ms=3, label=item.label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rank")
    axes.set_ylabel("count")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_plain_number)
    axes.legend(loc="lower left")
    return figure


_DRAWN: Mapping[str, "Callable[[ExperimentTable, Report, Palette], Figure]"] = {
    "final": _draw_final,
    "curves": _draw_curves,
    "gap": _draw_gap,
    "schedule": _draw_schedule,
    "sensitivity": _draw_sensitivity,
    "parallel": _draw_parallel,
    "tokens": _draw_tokens,
}
