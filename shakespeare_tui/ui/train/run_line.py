"""The first line of the Train place: which run, what it is doing, and how far it is."""

from typing import ClassVar

from textual.content import Content
from textual.widget import Widget

from shakespeare_tui.formatting import format_count
from shakespeare_tui.runs.figures import RunFigures
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.ui.status import STATE_MARKS
from shakespeare_tui.visible_text import visible

STATES: dict[str, tuple[str, str]] = {
    **STATE_MARKS,
    "idle": ("", "$text-muted"),
    "attached": ("▶ training elsewhere", "$success"),
    "waiting": ("… no news", "$warning"),
    "reading": ("… reading the log", "$warning"),
    "replay": ("▷ replay", "$accent"),
}
_SPACE = "   "
_LONGEST_BAR = 30
_SHORTEST_BAR = 8


class RunLine(Widget):
    """One line: name, state, progress, and what the run is where there is room."""

    DEFAULT_CSS: ClassVar[str] = """
    RunLine { height: 1; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._state: tuple[str, str, RunFigures | None, str] = ("", "idle", None, "")

    def show_run(
        self, history: RunHistory, figures: RunFigures, name: str, state: str, hint: str = ""
    ) -> None:
        """Show where a run stands.

        Args:
            history: The run.
            figures: Its figures.
            name: What it is called, also before its first event.
            state: A key of ``STATES``.
            hint: What to say where there is no run.
        """
        about = ""
        started = history.started
        if started is not None:
            parts = [f"{format_count(started.parameters)} parameters", started.corpus]
            about = " · ".join([part for part in [*parts, started.device] if part])
        shown = (visible(name), state, figures if started else None, visible(about or hint))
        if shown != self._state:
            self._state = shown
            self.refresh()

    def render(self) -> Content:
        """The line, cut to what fits."""
        name, state, figures, about = self._state
        mark, style = STATES[state]
        parts = []
        if name:
            parts.append(Content.styled(name, "bold"))
        if mark:
            parts.append(Content.styled(mark, style))
        if figures is not None:
            total = f" / {figures.total_steps:,}" if figures.total_steps else ""
            parts.append(Content.assemble(("step ", "$text-muted"), f"{figures.step:,}{total}"))
        line = Content(_SPACE).join(parts)
        width = self.content_size.width
        if figures is not None and figures.share is not None:
            line = line + self._bar(figures.share, min(_LONGEST_BAR, width - len(line) - 10))
        room = width - len(line) - len(_SPACE)
        if about and room >= len(about):
            line = Content.assemble(line, " " * (room + len(_SPACE) - len(about)) if parts else "")
            line = line + Content.styled(about, "$text-muted")
        return line

    def _bar(self, share: float, length: int) -> Content:
        percent = Content(f"{100 * share:4.0f} %")
        if length < _SHORTEST_BAR:
            return Content(_SPACE) + percent
        full = round(share * length)
        heavy, light = ("#", "-") if getattr(self.app, "ascii", False) else ("━", "─")
        return Content.assemble(
            _SPACE,
            (heavy * full, "$accent"),
            (light * (length - full), "$border-blurred"),
            percent,
        )
