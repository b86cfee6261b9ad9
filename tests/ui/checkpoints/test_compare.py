"""What lies over the Checkpoints screen: comparison, time-lapse and blind test."""

import asyncio
import dataclasses
import shutil
from pathlib import Path

import pytest
from lab_harness import NOW, MakeApp, shown, until
from listed_runs import damaged_runs, is_read, runs, whole
from playground_script import ScriptedEngine
from scripted_texts import GROWING, ScriptedWriting
from streams import busy_run
from textual.pilot import Pilot
from textual.widgets import Static
from trained_run import trained

from shakespeare_tui.config.schema import Config
from shakespeare_tui.measures import Memorisation, measure_text
from shakespeare_tui.runs.compare.blind_tests import read_verdicts
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.checkpoints.blind_test import BlindTestScreen
from shakespeare_tui.ui.checkpoints.compare import CompareScreen
from shakespeare_tui.ui.checkpoints.screen import CheckpointsScreen
from shakespeare_tui.ui.checkpoints.timelapse import TimelapseScreen
from shakespeare_tui.ui.checkpoints.writing import TextPane, WritingScreen
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest

__all__ = ["trained"]


@pytest.fixture
def writing() -> ScriptedWriting:
    return ScriptedWriting()


def top(app: LabApp) -> WritingScreen:
    assert isinstance(app.screen, WritingScreen)
    return app.screen


def texts(app: LabApp) -> list[str]:
    """The texts that are shown."""
    return [str(pane.query_one(Static).content) for pane in app.screen.query(TextPane)]


async def opened(app: LabApp, pilot: Pilot[int], *keys: str) -> None:
    await until(lambda: is_read(app))
    await pilot.pause()
    await pilot.press(*keys)
    await until(lambda: whole(app))
    await pilot.pause()


async def test_marked_ones_are_compared_side_by_side(
    make_app: MakeApp, runs_root: Path, writing: ScriptedWriting
) -> None:
    runs(runs_root)
    app = make_app("checkpoints", engine=ScriptedEngine(write=writing))
    async with app.run_test(size=(140, 45), notifications=True) as pilot:
        await until(lambda: is_read(app))
        await pilot.press("c")
        await pilot.pause()
        assert "space marks checkpoints" in shown(app)
        await opened(app, pilot, "down", "space", "space", "space", "c")
        assert [request.reference for request in writing.calls] == [
            "quick-1-fork-1@1500",
            "quick-1-fork-1@1000",
            "quick-1-fork-1@500",
        ]
        assert len({(r.prompt, r.seed, r.max_tokens) for r in writing.calls}) == 1
        assert texts(app)[0] == "ROMEO:" + GROWING[2]
        assert texts(app)[2] == "ROMEO:↵" + GROWING[0][1:] or "[b]wour[/b]" in texts(app)[2]
        assert "starting at character 14" in shown(app)
        await pilot.press("tab")
        await until(lambda: "distinct-1" in shown(app))
        measured = measure_text("ROMEO:" + GROWING[2], None, 6)
        assert f"{measured.distinct_1:.1%}" in shown(app)
        assert "1.5433" in shown(app)
        await pilot.press("tab")
        await until(lambda: "val" in shown(app) and top(app).curves)  # type: ignore[attr-defined]
        await pilot.press("tab")
        await pilot.pause()
        assert "All have the same settings." in shown(app)
        await pilot.press("tab", "escape")
        await pilot.pause()
        assert isinstance(app.screen, CheckpointsScreen)
        assert len(app.screen.browser.marked) == 3
        # What is written already is there at once.
        await opened(app, pilot, "c")
        assert len(writing.calls) == 3


async def test_prompt_seed_and_length(
    make_app: MakeApp, runs_root: Path, writing: ScriptedWriting
) -> None:
    runs(runs_root)
    app = make_app("checkpoints", engine=ScriptedEngine(write=writing))
    async with app.run_test(size=(140, 45)) as pilot:
        await opened(app, pilot, "down", "space", "space", "c")
        await pilot.press("p", "end", *"\\n[b]", "enter")
        await until(lambda: whole(app))
        assert writing.calls[-1].prompt == "ROMEO:\n[b]"
        await pilot.press("n")
        await until(lambda: whole(app))
        await pilot.pause()
        assert texts(app)[0].endswith(" 43")
        await pilot.press("o", *"0", "enter")
        await pilot.pause()
        assert "a whole number from 1" in shown(app)
        await pilot.press("end", "backspace", *"77", "enter")
        await until(lambda: whole(app))
        assert writing.calls[-1].max_tokens == 77


