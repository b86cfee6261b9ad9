"""Several processes train one run: as one alone would, one of them speaking, none indispensable."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from real_cli import TINY, CliProcess, CommandLine, Outcome, wait_until
from training_runs import make_config, read_lines, what_was_learned

from shakespeare_tui.errors import UserError
from shakespeare_tui.machine import Launched
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.distributed import Group, SharedBackend, dropout_seed, rows_of

Start = Callable[..., list[CliProcess]]

HARD = (
    "--set=data.windows=shuffled",
    "--set=training.optimizer=muon",
    "--set=training.grad_accumulation=2",
    "--set=training.grad_clip=0.5",
    "--set=training.ema_decay=0.9",
    "--set=sampling.every=15",
)
# With a rate that does not hang on the run's length.
RESUMABLE = (*HARD, "--set=model.dropout=0.2", "--set=training.scheduler=constant")


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_processes: None) -> Start:
    """``start(2, "train", …)`` does what ``torchrun --nproc-per-node 2`` does."""

    def run(processes: int, *arguments: str) -> list[CliProcess]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        started = []
        for rank in range(processes):
            with monkeypatch.context() as patch:
                place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
                for name, value in {**place, "MASTER_PORT": port}.items():
                    patch.setenv(name, str(value))
                patch.setenv("MASTER_ADDR", "127.0.0.1")
                started.append(CliProcess(arguments, tmp_path / "output"))
        return started

    return run


def train_arguments(name: str, *more: str) -> tuple[str, ...]:
    return ("train", "--no-ui", *TINY, "--max-steps=30", f"--name={name}", *more)


def resume_arguments(name: str) -> tuple[str, ...]:
    return ("train", "--no-ui", f"--resume={name}")


def ends(processes: list[CliProcess]) -> list[Outcome]:
    """How each ended; only the first may have said anything."""
    outcomes = [process.wait() for process in processes]
    for outcome in outcomes:
        assert "Traceback" not in outcome.err
    assert [outcome.out + outcome.err for outcome in outcomes[1:]] == [""] * len(outcomes[1:])
    return outcomes


def last_step(run: RunFolder) -> int:
    if not run.events_path.exists():
        return 0
    whole, _, _ = run.events_path.read_bytes().rpartition(b"\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    return max((line["step"] for line in lines if line["type"] == "StepCompleted"), default=0)


def numbers(learned: list[tuple[Any, ...]]) -> list[list[float]]:
    """The figures of each line; texts may differ where the likeliest token is a near tie."""
    return [
        [value for value in np.hstack([v for v in line if not isinstance(v, str)]) if value]
        for line in learned
        if line[0] in ("StepCompleted", "EvalCompleted")
    ]


def test_two_processes_learn_what_one_does(start: Start, cli: CommandLine, runs_root: Path) -> None:
    together = ends(start(2, *train_arguments("two", *HARD)))
    assert [outcome.code for outcome in together] == [0, 0], together[0].err
    assert "2 × cpu" in together[0].err
    assert cli(*train_arguments("one", *HARD)).code == 0
    one, two = (RunFolder(runs_root / name) for name in ("one", "two"))
    assert [line["type"] for line in read_lines(two)] == [line["type"] for line in read_lines(one)]
    mine, other = numbers(what_was_learned(two)), numbers(what_was_learned(one))
    for here, there in zip(mine, other, strict=True):
        assert here == pytest.approx(there, rel=2e-4)
    assert two.steps() == one.steps() and two.index() == one.index()
    resumed = cli(*resume_arguments("two"), "--max-steps=32")
    assert resumed.code == 0
    assert "only up to rounding: 1 process, was 2 (dropout is drawn anew)" in resumed.err
    assert last_step(two) == 32


def test_run_that_loses_a_process_is_saved_and_goes_on_exactly(
    start: Start, runs_root: Path
) -> None:
    run = RunFolder(runs_root / "run")
    processes = start(2, *train_arguments("run", *RESUMABLE, "--max-steps=99999"))
    wait_until(lambda: last_step(run) > 1, "steps", process=processes[0])
    processes[1].kill()
    failed = processes[0].wait()
    assert failed.code == 1
    said = [line for line in failed.err.splitlines() if line.startswith(("error", "failed"))]
    saved = last_step(run)
    assert said == [
        "failed: one of the 2 processes that trained the run has ended; the run is saved at step "
        f"{saved}: --resume run"
    ]
    assert read_lines(run)[-1]["type"] == "RunFailed" and run.index()["last"] == saved
    assert_ends_as_undisturbed(start, run, saved + 3)


def assert_ends_as_undisturbed(start: Start, run: RunFolder, steps: int) -> None:
    """Resume a run of two processes, and train another without a break."""
    length = f"--max-steps={steps}"
    assert [o.code for o in ends(start(2, *resume_arguments(run.name), length))] == [0, 0]
    arguments = train_arguments("reference", *RESUMABLE, length)
    assert [outcome.code for outcome in ends(start(2, *arguments))] == [0, 0]
    expected = RunFolder(run.path.parent / "reference")
    assert what_was_learned(run) == what_was_learned(expected)
    mine, theirs = (folder.checkpoint(steps) for folder in (run, expected))
    assert mine.weights_path.read_bytes() == theirs.weights_path.read_bytes()
    assert mine.state_path.stat().st_size == theirs.state_path.stat().st_size


def group_of(processes: int) -> Group:
    return Group(Launched(0, processes, 0, processes), torch.distributed.HashStore(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "training.batch_size 4 cannot be shared by 3 processes; take 3 or 6"),
        ({"training__batch_size": 2}, "by 3 processes; take 3"),
        ({"training__backend": "numpy"}, "training.backend numpy trains in one process"),
        ({"training__device": "cuda:0", "training__batch_size": 6}, "one device for 3 processes"),
        ({"training__device": "mps", "training__batch_size": 6}, "one device for 3 processes"),
    ],
)
def test_what_several_processes_cannot_train_is_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        SharedBackend(group_of(3), make_config(**settings))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "torchrun (RANK and WORLD_SIZE are set) is for `train --no-ui`"),
        (("eval", "run"), "torchrun (RANK and WORLD_SIZE are set) is for `train --no-ui`"),
        (("train",), "torchrun has no screens; train with --no-ui"),
    ],
)
def test_what_is_no_training_is_refused_in_one_line(
    arguments: tuple[str, ...], message: str, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    outcome = cli(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {message}") and outcome.err.count("\n") == 1
    monkeypatch.setenv("RANK", "1")
    outcome = cli(*arguments)
    assert (outcome.out, outcome.err) == ("", "")


def test_rows_of_a_batch_go_to_one_process_each() -> None:
    batch = np.arange(24).reshape(6, 4)
    for processes in (1, 2, 3, 6):
        parts = [rows_of(batch, rank, processes) for rank in range(processes)]
        assert len({len(part) for part in parts}) == 1
        assert np.array_equal(np.concatenate(parts), batch)
    seeds = {dropout_seed(number, rank) for number in range(50) for rank in range(8)}
    assert len(seeds) == 400 and dropout_seed(3, 1) == dropout_seed(3, 1)


# --- slow -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stop_by_a_signal_is_one_of_all(start: Start, runs_root: Path) -> None:
    run = RunFolder(runs_root / "run")
    processes = start(2, *train_arguments("run", *RESUMABLE, "--max-steps=99999"))
    wait_until(lambda: last_step(run) > 2, "steps", process=processes[0])
    for process in processes[::-1]:  # as torchrun does
        process.send(signal.SIGTERM)
    stopped, other = ends(processes)
    assert (stopped.code, other.code) == (130, 0), stopped.err
    saved = last_step(run)
    assert read_lines(run)[-1]["reason"] == "interrupted" and run.index()["last"] == saved
    assert_ends_as_undisturbed(start, run, saved + 3)


@pytest.mark.slow
def test_divergence_is_found_by_all_and_all_go_back(start: Start, runs_root: Path) -> None:
    wild = ("optimizer=sgd", "momentum=0.99", "learning_rate=100", "grad_clip=0")
    settings = [f"--set=training.{setting}" for setting in (*wild, "on_nan=rollback")]
    first, second = ends(start(2, *train_arguments("run", *settings)))
    assert (first.code, second.code) in ((0, 0), (1, 0))
    commands = [
        line["command"]
        for line in read_lines(RunFolder(runs_root / "run"))
        if line["type"] == "CommandApplied"
    ]
    assert commands and set(commands) == {"RollBack"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("training.precision=bfloat16", "training.ema_decay=0.9"),
        ("training.grad_checkpointing=true", "training.optimizer=sgd"),
        ("data.windows=random", "model.tie_weights=false", "model.positions=learned"),
        ("training.train_blocks=1",),
        ("training.lora_rank=2",),
    ],
    ids=str,
)
def test_everything_else_that_one_process_does(
    settings: tuple[str, ...], start: Start, cli: CommandLine, runs_root: Path
) -> None:
    arguments = [f"--set={setting}" for setting in settings]
    together = ends(start(2, *train_arguments("two", *arguments)))
    assert [outcome.code for outcome in together] == [0, 0], together[0].err
    assert cli(*train_arguments("one", *arguments)).code == 0
    mine, other = (numbers(what_was_learned(RunFolder(runs_root / n))) for n in ("two", "one"))
    tolerance = 2e-2 if "bfloat16" in settings[0] else 2e-4
    for here, there in zip(mine, other, strict=True):
        assert here == pytest.approx(there, rel=tolerance)


@pytest.mark.slow
def test_a_student_learns_what_it_learns_alone(
    start: Start, cli: CommandLine, runs_root: Path
) -> None:
    assert cli(*train_arguments("teacher", "--set=model.d_model=32")).code == 0
    student = ("--seed=5", "--distill", "teacher")
    together = ends(start(2, *train_arguments("two", *student)))
    assert [outcome.code for outcome in together] == [0, 0], together[0].err
    assert cli(*train_arguments("one", *student)).code == 0
    mine, other = (numbers(what_was_learned(RunFolder(runs_root / n))) for n in ("two", "one"))
    for here, there in zip(mine, other, strict=True):
        assert here == pytest.approx(there, rel=2e-4)


@pytest.mark.slow
def test_time_budget_ends_all_at_once(start: Start, runs_root: Path) -> None:
    arguments = ("train", "--no-ui", *TINY, "--name=run", "--set=training.batch_size=6")
    outcomes = ends(start(3, *arguments, "--minutes=4s"))
    assert [outcome.code for outcome in outcomes] == [0, 0, 0], outcomes[0].err
    lines = read_lines(RunFolder(runs_root / "run"))
    assert lines[-1]["reason"] == "completed"
    assert (
        2 < [line for line in lines if line["type"] == "StepCompleted"][-1]["elapsed_seconds"] < 6
    )


@pytest.mark.slow
def test_first_process_that_is_killed_is_told_of_by_the_second(
    start: Start, runs_root: Path
) -> None:
    run = RunFolder(runs_root / "run")
    processes = start(3, *train_arguments("run", "--set=training.batch_size=6", "--max-steps=9999"))
    wait_until(lambda: last_step(run) > 10, "steps", process=processes[0])
    processes[0].kill()
    second, third = processes[1].wait(), processes[2].wait()
    assert second.err == (
        "failed: the first of the 3 processes that trained the run has ended; what it had saved is "
        "kept: --resume run\n"
    )
    assert (second.code, third.code, third.err) == (1, 1, "")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torchrun_starts_again_and_goes_on(tmp_path: Path, runs_root: Path) -> None:
    options = ["--standalone", "--nproc-per-node=2", "--max-restarts=1", "-m", "shakespeare_tui"]
    run = RunFolder(runs_root / "run")

    @contextlib.contextmanager
    def torchrun(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
        command = [sys.executable, "-m", "torch.distributed.run", *options, *arguments]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=120)

    def wait_for_step(step: int) -> None:
        wait_until(lambda: last_step(run) >= step, f"step {step}", seconds=240)

    with torchrun(*train_arguments("run", "--max-steps=100000")) as process:
        wait_for_step(5)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            if b"\0RANK=1\0" in Path(f"/proc/{child}/environ").read_bytes():
                os.kill(int(child), signal.SIGKILL)
        wait_until(lambda: "RunF" in run.events_path.read_text(), "the end of a try", 120)
        wait_until(lambda: "RunF" not in run.events_path.read_text(), "the next", 240)
        wait_for_step(last_step(run) + 5)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert "stopping after this step" in err and "failed: one of the 2 processes" in err
    assert read_lines(run)[-1]["reason"] == "interrupted"
    with torchrun(*resume_arguments("run"), f"--max-steps={last_step(run) + 10}") as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out.count("finished") == 1
