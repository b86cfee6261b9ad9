"""What the doctor reads off the layers' gradients and updates."""

import json
import re
from pathlib import Path

import pytest
from diagnosis_streams import CURVES, doctor_for, eval_event, kinds, noisy, observe, step_event
from streams import (
    command,
    layer_names,
    layers_event,
    run_with_ill_layers,
    started,
)

from shakespeare_tui.config.schema import Config
from shakespeare_tui.diagnosis import Doctor
from shakespeare_tui.runs.events import (
    ROLL_BACK,
    Event,
    LayerStatistics,
    RunStarted,
    StepCompleted,
    event_from_json,
)

BLOCKS = [layer for layer in layer_names(4) if layer.startswith("blocks")]


def steps_with(
    layers: dict[str, float], ratios: dict[str, float], steps: range, rate: float = 1e-3
) -> list[Event]:
    """A loss that falls, and layers that are measured every twenty steps."""
    events: list[Event] = []
    for step in steps:
        events.append(step_event(step, 1.4 + 2.8 * (1 + step / 60) ** -0.7, rate))
        if step % 20 == 0:
            events.append(layers_event(step, layers, ratios))
    return events


def test_a_silent_block_and_a_loud_layer_are_each_raised_once_and_named():
    doctor = doctor_for()
    raised = observe(doctor, run_with_ill_layers(1100))
    assert kinds(raised) == ["vanishing_gradients", "exploding_gradients"]
    vanishing, exploding = raised
    assert 500 < vanishing.step < 700 and 700 < exploding.step < 900
    assert "block 1 is" in vanishing.evidence and "block 4" in vanishing.evidence
    assert "model.qk_norm" in vanishing.advice
    assert "block 3 feed-forward" in exploding.evidence
    assert doctor.reading.kind == "exploding_gradients"
    for text in (each for one in raised for each in (one.evidence, one.advice)):
        assert "\n" not in text
        known = set(Config().by_path())
        assert set(re.findall(r"(?:model|training)\.[a-z_]+", text)) <= known


def test_what_grows_on_its_way_back_explodes_too():
    loud = {"blocks.0.attention": 90.0, "blocks.0.feedforward": 90.0}
    doctor = doctor_for()
    [raised] = observe(doctor, steps_with(loud, {}, range(1, 400)))
    assert raised.kind == "exploding_gradients"
    assert "grows from block to block" in raised.evidence
    assert observe(doctor, steps_with({}, {}, range(400, 600))) == []
    assert doctor.reading.kind == "improving"


def test_a_single_odd_measurement_is_no_finding():
    events = steps_with({}, {}, range(1, 400))
    events.append(layers_event(400, dict.fromkeys(BLOCKS[:2], 1e-9), dict.fromkeys(BLOCKS, 0.9)))
    events += [layers_event(420, {"head": 1e6}), *steps_with({}, {}, range(421, 600))]
    assert observe(doctor_for(), events) == []


def test_a_model_of_one_block_has_nothing_to_vanish_between():
    silent = dict.fromkeys(layer_names(1)[1:3], 1e-12)
    events = [
        event
        for step in range(20, 600, 20)
        for event in (step_event(step, 2.0), layers_event(step, silent, blocks=1))
    ]
    assert observe(doctor_for(), events) == []


def doctor_of(**training) -> Doctor:
    doctor = doctor_for()
    config = Config.model_validate({"training": training}).model_dump()
    doctor.observe(RunStarted(run="r", config=config, parameters=1, device="cpu"))
    return doctor


