"""Take configs from files and from the user's editor, and save them."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

from textual.app import App, ComposeResult, SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.config.draft import ConfigDraft, Origin
from shakespeare_tui.config.load import ConfigError, load_config
from shakespeare_tui.config.write import config_to_yaml
from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.files import write_atomically, write_output_file
from shakespeare_tui.formatting import counted
from shakespeare_tui.ui.lab_screen import Dialog, LabScreen
from shakespeare_tui.ui.widgets.choice_dialog import FRAME
from shakespeare_tui.ui.widgets.path_dialog import PathDialog

_USUAL = ("notepad",) if sys.platform == "win32" else ("nano", "vim", "vi")


def editor_command() -> list[str]:
    """``$VISUAL``, else ``$EDITOR``, else an editor that is usually there.

    Raises:
        UserError: There is none.
    """
    for name in ("VISUAL", "EDITOR"):
        if given := os.environ.get(name, "").strip():
            try:
                return shlex.split(given, posix=sys.platform != "win32")
            except ValueError as error:
                raise UserError(f"${name} is {given!r}, which is no command: {error}") from None
    for name in _USUAL:
        if found := shutil.which(name):
            return [found]
    raise UserError("no editor found; set $EDITOR, or save the config (w) and edit the file")


def edit_file(app: App[Any], path: Path) -> str:
    """Open ``path`` in the editor and return what is there afterwards.

    The lab is suspended meanwhile; training goes on in its thread.

    Raises:
        UserError: There is no editor, it failed, or the terminal cannot be handed over.
    """
    command = editor_command()
    if shutil.which(command[0]) is None:
        raise UserError(f"the editor {command[0]} was not found; set $EDITOR to another")
    try:
        with app.suspend():
            failure = _run([*command, str(path)])
    except SuspendNotSupported:
        raise UserError(
            "this terminal cannot be handed to an editor; save the config (w), edit the file, and "
            "open it (o)"
        ) from None
    if failure:
        raise UserError(f"{command[0]} {failure}; the config is as it was")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read back: {error}") from None


def _run(command: list[str]) -> str:
    """Run the editor to its end; what went wrong, or nothing.

    Nothing may be raised here: the lab would not come back to the screen.
    """
    try:
        code = subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return "was interrupted"
    except OSError as error:
        return f"cannot be run ({error.strerror or error})"
    return f"ended with code {code}" if code else ""


Answer = Literal["again", "discard", "leave"]


class ProblemsDialog(Dialog[Answer]):
    """All that is wrong with a file, and what to do with it.

    Args:
        title: The file.
        text: A line a problem.
        can_edit: Offer to edit it again, or to discard it.
    """

    DEFAULT_CSS: ClassVar[str] = (
        FRAME.format(name="ProblemsDialog", width=84)
        + "ProblemsDialog VerticalScroll { height: auto; max-height: 16; }"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e,enter", "answer('again')", "Edit again", id="config.edit_again"),
        Binding("x", "answer('discard')", "Discard it", id="config.edit_discard"),
        Binding("escape,q", "answer('leave')", "Keep for later", id="config.problems_close"),
    ]

    def __init__(self, title: str, text: str, *, can_edit: bool) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._can_edit = can_edit

    def compose(self) -> ComposeResult:
        with Vertical() as frame:
            frame.border_title = Content(self._title)
            keys = "e edits it again · x discards it · esc keeps it for later"
            frame.border_subtitle = Content(keys if self._can_edit else "esc closes")
            with VerticalScroll():
                yield Static(Content.styled(self._text, "$error"), markup=False)

    def action_answer(self, answer: Answer) -> None:
        """Close."""
        self.dismiss(answer if self._can_edit else "leave")


class ConfigFiles:
    """The file commands of the Config screen.

    Args:
        screen: The screen, for dialogs and notices.
        draft: What they read and change.
        changed: Called after they changed it.
        edit_path: Where the text for the editor is kept; None takes a temporary folder.
    """

    def __init__(
        self,
        screen: LabScreen,
        draft: ConfigDraft,
        changed: Callable[[], None],
        edit_path: Path | None,
    ) -> None:
        self._screen = screen
        self._draft = draft
        self._changed = changed
        self._edit_path = edit_path

    # --- files ---------------------------------------------------------------------------------

    def ask_and_open(self) -> None:
        """Ask for a file and load it."""
        self._screen.app.push_screen(PathDialog("Open a config"), self.open)

    def open(self, path: Path | None) -> None:
        """Load a file as one step; its problems are shown, all of them."""
        if path is None:
            return
        try:
            config = load_config(path)
        except UserError as error:
            dialog = ProblemsDialog("The file has errors", str(error), can_edit=False)
            self._screen.app.push_screen(dialog)
            return
        self._draft.load(Origin("file", str(path), config, stem=path.stem))
        self._screen.lab.say(f"loaded {path}; u undoes this")
        self._changed()

    def ask_and_save(self) -> None:
        """Ask for a path and save the config there; it must be valid."""
        if self._draft.config is None:
            count = sum(map(len, self._draft.problems.values()))
            self._screen.lab.say(
                f"fix {counted(count, 'error')} first: n goes to the next one; the draft is kept",
                is_error=True,
            )
            return
        origin = self._draft.origin
        is_own = origin.kind == "file"
        name = origin.name if is_own else f"my-{origin.stem}.yaml"
        # Saving to the file that the config came from is what was asked for.
        dialog = PathDialog("Save as YAML", name, is_saving=True, replaces=name if is_own else None)
        self._screen.app.push_screen(dialog, self.save)

    def save(self, path: Path | None) -> None:
        """Write the config with comments; changes are measured against the file from then on."""
        config = self._draft.config
        if path is None or config is None:
            return
        try:
            write_output_file(path, config_to_yaml(config))
        except (UserError, RunFailedError) as error:
            self._screen.lab.say(str(error), is_error=True)
            return
        start_from = self._draft.origin.start_from
        self._draft.rebase(Origin("file", str(path), config, path.stem, start_from))
        self._screen.lab.say(f"saved {path}")
        self._changed()

    # --- the user's editor ---------------------------------------------------------------------

    def edit(self) -> None:
        """Open the draft in the editor; a text with mistakes that was kept comes first."""
        path = self._edit_path or Path(tempfile.mkdtemp(prefix="shakespeare-tui-")) / "config.yaml"
        self._edit_path = path
        try:
            if not path.exists():
                write_atomically(path, self._draft.to_yaml())
            text = edit_file(self._screen.app, path)
        except UserError as error:
            self._screen.lab.say(str(error), is_error=True)
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            self._screen.lab.say(f"{path} cannot be written: {error.strerror}", is_error=True)
            return
        self.take_edited(text)

    def take_edited(self, text: str) -> None:
        """Take what came from the editor as one step, or show all that is wrong with it."""
        try:
            is_changed = self._draft.load_yaml(text, "your edit")
        except ConfigError as error:
            dialog = ProblemsDialog("Your edit has errors", str(error), can_edit=True)
            self._screen.app.push_screen(dialog, self._answered)
            return
        self._forget_edited()
        if is_changed:
            self._screen.lab.say("took your edit; u undoes this")
            self._changed()

    def _answered(self, answer: Answer | None) -> None:
        if answer == "again":
            self._screen.call_after_refresh(self.edit)
        elif answer == "discard":
            self._forget_edited()
        else:
            self._screen.lab.say("your text is kept; e edits it again")

    def _forget_edited(self) -> None:
        if self._edit_path is not None:
            self._edit_path.unlink(missing_ok=True)
