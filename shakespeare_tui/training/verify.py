"""Verify all that a run's folder holds, and say what can be used."""

from dataclasses import dataclass

from shakespeare_tui.data.source import locate_corpus
from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.backends import choose_backend
from shakespeare_tui.training.checkpoints import read_state, restore
from shakespeare_tui.training.session import (
    ChangedRunError,
    Conditions,
    make_state,
)
from shakespeare_tui.training.train_state import Backend


@dataclass(frozen=True, kw_only=True)
class CheckpointCheck:
    """A checkpoint, read whole.

    Attributes:
        reference: ``RUN@STEP``.
        step: The optimiser step.
        generates: Whether text can be generated from it.
        resumes: Whether training can be resumed from it exactly.
        has_digests: Whether its content could be compared with what was saved.
        problem: What is wrong with it; None where nothing is.
    """

    reference: str
    step: int
    generates: bool
    resumes: bool
    has_digests: bool
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class RunCheck:
    """A run and its checkpoints, by step.

    Attributes:
        problem: What is wrong with the run besides its checkpoints; None where nothing is.
        resumes_from: The step that ``--resume`` takes; None where it has none to take.
    """

    name: str
    path: str
    problem: str | None = None
    resumes_from: int | None = None
    checkpoints: tuple[CheckpointCheck, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether nothing at all is wrong."""
        return self.problem is None and all(c.problem is None for c in self.checkpoints)


def check_run(run: RunFolder) -> RunCheck:
    """Read everything in a run's folder and try what resuming and generating do.

    Nothing is changed, fetched or left locked; the backend's generators are set.
    """
    name, path = run.name, str(run.path)
    problem: str | None = None
    last: int | None = None
    try:
        backend = choose_backend(run.config())
        conditions = _conditions(run, backend)
    except UserError as error:
        return RunCheck(name=name, path=path, problem=str(error))
    try:
        last = run.index().get("last")
    except UserError as error:
        problem = str(error)
    checkpoints, changed = _checkpoints(run, conditions, backend)
    resumable = [c.step for c in checkpoints if c.resumes and (last is None or c.step <= last)]
    return RunCheck(
        name=name,
        path=path,
        problem=problem or changed,
        resumes_from=max(resumable, default=None),
        checkpoints=tuple(checkpoints),
    )


def _conditions(run: RunFolder, backend: Backend) -> Conditions:
    config, info = run.config(), run.info()
    source = locate_corpus(config.data.corpus, config.data.validation)
    # One that is not at hand is fetched when the run is resumed, and compared then.
    sha256 = info.corpus_sha256 if source is None else source.sha256()
    return Conditions.of(run, config, config, sha256, backend)


def _checkpoints(
    run: RunFolder, conditions: Conditions, backend: Backend
) -> tuple[list[CheckpointCheck], str | None]:
    """Each checkpoint, and what has changed since the last one: that is the run's problem."""
    checks: list[CheckpointCheck] = []
    changed = None
    for step in run.steps():
        generates = resumes = has_digests = False
        problem = None
        try:
            checkpoint = run.checkpoint(step)
            has_digests = checkpoint.info.weights_sha256 is not None
            backend.load_model(checkpoint)
            generates = True
            saved = read_state(checkpoint)
            conditions.check(saved)
            restore(saved, make_state(run, conditions.config, backend))
            resumes = True
        except ChangedRunError as error:
            changed = str(error)
        except UserError as error:
            if not run.checkpoint_folder(step).exists():
                continue  # its trainer has just removed it
            problem = str(error)
        checks.append(
            CheckpointCheck(
                reference=f"{run.name}@{step}",
                step=step,
                generates=generates,
                resumes=resumes,
                has_digests=has_digests,
                problem=problem,
            )
        )
    return checks, changed
