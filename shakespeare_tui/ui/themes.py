"""How the lab looks: themes, series colours that colour-blind eyes tell apart, ASCII only."""

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from shakespeare_tui.ui.settings import DEFAULT_THEME, Settings
from shakespeare_tui.ui.widgets.text_glyphs import glyph
from shakespeare_tui.visible_text import is_harmless

if TYPE_CHECKING:
    from shakespeare_tui.ui.app import LabApp

DARK, LIGHT, CONTRAST, CONTRAST_LIGHT = (
    "lab-dark",
    "lab-light",
    "lab-contrast",
    "lab-contrast-light",
)


def _theme(
    name: str, *, dark: bool, accent: str, accent_text: str, base: tuple[str, ...], **roles: str
) -> Theme:
    background, surface, panel, foreground = base
    return Theme(
        name=name,
        dark=dark,
        primary=accent,
        secondary=accent,
        accent=accent,
        foreground=foreground,
        background=background,
        surface=surface,
        panel=panel,
        success=roles["success"],
        warning=roles["warning"],
        error=roles["error"],
        variables={
            "foreground-muted": roles["muted"],
            "text-muted": roles["muted"],
            "border": accent,
            "border-blurred": roles["rule"],
            "button-color-foreground": accent_text,
            "block-cursor-background": roles["cursor"],
            "block-cursor-foreground": foreground,
            "block-cursor-text-style": "none",
            "block-cursor-blurred-background": roles["resting_cursor"],
            "block-cursor-blurred-foreground": foreground,
            "input-cursor-background": foreground,
            "input-cursor-foreground": background,
            "input-selection-background": f"{accent} 35%",
            "scrollbar": roles["rule"],
            "scrollbar-hover": roles["muted"],
            "scrollbar-active": accent,
            "scrollbar-background": background,
            "scrollbar-background-hover": background,
            "scrollbar-background-active": background,
            "scrollbar-corner-color": background,
        },
    )


THEMES = (
    _theme(
        DARK,
        dark=True,
        accent="#7cb7ff",
        accent_text="#0d1117",
        base=("#12151b", "#171b22", "#1e232c", "#d6dae1"),
        success="#6cc28a",
        warning="#e0a84e",
        error="#f07178",
        muted="#8b95a5",
        rule="#343c49",
        cursor="#1b2b40",
        resting_cursor="#252b35",
    ),
    _theme(
        LIGHT,
        dark=False,
        accent="#1259b0",
        accent_text="#ffffff",
        base=("#fbfaf7", "#f4f2ed", "#eae7df", "#23272e"),
        success="#1a7242",
        warning="#8a5300",
        error="#b3261e",
        muted="#5c6470",
        rule="#c9c5ba",
        cursor="#dce8f8",
        resting_cursor="#e8e5dc",
    ),
    _theme(
        CONTRAST,
        dark=True,
        accent="#ffe066",
        accent_text="#000000",
        base=("#000000", "#000000", "#1c1c1c", "#ffffff"),
        success="#5dff9b",
        warning="#ffc23d",
        error="#ff8f8f",
        muted="#d0d0d0",
        rule="#8f8f8f",
        cursor="#00407f",
        resting_cursor="#383838",
    ),
    _theme(
        CONTRAST_LIGHT,
        dark=False,
        accent="#003c8f",
        accent_text="#ffffff",
        base=("#ffffff", "#ffffff", "#ececec", "#000000"),
        success="#00471b",
        warning="#5a3600",
        error="#8a0000",
        muted="#303030",
        rule="#707070",
        cursor="#ffe480",
        resting_cursor="#d8d8d8",
    ),
)

THEME_TITLES = {
    DARK: "dark",
    LIGHT: "light",
    CONTRAST: "high contrast, dark",
    CONTRAST_LIGHT: "high contrast, light",
}

# Found by search: any two stay apart for eyes without red, green or blue cones, the first ones
# the furthest, and each keeps a contrast of 3 to its background (the tests say how that is known).
_SERIES_ON_DARK = ("#3b82e6", "#e69f00", "#a8eae6", "#bf4a68", "#e7df5b", "#e44c1b", "#a8a2ff")
_SERIES_ON_LIGHT = ("#4e83eb", "#d36f0b", "#143839", "#944089", "#4e5b00", "#440a09", "#5951bf")


