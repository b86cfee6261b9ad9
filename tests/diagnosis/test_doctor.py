import pickle
import random
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from diagnosis_streams import (
    doctor_for,
    eval_event,
    events_of,
    falling,
    kinds,
    noisy,
    observe,
    recorded,
    step_event,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from shakespeare_tui.config.schema import Config
from shakespeare_tui.diagnosis import Reading
from shakespeare_tui.runs.event_log import EventLog, read_events
from shakespeare_tui.runs.events import (
    ROLL_BACK,
    CommandApplied,
    DiagnosisRaised,
    EvalCompleted,
    Event,
    RunStarted,
    event_from_json,
)

EXPECTED = {
    "healthy": [],
    "diverging": ["exploding"],
    "spike": ["exploding"],
    "nan": ["nan"],
    "rate_too_high": ["not_learning"],
    "rate_too_low": ["not_learning"],
    "overfitting": ["memorising"],
    "plateau": ["plateau"],
}


def diagnose(name: str) -> tuple[list[DiagnosisRaised], Reading]:
    curve = recorded(name)
    doctor = doctor_for(curve)
    return observe(doctor, events_of(curve)), doctor.reading


# --- recorded curves -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPECTED)
def test_every_recorded_curve_gets_its_diagnosis_once(name):
    raised, reading = diagnose(name)
    assert kinds(raised) == EXPECTED[name]
    assert reading.kind == (EXPECTED[name][-1] if EXPECTED[name] else "improving")


def test_a_blow_up_is_noticed_within_a_few_steps():
    assert diagnose("diverging")[0][0].step <= 8
    # The recorded rate jumps at step 300; only every second step was kept.
    assert 300 < diagnose("spike")[0][0].step <= 310
    assert diagnose("nan")[0][0].step == recorded("nan")["steps"][-1][0]


def test_the_evidence_of_overfitting_is_the_evaluations_own_figures():
    evaluations = {step: (train, val) for step, train, val in recorded("overfitting")["evals"]}
    [memorising] = diagnose("overfitting")[0]
    train, val = evaluations[memorising.step]
    gap = 100 * (val - train) / train
    assert f"train {train:.2f}, validation {val:.2f}" in memorising.evidence
    assert f"a gap of {gap:.0f} %" in memorising.evidence
    earlier = {step: val for step, (_, val) in evaluations.items() if step <= memorising.step}
    best = min(earlier, key=lambda step: earlier[step])
    assert f"best checkpoint (step {best:,})" in memorising.advice
    assert "model.dropout" in memorising.advice


def test_a_rise_is_raised_at_its_second_evaluation():
    # The lowest is at step 300; at 400 validation is 0.015 above it, at 500 clearly so.
    assert diagnose("overfitting")[0][0].step == 600


def test_not_learning_tells_a_rate_too_low_from_one_too_high():
    [low] = diagnose("rate_too_low")[0]
    [high] = diagnose("rate_too_high")[0]
    assert "raise training.learning_rate to 3e-4" in low.advice
    assert "lower training.learning_rate to 0.02" in high.advice
    assert "2.49" in low.evidence and "1e-7" in low.evidence


def test_a_plateau_at_full_rate_is_told_to_let_the_rate_decay():
    [plateau] = diagnose("plateau")[0]
    assert "training.scheduler: cosine" in plateau.advice
    assert "100 % of its peak" in plateau.evidence


@pytest.mark.parametrize("every", [10, 50, 100])
def test_a_healthy_run_raises_nothing_when_its_log_is_thinned(every):
    curve = recorded("healthy")
    events = [
        event
        for event in events_of(curve)
        if isinstance(event, EvalCompleted) or event.step % every == 0
    ]
    assert observe(doctor_for(curve), events) == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.2))
def test_a_healthy_run_raises_nothing_under_the_noise_of_small_batches(seed, sd):
    curve = recorded("healthy")
    generator = random.Random(seed)
    curve["steps"] = [
        [step, loss + generator.gauss(0, sd), rate, grad_norm]
        for step, loss, rate, grad_norm in curve["steps"]
    ]
    assert observe(doctor_for(curve), events_of(curve)) == []


