"""What a person who trains a model sees, asks for and gets."""

import math
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_runs import (
    OnEvent,
    Prepare,
    make_config,
    on_both_backends,
    post_at,
    read_lines,
    resume,
    run_session,
    train,
    what_was_learned,
)

from shakespeare_tui.config.estimate.speed import SPEED_STEPS
from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.runs.commands import (
    AddNote,
    Command,
    CommandInbox,
    ExtendRun,
    GenerateSample,
    Pause,
    Resume,
    SaveCheckpoint,
    SetLearningRate,
    Stop,
    leave_command,
)
from shakespeare_tui.runs.events import (
    CheckpointEvaluated,
    CheckpointSaved,
    CommandApplied,
    DiagnosisRaised,
    EvalCompleted,
    Event,
    LayerStatistics,
    RunFailed,
    RunFinished,
    RunStarted,
    SampleGenerated,
    StepCompleted,
)
from shakespeare_tui.runs.folder import RunFolder, find_checkpoint
from shakespeare_tui.runs.losses import Loss
from shakespeare_tui.training import loop
from shakespeare_tui.training.evaluate import evaluate
from shakespeare_tui.training.optimizers import Muon
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.training.session import Session, open_session
from shakespeare_tui.training.torch_state import load_model


def at_step(step: int, *commands: Command) -> OnEvent:
    def act(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted) and event.step == step:
            for command in commands:
                inbox.post(command)

    return act


def losses(events: list[Any]) -> list[float]:
    return [event.loss for event in events]


# --- the stream ----------------------------------------------------------------------------


@on_both_backends
def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    backend: str, tmp_path: Path
) -> None:
    settings = {"model__dropout": 0.2, "training__backend": backend}
    config = make_config(**settings)
    first = train(tmp_path, config, name="first")
    torch.rand(7)  # whatever else drew random numbers meanwhile
    second = train(tmp_path, config, name="second")
    other = train(tmp_path, make_config(**settings, training__seed=2), name="other")
    assert what_was_learned(first.run) == what_was_learned(second.run)
    for one, two in zip(first.run.checkpoints(), second.run.checkpoints(), strict=True):
        assert one.weights_path.read_bytes() == two.weights_path.read_bytes()
    assert losses(first.of(StepCompleted)) != losses(other.of(StepCompleted))


def test_the_log_tells_the_whole_run_in_order(tmp_path: Path) -> None:
    trained = train(tmp_path, make_config(training__max_steps=20))
    lines = read_lines(trained.run)
    assert [line["type"] for line in lines] == [type(event).__name__ for event in trained.events]
    assert lines[0]["type"] == "RunStarted"
    assert lines[-1]["type"] == "RunFinished"
    assert [line["step"] for line in lines if line["type"] == "StepCompleted"] == [*range(1, 21)]
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    elapsed = [line["elapsed_seconds"] for line in lines if line["type"] == "StepCompleted"]
    assert elapsed == sorted(elapsed)
    assert elapsed[0] > 0
    evaluated = [event.step for event in trained.of(EvalCompleted)]
    assert sorted(set(evaluated)) == [8, 16, 20]
    sampled = [(event.step, event.prompt) for event in trained.of(SampleGenerated)]
    assert sampled == [(step, prompt) for step in (0, 8, 16, 20) for prompt in ("A", "the ")]


def test_the_header_says_what_is_trained(tmp_path: Path) -> None:
    config = make_config(training__max_steps=2)
    trained = train(tmp_path, config, name="mine")
    (started,) = trained.of(RunStarted)
    assert started.run == "mine"
    assert started.config == config.model_dump(mode="json")
    assert started.corpus == "sample"
    assert started.parameters == sum(p.numel() for p in trained.session.state.model.parameters())
    assert started.vocab_size == trained.session.tokenizer.vocab_size
    assert started.characters == len(trained.session.train) + len(trained.session.val)
    assert started.baselines["uniform"] == pytest.approx(math.log(started.vocab_size))
    assert "cpu" in started.device


@on_both_backends
def test_the_model_learns(backend: str, tmp_path: Path) -> None:
    settings = {"training__max_steps": 150, "training__backend": backend}
    trained = train(tmp_path, make_config(**settings, sampling__every=0))
    steps = trained.of(StepCompleted)
    assert steps[0].loss == pytest.approx(math.log(trained.session.tokenizer.vocab_size), abs=0.3)
    unigram = trained.session.baselines["unigram"]
    assert trained.finished.val_loss is not None
    assert trained.finished.val_loss < unigram


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_final_figure_is_exact_and_that_of_the_saved_weights(
    tmp_path: Path, precision: str
) -> None:
    config = make_config(training__max_steps=20, training__precision=precision)
    trained = train(tmp_path, config)
    assert trained.finished.protocol == "exact"
    assert trained.of(EvalCompleted)[-1].protocol == "exact"
    assert trained.of(EvalCompleted)[-1].val_loss == trained.finished.val_loss
    model, _ = load_model(find_checkpoint("run@last", tmp_path), torch.device("cpu"))
    exact = evaluate(model, trained.session.val)
    assert (exact.loss, exact.accuracy) == (trained.finished.val_loss, trained.finished.accuracy)
    # It counts in the checkpoint, too, beside the figure that compares with earlier steps.
    info = find_checkpoint("run@last", tmp_path).info
    assert info.loss == Loss(trained.finished.val_loss, "exact")
    assert [loss.protocol for loss in info.losses] == ["exact", info.protocol]
    usual = trained.of(EvalCompleted)[-2]
    assert info.val_loss == usual.val_loss
    assert [loss.accuracy for loss in info.losses] == [exact.accuracy, usual.accuracy]


