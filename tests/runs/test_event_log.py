import json
import os
import time
from itertools import islice
from pathlib import Path

import pytest

from shakespeare_tui.runs.event_log import EventLog, last_events, read_events, truncate_after
from shakespeare_tui.runs.events import (
    ROLL_BACK,
    CommandApplied,
    EvalCompleted,
    Event,
    RunFailed,
    RunFinished,
    RunStarted,
    SampleGenerated,
    StepCompleted,
)


def step(number: int, loss: float = 1.0) -> StepCompleted:
    return StepCompleted(
        step=number,
        loss=loss,
        learning_rate=1e-3,
        grad_norm=1.0,
        tokens_per_second=1.0,
        elapsed_seconds=1.0,
    )


def evaluation(number: int, protocol: str = "exact") -> EvalCompleted:
    return EvalCompleted(step=number, train_loss=1.0, val_loss=1.0, protocol=protocol)


START = RunStarted(run="r", config={}, parameters=1, device="cpu")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def write(path: Path, *events: Event, every: int = 1) -> None:
    with EventLog(path, every=every) as log:
        for event in events:
            log(event)


def test_events_read_back_in_order(path: Path) -> None:
    events = [START, step(1), step(2), evaluation(2), RunFinished(step=2, reason="x", val_loss=1.0)]
    write(path, *events)
    assert list(read_events(path)) == events
    assert next(last_events(path), None) == events[-1]


def test_opening_again_appends(path: Path) -> None:
    write(path, START, step(1))
    write(path, step(2))
    assert list(read_events(path)) == list(read_events(path))
    assert [type(event) for event in read_events(path)] == [
        RunStarted,
        StepCompleted,
        StepCompleted,
    ]


def test_text_that_utf8_cannot_say_survives(path: Path) -> None:
    event = SampleGenerated(step=1, prompt="\ud800", text='a\udfff"é\u2028')
    write(path, event)
    path.read_bytes().decode()
    assert list(read_events(path)) == [event]


def test_whatever_is_not_a_step_is_on_disk_at_once_with_the_steps_before_it(path: Path) -> None:
    log = EventLog(path, flush_seconds=3600)
    log(step(1))
    log(evaluation(1))
    assert len(list(read_events(path))) == 2
    log.close()


def test_steps_reach_the_disk_within_the_flush_time(path: Path) -> None:
    log = EventLog(path, flush_seconds=0.05)
    log(step(1))
    time.sleep(0.06)
    log(step(2))
    assert [event.step for event in read_events(path) if isinstance(event, StepCompleted)] == [1, 2]
    log.close()


def test_syncing_brings_steps_to_the_disk(path: Path) -> None:
    log = EventLog(path, flush_seconds=3600)
    log(step(1))
    assert list(read_events(path)) == []
    log.sync()
    assert len(list(read_events(path))) == 1
    log.close()


def test_closing_flushes_even_after_an_error(path: Path) -> None:
    with pytest.raises(KeyError), EventLog(path, flush_seconds=3600) as log:
        log(step(1))
        raise KeyError
    assert len(list(read_events(path))) == 1


def test_thinning_leaves_out_steps_only(path: Path) -> None:
    write(path, START, *(step(n) for n in range(1, 11)), evaluation(7), every=4)
    steps = [event.step for event in read_events(path) if isinstance(event, StepCompleted)]
    assert steps == [4, 8]
    assert sum(isinstance(event, EvalCompleted) for event in read_events(path)) == 1


def test_a_line_cut_short_by_a_crash_is_not_read(path: Path) -> None:
    write(path, START, step(1), step(2))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        complete = whole[:length].count(b"\n")
        assert len(list(read_events(path))) == complete
        last = next(last_events(path), None)
        assert (last is None) == (complete == 0)


def test_damaged_and_foreign_lines_are_passed_over(path: Path) -> None:
    write(path, START, step(1))
    with path.open("ab") as file:
        file.write(b'not json\n[1]\n{"type": "New", "step": 1}\n{"type": ["a"]}\n\xff\xff\n\n')
    write(path, step(2))
    assert [type(event) for event in read_events(path)] == [
        RunStarted,
        StepCompleted,
        StepCompleted,
    ]
    with path.open("ab") as file:
        file.write(b'{"type": ["a"]}\nnot json\n')
    assert next(last_events(path), None) == list(read_events(path))[-1]


def test_no_file_has_no_events(path: Path) -> None:
    assert list(read_events(path)) == []
    assert next(last_events(path), None) is None


def test_the_last_event_of_a_long_log_is_found_from_its_end(path: Path) -> None:
    write(path, START, *(step(n) for n in range(1, 1500)))
    assert next(last_events(path), None) == list(read_events(path))[-1]
    assert [e.step for e in islice(last_events(path), 3)] == [1499, 1498, 1497]


def test_truncating_keeps_what_happened_up_to_the_step(path: Path) -> None:
    kept = [START, step(1), step(2), evaluation(2)]
    write(path, *kept, step(3), evaluation(3), SampleGenerated(step=3, prompt="p", text="t"))
    truncate_after(path, 2)
    assert list(read_events(path)) == kept


def test_truncating_drops_every_ending_so_that_the_run_ends_once(path: Path) -> None:
    write(path, START, step(1), RunFinished(step=1, reason="stopped", val_loss=None))
    write(path, RunFailed(step=1, error="x"))
    truncate_after(path, 1)
    assert [type(event) for event in read_events(path)] == [RunStarted, StepCompleted]


def test_truncating_drops_a_line_cut_short_and_damaged_ones(path: Path) -> None:
    write(path, START, step(1))
    with path.open("ab") as file:
        file.write(b"garbage\n[1]\n" + step(1).to_json().encode()[:-5])
    truncate_after(path, 1)
    assert path.read_bytes().endswith(b"\n")
    assert [json.loads(line)["type"] for line in path.read_bytes().splitlines()] == [
        "RunStarted",
        "StepCompleted",
    ]


def test_truncating_keeps_unknown_events_as_they_are(path: Path) -> None:
    line = b'{"type": "ModelMerged", "step": 1, "extra": [1.50]}\n'
    write(path, START)
    with path.open("ab") as file:
        file.write(line + line.replace(b'"step": 1', b'"step": 9'))
    truncate_after(path, 5)
    assert path.read_bytes().endswith(b"\n" + line)


def test_a_rollback_removes_what_no_longer_counts(path: Path) -> None:
    back = CommandApplied(step=2, command=ROLL_BACK, arguments={"rate_scale": 0.5})
    write(path, START, step(1), step(2), step(3), step(4), back, step(3, loss=0.5))
    kept = [START, step(1), step(2), back, step(3, loss=0.5)]
    assert [type(event) for event in read_events(path)] == [type(event) for event in kept]
    losses = [event.loss for event in read_events(path) if isinstance(event, StepCompleted)]
    assert losses == [1.0, 1.0, 0.5]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_an_os_error_and_closing_does_not_raise_another(tmp_path: Path) -> None:
    log = EventLog(Path("/dev/full"))
    with pytest.raises(OSError):
        log(evaluation(1))
    log.close()
