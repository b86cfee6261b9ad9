"""Paths completed as they are typed, and a dialog that asks for the path of a file."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
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
from shakespeare_tui.ui.lab_screen import Dialog
from shakespeare_tui.ui.widgets.choice_dialog import FRAME
from shakespeare_tui.ui.widgets.inputs import OrderedInput

_MOST_SUGGESTIONS = 200


@dataclass(frozen=True)
class PathSuggestion:
    """A path that what was typed may become."""

    text: str
    """As it would be typed; a folder ends with a separator."""
    is_folder: bool
    size_bytes: int | None = None
    """Of a file."""


def complete_path(typed: str, suffixes: tuple[str, ...]) -> tuple[PathSuggestion, ...]:
    """What there is whose path begins with ``typed``: folders, files with a suffix, other files.

    Upper and lower case are told apart only where that finds something. Hidden entries come only
    when a dot was typed. What cannot be read gives no suggestions.
    """
    folder_text, name = _split(typed)
    folder = Path(folder_text or ".").expanduser()
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if _is_wanted(entry.name, name)]
    except (OSError, ValueError, RuntimeError):
        return ()
    exact = [entry for entry in found if entry.name.startswith(name)]
    chosen = sorted(exact or found, key=lambda entry: _rank(entry, suffixes))
    return tuple(_suggest(folder_text, entry) for entry in chosen[:_MOST_SUGGESTIONS])


def common_start(typed: str, suggestions: Sequence[PathSuggestion]) -> str:
    """What all suggestions begin with, at least ``typed``."""
    if not suggestions:
        return typed
    start = os.path.commonprefix([suggestion.text for suggestion in suggestions])
    return start if len(start) >= len(typed) else typed


def _split(typed: str) -> tuple[str, str]:
    """The folder, with its separator, and the beginning of a name."""
    if typed in ("~", "..", "."):
        return f"{typed}{os.sep}", ""
    cut = max(typed.rfind(separator) for separator in (os.sep, os.altsep or os.sep)) + 1
    return typed[:cut], typed[cut:]


def _is_wanted(entry_name: str, name: str) -> bool:
    if entry_name.startswith(".") and not name.startswith("."):
        return False
    return entry_name.lower().startswith(name.lower())


def _rank(entry: "os.DirEntry[str]", suffixes: tuple[str, ...]) -> tuple[int, str]:
    if _is_folder(entry):
        return (0, entry.name.lower())
    return (1 if entry.name.lower().endswith(suffixes) else 2, entry.name.lower())


def _suggest(folder_text: str, entry: "os.DirEntry[str]") -> PathSuggestion:
    if _is_folder(entry):
        return PathSuggestion(f"{folder_text}{entry.name}{os.sep}", True)
    try:
        size = entry.stat().st_size
    except OSError:
        size = None
    return PathSuggestion(f"{folder_text}{entry.name}", False, size)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


class PathSuggester(Suggester):
    """Completes paths as one types: the first entry in the folder that begins so."""

    def __init__(self, suffixes: tuple[str, ...]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._suffixes = suffixes

    async def get_suggestion(self, value: str) -> str | None:
        """The completed path, or None."""
        return await asyncio.to_thread(self._complete, value) if value else None

    def _complete(self, typed: str) -> str | None:
        first = min(
            (
                found.text
                for found in complete_path(typed, self._suffixes)
                if found.is_folder or found.text.endswith(self._suffixes)
            ),
            default=typed,
        )
        # Only what goes on from what is typed can be shown behind it.
        return first if first != typed and first.startswith(typed) else None


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
