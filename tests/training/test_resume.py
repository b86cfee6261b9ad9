"""A run that was stopped or crashed anywhere goes on as if it never had been."""

import contextlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import save_file
from training_runs import (
    BACKENDS,
    OnEvent,
    Trained,
    forget_digests,
    make_config,
    on_both_backends,
    post_at,
    read_lines,
    resume,
    run_session,
    train,
    what_was_learned,
)

from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.runs.commands import (
    CommandInbox,
    ExtendRun,
    Pause,
    Resume,
    SaveCheckpoint,
    SetLearningRate,
    Stop,
    leave_command,
)
from shakespeare_tui.runs.events import (
    CheckpointSaved,
    CommandApplied,
    EvalCompleted,
    Event,
    RunFinished,
    SampleGenerated,
    StepCompleted,
)
from shakespeare_tui.runs.folder import Checkpoint, RunFolder, find_checkpoint
from shakespeare_tui.training.checkpoints import read_arrays
from shakespeare_tui.training.loop import StepEnd
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.training.session import Hooks, open_session

VARIANTS: dict[str, dict[str, Any]] = {
    "random-adamw-dropout-one-cycle": {
        "model__dropout": 0.2,
        "training__scheduler": "one_cycle",
    },
    # 25,672 tokens in windows of 1,024 make 25 an epoch: 24 steps of 4 cross three epochs.
    "shuffled-muon-ema-accumulation-linear": {
        "model__dropout": 0.1,
        "training__scheduler": "linear",
        "data__windows": "shuffled",
        "data__stride": 1024,
        "training__optimizer": "muon",
        "training__muon_beta2": 0.9,
        "training__ema_decay": 0.9,
        "training__grad_accumulation": 2,
    },
    "sgd-momentum-wsd": {
        "model__dropout": 0.1,
        "training__optimizer": "sgd",
        "training__scheduler": "wsd",
        "training__learning_rate": 0.1,
        "checkpoints__save_every": 5,
    },
    "adam-ema-bf16-cosine": {
        "training__backend": "torch",
        "model__dropout": 0.1,
        "training__optimizer": "adam",
        "training__ema_decay": 0.99,
        "training__precision": "bfloat16",
        "training__scheduler": "cosine",
    },
}
# bfloat16 is PyTorch's alone.
ON_BACKENDS = [
    (variant, backend)
    for variant, settings in VARIANTS.items()
    for backend in BACKENDS
    if backend == settings.get("training__backend", backend)
]


class CrashError(BaseException):
    """Nothing catches it: the trainer ends where it is, as from ``kill -9``."""


def crash(*arguments: object) -> None:
    raise CrashError


def crash_when(condition: Callable[[Event], bool]) -> OnEvent:
    def act(event: Event, inbox: CommandInbox) -> None:
        if condition(event):
            raise CrashError

    return act


def crash_at_event(number: int) -> OnEvent:
    seen: list[Event] = []

    def act(event: Event, inbox: CommandInbox) -> None:
        seen.append(event)
        if len(seen) == number:
            raise CrashError

    return act


def assert_reads_as_one_run(run: RunFolder) -> None:
    lines = read_lines(run)
    kinds = Counter(line["type"] for line in lines)
    assert kinds["RunStarted"] == 1
    assert lines[0]["type"] == "RunStarted"
    assert kinds["RunFinished"] + kinds["RunFailed"] == 1
    assert lines[-1]["type"] in ("RunFinished", "RunFailed")
    steps = [line["step"] for line in lines if line["type"] == "StepCompleted"]
    assert steps == list(range(1, len(steps) + 1))
    told = [
        (line["type"], line["step"], line.get("prompt"), line.get("protocol"))
        for line in lines
        if line["type"] in ("EvalCompleted", "SampleGenerated")
    ]
    assert len(told) == len(set(told))


def assert_same_run(run: RunFolder, reference: RunFolder) -> None:
    assert what_was_learned(run) == what_was_learned(reference)
    assert_reads_as_one_run(run)
    assert run.index() == reference.index()
    assert run.steps() == reference.steps()
    for checkpoint, expected in zip(run.checkpoints(), reference.checkpoints(), strict=True):
        assert checkpoint.weights_path.read_bytes() == expected.weights_path.read_bytes()
        assert checkpoint.info.val_loss == expected.info.val_loss


