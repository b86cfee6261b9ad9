"""A question before something is lost: what it is, and the two answers."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static

from shakespeare_tui.ui.closing import Dialog


class ConfirmDialog(Dialog[bool]):
    """Says what would be lost and asks; the result is whether to go on.

    Args:
        title: What is about to be done.
        text: What is lost, in lines.
        verb: What the answer that goes on is called.
        no: What the other one is called.
    """

    DEFAULT_CSS: ClassVar[str] = """
    ConfirmDialog {
        align: center middle;
        background: $background 60%;
    }
    ConfirmDialog > Vertical {
        width: 72;
        max-width: 100%;
        height: auto;
        max-height: 90%;
        padding: 1 2;
        background: $surface;
        border: round $error;
        border-title-color: $error;
    }
    ConfirmDialog Static { height: auto; }
    ConfirmDialog Horizontal { height: 1; margin-top: 1; align-horizontal: right; }
    ConfirmDialog Button { margin-left: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n,q", "answer(False)", "Keep", id="confirm.no"),
        Binding("y", "answer(True)", "Go on", id="confirm.yes"),
        Binding("left,right", "app.focus_next", "Switch", show=False, id="confirm.other"),
    ]

    def __init__(self, title: str, text: str, verb: str, *, no: str = "Keep") -> None:
        super().__init__()
        self._title, self._text, self._verb, self._no = title, text, verb, no

    def compose(self) -> ComposeResult:
        """The text and two buttons; the one that loses nothing has the focus."""
        with Vertical() as frame:
            frame.border_title = Content(self._title)
            yield Static(Content(self._text), markup=False)
            with Horizontal():
                yield Button(f"{self._no} (esc)", id="keep", compact=True)
                yield Button(f"{self._verb} (y)", id="go", variant="error", compact=True)

    def on_mount(self) -> None:
        """Enter keeps everything."""
        self.query_one("#keep").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer by mouse or enter."""
        self.dismiss(event.button.id == "go")

    def action_answer(self, is_yes: bool) -> None:
        """Answer by key."""
        self.dismiss(is_yes)
