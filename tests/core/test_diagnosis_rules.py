import math
import re

import pytest
from diagnosis_streams import doctor_for, eval_event, falling, kinds, noisy, observe, step_event

from shakespeare_tui.core.config import Config
from shakespeare_tui.core.diagnosis import Doctor
from shakespeare_tui.core.events import (
    CommandApplied,
    DiagnosisRaised,
    RunStarted,
)

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
    doctor = Doctor(vocab_size=65, unigram_loss=3.347, learning_rate=1.0, warmup_steps=100)
    rising = [step_event(i, 4.0 if i <= 20 else 9.0, rate=i / 100) for i in range(1, 60)]
    [raised] = observe(doctor, rising)
    assert raised.kind == "exploding"
    suggested = re.search(r"training\.learning_rate to (\S+?)[,;]", raised.advice)
    assert suggested is not None and float(suggested[1]) < 0.2


def test_the_climb_of_a_warmup_is_not_judged():
    doctor = Doctor(vocab_size=65, unigram_loss=3.347, learning_rate=1e-3, warmup_steps=1000)
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
    doctor = Doctor(vocab_size=65, unigram_loss=3.347, learning_rate=1e-3, warmup_steps=100)
    assert observe(doctor, noisy(4.17, range(1, 250))) == []


def test_blind_guessing_is_noticed_where_the_unigram_loss_is_unknown():
    doctor = Doctor(vocab_size=65, unigram_loss=None, learning_rate=1e-3, warmup_steps=50)
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
    assert observe(doctor, noisy(2.5, range(600, 900))) == []
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
    assert kinds(observe(doctor, noisy(2.0, range(1, 4000)))) == ["plateau"]
    command = CommandApplied(step=3999, command="SetLearningRate", arguments={"learning_rate": 0.1})
    assert doctor.observe(command) == []
    assert observe(doctor, noisy(2.0, range(4000, 5900), rate=0.1)) == []
    assert doctor.reading.kind == "improving"
    assert kinds(observe(doctor, noisy(2.0, range(5900, 6200), rate=0.1))) == ["plateau"]
    assert "lower training.learning_rate to 0.03" in doctor.reading.advice


def test_overfitting_keeps_quiet_about_a_plateau_and_clears_with_hysteresis():
    doctor = doctor_for()
    raised = []
    gaps = {1000: 0.19, 2000: 0.21, 3000: 0.18, 4000: 0.22, 5000: 0.14, 6000: 0.21}
    for step in range(1, 6001):
        raised += doctor.observe(step_event(step, 1.0))
        if step in gaps:
            raised += doctor.observe(eval_event(step, 1.0, 1.0 + gaps[step]))
    assert [(d.kind, d.step) for d in raised if d.kind == "overfitting"] == [
        ("overfitting", 2000),
        ("overfitting", 6000),
    ]


def test_a_large_share_of_next_to_nothing_is_not_overfitting():
    doctor = doctor_for()
    observe(doctor, noisy(0.05, range(1, 500)))
    assert doctor.observe(eval_event(499, 0.04, 0.07)) == []


def test_losses_of_different_protocols_are_not_compared():
    doctor = doctor_for()
    observe(doctor, noisy(1.0, range(1, 1000)))
    assert kinds(observe(doctor, [eval_event(500, 1.0, 1.5, "nanogpt")])) == ["overfitting"]
    # A rise of 0.2 from one protocol to another says nothing about memorising.
    assert doctor.observe(eval_event(999, 1.0, 1.7, "exact")) == []


def test_memorising_stands_when_the_final_evaluation_has_another_protocol():
    doctor = doctor_for()
    observe(doctor, noisy(1.0, range(1, 1000)))
    rising = [eval_event(500, 1.1, 1.6), eval_event(900, 0.9, 1.8)]
    assert kinds(observe(doctor, rising)) == ["overfitting", "memorising"]
    assert doctor.observe(eval_event(999, 0.9, 1.85, "exact")) == []
    assert doctor.reading.kind == "memorising"


def test_train_loss_stands_in_where_an_evaluation_has_none():
    doctor = doctor_for()
    observe(doctor, noisy(1.0, range(1, 500)))
    assert kinds(doctor.observe(eval_event(499, None, 1.5))) == ["overfitting"]


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
    doctor = Doctor(vocab_size=65, unigram_loss=3.347, learning_rate=3e-3, warmup_steps=50)
    observe(doctor, [start, *falling(range(1, 500)), eval_event(499, 1.0, 1.6)])
    assert "raise model.dropout to 0.3" in doctor.reading.advice
    [spike] = observe(doctor, noisy(4.0, range(500, 520)))
    assert "training.learning_rate to 1e-3" in spike.advice
    assert "training.muon_learning_rate to 0.01" in spike.advice
    assert "grad_clip" not in spike.advice


def test_a_config_of_another_version_is_left_out():
    start = RunStarted(run="r", config={"modle": {}}, parameters=1, device="cpu")
    doctor = doctor_for()
    observe(doctor, [start, *falling(range(1, 500)), eval_event(499, 1.0, 1.6)])
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
