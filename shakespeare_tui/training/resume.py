"""Open a run where it left off, however it ended."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from shakespeare_tui.config.load import parse_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.data.source import open_corpus
from shakespeare_tui.errors import UserError, never
from shakespeare_tui.files import write_atomically
from shakespeare_tui.models.parameters import count_parameters
from shakespeare_tui.runs.event_log import truncate_after
from shakespeare_tui.runs.events import DiagnosisRaised, EvalCompleted, SampleGenerated
from shakespeare_tui.runs.folder import NewerFormatError, RunFolder, find_checkpoint, find_run
from shakespeare_tui.training.checkpoints import (
    Fingerprint,
    Progress,
    SavedState,
    differences,
    exact_settings,
    fingerprint_of,
    name_last,
    prune,
    read_state,
    restore,
    rounding_differences,
)
from shakespeare_tui.training.session import (
    Hooks,
    Session,
    check_memory,
    choose_backend,
    encode_prompts,
    load_baselines,
    load_tokens,
    new_session,
)
from shakespeare_tui.training.train_state import Backend, TrainState


class ChangedRunError(UserError):
    """The run's conditions are not those of its state: no other checkpoint would mend that."""


@contextlib.contextmanager
def resumed_session(
    reference: str,
    *,
    root: Path,
    overrides: Sequence[str] = (),
    hooks: Hooks | None = None,
) -> Iterator[Session]:
    """Open a run where it left off and hold its lock.

    A damaged last checkpoint is passed over, with a notice, for the one before it. A run that ended
    before its first checkpoint starts from its config. What the log says of steps after the
    checkpoint is dropped: those steps come again, the same. Nothing is removed before everything
    that may be refused has been looked at.

    Args:
        reference: ``RUN`` (its last checkpoint) or ``RUN@STEP``; later checkpoints are then
            removed, since they come again.
        root: Folder of all runs.
        overrides: ``section.key=value`` changes, to train longer for example.
        hooks: Progress and cancellation.

    Raises:
        UserError: No such run, it is being trained, its checkpoints are damaged, or something that
            its steps depend on has changed.
    """
    hooks = hooks or Hooks()
    name, _, step_text = reference.rpartition("@") if "@" in reference else (reference, "", "")
    run = find_run(name, root)
    if step_text in ("", "last") and run.is_blank():
        with _begun_again(run, root, overrides, hooks) as session:
            yield session
        return
    with run.locked():
        run.sweep()
        steps = _resume_points(run, step_text, hooks)
        before = run.config()
        config = _changed(run, before, overrides)
        source = open_corpus(config.data.corpus, notice=hooks.notice, cancelled=hooks.cancelled)
        backend, tokenizer = choose_backend(config), run.tokenizer()
        if count_parameters(config.model, tokenizer.vocab_size) == run.info().parameters:
            device = backend.arithmetic().device
            check_memory(config, tokenizer.vocab_size, device, backend.free_memory(), hooks)
        conditions = Conditions.of(run, before, config, source.sha256(), backend)
        state, progress = _restored(run, steps, conditions, backend, hooks)
        if config.context_note:
            hooks.notice(config.context_note)
        train, val = load_tokens(source, tokenizer, config, hooks)
        session = Session(
            run=run,
            config=config,
            tokenizer=tokenizer,
            train=train,
            val=val,
            backend=backend,
            state=state,
            fingerprint=conditions.now,
            progress=progress,
            prompts=encode_prompts(config, tokenizer, val, hooks.notice),
            baselines=load_baselines(source, tokenizer, config, train, val, hooks.cancelled.is_set),
            is_new=False,
        )
        if config != before:
            write_atomically(run.path / "config.yaml", config_to_yaml(config))
        # In this order a crash leaves no gap between the log and the last checkpoint.
        name_last(run, progress.step)
        truncate_after(run.events_path, progress.step, _comes_again(progress, config))
        # What comes again, and what a save before the crash had replaced but not removed yet.
        prune(run, config.checkpoints, progress.step)
        yield session


def _changed(run: RunFolder, config: Config, overrides: Sequence[str]) -> Config:
    return parse_config(config_to_yaml(config), str(run.path / "config.yaml"), overrides)


@contextlib.contextmanager
def _begun_again(
    run: RunFolder, root: Path, overrides: Sequence[str], hooks: Hooks
) -> Iterator[Session]:
    """Begin in the folder of a run that ended before its first checkpoint."""
    config = _changed(run, run.config(), overrides)
    parent = run.info().parent
    with new_session(
        config,
        root=root,
        begin_in=run,
        start_from=find_checkpoint(parent, root) if parent else None,
        hooks=hooks,
    ) as session:
        yield session


