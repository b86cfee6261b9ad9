"""The Train screen as a person uses it: keys in, what the screen says out."""

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from checkpoint_trees import add_checkpoint
from lab_harness import NOW, MakeApp, ScriptedTrainer, until
from streams import (
    START,
    busy_run,
    command,
    failed_run,
    finished_run,
    healthy_run,
    make_run,
    started,
    step_event,
    write_log,
)
from textual.pilot import Pilot
from textual.widgets import Input

from shakespeare_tui.runs.commands import (
    AddNote,
    ExtendRun,
    GenerateSample,
    Pause,
    Resume,
    SaveCheckpoint,
    SetLearningRate,
    Stop,
)
from shakespeare_tui.runs.events import EvalCompleted, Event, SampleGenerated
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.channel import Ended, Progressed
from shakespeare_tui.ui.engine.training import TrainingController
from shakespeare_tui.ui.settings import memory_settings
from shakespeare_tui.ui.train.run_list import RunListTable
from shakespeare_tui.ui.train.screen import TrainScreen
from shakespeare_tui.ui.widgets.loss_chart import LossChart

Scripted = Callable[..., tuple[TrainingController, ScriptedTrainer]]
WIDE, NARROW = (140, 45), (80, 24)


class Lab:
    """An app on the Train screen with a scripted trainer."""

    def __init__(self, app: LabApp, pilot: Pilot[int], trainer: ScriptedTrainer) -> None:
        self.app, self.pilot, self.trainer = app, pilot, trainer

    @property
    def screen(self) -> TrainScreen:
        assert isinstance(self.app.screen, TrainScreen)
        return self.app.screen

    @property
    def chart(self) -> LossChart:
        return self.app.screen.query_one(LossChart)

    @property
    def text(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        notices = [notice.message for notice in self.app._notifications]
        return "\n".join([*(strip.text for strip in strips), *notices])

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def sees(self, *words: str) -> None:
        """Wait until all of ``words`` are on the screen."""
        try:
            await until(lambda: all(word in self.text for word in words))
        except AssertionError:
            missing = [word for word in words if word not in self.text]
            raise AssertionError(f"{missing} not in\n{self.text}") from None

    async def types(self, text: str) -> None:
        self.app.screen.query_one(Input).value = text
        await self.press("enter")


@pytest.fixture
def lab(make_app: MakeApp, scripted: Scripted):
    """``async with lab(stream, size=…) as at:`` the Train screen while ``stream`` is trained."""

    @asynccontextmanager
    async def open_lab(
        stream: Iterable[Event] | None = None,
        *,
        size: tuple[int, int] = WIDE,
        is_over: bool = False,
    ) -> AsyncIterator[Lab]:
        training, trainer = scripted(stream or ())
        app = make_app("train", training=training)
        async with app.run_test(size=size) as pilot:
            if stream is not None:
                if is_over:
                    trainer.release()
                training.start(TrainingRequest(root=app.services.runs_root, resume="quick-1"))
                await until(lambda: app.screen.query_one(LossChart).history.last is not None)
                if is_over:
                    await until(lambda: not training.is_active)
                await pilot.pause()
            yield Lab(app, pilot, trainer)
            trainer.release()

    return open_lab


class TestEmpty:
    @pytest.mark.parametrize("size", [WIDE, NARROW])
    async def test_it_says_what_to_press(self, lab, size):
        async with lab(size=size) as at:
            await at.sees("No run yet", "train quick", "review its config", "show a run")

    async def test_s_trains_the_draft(self, lab):
        async with lab() as at:
            await at.press("s")
            await until(lambda: at.trainer.requests)
            request = at.trainer.requests[0]
            assert request.stem == "quick"
            assert request.config.training.optimizer == "muon"

    async def test_getting_ready_is_shown_with_its_progress(self, lab):
        async with lab() as at:
            training = at.app.services.training
            training.state = "starting"
            training.setup = Progressed("fetching the corpus", 300_000, 1_000_000)
            training.changes += 1
            await at.sees("Starting", "fetching the corpus", "30% of 1.0 MB", "s cancels")

    async def test_why_a_start_came_to_nothing_is_shown(self, lab):
        async with lab() as at:
            at.trainer.ending = Ended(error="the corpus [b]x[/b] cannot be fetched")
            at.trainer.release()
            at.app.services.training.start(
                TrainingRequest(root=at.app.services.runs_root, resume="quick-1")
            )
            await at.sees("No run yet", "the corpus [b]x[/b] cannot be fetched")


class TestNewest:
    async def test_the_newest_run_is_shown_where_none_was_started(
        self, make_app: MakeApp, scripted: Scripted, runs_root: Path
    ):
        for name, created in (("old-1", 1.0), ("new-1", 3.0), ("old-2", 2.0)):
            run = make_run(runs_root, name, finished_run(40, run=name))
            record = json.loads((run.path / "run.json").read_text())
            (run.path / "run.json").write_text(json.dumps(record | {"created": created}))
        training, trainer = scripted(())
        app = make_app("data", training=training)
        async with app.run_test(size=WIDE) as pilot:
            at = Lab(app, pilot, trainer)
            await at.press("3")
            await at.sees("new-1", "✓ finished", "step 40 / 40")
            assert "No run yet" not in at.text
            # It was not chosen: the key that starts a run does not resume it.
            await at.press("s")
            await until(lambda: trainer.requests)
            assert trainer.requests[0].resume is None
            trainer.release()

    async def test_a_run_that_another_process_trains_goes_before_newer_ones(
        self, make_app: MakeApp, runs_root: Path
    ):
        far = make_run(runs_root, "far-1", healthy_run(100, run="far-1"))
        make_run(runs_root, "new-1", finished_run(40, run="new-1"))
        with far.locked():
            app = make_app("data", clock=lambda: START + 5)
            async with app.run_test(size=WIDE) as pilot:
                at = Lab(app, pilot, ScriptedTrainer())
                await at.press("3")
                await at.sees("training elsewhere", "far-1 is being trained by another process")
                assert "no run in training" not in at.text

    async def test_back_from_a_chosen_run_leads_to_the_newest(
        self, make_app: MakeApp, runs_root: Path
    ):
        make_run(runs_root, "old-1", finished_run(40, run="old-1"))
        newest = make_run(runs_root, "new-1", finished_run(60, run="new-1"))
        record = json.loads((newest.path / "run.json").read_text())
        (newest.path / "run.json").write_text(json.dumps(record | {"created": NOW * 2}))
        app = make_app("train")
        async with app.run_test(size=WIDE) as pilot:
            at = Lab(app, pilot, ScriptedTrainer())
            await at.sees("new-1", "step 60 / 60")
            await at.press("w", "down", "enter")
            await at.sees("old-1", "step 40 / 40")
            await at.press("b")
            await at.sees("new-1", "step 60 / 60")


class TestLive:
    async def test_figures_samples_and_verdict(self, lab):
        async with lab(busy_run(1100)) as at:
            await at.sees(
                "quick-1",
                "training",
                "step 1,100 / 2,000",
                "55 %",
                "~1.8517",  # validation loss, of a subset
                "6.37",  # its perplexity
                "55.0%",  # and its accuracy
                "bigram 2.49",
                "And let the world upon my heart be done.",
                "22% differs from step 750",
                "Still improving",
                "exploding",
                "804.1K parameters",
            )

    async def test_news_arrive_by_themselves(self, lab):
        async with lab(healthy_run(20)) as at:
            await at.sees("step 20 /")
            at.trainer.send(step_event(21))
            at.trainer.send(SampleGenerated(step=21, prompt="JULIET:", text="\nO me!"))
            await at.sees("step 21 /", "JULIET:", "O me!")

    async def test_the_status_line_is_at_the_step_of_the_figures(self, lab):
        async with lab(healthy_run(20)) as at:
            seen = set()
            for step in range(21, 61):
                at.trainer.send(step_event(step))
                await asyncio.sleep(0.03)
                at_once = re.findall(r"step ([\d,]+) ?/", at.text)
                seen |= {(len(at_once), len(set(at_once)))}
            assert seen == {(2, 1)}

    @pytest.mark.parametrize("size", [WIDE, NARROW])
    async def test_texts_never_become_markup(self, lab, size):
        odd = "[red]x[/red] [/] [bold"
        stream = [
            *healthy_run(30, run=odd),
            SampleGenerated(time=START, step=30, prompt=odd, text=f" {odd}"),
            command(30, "AddNote", text=odd),
        ]
        async with lab(stream, size=size) as at:
            await at.sees(f"{odd} {odd}")
            await at.press("left", "end")
            await at.sees(f"note: {odd}"[:40])
            await at.press("y")
            await at.press("i")
            await at.sees("only samples of")

    async def test_every_part_is_within_reach_at_80_by_24(self, lab):
        async with lab(busy_run(1100), size=NARROW) as at:
            await at.sees("[Samples]", "ROMEO:", "4 of 4")
            await at.press("tab", "tab")
            await at.sees("[Doctor]", "Still improving", "Advice")
            await at.press("tab")
            await at.sees("[Metrics]", "learning rate", "gradient norm", "tok/s")
            await at.press("shift+tab", "shift+tab")
            await at.sees("[Samples]", "ROMEO:")

    async def test_one_part_can_have_the_whole_place(self, lab):
        async with lab(busy_run(600)) as at:
            at.chart.focus()
            before = at.chart.size
            await at.press("m")
            assert at.chart.size.width > before.width
            assert "Samples" not in at.text
            await at.press("m")
            assert at.chart.size == before

    async def test_looking_around_does_not_disturb(self, lab):
        async with lab(healthy_run(300)) as at:
            await at.press("right")
            await at.press("5")
            at.trainer.send(step_event(301))
            await at.press("3")
            await at.sees("step 301 /")
            assert at.chart.cursor == 300
            assert at.trainer.commands == []

    async def test_many_sizes(self, lab):
        async with lab(busy_run(600)) as at:
            for size in ((200, 60), (40, 10), (80, 24), (20, 5), (109, 33), (110, 34), (1, 1)):
                await at.pilot.resize_terminal(*size)
                await at.pilot.pause()
            await at.pilot.resize_terminal(*WIDE)
            await at.sees("Loss", "Samples", "Doctor")


class TestCommands:
    async def test_keys_give_commands_that_the_chart_then_shows(self, lab):
        async with lab(healthy_run(300)) as at:
            await at.press("p")
            await at.sees("paused", "Go on")
            await at.press("p")
            await at.press("c", "g")
            await at.press("s", "y")
            await until(lambda: len(at.trainer.commands) == 5)
            kinds = [type(item) for item in at.trainer.commands]
            assert kinds == [Pause, Resume, SaveCheckpoint, GenerateSample, Stop]
            await at.sees("▪ stopped", "saved")
            assert {marker.text for marker in at.chart.history.markers} >= {
                "pause",
                "checkpoint asked for",
                "sample asked for",
            }

    async def test_stopping_asks_first(self, lab):
        async with lab(healthy_run(300)) as at:
            for no in ("escape", "n", "enter"):
                await at.press("s")
                await at.sees("Stop quick-1?", "300 steps", "s resumes it exactly")
                await at.press(no)
                assert at.trainer.commands == [], no
            await at.press("s", "s", "s", "y")
            await until(lambda: at.trainer.commands)
            assert [type(item) for item in at.trainer.commands] == [Stop]

    async def test_the_key_that_stopped_a_run_resumes_it_and_starts_no_other(
        self, lab, runs_root: Path
    ):
        make_run(runs_root, "quick-1", [])
        async with lab(finished_run(600, reason="stopped"), is_over=True) as at:
            await at.sees("s Resume", "S New run")
            await at.press("s")
            await until(lambda: len(at.trainer.requests) == 2)
            assert at.trainer.requests[1].resume == "quick-1"

    async def test_another_run_has_a_key_of_its_own(self, lab, runs_root: Path):
        make_run(runs_root, "quick-1", [])
        async with lab(finished_run(600, reason="stopped"), is_over=True) as at:
            await at.press("S")
            await until(lambda: len(at.trainer.requests) == 2)
            request = at.trainer.requests[1]
            assert (request.resume, request.stem) == (None, "quick")

    async def test_questions(self, lab):
        async with lab(healthy_run(300), size=NARROW) as at:
            at.chart.focus()
            for key, text, expected in (
                ("l", "x0.5", SetLearningRate(learning_rate=5e-4)),
                ("l", "2e-4", SetLearningRate(learning_rate=2e-4)),
                ("e", "750", ExtendRun(steps=750)),
                ("n", "[b]good", AddNote(text="[b]good")),
                ("G", r"KING:\n", GenerateSample(prompt="KING:\n")),
            ):
                at.trainer.commands.clear()
                await at.press(key)
                await at.types(text)
                await until(lambda: at.trainer.commands)
                assert at.trainer.commands == [expected]
                assert at.app.focused is at.chart

    async def test_a_wrong_answer_is_explained_and_can_be_mended(self, lab):
        async with lab(healthy_run(300)) as at:
            await at.press("l")
            await at.types("fast")
            await at.sees("write an LR such as 5e-4")
            await at.types("1e-4")
            await until(lambda: at.trainer.commands)
            assert at.trainer.commands == [SetLearningRate(learning_rate=1e-4)]

    async def test_escape_leaves_a_question(self, lab):
        async with lab(healthy_run(300)) as at:
            await at.press("n")
            await at.sees("Note")
            await at.press("s", "5", "escape", "3")
            assert at.trainer.commands == []
            assert at.app.current_mode == "train"

    async def test_what_makes_no_sense_now_is_not_offered(self, lab):
        async with lab() as at:
            await at.press("p", "c", "g", "l", "e", "n", "t", "f", "space", "b")
            assert at.trainer.commands == []
            assert "No run yet" in at.text


class TestChart:
    async def test_the_cursor_reads_values(self, lab):
        async with lab(busy_run(1100)) as at:
            at.chart.focus()
            await at.press("home")
            loss = at.chart.history.series("loss").window(1, 1).values[0]
            await at.sees("step 1 ", f"batch {loss:.4f}")
            await at.press("end")
            loss = at.chart.history.series("loss").window(1100, 1100).values[0]
            await at.sees("step 1,100", f"batch {loss:.4f}", "val ~1.8517", "LR 4.8e-4")
            await at.press("left")
            assert 1000 < at.chart.cursor < 1100
            await at.press("escape")
            await at.sees("train, mean of 25")

    async def test_the_cursor_tells_what_happened_there(self, lab):
        async with lab(busy_run(1100)) as at:
            at.chart.focus()
            await at.press("home")
            while "learning rate 5e-4" not in at.text:
                assert at.chart.cursor < 1100
                await at.press("right")
            assert 350 < at.chart.cursor < 450

    async def test_zoom_pan_and_back(self, lab):
        async with lab(healthy_run(1000)) as at:
            await at.press("z", "z")
            start, end = at.chart.span
            assert (end, end - start + 1) == (1000, 250)
            at.chart.focus()
            await at.press("shift+left")
            assert at.chart.span[1] < 1000
            at.trainer.send(step_event(1001))
            await until(lambda: at.chart.history.last_step == 1001)
            assert at.chart.span[1] < 1000
            await at.press("0")
            assert at.chart.span == (1, 1001)

    async def test_smoothing_and_axes_are_remembered(self, lab):
        async with lab(healthy_run(300)) as at:
            await at.press("plus", "plus", "x", "v")
            await at.sees("mean of 100")
            assert at.app.settings.get("train.smoothing", 0) == 100
            assert at.app.settings.get("train.log_steps", False)
            assert at.app.settings.get("train.log_loss", False)
            await at.press(*["minus"] * 9)
            assert at.chart.smoothing_steps == 1

    async def test_the_chart_over_tokens_time_and_to_the_end(self, lab):
        async with lab(healthy_run(300, max_steps=1000)) as at:
            await at.press("F")
            assert at.chart.span == (1, 1000)
            await at.press("X")
            await at.sees("over tokens")
            at.chart.focus()
            await at.press("right")
            tokens = at.chart.cursor
            await at.sees("step 300")
            assert at.chart.span[1] == pytest.approx(tokens / 0.3, rel=0.01)
            await at.press("X", "F")
            await at.sees("over time", "15s")  # 300 steps of 50 ms
            assert at.app.settings.get("train.along", "") == "time"
            await at.press("X")
            assert at.chart.span == (1, 300)

    async def test_runs_beside_the_chart_are_laid_over_pinned_and_compared(
        self, lab, runs_root: Path
    ):
        for name in ("tiny-1", "tiny-2"):
            make_run(runs_root, name, finished_run(300, run=name))
        config = (runs_root / "tiny-2" / "config.yaml").read_text()
        (runs_root / "tiny-2" / "config.yaml").write_text(
            config.replace("n_layers: ", "n_layers: 1")
        )
        async with lab(healthy_run(200)) as at:
            await at.press("t")
            await at.sees("Runs", "tiny-1", "tiny-2")
            listed = at.screen.query_one(RunListTable)
            await until(lambda: at.app.focused is listed)
            assert listed.go_to("tiny-1")
            await at.press("space")
            await until(lambda: set(at.chart.overlays) == {"tiny-1"})
            assert listed.go_to("tiny-1")
            await at.press("i")
            await until(lambda: at.chart.reference == "tiny-1")
            await at.sees("◆ ✓ tiny-1")
            assert listed.go_to("tiny-2")
            await at.sees("against tiny-1", "n_layers ")
            await at.press("enter")
            await until(lambda: at.chart.history.started.run == "tiny-2")
            assert set(at.chart.overlays) == {"tiny-1"}
            await at.press("t")
            assert not at.screen.query_one("#run-list").display

    async def test_perplexity_and_accuracy_take_the_place_of_the_loss(self, lab):
        async with lab(healthy_run(300)) as at:
            await at.sees("Loss", "validation")
            await at.press("a")
            await at.sees("Perplexity", "perplexity", "bigram 12.")
            await at.press("a")
            await at.sees("Accuracy", "accuracy in %")
            assert at.app.settings.get("train.quantity", "") == "accuracy"
            await at.press("a")
            assert at.chart.quantity == "loss"

    async def test_the_mouse_reads_and_zooms(self, lab):
        async with lab(healthy_run(1000)) as at:
            await at.pilot.click(LossChart, offset=(40, 10))
            assert 300 < at.chart.cursor < 700
            at.chart.post_message(_scroll(at.chart))
            await at.pilot.pause()
            assert at.chart.span != (1, 1000)

    async def test_other_runs_are_laid_behind(self, lab, runs_root: Path):
        for name in ("tiny-1", "tiny-2"):
            make_run(runs_root, name, finished_run(500, run=name))
        async with lab(healthy_run(300)) as at:
            await at.press("o")
            await at.sees("Overlay on the chart", "tiny-1", "tiny-2")
            await at.press("space", "down", "space", "enter")
            await until(lambda: len(at.chart.overlays) == 2)
            await at.sees("━ tiny-1", "━ tiny-2")
            assert at.chart.span == (1, 500)
            await at.press("o")
            await at.sees("Overlay on the chart", "tiny-1")
            await at.press("space", "enter")
            await until(lambda: len(at.chart.overlays) == 1)


def _scroll(chart: LossChart):
    from textual import events

    return events.MouseScrollUp(chart, 5, 5, 0, 0, 0, False, False, False)


class TestSamples:
    async def test_scrubbing_through_steps(self, lab):
        async with lab(healthy_run(1000), size=NARROW) as at:
            await at.sees("step 1,000", "4 of 4")
            await at.press("left_square_bracket")
            await at.sees("step 750", "3 of 4", "so much speak")
            at.screen.query_one("#samples").focus()
            await at.press("left", "left", "left", "left")
            await at.sees("1 of 4", "he tan hesthe")
            await at.press("right")
            await at.sees("2 of 4")

    async def test_the_newest_is_followed_until_one_scrubs(self, lab):
        async with lab(healthy_run(500), size=NARROW) as at:
            at.trainer.send(SampleGenerated(step=500, prompt="ROMEO:", text=" first"))
            await at.sees("ROMEO: first")
            await at.press("left_square_bracket")
            at.trainer.send(SampleGenerated(step=501, prompt="ROMEO:", text=" second"))
            await asyncio.sleep(0.4)
            assert "second" not in at.text
            await at.press("right_square_bracket", "right_square_bracket")
            await at.sees("ROMEO: second")

    async def test_a_pinned_prompt_hides_the_others(self, lab):
        async with lab(healthy_run(1000, prompts=("ROMEO:", "JULIET:"))) as at:
            await at.sees("ROMEO:", "JULIET:")
            await at.press("i")
            await at.sees("pinned")
            assert "ROMEO:" not in at.text
            await at.press("i")
            await at.sees("ROMEO:")

    async def test_copying(self, lab):
        async with lab(healthy_run(500)) as at:
            await at.press("y")
            assert at.app.clipboard.startswith("ROMEO:\nWhat is the his")
            await at.press("Y")
            assert "val loss\t~2.061" in at.app.clipboard


class TestEnd:
    async def test_a_finished_run_shows_its_result_and_place(self, lab, runs_root: Path):
        for name, loss in (("quick-1", 1.7034), ("better", 1.6)):
            run = make_run(runs_root, name, finished_run(2000, run=name))
            add_checkpoint(run, 2000, loss, protocol="exact")
            run.write_index(2000, 2000)
        async with lab(finished_run(2000), is_over=True) as at:
            await at.sees("✓ finished", "2,000 steps in 1m 40s", "1.7034  exact")
            await at.sees("2nd of 2 on this text; best better")
            await at.sees("g generate", "5 compare", "s resume", "f fork", "S new run")

    async def test_the_keys_of_the_card_lead_on(self, lab, runs_root: Path):
        run = make_run(runs_root, "quick-1", finished_run(2000))
        run.write_index(best=1750, last=2000)
        async with lab(finished_run(2000), size=NARROW, is_over=True) as at:
            await at.sees("[Result]")
            opened = []
            at.app.open_playground = opened.append
            at.app.edit_config = lambda *args, **kwargs: opened.append(kwargs)
            await at.press("g", "f")
            assert opened == [
                "quick-1@1750",
                {"stem": "quick-1-fork", "start_from": "quick-1@1750"},
            ]
            await at.press("s")
            await at.types("500")
            await until(lambda: len(at.trainer.requests) == 2)
            assert at.trainer.requests[1].resume == "quick-1"
            assert at.trainer.requests[1].overrides == ("training.max_steps=2500",)

    async def test_a_stopped_run_goes_on_at_once(self, lab, runs_root: Path):
        make_run(runs_root, "quick-1", [])
        stream = finished_run(600, reason="stopped")
        async with lab(stream, is_over=True) as at:
            await at.press("s")
            await until(lambda: len(at.trainer.requests) == 2)
            assert (at.trainer.requests[1].resume, at.trainer.requests[1].overrides) == (
                "quick-1",
                (),
            )

    async def test_a_failed_run_says_why_and_what_to_try(self, lab):
        async with lab(failed_run(600), is_over=True) as at:
            await at.sees("✕ failed", "training diverged", "The loss is not a number")
            # Evidence and advice stand in one place.
            shown = " ".join(at.text.split())
            assert shown.count("training.learning_rate") == 1
            assert shown.count("of step 601 is NaN") == 1

    async def test_without_a_checkpoint_the_keys_say_so(self, lab):
        async with lab(failed_run(600), is_over=True) as at:
            await at.press("g")
            await at.sees("this run has no checkpoint")


@pytest.mark.slow  # the random walk goes through this screen, too
async def test_whatever_is_pressed_nothing_breaks(lab):
    keys = (
        *("tab", "shift+tab", "left", "right", "up", "down", "home", "end", "pageup", "pagedown"),
        *("shift+left", "shift+right", "escape", "plus", "minus", "x", "v", "z", "Z", "0", "m"),
        *("i", "y", "Y", "left_square_bracket", "right_square_bracket", "space", "comma", "b"),
    )
    draw = random.Random(3)
    async with lab(busy_run(800)) as at:
        for _ in range(4):
            await at.pilot.resize_terminal(draw.randrange(1, 200), draw.randrange(1, 60))
            await at.pilot.press(*draw.choices(keys, k=7))
            at.trainer.send(step_event(801 + draw.randrange(50)))
        await at.pilot.resize_terminal(*WIDE)
        await at.press("escape", "0")
        await at.sees("quick-1")


def zero_run(steps: int = 60):
    """A run on one character repeated, as earlier versions trained them: every loss is 0."""
    yield dataclasses.replace(started("zero-1"), vocab_size=1, baselines={"uniform": 0.0})
    for step in range(1, steps + 1):
        yield step_event(step, 0.0, grad_norm=0.0)
    yield EvalCompleted(step=steps, train_loss=0.0, val_loss=0.0, protocol="exact")


class TestZeroLosses:
    """With both logarithmic axes remembered."""

    @pytest.mark.parametrize("size", [WIDE, NARROW])
    async def test_live(self, lab, size):
        async with lab(zero_run(), size=size) as at:
            await at.press("v", "x")
            await at.sees("step 60", "0.2", "0.000")
            await at.press("down", "up", "end", "left")
            await at.sees("step 59", "batch 0.000")

    @pytest.mark.parametrize("is_trained", [False, True])
    async def test_replayed_and_followed(self, make_app: MakeApp, runs_root: Path, is_trained):
        run = make_run(runs_root, "zero-1", zero_run())
        settings = memory_settings(places={"train.log_loss": True, "train.log_steps": True})
        app = make_app("train", settings=settings)
        with run.locked() if is_trained else contextlib.nullcontext():
            async with app.run_test(size=WIDE) as pilot:
                at = Lab(app, pilot, ScriptedTrainer())
                at.screen.open_run(run)
                await at.sees("zero-1", "step 60", "0.2", "0.000")


class TestOtherRuns:
    async def test_stopping_another_process_run_asks_and_says_whose_it_is(
        self, make_app: MakeApp, runs_root: Path
    ):
        run = make_run(runs_root, "far-1", healthy_run(300, run="far-1"))
        with run.locked():
            app = make_app("train", clock=lambda: START)
            async with app.run_test(size=WIDE) as pilot:
                at = Lab(app, pilot, ScriptedTrainer())
                at.screen.open_run(run)
                await at.sees("far-1", "step 300")
                await at.press("s")
                await at.sees("Stop far-1?", "Another process trains this run and would end.")
                await at.press("enter")
                assert not run.commands_path.exists()
                await at.press("s", "y")
                await until(run.commands_path.exists)
                assert "Stop" in run.commands_path.read_text()

    async def test_a_finished_run_opens_at_its_end_and_plays(
        self, make_app: MakeApp, runs_root: Path
    ):
        make_run(runs_root, "old-1", finished_run(400, run="old-1"))
        now = [START]
        app = make_app("train", clock=lambda: now[0])
        async with app.run_test(size=WIDE) as pilot:
            at = Lab(app, pilot, ScriptedTrainer())
            await at.press("w")
            await at.sees("Show a run", "old-1")
            await at.press("enter")
            await at.sees("old-1", "finished", "paused", "×10", "step 400 / 400")
            await at.press("space")
            await at.sees("playing")
            now[0] += 0.5
            await until(lambda: 60 < at.chart.history.last_step < 140)
            await at.press("space")
            await at.sees("paused", "replay")
            here = at.chart.history.last_step
            await at.press("full_stop")
            assert at.chart.history.last_step == here + 1
            await at.press("comma", "comma")
            assert at.chart.history.last_step == here - 1
            await at.press("greater_than_sign")
            await at.sees("×20")
            await at.press("b")
            await at.sees("✓ finished")

    async def test_a_damaged_run_is_listed_with_its_reason_and_cannot_be_chosen(
        self, make_app: MakeApp, runs_root: Path
    ):
        make_run(runs_root, "old-1", finished_run(400, run="old-1"))
        make_run(runs_root, "bad-1", finished_run(400, run="bad-1"))
        (runs_root / "bad-1" / "run.json").unlink()
        os.mkfifo(runs_root / "bad-1" / "run.json")
        app = make_app("train")
        async with app.run_test(size=WIDE) as pilot:
            at = Lab(app, pilot, ScriptedTrainer())
            await at.press("w")
            await at.sees("Show a run", "✓ finished", "bad-1", "run.json is damaged: not a regular")
            await at.press("down", "up", "down", "enter")
            await at.sees("old-1", "step 400 / 400")

    async def test_a_deep_line_in_a_log_is_passed_over(self, make_app: MakeApp, runs_root: Path):
        run = make_run(runs_root, "old-1", finished_run(400, run="old-1"))
        lines = run.events_path.read_text().splitlines()
        deep = ["[" * 100_000, '{"type": "StepCompleted", "step": null}']
        run.events_path.write_text("\n".join([*lines[:50], *deep, *lines[50:], *deep]) + "\n")
        app = make_app("train")
        async with app.run_test(size=WIDE) as pilot:
            at = Lab(app, pilot, ScriptedTrainer())
            at.screen.open_run(run)
            await at.sees("✓ finished", "step 400 / 400")

    async def test_a_log_that_is_a_fifo_is_told(self, make_app: MakeApp, runs_root: Path):
        run = make_run(runs_root, "old-1", finished_run(400, run="old-1"))
        run.events_path.unlink()
        os.mkfifo(run.events_path)
        app = make_app("train")
        async with app.run_test(size=WIDE, notifications=True) as pilot:
            at = Lab(app, pilot, ScriptedTrainer())
            at.screen.open_run(run)
            await at.sees("not a regular file")

    async def test_the_scrubber_jumps(self, make_app: MakeApp, runs_root: Path):
        run = make_run(runs_root, "old-1", finished_run(400, run="old-1"))
        app = make_app("train")
        async with app.run_test(size=WIDE) as pilot:
            at = Lab(app, pilot, ScriptedTrainer())
            at.screen.open_run(run)
            await at.sees("paused", "step 400 / 400")
            at.screen.query_one("ReplayBar").focus()
            await at.press("home")
            assert at.chart.history.last_step <= 1
            await at.pilot.click("ReplayBar", offset=(70, 0))
            await until(lambda: 100 < at.chart.history.last_step < 300)
            here = at.chart.history.last_step
            await at.press("left")
            assert here - 20 < at.chart.history.last_step < here
            await at.press("end")
            await at.sees("✓ finished")

    async def test_a_run_that_another_process_trains(self, make_app: MakeApp, runs_root: Path):
        run = make_run(runs_root, "far-1", healthy_run(100, run="far-1"))
        now = [START + 5]
        app = make_app("train", clock=lambda: now[0])
        with run.locked():
            async with app.run_test(size=WIDE) as pilot:
                at = Lab(app, pilot, ScriptedTrainer())
                app.open_run("far-1")
                await at.sees("far-1", "training elsewhere", "step 100 /")
                write_log(run.events_path, [step_event(101), command(101, "Pause")])
                await at.sees("step 101 /", "paused")
                await at.press("c", "l")
                await at.types("5e-4")
                lines = run.commands_path.read_text().splitlines()
                assert ["SaveCheckpoint" in lines[0], "SetLearningRate" in lines[1]] == [True] * 2
                run.commands_path.unlink()
                run.commands_path.mkdir()
                await at.press("c")
                await at.sees("the run's command file cannot be written")

    async def test_a_start_leads_back_to_the_run_of_this_process(self, lab, runs_root: Path):
        run = make_run(runs_root, "old-1", finished_run(400, run="old-1"))
        async with lab() as at:
            at.screen.open_run(run)
            await at.sees("old-1", "✓ finished")
            at.app.services.training.start(
                TrainingRequest(root=at.app.services.runs_root, resume="quick-1")
            )
            await until(lambda: "old-1" not in at.text)

    async def test_of_two_runs_asked_for_at_once_the_last_is_shown(
        self, make_app: MakeApp, runs_root: Path
    ):
        first = make_run(runs_root, "long-1", finished_run(2000, run="long-1"))
        last = make_run(runs_root, "short-1", finished_run(40, run="short-1"))
        app = make_app("train")
        async with app.run_test(size=WIDE) as pilot:
            at = Lab(app, pilot, ScriptedTrainer())
            at.screen.open_run(first)
            at.screen.open_run(last)
            await at.sees("short-1", "step 40 / 40")
            await until(lambda: "run log" not in {t.name for t in threading.enumerate()})
            await at.sees("short-1", "step 40 / 40")

    async def test_a_log_that_is_missing_is_told(self, make_app: MakeApp, runs_root: Path):
        run = make_run(runs_root, "old-1", [])
        run.events_path.unlink()
        app = make_app("train")
        async with app.run_test(size=WIDE) as pilot:
            at = Lab(app, pilot, ScriptedTrainer())
            at.screen.open_run(run)
            await at.sees("No such file", "No run yet")

    async def test_a_hostile_log_does_no_harm(self, make_app: MakeApp, runs_root: Path):
        run = make_run(runs_root, "odd-1", [started("odd-1")])
        with run.events_path.open("a") as file:
            file.write('{"type": "StepCompleted", "step": "x", "loss": []}\n')
            file.write('{"type": "CommandApplied", "step": 3, "command": "ExtendRun"}\n')
            file.write('{"type": "EvalCompleted", "step": 3, "train_loss": null}\n')
            file.write("[" * 200_000 + "\n")
            file.write('{"type": "StepCompleted", "step": 1' + "0" * 30 + ', "loss": 1.0}\n')
            file.write('{"type": "CommandApplied", "step": 3, "command": "X", "arguments": []}\n')
            file.write('{"type": "SampleGenerated", "step": 3, "prompt": 1, "text": {}}\n')
            file.write(step_event(3).to_json() + "\n")
        app = make_app("train")
        async with app.run_test(size=WIDE) as pilot:
            at = Lab(app, pilot, ScriptedTrainer())
            at.screen.open_run(run)
            await at.sees("odd-1", "interrupted", "step 3 /")
