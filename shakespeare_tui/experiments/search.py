"""Search by Optuna: which point to try next, and which run to give up, shared by processes.

What was tried lies in a journal in the experiment's folder, or in a database. A point belongs to
the process that holds its claim, a lock that the system frees when the process or its machine is
gone; another then takes the point over as it was left.
"""

import dataclasses
import os
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import filelock

from shakespeare_tui.config.problems import ConfigError
from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.folder import ExperimentFolder, Trial
from shakespeare_tui.experiments.plan import Definition, Variant, drawn, value_text
from shakespeare_tui.experiments.runner import Outcome, RunPaths
from shakespeare_tui.experiments.schema import Range
from shakespeare_tui.experiments.table import METRICS, ExperimentReader
from shakespeare_tui.runs.events import PRUNED, EvalCompleted, RunFailed, RunFinished
from shakespeare_tui.runs.figures import run_figures
from shakespeare_tui.runs.history import RunHistory

if TYPE_CHECKING:
    import optuna

_ARM = "arm"
_PARTS_OF_A_RUN = 20
"""Evaluations of different runs are compared at the same twentieth of their length."""
_TOKENS = {"data.tokenizer", "data.vocab_size"}


def objective(definition: Definition) -> str:
    """The metric that a search goes by: bits per byte where losses per token do not compare."""
    experiment = definition.experiment
    varied = {*experiment.axes, *(path for arm in experiment.arms.values() for path in arm.set)}
    if experiment.metric in ("val_loss", "perplexity") and varied & _TOKENS:
        return "bits_per_byte"
    return experiment.metric


@dataclass
class _Point:
    """A point that this process works on.

    Attributes:
        trial: Optuna's.
        lock: The claim.
        waiting: Runs that are still to be trained, a seed each.
        values: What the objective was for those that have been.
        is_at_work: Whether one of the runs is in training.
        reported: Parts of the first run whose evaluation is known already.
    """

    trial: "optuna.Trial"
    lock: filelock.BaseFileLock
    waiting: list[Trial]
    values: list[float]
    is_at_work: bool = False
    reported: set[int] = field(default_factory=set)


