"""The real program on a pseudo-terminal: start, look around, train, leave, resume."""

import base64
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

from real_cli import TINY, CommandLine, wait_until

from shakespeare_tui.bench.pseudo_terminal import PseudoTerminal

PROGRAM = [sys.executable, "-m", "shakespeare_tui"]
Open = Callable[..., PseudoTerminal]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Open]:
    """``lab("train", …)``: the program on a terminal; whatever is left of it ends with the test."""
    opened: list[PseudoTerminal] = []

    def run(*arguments: str, columns: int = 100, rows: int = 30) -> PseudoTerminal:
        terminal = PseudoTerminal(
            [*PROGRAM, *arguments], columns=columns, rows=rows, folder=tmp_path
        )
        opened.append(terminal)
        return terminal

    yield run
    for terminal in opened:
        terminal.close()


def long_run(name: str) -> list[str]:
    return ["train", *TINY, "--max-steps=100000", f"--name={name}"]


def last_step(run: Path) -> int:
    step = json.loads((run / "index.json").read_text())["last"]
    assert isinstance(step, int)
    return step


def resumes(cli: CommandLine, run: Path, steps: int) -> bool:
    """Whether the run goes on without the lab for some steps."""
    goal = last_step(run) + steps
    outcome = cli("train", "--no-ui", f"--resume={run.name}", f"--max-steps={goal}")
    return outcome.code == 0 and last_step(run) == goal