def test_the_training_split_is_never_read_in_full(tmp_path: Path) -> None:
    trained = train(tmp_path, make_config(training__max_steps=20))
    usual, final = trained.of(EvalCompleted)[-2:]
    assert final.train_protocol == usual.train_protocol == usual.protocol != "exact"
    assert final.train_loss == usual.train_loss


def train_with_a_jolt(root: Path) -> Any:
    """A run that is at its best at step 16, and ruined by a huge rate from then on."""
    config = make_config(training__scheduler="constant", sampling__every=0)
    return train(root, config, on_event=at_step(16, SetLearningRate(learning_rate=1.0)))


def test_a_best_checkpoint_that_is_not_the_last_is_measured_exactly_too(tmp_path: Path) -> None:
    trained = train_with_a_jolt(tmp_path)
    (measured,) = trained.of(CheckpointEvaluated)
    assert (measured.step, measured.protocol) == (16, "exact")
    best = find_checkpoint("run@best", tmp_path)
    assert best.info.step == 16
    assert best.info.loss == Loss(measured.val_loss, "exact")
    assert best.info.loss.accuracy == measured.accuracy
    model, _ = load_model(best, torch.device("cpu"))
    assert evaluate(model, trained.session.val).loss == measured.val_loss
    assert trained.finished.val_loss > measured.val_loss
    # It is measured once, and told of again where the run goes on.
    (again,) = resume(tmp_path, overrides=["training.max_steps=26"]).of(CheckpointEvaluated)
    assert (again.step, again.val_loss, again.accuracy) == (
        16,
        measured.val_loss,
        measured.accuracy,
    )


def test_a_stop_between_the_two_exact_figures_keeps_the_first(tmp_path: Path) -> None:
    jolt = at_step(16, SetLearningRate(learning_rate=1.0))

    def stop_after_the_exact_figure(event: Event, inbox: CommandInbox) -> None:
        jolt(event, inbox)
        if isinstance(event, EvalCompleted) and event.protocol == "exact":
            inbox.post(Stop())

    config = make_config(training__scheduler="constant", sampling__every=0)
    trained = train(tmp_path, config, on_event=stop_after_the_exact_figure)
    assert (trained.finished.reason, trained.finished.protocol) == ("stopped", "exact")
    assert trained.of(CheckpointEvaluated) == []
    assert resume(tmp_path).of(CheckpointEvaluated)[0].step == 16


def test_a_loss_of_another_protocol_is_no_gain_and_no_loss(tmp_path: Path) -> None:
    """Patience and the best begin anew where a resumed run is measured in another way."""
    first = train_with_a_jolt(tmp_path)
    assert first.session.progress.evaluations_without_gain == 1
    # Evaluations further apart afford more windows.
    longer = resume(tmp_path, overrides=["training.max_steps=40", "training.eval_every=40"])
    before, after = first.of(EvalCompleted)[0], longer.of(EvalCompleted)[0]
    assert before.protocol != after.protocol
    assert longer.session.progress.best_step == 40
    assert longer.session.progress.evaluations_without_gain == 0
    protocols = {checkpoint.info.protocol for checkpoint in longer.run.checkpoints()}
    assert protocols >= {before.protocol, after.protocol}


def test_logging_every_thins_the_steps_of_the_file_only(tmp_path: Path) -> None:
    config = make_config(logging__every=5, training__max_steps=12)
    trained = train(tmp_path, config)
    assert len(trained.of(StepCompleted)) == 12
    lines = read_lines(trained.run)
    assert [line["step"] for line in lines if line["type"] == "StepCompleted"] == [5, 10]
    assert sum(line["type"] == "SampleGenerated" for line in lines) == 6


@on_both_backends
def test_layers_are_measured_as_often_as_asked_and_change_nothing(
    backend: str, tmp_path: Path
) -> None:
    settings = {"training__backend": backend, "model__dropout": 0.3, "training__max_steps": 10}
    never = train(tmp_path, make_config(**settings, logging__layers_every=0), name="never")
    often = train(tmp_path, make_config(**settings, logging__layers_every=4), name="often")
    assert never.of(LayerStatistics) == []
    measured = often.of(LayerStatistics)
    assert [event.step for event in measured] == [1, 4, 8]
    assert losses(never.of(StepCompleted)) == losses(often.of(StepCompleted))
    grad_norms = {event.step: event.grad_norm for event in often.of(StepCompleted)}
    for event in measured:
        # Together they are the whole gradient.
        assert math.hypot(*event.grad_norms) == pytest.approx(grad_norms[event.step], rel=1e-5)
        assert all(0 < ratio < 1 for ratio in event.update_ratios)


@on_both_backends
def test_samples_do_not_disturb_training(backend: str, tmp_path: Path) -> None:
    settings = {"model__dropout": 0.3, "training__backend": backend}
    without = train(tmp_path, make_config(**settings, sampling__every=0, sampling__prompts='["A"]'))
    often = train(
        tmp_path, make_config(**settings, sampling__every=1, training__max_steps=24), name="o"
    )
    assert len(often.of(SampleGenerated)) == 50
    assert losses(without.of(StepCompleted)) == losses(often.of(StepCompleted))


