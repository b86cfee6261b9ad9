"""An experiment as a table of its runs, with settings and figures: what every view of one reads."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from shakespeare_tui.config.draft import config_texts
from shakespeare_tui.config.estimate.figures import EVALUATION_SHARE
from shakespeare_tui.config.estimate.speed import Speeds
from shakespeare_tui.config.schema import Config
from shakespeare_tui.experiments.folder import ExperimentFolder, Trial
from shakespeare_tui.experiments.plan import Variant
from shakespeare_tui.experiments.schema import Experiment
from shakespeare_tui.runs.catalog import RunCatalog, RunEntry
from shakespeare_tui.runs.compare.settings import differing_paths
from shakespeare_tui.runs.events import PRUNED
from shakespeare_tui.runs.figures import RunFigures, run_figures
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.losses import (
    BITS_PER_BYTE,
    Loss,
    Ranking,
    TokenUnit,
    bits_per_byte,
    in_one_unit,
    perplexity,
    rank_by_loss,
)
from shakespeare_tui.runs.replay import FollowSource
from shakespeare_tui.runs.state import STATE_LOOKS, RunState, Tone

TrialState = RunState | Literal["waiting", "pruned"]
TRIAL_LOOKS: Mapping[str, tuple[str, Tone]] = {
    **{str(state): look for state, look in STATE_LOOKS.items()},
    "waiting": ("·", "muted"),
    "pruned": ("✂", "muted"),
}
"""A sign and a tone for each state."""
OVER: tuple[TrialState, ...] = ("finished", "failed", "pruned", "damaged")
"""The states of runs that nothing more is to be done about."""
_USUAL_VOCAB_SIZE = 65
# Of that in training: a teacher reads each token in two windows, by the passes of evaluations.
_READING_SPEED = 0.56


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run of an experiment, made or to be made.

    Attributes:
        trial: What it is.
        state: What became of it.
        config: What it is trained with.
        texts: The same as text by path.
        entry: What is in the folder of runs; None where it is not there yet.
        history: Its events so far.
        failure: Why it failed, one line; empty where it did not.
    """

    trial: Trial
    state: TrialState
    config: Config
    texts: Mapping[str, str]
    entry: RunEntry | None
    history: RunHistory
    failure: str

    @property
    def name(self) -> str:
        """The run's name, of today where it was renamed."""
        return self.entry.name if self.entry else self.trial.run

    @property
    def path(self) -> Path | None:
        """The run's folder; None where it is not there yet."""
        return self.entry.path if self.entry else None

    @cached_property
    def figures(self) -> RunFigures:
        """Where it stands, how good it is, how fast it goes."""
        return run_figures(self.history)

    @property
    def losses(self) -> Sequence[Loss]:
        """The validation losses of its best checkpoint, the one that counts first."""
        best = self.entry.best if self.entry else None
        return best.info.losses if best and best.info else ()

    @property
    def loss(self) -> Loss | None:
        """The validation loss that counts, nats per token."""
        return next(iter(self.losses), None)

    @property
    def unit(self) -> TokenUnit:
        """What its losses are counted in."""
        info = self.entry.info if self.entry else None
        return info.unit if info else TokenUnit("", None)

    @property
    def bits_per_byte(self) -> float | None:
        """The validation loss that counts, by the text's bytes."""
        return _bits_per_byte(self.loss.value, self.unit) if self.loss else None

    @property
    def train_loss(self) -> float | None:
        """Of the best checkpoint, nats per token."""
        best = self.entry.best if self.entry else None
        return best.info.train_loss if best and best.info else None

    @property
    def gap(self) -> float | None:
        """How far validation lies above training where both were measured alike, nats per token."""
        best = self.entry.best if self.entry else None
        if best is None or best.info is None:
            return None
        val, train = best.info.val_loss, best.info.train_loss
        return None if val is None or train is None else val - train

    @property
    def accuracy(self) -> float | None:
        """The share of tokens that it held for the likeliest, measured with its loss."""
        return self.loss.accuracy if self.loss else None

    @property
    def seconds(self) -> float | None:
        """Training time so far."""
        return self.figures.elapsed_seconds or None

    @property
    def parameters(self) -> int | None:
        """What it learns; None before it was made."""
        info = self.entry.info if self.entry else None
        return info.parameters if info else None

    @property
    def tokens(self) -> int:
        """Tokens that it has learned from, repetitions included."""
        return self.figures.step * self.config.tokens_per_step

    @property
    def pruned_at(self) -> int | None:
        """The step at which a search gave it up; None where it did not."""
        finished = self.history.finished
        return finished.step if finished is not None and self.state == "pruned" else None

    @property
    def text_key(self) -> object:
        """What its losses are measured on: losses on different texts do not compare."""
        data = self.config.data
        return data.corpus, data.validation, data.val_fraction

    def as_json(self) -> dict[str, Any]:
        """Settings and figures by name; what depends on the clock is under ``timing``."""
        loss = self.loss
        return {
            "run": self.name,
            "path": None if self.path is None else str(self.path),
            "state": self.state,
            "arm": self.trial.variant.arm or None,
            "values": dict(self.trial.variant.values),
            "seed": self.trial.seed,
            "step": self.figures.step,
            "parameters": self.parameters,
            "tokens": self.tokens,
            "train_loss": self.train_loss,
            "val_loss": loss.value if loss else None,
            "protocol": loss.protocol if loss else None,
            "perplexity": perplexity(loss.value) if loss else None,
            "bits_per_byte": self.bits_per_byte,
            "accuracy": self.accuracy,
            "pruned_at": self.pruned_at,
            "failure": self.failure or None,
            "timing": {
                "seconds": self.seconds,
                "tokens_per_second": self.figures.tokens_per_second,
            },
        }