@pytest.mark.parametrize(("variant", "backend"), ON_BACKENDS)
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(
    variant: str, backend: str, tmp_path: Path
) -> None:
    config = make_config(**VARIANTS[variant] | {"training__backend": backend})
    reference = train(tmp_path, config, name="reference")
    first = train(tmp_path, config, on_event=post_at(7, Stop()))
    assert first.finished.reason == "stopped"
    assert first.finished.step == 7
    # A second stop at a step where an evaluation and samples are due.
    second = resume(tmp_path, on_event=post_at(16, Stop()))
    assert second.finished.step == 16
    last = resume(tmp_path)
    assert last.finished.reason == "completed"
    assert_same_run(last.run, reference.run)


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
@on_both_backends
def test_crashed_before_any_event_is_told_and_resumed_equals_uninterrupted(
    backend: str, every: int, tmp_path: Path
) -> None:
    config = make_config(
        training__backend=backend,
        model__dropout=0.2,
        training__max_steps=5,
        training__eval_every=2,
        sampling__every=2,
        checkpoints__save_every=3,
    )
    reference = train(tmp_path, config, name="reference")
    for number in range(1, len(reference.events), every):
        name = f"crashed-{number}"
        with pytest.raises(CrashError):
            train(tmp_path, config, name=name, before_log=crash_at_event(number))
        assert_same_run(resume(tmp_path, name).run, reference.run)


def test_crashed_between_a_redone_evaluation_and_its_save(tmp_path: Path) -> None:
    config = make_config(training__max_steps=16)
    reference = train(tmp_path, config, name="reference")
    train(tmp_path, config, on_event=post_at(8, Stop()))  # cuts short what is due at step 8
    for kind in (EvalCompleted, SampleGenerated):
        with pytest.raises(CrashError):
            resume(tmp_path, on_event=crash_when(lambda event, kind=kind: type(event) is kind))
    assert_same_run(resume(tmp_path).run, reference.run)


def test_stopped_between_two_samples_gives_each_once(tmp_path: Path) -> None:
    config = make_config(training__max_steps=16)
    reference = train(tmp_path, config, name="reference")

    def stop_at_first_sample(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, SampleGenerated):
            inbox.post(Stop())

    train(tmp_path, config, on_event=stop_at_first_sample)
    again = resume(tmp_path, on_event=stop_at_first_sample)
    assert again.finished.reason == "stopped"
    assert_same_run(resume(tmp_path).run, reference.run)


@pytest.mark.parametrize("at", [8, 16])
def test_stopped_during_an_evaluation(at: int, tmp_path: Path) -> None:
    config = make_config(training__max_steps=16)
    reference = train(tmp_path, config, name="reference")
    # Posted with the step before it, so that the evaluation itself is what gives up.
    ended = train(tmp_path, config, on_event=post_at(at, Stop(reason="interrupted")))
    assert ended.finished.reason == "interrupted"
    assert not [event for event in ended.of(EvalCompleted) if event.step == at]
    assert_same_run(resume(tmp_path).run, reference.run)


def test_stopped_during_the_final_exact_evaluation(tmp_path: Path) -> None:
    config = make_config(training__max_steps=8, checkpoints__keep_best=2)
    reference = train(tmp_path, config, name="reference")

    def stop_after_the_last_save(event: Event, inbox: CommandInbox) -> None:
        if type(event).__name__ == "CheckpointSaved" and getattr(event, "step", 0) == 8:
            inbox.post(Stop(reason="interrupted"))

    ended = train(tmp_path, config, on_event=stop_after_the_last_save)
    assert ended.finished.reason == "interrupted"
    assert [event.command for event in ended.of(CommandApplied)] == ["Stop"]
    assert_same_run(resume(tmp_path).run, reference.run)


def test_resuming_what_is_completed_changes_nothing(tmp_path: Path) -> None:
    config = make_config(training__max_steps=9)
    first = train(tmp_path, config)
    before = what_was_learned(first.run)
    again = resume(tmp_path)
    assert again.finished.reason == "completed"
    assert again.finished.val_loss == first.finished.val_loss
    assert what_was_learned(again.run) == before
    assert_reads_as_one_run(again.run)


