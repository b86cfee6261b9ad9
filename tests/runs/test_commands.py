import json
import math
import os
import shutil
import threading
from pathlib import Path

import pytest

from shakespeare_tui.runs.commands import (
    AddNote,
    Command,
    CommandInbox,
    ExtendRun,
    GenerateSample,
    Pause,
    Resume,
    SaveCheckpoint,
    SetLearningRate,
    Stop,
    command_from_json,
    leave_command,
)

EXAMPLES = [
    Pause(),
    Resume(),
    Stop(reason="interrupted"),
    SaveCheckpoint(),
    GenerateSample(prompt='To "be"\n[b]é'),
    SetLearningRate(learning_rate=3e-4),
    ExtendRun(steps=100),
    ExtendRun(minutes=1.5),
    AddNote(text="halved the rate\nhere"),
]


@pytest.mark.parametrize("command", EXAMPLES, ids=lambda command: type(command).__name__)
def test_a_command_is_one_line_that_reads_back_equal(command: Command) -> None:
    line = command.to_json()
    assert "\n" not in line
    assert command_from_json(line) == command
    assert command_from_json(line.encode()) == command


NO_COMMANDS = [
    "",
    "{",
    "[]",
    "3",
    "{}",
    '{"command": "Explode"}',
    '{"command": "Command"}',
    '{"command": ["Stop"]}',
    '{"command": {"Stop": 1}}',
    '{"command": "Stop", "arguments": {"force": true}}',
    '{"command": "Stop", "arguments": null}',
    '{"command": "Stop", "arguments": [1]}',
    '{"command": "Stop", "arguments": {"reason": 3}}',
    '{"command": "SetLearningRate"}',
    '{"command": "SetLearningRate", "arguments": {"learning_rate": "1e-3"}}',
    '{"command": "SetLearningRate", "arguments": {"learning_rate": null}}',
    '{"command": "SetLearningRate", "arguments": {"learning_rate": true}}',
    '{"command": "SetLearningRate", "arguments": {"learning_rate": NaN}}',
    '{"command": "SetLearningRate", "arguments": {"learning_rate": Infinity}}',
    '{"command": "SetLearningRate", "arguments": {"learning_rate": -0.001}}',
    '{"command": "ExtendRun", "arguments": {"steps": 1.5}}',
    '{"command": "ExtendRun", "arguments": {"steps": "10"}}',
    '{"command": "ExtendRun", "arguments": {"steps": -10}}',
    '{"command": "ExtendRun", "arguments": {"minutes": NaN}}',
    '{"command": "ExtendRun", "arguments": {"minutes": -1}}',
    '{"command": "GenerateSample", "arguments": {"prompt": 7}}',
    '{"command": "AddNote", "arguments": {"text": null}}',
]


@pytest.mark.parametrize("line", NO_COMMANDS)
def test_what_is_no_command_is_refused(line: str) -> None:
    with pytest.raises(ValueError):
        command_from_json(line)


def test_a_whole_number_is_a_fine_rate_or_time() -> None:
    assert command_from_json('{"command": "SetLearningRate", "arguments": {"learning_rate": 1}}')
    assert command_from_json('{"command": "ExtendRun", "arguments": {"minutes": 2}}')


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_cannot_train_is_refused_where_it_is_made(rate: float) -> None:
    with pytest.raises(ValueError):
        SetLearningRate(learning_rate=rate)


def test_commands_come_out_in_the_order_they_went_in() -> None:
    inbox = CommandInbox()
    for command in EXAMPLES:
        inbox.post(command)
    assert list(inbox.drain()) == EXAMPLES
    assert list(inbox.drain()) == []


def test_an_interrupted_drain_loses_nothing() -> None:
    inbox = CommandInbox()
    for command in EXAMPLES:
        inbox.post(command)
    first = next(iter(inbox.drain()))
    assert [first, *inbox.drain()] == EXAMPLES


