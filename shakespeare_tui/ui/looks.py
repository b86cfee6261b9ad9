"""How the lab looks, and how its choices reach the disk: themes, ASCII mode, remembered values."""

from typing import TYPE_CHECKING

from shakespeare_tui.ui.appearance import THEMES
from shakespeare_tui.ui.safe_filter import SafeFilter
from shakespeare_tui.ui.settings import DEFAULT_THEME, Settings

if TYPE_CHECKING:
    from textual.filter import LineFilter

    from shakespeare_tui.ui.app import LabApp

_SAVE_AFTER_SECONDS = 1.0


class Looks:
    """Applies the settings to the app and the app's choices to the settings.

    Args:
        app: The app, constructed but not running yet.
        settings: Remembered choices.

    Attributes:
        is_ascii: Whether only ASCII characters are drawn.
        filters: What everything drawn goes through, besides Textual's own filters.
    """

    def __init__(self, app: "LabApp", settings: Settings) -> None:
        self.is_ascii = False
        self._app = app
        self._settings = settings
        self._is_save_pending = False
        self.filters: list[LineFilter] = []
        for theme in THEMES:
            app.register_theme(theme)
        is_known = settings.theme in app.available_themes
        app.theme = settings.theme if is_known else DEFAULT_THEME
        self.use_ascii(settings.ascii)

    def follow(self) -> None:
        """Remember themes chosen from now on, by whatever way."""
        self._app.theme_changed_signal.subscribe(self._app, lambda _: self._theme_changed())

    def _theme_changed(self) -> None:
        if self._settings.theme != self._app.theme:
            self._settings.theme, self._settings.is_changed = self._app.theme, True
            self.save_later()

    def choose_theme(self, name: str) -> None:
        """Take a theme by name and remember it."""
        self._app.theme = name

    def choose_ascii(self, is_ascii: bool) -> None:
        """Draw with ASCII characters only, or with all, and remember it."""
        self._settings.ascii, self._settings.is_changed = is_ascii, True
        self.use_ascii(is_ascii)
        self.save_later()
        for mode in self._app.MODES:
            if mode in self._app.shown_modes:
                for screen in self._app.get_screen_stack(mode):
                    for widget in (screen, *screen.walk_children()):
                        widget.refresh(layout=True)

    def use_ascii(self, is_ascii: bool) -> None:
        """Draw with ASCII characters only, or with all, without remembering it."""
        self.is_ascii = is_ascii
        self.filters[:] = [SafeFilter()]
        if is_ascii:
            from shakespeare_tui.ui.ascii_filter import AsciiFilter

            self.filters.append(AsciiFilter())
        self._app.set_class(is_ascii, "-ascii")

    def save_later(self) -> None:
        """Write the settings soon: several changes in a row are written once."""
        if not self._is_save_pending:
            self._is_save_pending = True
            self._app.set_timer(_SAVE_AFTER_SECONDS, self.save)

    def save(self) -> None:
        """Write the settings now, if anything changed; a failure is told once."""
        self._is_save_pending = False
        try:
            self._settings.save()
        except OSError as error:
            self._settings.is_changed = False
            self._app.say(f"the settings cannot be saved: {error}", is_error=True)
