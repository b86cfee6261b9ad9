"""Ask for a text of one's own: typed, pasted, or read from a file."""

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static, TextArea

from shakespeare_tui.files import read_bounded, reason
from shakespeare_tui.ui.closing import Dialog
from shakespeare_tui.ui.widgets.choices import FRAME

_MOST_BYTES = 1_000_000


class OwnTextDialog(Dialog[str | None]):
    """A field for a text and a line for a file; the result is the text, None where it was left."""

    DEFAULT_CSS: ClassVar[str] = (
        FRAME.format(name="OwnTextDialog", width=76)
        + """
    OwnTextDialog TextArea { height: 12; border: none; padding: 0; background: $panel; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", priority=True, id="own_text.leave"),
        Binding("ctrl+s,f2", "take", "Score it", priority=True, id="own_text.take"),
        Binding("tab", "next", "To the path", priority=True, show=False, id="own_text.next"),
    ]

    def compose(self) -> ComposeResult:
        """Text above file."""
        with Vertical() as frame:
            frame.border_title = Content("Paste a text")
            frame.border_subtitle = Content("ctrl+s scores it · tab goes to the path · esc closes")
            yield TextArea()
            yield Input(placeholder="or the path of a text file, then enter", compact=True)
            yield Static("", markup=False)

    def on_mount(self) -> None:
        """Type or paste at once."""
        self.query_one(TextArea).focus()

    def action_next(self) -> None:
        """From the text to the file and back."""
        is_text = self.query_one(TextArea).has_focus
        (self.query_one(Input) if is_text else self.query_one(TextArea)).focus()

    def action_take(self) -> None:
        """Take the text, or the file where there is none."""
        text = self.query_one(TextArea).text
        if len(text) > 1:
            self.dismiss(text)
        elif self.query_one(Input).value.strip():
            self._take_file()
        else:
            self._tell("type or paste at least two characters, or name a file")

    @on(Input.Submitted)
    def _take_file(self) -> None:
        path = Path(self.query_one(Input).value.strip()).expanduser()
        try:
            text = read_bounded(path, _MOST_BYTES).decode()
        except UnicodeDecodeError:
            self._tell(f"{path} is not a UTF-8 text")
        except (OSError, ValueError) as error:
            self._tell(f"{path}: {reason(error)}; take a part of a longer text")
        else:
            self.dismiss(text)

    def _tell(self, text: str) -> None:
        self.query_one(Static).update(Content.styled(text, "$error"))

    def action_leave(self) -> None:
        """Take nothing."""
        self.dismiss(None)
