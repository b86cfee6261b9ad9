"""ASCII mode: every character that reaches the terminal is one that any terminal has."""

import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

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