class SearchWork:
    """The points of a search, each with a run for every seed.

    Args:
        folder: The experiment's.
        paths: Its runs.

    Raises:
        UserError: Optuna is not installed, or the database cannot be opened.
    """

    def __init__(self, folder: ExperimentFolder, paths: RunPaths) -> None:
        self._folder, self._paths = folder, paths
        record = folder.record()
        self._definition, self._prefix = record.definition, record.prefix
        search = self._definition.experiment.search
        assert search is not None
        self._search = search
        self._metric = objective(self._definition)
        self._optuna = import_optuna()
        self._points: dict[int, _Point] = {}
        self._stopped: set[int] = set()
        self._reader = ExperimentReader(folder, paths.root)
        with folder.locked():
            self._study = self._open_study()

    def _open_study(self) -> "optuna.Study":
        search, pruners = self._search, self._optuna.pruners
        pruner = pruners.MedianPruner(n_startup_trials=search.startup_trials)
        try:
            study: optuna.Study = self._optuna.create_study(
                storage=search.storage or _journal(self._optuna, self._folder.journal_path),
                study_name=self._folder.name,
                direction="maximize" if METRICS[self._metric].is_greatest_best else "minimize",
                pruner=pruner if search.pruning else pruners.NopPruner(),
                load_if_exists=True,
            )
            return study
        except _database_errors(self._optuna) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            where = f"search.storage {search.storage}" if search.storage else "the search's journal"
            raise UserError(f"{where} cannot be opened: {said}") from None

    # --- taking points -----------------------------------------------------------------------

    def claim(self) -> Trial | None:
        """A run of a point that is begun here, or that nobody is at, or of a new one."""
        while True:
            for point in self._points.values():
                if not point.is_at_work:
                    point.is_at_work = True
                    return point.waiting[0]
            with self._folder.locked():
                if not (self._take_orphan() or self._take_new()):
                    return None

    def is_over(self) -> bool:
        """Whether all points have been tried, by whomever."""
        trials = self._trials()
        running = [trial.number for trial in trials if not trial.state.is_finished()]
        return len(trials) >= self._search.trials and set(running) <= self._stopped

    def _trials(self) -> "Sequence[optuna.trial.FrozenTrial]":
        return self._study.get_trials(deepcopy=False)

    def _take_orphan(self) -> bool:
        """Take over a point whose process is gone; whether there was one."""
        for found in self._trials():
            number = found.number
            if found.state.is_finished() or number in self._points or number in self._stopped:
                continue
            lock = self._folder.claim(f"point-{number + 1}")
            if lock is None:
                continue
            if self._trials()[number].state.is_finished():
                lock.release()
                continue
            trial = self._optuna.Trial(self._study, found._trial_id)
            self._open(trial, lock, set(found.intermediate_values))
            return True
        return False

    def _take_new(self) -> bool:
        """Begin a new point; whether there are any left to begin."""
        if len(self._trials()) >= self._search.trials:
            return False
        trial = self._study.ask()
        lock = self._folder.claim(f"point-{trial.number + 1}")
        assert lock is not None, "the point is new, and the experiment is locked"
        self._open(trial, lock, set())
        return True

    def _open(self, trial: "optuna.Trial", lock: filelock.BaseFileLock, reported: set[int]) -> None:
        """Choose a point's values, as far as that was not done, and see what is left to train."""
        number, seeds = trial.number + 1, self._definition.seeds
        variant = self._choose(trial)
        point = _Point(trial, lock, [], [], reported=reported)
        self._points[trial.number] = point
        for seed in seeds:
            name = f"{self._prefix}-{number}" + (f"-seed-{seed}" if len(seeds) > 1 else "")
            run = Trial(run=name, number=number, variant=variant, seed=seed)
            try:
                config = config_to_yaml(self._definition.config(variant, seed), comments=False)
            except ConfigError as error:
                reason = "; ".join(problem.message for problem in error.problems)
                plain = self._definition.config(Variant(variant.arm, {}), seed)
                self._folder.add(dataclasses.replace(run, failure=reason), config_to_yaml(plain))
                self._tell(point, state="FAIL")
                return
            if not self._folder.config_path(name).exists():
                self._folder.add(run, config)
            point.waiting.append(run)
        for run in tuple(point.waiting):
            ending = self._paths.ending(run.run)
            if isinstance(ending, RunFailed) or self._folder.trial(run.run).failure:
                self._tell(point, state="FAIL")
            elif isinstance(ending, RunFinished) and ending.reason == PRUNED:
                self._tell(point, state="PRUNED")
            elif isinstance(ending, RunFinished) and not ending.is_early:
                self._finished(point, run)
            else:
                return

    def _choose(self, trial: "optuna.Trial") -> Variant:
        # A generator of its own for each point: processes never draw the same, and a point that is
        # taken over before it was chosen is chosen as it would have been.
        self._study.sampler = self._optuna.samplers.TPESampler(
            seed=(self._search.seed * 1_000_003 + trial.number) % 2**32,
            n_startup_trials=self._search.startup_trials,
        )
        experiment = self._definition.experiment
        arm = trial.suggest_categorical(_ARM, list(experiment.arms)) if experiment.arms else ""
        values: dict[str, Any] = {}
        for path, axis in experiment.axes.items():
            if isinstance(axis, Range):
                values[path] = _suggest(trial, path, axis)
            else:
                by_text = {value_text(path, value): value for value in axis}
                values[path] = by_text[trial.suggest_categorical(path, list(by_text))]
        return Variant(arm, values)

    # --- what becomes of them ----------------------------------------------------------------

    def is_hopeless(self, trial: Trial, history: RunHistory, evaluation: EvalCompleted) -> bool:
        """Whether a run lies above the median of the others at this part of their length."""
        point = self._points[trial.number - 1]
        value = self._intermediate(history, evaluation)
        share = run_figures(history).share
        is_first = trial.seed == self._definition.seeds[0]
        if not self._search.pruning or not is_first or value is None or share is None:
            return False
        part = int(share * _PARTS_OF_A_RUN)
        if part in point.reported or not 0 < part < _PARTS_OF_A_RUN:
            return False
        point.reported.add(part)
        point.trial.report(value, part)
        return bool(point.trial.should_prune())

    def _intermediate(self, history: RunHistory, evaluation: EvalCompleted) -> float | None:
        """The objective at an evaluation; None where it is not known before the end."""
        if evaluation.protocol != history.usual_protocol:
            return None
        metric = METRICS[self._metric]
        if metric.of_loss is not None:
            loss = evaluation.val_loss
            return None if loss is None else metric.of_loss(loss, history.unit)
        return {"accuracy": evaluation.accuracy, "train_loss": evaluation.train_loss}.get(
            self._metric
        )

    def close(self, trial: Trial, outcome: Outcome, reason: str) -> None:
        """Write down what became of a run, and go on with its point or tell how it came out."""
        point = self._points[trial.number - 1]
        point.is_at_work = False
        if outcome == "finished":
            self._finished(point, trial)
        elif outcome == "failed":
            self._folder.update(dataclasses.replace(trial, failure=reason))
            self._tell(point, state="FAIL")
        elif outcome == "pruned":
            self._tell(point, state="PRUNED")
        elif outcome == "stopped":
            self._stopped.add(point.trial.number)
            self._let_go(point)

    def _finished(self, point: _Point, run: Trial) -> None:
        rows = {row.trial.run: row for row in self._reader.read().rows}
        value = METRICS[self._metric].value(rows[run.run])
        if value is None:
            self._folder.update(dataclasses.replace(run, failure=f"has no {self._metric}"))
            self._tell(point, state="FAIL")
            return
        point.values.append(value)
        point.waiting.remove(run)
        if not point.waiting:
            self._tell(point, value=statistics.fmean(point.values))

    def _tell(self, point: _Point, *, value: float | None = None, state: str = "COMPLETE") -> None:
        self._study.tell(point.trial, value, state=self._optuna.trial.TrialState[state])
        self._let_go(point)

    def _let_go(self, point: _Point) -> None:
        del self._points[point.trial.number]
        point.lock.release()