def test_a_stop_is_seen_before_and_after_it_is_taken() -> None:
    inbox = CommandInbox()
    inbox.post(Pause())
    assert not inbox.stop_requested
    inbox.post(Stop())
    assert inbox.stop_requested
    list(inbox.drain())
    assert inbox.stop_requested


def test_commands_from_many_threads_all_arrive() -> None:
    inbox = CommandInbox()

    def post(number: int) -> None:
        for index in range(100):
            inbox.post(AddNote(text=f"{number} {index}"))

    threads = [threading.Thread(target=post, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    taken: list[Command] = []
    while any(thread.is_alive() for thread in threads):
        taken += inbox.drain()
    taken += inbox.drain()
    notes = [command.text for command in taken if isinstance(command, AddNote)]
    assert len(notes) == 400
    for number in range(4):
        own = [note for note in notes if note.startswith(f"{number} ")]
        assert own == [f"{number} {index}" for index in range(100)]


def test_commands_left_in_a_file_arrive(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    inbox = CommandInbox(path, poll_seconds=0)
    assert list(inbox.drain()) == []
    leave_command(path, Pause())
    leave_command(path, AddNote(text="é\n"))
    assert list(inbox.drain()) == [Pause(), AddNote(text="é\n")]
    assert list(inbox.drain()) == []
    leave_command(path, Stop())
    assert inbox.stop_requested
    assert list(inbox.drain()) == [Stop()]


def test_what_the_file_held_before_is_for_an_earlier_trainer(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    leave_command(path, Stop())
    inbox = CommandInbox(path, poll_seconds=0)
    assert not inbox.stop_requested
    leave_command(path, Pause())
    assert list(inbox.drain()) == [Pause()]


def test_a_half_written_line_waits_for_its_rest(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    inbox = CommandInbox(path, poll_seconds=0)
    line = Stop().to_json() + "\n"
    with path.open("a") as file:
        file.write(line[:10])
        file.flush()
        assert list(inbox.drain()) == []
        file.write(line[10:])
    assert list(inbox.drain()) == [Stop()]


def test_lines_that_are_no_commands_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    inbox = CommandInbox(path, poll_seconds=0)
    with path.open("ab") as file:
        file.write("\n".join(NO_COMMANDS).encode() + b"\n\xff\xfe\x00\n")
    leave_command(path, Resume())
    assert list(inbox.drain()) == [Resume()]
    assert not inbox.stop_requested


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"command": ' * 50_000, "x" * 3_000_000, "9" * 5000], ids=range(4)
)
def test_a_line_that_cannot_be_read_does_not_end_a_trainer(line: str, tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    inbox = CommandInbox(path, poll_seconds=0)
    path.write_text(f"{line}\n")
    leave_command(path, Resume())
    found = [command for _ in range(5) for command in inbox.drain()]
    assert found == [Resume()]


def test_what_lies_in_the_place_of_the_file_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    inbox = CommandInbox(path, poll_seconds=0)
    path.mkdir()
    (path / "something").write_text("x")
    assert list(inbox.drain()) == []
    with pytest.raises(OSError, match="Is a directory"):
        leave_command(path, Pause())
    shutil.rmtree(path)
    os.mkfifo(path)
    assert list(inbox.drain()) == []
    # Nobody reads it: a command would wait there for ever.
    with pytest.raises(OSError, match="No such device or address"):
        leave_command(path, Pause())


def test_the_file_is_not_looked_at_all_the_time(tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    inbox = CommandInbox(path, poll_seconds=3600)
    list(inbox.drain())
    leave_command(path, Pause())
    assert list(inbox.drain()) == []
    inbox.post(Resume())
    assert list(inbox.drain()) == [Resume()]


def test_arguments_are_what_the_stream_records() -> None:
    assert SetLearningRate(learning_rate=0.5).arguments() == {"learning_rate": 0.5}
    assert json.loads(Pause().to_json()) == {"command": "Pause", "arguments": {}}
