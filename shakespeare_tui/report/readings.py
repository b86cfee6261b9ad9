"""The numbers of a report that a table of runs does not hold: curves, intervals, token counts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from shakespeare_tui.data.inspect.token_figures import TokenFigures, count_tokens
from shakespeare_tui.data.source import DEFAULT_CHUNK_BYTES, locate_corpus
from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.plan import short_name, value_text
from shakespeare_tui.experiments.table import (
    METRICS,
    ExperimentTable,
    RunRow,
    Spread,
    VariantRow,
)
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.losses import differ_in_tokenizer

_Reals = npt.NDArray[np.float64]

MOST_TEXT_BYTES = 20_000_000
"""Of a longer corpus, tokens are counted in its beginning."""

_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's t at 97.5 % for 1 to 10 degrees of freedom."""


@dataclass(frozen=True)
class Interval:
    """A difference of two means, and half the width of its 95 % interval."""

    difference: float
    half_width: float

    @property
    def excludes_zero(self) -> bool:
        return abs(self.difference) > self.half_width


def welch_interval(first: Spread, second: Spread) -> Interval | None:
    """How far ``second`` lies above ``first``, by Welch's t interval; None with fewer than 2 seeds.

    Degrees of freedom are rounded down, which makes the interval wider rather than narrower.
    """
    if first.deviation is None or second.deviation is None:
        return None
    parts = [spread.deviation**2 / spread.count for spread in (first, second) if spread.deviation]
    variance = sum(parts)
    if variance == 0:
        return Interval(second.mean - first.mean, 0.0)
    counts = [spread.count for spread in (first, second) if spread.deviation]
    freedom = variance**2 / sum(p**2 / (n - 1) for p, n in zip(parts, counts, strict=True))
    whole = max(1, int(freedom + 1e-9))
    quantile = _T_QUANTILES[whole - 1] if whole <= len(_T_QUANTILES) else 1.96 + 2.4 / whole
    return Interval(second.mean - first.mean, quantile * math.sqrt(variance))


# --- losses and curves ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Variants whose losses are about one text, and compare.

    Attributes:
        corpus: The text's name.
        variants: In the order of the table.
        in_bits: Losses are drawn in bits per byte, for tokenizers differ.
    """

    corpus: str
    variants: tuple[VariantRow, ...]
    in_bits: bool

    @property
    def unit(self) -> str:
        """Of its losses."""
        return "bits per byte" if self.in_bits else "nats per token"

    def shown(self, values: _Reals, row: RunRow) -> _Reals:
        """Losses in nats per token of a run, in the group's unit."""
        if not self.in_bits:
            return values
        size = row.unit.bytes_per_token
        return values / (math.log(2) * size) if size else np.full_like(values, np.nan)

    def baselines(self) -> dict[str, float]:
        """Reference losses by name, in the group's unit, lowest first."""
        found: dict[str, float] = {}
        for row in self._one_of_each_tokenizer():
            suffix = f" ({row.config.data.tokenizer})" if self.in_bits else ""
            for name, loss in row.history.baselines.items():
                found[name + suffix] = float(self.shown(np.array([loss]), row)[0])
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def _one_of_each_tokenizer(self) -> list[RunRow]:
        found: dict[str, RunRow] = {}
        for variant in self.variants:
            for row in variant.rows:
                if row.history.baselines:
                    found.setdefault(row.unit.tokenizer, row)
        return list(found.values()) if self.in_bits else list(found.values())[:1]

    def protocols(self) -> list[str]:
        """By which the points of its validation curves were measured."""
        found = (row.history.usual_protocol for variant in self.variants for row in variant.rows)
        return sorted({protocol for protocol in found if protocol})


def groups_of(table: ExperimentTable) -> list[Group]:
    """The variants by the text that their losses are about, in order."""
    found: dict[object, list[VariantRow]] = {}
    for variant in table.variants:
        found.setdefault(variant.rows[0].text_key, []).append(variant)
    groups = []
    for variants in found.values():
        units = [row.unit for variant in variants for row in variant.rows if row.entry]
        name = variants[0].rows[0].config.data.corpus
        corpus = Path(name).name if "/" in name and "+" not in name else name
        in_bits = differ_in_tokenizer(units) or table.experiment.metric == "bits_per_byte"
        groups.append(Group(corpus, tuple(variants), in_bits))
    return groups


