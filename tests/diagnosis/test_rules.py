import math
import re

import pytest
from diagnosis_streams import (
    BASELINES,
    doctor_for,
    eval_event,
    falling,
    kinds,
    noisy,
    observe,
    step_event,
)

from shakespeare_tui.config.schema import Config
from shakespeare_tui.diagnosis import Doctor
from shakespeare_tui.diagnosis.findings import describe_refused
from shakespeare_tui.runs.events import CommandApplied, DiagnosisRaised, RunFinished, RunStarted

# --- exploding -----------------------------------------------------------------------------------


def test_one_bad_batch_is_no_spike_but_an_enormous_one_is():
    for loss, expected in ((3.5, []), (6.0, []), (40.0, ["exploding"])):
        doctor = doctor_for()
        events = [*falling(range(1, 600)), step_event(600, loss), *falling(range(601, 700))]
        assert kinds(observe(doctor, events)) == expected
        assert doctor.reading.kind == "improving"


def test_a_spike_is_raised_again_only_after_it_had_cleared():
    doctor = doctor_for()
    assert observe(doctor, falling(range(1, 600))) == []
    assert kinds(observe(doctor, noisy(3.5, range(600, 700)))) == ["exploding"]
    assert doctor.reading.since_step is not None and doctor.reading.since_step < 610
    assert observe(doctor, falling(range(700, 900))) == []
    assert doctor.reading.kind == "improving"
    assert kinds(observe(doctor, noisy(3.5, range(900, 950)))) == ["exploding"]


def test_an_enormous_batch_does_not_blunt_the_eye_for_a_spike_soon_after():
    events = [*falling(range(1, 600)), step_event(600, 40.0), *falling(range(601, 611))]
    events += noisy(2.8, range(611, 650))
    assert kinds(observe(doctor_for(), events)) == ["exploding", "exploding"]


def test_a_slow_climb_away_from_the_best_level_counts_too():
    doctor = doctor_for()
    observe(doctor, falling(range(1, 1000)))
    climb = [step_event(1000 + i, 1.8 + i * 0.002) for i in range(1000)]
    [raised] = observe(doctor, climb)
    assert raised.kind == "exploding"
    level, above, lowest = map(float, re.findall(r"\d\.\d\d", raised.evidence)[:3])
    assert level - lowest == pytest.approx(above, abs=0.011)


def test_gradient_norm_is_evidence_where_it_stands_out():
    doctor = doctor_for()
    observe(doctor, falling(range(1, 600)))
    [raised] = observe(doctor, [step_event(600 + i, 4.0, grad_norm=48.0) for i in range(5)])
    usual = re.search(r"gradient norm 48 where (\S+) was usual", raised.evidence)
    assert usual is not None and 1 <= float(usual[1]) < 1.3


def test_what_fails_in_warmup_is_told_a_rate_below_where_it_failed():
    doctor = Doctor(vocab_size=65, baselines=BASELINES, learning_rate=1.0, warmup_steps=100)
    rising = [step_event(i, 4.0 if i <= 20 else 9.0, rate=i / 100) for i in range(1, 60)]
    [raised] = observe(doctor, rising)
    assert raised.kind == "exploding"
    suggested = re.search(r"training\.learning_rate to (\S+?)[,;]", raised.advice)
    assert suggested is not None and float(suggested[1]) < 0.2