@dataclass(frozen=True)
class Metric:
    """A figure by which runs are judged.

    Attributes:
        label: As a table's head.
        value: Of a row; None where it is not known.
        of_loss: What it makes of a validation loss in nats per token; None where it is no loss.
        is_greatest_best: Whether more is better.
    """

    label: str
    value: Callable[[RunRow], float | None]
    of_loss: Callable[[float, TokenUnit], float | None] | None = None
    is_greatest_best: bool = False


def _loss_metric(label: str, of_loss: Callable[[float, TokenUnit], float | None]) -> Metric:
    return Metric(label, lambda r: of_loss(r.loss.value, r.unit) if r.loss else None, of_loss)


def _bits_per_byte(loss: float, unit: TokenUnit) -> float | None:
    return bits_per_byte(loss, unit.bytes_per_token) if unit.bytes_per_token else None


METRICS: Mapping[str, Metric] = {
    "val_loss": _loss_metric("val loss", lambda loss, unit: loss),
    "bits_per_byte": _loss_metric("bits/byte", _bits_per_byte),
    "perplexity": _loss_metric("perplexity", lambda loss, unit: perplexity(loss)),
    "accuracy": Metric("accuracy", lambda row: row.accuracy, is_greatest_best=True),
    "train_loss": Metric("train loss", lambda row: row.train_loss),
    "seconds": Metric("time", lambda row: row.seconds),
    "tokens_per_second": Metric(
        "tok/s", lambda row: row.figures.tokens_per_second, is_greatest_best=True
    ),
}
"""By the name that stands in a file."""