@dataclass(frozen=True)
class Curve:
    """A series of one run, in ascending order of its steps."""

    steps: _Reals
    values: _Reals

    def at(self, step: float) -> float:
        """The value at a step, between points by a straight line."""
        return float(np.interp(step, self.steps, self.values))


def curve(row: RunRow, name: str) -> Curve:
    """A series of a run without its gaps; ``loss`` is smoothed as everywhere it stands alone."""
    history = row.history
    series = history.smoothed_loss(25) if name == "loss" else history.series(name)
    window = series.window()
    is_finite = np.isfinite(window.values)
    return Curve(window.steps[is_finite].astype(np.float64), window.values[is_finite])


def mean_curve(curves: Sequence[Curve]) -> tuple[Curve, _Reals, _Reals] | None:
    """The mean of several seeds with their lowest and highest, at the steps that all of them have.

    None where fewer than two have anything in common.
    """
    if len(curves) < 2:
        return None
    common = set.intersection(*(set(c.steps.tolist()) for c in curves))
    if len(common) < 2:
        return None
    steps = np.array(sorted(common))
    values = np.stack([c.values[np.isin(c.steps, steps)] for c in curves])
    return Curve(steps, values.mean(axis=0)), values.min(axis=0), values.max(axis=0)


@dataclass(frozen=True)
class Convergence:
    """How a run's validation loss came down, by its usual protocol.

    Attributes:
        level: The loss that all of a group's runs reached.
        step: The first evaluation at or below it; None where it has none.
        tokens: Learned from until then.
        seconds: Of training until then.
        last_doubling: What the second half of the run took off the loss; negative: it rose.
        rise: How far the last evaluation lies above the lowest.
    """

    level: float
    step: int | None
    tokens: int | None
    seconds: float | None
    last_doubling: float
    rise: float


def convergence(row: RunRow, level: float) -> Convergence | None:
    """None where it was evaluated less than twice."""
    found = curve(row, "val_loss")
    if len(found.steps) < 2:
        return None
    reached = np.flatnonzero(found.values <= level + 1e-9)
    step = int(found.steps[reached[0]]) if len(reached) else None
    tokens = seconds = None
    if step is not None:
        if row.figures.step:
            tokens = round(row.tokens / row.figures.step * step)
        elapsed = curve(row, "elapsed_seconds")
        seconds = elapsed.at(step) if len(elapsed.steps) else None
    last = float(found.values[-1])
    half = found.at(found.steps[-1] / 2)
    return Convergence(level, step, tokens, seconds, half - last, last - float(found.values.min()))


def common_level(group: Group) -> float | None:
    """The lowest validation loss that every finished run of a group reached, nats per token.

    None where there is none, or losses per token do not compare.
    """
    units = [row.unit for variant in group.variants for row in variant.rows if row.entry]
    if len(group.protocols()) != 1 or differ_in_tokenizer(units):
        return None
    curves = [curve(row, "val_loss") for v in group.variants for row in v.finished]
    lowest = [float(c.values.min()) for c in curves if len(c.values)]
    return max(lowest) if lowest else None


# --- what the axes do ----------------------------------------------------------------------------


_Rest = tuple[str, tuple[tuple[str, Any], ...]]
"""An arm, and settings with their values."""


@dataclass(frozen=True)
class AxisLine:
    """What one setting does while the others stay.

    Attributes:
        path: The setting.
        others: What the others are, as text; empty where there are none.
        variants: By its value, ascending where values are numbers.
        values: Its value in each.
    """

    path: str
    others: str
    variants: tuple[VariantRow, ...]
    values: tuple[Any, ...]


def axis_lines(table: ExperimentTable) -> dict[str, list[AxisLine]]:
    """By setting: the variants that differ in that setting alone, from two on."""
    found: dict[str, list[AxisLine]] = {}
    paths = dict.fromkeys(path for v in table.variants for path in v.variant.values)
    for path in paths:
        lines: dict[_Rest, list[VariantRow]] = {}
        for variant in table.variants:
            lines.setdefault(_rest(table, variant, path), []).append(variant)
        for (arm, rest), variants in lines.items():
            values = [_value(variant, path) for variant in variants]
            if len({str(value) for value in values}) < 2:
                continue
            order = list(range(len(values)))
            if all(isinstance(value, int | float) for value in values):
                order.sort(key=values.__getitem__)
            others = [arm] if arm else []
            others += [f"{short_name(p)}={value_text(p, v)}" for p, v in rest if p in paths]
            found.setdefault(path, []).append(
                AxisLine(
                    path,
                    " ".join(others),
                    tuple(variants[index] for index in order),
                    tuple(values[index] for index in order),
                )
            )
    return found


