"""The loss chart as a widget: zoom, pan, reading cursor, log axes, smoothing, other runs."""

import zlib
from collections.abc import Mapping
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.smoothing import SMOOTHING_STEPS, TRAIN_LOSS_STEPS
from shakespeare_tui.ui.widgets import loss_picture
from shakespeare_tui.ui.widgets.chart import Chart
from shakespeare_tui.ui.widgets.component_style import part_style
from shakespeare_tui.ui.widgets.loss_picture import (
    ROLES,
    LossPicture,
    LossSpec,
    Marks,
    Overlay,
    Role,
    draw_loss,
    with_cursor,
)
from shakespeare_tui.ui.widgets.loss_reading import legend, reading, write_line
from shakespeare_tui.ui.widgets.plot import Canvas
from shakespeare_tui.ui.widgets.viewport import Viewport

_PAN_SHARE = 0.25
_FIRST_OVERLAY_COLOUR = 2
"""The first two series colours are close to those of the current run."""


class LossChart(Chart, can_focus=True):
    """The curves of the run that is shown, with the runs laid behind it."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"loss-chart--{role}" for role in ROLES}
    DEFAULT_CSS: ClassVar[str] = """
    LossChart {
        height: 1fr;
        min-height: 6;
    }
    LossChart > .loss-chart--raw { color: $accent 50%; }
    LossChart > .loss-chart--smoothed { color: $accent; text-style: bold; }
    LossChart > .loss-chart--validation { color: $warning; text-style: bold; }
    LossChart > .loss-chart--reference { color: $text-muted 45%; }
    LossChart > .loss-chart--axis { color: $text-muted 55%; }
    LossChart:focus > .loss-chart--axis { color: $accent; }
    LossChart > .loss-chart--label { color: $text-muted; }
    LossChart > .loss-chart--cursor { color: $foreground; }
    LossChart > .loss-chart--checkpoint { color: $success; }
    LossChart > .loss-chart--best { color: $success; text-style: bold; }
    LossChart > .loss-chart--sample { color: $accent; }
    LossChart > .loss-chart--diagnosis { color: $error; text-style: bold; }
    LossChart > .loss-chart--command { color: $foreground; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move_cursor(-1)", "Read", key_display="←→", id="chart.left"),
        Binding("right", "move_cursor(1)", "Read to the right", show=False, id="chart.right"),
        Binding("up", "zoom(0.5)", "Zoom in", show=False, id="chart.zoom_in"),
        Binding("down", "zoom(2.0)", "Zoom out", show=False, id="chart.zoom_out"),
        Binding("shift+left", "pan(-1)", "Previous", show=False, id="chart.earlier"),
        Binding("shift+right", "pan(1)", "Later", show=False, id="chart.later"),
        Binding("pageup", "move_cursor(-10)", "Read ten back", show=False, id="chart.page_left"),
        Binding("pagedown", "move_cursor(10)", "Read ten on", show=False, id="chart.page_right"),
        Binding("home", "cursor_to_end(False)", "Read the first", show=False, id="chart.first"),
        Binding("end", "cursor_to_end(True)", "Read the last", show=False, id="chart.last"),
        Binding("escape", "hide_cursor", "Stop reading", show=False, id="chart.escape"),
    ]

    class SpanChanged(Message):
        """Other steps are shown now."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.history = RunHistory()
        self.overlays: Mapping[str, RunHistory] = {}
        self.smoothing_steps = TRAIN_LOSS_STEPS
        self.is_log_steps = False
        self.is_log_loss = False
        self.viewport = Viewport()
        self.cursor: int | None = None
        self._has_steps = False
        self._picture: LossPicture | None = None
        self._drawn: object = None

    # --- what is shown -------------------------------------------------------------------------

    @property
    def last_step(self) -> int:
        """The last step of all runs in the chart."""
        steps = [history.last_step for history in self.overlays.values()]
        return max([self.history.last_step, *steps])

    @property
    def span(self) -> tuple[int, int]:
        """The first and the last step shown."""
        return self.viewport.span(self.last_step)

    def show_run(self, history: RunHistory) -> None:
        """Show a run; drawn anew if it is another one or has news."""
        if history is not self.history:
            self.history, self.cursor, self.viewport = history, None, Viewport()
            self.redraw()
        elif self._state() != self._drawn:
            self.redraw()
        if self._has_steps != (self.last_step > 0):
            self._has_steps = self.last_step > 0
            self.refresh_bindings()

    def show_overlays(self, overlays: Mapping[str, RunHistory]) -> None:
        """Lay other runs behind the current one."""
        self.overlays = dict(overlays)
        self.redraw()

    def forget(self) -> None:
        """Let go of the curves too, not only of what is written over them."""
        super().forget()
        self._picture = None

    def _state(self) -> object:
        revisions = [history.revision for history in self.overlays.values()]
        return (self.history.revision, revisions)

    # --- drawing -------------------------------------------------------------------------------

    def on_focus(self) -> None:
        """The axes tell that the arrows move here."""
        self.redraw()

    def on_blur(self) -> None:
        """The arrows move elsewhere."""
        self.redraw()

    def draw(self) -> Canvas:
        """The picture below a line that tells what is what, or what the cursor reads."""
        width, height = self.size
        spec = self._spec()
        if self._picture is None:
            self._drawn = self._state()
            self._picture = draw_loss(spec, width, height - 1)
        canvas = Canvas(width, height)
        if self.cursor is None:
            canvas.paste(self._picture.canvas, 0, 1)
            write_line(canvas, legend(spec), start=1)
        else:
            canvas.paste(with_cursor(self._picture, spec, self.cursor), 0, 1)
            beside = self._picture.steps_beside(self.cursor)
            write_line(canvas, reading(spec, self.cursor, *beside), start=1)
        return canvas

    def _spec(self) -> LossSpec:
        marks = self._marks()
        styles: dict[Role, Style] = {
            role: part_style(self, f"loss-chart--{role}") for role in ROLES
        }
        return LossSpec(
            history=self.history,
            span=self.span,
            smoothing_steps=self.smoothing_steps,
            is_log_steps=self.is_log_steps,
            is_log_loss=self.is_log_loss,
            overlays=self._styled_overlays(marks),
            styles=styles,
            marks=marks,
        )

    def _marks(self) -> Marks:
        if getattr(self.app, "ascii", False):
            return loss_picture.ASCII
        return loss_picture.WITHOUT_COLOUR if self.app.no_color else loss_picture.UTF8

    def _styled_overlays(self, marks: Marks) -> list[Overlay]:
        colours = getattr(self.app, "series_colors", ("#888888",) * 3)[_FIRST_OVERLAY_COLOUR:]
        slots = stable_slots(list(self.overlays), len(colours))
        return [
            Overlay(
                name,
                history,
                Style(color=colours[slot % len(colours)]),
                marks.overlays[slot % len(marks.overlays)],
            )
            for (name, history), slot in zip(self.overlays.items(), slots, strict=True)
        ]

    # --- reading -------------------------------------------------------------------------------

    def action_move_cursor(self, columns: int) -> None:
        """Read the values some columns further; the first press reads the last step."""
        start, end = self.span
        if self.cursor is None:
            self._read(min(end, self.history.last_step or end))
            return
        picture = self._picture
        if picture is None:
            return
        column = picture.left + picture.steps.cell(self.cursor) + columns
        step = picture.step_at(column)
        # Zoomed in, a step is wider than a column.
        step = max(step, self.cursor + 1) if columns > 0 else min(step, self.cursor - 1)
        self._read(min(max(step, 1), self.last_step))

    def action_cursor_to_end(self, is_last: bool) -> None:
        """Read the first or the last step shown."""
        self._read(self.span[1] if is_last else self.span[0])

    def action_hide_cursor(self) -> None:
        """Show the legend again."""
        self.cursor, self._strips = None, None
        self.refresh()

    def _read(self, step: int) -> None:
        self.cursor, self._strips = step, None
        moved = self.viewport.showing(step, self.last_step)
        if moved != self.viewport:
            self._look(moved)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Read the step under the pointer."""
        offset = event.get_content_offset(self)
        if self._picture is not None and offset is not None and offset.x >= self._picture.left:
            start, end = self.span
            self._read(min(max(self._picture.step_at(offset.x), start), end))

    # --- looking -------------------------------------------------------------------------------

    def action_zoom(self, factor: float) -> None:
        """Show fewer or more steps, around the cursor or at the end."""
        self._look(self.viewport.zoomed(factor, self.cursor, self.last_step))

    def action_pan(self, direction: int) -> None:
        """Show earlier or later steps."""
        self._look(self.viewport.panned(direction * _PAN_SHARE, self.last_step))

    def action_show_all(self) -> None:
        """Show the whole run and follow it."""
        self.cursor = None
        self._look(Viewport())

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in."""
        event.stop()
        self.action_zoom(0.8)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out."""
        event.stop()
        self.action_zoom(1.25)

    def _look(self, viewport: Viewport) -> None:
        self.viewport = viewport
        if self.cursor is not None:
            start, end = self.span
            self.cursor = min(max(self.cursor, start), end)
        self.redraw()
        self.post_message(self.SpanChanged())

    def toggle_log_steps(self) -> None:
        """Give equal factors of steps equal room, or equal numbers."""
        self.is_log_steps = not self.is_log_steps
        self.redraw()
        self.post_message(self.SpanChanged())

    def toggle_log_loss(self) -> None:
        """Give equal factors of loss equal room, or equal differences."""
        self.is_log_loss = not self.is_log_loss
        self.redraw()

    def change_smoothing(self, direction: int) -> int:
        """Smooth more or less; the new time constant in steps."""
        index = SMOOTHING_STEPS.index(self.smoothing_steps) + direction
        self.smoothing_steps = SMOOTHING_STEPS[max(0, min(len(SMOOTHING_STEPS) - 1, index))]
        self.redraw()
        return self.smoothing_steps

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape hides the cursor first, and leaves the chart only after that."""
        if action == "hide_cursor":
            return self.cursor is not None
        return action != "move_cursor" or self._has_steps


def stable_slots(names: list[str], count: int) -> list[int]:
    """A number for each name, the same wherever it is shown; where two meet, the next free one."""
    taken: list[int] = []
    for name in names:
        slot = zlib.crc32(name.encode()) % count
        while slot in taken and len(taken) < count:
            slot = (slot + 1) % count
        taken.append(slot)
    return taken
