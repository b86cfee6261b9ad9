"""The dialogs of any screen: a question before something is lost, and ``?``, its help and keys."""

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Static

from shakespeare_tui.ui.lab_screen import Dialog, LabScreen


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
        self.query_one("#keep").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "go")

    def action_answer(self, is_yes: bool) -> None:
        """Answer by key."""
        self.dismiss(is_yes)


class HelpDialog(Dialog[None]):
    """The help of a screen: its text and its live keys.

    Args:
        screen: The screen that was shown.
    """

    DEFAULT_CSS: ClassVar[str] = """
    HelpDialog {
        align: center middle;
        background: $background 60%;
    }
    HelpDialog > VerticalScroll {
        width: 76;
        max-width: 100%;
        height: auto;
        max-height: 100%;
        padding: 1 2;
        background: $surface;
        border: round $border;
        border-title-color: $foreground;
        border-subtitle-color: $text-muted;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,f1,q,enter", "dismiss", "Close", id="help.close"),
    ]

    def __init__(self, screen: LabScreen) -> None:
        super().__init__()
        self._content = help_content(screen)
        self._title = f"{screen.MODE.title()}"

    def compose(self) -> ComposeResult:
        with VerticalScroll() as frame:
            frame.border_title = Content(self._title)
            frame.border_subtitle = Content("esc closes")
            yield Static(self._content, markup=False)

    async def action_dismiss(self, result: None = None) -> None:
        """Close the help."""
        self.dismiss(None)


def help_content(screen: LabScreen) -> Content:
    """The screen's text, its keys, those of the part in focus, and those that work everywhere."""
    groups: dict[str, list[tuple[str, str]]] = {
        "Keys here": [],
        "Keys of the focused pane": [],
        "Keys everywhere": [],
    }
    for keys, active in _live_bindings(screen):
        if active.node is screen.app:
            title = "Keys everywhere"
        elif active.node is screen and active.binding.id:
            title = "Keys here"
        else:
            title = "Keys of the focused pane"
        groups[title].append((keys, active.binding.description))
    # The source's line ends are not the dialog's: a paragraph flows to the width there is.
    paragraphs = [" ".join(text.split()) for text in screen.HELP.split("\n\n")]
    parts = [Content(text) for text in paragraphs if text]
    parts += [_table(title, rows) for title, rows in groups.items() if rows]
    return Content("\n\n").join(parts)


def _live_bindings(screen: LabScreen) -> Iterable[tuple[str, ActiveBinding]]:
    """Each action once, with all its keys, in the order of the bindings."""
    keys: dict[tuple[str, str], list[str]] = {}
    first: dict[tuple[str, str], ActiveBinding] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if binding.system or not binding.description:
            continue
        action = (binding.action, binding.description)
        display = screen.app.get_key_display(binding)
        if display not in keys.setdefault(action, []):
            keys[action].append(display)
        first.setdefault(action, active)
    for action, active in first.items():
        yield " ".join(keys[action]), active


def _table(title: str, rows: list[tuple[str, str]]) -> Content:
    width = max(len(keys) for keys, _ in rows)
    lines = [Content.styled(title, "bold $accent")]
    for keys, description in rows:
        lines.append(Content.assemble((f"{keys:>{width}}", "bold"), "  ", description))
    return Content("\n").join(lines)
