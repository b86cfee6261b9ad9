"""Edit a text in the user's own editor while the lab steps aside."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

from shakespeare_tui.errors import UserError

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
