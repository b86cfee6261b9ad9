"""What tests of the screens share: a scripted trainer, keys, the text on the screen, patience."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from textual import events
from textual._compositor import LayoutUpdate
from textual.keys import key_to_character
from textual.pilot import Pilot
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widgets import Input

from shakespeare_tui.runs.commands import Command, CommandInbox, Stop
from shakespeare_tui.runs.events import CommandApplied, Event, RunFinished
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.channel import Ended, Opened, TrainingChannel

NOW = 1_760_000_000.0
"""The time of day in tests, Unix seconds."""

MakeApp = Callable[..., LabApp]


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is so; the app goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def drawn(app: LabApp) -> list[Strip]:
    """What the terminal shows, a strip a row, as a screenshot is made of it; much faster."""
    update = app.screen._compositor.render_update(
        full=True, screen_stack=app._background_screens, simplify=True
    )
    assert isinstance(update, LayoutUpdate)
    return [Strip.join(strips) for strips in update.strips]


def shown(app: LabApp) -> str:
    """What the terminal shows, one line a row.

    Blanks are left out where they have a style of their own.
    """
    rows = ("".join(text for text, _, _ in strip if text.strip(" ")) for strip in drawn(app))
    return "\n".join(row.replace("\N{NO-BREAK SPACE}", " ").rstrip() for row in rows)


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """Press keys one after the other, each when the one before has been obeyed.

    Unlike ``Pilot.press`` it does not wait for an idle processor, and what is typed into a text
    field comes all at once.
    """
    waiting = list(keys)
    while waiting:
        before, focused = pilot.app.screen, pilot.app.focused
        is_typing = isinstance(pilot.app.focused, Input)
        _post(pilot, waiting.pop(0))
        while is_typing and waiting and len(waiting[0]) == 1:
            _post(pilot, waiting.pop(0))
        # A key goes down to the focused widget, and what it does may come back as a message.
        for _ in range(3):
            await pilot.pause(0)
        is_elsewhere = pilot.app.screen is not before or pilot.app.focused is not focused
        if is_elsewhere or isinstance(pilot.app.screen, ModalScreen):
            await pilot.pause()


def _post(pilot: Pilot[Any], key: str) -> None:
    pilot.app.post_message(events.Key(key, key_to_character(key)))


class ScriptedTrainer:
    """Stands where the engine is: opens a run, sends events, obeys Stop.

    Args:
        stream: What it sends when it is open.
        run: The run's name.
        is_stuck: Whether it never obeys, until ``release`` is called.
    """

    def __init__(
        self, stream: Iterable[Event] = (), *, run: str = "quick-1", is_stuck: bool = False
    ) -> None:
        self.requests: list[TrainingRequest] = []
        self.commands: list[Command] = []
        self.ending = Ended()
        self._stream, self._run, self._is_stuck = list(stream), run, is_stuck
        self._released = threading.Event()
        self._channel: TrainingChannel | None = None

    def send(self, event: Event) -> None:
        """Send another event of the run it has opened."""
        assert self._channel is not None
        self._channel.send(event)

    def release(self) -> None:
        """Let it end."""
        self._released.set()

    def __call__(self, request: TrainingRequest, channel: TrainingChannel) -> None:
        self.requests.append(request)
        self._channel = channel
        channel.send(Opened(self._run, request.root / self._run))
        for event in self._stream:
            channel.send(event)
        inbox = CommandInbox()
        channel.attach(inbox)
        step = max((getattr(event, "step", 0) for event in self._stream), default=0)
        while not self._released.wait(0.01):
            for command in inbox.drain():
                self.commands.append(command)
                channel.send(
                    CommandApplied(
                        step=step, command=type(command).__name__, arguments=command.arguments()
                    )
                )
                if isinstance(command, Stop) and not self._is_stuck:
                    channel.send(RunFinished(step=step, reason=command.reason, val_loss=None))
                    self.release()
        channel.send(self.ending)