@on_both_backends
def test_evaluations_do_not_disturb_training(backend: str, tmp_path: Path) -> None:
    settings = {"model__dropout": 0.3, "training__backend": backend}
    rarely = train(tmp_path, make_config(**settings, training__eval_every=24))
    often = train(tmp_path, make_config(**settings, training__eval_every=1), name="o")
    assert losses(rarely.of(StepCompleted)) == losses(often.of(StepCompleted))


@on_both_backends
def test_accumulating_gradients_equals_a_larger_batch(backend: str, tmp_path: Path) -> None:
    shuffled = {"data__windows": "shuffled", "sampling__every": 0, "training__backend": backend}
    whole = train(tmp_path, make_config(training__batch_size=8, **shuffled), name="whole")
    parts = train(
        tmp_path,
        make_config(training__batch_size=2, training__grad_accumulation=4, **shuffled),
        name="parts",
    )
    assert losses(parts.of(StepCompleted)) == pytest.approx(
        losses(whole.of(StepCompleted)), abs=1e-5
    )


def test_an_average_of_weights_is_what_is_evaluated_and_saved(tmp_path: Path) -> None:
    trained = train(tmp_path, make_config(training__ema_decay=0.95, training__max_steps=16))
    plain = train(tmp_path, make_config(training__max_steps=16), name="plain")
    assert losses(trained.of(StepCompleted)) == losses(plain.of(StepCompleted))
    assert trained.finished.val_loss != plain.finished.val_loss
    saved = load_file(trained.run.checkpoint(16).weights_path)
    own = dict(trained.session.state.model.named_parameters())
    with torch.no_grad():
        assert not all(torch.equal(saved[name], own[name]) for name in own)
    model, _ = load_model(find_checkpoint("run@16", tmp_path), torch.device("cpu"))
    assert evaluate(model, trained.session.val).loss == trained.finished.val_loss


def test_automatic_precision_is_chosen_told_and_kept(tmp_path: Path) -> None:
    config = make_config(training__precision="auto", training__max_steps=4)
    trained = train(tmp_path, config, on_event=at_step(2, Stop()))
    (started,) = trained.of(RunStarted)
    assert started.precision in ("float32", "bfloat16")
    assert resume(tmp_path).session.progress.precision == started.precision


def test_a_measured_precision_does_not_change_the_losses(tmp_path: Path) -> None:
    auto = train(
        tmp_path, make_config(training__precision="auto", model__dropout=0.2, training__max_steps=4)
    )
    chosen = auto.session.progress.precision
    fixed = train(
        tmp_path,
        make_config(training__precision=chosen, model__dropout=0.2, training__max_steps=4),
        name="fixed",
    )
    assert losses(auto.of(StepCompleted)) == losses(fixed.of(StepCompleted))


# --- how long ------------------------------------------------------------------------------


def test_a_target_ends_the_run(tmp_path: Path) -> None:
    trained = train(tmp_path, make_config(training__target_loss=4.05, training__max_steps=500))
    assert trained.finished.reason == "target"
    assert trained.finished.step < 500
    assert trained.of(EvalCompleted)[-2].val_loss <= 4.05
    assert trained.run.index()["last"] == trained.finished.step


def smoothed(losses: list[float], steps: int) -> list[float]:
    """Exponential means with bias correction, from their definition."""
    weights = [(1 - 1 / steps) ** age for age in range(len(losses))]
    return [
        sum(w * x for w, x in zip(weights, losses[: end + 1][::-1], strict=False))
        / sum(weights[: end + 1])
        for end in range(len(losses))
    ]


def test_a_target_for_the_training_loss_ends_the_run_also_where_it_was_resumed(
    tmp_path: Path,
) -> None:
    config = make_config(
        training__target_train_loss=4.0, training__train_loss_steps=5, training__max_steps=500
    )
    whole = train(tmp_path, config, name="whole")
    assert whole.finished.reason == "train_target"
    means = smoothed(losses(whole.of(StepCompleted)), 5)
    assert [step for step, mean in enumerate(means, 1) if mean <= 4.0 and step >= 5] == [
        whole.finished.step
    ]
    stop = whole.finished.step // 2
    train(tmp_path, config, name="parts", on_event=post_at(stop, Stop()))
    parts = resume(tmp_path, "parts")
    assert (parts.finished.reason, parts.finished.step) == ("train_target", whole.finished.step)
    assert what_was_learned(parts.run) == what_was_learned(whole.run)


def test_patience_ends_the_run_after_so_many_evaluations_without_gain(tmp_path: Path) -> None:
    config = make_config(
        training__patience=3,
        training__max_steps=500,
        training__eval_every=2,
        training__learning_rate=1e-12,
        training__min_lr=1e-12,
        training__weight_decay=0,
    )
    trained = train(tmp_path, config)
    assert trained.finished.reason == "patience"
    best = trained.session.progress.best_step
    assert best is not None
    assert trained.finished.step == best + 3 * 2