async def test_leaving_stops_what_is_being_written(
    make_app: MakeApp, runs_root: Path, writing: ScriptedWriting
) -> None:
    runs(runs_root)
    writing.go_on.clear()
    app = make_app("checkpoints", engine=ScriptedEngine(write=writing))
    async with app.run_test(size=(140, 45)) as pilot:
        await until(lambda: is_read(app))
        await pilot.press("down", "space", "space", "c")
        await until(lambda: "characters …" in shown(app))
        screen = top(app)
        await pilot.press("x")
        await until(lambda: not screen.writer.is_busy or screen.writer.poll() is None)
        await pilot.press("g")
        await until(lambda: len(writing.calls) == 2)
        await pilot.press("escape")
        await until(lambda: not screen.writer.poll() and not screen.writer.is_busy)
        assert len(writing.calls) == 2


async def test_one_that_cannot_write_says_why_and_the_others_do(
    make_app: MakeApp, runs_root: Path, writing: ScriptedWriting
) -> None:
    runs(runs_root)
    writing.failing.add("quick-1-fork-1@1500")
    app = make_app("checkpoints", engine=ScriptedEngine(write=writing))
    async with app.run_test(size=(140, 45)) as pilot:
        await opened(app, pilot, "down", "space", "space", "c")
        assert "has a [b] that the model" in texts(app)[0]
        assert "What is the his" in texts(app)[1]


async def test_it_says_that_training_shares_the_cores(
    make_app: MakeApp, runs_root: Path, writing: ScriptedWriting, scripted: object
) -> None:
    runs(runs_root)
    writing.go_on.clear()
    training, _trainer = scripted(busy_run(100), run="quick-7")  # type: ignore[operator]
    app = make_app("checkpoints", engine=ScriptedEngine(write=writing), training=training)
    async with app.run_test(size=(140, 45)) as pilot:
        training.start(TrainingRequest(root=app.services.runs_root, config=Config()))
        await until(lambda: is_read(app))
        await pilot.press("down", "space", "space", "c")
        await until(lambda: "writing: shares the cores with" in shown(app))
        writing.go_on.set()
        await until(lambda: whole(app))


async def test_the_time_lapse_walks_through_a_run(
    make_app: MakeApp, runs_root: Path, writing: ScriptedWriting
) -> None:
    runs(runs_root)
    app = make_app("checkpoints", engine=ScriptedEngine(write=writing))
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot, "down", "down", "l")
        screen = app.screen
        assert isinstance(screen, TimelapseScreen)
        assert screen.item.key == "quick-1-fork-1@1000"
        assert "step 1,000  2 of 3" in shown(app)
        assert "differs from step 500" in shown(app)
        await pilot.press("right")
        await pilot.pause()
        assert "step 1,500  3 of 3" in shown(app)
        assert "I would not have thee [b]stay[/b]." in shown(app)
        await pilot.press("right", "home")
        await pilot.pause()
        assert "[b]wour[/b]" in shown(app)
        # Every text once, whatever the way.
        assert len(writing.calls) == 3
        await pilot.press("end", "space")
        await until(lambda: screen.index == 0)
        await until(lambda: screen.index == 1)
        await pilot.press("space", "escape")
        await pilot.pause()
        assert isinstance(app.screen, CheckpointsScreen)


async def test_verdicts_are_kept_and_tell_where_texts_came_from(
    make_app: MakeApp, runs_root: Path, writing: ScriptedWriting
) -> None:
    runs(runs_root)
    app = make_app("checkpoints", engine=ScriptedEngine(write=writing))
    async with app.run_test(size=(140, 45)) as pilot:
        await opened(app, pilot, "v")
        screen = app.screen
        assert isinstance(screen, BlindTestScreen)
        assert len(screen.items) == 6
        first, second = screen.pair
        assert first not in shown(app)
        assert second not in shown(app)
        await pilot.press("left")
        await until(lambda: whole(app))
        await pilot.pause()
        assert f"Left was {first} " in shown(app)
        assert f"right was {second} " in shown(app)
        await pilot.press("t")
        await until(lambda: whole(app))
        await pilot.press("right")
        verdicts = read_verdicts(runs_root)
        assert [verdict.score for verdict in verdicts] == [1, 0.5, 0]
        assert (verdicts[0].first, verdicts[0].second, verdicts[0].time) == (first, second, NOW)
        await pilot.press("escape")
        await until(lambda: "±" in shown(app))
        item = app.screen.browser.item_of(first)  # type: ignore[attr-defined]
        assert item.rating is not None


