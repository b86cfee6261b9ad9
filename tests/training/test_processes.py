"""Real processes that signals, limits and each other end: nothing is lost and losses stay equal."""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from real_cli import TINY, CliProcess, Outcome, wait_until
from training_runs import on_both_backends, read_lines, what_was_learned

from shakespeare_tui.runs.folder import RunFolder

pytestmark = [
    pytest.mark.usefixtures("own_processes"),
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals"),
]

Start = Callable[..., CliProcess]

# Everything that an exact resume must put back, at once.
HARD = (
    "--set=model.dropout=0.2",
    "--set=data.windows=shuffled",
    "--set=training.optimizer=muon",
    "--set=training.ema_decay=0.9",
    "--set=sampling.every=60",
    "--set=checkpoints.save_every=7",
)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """``start("train", …)`` runs the program in a process of its own."""

    def run(*arguments: str, **limits: int) -> CliProcess:
        return CliProcess(arguments, tmp_path / "output", **limits)

    return run


def train_arguments(name: str, steps: int, *more: str) -> tuple[str, ...]:
    return ("train", "--no-ui", *TINY, f"--max-steps={steps}", f"--name={name}", *more)


def last_step(run: RunFolder) -> int:
    """The last step in the log, of whole lines only."""
    if not run.events_path.exists():
        return 0
    whole, _, _ = run.events_path.read_bytes().rpartition(b"\n")
    lines = [json.loads(line) for line in whole.splitlines()]
    return max((line["step"] for line in lines if line["type"] == "StepCompleted"), default=0)


def errors(outcome: Outcome) -> list[str]:
    """What stderr holds besides the narration of the run."""
    assert "Traceback" not in outcome.err
    return [line for line in outcome.err.splitlines() if line.startswith(("error: ", "failed: "))]


@pytest.mark.parametrize(
    ("steps", "kills"), [(120, 4), pytest.param(300, 10, marks=pytest.mark.slow)]
)
@on_both_backends
def test_kill_9_at_random_moments_gives_the_losses_of_an_uninterrupted_run(
    backend: str, steps: int, kills: int, start: Start, runs_root: Path
) -> None:
    hard = (*HARD, f"--backend={backend}")
    reference = start(*train_arguments("reference", steps, *hard))
    run = RunFolder(runs_root / "killed")
    dice = random.Random(7)
    process = start(*train_arguments("killed", steps, *hard))
    wait_until(lambda: last_step(run) > 0, "the first step", process=process)
    for kill in range(kills):
        if kill % 2:
            # Any moment, also while the run is still being opened.
            time.sleep(dice.uniform(0, 0.5))
        else:
            before = last_step(run)
            wait_until(lambda before=before: last_step(run) > before, "a step", process=process)
            time.sleep(dice.uniform(0, 0.1))
        assert process.kill().code == -signal.SIGKILL, "the run was over before all kills"
        process = start("train", "--no-ui", "--resume=killed")
    outcome = process.wait()
    assert outcome.code == 0, outcome.err
    assert reference.wait().code == 0
    expected = RunFolder(runs_root / "reference")
    assert what_was_learned(run) == what_was_learned(expected)
    assert run.index() == expected.index() and run.steps() == expected.steps()
    for mine, other in zip(run.checkpoints(), expected.checkpoints(), strict=True):
        assert mine.weights_path.read_bytes() == other.weights_path.read_bytes()
    hidden = {path.name for path in run.path.glob(".*")} - {".lock"}
    assert not hidden, "what crashes left behind is swept"


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_signal_saves_and_exits_130_and_resuming_is_exact(
    number: signal.Signals, start: Start, runs_root: Path
) -> None:
    reference = start(*train_arguments("reference", 120, *HARD))
    run = RunFolder(runs_root / "stopped")
    process = start(*train_arguments("stopped", 120, *HARD))
    wait_until(lambda: last_step(run) > 0, "the first step", process=process)
    process.send(number)
    outcome = process.wait()
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    assert "--resume stopped" in outcome.out
    lines = read_lines(run)
    assert (lines[-1]["type"], lines[-1]["reason"]) == ("RunFinished", "interrupted")
    # Every step that was made is saved: none has to be made again.
    assert run.index()["last"] == lines[-1]["step"] == last_step(run) < 120
    assert start("train", "--no-ui", "--resume=stopped").wait().code == 0
    assert reference.wait().code == 0
    assert what_was_learned(run) == what_was_learned(RunFolder(runs_root / "reference"))


def test_second_trainer_is_refused_until_the_first_is_gone(start: Start, runs_root: Path) -> None:
    run = RunFolder(runs_root / "one")
    first = start(*train_arguments("one", 100_000))
    wait_until(lambda: "last" in run.index(), "a checkpoint", process=first)
    before = last_step(run)
    second = start("train", "--no-ui", "--resume=one").wait()
    assert second.code == 2
    assert second.err.splitlines() == [
        "error: run one is being trained by another process; stop that one, or start a new run"
    ]
    again = start(*train_arguments("one", 10)).wait()
    assert again.code == 2 and "already a run 'one'" in again.err
    listed = json.loads(start("runs", "--json").wait().out)
    assert [(r["name"], r["state"]) for r in listed["runs"]] == [("one", "training")]
    wait_until(lambda: last_step(run) > before, "the first to go on", process=first)
    first.kill()
    listed = json.loads(start("runs", "--json").wait().out)
    assert listed["runs"][0]["state"] == "interrupted"
    third = start("train", "--no-ui", "--resume=one", f"--max-steps={last_step(run) + 20}").wait()
    assert third.code == 0, third.err


