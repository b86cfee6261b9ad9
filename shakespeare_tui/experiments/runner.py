"""Train an experiment's runs, each in a process of its own, beside others who do the same.

Nothing is kept in memory alone: a runner that is killed, with its trainers or without them, loses
nothing, and the next one goes on. Whoever holds the claim on a run trains it.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import filelock

from shakespeare_tui.experiments.folder import ExperimentFolder, Trial
from shakespeare_tui.experiments.table import ExperimentReader, ExperimentTable, entries_of
from shakespeare_tui.machine import usable_cores
from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.commands import Stop, leave_command
from shakespeare_tui.runs.event_log import last_events
from shakespeare_tui.runs.events import PRUNED, EvalCompleted, Event, RunFailed, RunFinished
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.replay import FollowSource

Outcome = Literal["finished", "pruned", "failed", "stopped", "again"]
"""What became of a run: ``stopped`` where it is to be resumed by a later start, ``again`` where its
trainer was killed, and it is resumed at once."""

_POLL_SECONDS = 0.25
_MOST_DEATHS = 3
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Process(Protocol):
    """A trainer at work somewhere."""

    def poll(self) -> int | None:
        """Its exit code, below 0 a signal's; None while it is at work."""

    def stop(self) -> None:
        """Have it save its state and end."""


class Executor(Protocol):
    """Where trainers are started."""

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Start the program with ``arguments``; what it says goes to ``log``."""


class LocalProcess:
    """A trainer on this machine.

    In a session of its own: Ctrl-C in the runner's terminal is the runner's to pass on, and a
    runner that is killed leaves its trainers at work, to be found by the next one.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "shakespeare_tui", *arguments],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Its exit code; None while it is at work."""
        return self._process.poll()

    def stop(self) -> None:
        """As by Ctrl-C."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)


class LocalExecutor:
    """Starts trainers on this machine."""

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Process:
        """Start one."""
        return LocalProcess(arguments, environment, log)


class Work(Protocol):
    """What there is to train, shared with other processes."""

    def claim(self) -> Trial | None:
        """Take a run for this process; None where there is none to take now."""

    def is_over(self) -> bool:
        """Whether nothing is left to do, here and elsewhere."""

    def is_hopeless(self, trial: Trial, history: RunHistory, evaluation: EvalCompleted) -> bool:
        """Whether a run that has come to this evaluation is to be given up."""

    def close(self, trial: Trial, outcome: Outcome, reason: str) -> None:
        """Write down what became of a run, and let it go."""


class RunPaths:
    """Where the runs of an experiment are, by the names that they were given; renamed ones, too."""

    def __init__(self, folder: ExperimentFolder, runs_root: Path) -> None:
        self.root, self._experiment = runs_root, folder.name
        self._found = {
            name: entry.path
            for name, entry in entries_of(self._experiment, RunCatalog(runs_root)).items()
        }

    def run(self, name: str) -> RunFolder:
        """The folder of a run; it need not exist yet."""
        return RunFolder(self._found.get(name, self.root / name))

    def ending(self, name: str) -> Event | None:
        """The event that ended a run; None where it has not ended, or has not begun."""
        if self.stranger(name):
            return None
        last = next(last_events(self.run(name).events_path), None)
        return last if isinstance(last, RunFinished | RunFailed) else None

    def stranger(self, name: str) -> str:
        """Why a run's name cannot be used; empty where it can."""
        run = self.run(name)
        if not (run.path / "run.json").exists() or run.info().experiment == self._experiment:
            return ""
        return f"there is another run called {name}; rename it"