def test_a_time_budget_is_kept_and_the_rate_has_decayed_by_then(tmp_path: Path) -> None:
    seconds = 1.5
    config = make_config(
        training__minutes=seconds / 60,
        training__scheduler="linear",
        training__min_lr=1e-5,
        training__eval_every=1000,
        training__max_steps=1,
        sampling__every=0,
    )
    trained = train(tmp_path, config)
    steps = trained.of(StepCompleted)
    assert trained.finished.reason == "completed"
    assert len(steps) > 20
    # At most a fifth of the time is kept for what comes after the last step. The time may run out
    # between a step's own reading of the clock and the trainer's.
    assert 0.8 * seconds - 0.01 <= steps[-1].elapsed_seconds
    assert steps[-2].elapsed_seconds < seconds
    # The last step began just before the time was up, of which the end's share is an estimate
    # that other work on the machine may double from one step to the next.
    last, before = steps[-1].elapsed_seconds, steps[-2].elapsed_seconds
    share_left = max(0.2, 1.05 * (last - before) / last)
    peak = config.training.learning_rate
    assert 1e-5 <= steps[-1].learning_rate <= 1e-5 + share_left * (peak - 1e-5)
    for step, later in zip(steps[5:], steps[6:], strict=False):
        assert later.learning_rate < step.learning_rate


# --- commands ------------------------------------------------------------------------------


def test_a_pause_holds_training_and_its_clock(tmp_path: Path) -> None:
    paused_at: list[float] = []

    def act(event: Event, inbox: CommandInbox) -> None:
        at_step(5, Pause())(event, inbox)
        if isinstance(event, CommandApplied) and event.command == "Pause":
            paused_at.append(time.monotonic())
            import threading

            threading.Timer(0.6, lambda: inbox.post(Resume())).start()
        if isinstance(event, StepCompleted) and event.step == 6:
            paused_at.append(time.monotonic())

    trained = train(tmp_path, make_config(training__max_steps=12), on_event=act)
    steps = {event.step: event for event in trained.of(StepCompleted)}
    trained_seconds = steps[6].elapsed_seconds - steps[5].elapsed_seconds
    assert trained_seconds < paused_at[1] - paused_at[0] - 0.4
    commands = [(event.step, event.command) for event in trained.of(CommandApplied)]
    assert commands == [(5, "Pause"), (5, "Resume")]
    reference = train(tmp_path, make_config(training__max_steps=12), name="reference")
    assert what_was_learned(trained.run) == what_was_learned(reference.run)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("commands", "last_step"),
    [
        ((Pause(), Resume()), 12),
        ((Pause(), Pause(), Resume()), 12),
        ((Pause(), Resume(), Pause(), Resume()), 12),
        ((Resume(),), 12),
        ((Pause(), Stop()), 5),
        ((Pause(), Resume(), Pause(), Stop()), 5),
        ((Stop(), Pause()), 5),
        ((Stop(), Stop()), 5),
    ],
    ids=lambda value: (
        "-".join(type(c).__name__ for c in value) if isinstance(value, tuple) else None
    ),
)
def test_commands_that_came_during_one_step_all_count(
    commands: tuple[Command, ...], last_step: int, tmp_path: Path
) -> None:
    config = make_config(training__max_steps=12)
    trained = train(tmp_path, config, on_event=at_step(5, *commands))
    assert trained.finished.step == last_step
    assert trained.finished.reason == ("completed" if last_step == 12 else "stopped")


def test_a_paused_run_saves_samples_and_takes_settings(tmp_path: Path) -> None:
    def act(event: Event, inbox: CommandInbox) -> None:
        at_step(5, Pause())(event, inbox)
        if isinstance(event, CommandApplied) and event.command == "Pause":
            inbox.post(SaveCheckpoint())
            inbox.post(GenerateSample(prompt="you"))
        if isinstance(event, CheckpointSaved) and event.step == 5:
            inbox.post(Resume())

    trained = train(tmp_path, make_config(training__max_steps=12), on_event=act)
    assert trained.finished.step == 12
    assert (5, "you") in [(event.step, event.prompt) for event in trained.of(SampleGenerated)]


def test_a_learning_rate_scales_the_schedule_from_the_next_step_on(tmp_path: Path) -> None:
    config = make_config(training__learning_rate=1e-3, training__min_lr=1e-4)
    plain = train(tmp_path, config, name="plain")
    trained = train(tmp_path, config, on_event=at_step(10, SetLearningRate(learning_rate=5e-4)))
    before = [event.learning_rate for event in plain.of(StepCompleted)]
    after = [event.learning_rate for event in trained.of(StepCompleted)]
    assert after[:10] == before[:10]
    assert after[10:] == pytest.approx([rate / 2 for rate in before[10:]])
    (applied,) = trained.of(CommandApplied)
    assert (applied.step, applied.command) == (10, "SetLearningRate")
    assert applied.arguments == {"learning_rate": 5e-4}


def test_extending_stretches_the_schedule(tmp_path: Path) -> None:
    config = make_config(training__scheduler="linear", training__min_lr=0)
    trained = train(tmp_path, config, on_event=at_step(10, ExtendRun(steps=16)))
    whole = train(
        tmp_path,
        make_config(training__scheduler="linear", training__min_lr=0, training__max_steps=40),
        name="whole",
    )
    assert trained.finished.step == 40
    rates = [event.learning_rate for event in trained.of(StepCompleted)]
    assert rates[10:] == [event.learning_rate for event in whole.of(StepCompleted)][10:]


def test_extending_adds_minutes_to_a_time_budget(tmp_path: Path) -> None:
    config = make_config(training__minutes=0.005, training__eval_every=1000, sampling__every=0)
    trained = train(tmp_path, config, on_event=at_step(3, ExtendRun(minutes=0.01)))
    assert trained.of(StepCompleted)[-1].elapsed_seconds >= 0.8 * 0.9 - 0.01


