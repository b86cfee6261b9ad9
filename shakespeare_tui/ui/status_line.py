"""The line that tells, in every place, what training is doing."""

from typing import ClassVar

from textual.content import Content
from textual.widget import Widget


class StatusLine(Widget):
    """One line: the run, its step, loss and time left; a hint where nothing runs."""

    DEFAULT_CSS: ClassVar[str] = """
    StatusLine {
        height: 1;
        padding: 0 1;
        background: $surface;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._line = Content("")

    def on_mount(self) -> None:
        """Say something from the first paint on."""
        self.update_status()

    def update_status(self) -> None:
        """Ask the app for the line and redraw if it is another one."""
        line = self.app.status_content()  # type: ignore[attr-defined]
        if line != self._line:
            self._line = line
            self.refresh()

    def render(self) -> Content:
        """The line as it is."""
        return self._line
