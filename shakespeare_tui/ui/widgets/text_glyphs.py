"""How characters of any text are shown in terminal cells, and how lines of them are wrapped."""

from bisect import bisect_right
from itertools import accumulate

from rich.cells import cell_len, get_character_cell_size, set_cell_size

from shakespeare_tui.visible_text import visible

_CONTROL_PICTURES = 0x2400
_FIRST_PRINTABLE = 0x20
_UNKNOWN = "�"
_TAB = "→"
_NEWLINE = "↵"
_SIGNS = {" ": "␣", "\n": _NEWLINE, "\t": _TAB}
_ASCII_SIGNS = {" ": "_", "\n": "$", "\t": ">"}
_VARIATION_SELECTORS = range(0xFE00, 0xFE10)


def glyph(character: str) -> str:
    """What stands for a character on the screen; the newline has a sign of its own.

    Nothing that it returns steers the terminal or changes the direction of writing.
    """
    if character == "\n":
        return _NEWLINE
    if character == "\t":
        return _TAB
    code = ord(character)
    if code < _FIRST_PRINTABLE:
        return chr(_CONTROL_PICTURES + code)
    if not character.isprintable() and character != "\u00a0":
        return _UNKNOWN
    # Terminals disagree about the width of what these select.
    return "" if code in _VARIATION_SELECTORS else character


def sign(character: str, is_ascii: bool) -> str:
    """What stands for a character where every one must be seen, spaces too."""
    known = _ASCII_SIGNS if is_ascii else _SIGNS
    return known.get(character) or glyph(character)


def signs(text: str, is_ascii: bool) -> str:
    """What stands for a text of which every character must be seen."""
    return "".join(sign(character, is_ascii) for character in text)


def glyphs(text: str) -> str:
    """The text without newlines, as it is shown."""
    plain = text.removesuffix("\n")
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(map(glyph, plain.replace("\n", "")))


def fitted(text: str, width: int, *, is_right: bool = False) -> str:
    """``text`` in exactly ``width`` cells, with a sign where it was cut off."""
    if width <= 0:
        return ""
    text = visible(text)
    size = cell_len(text)
    if size > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - size) + text if is_right else text + " " * (width - size)


def cell_widths(text: str) -> list[int]:
    """Cells that each character of a line takes; a newline takes none."""
    return [
        0 if character == "\n" else sum(map(get_character_cell_size, glyph(character)))
        for character in text
    ]


def wrap(text: str, width: int) -> list[tuple[int, int]]:
    """Where a line is broken to fit into ``width`` cells: spans that together cover it.

    Lines break after a space where there is one. An empty line is one empty span.
    """
    n = len(text)
    plain = text.removesuffix("\n")
    if len(plain) <= width and plain.isascii() and plain.isprintable():
        return [(0, n)]
    is_simple = plain.isascii() and plain.isprintable()
    ends = range(1, n + 1) if is_simple else list(accumulate(cell_widths(text)))
    spans: list[tuple[int, int]] = []
    start = 0
    while start < n:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, bisect_right(ends, before + width, start, n))
        if stop < n:
            stop = _break_place(text, start, stop)
        if plain[start:stop] or not spans:
            spans.append((start, stop))
        else:
            # The newline alone goes with the span before it.
            spans[-1] = (spans[-1][0], stop)
        start = stop
    return spans or [(0, 0)]


def _break_place(text: str, start: int, stop: int) -> int:
    """Where to break at or before ``stop``: behind a space, else at ``stop`` itself."""
    if text[stop] == " ":
        # Spaces may hang over the edge: nobody sees them.
        while stop < len(text) and text[stop] == " ":
            stop += 1
        return stop
    space = text.rfind(" ", start, stop)
    return space + 1 if space > start else stop
