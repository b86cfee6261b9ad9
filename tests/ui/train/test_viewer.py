"""The run behind the screen: attached through its log, or replayed; and what one may type."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from streams import START, command, finished_run, healthy_run, make_run, step_event, write_log

from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.commands import ExtendRun, Pause, SaveCheckpoint
from shakespeare_tui.runs.event_log import truncate_after
from shakespeare_tui.runs.events import Event, RunStarted
from shakespeare_tui.runs.figures import run_figures
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.ui.train import commands as questions
from shakespeare_tui.ui.train.panes import result_content
from shakespeare_tui.ui.train.run_view import AttachedView, ReplayView, open_view


def same(history: RunHistory, other: RunHistory) -> bool:
    """Whether two histories show the same."""
    for name in ("loss", "val_loss", "learning_rate"):
        np.testing.assert_array_equal(
            history.series(name).window().values, other.series(name).window().values
        )
    np.testing.assert_allclose(
        history.smoothed_loss(25).window().values, other.smoothed_loss(25).window().values
    )
    assert list(history.samples) == list(other.samples)
    assert list(history.markers) == list(other.markers)
    assert history.reading == other.reading
    assert history.phase == other.phase
    return history.last_step == other.last_step


@cache
def long_stream() -> tuple[Event, ...]:
    return tuple(finished_run(12_000))


def played_until(step: int) -> RunHistory:
    """The history as a reader has it who came to the end of ``step`` and no further."""
    history = RunHistory()
    for event in long_stream():
        if getattr(event, "step", 0) > step:
            break
        history.apply(event)
    return history


@pytest.fixture(scope="module")
def long_replay(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("runs"), "long", long_stream())
    view = ReplayView(run)
    yield view
    view.close()


def settled(view: ReplayView) -> None:
    while view.source.next_index < view.source.due_index:
        view.poll(0.0)


class TestReplay:
    def test_it_opens_at_the_end(self, runs_root: Path):
        view = ReplayView(make_run(runs_root, "a", finished_run(300)))
        assert view.state == "finished"
        assert view.history.last_step == 300
        assert not view.takes_commands
        assert not view.post(Pause())
        view.close()

    def test_with_a_speed_it_plays_from_the_beginning(self, runs_root: Path):
        view = ReplayView(make_run(runs_root, "a", finished_run(300)), speed=20)
        view.poll(100.0)
        assert view.history.last_step <= 1
        view.poll(100.5)
        # Scripted steps take a twentieth of a second.
        assert 190 <= view.history.last_step <= 210
        assert view.state == "replay"
        for tick in range(20):
            view.poll(101.0 + tick)
        assert view.state == "finished"
        view.close()

    @pytest.mark.parametrize("step", [11_000, 3_000, 7_777, 7_000, 250, 12_000])
    def test_wherever_it_jumps_it_shows_what_a_reader_of_the_stream_has(self, long_replay, step):
        long_replay.seek_step(step)
        settled(long_replay)
        assert same(long_replay.history, played_until(step))

    def test_stepping_back_and_on_ends_where_it_began(self, long_replay):
        long_replay.seek_step(600)
        settled(long_replay)
        for change in (-1, -1, 1, 1):
            long_replay.seek_step(long_replay.source.step + change)
            settled(long_replay)
        assert same(long_replay.history, played_until(600))

    def test_the_history_stays_the_same_object(self, long_replay):
        # Zoom and cursor belong to a history: jumping must not lose them.
        before = long_replay.history
        long_replay.seek_share(0.1)
        settled(long_replay)
        assert long_replay.history is before

    def test_a_run_that_broke_off_says_so(self, runs_root: Path):
        view = ReplayView(make_run(runs_root, "a", healthy_run(30)))
        assert view.state == "interrupted"
        view.close()

    def test_a_run_without_a_log_cannot_be_read(self, runs_root: Path):
        run = make_run(runs_root, "a", [])
        run.events_path.unlink()
        with pytest.raises(FileNotFoundError):
            ReplayView(run)


class TestAttached:
    def test_it_follows_and_leaves_commands_in_the_folder(self, runs_root: Path):
        run = make_run(runs_root, "a", healthy_run(100))
        with run.locked():
            view = open_view(run)
            assert isinstance(view, AttachedView)
            view.poll(START + 10)
            assert (view.state, view.history.last_step) == ("attached", 100)
            assert view.takes_commands
            assert view.post(SaveCheckpoint())
            line = run.commands_path.read_text().splitlines()[0]
            assert json.loads(line)["command"] == "SaveCheckpoint"
            write_log(run.events_path, [step_event(101), command(101, "Pause")])
            view.poll(START + 11)
            assert (view.state, view.history.last_step) == ("paused", 101)

    def test_it_notices_that_the_trainer_is_gone(self, runs_root: Path):
        run = make_run(runs_root, "a", healthy_run(100))
        with run.locked():
            view = AttachedView(run)
        view.poll(START + 10)
        assert view.state == "interrupted"
        assert not view.post(Pause())
        assert not run.commands_path.exists()

    def test_it_says_when_there_has_been_no_news_for_long(self, runs_root: Path):
        run = make_run(runs_root, "a", healthy_run(100))
        with run.locked():
            view = AttachedView(run)
            view.poll(START + 3600)
            assert view.state == "waiting"

    def test_a_run_that_goes_back_is_read_anew(self, runs_root: Path):
        run = make_run(runs_root, "a", healthy_run(600))
        with run.locked():
            view = AttachedView(run)
            truncate_after(run.events_path, 500)
            write_log(run.events_path, [command(500, "RollBack"), step_event(501)])
            view.poll(START + 50)
            straight = RunHistory()
            straight.extend(healthy_run(500))
            straight.extend([command(500, "RollBack"), step_event(501)])
            assert same(view.history, straight)

    def test_the_length_is_that_of_the_config_in_the_folder(self, runs_root: Path):
        run = make_run(runs_root, "a", healthy_run(100, max_steps=150))
        with run.locked():
            view = AttachedView(run)
            # The folder's config, which a resumed run may have changed, says 2,000.
            assert view.history.config["training"]["max_steps"] == 2000

    def test_a_run_nobody_trains_is_replayed(self, runs_root: Path):
        view = open_view(make_run(runs_root, "a", finished_run(30)))
        assert isinstance(view, ReplayView)
        view.close()


class TestQuestions:
    @pytest.fixture
    def history(self) -> RunHistory:
        history = RunHistory()
        history.extend(healthy_run(50))
        return history

    def test_a_rate_is_a_number_or_a_factor(self, history: RunHistory):
        peak = questions.peak_learning_rate(history)
        assert peak == 1e-3
        assert questions.parse_learning_rate("5e-4", peak).learning_rate == 5e-4
        assert questions.parse_learning_rate(" x0.5 ", peak).learning_rate == 5e-4
        history.apply(command(50, "SetLearningRate", learning_rate=2e-4))
        assert questions.peak_learning_rate(history) == 2e-4

    @pytest.mark.parametrize("text", ["", "fast", "0", "-1e-3", "nan", "inf", "1e9", "x", "x-1"])
    def test_what_is_no_rate_is_refused_with_an_example(self, text: str):
        with pytest.raises(UserError, match=r"5e-4|above 0"):
            questions.parse_learning_rate(text, 1e-3)

    def test_lengths_are_steps_or_minutes_by_the_kind_of_run(self):
        steps, minutes = questions.parse_extension, questions.parse_extension
        assert steps("500", is_timed=False) == ExtendRun(steps=500)
        assert steps("+1,000 steps", is_timed=False) == ExtendRun(steps=1000)
        assert steps("2e3", is_timed=False) == ExtendRun(steps=2000)
        assert minutes("2", is_timed=True) == ExtendRun(minutes=2)
        assert minutes("1.5 min", is_timed=True) == ExtendRun(minutes=1.5)
        assert minutes("30s", is_timed=True) == ExtendRun(minutes=0.5)

    @pytest.mark.parametrize(
        ("text", "timed"),
        [
            ("", False),
            ("0", False),
            ("-5", False),
            ("1.5", False),
            ("2 minutes", False),
            ("500 steps", True),
            ("0", True),
            ("3 weeks", True),
            ("1.2.3", True),
            ("9e99", False),
        ],
    )
    def test_what_is_no_length_is_refused(self, text: str, timed: bool):
        with pytest.raises(UserError):
            questions.parse_extension(text, is_timed=timed)

    def test_a_finished_run_goes_on_beyond_its_length(self, history: RunHistory):
        more = questions.extension_overrides(history, ExtendRun(steps=500))
        assert more == ("training.max_steps=2500",)
        history.set_config({"training": {"max_steps": 2000, "minutes": 1.5}})
        more = questions.extension_overrides(history, ExtendRun(minutes=0.5))
        assert more == ("training.minutes=2",)

    def test_prompts_may_hold_new_lines_and_notes_may_not_be_empty(self):
        assert questions.parse_prompt(r"KING:\nMy").prompt == "KING:\nMy"
        assert questions.parse_note(" good ").text == "good"
        with pytest.raises(UserError):
            questions.parse_note("  ")


def test_a_result_says_at_which_length_it_was_measured() -> None:
    history = RunHistory()
    for event in finished_run():
        if isinstance(event, RunStarted):
            data = event.config["data"] | {"seq_len": 64}
            event = dataclasses.replace(event, config=event.config | {"data": data})
        history.apply(event)
    shown = result_content(history, run_figures(history), None, ()).plain
    assert "evaluated and sampled at 64 tokens, the trained length (data.seq_len)" in shown
