import gc
import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from diagnosis_streams import eval_event, step_event

from shakespeare_tui.config.schema import Config
from shakespeare_tui.runs.events import (
    CheckpointEvaluated,
    CheckpointSaved,
    CommandApplied,
    DiagnosisRaised,
    EvalCompleted,
    EvalProgressed,
    RunFailed,
    RunFinished,
    RunStarted,
    SampleGenerated,
)
from shakespeare_tui.runs.figures import run_figures
from shakespeare_tui.runs.history import Best, RunHistory
from shakespeare_tui.runs.losses import Loss


def started(**training) -> RunStarted:
    config = Config().model_dump(mode="json")
    config["training"] |= {"max_steps": 1000, "batch_size": 10} | training
    config["data"]["seq_len"] = 90
    return RunStarted(
        time=0.0,
        run="a",
        config=config,
        parameters=10,
        device="cpu",
        characters=10_000,
        vocab_size=65,
        baselines={"unigram": 3.3},
    )


def command(step: int, name: str, **arguments) -> CommandApplied:
    return CommandApplied(time=float(step), step=step, command=name, arguments=arguments)


def noisy_losses(count: int) -> np.ndarray:
    steps = np.arange(1, count + 1)
    noise = np.random.default_rng(0).normal(0, 0.1, count)
    return 1.4 + 2.8 * (1 + steps / 60) ** -0.7 + noise


def run_of(losses: np.ndarray) -> RunHistory:
    history = RunHistory()
    history.apply(started())
    history.extend(step_event(step, float(loss)) for step, loss in enumerate(losses, start=1))
    return history