def _suggest(trial: "optuna.Trial", path: str, axis: Range) -> float:
    if isinstance(drawn(path, axis.low), int):
        step = 1 if axis.step is None else round(axis.step)
        return trial.suggest_int(path, round(axis.low), round(axis.high), step=step, log=axis.log)
    return drawn(path, trial.suggest_float(path, axis.low, axis.high, step=axis.step, log=axis.log))


def import_optuna() -> Any:
    """The library, quiet.

    Raises:
        UserError: It is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError(
            "a search takes a package that is not installed: pip install 'shakespeare-tui[search]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


class _JournalLock:
    """As Optuna's locks of a journal, but the system frees it when a process is killed."""

    def __init__(self, path: Path) -> None:
        self._lock = filelock.FileLock(path, thread_local=False)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _journal(optuna: ModuleType, path: Path) -> Any:
    lock = _JournalLock(path.with_name(f".{path.name}.lock"))
    lock.acquire()
    try:
        _cut_to_whole_lines(path)
    finally:
        lock.release()
    backend = optuna.storages.journal.JournalFileBackend(str(path), lock_obj=lock)
    return optuna.storages.JournalStorage(backend)


def _cut_to_whole_lines(path: Path) -> None:
    """Take away half a line that a power cut or a full disk left: nothing could be read after."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())


def _database_errors(optuna: ModuleType) -> tuple[type[Exception], ...]:
    found: list[type[Exception]] = [
        ImportError,
        ValueError,
        OSError,
        optuna.exceptions.StorageInternalError,
    ]
    try:
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        return tuple(found)
    return (*found, SQLAlchemyError)