def _value(variant: VariantRow, path: str) -> Any:
    config = variant.rows[0].config
    return (config.by_path() | config.effective_values())[path]


def _rest(table: ExperimentTable, variant: VariantRow, path: str) -> _Rest:
    """What a variant shares with those that differ from it in one setting alone."""
    axes = {p for v in table.variants for p in v.variant.values if p != path}
    return variant.variant.arm, tuple((p, _hashable(_value(variant, p))) for p in sorted(axes))


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def metric_of(table: ExperimentTable) -> str:
    """What a table is judged by, of ``METRICS``: bits per byte where tokenizers differ."""
    name = table.experiment.metric
    is_loss = METRICS[name].of_loss is not None
    if is_loss and any(group.in_bits for group in groups_of(table)):
        return "bits_per_byte"
    return name


# --- the tokens of the corpora -------------------------------------------------------------------


@dataclass(frozen=True)
class CountedTokens:
    """How often tokens occur in the corpus of a run.

    Attributes:
        label: Corpus and tokenizer.
        run: Whose tokenizer it is.
        figures: The counts; None where there are none.
        note: Why there are none, or what of the corpus was counted.
    """

    label: str
    run: str
    figures: TokenFigures | None
    note: str = ""


def counted_tokens(table: ExperimentTable, most: int = 4) -> list[CountedTokens]:
    """For every corpus and tokenizer of the runs, the first ``most``; nothing is fetched."""
    found: dict[object, RunRow] = {}
    for row in table.rows:
        if row.entry is not None and row.entry.info is not None:
            found.setdefault((row.config.data.corpus, row.unit.tokenizer), row)
    return [_count(row) for row in islice(found.values(), most)]


def _count(row: RunRow) -> CountedTokens:
    data = row.config.data
    label = f"{Path(data.corpus).name if '+' not in data.corpus else data.corpus}, {data.tokenizer}"
    assert row.path is not None and row.entry is not None and row.entry.info is not None
    try:
        source = locate_corpus(data.corpus, data.validation)
        if source is None:
            return CountedTokens(label, row.name, None, f"{data.corpus} is not at hand")
        if source.sha256() != row.entry.info.corpus_sha256:
            return CountedTokens(
                label, row.name, None, f"{source.name} has changed since {row.name} learned from it"
            )
        note = ""
        if source.size_bytes > MOST_TEXT_BYTES:
            note = f"counted in the first {MOST_TEXT_BYTES / 1e6:.0f} MB"
        pieces = islice(source.iter_text(), MOST_TEXT_BYTES // DEFAULT_CHUNK_BYTES + 1)
        figures = count_tokens(RunFolder(row.path).tokenizer(), pieces)
    except (UserError, OSError) as error:
        return CountedTokens(label, row.name, None, str(error))
    return CountedTokens(label, row.name, figures, note)


# --- what others have published ------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Published:
    """A figure of others, nats per token."""

    name: str
    corpus: str
    tokenizer: str
    val_fraction: float
    protocol: str
    loss: float
    parameters: str
    source: str
    deviation: float | None = None
    note: str = ""

    def is_about(self, row: RunRow) -> bool:
        """Whether it is about the text, the split and the tokens that a run was measured on."""
        data = row.config.data
        return (data.corpus, data.tokenizer, data.validation) == (
            self.corpus,
            self.tokenizer,
            "",
        ) and data.val_fraction == self.val_fraction


@cache
def published_figures() -> tuple[Published, ...]:
    """What is in ``published.yaml``."""
    text = Path(__file__).with_name("published.yaml").read_text(encoding="utf-8")
    return tuple(Published(**item) for item in yaml.safe_load(text))


def protocol_spread(variant: VariantRow, protocol: str) -> Spread | None:
    """A variant's losses by one protocol, nats per token."""
    return Spread.of(
        loss.value for row in variant.finished for loss in row.losses if loss.protocol == protocol
    )
