"""The folder of an experiment: what defines it, its runs by name, and who works on which.

``experiments/NAME/`` holds ``experiment.json``, and for each run ``trials/RUN.json``,
``configs/RUN.yaml`` and ``logs/RUN.log``. The runs themselves are run folders like any other.
"""

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from shakespeare_tui.config.load import parse_config
from shakespeare_tui.config.problems import nearest
from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.plan import AddedRun, Changes, Definition, PlannedRun, Variant
from shakespeare_tui.files import (
    parse_json,
    read_bounded,
    reason,
    write_atomically,
    write_json_atomically,
)
from shakespeare_tui.runs.folder import check_run_name

FORMAT_VERSION = 1
_MOST_BYTES = 1 << 24
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of an experiment.

    Attributes:
        run: Its name in the folder of runs.
        number: Of the variant, from 1; of a search, of the point that was tried.
        variant: What it differs in from the others.
        seed: Of weights, batches and dropout.
        failure: Why it could not be trained; empty where nothing is known to be wrong.
        teachers: The runs that it learns from, too, by name; they are finished before it begins.
    """

    run: str
    number: int
    variant: Variant
    seed: int
    failure: str = ""
    teachers: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What ``experiment.json`` says.

    Attributes:
        definition: What decides the runs.
        created: Unix seconds.
        prefix: What the names of its runs begin with.
        threads: Of each run's products: with others they round otherwise.
        runs: Names in order; of a search empty, for it makes them as it goes.
    """

    definition: Definition
    created: float
    prefix: str
    threads: int
    runs: tuple[str, ...]