@dataclass(frozen=True)
class Spread:
    """Several seeds' mean, and their standard deviation (of a sample) where there are several."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Spread | None":
        """Of the values that there are; None of none."""
        known = [value for value in values if value is not None and math.isfinite(value)]
        if not known:
            return None
        deviation = statistics.stdev(known) if len(known) > 1 else None
        return cls(statistics.fmean(known), deviation, len(known))


@dataclass(frozen=True)
class VariantRow:
    """What is compared: the runs that differ in their seeds alone."""

    variant: Variant
    rows: tuple[RunRow, ...]
    counted: tuple[TrialState, ...] = ("finished",)

    @property
    def finished(self) -> list[RunRow]:
        """The runs that count."""
        return [row for row in self.rows if row.state in self.counted]

    def spread(self, metric: str) -> Spread | None:
        """Of a metric, over the finished runs of one protocol."""
        counted = METRICS[metric]
        if counted.of_loss is None:
            return Spread.of(map(counted.value, self.finished))
        protocol = next((loss.protocol for loss in self.losses), None)
        return Spread.of(
            counted.of_loss(loss.value, row.unit)
            for row in self.finished
            for loss in row.losses
            if loss.protocol == protocol
        )

    @property
    def losses(self) -> list[Loss]:
        """The mean over the seeds by each protocol that all of them were measured by."""
        return self.mean_losses(lambda row: row.losses)

    def mean_losses(self, losses_of: Callable[[RunRow], Sequence[Loss]]) -> list[Loss]:
        """As ``losses``, of what counts as the losses of one run."""
        found = [losses_of(row) for row in self.finished]
        if not found:
            return []
        means = []
        for first in found[0]:
            same = [loss for losses in found for loss in losses if loss.protocol == first.protocol]
            if len(same) == len(found):
                mean = statistics.fmean(loss.value for loss in same)
                means.append(Loss(mean, first.protocol, first.unit))
        return means


@dataclass(frozen=True)
class Judgement:
    """Which variants are best on one text, the best first.

    Attributes:
        corpus: Its name.
        protocol: What they are ranked by; empty where the metric is no loss.
        unit: Of the losses; empty for nats per token.
        ranked: What was compared.
        left_out: What was measured otherwise, or not to the end.
    """

    corpus: str
    protocol: str
    unit: str
    ranked: tuple[VariantRow, ...]
    left_out: tuple[VariantRow, ...]

    @property
    def best(self) -> VariantRow | None:
        """The best, where there is anything that it is better than."""
        return self.ranked[0] if len(self.ranked) > 1 else None


@dataclass(frozen=True, kw_only=True)
class ExperimentTable:
    """An experiment's runs as they stand.

    Attributes:
        name: The experiment's.
        experiment: What is asked, and how.
        rows: Its runs in order.
        planned: How many there are to be; more than rows while a search goes on.
        counted: The states of runs whose figures count.
    """

    name: str
    experiment: Experiment
    rows: tuple[RunRow, ...]
    planned: int
    counted: tuple[TrialState, ...] = ("finished",)

    @cached_property
    def variants(self) -> list[VariantRow]:
        """The rows by what is compared, in order."""
        groups: dict[int, list[RunRow]] = {}
        for row in self.rows:
            groups.setdefault(row.trial.number, []).append(row)
        return [
            VariantRow(rows[0].trial.variant, tuple(rows), self.counted) for rows in groups.values()
        ]

    @cached_property
    def differing(self) -> list[str]:
        """The settings in which any two variants differ, by path, in order of the declaration."""
        if not self.rows:
            return []
        first = self.rows[0].texts
        found = {path for row in self.rows for path in differing_paths(row.texts, first)}
        return [path for path in first if path in found and path != "training.seed"]

    @cached_property
    def judgements(self) -> list[Judgement]:
        """Which variants are best, on each text by itself."""
        texts: dict[object, list[VariantRow]] = {}
        for variant in self.variants:
            texts.setdefault(variant.rows[0].text_key, []).append(variant)
        return [self._judge(variants) for variants in texts.values()]

    def _judge(self, variants: list[VariantRow]) -> Judgement:
        corpus = variants[0].rows[0].config.data.corpus
        metric = METRICS[self.experiment.metric]
        if metric.of_loss is not None:
            ranking = self._rank(variants)
            if ranking is None:
                return Judgement(corpus, "", "", (), tuple(variants))
            (first, *_) = ranking.ranked[0].mean_losses(self.losses_of)
            rest = tuple(v for v in variants if v not in ranking.ranked)
            return Judgement(corpus, ranking.protocol, first.unit, ranking.ranked, rest)
        spreads = [(variant, variant.spread(self.experiment.metric)) for variant in variants]
        known = [(variant, spread.mean) for variant, spread in spreads if spread is not None]
        known.sort(key=lambda pair: pair[1], reverse=metric.is_greatest_best)
        ranked = tuple(variant for variant, _ in known)
        left_out = tuple(variant for variant, spread in spreads if spread is None)
        return Judgement(corpus, "", "", ranked, left_out)

    def _rank(self, variants: list[VariantRow]) -> Ranking[VariantRow] | None:
        return rank_by_loss(variants, lambda variant: variant.mean_losses(self.losses_of))

    @cached_property
    def losses_of(self) -> Callable[[RunRow], Sequence[Loss]]:
        """The losses of a run as they compare: in bits per byte where tokenizers differ."""
        measured = [row for row in self.rows if row.losses]
        if self.experiment.metric == "bits_per_byte":
            return lambda row: [
                Loss(bits_per_byte(loss.value, size), loss.protocol, BITS_PER_BYTE)
                for loss in row.losses
                if (size := row.unit.bytes_per_token)
            ]
        return in_one_unit(measured, lambda row: row.losses, lambda row: row.unit)

    @property
    def best(self) -> list[VariantRow]:
        """The best variant on each text."""
        return [found for judgement in self.judgements if (found := judgement.best) is not None]

    def count(self, *states: TrialState) -> int:
        """How many runs are in one of these states."""
        return sum(row.state in states for row in self.rows)

    @property
    def standing(self) -> str:
        """How it goes, in a word or two."""
        if training := self.count("training", "paused"):
            return f"{training} in training"
        if failed := self.count("failed", "damaged"):
            return f"{failed} failed"
        if self.is_complete:
            return "finished"
        return "stopped" if self.count("waiting") < len(self.rows) else "not begun"

    @property
    def has_only_students_left(self) -> bool:
        """Whether all runs that are left learn from others, which are finished."""
        left = [row.trial for row in self.rows if row.state not in OVER]
        finished = {row.trial.run for row in self.rows if row.state == "finished"}
        return bool(left) and all(t.teachers and finished.issuperset(t.teachers) for t in left)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return len(self.rows) >= self.planned and self.count(*OVER) == len(self.rows)

    def seconds_left(self, jobs: int) -> float | None:
        """About how long the rest takes, with so many runs at a time; None while nothing tells."""
        running = [row for row in self.rows if row.state in ("training", "paused")]
        waiting = [row for row in self.rows if row.state not in OVER and row not in running]
        left = [row.figures.seconds_left for row in running]
        left += [self._estimated_seconds(row) for row in waiting]
        known = [seconds for seconds in left if seconds is not None]
        if not known and len(self.rows) == self.planned:
            return 0.0 if not left else None
        ended = [row.seconds for row in self.rows if row.state in OVER and row.seconds]
        each = statistics.fmean([*known, *ended]) if known or ended else None
        if each is None:
            return None
        # What nothing is known of counts as the others do on average.
        unknown = len(left) - len(known) + self.planned - len(self.rows)
        return max(max(known, default=0.0), (sum(known) + unknown * each) / max(1, jobs))

    def _estimated_seconds(self, row: RunRow) -> float | None:
        training, done, reading = row.config.training, row.figures, self._seconds_of_reading(row)
        if training.minutes is not None:
            return reading + max(0.0, 60 * training.minutes - done.elapsed_seconds)
        speed = self._speeds.find(row.config, self._vocab_size(row.config))
        if speed is None:
            return None
        tokens = (training.max_steps - done.step) * row.config.tokens_per_step
        return reading + tokens / speed.tokens_per_second * (1 + EVALUATION_SHARE)

    def _seconds_of_reading(self, row: RunRow) -> float:
        """About how long it takes before the first step to read what a run's teachers foretell."""
        if row.history.started is not None:
            return 0.0
        teachers = [other for other in self.rows if other.trial.run in row.trial.teachers]
        known = [
            teacher.history.started.train_tokens
            / teacher.figures.tokens_per_second
            / _READING_SPEED
            for teacher in teachers
            if teacher.history.started and teacher.figures.tokens_per_second
        ]
        return len(teachers) * statistics.fmean(known) if known else 0.0

    @cached_property
    def _speeds(self) -> Speeds:
        speeds = Speeds()
        for row in self.rows:
            if row.figures.tokens_per_second:
                vocab_size = self._vocab_size(row.config)
                speeds.add(row.config, vocab_size, row.figures.tokens_per_second)
        return speeds

    def _vocab_size(self, config: Config) -> int:
        known = (
            row.history.vocab_size for row in self.rows if _tokens(row.config) == _tokens(config)
        )
        return next(filter(None, known), _USUAL_VOCAB_SIZE)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        best = [variant.variant.label for variant in self.best]
        return {
            "experiment": self.name,
            "question": self.experiment.question,
            "metric": self.experiment.metric,
            "planned": self.planned,
            "complete": self.is_complete,
            "differing": self.differing,
            "runs": [row.as_json() for row in self.rows],
            "variants": [self._variant_json(variant, best) for variant in self.variants],
            "judgements": [
                {
                    "corpus": judgement.corpus,
                    "protocol": judgement.protocol or None,
                    "unit": judgement.unit or None,
                    "ranked": [variant.variant.label for variant in judgement.ranked],
                    "left_out": [variant.variant.label for variant in judgement.left_out],
                }
                for judgement in self.judgements
            ],
        }

    def _variant_json(self, variant: VariantRow, best: list[str]) -> dict[str, Any]:
        spread = variant.spread(self.experiment.metric)
        return {
            "variant": variant.variant.label,
            "runs": [row.name for row in variant.rows],
            "mean": spread.mean if spread else None,
            "deviation": spread.deviation if spread else None,
            "count": spread.count if spread else 0,
            "best": variant.variant.label in best,
        }


