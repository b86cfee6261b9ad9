from pathlib import Path

import pytest
from diagnosis_streams import eval_event, step_event

from shakespeare_tui.runs.event_log import truncate_after
from shakespeare_tui.runs.events import Event, RunFinished, StepCompleted
from shakespeare_tui.runs.replay import FollowSource, ReplaySource


def write(path: Path, events: list[Event]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(event.to_json() + "\n" for event in events)


def steps_of(events: list[Event]) -> list[int]:
    return [event.step for event in events if isinstance(event, StepCompleted)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


# --- following -----------------------------------------------------------------------------------


def test_following_hands_over_each_event_once(log):
    source = FollowSource(log)
    assert source.poll(0.0) == []
    write(log, [step_event(1, 3.0), step_event(2, 2.9)])
    assert steps_of(source.poll(0.1)) == [1, 2]
    assert source.poll(0.2) == []
    write(log, [step_event(3, 2.8)])
    assert source.poll(0.3) == [step_event(3, 2.8)]
    assert source.restarts == 0


def test_a_line_that_is_still_being_written_waits(log):
    line = step_event(1, 3.0).to_json() + "\n"
    log.write_text(line[:20])
    source = FollowSource(log)
    assert source.poll(0.0) == []
    with log.open("a") as file:
        file.write(line[20:])
    assert steps_of(source.poll(0.1)) == [1]


def test_a_log_that_is_cut_back_starts_over(log):
    source = FollowSource(log)
    write(log, [step_event(step, 3.0) for step in range(1, 11)])
    source.poll(0.0)
    truncate_after(log, 4)
    write(log, [step_event(5, 1.0)])
    assert steps_of(source.poll(0.1)) == [1, 2, 3, 4, 5]
    assert source.restarts == 1


def test_lines_that_are_no_events_are_passed_over(log):
    good = step_event(2, 2.0).to_json()
    log.write_text(
        f'nonsense\n[1]\n{{"type": "FromTheFuture", "step": 1}}\n'
        f"{good.replace(chr(34) + 'step' + chr(34) + ': 2', chr(34) + 'step' + chr(34) + ': null')}"
        f"\n{good}\n"
    )
    assert steps_of(FollowSource(log).poll(0.0)) == [2]


def test_a_long_log_comes_in_parts(log):
    write(log, [step_event(step, 3.0) for step in range(1, 4001)])
    source = FollowSource(log)
    parts = [source.poll(0.0)]
    assert not source.is_up_to_date
    while not source.is_up_to_date:
        parts.append(source.poll(0.0))
    assert len(parts) > 1
    assert [step for part in parts for step in steps_of(part)] == list(range(1, 4001))


# --- replaying -----------------------------------------------------------------------------------


@pytest.fixture
def replay(log):
    """A run of a hundred steps, a second each, with a night's pause after step 50."""
    events: list[Event] = []
    for step in range(1, 101):
        event = step_event(step, 3.0)
        night = 40_000.0 if step > 50 else 0.0
        events.append(step_event_at(event, event.time + night))
    events.append(eval_event(100, 1.0, 2.0))
    write(log, events[:30])
    log.open("a").write("not an event\n")
    write(log, events[30:])
    source = ReplaySource(log, speed=10)
    yield source
    source.close()


def step_event_at(event: StepCompleted, time: float) -> StepCompleted:
    import dataclasses

    return dataclasses.replace(event, time=time)


def test_time_passes_at_the_replays_speed(replay):
    assert steps_of(replay.poll(100.0)) == [1]
    assert steps_of(replay.poll(101.0)) == list(range(2, 12))
    replay.change_speed(2)
    assert steps_of(replay.poll(101.5)) == list(range(12, 22))
    assert replay.position_seconds == pytest.approx(20)


def test_a_night_between_stop_and_resume_is_shortened(replay):
    assert replay.duration_seconds == pytest.approx(99 + 5 - 1)


def test_every_event_comes_once_and_then_the_replay_stands(replay):
    events = []
    for tick in range(40):
        events += replay.poll(100.0 + tick)
    assert steps_of(events) == list(range(1, 101))
    assert len(events) == 101
    assert replay.is_at_end
    assert not replay.is_playing


def test_pausing_stops_the_clock(replay):
    replay.poll(0.0)
    replay.toggle()
    assert replay.poll(5.0) == []
    replay.toggle()
    assert replay.poll(60.0) == []
    assert steps_of(replay.poll(60.15)) == [2]


def test_no_time_passes_while_nobody_looks(replay):
    replay.poll(0.0)
    assert len(steps_of(replay.poll(3600.0))) == 10


def test_going_on_is_no_restart_and_going_back_is_one(replay):
    replay.poll(0.0)
    replay.seek_step(40)
    assert steps_of(replay.poll(0.1)) == list(range(2, 41))
    assert replay.restarts == 0
    replay.seek_step(7)
    assert replay.restarts == 1
    assert steps_of(replay.poll(0.2)) == list(range(1, 8))
    assert replay.step == 7


def test_a_reader_that_kept_a_state_skips_to_it(replay):
    replay.seek_step(40)
    replay.poll(0.0)
    replay.seek_step(30)
    replay.skip_to(20)
    assert steps_of(replay.poll(0.1)) == list(range(21, 31))


def test_a_far_jump_arrives_in_parts(log):
    write(log, [step_event(step, 3.0) for step in range(1, 5001)])
    source = ReplaySource(log)
    source.seek_step(4500)
    played = steps_of(source.poll(0.0)) + steps_of(source.poll(0.1)) + steps_of(source.poll(0.2))
    assert played == list(range(1, 4501))
    assert source.poll(0.3) == []
    source.close()


def test_toggle_at_the_end_plays_again(replay):
    replay.seek_seconds(1e9)
    replay.poll(0.0)
    assert replay.is_at_end
    replay.toggle()
    assert replay.restarts == 1
    assert steps_of(replay.poll(0.5)) == [1]
    assert steps_of(replay.poll(1.0)) == list(range(2, 7))


def test_speed_stays_between_one_and_a_thousand(replay):
    replay.change_speed(1e9)
    assert replay.speed == 1000
    replay.change_speed(1e-9)
    assert replay.speed == 1


def test_a_log_that_is_cut_while_it_plays_ends_there(replay, log):
    replay.poll(0.0)
    lines = log.read_bytes().splitlines(keepends=True)
    with log.open("r+b") as file:
        file.truncate(sum(map(len, lines[:20])))
    replay.seek_seconds(1e9)
    # What was read ahead still counts.
    assert 20 <= steps_of(replay.poll(1.0))[-1] < 60
    assert replay.is_at_end


def test_an_empty_log_has_no_length(log):
    log.write_text("")
    source = ReplaySource(log)
    assert source.poll(0.0) == []
    assert source.is_at_end
    assert source.duration_seconds == 0
    source.close()


def test_the_end_of_a_run_is_part_of_the_replay(log):
    write(log, [step_event(1, 1.0), RunFinished(time=2.0, step=1, reason="completed", val_loss=1)])
    source = ReplaySource(log, speed=1000)
    source.poll(0.0)
    assert isinstance(source.poll(1.0)[-1], RunFinished)
    source.close()
