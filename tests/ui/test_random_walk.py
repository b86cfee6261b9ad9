"""Random walks through the lab while a run goes on: nothing breaks, nothing is left behind."""

import asyncio
import contextlib
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab_harness import MakeApp, ScriptedTrainer, until
from real_cli import TINY, CommandLine
from streams import busy_run
from textual.pilot import Pilot

from shakespeare_tui.core.config import Config
from shakespeare_tui.ui.training import TrainingController

if TYPE_CHECKING:
    from pseudo_terminal import PseudoTerminal

Scripted = Callable[..., tuple[TrainingController, ScriptedTrainer]]

PLACES = "12345"
# Nothing that leaves the lab, opens an editor, fetches, or starts another run.
HARMLESS = (
    *("tab", "shift+tab", "up", "down", "left", "right", "home", "end", "pageup", "pagedown"),
    *("plus", "minus", "l", "question_mark", "escape", "ctrl+p", "escape", "y", "d", "escape"),
)
SIZES = ((80, 24), (140, 45), (200, 60), (40, 10), (20, 5), (100, 8), (60, 50), (1, 1))


async def walk(pilot: Pilot[int], steps: int, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(steps):
        kind = draw.choice(("resize", "place", "key", "key"))
        if kind == "resize":
            await pilot.resize_terminal(*draw.choice(SIZES))
        elif kind == "place":
            # A text field, help or the palette may have the keys: out of them first.
            await pilot.press("escape", "escape", draw.choice(PLACES))
        else:
            await pilot.press(draw.choice(HARMLESS))
        if draw.random() < 0.3:
            await asyncio.sleep(draw.random() / 10)
    await pilot.resize_terminal(80, 24)


async def take_walk(
    make_app: MakeApp, scripted: Scripted, steps: int, seed: int, runs_root: Path
) -> None:
    before = set(threading.enumerate())
    training, trainer = scripted(busy_run())
    app = make_app(random.Random(seed).choice(("data", "config", "train")), training=training)
    async with app.run_test(size=(80, 24)) as pilot:
        training.start(Config())
        await walk(pilot, steps, seed)
        await pilot.press("escape", "escape", "escape", "ctrl+q")
        await pilot.press("s")
        await until(lambda: app.return_value is not None, 10)
    assert app.return_value == 0
    assert not training.is_alive
    await until(lambda: _left_behind(before) == set(), 10)


def _left_behind(before: set[threading.Thread]) -> set[threading.Thread]:
    """Threads that came; those of the loop's own pool wait there for more work."""
    came = set(threading.enumerate()) - before
    return {thread for thread in came if not thread.name.startswith("asyncio_")}


@pytest.mark.parametrize("seed", range(3))
async def test_a_random_walk(
    make_app: MakeApp, scripted: Scripted, runs_root: Path, seed: int
) -> None:
    await take_walk(make_app, scripted, 40, seed, runs_root)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
async def test_many_long_random_walks(
    make_app: MakeApp, scripted: Scripted, runs_root: Path, seed: int
) -> None:
    await take_walk(make_app, scripted, 400, seed, runs_root)


def leave_by_keys(terminal: "PseudoTerminal") -> None:
    """Ctrl+Q from wherever one is, save and stop; again where a lone escape swallowed a key."""
    for _ in range(5):
        terminal.send("\x1b")
        terminal.pause(0.5)
        terminal.send("\x11")
        terminal.pause(0.5)
        terminal.send("s")
        with contextlib.suppress(AssertionError):
            terminal.wait(5)
            return


def walk_on_terminal(folder: Path, runs_root: Path, resizes: int, seed: int) -> None:
    """Train for real on a pseudo-terminal, resize and look around, leave at a random moment."""
    from pseudo_terminal import PseudoTerminal

    draw = random.Random(seed)
    command = [sys.executable, "-m", "shakespeare_tui", "train", *TINY]
    with PseudoTerminal(
        [*command, "--max-steps=1000000", "--name=walk"], columns=100, rows=30, folder=folder
    ) as terminal:
        terminal.wait_for(r"step \d+", 60)
        for _ in range(resizes):
            columns, rows = draw.choice(SIZES)
            terminal.resize(columns, rows)
            if draw.random() < 0.5:
                terminal.send("\x1b")
                terminal.pause(0.15)
                terminal.send(draw.choice(PLACES))
            else:
                terminal.send(draw.choice(("\t", "\x1b[B", "+", "-", "l", "?", "\x10")))
            terminal.pause(draw.random() / 10)
        terminal.resize(100, 30)
        way = draw.choice(("keys", "term", "hang-up"))
        if way == "keys":
            leave_by_keys(terminal)
        elif way == "term":
            terminal.process.terminate()
        else:
            terminal.hang_up()
        assert terminal.wait(60) == (0 if way == "keys" else 130)
        assert "Traceback" not in terminal.text
    log = folder / "cache" / "lab.log"
    assert not log.exists() or "Traceback" not in log.read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(
    ("resizes", "seed"),
    [
        (12, 0),
        *(pytest.param(100, seed, marks=[pytest.mark.slow]) for seed in range(1, 7)),
    ],
)
def test_a_random_walk_while_training_on_a_terminal(
    tmp_path: Path, runs_root: Path, cli: CommandLine, resizes: int, seed: int
) -> None:
    walk_on_terminal(tmp_path, runs_root, resizes, seed)
    from shakespeare_tui.core.runs import find_checkpoint

    reached = find_checkpoint("walk@last", runs_root).info.step
    outcome = cli("train", "--no-ui", "--resume=walk", f"--max-steps={reached + 3}")
    assert outcome.code == 0, outcome.err
    assert find_checkpoint("walk@last", runs_root).info.step == reached + 3