def _resume_points(run: RunFolder, step_text: str, hooks: Hooks) -> list[int]:
    """The steps to resume from, the wanted one first."""
    if step_text and step_text != "last":
        if not step_text.isdecimal() or len(step_text) > 12:
            raise UserError(f"resume from {run.name}, or from a step: {run.name}@STEP")
        return [int(step_text)]
    steps = run.steps()[::-1]
    try:
        # A crash right after the first save leaves a checkpoint that is not named yet.
        last = run.index().get("last", max(steps, default=None))
    except UserError as error:
        hooks.notice(f"{error}; taking the last checkpoint instead")
        last = max(steps, default=None)
    if last is None:
        raise UserError(
            f"run {run.name} has no checkpoint left to resume from; start a new run from its "
            f"config: --config {run.path / 'config.yaml'}"
        )
    return [last, *(step for step in steps if step < last)]


@dataclass(frozen=True)
class Conditions:
    """What a run is resumed with.

    Attributes:
        config: With the changes that were asked for.
        then: What checkpoints without a fingerprint were made with.
        now: What the next steps would be made with.
    """

    config: Config
    then: Fingerprint
    now: Fingerprint

    @classmethod
    def of(
        cls, run: RunFolder, before: Config, config: Config, corpus_sha256: str, backend: Backend
    ) -> Self:
        """Those of a run's folder, with ``config`` in place of the ``before`` that is in it.

        Raises:
            UserError: The folder is damaged.
        """
        info = run.info()
        now = fingerprint_of(config, info, corpus_sha256, run.tokenizer(), backend.arithmetic())
        then = dataclasses.replace(
            now, settings=exact_settings(before), corpus_sha256=info.corpus_sha256
        )
        return cls(config, then, now)

    def check(self, saved: SavedState) -> None:
        """Refuse what would make other steps than the uninterrupted run.

        Raises:
            ChangedRunError: Something differs; all of it is named.
        """
        found = list(differences(saved.fingerprint or self.then, self.now))
        precision = self.config.training.precision
        if precision not in ("auto", saved.progress.precision):
            found.append(f"training.precision is {precision}, was {saved.progress.precision}")
        if found:
            checkpoint = saved.checkpoint
            raise ChangedRunError(
                f"run {checkpoint.run.name} cannot be resumed exactly: {'; '.join(found)}; undo "
                f"that, or start a new run from its weights: --from {checkpoint.reference}"
            )


def _restored(
    run: RunFolder,
    steps: Sequence[int],
    conditions: Conditions,
    backend: Backend,
    hooks: Hooks,
) -> tuple[TrainState, Progress]:
    """A state as it was at the first of ``steps`` whose checkpoint can be used."""
    cancelled = hooks.cancelled.is_set
    state: TrainState | None = None
    problems: list[str] = []
    for step in steps:
        try:
            saved = read_state(run.checkpoint(step), cancelled)
            conditions.check(saved)
            state = state or make_state(run, conditions.config, backend, cancelled)
            progress = restore(saved, state, cancelled)
        except (ChangedRunError, NewerFormatError):
            raise
        except UserError as error:
            if len(steps) == 1:
                raise
            problems.append(f"{run.name}@{step} cannot be used: {error}")
            continue
        for problem in problems:
            hooks.notice(problem)
        if problems:
            hooks.notice(f"resuming from step {step}, the last good checkpoint")
        then = saved.fingerprint or conditions.then
        if found := list(rounding_differences(then, conditions.now)):
            hooks.notice(
                "the losses will equal those of an uninterrupted run only up to rounding: "
                + "; ".join(found)
            )
        return state, progress
    raise UserError(f"no checkpoint of run {run.name} can be used; {problems[0]}")


def make_state(
    run: RunFolder, config: Config, backend: Backend, cancelled: Callable[[], bool] = never
) -> TrainState:
    """A state of a run's shape, to be loaded.

    Raises:
        ChangedRunError: The run's folder holds files of different runs.
        CancelledError: ``cancelled`` became true.
    """
    info, vocab_size = run.info(), run.tokenizer().vocab_size
    # Before anything is allocated: a config that was tampered with may name any size.
    if count_parameters(config.model, vocab_size) != info.parameters:
        raise ChangedRunError(
            f"the config and the tokenizer of run {run.name} do not make its "
            f"{info.parameters:,} parameters; the run folder mixes files of different runs"
        )
    return backend.empty_state(config, dataclasses.replace(info, vocab_size=vocab_size), cancelled)


def _comes_again(progress: Progress, config: Config) -> Callable[[dict[str, Any]], bool]:
    """Which lines of the checkpoint's own step tell of what it does not know to be done."""
    is_evaluation_undone = False

    def comes_again(record: dict[str, Any]) -> bool:
        nonlocal is_evaluation_undone
        kind = record.get("type")
        if record.get("step") != progress.step:
            return False
        if kind == EvalCompleted.__name__:
            is_known = progress.evaluated_step == progress.step
            # The final exact figure, of another protocol, is measured again in any case.
            is_evaluation_undone = not is_known or record.get("protocol") != progress.protocol
            return is_evaluation_undone
        if kind == DiagnosisRaised.__name__:
            return is_evaluation_undone
        is_scheduled = record.get("prompt") in config.sampling.prompts
        is_sample_undone = is_scheduled and progress.sampled_step != progress.step
        return kind == SampleGenerated.__name__ and is_sample_undone

    return comes_again