class PlannedWork:
    """The runs of an experiment that are known beforehand.

    Args:
        folder: The experiment's.
        paths: Its runs.
        retry: Whether runs that failed are tried again.
    """

    def __init__(self, folder: ExperimentFolder, paths: RunPaths, *, retry: bool) -> None:
        self._folder, self._paths, self._retry = folder, paths, retry
        self._claims: dict[str, filelock.BaseFileLock] = {}
        self._over: set[str] = set()
        self._names = folder.record().runs
        self._changed_at = folder.changed_at()

    def _look_again(self) -> None:
        """Runs may have been added since."""
        if (changed_at := self._folder.changed_at()) != self._changed_at:
            self._names, self._changed_at = self._folder.record().runs, changed_at

    def claim(self) -> Trial | None:
        """The first run that nobody is at."""
        self._look_again()
        for name in self._names:
            if name in self._over or name in self._claims:
                continue
            if self._is_over(name):
                self._over.add(name)
                continue
            if self._waits_for_teachers(name):
                continue
            lock = self._folder.claim(name)
            if lock is None:
                continue
            if self._is_over(name):  # another process has finished it since
                lock.release()
                continue
            self._claims[name] = lock
            trial = self._folder.trial(name)
            if trial.failure:
                trial = dataclasses.replace(trial, failure="")
                self._folder.update(trial)
            return trial
        return None

    def is_over(self) -> bool:
        """Whether every run has come to an end, by whomever."""
        self._look_again()
        return not self._claims and all(
            name in self._over or self._is_over(name) for name in self._names
        )

    def _waits_for_teachers(self, name: str) -> bool:
        """Whether a teacher is not finished; a later start looks again where it will not be now."""
        waits = False
        for teacher in self._folder.trial(name).teachers:
            # Read once: another process may end it meanwhile.
            ending = self._paths.ending(teacher)
            if not _is_whole(ending):
                waits = True
                if teacher in self._over or self._is_ended(teacher, ending):
                    self._over.add(name)
        return waits

    def _is_over(self, name: str) -> bool:
        return self._is_ended(name, self._paths.ending(name))

    def _is_ended(self, name: str, ending: Event | None) -> bool:
        if isinstance(ending, RunFinished):
            return _is_whole(ending) or ending.reason == PRUNED
        return not self._retry and (ending is not None or bool(self._folder.trial(name).failure))

    def is_hopeless(self, trial: Trial, history: RunHistory, evaluation: EvalCompleted) -> bool:
        """Never: every planned run is wanted."""
        return False

    def close(self, trial: Trial, outcome: Outcome, reason: str) -> None:
        """Let a run go; what has failed, or was stopped, is left alone from now on."""
        if outcome == "failed":
            self._folder.update(dataclasses.replace(trial, failure=reason))
        if outcome != "again":
            self._over.add(trial.run)
        self._claims.pop(trial.run).release()


@dataclass
class Job:
    """A run in training.

    Attributes:
        trial: What it is.
        run: Its folder.
        process: The trainer; None where that is the orphan of a runner that is gone.
        history: Its events so far.
        is_resumed: Whether it goes on where it was stopped.
    """

    trial: Trial
    run: RunFolder
    process: Process | None
    is_resumed: bool
    history: RunHistory = field(default_factory=RunHistory)
    source: FollowSource = field(init=False)
    is_given_up: bool = False

    def __post_init__(self) -> None:
        self.source = FollowSource(self.run.events_path)

    def exit_code(self) -> int | None:
        """The trainer's; None while it is at work. An orphan's is not known, and taken for 0."""
        if self.process is not None:
            return self.process.poll()
        return None if self.run.is_locked() else 0

    def stop(self, reason: str) -> None:
        """Have the trainer save the run's state and end."""
        if self.process is not None and reason == "interrupted":
            self.process.stop()
        else:
            leave_command(self.run.commands_path, Stop(reason=reason))


def _is_whole(ending: Event | None) -> bool:
    """Whether a run came to its own end."""
    return isinstance(ending, RunFinished) and not ending.is_early


class Listener(Protocol):
    """Hears what a runner does."""

    def started(self, job: Job) -> None:
        """A run was begun or resumed."""

    def ended(self, job: Job, outcome: Outcome, reason: str) -> None:
        """A run came to an end, or is to be resumed."""

    def progressed(self, jobs: Sequence[Job], table: ExperimentTable | None) -> None:
        """Time has passed; ``table`` is there where it was read anew."""