def series_colors(theme: Theme) -> tuple[str, ...]:
    """Colours of chart series in order, readable on the theme's background, as ``#rrggbb``."""
    return _SERIES_ON_DARK if theme.dark else _SERIES_ON_LIGHT


HEAT_LEVELS = 13
"""Colours of a heat strip, from far too little by what is usual to far too much."""


def heat_colors(theme: Theme) -> tuple[str, ...]:
    """Colours of the levels: the middle is calm, and both ends differ also to colour-blind eyes."""
    low, high = (Color.parse(colour) for colour in series_colors(theme)[:2])
    foreground = Color.parse(theme.foreground or "white")
    middle = Color.parse(theme.panel or "black").blend(foreground, 0.1)
    half = HEAT_LEVELS // 2
    shades = [(low if n < 0 else high, abs(n) / half) for n in range(-half, half + 1)]
    return tuple(middle.blend(end, share).hex for end, share in shades)


class SafeFilter(LineFilter):
    """Shows control characters, and those that turn the direction of writing, as pictures.

    Widgets that lay out text of others make it visible themselves, so that it has the width that
    they reckon with; whatever they forget is caught here, with the line as wide as it was.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Replace the text of segments, their styles untouched."""
        if all(segment.text.isprintable() for segment in segments):
            return segments
        width = sum(cell_len(segment.text) for segment in segments)
        shown = [Segment(_shown(text), style, control) for text, style, control in segments]
        return Segment.adjust_line_length(shown, width)


def _shown(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if is_harmless(c) else glyph(c) for c in text)


_GROUPS = {
    "-": "─━┄┅┈┉╌╍╴╶╸╺╼╾═‐‑‒–—―−¯▔▁",
    "|": "│┃┆┇┊┋╎╏╵╷╹╻╽╿║▏▎▍▕▐▌┫┣",
    "+": "┌┐└┘├┤┬┴┼╭╮╰╯┏┓┗┛┳┻╋╔╗╚╝╠╣╦╩╬┍┎┑┒┕┖┙┚┝┞┟┠┡┢┥┦┧┨┩┪",
    "#": "█▇▆▅▓■▉▊▋▙▛▜▟",
    "=": "▄▃▂▀▚▞▬≡",
    ":": "▒⋮∶",
    ".": "░·…⋅∙‥▖▗",
    "'": "‘’‚‛′▘▝",
    '"': "“”„‟″",
    ">": "▶►▸»›→⟶❯≥➜",
    "<": "◀◄◂«‹←⟵❮≤⏎↵",
    "^": "▲▴△↑⌃⇑",
    "v": "▼▾▽↓⌄✓✔⇓",
    "*": "●◉•★☆∗✱",
    "o": "○◌◦◯",
    "x": "×✕✖✗✘",
    "~": "≈∼",
    "u": "µ",
    " ": "\u00a0\u2007\u2009\u202f⠀",
}
_TABLE = {character: plain for plain, group in _GROUPS.items() for character in group}


@lru_cache(4096)
def to_ascii(text: str) -> str:
    """``text`` in ASCII, as wide as before: letters lose accents, the rest turns to ?."""
    return text if text.isascii() else "".join(map(_plain, text))


@lru_cache(4096)
def _plain(character: str) -> str:
    if character.isascii():
        return character
    width = cell_len(character)
    plain = _TABLE.get(character)
    if plain is None and "\u2800" < character <= "\u28ff":
        plain = ":"  # Braille dots, which charts are drawn with
    if plain is None:
        base = unicodedata.normalize("NFKD", character)[:1]
        plain = base if base.isascii() else "?"
    return (plain + " " * width)[:width]


class AsciiFilter(LineFilter):
    """Replaces what is not ASCII in everything that is drawn, Textual's own widgets included."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Replace the text of segments, their styles untouched."""
        return [Segment(to_ascii(text), style, control) for text, style, control in segments]


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