class ExperimentReader:
    """Reads an experiment's table again and again; what has not changed is not read anew.

    Args:
        folder: The experiment's.
        runs_root: The folder of all runs.
    """

    def __init__(self, folder: ExperimentFolder, runs_root: Path) -> None:
        self._folder = folder
        self._catalog = RunCatalog(runs_root)
        self._histories: dict[Path, tuple[FollowSource, RunHistory]] = {}
        self._configs: dict[str, tuple[Config, Mapping[str, str]]] = {}

    def read(self) -> ExperimentTable:
        """The table as things stand.

        Raises:
            UserError: The experiment's folder is damaged.
        """
        record = self._folder.record()
        trials = self._folder.trials(record)
        entries = entries_of(self._folder.name, self._catalog)
        search = record.definition.experiment.search
        planned = len(trials)
        if search is not None:
            planned = max(planned, search.trials * len(record.definition.seeds))
        rows = tuple(self._row(trial, entries.get(trial.run)) for trial in trials)
        experiment = record.definition.experiment
        return ExperimentTable(
            name=self._folder.name, experiment=experiment, rows=rows, planned=planned
        )

    def _row(self, trial: Trial, entry: RunEntry | None) -> RunRow:
        config, texts = self._config(trial)
        history = RunHistory() if entry is None else self._history(entry.path)
        state: TrialState = "waiting" if entry is None else entry.state
        if state == "stopped" and history.finished and history.finished.reason == PRUNED:
            state = "pruned"
        failure = trial.failure
        if state == "failed":
            failure = failure or (history.failed.error if history.failed else "")
        elif failure and state not in ("training", "paused", "finished"):
            state = "failed"
        elif state == "damaged" and entry is not None:
            failure = entry.problem or ""
        return RunRow(
            trial=trial,
            state=state,
            config=config,
            texts=texts,
            entry=entry,
            history=history,
            failure=failure,
        )

    def _config(self, trial: Trial) -> tuple[Config, Mapping[str, str]]:
        if trial.run not in self._configs:
            config = self._folder.config(trial)
            self._configs[trial.run] = config, config_texts(config)
        return self._configs[trial.run]

    def _history(self, path: Path) -> RunHistory:
        if path not in self._histories:
            self._histories[path] = FollowSource(path / "events.jsonl"), RunHistory()
        source, history = self._histories[path]
        read_further(source, history)
        return history


