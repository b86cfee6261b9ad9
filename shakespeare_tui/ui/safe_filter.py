"""The last word on everything that is painted: no character of it steers the terminal."""

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from shakespeare_tui.ui.widgets.text_glyphs import glyph
from shakespeare_tui.visible_text import is_harmless


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
