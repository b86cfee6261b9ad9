"""Ask for the path of a file, completing it as it is typed."""

import asyncio
import os
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.suggester import Suggester
from textual.widgets import Input, Static

from shakespeare_tui.config.problems import join_words
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import check_output_file
from shakespeare_tui.ui.place import Dialog
from shakespeare_tui.ui.widgets.choices import FRAME
from shakespeare_tui.ui.widgets.inputs import OrderedInput


class PathSuggester(Suggester):
    """Completes paths as one types: the first entry in the folder that begins so."""

    def __init__(self, suffixes: tuple[str, ...]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._suffixes = suffixes

    async def get_suggestion(self, value: str) -> str | None:
        """The completed path, or None."""
        return await asyncio.to_thread(self._complete, value) if value else None

    def _complete(self, value: str) -> str | None:
        folder, beginning = os.path.split(value)
        try:
            with os.scandir(os.path.expanduser(folder) or ".") as entries:
                found = sorted(
                    entry.name + ("/" if entry.is_dir() else "")
                    for entry in entries
                    if entry.name.startswith(beginning)
                    and (beginning or not entry.name.startswith("."))
                    and (entry.is_dir() or entry.name.endswith(self._suffixes))
                )
        except (OSError, ValueError):
            return None
        if not found or found[0] == beginning:
            return None
        return os.path.join(folder, found[0]) if folder else found[0]


class PathDialog(Dialog[Path | None]):
    """Ask for a file's path, with completion.

    Args:
        title: What is asked.
        value: The path to begin with.
        is_saving: The file is to be written; an existing one is replaced at the second asking only.
        replaces: The file that is replaced without asking again.
        suffixes: Endings that are offered; a file that is saved without any gets the first.
        placeholder: What the empty field says.
    """

    DEFAULT_CSS: ClassVar[str] = FRAME.format(name="PathDialog", width=76)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss_empty", "Close", id="config.path_close"),
        Binding("tab", "complete", "Complete", id="config.path_complete"),
    ]

    def __init__(
        self,
        title: str,
        value: str = "",
        *,
        is_saving: bool = False,
        replaces: str | None = None,
        suffixes: tuple[str, ...] = (".yaml", ".yml"),
        placeholder: str = "path of a YAML file",
    ) -> None:
        super().__init__()
        self._suffixes = suffixes
        self._placeholder = placeholder
        self._title = title
        self._value = value
        self._is_saving = is_saving
        self._asked_for = replaces

    def compose(self) -> ComposeResult:
        """The field, and a line for what is in the way."""
        with Vertical() as frame:
            frame.border_title = Content(self._title)
            frame.border_subtitle = Content("tab completes · enter accepts · esc closes")
            yield OrderedInput(
                self._value,
                placeholder=self._placeholder,
                suggester=PathSuggester(self._suffixes),
                compact=True,
            )
            yield Static(id="path-note", markup=False)

    def on_mount(self) -> None:
        """Type at once."""
        self.query_one("#path-note").display = False
        self.query_one(Input).focus()

    def action_complete(self) -> None:
        """Take the completion."""
        self.query_one(Input).action_cursor_right()

    def action_dismiss_empty(self) -> None:
        """Name no file."""
        self.dismiss(None)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        text = event.value.strip()
        if not text:
            self._tell("type the path of a file")
            return
        path = Path(text).expanduser()
        if self._is_saving:
            if not path.suffix and path.name:
                path = path.with_name(path.name + self._suffixes[0])
            try:
                self._check(path)
            except UserError as error:
                self._tell(str(error))
                return
            if path.exists() and text != self._asked_for:
                self._asked_for = text
                self._tell(f"{path} exists; enter again replaces it")
                return
        self.dismiss(path)

    def _check(self, path: Path) -> None:
        if path.suffix.lower() not in self._suffixes and not path.is_dir():
            raise UserError(f"the ending must be {join_words(self._suffixes)}, not {path.suffix}")
        check_output_file(path, may_replace=True)
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is not a regular file; name another")

    def _tell(self, text: str) -> None:
        note = self.query_one("#path-note", Static)
        note.update(Content.styled(text, "$warning"))
        note.display = True