def test_an_exact_loss_that_does_not_fit_into_the_time_budget_is_left_to_eval(
    tmp_path: Path,
) -> None:
    corpus = tmp_path / "long.txt"
    corpus.write_text("the cat sat on the mat. " * 200_000)
    config = make_config(
        training__minutes=0.005,
        training__eval_every=1000,
        data__corpus=str(corpus),
        sampling__every=0,
    )
    trained = train(tmp_path, config)
    assert trained.finished.reason == "completed"
    evaluations = trained.of(EvalCompleted)
    assert {event.protocol for event in evaluations} == {trained.finished.protocol}
    assert trained.finished.protocol.startswith("subset-")
    assert trained.finished.val_loss == evaluations[-1].val_loss


def test_long_steps_do_not_make_the_end_of_a_time_budget_longer(tmp_path: Path) -> None:
    """By its steps between evaluations, this run would be measured on all of a long text."""
    (tmp_path / "long.txt").write_text("the cat sat on the mat. " * 200_000)
    config = make_config(
        training__minutes=0.005,
        training__eval_every=100_000,
        training__batch_size=64,
        training__grad_accumulation=64,
        data__corpus=str(tmp_path / "long.txt"),
        sampling__every=0,
    )
    trained = train(tmp_path, config)
    assert len(trained.of(StepCompleted)) < SPEED_STEPS
    (measured,) = trained.of(EvalCompleted)
    windows = int(measured.protocol.removeprefix("subset-"))
    assert windows.bit_count() == 1
    assert 2 * windows * config.seq_len < len(trained.session.val)
    assert measured.train_protocol == measured.protocol == trained.finished.protocol


