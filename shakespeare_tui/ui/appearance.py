"""The lab's colours: four themes, and series colours that colour-blind eyes tell apart."""

from textual.theme import Theme

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
