"""A question with a list of answers, which typing narrows, and what dialogs share."""

from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import wrap
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, SelectionList
from textual.widgets.option_list import Option
from textual.widgets.selection_list import SelectionType

from shakespeare_tui.ui.lab_screen import Dialog
from shakespeare_tui.ui.widgets.inputs import OrderedInput


class Options(OptionList):
    """Textual pages by lines that it lays out only where there is room, and fails elsewhere."""

    def action_page_up(self) -> None:
        """Move the cursor up one page."""
        if self.scrollable_content_region:
            super().action_page_up()  # type: ignore[no-untyped-call]

    def action_page_down(self) -> None:
        """Move the cursor down one page."""
        if self.scrollable_content_region:
            super().action_page_down()  # type: ignore[no-untyped-call]


class Selections(SelectionList[SelectionType], Options):
    """The same where several may be chosen; styles come from the first base."""


FRAME = """
{name} {{
    align: center middle;
    background: $background 60%;
}}
{name} > Vertical {{
    width: {width};
    max-width: 100%;
    height: auto;
    max-height: 90%;
    padding: 0 1;
    background: $surface;
    border: round $border;
    border-title-color: $foreground;
    border-subtitle-color: $text-muted;
}}
{name} Input {{ height: 1; border: none; padding: 0; background: $surface; }}
{name} Static {{ height: auto; }}
"""
"""What the dialogs' stylesheets begin with; ``name`` is the dialog's class."""


_HEADINGS = {"preset": "presets", "run": "runs, newest first"}


@dataclass(frozen=True)
class Choice:
    """One thing to choose: ``kind`` and ``name`` come back, ``about`` explains.

    What ``is_damaged`` cannot be chosen, and ``about`` says why.
    """

    kind: str
    name: str
    about: str = ""
    is_damaged: bool = False


class ChoiceDialog(Dialog[Choice | None]):
    """Choose from a list that typing narrows.

    Args:
        title: What is asked.
        choices: In the order in which they are shown; kinds become headings.
        current: The name of the one that is highlighted first.
    """

    DEFAULT_CSS: ClassVar[str] = (
        FRAME.format(name="ChoiceDialog", width=84)
        + """
    ChoiceDialog OptionList {
        height: auto;
        max-height: 100%;
        border: none;
        padding: 0;
        background: $surface;
        scrollbar-size-vertical: 1;
    }
    ChoiceDialog OptionList > .option-list--option-disabled { color: $accent; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss_empty", "Close", id="config.choice_close"),
        Binding("down", "move(1)", "Down", show=False, id="config.choice_down"),
        Binding("up", "move(-1)", "Up", show=False, id="config.choice_up"),
        Binding("pagedown", "move(10)", "Page down", show=False, id="config.choice_page_down"),
        Binding("pageup", "move(-10)", "Page up", show=False, id="config.choice_page_up"),
    ]

    def __init__(self, title: str, choices: Iterable[Choice], current: str = "") -> None:
        super().__init__()
        self._title = title
        self._choices = list(choices)
        self._current = current

    def compose(self) -> ComposeResult:
        with Vertical() as frame:
            frame.border_title = Content(self._title)
            frame.border_subtitle = Content("type to filter · enter selects · esc closes")
            yield OrderedInput(placeholder="type to filter", compact=True)
            options = Options(markup=False, compact=True)
            options.can_focus = False
            yield options

    def on_mount(self) -> None:
        self.query_one(Input).focus()

    def on_resize(self) -> None:
        """Fold the explanations at the width there is."""
        self.call_after_refresh(self._fill, self.query_one(Input).value)

    def _fill(self, words: str) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        kind = ""
        for number, choice in enumerate(self._choices):
            if all(w in f"{choice.name} {choice.about}".lower() for w in words.lower().split()):
                if choice.kind != kind:
                    kind = choice.kind
                    options.add_option(Option(Content(_HEADINGS.get(kind, kind)), disabled=True))
                line = self._line(choice, options.size.width)
                options.add_option(Option(line, id=str(number), disabled=choice.is_damaged))
        options.action_first()
        wanted = words.strip().lower() or self._current.lower()
        for number, choice in enumerate(self._choices):
            # A name that begins so comes before explanations that only mention it.
            is_meant = wanted and choice.name.lower().startswith(wanted)
            if is_meant and not choice.is_damaged:
                options.highlighted = options.get_option_index(str(number))
                break

    def _line(self, choice: Choice, width: int) -> Content:
        if choice.is_damaged:
            return Content.styled(f"  {choice.name}  {choice.about}", "$text-muted")
        name_width = max(len(choice.name) for choice in self._choices) + 4
        about = wrap(choice.about, max(20, width - name_width - 1))
        name = f"  {choice.name}"
        if len(name) > width / 2:
            return Content.assemble((name, "bold"), "\n    ", (choice.about, "$text-muted"))
        fold = "\n" + " " * name_width
        return Content.assemble((name.ljust(name_width), "bold"), (fold.join(about), "$text-muted"))

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        event.stop()
        self._fill(event.input.value)

    def action_move(self, by: int) -> None:
        """Move the highlight."""
        options = self.query_one(OptionList)
        for _ in range(abs(by)):
            before = options.highlighted
            if by > 0:
                options.action_cursor_down()
            else:
                options.action_cursor_up()
            after = options.highlighted
            wrapped = before is not None and after is not None and (after - before) * by < 0
            if abs(by) > 1 and wrapped:
                options.highlighted = before
                break

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(OptionList).action_select()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id is not None:
            self.dismiss(self._choices[int(event.option_id)])

    def action_dismiss_empty(self) -> None:
        """Choose nothing."""
        self.dismiss(None)
