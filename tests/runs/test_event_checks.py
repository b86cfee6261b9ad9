import dataclasses

import pytest
from diagnosis_streams import eval_event, step_event

from shakespeare_tui.runs.events import (
    CheckpointSaved,
    CommandApplied,
    DiagnosisRaised,
    Event,
    LayerStatistics,
    RunFailed,
    RunFinished,
    RunStarted,
    SampleGenerated,
    event_from_json,
    is_sound,
)

SOUND: list[Event] = [
    RunStarted(run="a", config={"x": 1}, parameters=1, device="cpu", baselines={"uniform": 4.1}),
    step_event(1, 2.0),
    step_event(2, None, grad_norm=None),
    eval_event(1, None, 2.0),
    LayerStatistics(step=1, layers=["head"], grad_norms=[0.5], update_ratios=[None]),
    SampleGenerated(step=1, prompt="A", text="b"),
    CheckpointSaved(step=1, path="x", val_loss=None, best=True),
    DiagnosisRaised(step=1, kind="nan", evidence="e", advice="a"),
    CommandApplied(step=1, command="Pause"),
    RunFinished(step=1, reason="completed", val_loss=1.0),
    RunFailed(step=1, error="no"),
]


@pytest.mark.parametrize("event", SOUND, ids=lambda event: type(event).__name__)
def test_what_trainers_write_is_sound(event):
    assert is_sound(event)
    assert is_sound(event_from_json(event.to_json()))


@pytest.mark.parametrize("event", SOUND, ids=lambda event: type(event).__name__)
def test_a_value_of_another_kind_is_not(event):
    for field in dataclasses.fields(event):
        odd = dataclasses.replace(event, **{field.name: [object()]})
        assert not is_sound(odd), field.name


@pytest.mark.parametrize(
    "event",
    [
        step_event(-1, 2.0),
        step_event(10**30, 2.0),
        step_event(True, 2.0),
        step_event(1, 10**400),
        dataclasses.replace(step_event(1, 2.0), time=float("nan")),
        dataclasses.replace(SOUND[0], baselines={"uniform": "much"}),
        dataclasses.replace(SOUND[0], baselines={"uniform": float("inf")}),
        dataclasses.replace(SOUND[0], vocab_size=10**20),
        LayerStatistics(step=1, layers=["head"], grad_norms=[0.5], update_ratios=[]),
        LayerStatistics(step=1, layers=["head"], grad_norms=["big"], update_ratios=[1e-3]),
        LayerStatistics(step=1, layers=[3], grad_norms=[0.5], update_ratios=[1e-3]),
    ],
)
def test_numbers_out_of_range_are_not(event):
    assert not is_sound(event)
