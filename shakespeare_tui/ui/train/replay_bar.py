"""The scrubber of a replay: where it stands, how fast it goes, and a line to jump along."""

from dataclasses import replace
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from shakespeare_tui.ui.train.run_view import Playback

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
        self._playback = Playback()
        self._track = (0, 1)

    def show(self, playback: Playback) -> None:
        """Show where the replay stands."""
        if playback != self._playback:
            self._playback = playback
            self.refresh()

    def render(self) -> Content:
        at = self._playback
        head = f"{'▶ playing' if at.is_playing else '= paused '} ×{at.speed:<5.4g}"
        tail = f" {_clock(at.position_seconds)} / {_clock(at.duration_seconds)}"
        tail += f"   step {at.step:,} / {at.last_step:,}"
        length = self.content_size.width - len(head) - len(tail)
        if length < _SHORTEST_TRACK:
            self._track = (0, 1)
            return Content(head + tail)
        self._track = (len(head), length)
        column = min(length - 1, round(at.share * (length - 1)))
        is_ascii = getattr(self.app, "ascii", False)
        heavy, knob, light = ("=", "O", "-") if is_ascii else ("━", "●", "─")
        return Content.assemble(
            (head, "bold"),
            (heavy * column + knob, "$accent"),
            (light * (length - 1 - column), "$text-muted"),
            (tail, "$text-muted"),
        )

    def action_jump(self, share: float) -> None:
        """Go back or on by a share of the run."""
        self._seek(self._playback.share + share)

    def _seek(self, share: float) -> None:
        share = min(1.0, max(0.0, share))
        # At once, so that the next key jumps from there.
        position = share * self._playback.duration_seconds
        self.show(replace(self._playback, position_seconds=position))
        self.post_message(self.Sought(share))

    def on_click(self, event: events.Click) -> None:
        start, length = self._track
        offset = event.get_content_offset(self)
        if length > 1 and offset is not None and offset.x >= start:
            self._seek((offset.x - start) / (length - 1))


def _clock(seconds: float) -> str:
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