class Runner:
    """Trains what there is to train, so many runs at a time.

    Args:
        folder: The experiment's.
        work: What there is to train.
        paths: Where the runs are.
        executor: Starts trainers.
        jobs: The most runs at a time.
        listener: Hears of it.
        table_seconds: How often the whole table is read for the listener.
        pause: Waits for so many seconds.
    """

    def __init__(
        self,
        folder: ExperimentFolder,
        work: Work,
        paths: RunPaths,
        executor: Executor,
        *,
        jobs: int,
        listener: Listener,
        table_seconds: float = 5.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder, self._work, self._paths = folder, work, paths
        self._executor, self._most, self._listener = executor, jobs, listener
        self._pause, self._table_seconds = pause, table_seconds
        self._threads = folder.record().threads
        self._jobs: list[Job] = []
        self._deaths: dict[str, tuple[int, int]] = {}
        self._reader = ExperimentReader(folder, paths.root)
        self._stop_mark = folder.stop_mark()
        self._is_stopping = False

    def stop(self) -> None:
        """Have every run save its state and end; a second time abandons what they do meanwhile."""
        self._is_stopping = True
        for job in self._jobs:
            job.stop("interrupted")

    def run(self) -> None:
        """Train until nothing is left to do, or it is asked to stop."""
        told = 0.0
        while True:
            for job in list(self._jobs):
                self._look_after(job)
            if not self._is_stopping and self._folder.stop_mark() != self._stop_mark:
                self.stop()
            while not self._is_stopping and len(self._jobs) < self._most and self._begin():
                pass
            if not self._jobs and (self._is_stopping or self._work.is_over()):
                return
            table = None
            if time.monotonic() - told >= self._table_seconds:
                table, told = self._reader.read(), time.monotonic()
            self._listener.progressed(self._jobs, table)
            self._pause(_POLL_SECONDS)

    def _begin(self) -> bool:
        """Claim a run and start its trainer; False where there is nothing to begin now."""
        trial = self._work.claim()
        if trial is None:
            return False
        if problem := self._paths.stranger(trial.run):
            self._close(Job(trial, self._paths.run(trial.run), None, False), "failed", problem)
            return True
        self._jobs.append(self._start(trial))
        self._listener.started(self._jobs[-1])
        return True

    def _start(self, trial: Trial) -> Job:
        run = self._paths.run(trial.run)
        exists = (run.path / "run.json").exists()
        if exists and run.is_locked():
            return Job(trial, run, None, is_resumed=True)
        if exists:
            arguments = ["--resume", run.name]
        else:
            arguments = [
                *("--config", str(self._folder.config_path(trial.run).absolute())),
                *("--name", trial.run, "--experiment", self._folder.name),
                *("--variant", f"{trial.variant.label} seed={trial.seed}"),
            ]
            teachers = [self._paths.run(name).name for name in trial.teachers]
            arguments += ["--distill", *teachers] if teachers else []
        environment = {name: str(self._threads) for name in _THREADS}
        environment["SHAKESPEARE_TUI_RUNS"] = str(run.path.parent.absolute())
        process = self._executor.start(
            ["train", "--no-ui", "--json", *arguments],
            environment,
            self._folder.log_path(trial.run),
        )
        return Job(trial, run, process, is_resumed=exists)

    def _look_after(self, job: Job) -> None:
        code = job.exit_code()
        for event in job.source.poll(0.0):
            job.history.apply(event)
            if isinstance(event, EvalCompleted) and not job.is_given_up and code is None:
                job.is_given_up = self._work.is_hopeless(job.trial, job.history, event)
                if job.is_given_up:
                    job.stop(PRUNED)
        if code is not None:
            self._jobs.remove(job)
            self._close(job, *self._outcome(job, code))

    def _close(self, job: Job, outcome: Outcome, reason: str) -> None:
        self._work.close(job.trial, outcome, reason)
        self._listener.ended(job, outcome, reason)

    def _outcome(self, job: Job, code: int) -> tuple[Outcome, str]:
        """What became of a run whose trainer has ended."""
        ending = self._paths.ending(job.trial.run)
        if isinstance(ending, RunFinished):
            if ending.reason == PRUNED:
                return "pruned", f"at step {ending.step:,}"
            if not ending.is_early:
                return "finished", ""
            if ending.reason == "stopped" or not code:
                return "stopped", "by a command"
            return "stopped", "interrupted"
        if isinstance(ending, RunFailed):
            return "failed", ending.error
        if self._is_stopping or code == 130:
            return "stopped", "interrupted"
        if job.run.is_locked():
            return "again", "another process trains it"
        if code > 0:
            said = self._folder.log_end(job.trial.run)
            reason = said.removeprefix("error: ").removeprefix("failed: ")
            return "failed", reason or f"its trainer ended with {code}"
        return self._after_death(job, code)

    def _after_death(self, job: Job, code: int) -> tuple[Outcome, str]:
        """What to do about a trainer that ended without a word: it was killed."""
        step, deaths = self._deaths.get(job.trial.run, (-1, 0))
        now = max(job.run.steps(), default=-1)
        deaths = 1 if now > step else deaths + 1
        self._deaths[job.trial.run] = now, deaths
        name = signal.Signals(-code).name if code < 0 else "something"
        reason = f"its trainer was killed by {name}"
        if deaths >= _MOST_DEATHS:
            return "failed", f"{reason}, {deaths} times at the same place; is there memory enough?"
        return "again", reason


def threads_per_job(jobs: int) -> int:
    """Threads for each of several runs that share this machine's cores."""
    return max(1, usable_cores() // jobs)


def stop_experiment(folder: ExperimentFolder, runs_root: Path) -> int:
    """Have whoever works on an experiment save and stop; how many of its runs are in training."""
    folder.ask_to_stop()
    found = 0
    for entry in entries_of(folder.name, RunCatalog(runs_root)).values():
        run = RunFolder(entry.path)
        if run.is_locked():
            leave_command(run.commands_path, Stop())
            found += 1
    return found
