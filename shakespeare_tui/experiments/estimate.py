"""What the runs of an experiment will cost, before any is trained: size, memory and time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from shakespeare_tui.config.estimate.figures import (
    CorpusFigures,
    Preflight,
    expects_half,
    measure_corpus,
    preflight,
)
from shakespeare_tui.config.estimate.speed import Speeds, flops_per_token, speed_key
from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.experiments.plan import Definition, PlannedRun
from shakespeare_tui.machine import free_memory, has_bf16_products

_MOST_MEASURED = 4
"""Configs whose speed is measured, a second each; that of others is reckoned from them."""

MeasureSpeed = Callable[[Config, int], float]
"""Tokens per second of a config and a number of token ids."""


@dataclass(frozen=True)
class Estimate:
    """A run with what it will be; ``is_measured`` where its very speed was."""

    run: PlannedRun
    label: str
    corpus: CorpusFigures
    figures: Preflight
    is_measured: bool


@dataclass(frozen=True)
class Plan:
    """What an experiment will be; of a search, the ends of what it draws from.

    Attributes:
        definition: The experiment.
        estimates: Of its runs.
        problems: Why speeds could not be measured.
    """

    definition: Definition
    estimates: tuple[Estimate, ...]
    problems: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many runs there will be; of a search, at most."""
        search = self.definition.experiment.search
        if search is None:
            return len(self.estimates)
        return search.trials * len(self.definition.seeds)

    @property
    def seconds(self) -> float | None:
        """Of all runs, one after the other; None where that of one is not known."""
        seconds = [estimate.figures.seconds for estimate in self.estimates]
        known = [value for value in seconds if value is not None]
        if len(known) < len(seconds):
            return None
        return sum(known) / max(1, len(known)) * self.count

    def notes(self) -> Iterator[str]:
        """What to know before the start: corpora that are not at hand, too little memory."""
        yield from self.problems
        free = free_memory()
        for estimate in self.estimates:
            if estimate.figures.problem or estimate.corpus.note:
                yield f"{estimate.run.config.data.corpus}: " + (
                    estimate.figures.problem or estimate.corpus.note
                )
            if free is not None and estimate.figures.memory.total > free:
                yield f"{estimate.label}: {estimate.figures.memory.words(free)}"


class Planner:
    """Estimates again and again; what was measured once is remembered."""

    def __init__(self) -> None:
        self._speeds = Speeds()
        self._corpora: dict[object, CorpusFigures] = {}

    def plan(
        self,
        definition: Definition,
        *,
        measure: MeasureSpeed | None = None,
        tokens_per_second: float | None = None,
        report: Callable[[int, int], object] = lambda done, total: None,
    ) -> Plan:
        """The runs of an experiment, or the ends of a search.

        Args:
            definition: What it is.
            measure: Measures a speed; None leaves those unknown that were not measured before.
            tokens_per_second: The first run's speed, in place of a measurement.
            report: Told how many configs are measured, and of how many.

        Raises:
            UserError: Its runs cannot be planned.
        """
        runs = definition.runs() if definition.experiment.search is None else definition.ends()
        pairs = [(run.config, self._corpus(run.config).vocab_size) for run in runs]
        problems: list[str] = []
        if tokens_per_second is not None and pairs:
            self._speeds.add(*pairs[0], tokens_per_second)
        elif measure is not None:
            problems = list(self._measure_some(pairs, measure, report))
        several = len({run.seed for run in runs}) > 1
        estimates = tuple(
            self._estimate(run, vocab_size, several, definition.teaching_arm(run.variant))
            for run, (_, vocab_size) in zip(runs, pairs, strict=True)
        )
        return Plan(definition, estimates, tuple(problems))

    def _corpus(self, config: Config) -> CorpusFigures:
        key = (config.data.corpus, config.data.validation, config.tokens)
        if key not in self._corpora:
            self._corpora[key] = measure_corpus(*key)
        return self._corpora[key]

    def _estimate(self, run: PlannedRun, vocab_size: int, several: bool, teachers: str) -> Estimate:
        speed = self._speeds.find(run.config, vocab_size)
        figures = preflight(
            run.config,
            self._corpus(run.config),
            tokens_per_second=speed.tokens_per_second if speed else None,
            is_half=expects_half(run.config, is_cpu=True, has_bf16=has_bf16_products()),
            is_compared=True,
        )
        label = run.variant.label + (f", seed {run.seed}" if several else "")
        label += f", taught by {teachers}" if teachers else ""
        return Estimate(
            run, label, self._corpus(run.config), figures, bool(speed and speed.is_measured)
        )

    def _measure_some(
        self,
        pairs: Sequence[tuple[Config, int]],
        measure: MeasureSpeed,
        report: Callable[[int, int], object],
    ) -> Iterator[str]:
        """Measure some of the configs, the smallest and the largest among them; what failed."""
        different = list(
            {(speed_key(config), size): (config, size) for config, size in pairs}.values()
        )
        different.sort(key=lambda pair: flops_per_token(*pair))
        last = len(different) - 1
        most = min(_MOST_MEASURED, len(different))
        chosen = [different[round(n * last / max(1, most - 1))] for n in range(most)]
        for number, (config, vocab_size) in enumerate(chosen):
            report(number, most)
            known = self._speeds.find(config, vocab_size)
            if known is not None and known.is_measured:
                continue
            try:
                self._speeds.add(config, vocab_size, measure(config, vocab_size))
            except (UserError, RunFailedError) as error:
                yield f"a speed could not be measured: {error}"