async def test_a_verdict_waits_for_both_texts(
    make_app: MakeApp, runs_root: Path, writing: ScriptedWriting
) -> None:
    runs(runs_root)
    writing.go_on.clear()
    app = make_app("checkpoints", engine=ScriptedEngine(write=writing))
    async with app.run_test(size=(140, 45), notifications=True) as pilot:
        await until(lambda: is_read(app))
        await pilot.press("v")
        await until(lambda: "characters …" in shown(app))
        await pilot.press("left")
        await pilot.pause()
        assert "read both to the end first" in shown(app)
        assert read_verdicts(runs_root) == []
        writing.go_on.set()
        await until(lambda: whole(app))


async def test_without_checkpoints_the_keys_say_what_to_do(make_app: MakeApp) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(lambda: "There are no runs yet" in shown(app))
        for key in ("c", "l", "v", "space", "slash", "b", "g", "d", "n", "a", "enter"):
            await pilot.press(key)
        await pilot.pause()
        assert "3 then s trains a model" in shown(app)
        assert isinstance(app.screen, CheckpointsScreen)


async def test_real_checkpoints_write_what_they_write_on_the_command_line(
    make_app: MakeApp, trained: RunFolder, cli: object
) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(140, 45)) as pilot:
        app.remember("checkpoints.tokens", 30)
        await until(lambda: is_read(app))
        await pilot.press("down", "space", "space", "c")
        await until(lambda: whole(app), 60)
        await pilot.pause()
        screen = app.screen
        assert isinstance(screen, CompareScreen)
        texts = [screen.prompt + screen.written(item).text for item in screen.items]
        await pilot.press("tab")
        await until(lambda: "real words" in shown(app), 30)
    for item, text in zip(screen.items, texts, strict=True):
        outcome = cli("generate", item.key, "--prompt=ROMEO:", "--max-tokens=30")  # type: ignore[operator]
        assert outcome.out.removesuffix("\n") == text


async def test_a_run_that_goes_away_meanwhile_is_no_error(
    make_app: MakeApp, runs_root: Path, writing: ScriptedWriting
) -> None:
    damaged_runs(runs_root)
    app = make_app("checkpoints", engine=ScriptedEngine(write=writing))
    async with app.run_test(size=(140, 45)) as pilot:
        await opened(app, pilot, "down", "space", "space", "c")
        shutil.rmtree(runs_root)
        await pilot.press("tab")
        await asyncio.sleep(0.1)
        await pilot.press("tab")
        await asyncio.sleep(0.1)
        await pilot.press("tab", "escape")
        await until(lambda: isinstance(app.screen, CheckpointsScreen))
        await until(lambda: "There are no runs yet" in shown(app))


async def test_b_looks_whether_the_best_recites_its_training_text(
    make_app: MakeApp, runs_root: Path
) -> None:
    runs(runs_root)

    def recite(request: GenerationRequest, job: GenerationJob) -> None:
        job.add(["x" * 200], 0.1)
        copied = Memorisation(
            longest=150, share=0.8, passages=(), longest_passage=None, is_whole=True
        )
        measures = measure_text(request.prompt + "x" * 200, None, 1)
        job.measure(0, dataclasses.replace(measures, memorisation=copied))

    app = make_app("checkpoints", engine=ScriptedEngine(write=recite))
    async with app.run_test(size=(140, 45)) as pilot:
        await until(lambda: is_read(app))
        await pilot.press("end", "b")
        await until(lambda: "memorised: 80% of a sample" in shown(app))
        assert "the longest of 150 characters" in shown(app)


async def test_without_the_corpus_b_says_what_is_needed(
    make_app: MakeApp, runs_root: Path, writing: ScriptedWriting
) -> None:
    runs(runs_root)
    app = make_app("checkpoints", engine=ScriptedEngine(write=writing))
    async with app.run_test(size=(140, 45)) as pilot:
        await until(lambda: is_read(app))
        await pilot.press("b")
        await until(lambda: "needs the run's corpus" in shown(app))
        assert [request.prompt for request in writing.calls] == ["\n"]


async def test_curves_and_tables_follow_the_size_of_the_terminal(
    make_app: MakeApp, runs_root: Path, writing: ScriptedWriting
) -> None:
    runs(runs_root)
    app = make_app("checkpoints", engine=ScriptedEngine(write=writing))
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot, "down", "space", "down", "space", "c")
        screen = top(app)
        assert isinstance(screen, CompareScreen)
        await pilot.press("tab")
        head = next(line for line in shown(app).splitlines() if "@1500" in line)
        await pilot.resize_terminal(140, 45)
        await pilot.pause()
        assert len(next(line for line in shown(app).splitlines() if "@1500" in line)) > len(head)
        await pilot.press("tab")
        await until(lambda: screen.curves and "uniform" in shown(app))
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "uniform 4.17 ┄" in shown(app)