def test_a_completed_run_goes_on_with_more_steps(tmp_path: Path) -> None:
    first = train(tmp_path, make_config(training__max_steps=8, training__scheduler="constant"))
    losses = [event.loss for event in first.of(StepCompleted)]
    longer = resume(tmp_path, overrides=["training.max_steps=20"])
    assert longer.finished.step == 20
    assert [event.step for event in longer.of(StepCompleted)] == list(range(9, 21))
    assert_reads_as_one_run(longer.run)
    assert longer.run.config().training.max_steps == 20
    # With a constant rate, nothing tells it from a run that was meant to be so long.
    whole = train(
        tmp_path,
        make_config(training__max_steps=20, training__scheduler="constant"),
        name="whole",
    )
    expected = [event.loss for event in whole.of(StepCompleted)]
    assert losses + [event.loss for event in longer.of(StepCompleted)] == expected


def test_a_longer_run_does_not_keep_the_shorter_ones_final_figure(tmp_path: Path) -> None:
    train(tmp_path, make_config(training__max_steps=8))
    longer = resume(tmp_path, overrides=["training.max_steps=16"])
    exact = [line["step"] for line in read_lines(longer.run) if line.get("protocol") == "exact"]
    assert set(exact) == {16}


def test_a_run_is_resumed_from_an_earlier_step(tmp_path: Path) -> None:
    config = make_config(model__dropout=0.2, checkpoints__every=8)
    reference = train(tmp_path, config, name="reference")
    train(tmp_path, config)
    assert_same_run(resume(tmp_path, "run@8").run, reference.run)


def test_crashed_right_after_going_back_to_an_earlier_step(tmp_path: Path) -> None:
    config = make_config(model__dropout=0.2, checkpoints__every=8)
    reference = train(tmp_path, config, name="reference")
    train(tmp_path, config)
    with pytest.raises(CrashError):
        resume(tmp_path, "run@8", on_event=crash_when(lambda event: True))
    # Everything that addresses the run still finds it.
    for name in ("run", "run@best", "run@last"):
        assert find_checkpoint(name, tmp_path).info.step == 8
    assert_same_run(resume(tmp_path).run, reference.run)


def test_commands_are_remembered(tmp_path: Path) -> None:
    config = make_config(model__dropout=0.2)
    commands = (SetLearningRate(learning_rate=1e-3), ExtendRun(steps=6))
    reference = train(tmp_path, config, name="reference", on_event=post_at(5, *commands))
    assert reference.finished.step == 30

    def act(event: Event, inbox: CommandInbox) -> None:
        post_at(5, *commands)(event, inbox)
        post_at(13, Stop())(event, inbox)

    train(tmp_path, config, on_event=act)
    last = resume(tmp_path)
    assert_same_run(last.run, reference.run)
    applied = [line["command"] for line in read_lines(last.run) if line["type"] == "CommandApplied"]
    assert applied == ["SetLearningRate", "ExtendRun", "Stop"]


@pytest.mark.parametrize("is_paused", [False, True])
def test_what_the_log_says_of_a_command_is_true_after_a_crash(
    is_paused: bool, tmp_path: Path
) -> None:
    config = make_config(training__scheduler="constant", training__warmup_steps=0)
    command = SetLearningRate(learning_rate=1e-4)
    if is_paused:
        # The run is saved first and told only then, while it holds still.
        orders = [command, Resume()]

        def tell(event: Event, inbox: CommandInbox) -> None:
            post_at(5, Pause(), SaveCheckpoint())(event, inbox)
            crash_when(lambda e: isinstance(e, StepCompleted) and e.step == 7)(event, inbox)
            if isinstance(event, CheckpointSaved) and event.step == 5:
                while orders:
                    inbox.post(orders.pop(0))

        with pytest.raises(CrashError):
            train(tmp_path, config, on_event=tell)
    else:
        # The run is resumed, and told before its first step.
        train(tmp_path, config, on_event=post_at(5, Stop()))
        with pytest.raises(CrashError):
            resume(
                tmp_path,
                on_event=crash_when(lambda e: isinstance(e, StepCompleted) and e.step == 7),
                prepare=lambda session: leave_command(session.run.commands_path, command),
            )
    resumed = resume(tmp_path)
    lines = read_lines(resumed.run)
    told = [line["step"] for line in lines if line.get("command") == "SetLearningRate"]
    rates = {
        line["step"]: line["learning_rate"] for line in lines if line["type"] == "StepCompleted"
    }
    slow = [step for step, rate in rates.items() if rate == pytest.approx(1e-4)]
    # What is told has happened, and what has happened is told.
    assert slow == [step for step in rates if told and step > told[0]]
    assert told == [5]


