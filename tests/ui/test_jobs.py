"""Background work: its outcome, its order, its end."""

import threading
from collections.abc import Callable

import pytest
from lab_harness import until
from textual.app import App

from shakespeare_tui.errors import CancelledError, RunFailedError, UserError
from shakespeare_tui.ui.jobs import Job, Jobs


def until_cancelled(job: Job[str]) -> str:
    assert job.cancelled.wait(10)
    raise CancelledError


def raising(error: Exception) -> Callable[[Job[str]], str]:
    def work(job: Job[str]) -> str:
        raise error

    return work


def test_a_result_is_there_with_the_state() -> None:
    def work(job: Job[str]) -> str:
        job.report(3, 4)
        return "found"

    job = Job("search", work)
    job.join(10)
    assert (job.state, job.result, job.error) == ("done", "found", "")
    assert (job.done, job.total) == (3, 4)
    assert job.is_over


def test_a_job_that_is_called_off() -> None:
    job = Job("search", until_cancelled)
    assert job.state == "running"
    assert not job.is_over
    job.cancel()
    job.join(10)
    assert (job.state, job.result, job.error) == ("cancelled", None, "")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            UserError("it is missing; write --set data.corpus=x"),
            "it is missing; write data.corpus=x",
        ),
        (RunFailedError("the disk is full"), "the disk is full"),
        (OSError("the disk is gone"), "the disk is gone"),
        (LookupError("x"), "search crashed; see the lab's log"),
    ],
)
def test_an_error_becomes_a_line(error: Exception, line: str) -> None:
    job = Job("search", raising(error))
    job.join(10)
    assert (job.state, job.result, job.error) == ("failed", None, line)


async def test_outcomes_come_in_the_turn_of_the_owner() -> None:
    app = App[None]()
    async with app.run_test():
        jobs = Jobs(app)
        threads: list[tuple[str, threading.Thread]] = []

        def take(job: Job[threading.Thread]) -> None:
            assert job.result is not None
            threads.extend([("work", job.result), ("then", threading.current_thread())])

        jobs.start("search", lambda job: threading.current_thread(), take)
        await until(lambda: threads)
        assert not jobs.is_busy
        found = dict(threads)
        assert found["then"] is threading.current_thread()
        assert found["work"] is not found["then"]


async def test_the_newest_of_a_name_wins() -> None:
    app = App[None]()
    async with app.run_test():
        jobs = Jobs(app)
        heard: list[str] = []
        late = threading.Event()

        def deaf(job: Job[str]) -> str:
            assert late.wait(10)
            return "first"

        def take(job: Job[str]) -> None:
            heard.append(job.result or job.state)

        first = jobs.start("search", deaf, take)
        other = jobs.start("other", until_cancelled, take)
        jobs.start("search", lambda job: "second", take)
        await until(lambda: heard)
        assert first.cancelled.is_set()
        assert not other.cancelled.is_set()
        assert jobs.is_busy
        late.set()
        first.join(10)
        jobs.cancel("other")
        jobs.cancel("unknown")
        await until(lambda: len(heard) > 1)
        assert heard == ["second", "cancelled"]


async def test_nothing_is_heard_after_the_end() -> None:
    app = App[None]()
    heard: list[object] = []
    async with app.run_test() as pilot:
        jobs = Jobs(app)
        job = jobs.start("search", until_cancelled, heard.append)
        jobs.close()
        job.join(10)
        await pilot.pause()
    assert job.state == "cancelled"
    assert heard == []
