"""Measures under a text that is still being written."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_harness import MakeApp, shown, until
from listed_runs import runs
from playground_script import ScriptedEngine, measures, write
from trained_run import trained

from shakespeare_tui.errors import UserError
from shakespeare_tui.measures import measure_text
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.engine.writing import (
    MOST_CHARACTERS,
    LiveMeasures,
    load_model_of,
    pause_after,
    write_columns,
)

__all__ = ["trained"]


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[[int], GenerationJob]:
    """A job of so many columns that nobody writes."""

    def make(n_columns: int) -> GenerationJob:
        request = GenerationRequest(
            runs_root=tmp_path, reference="r@1", prompt="A b: ", strategies=("greedy",) * n_columns
        )
        return GenerationJob(request, lambda request, job: None)

    return make


def test_a_short_text_is_measured_whole(make_job: Callable[[int], GenerationJob]) -> None:
    job = make_job(2)
    job.add(["to be or not", ""], 0.1)
    LiveMeasures(job, lambda: None).measure(None)
    assert job.previews == [measure_text("A b: to be or not", None, 5), None]


def test_of_a_long_text_only_the_end_is_measured(
    make_job: Callable[[int], GenerationJob],
) -> None:
    job = make_job(1)
    text = "and so on " * 1000 + "to the end"
    for character in text:
        job.add([character], 0.1)
    live = LiveMeasures(job, lambda: None)
    live.measure(None)
    first = job.previews[0]
    assert first == measure_text(text[-MOST_CHARACTERS:], None, 0)
    live.measure(None)
    assert job.previews[0] is first
    job.add(["!"], 0.2)
    live.measure(None)
    assert job.previews[0] == measure_text((text + "!")[-MOST_CHARACTERS:], None, 0)


def test_dear_measurements_come_less_often() -> None:
    assert pause_after(0.001) == 0.5
    assert pause_after(1) == 20


def test_it_measures_beside_the_writing_and_ends_with_it(
    make_job: Callable[[int], GenerationJob],
) -> None:
    job = make_job(1)
    job.add(["to be"], 0.1)
    before = threading.active_count()
    with LiveMeasures(job, lambda: None, least_pause_seconds=0.01):
        for wanted in ("A b: to be", "A b: to be or to be"):
            deadline = time.monotonic() + 5
            while job.previews[0] != measure_text(wanted, None, 5):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            job.add([" or to be"], 0.2)
    assert threading.active_count() == before


async def test_measures_follow_the_text_and_the_best_is_marked_at_the_end(
    make_app: MakeApp, runs_root: Path
) -> None:
    go_on = threading.Event()

    def slowly(request: GenerationRequest, job: GenerationJob) -> None:
        job.add(["to be", "or", "not"], 0.1)
        for column in range(3):
            job.preview(column, measures(column).with_surprise(None))
        go_on.wait(10)
        write(request, job)

    runs(runs_root)
    app = make_app("playground", engine=ScriptedEngine(write=slowly))
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: "quick-1" in shown(app))
        await pilot.press("g")
        await until(lambda: "80%" in shown(app) and "75%" in shown(app))
        assert "★" not in shown(app)
        go_on.set()
        await until(lambda: "★" in shown(app))
        await pilot.press("n")
        await until(lambda: "★" in shown(app))


async def test_training_may_remove_the_checkpoint_that_writes(
    trained: RunFolder, runs_root: Path
) -> None:
    """Only a few checkpoints of a live run are kept."""
    request = GenerationRequest(
        runs_root=runs_root,
        reference=f"{trained.name}@20",
        prompt="A",
        strategies=("temperature=1",),
        max_tokens=500,
    )
    job = GenerationJob(request, write_columns)
    await until(lambda: job.characters[0] or job.is_over)
    trained.remove_checkpoint(20)
    await until(lambda: job.is_over)
    job.join(10)
    assert (job.state, job.error) == ("done", "")
    assert job.measures[0] is not None


def test_a_checkpoint_that_is_removed_while_it_is_read_is_said_to_be_missing(
    trained: RunFolder, runs_root: Path
) -> None:
    def remove() -> bool:
        if 20 in trained.steps():
            trained.remove_checkpoint(20)
        return False

    with pytest.raises(UserError, match="missing; choose another"):
        load_model_of(f"{trained.name}@20", runs_root, remove)