def test_a_save_on_command_is_where_a_crash_resumes(tmp_path: Path) -> None:
    config = make_config(model__dropout=0.2)
    reference = train(tmp_path, config, name="reference")

    def act(event: Event, inbox: CommandInbox) -> None:
        post_at(3, SaveCheckpoint())(event, inbox)
        if isinstance(event, StepCompleted) and event.step == 6:
            raise CrashError

    with pytest.raises(CrashError):
        train(tmp_path, config, on_event=act)
    resumed = resume(tmp_path)
    assert resumed.of(StepCompleted)[0].step == 4
    assert what_was_learned(resumed.run) == what_was_learned(reference.run)


def test_a_crash_before_the_first_save_is_resumed_too(tmp_path: Path) -> None:
    config = make_config(model__dropout=0.2)
    reference = train(tmp_path, config, name="reference")
    with pytest.raises(CrashError):
        train(
            tmp_path,
            config,
            on_event=crash_when(lambda e: isinstance(e, StepCompleted) and e.step == 5),
        )
    assert_same_run(resume(tmp_path).run, reference.run)


def begin_and_crash(
    root: Path, config: Config, at_event: int = 1, start_from: Checkpoint | None = None
) -> RunFolder:
    """A run that is killed with its header in the log and before its first checkpoint."""
    with (
        pytest.raises(CrashError),
        open_session(
            TrainingRequest(
                config=config, root=root, name="run", start_from=start_from and start_from.reference
            )
        ) as session,
    ):
        run_session(session, before_log=crash_at_event(at_event))
    assert RunFolder(root / "run").steps() == []
    return RunFolder(root / "run")