def test_the_climb_of_a_warmup_is_not_judged():
    doctor = Doctor(vocab_size=65, baselines=BASELINES, learning_rate=1e-3, warmup_steps=1000)
    bumpy = [step_event(i, 3.0 + (i // 100) % 2, rate=i * 1e-6) for i in range(1, 1000)]
    assert observe(doctor, bumpy) == []
    assert doctor.reading.kind == "starting"


# --- NaN -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [None, math.nan, math.inf])
def test_a_loss_that_is_no_number_is_raised_once_and_clears_when_training_goes_on(loss):
    doctor = doctor_for()
    observe(doctor, falling(range(1, 100)))
    [raised] = observe(doctor, [step_event(step, loss) for step in range(100, 105)])
    assert (raised.kind, raised.step) == ("nan", 100)
    assert "step 100" in raised.evidence
    assert doctor.reading.kind == "nan"
    assert observe(doctor, falling(range(105, 150))) == []
    assert doctor.reading.kind == "improving"


def test_a_step_that_the_trainer_refused_shows_on_the_reading():
    doctor = doctor_for()
    observe(doctor, falling(range(1, 100)))
    refused = DiagnosisRaised(step=100, kind="nan", evidence="loss nan at step 100", advice="Try.")
    assert doctor.observe(refused) == []
    assert doctor.reading.kind == "nan"
    assert doctor.reading.evidence == "loss nan at step 100"


# --- not learning --------------------------------------------------------------------------------


def test_a_short_run_is_not_accused():
    doctor = Doctor(vocab_size=65, baselines=BASELINES, learning_rate=1e-3, warmup_steps=100)
    assert observe(doctor, noisy(4.17, range(1, 250))) == []


def test_blind_guessing_is_noticed_where_the_unigram_loss_is_unknown():
    doctor = Doctor(vocab_size=65, baselines={}, learning_rate=1e-3, warmup_steps=50)
    [raised] = observe(doctor, noisy(math.log(65), range(1, 1000)))
    assert raised.kind == "not_learning"
    assert "4.17 (blind guessing)" in raised.evidence


def test_a_rate_that_still_rises_is_waited_for():
    rising = [step_event(i, 4.17, rate=1e-3 * i / 2000) for i in range(1, 2000)]
    doctor = doctor_for()
    assert observe(doctor, rising) == []
    assert kinds(observe(doctor, noisy(4.17, range(2000, 2500)))) == ["not_learning"]


def test_not_learning_clears_when_the_model_gets_going():
    doctor = doctor_for()
    assert kinds(observe(doctor, noisy(4.17, range(1, 600)))) == ["not_learning"]
    assert observe(doctor, noisy(2.4, range(600, 900))) == []
    assert doctor.reading.kind == "improving"


# --- trends --------------------------------------------------------------------------------------


def test_a_converged_run_under_a_decayed_rate_is_told_so():
    doctor = doctor_for()
    observe(doctor, falling(range(1, 500)))
    [raised] = observe(doctor, noisy(1.9, range(500, 6000), rate=1e-4))
    assert raised.kind == "plateau"
    assert "10 % of its peak" in raised.evidence
    assert "training.max_steps" in raised.advice
    assert "lower training.learning_rate" not in raised.advice
    assert doctor.reading.headline == "Converged under this schedule"


def test_a_plateau_needs_two_thousand_steps_and_less_than_a_hundredth():
    for fall_per_2000, expected in ((0.05, []), (0.003, ["plateau"])):
        doctor = doctor_for()
        raised = []
        for step in range(1, 7001):
            level = 2.0 - fall_per_2000 * step / 2000
            raised += doctor.observe(step_event(step, level))
            if step % 250 == 0:
                raised += doctor.observe(eval_event(step, level, level + 0.1))
        assert kinds(raised) == expected
        assert all(diagnosis.step >= 2000 for diagnosis in raised)


def test_validation_that_stalls_while_train_falls_has_its_own_advice():
    doctor = doctor_for()
    raised = []
    for step in range(1, 5001):
        train = 1.9 - 0.05 * step / 2000
        raised += doctor.observe(step_event(step, train))
        if step % 250 == 0:
            raised += doctor.observe(eval_event(step, train, 2.0))
    assert kinds(raised) == ["plateau"]
    assert doctor.reading.headline == "Validation has stalled"
    assert "model.dropout" in doctor.reading.advice


def test_a_new_rate_gives_a_plateau_another_chance():
    doctor = doctor_for()
    observe(doctor, noisy(3.0, range(1, 100)))
    assert kinds(observe(doctor, noisy(2.0, range(100, 4000)))) == ["plateau"]
    command = CommandApplied(step=3999, command="SetLearningRate", arguments={"learning_rate": 0.1})
    assert doctor.observe(command) == []
    assert observe(doctor, noisy(2.0, range(4000, 5900), rate=0.1)) == []
    assert doctor.reading.kind == "improving"
    assert kinds(observe(doctor, noisy(2.0, range(5900, 6200), rate=0.1))) == ["plateau"]
    assert "lower training.learning_rate to 0.03" in doctor.reading.advice


def evaluations(*pairs: tuple[float, float], every: int = 100, protocol: str = "subset"):
    """Train and validation losses, one evaluation after another."""
    return [
        eval_event(every * number, train, val, protocol)
        for number, (train, val) in enumerate(pairs, start=1)
    ]


OVERFITTED = ((2.0, 2.1), (1.8, 1.95), (1.6, 1.9), (1.5, 1.95), (1.4, 2.0))


def test_validation_that_rises_while_train_falls_is_overfitting():
    doctor = doctor_for()
    observe(doctor, falling(range(1, 100)))
    [raised] = observe(doctor, evaluations(*OVERFITTED))
    assert (raised.kind, raised.step) == ("overfitting", 500)
    assert "validation has risen 0.10 since its best 1.90 at step 300" in raised.evidence
    assert "best checkpoint (step 300)" in raised.advice


@pytest.mark.parametrize(
    "curve",
    [
        # A wide gap, and validation still falls.
        [(2.0 - 0.2 * i, 2.4 - 0.05 * i) for i in range(8)],
        # Validation wavers around its level.
        [(1.6 - 0.02 * i, 1.8 + 0.015 * (i % 2)) for i in range(12)],
        # One evaluation lies above the best, the next one does not.
        [(1.6 - 0.02 * i, 1.8 + 0.1 * (i == 5) - 0.01 * i) for i in range(12)],
        # Both rise: a rate that is too high, but nothing learned by heart.
        [(1.5 + 0.05 * i, 1.6 + 0.05 * i) for i in range(6)],
        # Too few to tell.
        [(2.0, 2.1), (1.9, 2.2), (1.8, 2.3)],
    ],
)
def test_what_shows_no_such_trend_is_not_overfitting(curve: list[tuple[float, float]]):
    doctor = doctor_for()
    observe(doctor, falling(range(1, 100)))
    assert observe(doctor, evaluations(*curve)) == []


def test_overfitting_clears_where_validation_falls_to_a_new_best():
    doctor = doctor_for()
    observe(doctor, falling(range(1, 100)))
    assert kinds(observe(doctor, evaluations(*OVERFITTED))) == ["overfitting"]
    assert doctor.observe(eval_event(600, 1.4, 1.97)) == []
    assert doctor.reading.kind == "overfitting"
    assert doctor.observe(eval_event(700, 1.4, 1.85)) == []
    assert doctor.reading.kind == "improving"


def test_overfitting_keeps_quiet_about_a_plateau():
    doctor = doctor_for()
    raised = observe(doctor, evaluations(*OVERFITTED))
    for step in range(501, 6001):
        raised += doctor.observe(step_event(step, 1.4))
        if step % 250 == 0:
            raised += doctor.observe(eval_event(step, 1.4, 2.0))
    assert kinds(raised) == ["overfitting"]


def test_losses_of_different_protocols_are_not_compared():
    doctor = doctor_for()
    observe(doctor, falling(range(1, 100)))
    mixed = [
        event
        for number, (train, val) in enumerate(OVERFITTED, start=1)
        for event in evaluations((train, val), every=100 * number, protocol=f"subset-{number}")
    ]
    assert observe(doctor, mixed) == []


def test_memorising_stands_when_the_final_evaluation_has_another_protocol():
    doctor = doctor_for()
    observe(doctor, falling(range(1, 100)))
    rising = evaluations((2.0, 2.1), (1.5, 1.9), (1.2, 2.2), (1.0, 2.5))
    assert kinds(observe(doctor, rising)) == ["memorising"]
    assert doctor.observe(eval_event(400, 1.0, 2.55, "exact")) == []
    assert doctor.reading.kind == "memorising"


def test_train_loss_stands_in_where_an_evaluation_has_none():
    doctor = doctor_for()
    raised = []
    for number, val in enumerate((2.5, 2.2, 2.3, 2.4), start=1):
        raised += observe(doctor, falling(range(100 * number - 99, 100 * number + 1)))
        raised += doctor.observe(eval_event(100 * number, None, val))
    assert kinds(raised) == ["overfitting"]


# --- baselines -----------------------------------------------------------------------------------

ALL_BASELINES = BASELINES | {"5-gram": 2.07}


def doctor_with(baselines: dict[str, float]) -> Doctor:
    return Doctor(vocab_size=65, baselines=baselines, learning_rate=1e-3, warmup_steps=50)


@pytest.mark.parametrize(
    ("level", "steps", "expected"),
    [
        (3.0, 1000, ["not_learning"]),  # better than token frequencies, and stuck
        (2.6, 1000, ["not_learning"]),
        (2.3, 2000, []),  # below bigrams: too early to speak of 5-grams
        (2.3, 9000, ["plateau", "not_learning"]),
        (1.9, 9000, ["plateau"]),
    ],
)
def test_what_has_stopped_falling_is_measured_against_counting(
    level: float, steps: int, expected: list[str]
):
    doctor = doctor_with(ALL_BASELINES)
    assert kinds(observe(doctor, noisy(level, range(1, steps)))) == expected


def test_a_small_model_that_has_converged_is_not_accused():
    doctor = doctor_with(ALL_BASELINES)
    events = [*noisy(2.3, range(1, 3000)), *noisy(2.3, range(3000, 9000), rate=1e-4)]
    assert kinds(observe(doctor, events)) == ["plateau"]


def test_a_slow_run_that_still_falls_is_not_accused():
    doctor = doctor_with(ALL_BASELINES)
    slow = [step_event(step, 4.1 - 0.0008 * step) for step in range(1, 2500)]
    assert observe(doctor, slow) == []
    doctor = doctor_with(ALL_BASELINES)
    slower = [step_event(step, 4.1 - 0.0005 * step) for step in range(1, 2500)]
    assert kinds(observe(doctor, slower)) == ["not_learning"]


def test_the_unreached_baseline_is_named():
    doctor = doctor_with(ALL_BASELINES)
    [raised] = observe(doctor, noisy(3.0, range(1, 600)))
    assert "where 2.49 (counts of pairs of tokens, the bigram baseline)" in raised.evidence


# --- after the end, and what is set already ------------------------------------------------------


@pytest.mark.parametrize("steps", [10, 500, 1500])
def test_after_the_end_nothing_is_said_as_if_the_run_went_on(steps: int):
    doctor = doctor_for()
    observe(doctor, falling(range(1, steps)))
    doctor.observe(RunFinished(step=steps, reason="completed", val_loss=1.9))
    reading = doctor.reading
    assert "resume it with a larger training.max_steps" in reading.advice
    text = f"{reading.headline} {reading.evidence} {reading.advice}".lower()
    for words in ("let it run", "still", "once the warm-up", "nothing to do yet"):
        assert words not in text
    # It goes on: the doctor speaks of now again.
    observe(doctor, falling(range(steps, steps + 500)))
    assert doctor.reading.advice == "Let it run."


def test_after_the_end_nobody_is_told_to_stop():
    doctor = doctor_for()
    observe(doctor, falling(range(1, 100)))
    observe(doctor, evaluations(*OVERFITTED))
    assert doctor.reading.advice.startswith("Stop and use the best checkpoint")
    doctor.observe(RunFinished(step=500, reason="completed", val_loss=2.0))
    assert doctor.reading.advice.startswith("Use the best checkpoint")


def doctor_of(config: Config) -> Doctor:
    return Doctor(
        vocab_size=65, baselines=BASELINES, learning_rate=1e-3, warmup_steps=50, config=config
    )


def test_what_is_set_already_is_not_advised():
    config = Config.model_validate(
        {"training": {"scheduler": "cosine", "patience": 5, "grad_clip": 1.0, "on_nan": "rollback"}}
    )
    doctor = doctor_of(config)
    observe(doctor, noisy(2.0, range(1, 4000)))
    assert doctor.reading.kind == "plateau"
    assert "training.scheduler" not in doctor.reading.advice
    doctor = doctor_of(config)
    observe(doctor, evaluations((2.0, 2.1), (1.5, 1.9), (1.2, 2.2), (1.0, 2.5)))
    assert doctor.reading.kind == "memorising"
    assert "patience" not in doctor.reading.advice
    assert "grad_clip" not in doctor.advice_on_failure()
    assert "on_nan" not in doctor.advice_on_failure()


def test_the_config_of_a_resumed_run_counts_and_not_that_of_its_log():
    doctor = doctor_of(Config.model_validate({"training": {"on_nan": "rollback"}}))
    old = Config.model_validate({"training": {"on_nan": "stop"}})
    doctor.observe(RunStarted(run="r", config=old.model_dump(), parameters=1, device="cpu"))
    assert "on_nan" not in doctor.advice_on_failure()


@pytest.mark.parametrize(
    ("loss", "grad_norm", "headline", "words"),
    [
        (2.518, math.nan, "The gradient is not a number", "the gradient of step 1,200 is NaN"),
        (2.518, math.inf, "The gradient is not a number", "is infinite, with a loss of 2.52"),
        (math.nan, 1.0, "The loss is not a number", "the loss of step 1,200 is NaN"),
        (math.inf, math.nan, "The loss is not a number", "the loss of step 1,200 is infinite"),
    ],
)
def test_what_was_not_finite_is_called_so(loss: float, grad_norm: float, headline: str, words: str):
    evidence = describe_refused(1200, loss, grad_norm)
    doctor = doctor_for()
    doctor.observe(DiagnosisRaised(step=1200, kind="nan", evidence=evidence, advice="Try."))
    assert doctor.reading.headline == headline
    assert words in doctor.reading.evidence


# --- texts ---------------------------------------------------------------------------------------


def test_the_reading_starts_and_improves():
    doctor = doctor_for()
    assert doctor.reading.kind == "starting"
    observe(doctor, falling(range(1, 30)))
    assert doctor.reading.kind == "starting"
    assert "step 29" in doctor.reading.evidence and "50" in doctor.reading.evidence
    observe(doctor, [*falling(range(30, 501)), eval_event(500, 1.85, 1.92)])
    reading = doctor.reading
    assert (reading.kind, reading.since_step) == ("improving", None)
    assert "lower than 400 steps ago" in reading.evidence
    assert "validation 1.92, its best so far" in reading.evidence


def test_the_advice_names_the_configs_own_values():
    config = Config.model_validate(
        {
            "model": {"dropout": 0.2},
            "training": {
                "optimizer": "muon",
                "muon_learning_rate": 0.03,
                "learning_rate": 3e-3,
                "grad_clip": 1.0,
            },
        }
    )
    start = RunStarted(run="r", config=config.model_dump(), parameters=1, device="cpu")
    doctor = Doctor(vocab_size=65, baselines=BASELINES, learning_rate=3e-3, warmup_steps=50)
    observe(doctor, [start, *falling(range(1, 500)), *evaluations(*OVERFITTED)])
    assert "raise model.dropout to 0.3" in doctor.reading.advice
    [spike] = observe(doctor, noisy(4.0, range(500, 520)))
    assert "training.learning_rate to 1e-3" in spike.advice
    assert "training.muon_learning_rate to 0.01" in spike.advice
    assert "grad_clip" not in spike.advice


def test_a_config_of_another_version_is_left_out():
    start = RunStarted(run="r", config={"modle": {}}, parameters=1, device="cpu")
    doctor = doctor_for()
    observe(doctor, [start, *falling(range(1, 500)), *evaluations(*OVERFITTED)])
    assert "raise model.dropout to 0.2" in doctor.reading.advice


def test_a_converged_run_with_a_time_budget_is_told_to_take_more_time():
    config = Config.model_validate(
        {"model": {"d_model": 64, "n_layers": 3}, "training": {"minutes": 2, "learning_rate": 1e-3}}
    )
    start = RunStarted(run="r", config=config.model_dump(), parameters=1, device="cpu")
    doctor = doctor_for()
    observe(doctor, [start, *falling(range(1, 500)), *noisy(1.9, range(500, 4000), rate=1e-4)])
    assert "double training.minutes" in doctor.reading.advice
    assert "model.d_model to 128 or model.n_layers to 5" in doctor.reading.advice
