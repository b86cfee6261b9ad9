"""What a run learns hangs on its threads alone, not on what is done beside it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from training_runs import make_config, train

from shakespeare_tui.machine import CORES, sharing_words
from shakespeare_tui.runs.events import StepCompleted
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.threads import (
    SharedThreads,
    default_threads,
    set_own_threads,
    training_threads,
)
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.engine.writing import write_columns

T = TypeVar("T")


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    """The number that threads have by default; that of the other tests afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def in_thread(task: Callable[[], T]) -> T:
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(task()))
    thread.start()
    thread.join()
    return found[0]


def test_a_threads_own_number_is_its_own() -> None:
    def work() -> tuple[int, int]:
        set_own_threads(3)
        return torch.get_num_threads(), in_thread(torch.get_num_threads)

    assert in_thread(work) == (3, 4)
    assert (torch.get_num_threads(), default_threads()) == (4, 4)


def test_beside_a_run_work_has_half_of_the_threads_until_the_run_ends() -> None:
    seen = []
    with SharedThreads() as shared:
        seen.append(torch.get_num_threads())
        with CORES.training(4):
            shared.take_turns()
            seen.append(torch.get_num_threads())
            with CORES.paused():
                shared.take_turns()
                seen.append(torch.get_num_threads())
            shared.take_turns()
            seen.append(torch.get_num_threads())
        shared.take_turns()
        seen.append(torch.get_num_threads())
    assert seen == [4, 2, 4, 2, 4]


@pytest.mark.parametrize("error", [None, KeyError()])
def test_the_number_from_before_comes_back(error: Exception | None) -> None:
    with CORES.training(4):
        try:
            with SharedThreads():
                assert torch.get_num_threads() == 2
                if error:
                    raise error
        except KeyError:
            pass
        assert (torch.get_num_threads(), default_threads()) == (4, 4)


def test_a_run_that_begins_beside_other_work_has_all_threads() -> None:
    def work() -> int:
        with training_threads():
            return torch.get_num_threads()

    with CORES.training(4), SharedThreads():
        assert in_thread(work) == 4
    assert CORES.beside is None


@pytest.mark.parametrize(
    ("threads", "words"),
    [
        (0, "shares the cores with r"),
        (1, "shares the cores with r"),
        (2, "1 of 2 cores, in turns with r"),
        (5, "2 of 5 cores, in turns with r"),
    ],
)
def test_it_is_said_how_the_cores_are_shared(threads: int, words: str) -> None:
    with CORES.training(threads):
        assert sharing_words("r") == words


def write_beside(writer: RunFolder, done: threading.Event, tokens: list[int]) -> None:
    """Let a checkpoint write again and again until ``done``."""
    while not done.is_set():
        request = GenerationRequest(
            runs_root=writer.path.parent,
            reference=writer.name,
            prompt="A",
            strategies=("temperature=0.8", "greedy"),
            max_tokens=40,
        )
        job = GenerationJob(request, write_columns)
        job.join(60)
        assert job.state == "done", job.error
        tokens.append(job.characters)


def test_losses_beside_generations_equal_those_without(tmp_path: Path) -> None:
    config = make_config(
        model__d_model=64,
        model__d_ff=256,
        model__max_seq_len=64,
        model__dropout=0.1,
        training__batch_size=16,
        training__max_steps=40,
    )

    def losses(name: str) -> list[float]:
        with training_threads():
            return [event.loss for event in train(tmp_path, config, name=name).of(StepCompleted)]

    alone = in_thread(lambda: losses("alone"))
    done, tokens = threading.Event(), list[int]()
    writer = RunFolder(tmp_path / "alone")
    writing = threading.Thread(target=write_beside, args=(writer, done, tokens))
    writing.start()
    try:
        beside = in_thread(lambda: losses("beside"))
    finally:
        done.set()
        writing.join()
    assert tokens
    assert beside == alone
    assert default_threads() == 4