def test_a_window_is_the_envelope_of_the_raw_series():
    losses = noisy_losses(3_000)
    window = run_of(losses).series_window("loss", 501, 2_500, 80)
    inside = (window.steps >= 501) & (window.steps <= 2_500)
    assert inside.sum() <= 160
    column_of = np.minimum((np.arange(2_000) * 80) // 1_999, 79)
    for column in range(80):
        raw = losses[500:2_500][column_of == column]
        shown = window.values[inside][column_of[window.steps[inside] - 501] == column]
        assert shown.min() == raw.min()
        assert shown.max() == raw.max()


def test_a_window_of_a_very_long_run_shows_only_what_was_there():
    losses = noisy_losses(150_000)
    history = run_of(losses)
    for start, end in ((1, 150_000), (1, 500), (60_000, 61_000), (149_000, 150_000)):
        window = history.series_window("loss", start, end, 100)
        np.testing.assert_array_equal(window.values, losses[window.steps - 1])
        assert len(window) > 50
    whole = history.series_window("loss", 1, 150_000, 100).values
    assert whole.min() == losses.min()
    assert whole.max() == losses.max()


def test_a_logarithmic_window_resolves_the_first_steps():
    window = run_of(noisy_losses(20_000)).series_window("loss", 1, 20_000, 100, is_log=True)
    assert window.steps[:20].tolist() == list(range(1, 21))


def test_values_that_are_not_finite_are_gaps():
    losses = noisy_losses(100)
    losses[40:60] = np.nan
    losses[70] = np.inf
    history = run_of(losses)
    window = history.series_window("loss", 1, 100, 200)
    assert np.isnan(window.values[40:60]).all()
    assert np.isnan(window.values[70])
    assert math.isfinite(history.smoothed_loss(25).last())
    assert history.last_step == 100


def test_going_back_drops_everything_later():
    history = run_of(noisy_losses(600))
    history.apply(eval_event(250, 2.0, 2.1))
    history.apply(eval_event(500, 1.5, 1.6))
    for step in (250, 500):
        history.apply(SampleGenerated(time=0.0, step=step, prompt="A", text="b"))
        history.apply(CheckpointSaved(time=0.0, step=step, path="x", val_loss=1.0, best=True))
        history.apply(DiagnosisRaised(time=0.0, step=step, kind="nan", evidence="e", advice="a"))
        history.apply(command(step, "ExtendRun", steps=100))
    history.apply(command(250, "RollBack", rate_scale=0.5))
    assert history.last_step == 250
    assert history.series("loss").window().steps[-1] == 250
    assert [sample.step for sample in history.samples] == [250]
    assert [diagnosis.step for diagnosis in history.diagnoses] == [250]
    assert {marker.step for marker in history.markers} == {250}
    assert history.best.step == 250
    assert history.extra_steps == 100
    assert run_figures(history).val == Loss(2.1, "subset")
    history.apply(step_event(251, 1.9))
    assert history.series("loss").window().steps[-2:].tolist() == [250, 251]


def test_a_resumed_log_that_goes_back_without_saying_so_reads_as_one_run():
    losses = noisy_losses(300)
    straight = run_of(losses)
    resumed = run_of(losses)
    resumed.apply(RunFinished(time=1.0, step=300, reason="stopped", val_loss=2.0))
    assert resumed.phase == "finished"
    resumed.extend(step_event(step, float(losses[step - 1])) for step in range(201, 301))
    assert resumed.phase == "running"
    assert resumed.finished is None
    for name in ("loss", "learning_rate", "elapsed_seconds"):
        np.testing.assert_array_equal(
            resumed.series(name).window().values, straight.series(name).window().values
        )
    np.testing.assert_allclose(
        resumed.smoothed_loss(50).window().values, straight.smoothed_loss(50).window().values
    )


def test_a_second_start_begins_anew():
    history = run_of(noisy_losses(50))
    history.apply(started())
    assert history.last_step == 0
    assert len(history.series("loss").window()) == 0
    assert history.phase == "running"


def test_the_phase_follows_commands_and_ends():
    history = run_of(noisy_losses(10))
    history.apply(command(10, "Pause"))
    assert history.phase == "paused"
    history.apply(command(10, "Resume"))
    assert history.phase == "running"
    history.apply(RunFailed(time=1.0, step=10, error="no"))
    assert history.phase == "failed"
    assert history.failed.error == "no"


def test_the_best_is_of_one_protocol_and_the_exact_end_is_apart():
    history = run_of(noisy_losses(500))
    for step, val in ((100, 2.0), (200, 1.6), (300, 1.8)):
        history.apply(eval_event(step, 1.5, val))
    history.apply(EvalCompleted(step=300, train_loss=1.4, val_loss=1.1, protocol="exact"))
    assert history.best == Best(200, Loss(1.6, "subset"))
    assert history.series("other_val_loss").window().values.tolist() == [1.1]
    assert run_figures(history).val == Loss(1.1, "exact")
    # Once the best has its exact figure too, exact figures decide, and are what is shown.
    history.apply(CheckpointEvaluated(step=200, val_loss=1.0, protocol="exact"))
    assert history.best == Best(200, Loss(1.0, "exact"))
    history.apply(CheckpointEvaluated(step=200, val_loss=1.2, protocol="exact"))
    assert history.best == Best(300, Loss(1.1, "exact"))
    history.drop_after(200)
    assert history.best == Best(200, Loss(1.2, "exact"))


def test_the_validation_loss_and_the_best_of_one_step_are_the_same_figure():
    history = run_of(noisy_losses(300))
    history.apply(eval_event(300, 1.5, 1.6))
    figures = run_figures(history)
    assert figures.val == figures.best.loss == Loss(1.6, "subset")
    history.apply(EvalCompleted(step=300, train_loss=1.5, val_loss=1.63, protocol="exact"))
    figures = run_figures(history)
    assert figures.val == figures.best.loss == Loss(1.63, "exact")


def test_accuracy_goes_with_the_loss_that_it_was_measured_with():
    history = run_of(noisy_losses(300))
    history.apply(eval_event(100, 1.5, 1.7))  # as an older version wrote it
    assert run_figures(history).val.accuracy is None
    history.apply(replace(eval_event(200, 1.5, 1.6), accuracy=0.5))
    history.apply(replace(eval_event(300, 1.5, 1.65, "exact"), accuracy=0.48))
    assert history.series("accuracy").window().values[1:].tolist() == [0.5]
    assert history.series("other_accuracy").window().values.tolist() == [0.48]
    figures = run_figures(history)
    assert (figures.val.accuracy, figures.best.loss.accuracy) == (0.48, 0.48)
    history.drop_after(250)
    figures = run_figures(history)
    assert (figures.val.accuracy, figures.best.loss.accuracy) == (0.5, 0.5)
    history.drop_after(150)
    assert run_figures(history).val == Loss(1.7, "subset")
    assert run_figures(history).val.accuracy is None


def test_a_run_that_is_measured_in_another_way_has_its_best_by_the_new_way():
    history = run_of(noisy_losses(500))
    for step, val in ((100, 1.2), (200, 1.1), (300, 1.3)):
        history.apply(eval_event(step, 1.5, val, "subset-9"))
    history.apply(eval_event(400, 1.5, 1.9, "subset-40"))
    history.apply(eval_event(500, 1.5, 1.8, "subset-40"))
    assert history.best == Best(500, Loss(1.8, "subset-40"))


def test_the_best_is_remembered_over_any_number_of_evaluations():
    history = RunHistory()
    history.apply(started())
    for step in range(1, 5001):
        history.apply(eval_event(step, 1.5, 1.5 if step == 7 else 2.0))
    assert history.best == Best(7, Loss(1.5, "subset"))


def test_perplexity_is_that_of_the_validation_loss_or_none():
    history = run_of(noisy_losses(300))
    figures = run_figures(history)
    assert figures.train_loss is not None
    assert (figures.perplexity, figures.bits) == (None, (None, "bits/char"))
    history.apply(eval_event(300, 1.5, 1.6))
    assert run_figures(history).perplexity == pytest.approx(math.exp(1.6))


def test_a_long_evaluation_is_told_of_until_it_is_over():
    history = run_of(noisy_losses(1000))
    before = run_figures(history).seconds_left
    history.apply(EvalProgressed(step=1000, done=250, total=1000))
    assert (history.evaluating.done, history.evaluating.total) == (250, 1000)
    assert 0 < run_figures(history).seconds_left <= before
    history.apply(EvalCompleted(step=1000, train_loss=1.5, val_loss=1.6, protocol="exact"))
    assert history.evaluating is None


def test_figures_of_a_run_by_steps():
    history = RunHistory()
    assert run_figures(history).share is None
    history.apply(started())
    history.extend(step_event(step, 2.0) for step in range(1, 251))
    history.apply(command(250, "ExtendRun", steps=500))
    figures = run_figures(history)
    assert figures.total_steps == 1500
    assert figures.share == pytest.approx(250 / 1500)
    # The scripted steps take a second each.
    # A thousand characters are evaluated at the end, at three times the speed of training.
    assert figures.seconds_left == pytest.approx(1250 + 1000 / (3 * figures.tokens_per_second))
    assert figures.epoch == pytest.approx(250 * 10 * 90 / 9_000)
    assert figures.train_loss == pytest.approx(2.0)
    assert figures.perplexity is None
    assert figures.tokens_per_second == pytest.approx(1e4)


def test_figures_of_a_run_by_the_clock():
    history = RunHistory()
    history.apply(started(minutes=2.0))
    history.extend(step_event(step, 2.0) for step in range(1, 31))
    figures = run_figures(history)
    assert figures.total_steps is None
    assert figures.share == pytest.approx(0.25)
    history.apply(RunFinished(step=30, reason="completed", val_loss=2.0, protocol="exact"))
    assert run_figures(history).share == 1.0
    assert figures.seconds_left == pytest.approx(90)


def test_a_config_of_another_version_costs_figures_but_no_error():
    history = RunHistory()
    history.apply(
        RunStarted(run="a", config={"training": {"max_steps": "soon"}}, parameters=1, device="x")
    )
    history.apply(step_event(1, 2.0))
    figures = run_figures(history)
    assert figures.total_steps is None
    assert figures.epoch is None


def test_the_doctor_reads_along():
    history = run_of(np.full(800, 4.1))
    assert history.reading.kind == "not_learning"
    assert len(history.diagnoses) == 0


def test_a_copy_goes_its_own_way():
    history = run_of(noisy_losses(100))
    twin = history.copy()
    history.extend(step_event(step, 9.0) for step in range(101, 200))
    history.apply(SampleGenerated(step=199, prompt="A", text="b"))
    assert twin.last_step == 100
    assert twin.series("loss").window().values.max() < 9
    assert len(twin.samples) == 0
    revision = history.revision
    history.take_over(twin)
    assert history.last_step == 100
    assert history.revision > revision
    history.apply(step_event(101, 9.0))
    assert twin.last_step == 100


def soak(steps: int) -> RunHistory:
    history = RunHistory()
    history.apply(started(max_steps=steps))
    for step in range(1, steps + 1):
        history.apply(step_event(step, 1.5 + 0.1 * (step * 7919 % 997) / 997))
        if step % 100 == 0:
            history.apply(eval_event(step, 1.5, 1.6))
            history.apply(SampleGenerated(step=step, prompt="A", text=f"{step:020d}" * 1000))
            history.apply(CheckpointSaved(step=step, path=f"step-{step}", val_loss=1.6))
            history.apply(command(step, "AddNote", text=f"note {step}"))
    return history


def megabytes_of_a_soak(steps: int) -> float:
    gc.collect()
    tracemalloc.start()
    history = soak(steps)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert history.last_step == steps
    return used / 1e6


@pytest.mark.slow
def test_memory_is_bounded_over_many_steps():
    assert megabytes_of_a_soak(25_000) < 10


@pytest.mark.slow
def test_memory_is_flat_over_a_million_steps():
    tenth = megabytes_of_a_soak(100_000)
    whole = megabytes_of_a_soak(1_000_000)
    assert whole < tenth + 4


def test_figures_say_at_which_length_they_are_where_it_is_not_the_models():
    history = RunHistory()
    config = {"model": {"max_seq_len": 128}, "data": {"seq_len": None}}
    history.apply(RunStarted(run="a", config=config, parameters=1, device="x"))
    assert run_figures(history).notes == ()
    config["data"]["seq_len"] = 64
    history.apply(RunStarted(run="a", config=config, parameters=1, device="x"))
    (note,) = run_figures(history).notes
    assert "at 64 tokens, the trained length" in note