def test_commands_of_another_process_are_obeyed(start: Start, runs_root: Path) -> None:
    from shakespeare_tui.runs.commands import AddNote, SetLearningRate, Stop, leave_command

    run = RunFolder(runs_root / "one")
    process = start(*train_arguments("one", 100_000))
    wait_until(lambda: last_step(run) > 0, "the first step", process=process)
    for command in (SetLearningRate(learning_rate=0.5), AddNote(text="ein Käfer"), Stop()):
        leave_command(run.commands_path, command)
    outcome = process.wait()
    assert outcome.code == 0, outcome.err
    applied = [line for line in read_lines(run) if line["type"] == "CommandApplied"]
    assert [line["command"] for line in applied] == ["SetLearningRate", "AddNote", "Stop"]
    assert applied[1]["arguments"] == {"text": "ein Käfer"}
    assert read_lines(run)[-1]["reason"] == "stopped"


class TestFullDisk:
    """A limit on the size of files stands in for the end of the disk: writes fail alike."""

    WIDE = ("--set=model.d_ff=512",)

    def make_run(self, start: Start, runs_root: Path) -> tuple[RunFolder, int]:
        """A run of 20 steps, and the size of its largest file."""
        outcome = start(*train_arguments("full", 20, *self.WIDE)).wait()
        assert outcome.code == 0, outcome.err
        run = RunFolder(runs_root / "full")
        return run, run.checkpoint(20).state_path.stat().st_size

    def test_failed_save_keeps_the_last_checkpoint_and_the_run_can_go_on(
        self, start: Start, runs_root: Path
    ) -> None:
        run, size = self.make_run(start, runs_root)
        reference = start(*train_arguments("reference", 40, *self.WIDE)).wait()
        assert reference.code == 0
        resume = ("train", "--no-ui", "--resume=full", "--max-steps=40")
        outcome = start(*resume, largest_file_bytes=size - 1).wait()
        assert outcome.code == 1
        assert len(errors(outcome)) == 1, outcome.err
        assert "could not be written" in outcome.err and "free some space" in outcome.err
        assert run.index() == {"best": 20, "last": 20}
        assert run.steps() == [10, 20]
        assert {path.name for path in run.path.glob(".*")} <= {".lock"}
        failed = read_lines(run)[-1]
        assert failed["type"] == "RunFailed" and "could not be written" in failed["error"]
        generated = start("generate", "full", "--max-tokens=3").wait()
        assert generated.code == 0, generated.err
        assert start(*resume).wait().code == 0
        learned = [line for line in what_was_learned(run) if line[0] == "StepCompleted"]
        # The first 20 steps had a schedule of their own: what follows is what is compared.
        assert [line[1] for line in learned] == list(range(1, 41))

    def test_failed_log_ends_the_run_in_one_line(self, start: Start, runs_root: Path) -> None:
        run, _ = self.make_run(start, runs_root)
        log_bytes = run.events_path.stat().st_size
        more = ("--max-steps=5000", "--set=training.eval_every=5000")
        limit = max(log_bytes, run.checkpoint(20).state_path.stat().st_size) + 5000
        resume = ("train", "--no-ui", "--resume=full", *more)
        outcome = start(*resume, largest_file_bytes=limit).wait()
        assert outcome.code == 1
        assert len(errors(outcome)) == 1, outcome.err
        assert "free some space" in outcome.err
        assert run.index()["last"] == 20
        resumed = start("train", "--no-ui", "--resume=full", "--max-steps=30").wait()
        assert resumed.code == 0, resumed.err
        steps = [line["step"] for line in read_lines(run) if line["type"] == "StepCompleted"]
        assert steps == list(range(1, 31))

    def test_new_run_that_cannot_be_written_at_all(self, start: Start, runs_root: Path) -> None:
        outcome = start(*train_arguments("full", 20), largest_file_bytes=100).wait()
        assert outcome.code in (1, 2)
        assert len(outcome.err.splitlines()) == 1, outcome.err
        assert not (runs_root / "full").exists()


@pytest.mark.parametrize(
    "arguments",
    [("generate", "big", "--max-tokens=1"), ("eval", "big"), ("train", "--no-ui", "--resume=big")],
    ids=lambda arguments: arguments[0],
)
def test_hostile_config_makes_nothing_allocate(
    arguments: tuple[str, ...], start: Start, runs_root: Path
) -> None:
    assert start(*train_arguments("big", 10)).wait().code == 0
    path = runs_root / "big" / "config.yaml"
    text = path.read_text()
    huge = text.replace("  d_model: 16\n", "  d_model: 16384\n")
    huge = huge.replace("  n_layers: 1\n", "  n_layers: 256\n")
    assert huge.count(": 16384\n") == 1 and huge.count(": 256\n") == 1
    path.write_text(huge)
    # 412 billion parameters need 1.6 TB; torch itself lives in the few GB that are allowed.
    outcome = start(*arguments, memory_bytes=16 * 2**30).wait()
    assert outcome.code == 2, outcome.err
    assert len(outcome.err.splitlines()) == 1
