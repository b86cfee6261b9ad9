"""The command palette: every screen, every action of the present one, themes and the rest."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.app import SystemCommand
from textual.await_complete import AwaitComplete
from textual.command import CommandPalette, SearchIcon
from textual.screen import Screen
from textual.theme import ThemeProvider
from textual.widgets import Input

from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.files import write_output_file
from shakespeare_tui.ui.lab_screen import SCREENS, LabScreen, is_on_top, nothing_to_await
from shakespeare_tui.ui.themes import THEME_TITLES

if TYPE_CHECKING:
    from shakespeare_tui.ui.app import LabApp


class LabPalette(CommandPalette):
    """Textual's palette with a plain mark instead of a picture."""

    def on_mount(self) -> None:
        for icon in self.query(SearchIcon):
            icon.icon = ">"

    def dismiss(self, result: None = None) -> AwaitComplete:
        """Close; nothing happens where it is closed already."""
        return super().dismiss(result) if is_on_top(self) else nothing_to_await()

    @on(Input.Changed)
    def _drop_after_closing(self, event: Input.Changed) -> None:
        """Search no more for what was typed just before the palette was closed.

        Textual would, and fail on the list that is gone.
        """
        if not self.is_current:
            event.prevent_default()


def commands(app: "LabApp", screen: Screen[object]) -> Iterable[SystemCommand]:
    """The palette's entries over ``screen``."""
    if isinstance(screen, LabScreen):
        yield from _actions(app, screen)
    for number, mode in enumerate(SCREENS, start=1):
        if mode != app.current_mode:
            yield SystemCommand(
                f"Go to {mode.title()}", f"Key {number}", lambda mode=mode: app.show_screen(mode)
            )
    for name, title in THEME_TITLES.items():
        if name != app.theme:
            yield SystemCommand(
                f"Theme: {title}",
                "Colour theme",
                lambda name=name: app.looks.choose_theme(name),
            )
    yield SystemCommand("Theme: more …", "All themes", lambda: choose_theme(app))
    yield SystemCommand(
        "ASCII characters: " + ("off" if app.ascii else "on"),
        "Use ASCII characters only",
        lambda: app.looks.choose_ascii(not app.ascii),
    )
    yield SystemCommand(
        "Write a key map",
        "Create keys.yaml, where every key can be changed",
        lambda: write_keymap(app),
    )
    yield SystemCommand(
        "Save a screenshot",
        "SVG, into the working folder",
        lambda: save_picture(app),
    )
    yield SystemCommand("Help", "Help and keys for this screen", app.action_show_help)
    yield SystemCommand("Quit", "A run in progress is saved first", app.action_leave)


def _actions(app: "LabApp", screen: LabScreen) -> Iterable[SystemCommand]:
    """Every live binding of the screen and of the widget that has the focus."""
    seen = set()
    for active in screen.active_bindings.values():
        binding = active.binding
        is_ours = type(active.node).__module__.startswith("shakespeare_tui.")
        if active.node is app or not is_ours or binding.system or not binding.description:
            continue
        if binding.action in seen or not active.enabled:
            continue
        seen.add(binding.action)
        yield SystemCommand(
            binding.description,
            f"Key {app.get_key_display(binding)}"
            + (f" · {binding.tooltip}" if binding.tooltip else ""),
            lambda action=binding.action, node=active.node: app.call_next(
                app.run_action, action, node
            ),
        )


def choose_theme(app: "LabApp") -> None:
    """Offer all themes there are."""
    palette = LabPalette(providers=[ThemeProvider], placeholder="Search for themes…")
    app.push_screen(palette)


def write_keymap(app: "LabApp") -> None:
    """Make ``keys.yaml`` with every action in it, and say where it is."""
    from shakespeare_tui.ui.keys import keymap_path, write_template

    path = keymap_path()
    try:
        is_new = write_template(path)
    except OSError as error:
        app.say(f"{path} cannot be written: {error}", is_error=True)
        return
    app.say(
        f"{'wrote' if is_new else 'there is already'} {path}; changes take effect at the next start"
    )


def save_picture(app: "LabApp") -> None:
    """Write what the screen shows as an SVG file into the working folder."""

    def save() -> None:
        path = Path(time.strftime("shakespeare-tui-%Y%m%d-%H%M%S.svg"))
        try:
            write_output_file(path, app.export_screenshot())
        except (UserError, RunFailedError) as error:
            app.say(str(error), is_error=True)
        else:
            app.say(f"wrote {path}")

    # The palette must be gone from the picture.
    app.set_timer(0.1, save)