class ExperimentFolder:
    """An experiment on disk.

    Args:
        path: Its folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """How it is addressed."""
        return self.path.name

    @property
    def exists(self) -> bool:
        """Whether there is an experiment."""
        return self._record_path.is_file()

    @property
    def journal_path(self) -> Path:
        """Where a search keeps what it tried."""
        return self.path / "search.journal"

    @property
    def _record_path(self) -> Path:
        return self.path / "experiment.json"

    def config_path(self, run: str) -> Path:
        """The config that a run is trained with."""
        return self.path / "configs" / f"{run}.yaml"

    def log_path(self, run: str) -> Path:
        """What the trainer of a run said."""
        return self.path / "logs" / f"{run}.log"

    def record(self) -> Record:
        """What defines it.

        Raises:
            UserError: It is missing, damaged or newer than this program.
        """
        found = _read(self._record_path)
        try:
            if found["format"] > FORMAT_VERSION:
                raise UserError(
                    f"{self._record_path} was written by a newer version; update shakespeare-tui"
                )
            return Record(
                definition=Definition.from_json(found["definition"]),
                created=float(found["created"]),
                prefix=str(found["prefix"]),
                threads=int(found["threads"]),
                runs=tuple(map(str, found["runs"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self._record_path} is damaged: {error}") from None

    def _write(self, record: Record) -> None:
        values = dataclasses.asdict(record) | {"definition": record.definition.as_json()}
        write_json_atomically(self._record_path, {"format": FORMAT_VERSION, **values})

    def trial(self, run: str) -> Trial:
        """What is known of a run beside its folder.

        Raises:
            UserError: It is missing or damaged.
        """
        path = self.path / "trials" / f"{run}.json"
        found = _read(path)
        try:
            variant = Variant(**found.pop("variant"))
            teachers = tuple(found.pop("teachers", ()))
            return Trial(variant=variant, teachers=teachers, **found)
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged: {error}") from None

    def trials(self, record: Record) -> list[Trial]:
        """All runs that there are to be, in order."""
        if record.runs:
            return [self.trial(run) for run in record.runs]
        names = [path.stem for path in (self.path / "trials").glob("*.json")]
        found = [self.trial(name) for name in names if not name.startswith(".")]
        return sorted(found, key=lambda trial: (trial.number, trial.run))

    def add(self, trial: Trial, config: str) -> None:
        """Write what a run is to be, its config first: with the trial it exists."""
        write_atomically(self.config_path(trial.run), config)
        self.update(trial)

    def update(self, trial: Trial) -> None:
        """Write anew what is known of a run; for who has claimed it."""
        write_json_atomically(self.path / "trials" / f"{trial.run}.json", trial.as_json())

    def config(self, trial: Trial) -> Config:
        """The config that a run is trained with.

        Raises:
            UserError: It is missing or damaged.
        """
        path = self.config_path(trial.run)
        try:
            return parse_config(read_bounded(path, _MOST_BYTES).decode(), str(path))
        except OSError as error:
            raise UserError(f"{path} cannot be read: {reason(error)}") from None

    def log_end(self, run: str) -> str:
        """The last line of what the trainer of a run said; empty where it said nothing."""
        try:
            lines = self.log_path(run).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        said = [line for line in lines if line.strip()]
        return said[-1] if said else ""

    # --- who works on what -------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from changing the experiment meanwhile; not for long.

        Raises:
            UserError: Another process holds it for too long.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / ".lock", thread_local=False)
        try:
            lock.acquire(timeout=_PATIENCE_SECONDS)
        except filelock.Timeout:
            raise UserError(
                f"{self.path} is held by another process; is one of them stopped (ctrl-Z)?"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def claim(self, name: str) -> "filelock.BaseFileLock | None":
        """Take a run, or a search's point, for this process; None where another has it.

        The system frees it however the process ends, and on a shared disk when its machine is gone.
        """
        folder = self.path / "claims"
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / f"{name}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return None
        return lock

    def ask_to_stop(self) -> None:
        """Have every process that works on it stop in order."""
        write_atomically(self.path / "stop", f"{time.time()}\n")

    def stop_mark(self) -> int:
        """What changes when somebody asks to stop."""
        return _mark(self.path / "stop")

    # --- making one --------------------------------------------------------------------------

    def prepare(
        self, definition: Definition, runs_root: Path, *, threads: int, may_replace: bool
    ) -> tuple[Record, list[str]]:
        """Make the experiment, or take a changed definition into it.

        Runs whose settings stay are kept, new ones are added, and others are left out of it, their
        folders untouched.

        Args:
            definition: What it is to be.
            runs_root: The folder of all runs.
            threads: Of each run of a new experiment.
            may_replace: Whether runs may be left out.

        Returns:
            What defines it now, and the names of runs that were left out.

        Raises:
            UserError: Runs would be left out, or a search's values would be others.
        """
        with self.locked():
            before = self.record() if self.exists else None
            return self._prepare(definition, before, runs_root, threads, may_replace)

    def add_run(self, added: AddedRun, runs_root: Path) -> Trial:
        """Take a single run into the experiment; whoever works on it trains it in its turn.

        Raises:
            ConfigError: Its settings do not go together.
            UserError: The experiment has it already, or searches.
        """
        with self.locked():
            before = self.record()
            if before.definition.experiment.search is not None:
                raise UserError(
                    f"experiment {self.name} searches, and draws its runs itself; more trials: "
                    f"shakespeare-tui experiment run {self.name} --limit N"
                )
            run = before.definition.added_run(added)
            for name in before.runs:
                theirs, ours = map(
                    before.definition.teaching_arm, (self.trial(name).variant, run.variant)
                )
                if theirs == ours and self.config_path(name).read_text("utf-8") == run.yaml:
                    raise UserError(f"experiment {self.name} has that run already: {name}")
            changes = before.definition.changes.with_later(Changes(added=(added,)))
            definition = dataclasses.replace(before.definition, changes=changes)
            record, _ = self._prepare(definition, before, runs_root, before.threads, False)
            (new,) = set(record.runs) - set(before.runs)
            return self.trial(new)

    def _prepare(
        self,
        definition: Definition,
        before: Record | None,
        runs_root: Path,
        threads: int,
        may_replace: bool,
    ) -> tuple[Record, list[str]]:
        planned = definition.runs()
        prefix = before.prefix if before else _free_prefix(self.name, runs_root)
        if before is not None:
            self._check_search(before.definition, definition)
        trials, left_out = self._named(definition, planned, before, prefix, runs_root)
        if left_out and not may_replace:
            raise UserError(
                f"experiment {self.name} has {len(left_out)} runs of other settings "
                f"({left_out[0]} …); go on with it as it is: shakespeare-tui experiment run "
                f"{self.name}; or leave them out with --replace; or give it another --name"
            )
        kept = set(before.runs if before else ())
        for trial, run in zip(trials, planned, strict=True):
            if trial.run not in kept:
                self.add(trial, run.yaml)
            elif self.trial(trial.run).number != trial.number:
                self.update(trial)
        record = Record(
            definition=definition,
            created=before.created if before else time.time(),
            prefix=prefix,
            threads=before.threads if before else threads,
            runs=tuple(trial.run for trial in trials),
        )
        self._write(record)
        return record, left_out

    def changed_at(self) -> int:
        """What changes when what defines it is written anew."""
        return _mark(self._record_path)

    def _check_search(self, before: Definition, definition: Definition) -> None:
        if before.experiment.search is None and definition.experiment.search is None:
            return
        then, now = (_searched(found) for found in (before, definition))
        if then != now:
            raise UserError(
                f"experiment {self.name} searches other values, or searched by other rules; go on "
                f"with it as it is: shakespeare-tui experiment run {self.name}; or give the new "
                "one another --name"
            )

    def _named(
        self,
        definition: Definition,
        planned: Sequence[PlannedRun],
        before: Record | None,
        prefix: str,
        runs_root: Path,
    ) -> tuple[list[Trial], list[str]]:
        """The planned runs by the names that they have or get; and those that are planned no more.

        Nothing is written.
        """
        known: dict[tuple[str, tuple[str, ...], str], list[str]] = {}
        for name in before.runs if before else ():
            trial, config = self.trial(name), self.config_path(name).read_text("utf-8")
            known.setdefault((trial.variant.arm, trial.teachers, config), []).append(name)
        numbers = _free_numbers(prefix, self.path / "trials", runs_root)
        variants: dict[str, int] = {}
        trials: list[Trial] = []
        for run in planned:
            number = variants.setdefault(run.variant.label, len(variants) + 1)
            teachers = _teachers(definition, run, zip(trials, planned, strict=False))
            same = known.get((run.variant.arm, teachers, run.yaml))
            name = same.pop(0) if same else ""
            failure = self.trial(name).failure if name else ""
            trials.append(
                Trial(
                    run=name or f"{prefix}-{next(numbers)}",
                    number=number,
                    variant=run.variant,
                    seed=run.seed,
                    failure=failure,
                    teachers=teachers,
                )
            )
        return trials, [name for left in known.values() for name in left]


def _teachers(
    definition: Definition, student: PlannedRun, before: Iterable[tuple[Trial, PlannedRun]]
) -> tuple[str, ...]:
    """Those of a student's teaching arm, of its values on the axes where some have them."""
    arm, axes = definition.teaching_arm(student.variant), definition.experiment.axes
    of_arm = [(trial.run, run) for trial, run in before if arm and run.variant.arm == arm]
    values = student.config.by_path()
    alike = [
        (name, run)
        for name, run in of_arm
        if all(run.config.by_path()[path] == values[path] for path in axes)
    ]
    # Their order does not matter to what is learned.
    return tuple(sorted(name for name, _ in alike or of_arm))