def is_gone(group: int) -> bool:
    """Whether no process of a group is left."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return True
        time.sleep(0.05)
    return False


def test_a_first_visit_from_start_to_a_saved_run(
    lab: Open, cli: CommandLine, runs_root: Path
) -> None:
    terminal = lab()
    terminal.wait_for("Corpora", 30)
    for key, seen in (("2", "d_model"), ("4", "Strategy"), ("5", "no runs yet"), ("3", "No run")):
        terminal.press(key, seen)
    terminal.send("q")
    assert terminal.wait() == 0

    terminal = lab(*long_run("first"))
    terminal.wait_for(r"step \d{2,} ?/", 60)
    for key, seen in (("1", "Corpora"), ("2", "d_model"), ("4", "Strategy"), ("5", "first")):
        terminal.press(key, seen)
    terminal.press("q", "Save and stop")
    terminal.send("s")
    assert terminal.wait() == 0
    assert "go on with: shakespeare-tui train --resume first" in terminal.text
    assert is_gone(terminal.process.pid)

    run = runs_root / "first"
    steps = [
        record["step"]
        for record in map(json.loads, (run / "events.jsonl").read_text().splitlines())
        if record["type"] == "StepCompleted"
    ]
    assert steps == list(range(1, last_step(run) + 1))
    assert resumes(cli, run, 5)


def test_the_terminal_is_left_as_it_was(lab: Open) -> None:
    terminal = lab()
    terminal.wait_for("Corpora", 30)
    terminal.send("q")
    assert terminal.wait() == 0
    terminal.wait_for_end()
    for on, off in (("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?1000h", "\x1b[?1000l")):
        assert terminal.raw.rfind(off) > terminal.raw.rfind(on) >= 0
    assert terminal.raw.rfind("\x1b[?25h") > terminal.raw.rfind("\x1b[?25l")


@pytest.mark.parametrize(
    "how",
    ["SIGTERM", *(pytest.param(how, marks=pytest.mark.slow) for how in ("SIGINT", "hang-up"))],
)
def test_however_the_process_is_told_to_end_the_run_is_saved(
    lab: Open, cli: CommandLine, runs_root: Path, how: str
) -> None:
    terminal = lab(*long_run("told"))
    terminal.wait_for(r"step \d{2,} ?/", 60)
    if how == "hang-up":
        terminal.hang_up()
    else:
        terminal.process.send_signal(getattr(signal, how))
    assert terminal.wait() == 130
    assert is_gone(terminal.process.pid)
    assert last_step(runs_root / "told") >= 10
    assert resumes(cli, runs_root / "told", 2)


@pytest.mark.slow
def test_told_again_while_it_saves_the_lab_goes_on_saving(
    lab: Open, cli: CommandLine, runs_root: Path
) -> None:
    # Steps so long that the second signal comes before the first step's end.
    terminal = lab(*long_run("told"), "--set=training.batch_size=2048", "--set=model.n_layers=4")
    terminal.wait_for(r"step [1-9]\d* ?/", 60)
    terminal.process.send_signal(signal.SIGTERM)
    terminal.wait_for("saving told")
    for number in (signal.SIGHUP, signal.SIGTERM):
        terminal.process.send_signal(number)
    assert terminal.wait() == 130
    events = (runs_root / "told" / "events.jsonl").read_text().splitlines()
    assert json.loads(events[-1])["reason"] == "interrupted"


def test_a_hang_up_without_the_lab_saves_too(lab: Open, cli: CommandLine, runs_root: Path) -> None:
    terminal = lab(*long_run("told"), "--no-ui")
    terminal.wait_for(r"step [1-9]\d", 60)
    terminal.hang_up()
    assert terminal.wait() == 130
    events = (runs_root / "told" / "events.jsonl").read_text().splitlines()
    assert json.loads(events[-1])["reason"] == "interrupted"
    assert resumes(cli, runs_root / "told", 2)


@pytest.mark.slow
def test_a_hang_up_ends_no_run_under_nohup(tmp_path: Path, runs_root: Path) -> None:
    run = runs_root / "told"
    command = ["nohup", *PROGRAM, *long_run("told"), "--no-ui", "--max-steps=400"]
    with PseudoTerminal(command, folder=tmp_path) as terminal:
        wait_until(lambda: (run / "index.json").is_file(), "a checkpoint", seconds=60)
        terminal.hang_up()
        assert terminal.wait() == 0
    assert last_step(run) == 400


def test_leaving_while_torch_is_still_loading_is_possible(lab: Open) -> None:
    terminal = lab(*long_run("hasty"))
    terminal.wait_for("starting", 30)
    terminal.send("q")
    assert terminal.wait(20) == 0
    assert is_gone(terminal.process.pid)


def test_an_hour_is_shown_as_the_experiment_that_it_is(lab: Open, runs_root: Path) -> None:
    # Worth more than an hour on any machine, and over at once, by a loss that every model has.
    tiny = ("--set=model.n_layers=1", "--set=model.d_model=16", "--set=model.n_heads=2")
    terminal = lab(
        *("train", "--corpus=sample", "--minutes=20h", "--set=training.target_loss=99", *tiny)
    )
    terminal.wait_for("that learns from three others", 60)
    terminal.wait_for("hour is finished", 120)
    terminal.send("q")
    assert terminal.wait() == 0
    assert sorted(run.name for run in runs_root.glob("hour-*")) == [
        *("hour-1", "hour-2", "hour-3", "hour-4")
    ]


def test_watching_a_finished_run_replays_it(lab: Open, cli: CommandLine) -> None:
    assert cli("train", "--no-ui", *TINY, "--max-steps=40", "--name=done").code == 0
    terminal = lab("watch", "done", "--speed", "1000")
    terminal.wait_for("done", 30)
    terminal.wait_for(r"step 40", 30)
    terminal.send("q")
    assert terminal.wait() == 0


def test_copying_sends_the_clipboard_sequence(lab: Open, cli: CommandLine) -> None:
    assert cli("train", "--no-ui", *TINY, "--max-steps=20", "--name=done").code == 0
    terminal = lab()
    terminal.wait_for("Corpora", 30)
    terminal.press("5", "done")
    terminal.press("y", "copied done@20")
    assert f"\x1b]52;c;{base64.b64encode(b'done@20').decode()}\x07" in terminal.raw
    terminal.send("q")
    assert terminal.wait() == 0


def test_bad_input_is_told_before_the_lab_opens(lab: Open) -> None:
    for arguments, told in (
        (["watch", "nobody"], "there is no run 'nobody'"),
        (["watch", "nobody", "--speed", "0"], "--speed must be from 1 to 1000"),
        (["train", "--config", "no-such"], "no-such"),
        (["train", "--set", "model.d_mode=3"], "d_model"),
        (["train", "--resume", "nobody"], "there is no run 'nobody'"),
    ):
        terminal = lab(*arguments)
        assert terminal.wait() == 2
        terminal.wait_for_end()
        assert told in terminal.text
        assert "\x1b[?1049h" not in terminal.raw
        assert "Traceback" not in terminal.text


def test_what_libraries_print_does_not_reach_the_screen(tmp_path: Path) -> None:
    program = """
import os, sys
from shakespeare_tui.ui.terminal import TerminalGuard, log_path
guard = TerminalGuard()
with guard.closed():
    os.write(1, b"from C, one\\n")
    os.write(2, b"from C, two\\n")
    print("drawn", file=sys.__stderr__, flush=True)
    with guard.opened():
        os.system("echo from the editor")
    os.write(2, b"from C, three\\n")
print("after")
print(log_path().read_text().count("from C"))
"""
    with PseudoTerminal([sys.executable, "-c", program]) as terminal:
        assert terminal.wait() == 0
        terminal.wait_for_end()
        assert terminal.text.split() == ["drawn", "from", "the", "editor", "after", "3"]