def test_the_runs_of_an_experiment_are_measured_exactly_whatever_it_takes(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("the cat sat on the mat. " * 20_000)
    config = make_config(
        training__minutes=0.001,
        training__eval_every=1000,
        data__corpus=str(tmp_path / "long.txt"),
        sampling__every=0,
    )
    for experiment, protocol in ((None, r"subset-\d+"), ("compared", "exact")):
        name = experiment or "alone"
        request = TrainingRequest(root=tmp_path, config=config, name=name, experiment=experiment)
        with open_session(request) as session:
            trained = run_session(session)
        assert re.fullmatch(protocol, trained.finished.protocol)
        (saved,) = (c for c in trained.run.checkpoints() if c.info.losses)
        assert re.fullmatch(protocol, saved.info.losses[0].protocol)


def test_a_note_is_written_down_and_changes_nothing(tmp_path: Path) -> None:
    config = make_config(training__max_steps=12)
    trained = train(tmp_path, config, on_event=at_step(4, AddNote(text="here [b]\n")))
    plain = train(tmp_path, config, name="plain")
    (note,) = [line for line in read_lines(trained.run) if line["type"] == "CommandApplied"]
    assert (note["step"], note["command"]) == (4, "AddNote")
    assert note["arguments"] == {"text": "here [b]\n"}
    assert what_was_learned(trained.run) == what_was_learned(plain.run)


def test_a_save_is_done_at_once_and_loads(tmp_path: Path) -> None:
    trained = train(
        tmp_path,
        make_config(checkpoints__every=3, training__max_steps=4),
        on_event=at_step(1, SaveCheckpoint()),
    )
    saved = {event.step: event for event in trained.of(CheckpointSaved)}
    assert 1 in saved
    assert saved[1].path == "step-00000001"
    assert saved[1].val_loss is None


def test_a_sample_on_command_is_like_those_of_the_schedule(tmp_path: Path) -> None:
    trained = train(
        tmp_path,
        make_config(model__dropout=0.2),
        on_event=at_step(8, GenerateSample(prompt="the "), GenerateSample()),
    )
    texts = [(event.prompt, event.text) for event in trained.of(SampleGenerated) if event.step == 8]
    assert len(texts) == 5
    assert len(set(texts)) == 2  # the same seed and weights
    plain = train(tmp_path, make_config(model__dropout=0.2), name="plain")
    assert losses(trained.of(StepCompleted)) == losses(plain.of(StepCompleted))


def test_a_sample_from_an_unknown_character_says_so_and_training_goes_on(tmp_path: Path) -> None:
    trained = train(
        tmp_path,
        make_config(training__max_steps=12),
        on_event=at_step(4, GenerateSample(prompt="a☃b"), GenerateSample(prompt="\ud800")),
    )
    assert trained.finished.reason == "completed"
    told = [event.text for event in trained.of(SampleGenerated) if event.step == 4]
    assert "☃" in told[0]
    assert "U+2603" in told[0]
    assert len(told) == 2
    assert len(read_lines(trained.run)) == len(trained.events)


def test_commands_of_another_process_arrive_through_the_run_folder(tmp_path: Path) -> None:
    def act(event: Event, inbox: CommandInbox) -> None:
        path = tmp_path / "run" / "commands.jsonl"
        if isinstance(event, StepCompleted) and event.step == 3:
            leave_command(path, SetLearningRate(learning_rate=1e-5))
            with path.open("ab") as file:
                file.write(b'nonsense\n{"command": ["Stop"]}\n')
        if isinstance(event, StepCompleted) and event.step == 6:
            leave_command(path, Stop(reason="stopped"))

    trained = train(tmp_path, make_config(), on_event=act)
    assert [(e.step, e.command) for e in trained.of(CommandApplied)] == [
        (3, "SetLearningRate"),
        (6, "Stop"),
    ]
    assert trained.finished.step == 6
    # Old commands are not for the process that resumes.
    assert resume(tmp_path).finished.reason == "completed"


# --- divergence ----------------------------------------------------------------------------


def poison(session: Session) -> None:
    with torch.no_grad():
        next(iter(session.state.model.parameters())).fill_(math.inf)


def test_a_loss_that_is_no_number_stops_the_run_with_advice(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError) as caught:
        train(tmp_path, make_config(), prepare=poison)
    assert "training.learning_rate" in str(caught.value)
    assert "\n" not in str(caught.value)
    run = RunFolder(tmp_path / "run")
    lines = read_lines(run)
    assert lines[-1]["type"] == "RunFailed"
    assert lines[-1]["error"] == str(caught.value)
    assert any(line["type"] == "DiagnosisRaised" and line["kind"] == "nan" for line in lines)
    assert not any(line["type"] == "StepCompleted" for line in lines)


def poison_at(step: int, times: int = 1) -> tuple[OnEvent, Callable[[Session], None]]:
    """Make the weights infinite after ``step``, as a bad update would."""
    held: list[Session] = []
    left = [times]

    def act(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted) and event.step == step and left[0]:
            left[0] -= 1
            poison(held[0])

    return act, held.append


def test_the_last_good_checkpoint_stays_and_the_run_can_go_on_from_it(tmp_path: Path) -> None:
    config = make_config(model__dropout=0.2)
    reference = train(tmp_path, config, name="reference")
    act, prepare = poison_at(10)
    with pytest.raises(RunFailedError):
        train(tmp_path, config, on_event=act, prepare=prepare)
    assert RunFolder(tmp_path / "run").index() == {"best": 8, "last": 8}
    resumed = resume(tmp_path)
    assert what_was_learned(resumed.run) == what_was_learned(reference.run)
    assert not any(line["type"] == "RunFailed" for line in read_lines(resumed.run))


@pytest.mark.parametrize("step", [8, 24])
def test_weights_that_evaluate_to_no_number_are_never_saved(step: int, tmp_path: Path) -> None:
    act, prepare = poison_at(step)
    with pytest.raises(RunFailedError) as caught:
        train(tmp_path, make_config(), on_event=act, prepare=prepare)
    assert f"step {step}" in str(caught.value)
    run = RunFolder(tmp_path / "run")
    assert step not in run.steps()
    assert read_lines(run)[-1]["type"] == "RunFailed"
    assert resume(tmp_path).finished.reason == "completed"


@pytest.mark.parametrize(("step", "reads_late"), [(8, False), (10, False), (10, True)])
def test_rolling_back_halves_the_rate_and_goes_on(
    step: int, reads_late: bool, tmp_path: Path
) -> None:
    config = make_config(training__on_nan="rollback", training__scheduler="constant")
    act, poison = poison_at(step)

    def prepare(session: Session) -> None:
        session.state.reads_late = reads_late
        poison(session)

    trained = train(tmp_path, config, on_event=act, prepare=prepare)
    assert trained.finished.reason == "completed"
    back = 8 if step > 8 else 0
    lines = read_lines(trained.run)
    steps = [line for line in lines if line["type"] == "StepCompleted"]
    assert [line["step"] for line in steps] == [*range(1, 25)]
    assert steps[-1]["learning_rate"] == pytest.approx(config.training.learning_rate / 2)
    (rolled,) = [line for line in lines if line.get("command") == "RollBack"]
    assert rolled["step"] == back
    assert rolled["arguments"]["rate_scale"] == 0.5
    assert any(line["type"] == "DiagnosisRaised" and line["kind"] == "nan" for line in lines)
    plain = train(tmp_path, make_config(training__scheduler="constant"), name="plain")
    until = back + 1  # the first step after the rollback starts from the same weights and batch
    assert losses(plain.of(StepCompleted))[:until] == [line["loss"] for line in steps][:until]


def poison_softly(step: int) -> tuple[OnEvent, Prepare]:
    """Make the weights after ``step`` so large that what they compute is no number."""
    held: list[Session] = []

    def act(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted) and event.step == step and held:
            with torch.no_grad():
                next(iter(held.pop().state.model.parameters())).fill_(3e38)

    return act, held.append


def rolled_back_to(run: RunFolder) -> list[int]:
    return [line["step"] for line in read_lines(run) if line.get("command") == "RollBack"]


@pytest.mark.parametrize(("step", "wanted"), [(9, 8), (3, 0)])
def test_rolling_back_does_not_stay_at_a_diverged_checkpoint(
    step: int, wanted: int, tmp_path: Path
) -> None:
    # Saved at the very step, before anything tells that it is no good.
    config = make_config(training__on_nan="rollback", checkpoints__save_every=3)
    act, prepare = poison_softly(step)
    trained = train(tmp_path, config, on_event=act, prepare=prepare)
    assert trained.finished.reason == "completed"
    assert rolled_back_to(trained.run)[-1] == wanted
    steps = [line["step"] for line in read_lines(trained.run) if line["type"] == "StepCompleted"]
    assert steps == [*range(1, 25)]


def test_rolling_back_twice_from_the_same_checkpoint_takes_the_one_before(tmp_path: Path) -> None:
    config = make_config(training__on_nan="rollback")
    act, prepare = poison_at(17, times=2)
    trained = train(tmp_path, config, on_event=act, prepare=prepare)
    assert trained.finished.reason == "completed"
    # The first is cut from the log with the steps that were made after the second.
    assert rolled_back_to(trained.run) == [8]
    back = [event.step for event in trained.of(CommandApplied) if event.command == "RollBack"]
    assert back == [16, 8]
    assert trained.session.progress.rate_scale == 0.25


@pytest.mark.parametrize("is_crashed", [False, True])
def test_rolling_back_keeps_what_the_run_was_extended_by(is_crashed: bool, tmp_path: Path) -> None:
    config = make_config(training__on_nan="rollback")
    poison, prepare = poison_at(12)
    commands = [ExtendRun(steps=4)]

    class CrashError(BaseException):
        pass

    def act(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted) and event.step == 10 and commands:
            inbox.post(commands.pop())
        poison(event, inbox)
        if is_crashed and isinstance(event, CommandApplied) and event.command == "RollBack":
            raise CrashError

    if is_crashed:
        with pytest.raises(CrashError):
            train(tmp_path, config, on_event=act, prepare=prepare)
        trained = resume(tmp_path)
    else:
        trained = train(tmp_path, config, on_event=act, prepare=prepare)
    assert trained.finished.step == 28
    assert trained.session.progress.rate_scale == 0.5


def test_a_crash_does_not_forget_what_the_run_was_extended_by(tmp_path: Path) -> None:
    def act(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted) and event.step == 10:
            inbox.post(ExtendRun(steps=4))
        if isinstance(event, StepCompleted) and event.step == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, make_config(), on_event=act)
    assert resume(tmp_path).finished.step == 28