def _searched(definition: Definition) -> object:
    """What of a search must stay, so that its points compare."""
    found = definition.experiment.model_dump(exclude={"question", "search", "prompts"})
    search = definition.experiment.search
    seed = None if search is None else (search.seed, search.storage)
    return found, seed, definition.base.by_path(), definition.overrides


def _free_prefix(name: str, runs_root: Path) -> str:
    """A beginning of names that no run has yet: the experiment's name, or that and a letter."""
    taken = [path.name for path in runs_root.glob("*")] if runs_root.is_dir() else []
    for end in ("", *(f"-{letter}" for letter in "bcdefghijklmnopqrstuvwxyz")):
        if not any(re.fullmatch(rf"{re.escape(name + end)}-\d+", other) for other in taken):
            return name + end
    raise UserError(f"there are many runs called {name}-…; give the experiment another name")


def _free_numbers(prefix: str, trials: Path, runs_root: Path) -> Iterator[int]:
    number = 0
    while True:
        number += 1
        name = f"{prefix}-{number}"
        if not (trials / f"{name}.json").exists() and not os.path.lexists(runs_root / name):
            yield number


def _mark(path: Path) -> int:
    """What changes when a file is written anew; 0 where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return 0
    return status.st_ino ^ status.st_mtime_ns


def _read(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(read_bounded(path, _MOST_BYTES))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; the experiment's folder is damaged") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {reason(error)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged")
    return found


def list_experiments(root: Path) -> list[ExperimentFolder]:
    """All experiments below ``root``, newest first."""
    found = [ExperimentFolder(path.parent) for path in root.glob("*/experiment.json")]
    return sorted(found, key=lambda folder: folder.path.stat().st_mtime, reverse=True)


def find_experiment(name: str, root: Path) -> ExperimentFolder:
    """The experiment of a name or a path.

    Raises:
        UserError: There is none; near names are offered.
    """
    for path in (root / name, Path(name)):
        if (path / "experiment.json").is_file():
            return ExperimentFolder(path)
    names = [folder.name for folder in list_experiments(root)]
    near = nearest(name, names)
    if near:
        hint = f"did you mean {near}?"
    else:
        hint = f"there are {', '.join(names[:6])}" if names else f"{root} holds none yet"
    raise UserError(f"there is no experiment {name!r}; {hint}")


def new_folder(name: str, root: Path) -> ExperimentFolder:
    """Where an experiment of a name is, or will be.

    Raises:
        UserError: The name is no good.
    """
    check_run_name(name)
    if len(name) > 60:
        raise UserError(f"{name!r} is too long for an experiment; give it a shorter --name")
    return ExperimentFolder(root / name)
