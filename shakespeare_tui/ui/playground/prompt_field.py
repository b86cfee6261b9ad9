"""The Playground's prompt: one line with a history, in which backslash and n are a new line."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from shakespeare_tui.one_line import read_line, write_line
from shakespeare_tui.ui.playground.prompt import PromptHistory
from shakespeare_tui.ui.widgets.inputs import OrderedInput


class PromptField(OrderedInput):
    """The prompt as it is typed; up and down walk through the ones before."""

    DEFAULT_CSS: ClassVar[str] = """
    PromptField { width: 1fr; background: $surface; }
    PromptField:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Write", key_display="enter", id="prompt.write"),
        Binding("up", "earlier", "Previous prompt", id="prompt.earlier"),
        Binding("down", "later", "Next prompt", show=False, id="prompt.later"),
        Binding("escape", "leave", "Unfocus", id="prompt.leave"),
    ]

    class Left(Message):
        """The line is done with."""

    def __init__(self, value: str, history: PromptHistory) -> None:
        super().__init__(
            value,
            id="prompt",
            compact=True,
            select_on_focus=False,
            placeholder="at least one character; \\n is a new line",
        )
        self.history = history

    @property
    def prompt(self) -> str:
        """The prompt that was meant."""
        return read_line(self.value)

    def set_prompt(self, prompt: str) -> None:
        """Show another prompt."""
        self.value = write_line(prompt)
        self.cursor_position = len(self.value)

    def action_earlier(self) -> None:
        """The prompt before."""
        self._show(self.history.earlier(self.prompt))

    def action_later(self) -> None:
        """The prompt after."""
        self._show(self.history.later())

    def _show(self, prompt: str | None) -> None:
        if prompt is not None:
            self.set_prompt(prompt)

    def action_leave(self) -> None:
        """Back to the texts."""
        self.post_message(self.Left())
