"""Random walks through the lab while runs go on: no exception anywhere, nothing left behind.

The long one does 20,000 actions: ``python -m pytest -n 0 -m slow tests/ui/test_random_walk.py``.
"""

import asyncio
import contextlib
import dataclasses
import json
import random
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from lab_harness import until
from real_cli import TINY, CommandLine
from streams import busy_run, failed_run, make_run, step_event, write_log
from trained_run import trained
from walking import SIZES, Action, draw_actions, micro, shortest_tail, take, train_micro

from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.catalogue import CATALOGUE, UrlSource
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.measure_speed import measure_throughput
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.training import TrainingController
from shakespeare_tui.ui.lab_screen import SCREENS
from shakespeare_tui.ui.services import Engine, Services
from shakespeare_tui.ui.settings import Settings

if TYPE_CHECKING:
    from shakespeare_tui.bench.pseudo_terminal import PseudoTerminal

__all__ = ["trained"]

WALKS = 50
ACTIONS_A_WALK = 400
TERMINAL_SIZES = (*SIZES, (200, 60), (40, 10), (20, 5), (100, 8), (60, 50), (1, 1))

Walk = Callable[[int, Sequence[Action]], None]


class QuickMeasuring(Engine):
    """Measures the speed of a tiny model, in a moment."""

    def measure_speed(
        self, config: Config, cancelled: Callable[[], bool], vocab_size: int
    ) -> tuple[float, str]:
        return measure_throughput(micro(config), 0.1, cancelled, vocab_size), "cpu (1 thread)"


@pytest.fixture
def world(
    tmp_path: Path, runs_root: Path, trained: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with corpora and runs of every kind, and one that another process trains."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "play.txt").write_text("ANNA:\nWell met, Ben, though I am late.\n\n" * 300)
    (folder / "one.txt").write_text("a" * 5000)
    (folder / "latin.txt").write_bytes("\xc7a va".encode("latin-1") * 99)
    (folder / "keys\x1b[31m.txt").write_text("\x1b]0;title\x07 and \u202e back\n" * 99)
    monkeypatch.setenv("EDITOR", "true")
    # Refused at once: nothing is fetched from anywhere, and the refusal is walked through, too.
    for name, entry in CATALOGUE.items():
        if entry.sources:
            nowhere = UrlSource("http://127.0.0.1:9/nothing.txt")
            monkeypatch.setitem(CATALOGUE, name, dataclasses.replace(entry, sources=(nowhere,)))
    _stopped_copy(trained, runs_root / "beta")
    make_run(runs_root, "scripted", busy_run(), text="b")
    make_run(runs_root, "diverged", failed_run(), text="c")
    make_run(runs_root, "young", (), text="d")
    (runs_root / "empty").mkdir()
    shutil.copytree(trained.path, runs_root / "broken")
    (runs_root / "broken" / "config.yaml").write_text("model: [")
    shutil.copytree(trained.path, runs_root / "worse")
    (runs_root / "worse" / "run.json").write_text("{")
    return folder


def _stopped_copy(run: RunFolder, path: Path) -> None:
    """A copy that was stopped at its last checkpoint."""
    shutil.copytree(run.path, path)
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(record | {"name": path.name}))
    log = path / "events.jsonl"
    lines = [line for line in log.read_text().splitlines() if '"RunFinished"' not in line]
    log.write_text("\n".join(lines) + "\n")


@pytest.fixture
def elsewhere(world: Path, runs_root: Path) -> Iterator[None]:
    """Somebody else trains ``elsewhere`` meanwhile."""
    run = make_run(runs_root, "elsewhere", busy_run(300), text="e")
    over = threading.Event()

    def train() -> None:
        step = 300
        while not over.wait(0.1):
            step += 1
            write_log(run.events_path, [step_event(step)])

    thread = threading.Thread(target=train, name="elsewhere")
    with FileLock(run.path / ".lock", thread_local=False):
        thread.start()
        yield
        over.set()
        thread.join()


@pytest.fixture
def walk(world: Path, elsewhere: None, tmp_path: Path, runs_root: Path) -> Walk:
    """``walk(seed, actions)``: all of them are done, and nothing goes wrong."""

    def make_lab(seed: int) -> LabApp:
        training = TrainingController(run_thread=train_micro)
        return LabApp(
            settings=Settings.load(tmp_path / "config" / "settings.yaml"),
            services=Services(
                runs_root=runs_root, training=training, engine=QuickMeasuring(), preload=False
            ),
            start_mode=random.Random(seed).choice(SCREENS),
            opening=lambda app: app.start_training(
                TrainingRequest(root=runs_root, config=Config())
            ),
        )

    def go(seed: int, actions: Sequence[Action]) -> None:
        before = set(threading.enumerate())
        size = random.Random(seed).choice(SIZES)
        done, failure = asyncio.run(take(lambda: make_lab(seed), actions, size))
        if failure:
            tail = shortest_tail(lambda: make_lab(seed), actions[:done], size, failure)
            shown = "\n".join(f"    {action!r}," for action in tail)
            pytest.fail(f"seed {seed}, action {done}; enough of them:\n{shown}\n{failure}")
        asyncio.run(until(lambda: not _left_behind(before), 30))

    return go


def _left_behind(before: set[threading.Thread]) -> set[threading.Thread]:
    """Threads that came; those of a loop's own pool wait there for more work."""
    came = set(threading.enumerate()) - before
    return {thread for thread in came if not thread.name.startswith("asyncio_")}


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_random_walk(walk: Walk, seed: int) -> None:
    walk(seed, draw_actions(seed, 150))


FAILED_ONCE = {
    "a double click beside the palette": (
        Action("key", "2"),
        Action("key", "ctrl+p"),
        Action("wait", seconds=0.2),
        Action("click", at=(0.5, 0.97), number=1, seconds=2),
        Action("wait", seconds=0.2),
    ),
}
"""The ends of walks that went wrong, as short as they became."""


@pytest.mark.parametrize("name", FAILED_ONCE)
def test_a_walk_that_failed_once(walk: Walk, name: str) -> None:
    walk(0, FAILED_ONCE[name])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(1000, 1000 + WALKS))
def test_a_long_random_walk(walk: Walk, seed: int) -> None:
    walk(seed, draw_actions(seed, ACTIONS_A_WALK))


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
    from shakespeare_tui.bench.pseudo_terminal import PseudoTerminal

    draw = random.Random(seed)
    command = [sys.executable, "-m", "shakespeare_tui", "train", *TINY]
    with PseudoTerminal(
        [*command, "--max-steps=1000000", "--name=walk"], columns=100, rows=30, folder=folder
    ) as terminal:
        terminal.wait_for(r"step \d+", 60)
        for _ in range(resizes):
            columns, rows = draw.choice(TERMINAL_SIZES)
            terminal.resize(columns, rows)
            if draw.random() < 0.5:
                terminal.send("\x1b")
                terminal.pause(0.15)
                terminal.send(draw.choice("12345"))
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
    from shakespeare_tui.runs.folder import find_checkpoint

    reached = find_checkpoint("walk@last", runs_root).info.step
    outcome = cli("train", "--no-ui", "--resume=walk", f"--max-steps={reached + 3}")
    assert outcome.code == 0, outcome.err
    assert find_checkpoint("walk@last", runs_root).info.step == reached + 3