_MOST_VALUES = 3


def table_of_runs(entries: Sequence[RunEntry]) -> ExperimentTable:
    """Runs that nobody planned together; those that differ in their seeds alone are one variant.

    Whatever was measured of them counts, also where a run was stopped.

    Args:
        entries: The runs, their configs read.
    """
    known = [
        (entry, entry.config, entry.texts)
        for entry in entries
        if entry.config is not None and entry.texts is not None
    ]
    first = known[0][2] if known else {}
    differing = {path for _, _, texts in known for path in differing_paths(texts, first)}
    paths = [path for path in first if path in differing and path != "training.seed"]
    numbers: dict[tuple[str, ...], tuple[int, Variant]] = {}
    rows = []
    for entry, config, texts in known:
        key = tuple(texts[path] for path in paths)
        if key not in numbers:
            is_told = 0 < len(paths) <= _MOST_VALUES
            values = {path: config.by_path()[path] for path in paths} if is_told else {}
            variant = Variant("" if is_told else entry.name, values)
            numbers[key] = len(numbers) + 1, variant
        number, variant = numbers[key]
        seed = config.training.seed
        trial = Trial(run=entry.name, number=number, variant=variant, seed=seed)
        history = RunHistory()
        read_further(FollowSource(entry.path / "events.jsonl"), history)
        rows.append(
            RunRow(
                trial=trial,
                state=entry.state,
                config=config,
                texts=texts,
                entry=entry,
                history=history,
                failure=history.failed.error if history.failed else "",
            )
        )
    return ExperimentTable(
        name=", ".join(row.name for row in rows),
        experiment=Experiment(),
        rows=tuple(rows),
        planned=len(rows),
        counted=get_args(RunState),
    )


def entries_of(experiment: str, catalog: RunCatalog) -> dict[str, RunEntry]:
    """What is in the folder of runs of an experiment, by the names that its runs have or had."""
    found: dict[str, RunEntry] = {}
    for entry in catalog.entries(reads_configs=False):
        if entry.info is not None and entry.info.experiment == experiment:
            for name in (entry.name, *(former.name for former in entry.former_names)):
                found.setdefault(name, entry)
    return found


def _tokens(config: Config) -> object:
    """What decides the number of token ids."""
    data = config.data
    return data.corpus, data.tokenizer, data.vocab_size


def read_further(source: FollowSource, history: RunHistory) -> None:
    """Take in what a run's log has got since."""
    while events := source.poll(0.0):
        history.extend(events)
        if source.is_up_to_date:
            return
