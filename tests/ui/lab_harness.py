"""What tests of the screens share: a trainer from a script, the text on the screen, patience."""

import asyncio
import html
import re
import threading
import time
from collections.abc import Callable, Iterable

from shakespeare_tui.core.commands import Command, CommandInbox, Stop
from shakespeare_tui.core.events import CommandApplied, Event, RunFinished
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.training import Ended, Opened, TrainingChannel, TrainingRequest

NOW = 1_760_000_000.0
"""The time of day in tests, Unix seconds."""

MakeApp = Callable[..., LabApp]

_SVG_TEXT = re.compile(r'<text class="[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>')


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until something is so; the app goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def shown(app: LabApp) -> str:
    """What the terminal shows, one line a row; several spaces may have become one."""
    rows: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in _SVG_TEXT.findall(app.export_screenshot(simplify=True)):
        rows.setdefault(float(y), []).append((float(x), html.unescape(text)))
    lines = ("".join(text for _, text in sorted(row)) for _, row in sorted(rows.items()))
    return "\n".join(line.replace("\N{NO-BREAK SPACE}", " ").rstrip() for line in lines)


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

    def release(self) -> None:
        """Let it end."""
        self._released.set()

    def __call__(self, request: TrainingRequest, channel: TrainingChannel) -> None:
        self.requests.append(request)
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