def test_advice_names_only_real_keys_and_rates_that_a_config_takes():
    known = set(Config().by_path())
    for name in EXPECTED:
        raised, reading = diagnose(name)
        for text in [reading.advice, *(diagnosis.advice for diagnosis in raised)]:
            assert set(re.findall(r"(?:model|training)\.[a-z_]+", text)) <= known
            for rate in re.findall(r"learning_rate to ([\w.-]+\w)", text):
                Config.model_validate({"training": {"learning_rate": float(rate)}})


@pytest.mark.parametrize("name", EXPECTED)
def test_texts_are_single_lines_and_survive_the_log(name):
    raised, reading = diagnose(name)
    for diagnosis in raised:
        assert event_from_json(diagnosis.to_json()) == diagnosis
    texts = [reading.headline, reading.evidence, reading.advice]
    texts += [text for diagnosis in raised for text in (diagnosis.evidence, diagnosis.advice)]
    for text in texts:
        assert text and "\n" not in text and not re.search(r"\b(nan|inf|None)\b", text)


# --- state ---------------------------------------------------------------------------------------


def through_log(events: Iterable[Event], path: Path) -> list[Event]:
    with EventLog(path) as log:
        for event in events:
            log(event)
    return list(read_events(path))


@pytest.mark.parametrize("name", EXPECTED)
def test_a_resumed_doctor_goes_on_as_the_uninterrupted_one(name, tmp_path):
    curve = recorded(name)
    events = events_of(curve)
    for cut in (1, len(events) // 3, 2 * len(events) // 3):
        live, emitted = doctor_for(curve), []
        for event in events[:cut]:
            emitted += [event, *live.observe(event)]
        resumed = doctor_for(curve)
        assert kinds(observe(resumed, through_log(emitted, tmp_path / f"{cut}"))) == [
            event.kind for event in emitted if isinstance(event, DiagnosisRaised)
        ]
        for event in events[cut:]:
            assert resumed.reading == live.reading
            assert resumed.observe(event) == live.observe(event)


def test_a_roll_back_leaves_the_state_that_its_log_gives(tmp_path):
    config = Config()
    start = RunStarted(run="r", config=config.model_dump(), parameters=1, device="cpu")
    live, emitted = doctor_for(), []
    rollback = CommandApplied(
        step=400, command=ROLL_BACK, arguments={"rate_scale": 0.5, "evidence": "loss nan"}
    )
    refused = DiagnosisRaised(step=400, kind="nan", evidence="loss nan", advice="went back")
    history: list[Event] = [start, *falling(range(1, 401)), eval_event(400, 2.0, 2.1)]
    history += [*noisy(4.0, range(401, 480)), eval_event(450, 1.0, 4.0), rollback, refused]
    for event in history:
        emitted += [event, *live.observe(event)]
    assert live.reading.kind == "nan"
    resumed = doctor_for()
    observe(resumed, through_log(emitted, tmp_path / "events.jsonl"))
    later = [*falling(range(401, 700)), eval_event(600, 1.5, 2.6), *noisy(3.6, range(700, 900))]
    raised = []
    for event in later:
        found = live.observe(event)
        raised += found
        assert resumed.observe(event) == found
        assert resumed.reading == live.reading
    assert kinds(raised) == ["exploding"]
    # A third of the halved peak.
    assert "training.learning_rate to 2e-4" in raised[-1].advice


def test_memory_does_not_grow_with_the_run():
    doctor = doctor_for()
    sizes = []
    for step in range(1, 20_001):
        doctor.observe(step_event(step, 2.0 + random.Random(step).gauss(0, 0.05)))
        if step % 10 == 0:
            doctor.observe(eval_event(step, 2.0, 2.1))
        if step in (5000, 20_000):
            sizes.append(len(pickle.dumps(doctor)))
    assert sizes[1] < 1.1 * sizes[0]
