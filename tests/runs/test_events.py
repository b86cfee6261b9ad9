import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakespeare_tui.runs.events import (
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
    event_from_json,
)

EXAMPLES = [
    RunStarted(run="r", config={"model": {"d_model": 16}}, parameters=7, device="cpu"),
    StepCompleted(
        step=1,
        loss=4.1,
        learning_rate=1e-3,
        grad_norm=0.5,
        tokens_per_second=9.0,
        elapsed_seconds=0.1,
    ),
    LayerStatistics(
        step=1,
        layers=["embedding", "blocks.0.attention"],
        grad_norms=[0.5, 0.1],
        update_ratios=[1e-3, None],
    ),
    EvalCompleted(step=1, train_loss=4.0, val_loss=4.1, protocol="exact"),
    SampleGenerated(step=1, prompt="ROMEO:", text=' "[b]\n\\é\u2028'),
    CheckpointSaved(step=1, path="step-00000001", val_loss=None),
    DiagnosisRaised(step=1, kind="plateau", evidence="e", advice="a"),
    CommandApplied(step=1, command="Pause", arguments={}),
    RunFinished(step=1, reason="completed", val_loss=4.1),
    RunFailed(step=1, error="disk full"),
]

# What other programs were promised.
PROMISED = {
    "RunStarted": {"run", "config", "parameters", "device"},
    "StepCompleted": {
        "step",
        "loss",
        "learning_rate",
        "grad_norm",
        "tokens_per_second",
        "elapsed_seconds",
    },
    "LayerStatistics": {"step", "layers", "grad_norms", "update_ratios"},
    "EvalCompleted": {"step", "train_loss", "val_loss", "protocol"},
    "SampleGenerated": {"step", "prompt", "text"},
    "CheckpointSaved": {"step", "path", "val_loss"},
    "DiagnosisRaised": {"step", "kind", "evidence", "advice"},
    "CommandApplied": {"step", "command", "arguments"},
    "RunFinished": {"step", "reason", "val_loss"},
    "RunFailed": {"step", "error"},
}


def refuse_constant(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_is_one_line_that_reads_back_equal(event: Event) -> None:
    line = event.to_json()
    assert "\n" not in line
    assert event_from_json(line) == event
    assert event_from_json(line.encode()) == event


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_lines_have_the_promised_names(event: Event) -> None:
    record = json.loads(event.to_json())
    assert record["type"] in PROMISED
    assert PROMISED[record["type"]] <= record.keys()
    assert record["time"] == event.time


def test_every_promised_event_exists() -> None:
    assert PROMISED.keys() <= Event.registry.keys()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_numbers_are_written_as_null(value: float) -> None:
    step = dataclasses.replace(EXAMPLES[1], loss=value, grad_norm=value)
    record = json.loads(step.to_json(), parse_constant=refuse_constant)
    assert record["loss"] is None
    assert record["grad_norm"] is None
    back = event_from_json(step.to_json())
    assert isinstance(back, StepCompleted)
    assert back.loss is None


def test_non_finite_numbers_are_null_at_any_depth() -> None:
    event = CommandApplied(
        step=1, command="X", arguments={"a": [math.nan, {"b": (math.inf, 1.5)}], "c": "NaN"}
    )
    record = json.loads(event.to_json(), parse_constant=refuse_constant)
    assert record["arguments"] == {"a": [None, {"b": [None, 1.5]}], "c": "NaN"}


@given(st.text(), st.text(), st.integers(0, 10**9), st.floats(0, 4e9))
def test_any_text_survives(prompt: str, text: str, step: int, seconds: float) -> None:
    event = SampleGenerated(step=step, prompt=prompt, text=text, time=seconds)
    line = event.to_json()
    assert "\n" not in line
    assert event_from_json(line) == event


def test_a_type_of_a_newer_version_reads_as_nothing() -> None:
    assert event_from_json('{"type": "ModelMerged", "time": 1.0, "step": 3}') is None
    assert event_from_json('{"time": 1.0}') is None
    assert event_from_json('{"type": "Event", "time": 1.0}') is None
    assert event_from_json('{"type": ["RunFailed"], "step": 1, "error": "x"}') is None
    assert event_from_json('{"type": {}, "step": 1}') is None


def test_fields_of_a_newer_version_are_dropped() -> None:
    record = json.loads(EXAMPLES[2].to_json()) | {"top5_accuracy": 0.7}
    assert event_from_json(json.dumps(record)) == EXAMPLES[2]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[1, 2]",
        "3",
        "null",
        '{"type": "RunFailed"}',
        b"\xff\xfe{}",
    ],
)
def test_what_is_no_event_raises_value_error(line: str | bytes) -> None:
    with pytest.raises(ValueError):
        event_from_json(line)


def test_optional_fields_have_defaults_so_that_old_logs_stay_readable() -> None:
    for event in EXAMPLES:
        record = json.loads(event.to_json())
        kept = {"type", "time"} | PROMISED[record["type"]]
        old = {name: value for name, value in record.items() if name in kept}
        assert type(event_from_json(json.dumps(old))) is type(event)
