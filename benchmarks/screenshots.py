"""Export the README's pictures from the app: every place, with a run that was really trained.

Run with: python benchmarks/screenshots.py [--runs FOLDER] [--to docs/screens] [--only NAME ...]

Runs that are not in --runs are trained first: the preset `quick` for its hundred seconds, and some
steps of `numpy`. The pictures are then taken of the app itself: its live screen is fed with a run's
own stream.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from shakespeare_tui.runs.commands import CommandInbox, Stop
from shakespeare_tui.runs.event_log import read_events
from shakespeare_tui.runs.events import StepCompleted
from shakespeare_tui.runs.folder import RunFolder, find_run
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.channel import Ended, Opened, TrainingChannel
from shakespeare_tui.ui.engine.training import TrainingController
from shakespeare_tui.ui.services import Services
from shakespeare_tui.ui.settings import memory_settings

RUN = "quick-1"
NUMPY_RUN = "numpy-1"
TRAINED = {
    RUN: (),
    NUMPY_RUN: ("--config", "numpy", "--max-steps", "300", "--set", "logging.layers_every=4"),
}
"""The runs of the pictures, with what they are trained by."""
# Where the picture of the Train screen stands in the run.
SHARE_DONE = 0.72
Prepare = Callable[["Shot"], Awaitable[None]]


def main() -> int:
    """Train if needed, take all pictures, say where they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, help=f"a folder of runs, with {RUN} or {NUMPY_RUN}")
    parser.add_argument("--to", type=Path, default=Path("docs/screens"))
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these pictures; without it all")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.runs or Path(folder)
        os.environ["SHAKESPEARE_TUI_RUNS"] = str(root)
        os.environ["SHAKESPEARE_TUI_CONFIG"] = f"{folder}/config"
        asyncio.run(take_all(root, arguments.to, arguments.only))
    return 0


class Shot:
    """One picture under way.

    Args:
        root: The folder of runs.
        run: The run's name; it is trained where it is not there.
        place: The place to show.
        theme: The theme.
        size: Columns and rows.
    """

    def __init__(self, root: Path, run: str, place: str, theme: str, size: tuple[int, int]) -> None:
        if not (root / run).is_dir():
            command = [sys.executable, "-m", "shakespeare_tui", "train", "--no-ui"]
            subprocess.run([*command, f"--name={run}", *TRAINED[run]], check=True)
        self.run = find_run(run, root)
        self.size = size
        self.training = TrainingController(run_thread=self._send)
        services = Services(
            runs_root=root, training=self.training, clock=lambda: time.time(), preload=False
        )
        self.app = LabApp(
            settings=memory_settings(theme=theme), services=services, start_mode=place
        )

    def _send(self, request: TrainingRequest, channel: TrainingChannel) -> None:
        """Stand in for the trainer: the run's own events up to a point, then wait to be stopped."""
        inbox = CommandInbox()
        channel.attach(inbox)
        channel.send(Opened(self.run.name, self.run.path))
        last = int(SHARE_DONE * last_step(self.run))
        for event in read_events(self.run.events_path):
            if isinstance(event, StepCompleted) and event.step > last:
                break
            channel.send(event)
        while not any(isinstance(command, Stop) for command in inbox.drain()):
            time.sleep(0.05)
        channel.send(Ended())

    async def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("the app did not come to where the picture is taken")
            await asyncio.sleep(0.05)

    async def take(self, path: Path, prepare: Prepare) -> None:
        """Bring the app to where it is to be shown and save what it shows."""
        async with self.app.run_test(size=self.size) as self.pilot:
            await prepare(self)
            self.app.clear_notifications()
            await asyncio.sleep(0.5)
            path.write_text(self.app.export_screenshot(title="shakespeare-tui"), encoding="utf-8")
            self.training.ask_to_stop()
            self.training.join(5)
        print(path)


def last_step(run: RunFolder) -> int:
    """The last step of a finished run."""
    events = read_events(run.events_path)
    return max(event.step for event in events if isinstance(event, StepCompleted))


async def train(shot: Shot) -> None:
    """The Train screen in the middle of the run."""
    goal = int(SHARE_DONE * last_step(shot.run))
    shot.training.start(TrainingRequest(root=shot.run.path.parent, resume=shot.run.name))
    await shot.until(lambda: shot.training.history.last_step == goal)
    await asyncio.sleep(2)


async def layers(shot: Shot) -> None:
    """The heat strip of the layers, with a cell that is read."""
    await train(shot)
    await shot.pilot.press("h", "m", *["left"] * 9, *["down"] * 3)


async def data(shot: Shot) -> None:
    """The Data screen with its figures."""
    await asyncio.sleep(6)


async def config(shot: Shot) -> None:
    """The Config screen."""
    await asyncio.sleep(2)


async def playground(shot: Shot) -> None:
    """The Playground with the classic strategies, written by the run's best checkpoint."""
    from shakespeare_tui.ui.playground.columns_strip import TextColumn

    await shot.until(lambda: shot.app.screen.picker.chosen)  # type: ignore[attr-defined]
    await shot.pilot.press("k", "g")
    columns = shot.app.screen.query(TextColumn)
    await shot.until(lambda: all(len(column.stream.text) > 400 for column in columns))
    # The measures follow.
    await asyncio.sleep(5)


async def surprise(shot: Shot) -> None:
    """The Playground's view of one text, character by character."""
    await playground(shot)
    await shot.pilot.press("s")
    await asyncio.sleep(3)


async def checkpoints(shot: Shot) -> None:
    """The Checkpoints screen."""
    await asyncio.sleep(1)


async def take_all(root: Path, folder: Path, only: list[str] | None) -> None:
    """Every picture in turn, or only some."""
    wide, small = (132, 40), (80, 24)
    for name, place, theme, size, prepare in (
        ("train", "train", "lab-dark", wide, train),
        ("train-light", "train", "lab-light", wide, train),
        ("train-80x24", "train", "lab-dark", small, train),
        ("data", "data", "lab-dark", wide, data),
        ("config", "config", "lab-dark", wide, config),
        ("playground", "playground", "lab-dark", wide, playground),
        ("surprise", "playground", "lab-dark", wide, surprise),
        ("checkpoints", "checkpoints", "lab-dark", wide, checkpoints),
        ("layers", "train", "lab-dark", (110, 19), layers),
    ):
        if only is None or name in only:
            run = NUMPY_RUN if prepare is layers else RUN
            await Shot(root, run, place, theme, size).take(folder / f"{name}.svg", prepare)


if __name__ == "__main__":
    sys.exit(main())
