"""The scrubber of a replay: where it stands, how fast it goes, and a line to jump along."""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

_SHORTEST_TRACK = 8


class ReplayBar(Widget, can_focus=True):
    """One line: play or pause, speed, track, time and step."""

    DEFAULT_CSS: ClassVar[str] = """
    ReplayBar { height: 1; padding: 0 1; background: $surface; }
    ReplayBar:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "jump(-0.02)", "Jump", key_display="←→", id="replay.back"),
        Binding("right", "jump(0.02)", "Jump ahead", show=False, id="replay.on"),
        Binding("home", "jump(-1.0)", "To the beginning", show=False, id="replay.home"),
        Binding("end", "jump(1.0)", "To the end", show=False, id="replay.end"),
    ]

    class Sought(Message):
        """Go to a share of the run's time."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    def __init__(self) -> None:
        super().__init__()
        self._state = (False, 1.0, 0.0, 0.0, 0, 0)
        self._track = (0, 1)

    def show(
        self,
        is_playing: bool,
        speed: float,
        position_seconds: float,
        duration_seconds: float,
        step: int,
        last_step: int,
    ) -> None:
        """Show where the replay stands, in the run's own time."""
        state = (is_playing, speed, position_seconds, duration_seconds, step, last_step)
        if state != self._state:
            self._state = state
            self.refresh()

    @property
    def share(self) -> float:
        """Where the replay stands, from 0 to 1."""
        _, _, position, duration, _, _ = self._state
        return position / duration if duration > 0 else 1.0

    def render(self) -> Content:
        """The line."""
        is_playing, speed, position, duration, step, last_step = self._state
        mark = "▶" if is_playing else "="
        head = f"{mark} {'playing' if is_playing else 'paused '} ×{speed:<5.4g}"
        tail = f" {_clock(position)} / {_clock(duration)}   step {step:,} / {last_step:,}"
        length = self.content_size.width - len(head) - len(tail)
        if length < _SHORTEST_TRACK:
            self._track = (0, 1)
            return Content(head + tail)
        self._track = (len(head), length)
        at = min(length - 1, round(self.share * (length - 1)))
        is_ascii = getattr(self.app, "ascii", False)
        heavy, knob, light = ("=", "O", "-") if is_ascii else ("━", "●", "─")
        return Content.assemble(
            (head, "bold"),
            (heavy * at + knob, "$accent"),
            (light * (length - 1 - at), "$text-muted"),
            (tail, "$text-muted"),
        )

    def action_jump(self, share: float) -> None:
        """Go back or on by a share of the run."""
        self._seek(self.share + share)

    def _seek(self, share: float) -> None:
        share = min(1.0, max(0.0, share))
        is_playing, speed, _, duration, step, last_step = self._state
        # At once, so that the next key jumps from there.
        self.show(is_playing, speed, share * duration, duration, step, last_step)
        self.post_message(self.Sought(share))

    def on_click(self, event: events.Click) -> None:
        """Go where the pointer is."""
        start, length = self._track
        offset = event.get_content_offset(self)
        if length > 1 and offset is not None and offset.x >= start:
            self._seek((offset.x - start) / (length - 1))


def _clock(seconds: float) -> str:
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