@pytest.mark.parametrize("at_event", [1, 2])
def test_a_run_that_ended_before_its_first_checkpoint_starts_from_its_config(
    at_event: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(model__dropout=0.2, training__max_steps=8)
    reference = train(tmp_path, config, name="reference")
    with monkeypatch.context() as patch:
        patch.setattr(StepEnd, "save", crash)  # killed while the first one is written
        run = begin_and_crash(tmp_path, config, 99)
    if at_event == 1:
        run.events_path.unlink()
    (run.path / ".step-00000000.half").mkdir()
    resumed = resume(tmp_path)
    assert resumed.session.is_new
    assert_same_run(resumed.run, reference.run)
    assert {path.name for path in run.path.glob(".*")} <= {".lock"}


def test_a_fork_that_ended_before_its_first_checkpoint_starts_from_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = train(tmp_path, make_config(training__max_steps=8), name="parent").run.checkpoint(8)
    config = make_config(training__max_steps=8, training__seed=3)
    with open_session(
        TrainingRequest(config=config, root=tmp_path, name="reference", start_from=parent.reference)
    ) as session:
        reference = run_session(session)
    with monkeypatch.context() as patch:
        patch.setattr(StepEnd, "save", crash)
        begin_and_crash(tmp_path, config, 99, parent)
    resumed = resume(tmp_path)
    assert_same_run(resumed.run, reference.run)
    assert resumed.run.info().parent == "parent@8"


@pytest.mark.parametrize("left", ["nothing", "a lock", "a config", "all but a checkpoint"])
def test_the_name_of_a_run_that_learned_nothing_is_free(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(training__max_steps=8)
    with monkeypatch.context() as patch:
        patch.setattr(StepEnd, "save", crash)
        run = begin_and_crash(tmp_path, config, 99)
    kept = {"nothing": set(), "a lock": {".lock"}, "a config": {"config.yaml"}}.get(left)
    for path in run.path.iterdir():
        if kept is not None and path.name not in kept:
            path.unlink()
    if kept is not None:
        message = attempt(tmp_path)
        assert "--name run" in message and "checkpoint" not in message
    trained = train(tmp_path, config)
    assert trained.finished.reason == "completed"
    assert_reads_as_one_run(trained.run)


@pytest.mark.parametrize(
    "what", ["a foreign file", "a checkpoint", "a trainer", "steps in the log"]
)
def test_the_name_of_a_folder_that_holds_something_is_taken(what: str, tmp_path: Path) -> None:
    run = train(tmp_path, make_config(training__max_steps=8)).run
    if what != "a checkpoint":
        for step in run.steps():
            run.remove_checkpoint(step)
        (run.path / "index.json").unlink()
    if what in ("a foreign file", "a trainer"):
        run.events_path.unlink()
    if what == "a foreign file":
        (run.path / "essay.txt").write_text("mine")
    before = snapshot(run)
    with contextlib.ExitStack() as stack:
        if what == "a trainer":
            stack.enter_context(run.locked())
        with pytest.raises(UserError, match="already a run"):
            train(tmp_path, make_config())
    assert snapshot(run) == before
    if what == "steps in the log":
        assert "no checkpoint left" in attempt(tmp_path)
        assert snapshot(run) == before


def test_a_crash_while_a_checkpoint_is_replaced_by_its_newer_self(tmp_path: Path) -> None:
    config = make_config(training__max_steps=16)
    reference = train(tmp_path, config, name="reference")
    stopped = train(tmp_path, config, on_event=post_at(8, Stop()))
    # The two renames of a replacement, of which a crash let only the first happen.
    stopped.run.set_aside(8)
    assert_same_run(resume(tmp_path).run, reference.run)


def test_a_crash_between_a_checkpoint_and_the_index(tmp_path: Path) -> None:
    config = make_config(training__max_steps=16)
    reference = train(tmp_path, config, name="reference")
    stopped = train(tmp_path, config, on_event=post_at(3, Stop()))
    (stopped.run.path / "index.json").unlink()
    assert_same_run(resume(tmp_path).run, reference.run)


def test_leftovers_of_crashes_are_swept(tmp_path: Path) -> None:
    stopped = train(tmp_path, make_config(), on_event=post_at(3, Stop()))
    half = stopped.run.path / ".step-00000005.abc"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"x")
    (stopped.run.path / ".index.json.xyz").write_text("{")
    resume(tmp_path)
    hidden = {path.name for path in stopped.run.path.glob(".*")}
    assert hidden <= {".lock"}


def test_a_lost_log_does_not_stop_a_resume(tmp_path: Path) -> None:
    stopped = train(tmp_path, make_config(), on_event=post_at(9, Stop()))
    stopped.run.events_path.unlink()
    resumed = resume(tmp_path)
    assert resumed.finished.reason == "completed"
    assert [event.step for event in resumed.of(StepCompleted)] == list(range(10, 25))


def snapshot(run: RunFolder) -> dict[str, bytes]:
    return {
        str(path.relative_to(run.path)): path.read_bytes()
        for path in run.path.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def attempt(root: Path, reference: str = "run", overrides: tuple[str, ...] = ()) -> str:
    with (
        pytest.raises(UserError) as caught,
        open_session(TrainingRequest(resume=reference, root=root, overrides=overrides)),
    ):
        raise AssertionError("the resume was not refused")
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def stopped_source(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAKESPEARE_TUI_CACHE", str(root / "cache"))
        return train(root, make_config(), on_event=post_at(9, Stop()))


@pytest.fixture
def stopped(stopped_source: Trained, tmp_path: Path) -> RunFolder:
    shutil.copytree(stopped_source.run.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


CHANGES = {
    "model.d_model": "32",
    "model.n_heads": "1",
    "model.dropout": "0.5",
    "model.positions": "learned",
    "model.activation": "relu2",
    "model.rope_theta": "5000",
    "data.val_fraction": "0.2",
    "data.seq_len": "8",
    "data.windows": "shuffled",
    "training.optimizer": "sgd",
    "training.learning_rate": "0.5",
    "training.scheduler": "linear",
    "training.min_lr": "0.0001",
    "training.weight_decay": "0.3",
    "training.grad_clip": "0",
    "training.seed": "1",
    "training.ema_decay": "0.9",
    "training.batch_size": "8",
    "training.grad_accumulation": "2",
    "training.precision": "bfloat16",
}


def edit_config(run: RunFolder, key: str, value: str) -> None:
    """As by an editor: one line of ``config.yaml``."""
    section, _, name = key.partition(".")
    path = run.path / "config.yaml"
    head, found, tail = path.read_text().partition(f"\n{section}:")
    tail, count = re.subn(rf"(?m)^  {name}: .*$", f"  {name}: {value}", tail, count=1)
    assert found and count
    path.write_text(head + found + tail)


@pytest.mark.parametrize("key", CHANGES)
@pytest.mark.parametrize("by", ["an override", "an editor"])
def test_a_change_that_cannot_be_exact_is_refused(by: str, key: str, stopped: RunFolder) -> None:
    overrides: tuple[str, ...] = ()
    if by == "an editor":
        edit_config(stopped, key, CHANGES[key])
    else:
        overrides = (f"{key}={CHANGES[key]}",)
    before = snapshot(stopped)
    message = attempt(stopped.path.parent, overrides=overrides)
    assert f"{key} is {CHANGES[key]}, was" in message
    assert "--from run@9" in message
    assert snapshot(stopped) == before
    assert not stopped.is_locked()


def test_every_change_is_named_at_once_also_for_an_earlier_step(stopped: RunFolder) -> None:
    edit_config(stopped, "training.seed", "1")
    edit_config(stopped, "model.dropout", "0.5")
    before = snapshot(stopped)
    message = attempt(stopped.path.parent, "run@8", ("training.batch_size=8",))
    for key in ("training.seed is 1", "model.dropout is 0.5", "training.batch_size is 8"):
        assert key in message
    assert "--from run@8" in message
    assert snapshot(stopped) == before


@pytest.mark.parametrize(
    "override", ["training.max_steps=-1", "training.max_stps=30", "data.corpus=nowhere.txt"]
)
def test_a_change_that_makes_no_sense_is_refused(override: str, stopped: RunFolder) -> None:
    before = snapshot(stopped)
    message = attempt(stopped.path.parent, overrides=(override,))
    assert "max_steps" in message or "nowhere.txt" in message
    assert snapshot(stopped) == before


def test_what_does_not_touch_the_steps_may_change(tmp_path: Path) -> None:
    config = make_config(model__dropout=0.2)
    reference = train(tmp_path, config, name="reference")
    train(tmp_path, config, on_event=post_at(9, Stop()))
    changes = [
        "sampling.every=5",
        "sampling.temperature=0.1",
        "checkpoints.save_every=3",
        "checkpoints.keep_best=1",
        "training.eval_every=6",
        "training.patience=50",
        "training.on_nan=rollback",
        "training.precision=auto",
        "training.device=cpu",
        # What an empty setting means, said aloud.
        "training.min_lr=0.0003",
        "data.seq_len=16",
    ]
    resumed = resume(tmp_path, overrides=changes)
    assert steps_learned(resumed.run) == steps_learned(reference.run)
    assert resumed.run.config().sampling.every == 5


def steps_learned(run: RunFolder) -> list[tuple[Any, ...]]:
    return [line for line in what_was_learned(run) if line[0] == "StepCompleted"]


def test_a_corpus_that_moved_is_the_same_corpus(tmp_path: Path) -> None:
    text = tmp_path / "own.txt"
    text.write_text("To be, or not to be: that is the question.\n" * 60)
    config = make_config(data__corpus=str(text), sampling__prompts='["To"]')
    reference = train(tmp_path, config, name="reference")
    train(tmp_path, config, on_event=post_at(9, Stop()))
    moved = text.rename(tmp_path / "moved.txt")
    resumed = resume(tmp_path, overrides=[f"data.corpus={moved}"])
    assert what_was_learned(resumed.run) == what_was_learned(reference.run)


def test_a_setting_of_a_later_version_does_not_forbid_a_resume(stopped: RunFolder) -> None:
    path = stopped.checkpoint(9).state_path
    arrays, metadata = read_arrays(path)
    fingerprint = json.loads(metadata["fingerprint"])
    del fingerprint["settings"]["training.momentum"]
    save_file(arrays, path, metadata | {"fingerprint": json.dumps(fingerprint)})
    forget_digests(stopped.checkpoint(9))
    with open_session(TrainingRequest(resume="run@9", root=stopped.path.parent)) as session:
        assert session.progress.step == 9


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.slow
def test_another_number_of_threads_is_said(threads: int, stopped: RunFolder) -> None:
    torch.set_num_threads(threads + 1)
    notices: list[str] = []
    hooks = Hooks(notice=notices.append)
    with open_session(TrainingRequest(resume="run", root=stopped.path.parent), hooks) as session:
        run_session(session)
    (notice,) = notices
    assert f"{threads + 1} threads, was {threads} (set OMP_NUM_THREADS={threads})" in notice
    # From here on it is what the run is trained with.
    with open_session(TrainingRequest(resume="run", root=stopped.path.parent), hooks):
        assert len(notices) == 1


def test_a_run_of_an_older_version_is_resumed_exactly(stopped: RunFolder, tmp_path: Path) -> None:
    reference = train(tmp_path, make_config(), name="reference")
    for step in stopped.steps():
        path = stopped.checkpoint(step).state_path
        arrays, metadata = read_arrays(path)
        del metadata["fingerprint"]
        save_file(arrays, path, metadata)
        forget_digests(stopped.checkpoint(step))
    assert "training.seed is 1, was" in attempt(tmp_path, overrides=("training.seed=1",))
    assert_same_run(resume(tmp_path).run, reference.run)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def rewrite_state(run: RunFolder, **changes: Any) -> None:
    path = run.checkpoint(9).state_path
    arrays, metadata = read_arrays(path)
    for key in [key for key, value in changes.items() if key in metadata]:
        value = changes.pop(key)
        if value is None:
            del metadata[key]
        else:
            metadata[key] = value
    if changes and "progress" in metadata:
        metadata["progress"] = json.dumps(json.loads(metadata["progress"]) | changes)
    save_file(arrays, path, metadata)
    forget_digests(run.checkpoint(9))


DAMAGED_CHECKPOINT: dict[str, Callable[[RunFolder], object]] = {
    "weights cut short": lambda run: truncate(run.checkpoint(9).weights_path),
    "weights with a flipped bit": lambda run: flip_bit(run.checkpoint(9).weights_path),
    "state with a flipped bit": lambda run: flip_bit(run.checkpoint(9).state_path),
    "state cut short": lambda run: truncate(run.checkpoint(9).state_path),
    "state is missing": lambda run: run.checkpoint(9).state_path.unlink(),
    "state is the weights": lambda run: run.checkpoint(9).state_path.write_bytes(
        run.checkpoint(9).weights_path.read_bytes()
    ),
    "a pickle": lambda run: run.checkpoint(9).state_path.write_bytes(b"\x80\x04cos\nsystem\n"),
    "info is missing": lambda run: (run.checkpoint(9).folder / "info.json").unlink(),
    "info is no JSON": lambda run: (run.checkpoint(9).folder / "info.json").write_text("{"),
    "progress is no JSON": lambda run: rewrite_state(run, progress="{"),
    "progress is a list": lambda run: rewrite_state(run, progress="[1]"),
    "progress has unknown fields": lambda run: rewrite_state(run, epoch=3),
    "progress has a word for a step": lambda run: rewrite_state(run, step="nine"),
    "progress is of another step": lambda run: rewrite_state(run, step=8),
    "progress has an unknown precision": lambda run: rewrite_state(run, precision="int3"),
    "progress has no updates": lambda run: rewrite_state(run, ema_updates=None),
    "updates are no number": lambda run: rewrite_state(run, ema_updates="many"),
}

DAMAGED_RUN: dict[str, Callable[[RunFolder], object]] = {
    "newer info": lambda run: (run.checkpoint(9).folder / "info.json").write_text('{"format": 99}'),
    "run.json is missing": lambda run: (run.path / "run.json").unlink(),
    "config is damaged": lambda run: (run.path / "config.yaml").write_text("model: ["),
    "config names a larger model": lambda run: (run.path / "config.yaml").write_text(
        (run.path / "config.yaml").read_text().replace("d_model: 16\n", "d_model: 16384\n")
    ),
    "tokenizer is damaged": lambda run: (run.path / "tokenizer.json").write_text("{}"),
}


@pytest.mark.parametrize("kind", [*DAMAGED_CHECKPOINT, *DAMAGED_RUN])
def test_damage_is_one_line_and_loses_nothing(kind: str, stopped: RunFolder) -> None:
    (DAMAGED_CHECKPOINT | DAMAGED_RUN)[kind](stopped)
    before = snapshot(stopped)
    attempt(stopped.path.parent, "run" if kind in DAMAGED_RUN else "run@9")
    assert snapshot(stopped) == before


@pytest.mark.parametrize("kind", DAMAGED_CHECKPOINT)
def test_resuming_steps_back_to_the_last_good_checkpoint_and_says_so(
    kind: str, stopped: RunFolder
) -> None:
    DAMAGED_CHECKPOINT[kind](stopped)
    notices: list[str] = []
    hooks = Hooks(notice=notices.append)
    with open_session(TrainingRequest(resume="run", root=stopped.path.parent), hooks) as session:
        assert session.progress.step == 8
        assert stopped.index()["last"] == 8
        assert stopped.steps() == [8]
    assert "run@9 cannot be used" in notices[0]
    assert "resuming from step 8" in notices[1]
    assert not any("\n" in notice for notice in notices)


def test_a_run_that_stepped_back_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    config = make_config(model__dropout=0.2)
    reference = train(tmp_path, config, name="reference")
    stopped = train(tmp_path, config, on_event=post_at(9, Stop())).run
    flip_bit(stopped.checkpoint(9).weights_path)
    assert_same_run(resume(tmp_path).run, reference.run)


def test_no_good_checkpoint_at_all_is_one_line_and_loses_nothing(stopped: RunFolder) -> None:
    for step in stopped.steps():
        flip_bit(stopped.checkpoint(step).weights_path)
    before = snapshot(stopped)
    message = attempt(stopped.path.parent)
    assert "no checkpoint of run run can be used" in message
    assert snapshot(stopped) == before


@pytest.mark.parametrize(
    "reference", ["run@5", "run@best", "run@-1", "run@", "nobody", "../run@x", "run@" + "9" * 30]
)
def test_what_cannot_be_resumed_is_refused(reference: str, stopped: RunFolder) -> None:
    before = snapshot(stopped)
    if reference == "run@":
        # An empty step is the last one.
        with open_session(TrainingRequest(resume=reference, root=stopped.path.parent)) as session:
            assert session.progress.step == 9
        return
    attempt(stopped.path.parent, reference)
    assert snapshot(stopped) == before


@pytest.mark.parametrize("reference", ["run", "run@9"])
@pytest.mark.parametrize("content", ["[", "[]", '{"last": "nine"}', '{"last": 11, "best": 11}'])
def test_a_damaged_index_leaves_resuming(content: str, reference: str, stopped: RunFolder) -> None:
    (stopped.path / "index.json").write_text(content)
    with open_session(TrainingRequest(resume=reference, root=stopped.path.parent)) as session:
        assert session.progress.step == 9
    assert stopped.index()["last"] == 9


def test_a_run_in_training_is_refused(stopped: RunFolder) -> None:
    with open_session(TrainingRequest(resume="run", root=stopped.path.parent)):
        assert stopped.is_locked()
        assert "another process" in attempt(stopped.path.parent)
    assert not stopped.is_locked()


def test_a_second_trainer_let_in_by_a_deleted_lock_is_not_written_over(tmp_path: Path) -> None:
    config = make_config(model__dropout=0.2)
    reference = train(tmp_path, config, name="reference")
    second: list[Trained] = []

    def let_another_in(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted) and event.step == 10 and not second:
            (tmp_path / "run" / ".lock").unlink()
            second.append(resume(tmp_path))

    with pytest.raises(RunFailedError, match="was deleted"):
        train(tmp_path, config, on_event=let_another_in)
    assert second[0].of(StepCompleted)[0].step == 9
    assert_same_run(second[0].run, reference.run)


def test_a_changed_corpus_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "own.txt"
    text.write_text("To be, or not to be: that is the question.\n" * 60)
    config = make_config(data__corpus=str(text), sampling__prompts='["To"]')
    run = train(tmp_path, config, on_event=post_at(3, Stop())).run
    text.write_text("To be, or not to be: that is the riddle.\n" * 60)
    before = snapshot(run)
    assert "changed" in attempt(tmp_path)
    assert snapshot(run) == before


def test_the_last_line_of_a_resumed_run_is_its_ending(tmp_path: Path) -> None:
    train(tmp_path, make_config(), on_event=post_at(3, Stop()))
    resumed = resume(tmp_path)
    assert type(resumed.events[-1]) is RunFinished
    assert_reads_as_one_run(resumed.run)


def test_what_a_crash_kept_from_removal_is_removed_by_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save names the new checkpoint before it removes what that one replaces."""
    config = make_config(checkpoints__save_every=5, training__max_steps=16)
    reference = train(tmp_path, config, name="reference")
    with monkeypatch.context() as patch, pytest.raises(CrashError):
        remove = RunFolder.remove_checkpoint

        def crash(run: RunFolder, step: int) -> None:
            if step == 15:
                raise CrashError
            remove(run, step)

        patch.setattr(RunFolder, "remove_checkpoint", crash)
        train(tmp_path, config)
    assert 15 in RunFolder(tmp_path / "run").steps()
    again = resume(tmp_path)
    assert_same_run(again.run, reference.run)