@pytest.mark.parametrize(
    ("optimizer", "ratio", "expected"),
    [
        ("adamw", 0.015, []),
        ("adamw", 0.06, ["updates_too_large"]),
        ("muon", 0.05, []),
        ("muon", 0.3, ["updates_too_large"]),
        ("adamw", 3e-5, []),
        ("adamw", 3e-6, ["updates_too_small"]),
    ],
)
def test_updates_are_judged_by_what_the_optimiser_makes_of_them(optimizer, ratio, expected):
    doctor = doctor_of(optimizer=optimizer)
    moved = dict.fromkeys(BLOCKS, ratio)
    raised = observe(doctor, steps_with({}, moved, range(1, 500)))
    assert kinds(raised) == expected
    if expected:
        assert raised[0].step > 200
        assert ("training.muon_learning_rate" in raised[0].advice) == (optimizer == "muon")
        [wanted] = re.findall(r"training\.learning_rate to ([\d.e-]+\d)", raised[0].advice)
        assert (float(wanted) > 1e-3) == (ratio < 1e-3)


def test_fresh_weights_and_rates_that_have_decayed_are_not_judged():
    early = steps_with({}, dict.fromkeys(BLOCKS, 0.2), range(1, 150))
    late = steps_with({}, dict.fromkeys(BLOCKS, 1e-6), range(500, 900), rate=1e-5)
    events = [*early, *steps_with({}, {}, range(150, 500)), *late]
    assert observe(doctor_for(), events) == []


def test_a_loss_that_has_shot_up_says_all_that_its_gradients_would():
    events = [*steps_with({}, {}, range(1, 400)), *noisy(4.5, range(400, 420))]
    for step in range(420, 700):
        events.append(step_event(step, 4.5))
        if step % 20 == 0:
            events.append(layers_event(step, dict.fromkeys(BLOCKS, 1e4)))
    assert kinds(observe(doctor_for(), events)) == ["exploding"]


def test_going_back_forgets_the_layers():
    doctor = doctor_for()
    silent = dict.fromkeys(BLOCKS[:2], 1e-9)
    events = steps_with(silent, {}, range(1, 300))
    assert kinds(observe(doctor, events)) == ["vanishing_gradients"]
    doctor.observe(command(100, ROLL_BACK))
    assert doctor.reading.kind != "vanishing_gradients"
    assert observe(doctor, steps_with(silent, {}, range(101, 160))) == []


def test_how_often_layers_are_measured_hardly_matters():
    def found(every: int) -> list[str]:
        doctor, raised = doctor_for(), []
        for event in run_with_ill_layers(900):
            if not isinstance(event, LayerStatistics):
                raised += doctor.observe(event)
            if isinstance(event, StepCompleted) and event.step % every == 0:
                silent = 0.2 if event.step < 300 else 1e-5
                layers = dict.fromkeys(BLOCKS[:2], silent)
                raised += doctor.observe(layers_event(event.step, layers))
        return kinds(raised)

    assert found(1) == found(7) == found(20) == found(100) == ["vanishing_gradients"]


def test_a_doctor_of_a_resumed_run_goes_on_as_the_first_one():
    events = [started(), *run_with_ill_layers(900)][1:]
    live = doctor_for()
    for cut, event in enumerate(events):
        live.observe(event)
        if cut in (500, 800):
            resumed = doctor_for()
            observe(resumed, (event_from_json(e.to_json()) for e in events[: cut + 1]))
            for later in events[cut + 1 : cut + 200]:
                assert resumed.observe(later) == live.observe(later)
                assert resumed.reading == live.reading
            live = doctor_for()
            observe(live, events[: cut + 1])


@pytest.mark.parametrize("path", sorted(CURVES.glob("layers_*.json")), ids=lambda path: path.stem)
def test_recorded_runs_of_presets_raise_nothing(path: Path):
    recorded = json.loads(path.read_text())
    doctor = doctor_for(recorded)
    start = RunStarted(run="r", config=recorded["config"], parameters=1, device="cpu")
    events: list[Event] = [start]
    for (step, loss, rate), norms, ratios in zip(
        recorded["steps"], recorded["grad_norms"], recorded["update_ratios"], strict=True
    ):
        events.append(step_event(step, loss, rate))
        events.append(
            LayerStatistics(
                step=step, layers=recorded["layers"], grad_norms=norms, update_ratios=ratios
            )
        )
    assert observe(doctor, [*events, eval_event(step, loss, loss + 0.1)]) == []
