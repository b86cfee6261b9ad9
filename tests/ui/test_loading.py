"""While something loads, one key leaves or cancels; where memory is tight, one is asked."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_harness import MakeApp, shown, until
from playground_script import ScriptedEngine

from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import CancelledError
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.channel import Ended, Opened, TrainingChannel
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.engine.training import TrainingController

TIGHT = "training takes about 18.0 GB of memory, and 20.0 GB are free"


def loading(request: TrainingRequest, channel: TrainingChannel) -> None:
    """A start that takes for ever unless it is cancelled."""
    is_cancelled = channel.stop.wait(20)
    channel.send(Ended(is_cancelled=is_cancelled))


def asking(answers: list[bool]) -> Callable[[TrainingRequest, TrainingChannel], None]:
    def run(request: TrainingRequest, channel: TrainingChannel) -> None:
        answers.append(channel.ask(TIGHT))
        if answers[-1]:
            channel.send(Opened("quick-1", request.root / "quick-1"))
        channel.send(Ended(is_cancelled=not answers[-1]))

    return run


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
async def test_one_key_leaves_while_a_run_is_being_started(
    make_app: MakeApp, runs_root: Path, key: str
) -> None:
    training = TrainingController(run_thread=loading)
    app = make_app("playground", training=training)
    async with app.run_test() as pilot:
        training.start(TrainingRequest(root=runs_root, config=Config()))
        assert training.is_loading
        await pilot.press(key)
        await until(lambda: app.return_value is not None)
    assert app.return_value == 0
    assert training.join(5)


async def test_s_cancels_a_start(make_app: MakeApp, runs_root: Path) -> None:
    training = TrainingController(run_thread=loading)
    app = make_app("train", training=training)
    async with app.run_test() as pilot:
        app.start_training(TrainingRequest(root=runs_root, config=Config()))
        await until(lambda: "s cancels" in shown(app))
        await pilot.press("s")
        await until(lambda: training.state == "idle")
        await until(lambda: "cancelled before the run began" in shown(app))


@pytest.mark.parametrize(
    ("keys", "expected"), [("y", True), ("escape", False), ("enter", False), ("n", False)]
)
async def test_where_memory_is_tight_one_is_asked(
    make_app: MakeApp, runs_root: Path, keys: str, expected: bool
) -> None:
    answers: list[bool] = []
    training = TrainingController(run_thread=asking(answers))
    app = make_app("train", training=training)
    async with app.run_test(size=(100, 30)) as pilot:
        app.start_training(TrainingRequest(root=runs_root, config=Config()))
        await until(lambda: "18.0 GB of memory" in shown(app))
        assert "Cancel (esc)" in shown(app)
        assert answers == []
        await pilot.press(keys)
        await until(lambda: not training.is_active)
    assert answers == [expected]
    assert training.state == ("finished" if expected else "idle")


async def test_leaving_answers_the_question_with_no(make_app: MakeApp, runs_root: Path) -> None:
    answers: list[bool] = []
    training = TrainingController(run_thread=asking(answers))
    app = make_app("train", training=training)
    async with app.run_test() as pilot:
        app.start_training(TrainingRequest(root=runs_root, config=Config()))
        await until(lambda: "of memory" in shown(app))
        await pilot.press("ctrl+q")
        await until(lambda: app.return_value is not None)
    assert training.join(5) and answers == [False]


async def test_one_ctrl_c_leaves_while_a_checkpoint_is_loaded(make_app: MakeApp) -> None:
    jobs: list[GenerationJob] = []

    def load(request: GenerationRequest, job: GenerationJob) -> None:
        jobs.append(job)
        while not job.stop_requested():
            time.sleep(0.01)
        raise CancelledError

    app: LabApp = make_app("playground", engine=ScriptedEngine(write=load))
    async with app.run_test() as pilot:
        await pilot.pause()
        screen = app.screen
        screen.picker.chosen = "quick-1@best"
        await pilot.press("g")
        await until(lambda: jobs)
        assert app.is_loading
        await pilot.press("ctrl+c")
        await until(lambda: app.return_value is not None)
    assert app.return_value == 0
    jobs[0].join(5)
    assert jobs[0].is_over
