"""One line that asks for a value: hidden until there is a question."""

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.widgets.inputs import OrderedInput


class AskBar(Horizontal):
    """A label, a field and a hint; enter answers, escape leaves."""

    DEFAULT_CSS: ClassVar[str] = """
    AskBar {
        height: auto;
        max-height: 5;
        padding: 0 1;
        display: none;
        background: $panel;
    }
    AskBar > Static { width: auto; height: 1; }
    AskBar > #ask-hint {
        max-width: 60%;
        height: auto;
        color: $text-muted;
    }
    AskBar > #ask-hint.-error { color: $error; }
    AskBar > Input { width: 1fr; min-width: 12; background: $panel; margin: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "Cancel", id="ask.close"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._answer: Callable[[str], None] = lambda text: None
        self._focus_before: Widget | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="ask-label", markup=False)
        yield OrderedInput(compact=True, select_on_focus=True)
        yield Static("", id="ask-hint", markup=False)

    def ask(self, label: str, hint: str, value: str, answer: Callable[[str], None]) -> None:
        """Show a question.

        Args:
            label: What is asked.
            hint: What may be written.
            value: What the field holds at first.
            answer: Takes the text; a ``UserError`` from it is shown and the question stays.
        """
        self._answer = answer
        if not self.display:
            self._focus_before = self.screen.focused
        self.query_one("#ask-label", Static).update(Content.styled(label, "bold"))
        self._hint(hint)
        field = self.query_one(Input)
        field.value = value
        self.display = True
        field.focus()

    def _hint(self, text: str, *, is_error: bool = False) -> None:
        hint = self.query_one("#ask-hint", Static)
        hint.update(Content(text))
        hint.set_class(is_error, "-error")

    @on(Input.Submitted)
    def _submit(self, event: Input.Submitted) -> None:
        event.stop()
        try:
            self._answer(event.value)
        except UserError as error:
            self._hint(str(error), is_error=True)
        else:
            self.action_close()

    def action_close(self) -> None:
        """Hide the line."""
        self.display = False
        before = self._focus_before
        screen = self.screen
        assert isinstance(screen, LabScreen)
        # What had the focus may be hidden by now, or gone.
        screen.set_focus(before if before in screen.focus_chain else screen.home)