# --- errors of the program -----------------------------------------------------------------


@pytest.fixture
def patches() -> Iterator[pytest.MonkeyPatch]:
    """Patches that a test may undo by itself."""
    with pytest.MonkeyPatch.context() as patches:
        yield patches


@pytest.mark.parametrize("where", ["between steps", "in a step", "in an evaluation"])
def test_an_unexpected_error_saves_first_and_the_run_can_be_resumed_exactly(
    where: str, tmp_path: Path, patches: pytest.MonkeyPatch
) -> None:
    config = make_config(model__dropout=0.2, training__optimizer="muon", training__ema_decay=0.9)
    reference = train(tmp_path, config, name="reference")
    step = 8 if where == "in an evaluation" else 10

    def fail(*arguments: object, **more: object) -> None:
        if where == "in a step":
            torch.rand(7)  # what dropout drew before
        raise ZeroDivisionError("a mistake\nof two lines")

    def act(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted) and event.step == step:
            if where == "between steps":
                raise ZeroDivisionError("a mistake")
            target = (Transformer, "embed") if where == "in a step" else (loop, "evaluate")
            patches.setattr(*target, fail)

    with pytest.raises(RunFailedError, match=f"a mistake.*is saved at step {step}") as caught:
        train(tmp_path, config, on_event=act)
    assert "\n" not in str(caught.value)
    patches.undo()
    run = RunFolder(tmp_path / "run")
    assert run.index()["last"] == step
    assert read_lines(run)[-1] | {"time": 0} == {
        "type": "RunFailed", "step": step, "error": str(caught.value), "time": 0,
    }  # fmt: skip
    resumed = resume(tmp_path)
    assert resumed.of(StepCompleted)[0].step == step + 1
    assert what_was_learned(resumed.run) == what_was_learned(reference.run)


def test_an_error_in_the_middle_of_an_update_saves_nothing(
    tmp_path: Path, patches: pytest.MonkeyPatch
) -> None:
    config = make_config(model__dropout=0.2, training__optimizer="muon")
    reference = train(tmp_path, config, name="reference")

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("a mistake")

    def act(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted) and event.step == 10:
            # AdamW has moved its share of the weights by then.
            patches.setattr(Muon, "step", fail)

    with pytest.raises(RunFailedError, match="the last checkpoint is of step 8"):
        train(tmp_path, config, on_event=act)
    patches.undo()
    resumed = resume(tmp_path)
    assert resumed.of(StepCompleted)[0].step == 9
    assert what_was_learned(resumed.run) == what_was_learned(reference.run)


def test_memory_that_runs_out_saves_first(tmp_path: Path, patches: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def act(event: Event, inbox: CommandInbox) -> None:
        if isinstance(event, StepCompleted) and event.step == 10:
            patches.setattr(Transformer, "embed", fail)

    with pytest.raises(RunFailedError, match=r"training\.batch_size.*is saved at step 10"):
        train(tmp_path, make_config(), on_event=act)
    assert RunFolder(tmp_path / "run").index()["last"] == 10


def test_rolling_back_ends_where_it_does_not_help(tmp_path: Path) -> None:
    config = make_config(training__on_nan="rollback")
    act, prepare = poison_at(10, times=100)
    with pytest.raises(RunFailedError):
        train(tmp_path, config, on_event=act, prepare=prepare)
    lines = read_lines(RunFolder(tmp_path / "run"))
    scales = [
        line["arguments"]["rate_scale"] for line in lines if line.get("command") == "RollBack"
    ]
    assert scales == [0.5**n for n in range(1, 6)]


def test_an_absurd_rate_fails_in_order(tmp_path: Path) -> None:
    config = make_config(
        training__optimizer="sgd",
        training__learning_rate=100,
        training__grad_clip=0,
        training__warmup_steps=0,
        training__max_steps=300,
        training__eval_every=7,
        model__norm="rmsnorm",
        model__activation="relu2",
    )
    try:
        trained = train(tmp_path, config)
    except RunFailedError as error:
        assert "diverged" in str(error)
    else:
        kinds = {event.kind for event in trained.of(DiagnosisRaised)}
        assert kinds & {"exploding", "not_learning"}
    lines = read_lines(RunFolder(tmp_path / "run"))
    assert lines[-1]["type"] in ("RunFailed", "RunFinished")


# --- what is kept --------------------------------------------------------------------------


def test_the_best_few_by_validation_loss_and_the_last_are_kept(tmp_path: Path) -> None:
    config = make_config(
        training__max_steps=40,
        training__eval_every=4,
        training__learning_rate=0.3,
        training__min_lr=0.3,
        checkpoints__keep_best=2,
        sampling__every=0,
    )
    trained = train(tmp_path, config)
    by_step = {e.step: e.val_loss for e in trained.of(EvalCompleted) if e.protocol != "exact"}
    best = sorted(by_step, key=lambda step: (by_step[step], step))[:2]
    assert set(trained.run.steps()) == {*best, 40}
    # Both were measured exactly at the end, which decides.
    exact = {c.info.step: c.info.exact_val_loss for c in trained.run.checkpoints()}
    assert exact[best[0]] is not None
    winner = min((best[0], 40), key=lambda step: exact[step] or 0.0)
    assert trained.run.index() == {"best": winner, "last": 40}
    announced = [event.step for event in trained.of(CheckpointSaved) if event.best]
    assert announced[-1] == best[0]


def test_every_so_many_steps_are_kept_for_good(tmp_path: Path) -> None:
    config = make_config(checkpoints__every=5, checkpoints__keep_best=1)
    trained = train(tmp_path, config)
    best = trained.run.index()["best"]
    assert trained.run.steps() == sorted({5, 10, 15, 20, best, 24})


def test_the_best_is_kept_whatever_the_distance_of_saves(tmp_path: Path) -> None:
    config = make_config(checkpoints__save_every=5, checkpoints__keep_best=1)
    trained = train(tmp_path, config)
    by_step = {e.step: e.val_loss for e in trained.of(EvalCompleted) if e.protocol != "exact"}
    assert trained.run.index()["best"] == min(by_step, key=lambda step: by_step[step])


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    trained = train(tmp_path, make_config(checkpoints__save_every=1))
    assert {path.name for path in trained.run.path.glob(".*")} <= {".lock"}
    for checkpoint in trained.run.checkpoints():
        names = {path.name for path in checkpoint.folder.iterdir()}
        assert names == {"weights.safetensors", "state.safetensors", "info.json"}


# --- beginnings ----------------------------------------------------------------------------


def test_a_new_run_starts_from_the_weights_of_another(tmp_path: Path) -> None:
    parent = train(tmp_path, make_config(training__max_steps=16), name="parent")
    config = make_config(training__max_steps=1, training__learning_rate=1e-9, training__min_lr=0)
    child: list[float] = []
    with open_session(
        TrainingRequest(config=config, root=tmp_path, name="child", start_from="parent@last")
    ) as session:
        assert session.progress.step == 0
        child.append(evaluate(session.state.model, session.val).loss)
        assert session.run.info().parent == "parent@16"
    assert child == [parent.finished.val_loss]


def test_a_parent_of_another_shape_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    train(tmp_path, make_config(training__max_steps=2), name="parent")
    before = sorted(path.name for path in tmp_path.iterdir())
    with (
        pytest.raises(UserError, match="shape"),
        open_session(
            TrainingRequest(
                config=make_config(model__d_model=32),
                root=tmp_path,
                name="child",
                start_from="parent",
            )
        ),
    ):
        raise AssertionError
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_prompt_that_the_corpus_cannot_spell_is_replaced_with_a_notice(tmp_path: Path) -> None:
    from shakespeare_tui.training.session import Hooks

    notices: list[str] = []
    config = make_config(sampling__prompts='["Ωmega", "A"]', training__max_steps=2)
    with open_session(
        TrainingRequest(config=config, root=tmp_path, name="run"), Hooks(notice=notices.append)
    ) as session:
        assert len(session.prompts) == 2
        assert session.prompts[1][0] == "A"
        assert session.tokenizer.decode(session.prompts[0][1]) == session.prompts[0][0]
    assert "Ω" in notices[0]


def test_a_session_that_never_trained_leaves_no_run(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        open_session(TrainingRequest(config=make_config(), root=tmp_path / "runs", name="run")),
    ):
        raise KeyboardInterrupt
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_finished_run_has_one_ending(tmp_path: Path) -> None:
    trained = train(tmp_path, make_config(training__max_steps=3))
    endings = [e for e in trained.events if isinstance(e, RunFinished | RunFailed)]
    assert endings == [trained.finished]


def test_samples_are_the_same_in_every_precision_of_training_that_learns_nothing(
    tmp_path: Path,
) -> None:
    texts = {}
    for precision in ("float32", "bfloat16"):
        config = make_config(
            training__precision=precision,
            training__learning_rate=1e-30,
            training__min_lr=0,
            training__max_steps=2,
            sampling__prompts='["the king and the sea"]',
        )
        trained = train(tmp_path / precision, config)
        texts[precision] = [event.text for event in trained.of(SampleGenerated)]
    assert len(texts["float32"]) == 2
    assert texts["float32"] == texts["bfloat16"]
