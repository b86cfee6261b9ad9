"""A text with a cursor, each character shaded by how the model saw it; shades show in style too."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from shakespeare_tui.ui.widgets.stream_text import StreamText
from shakespeare_tui.ui.widgets.text_glyphs import sign

LEVELS = 5
_LEAST_PROBABILITIES = (0.5, 0.2, 0.05, 0.01)
LEVEL_NAMES = ("≥50%", "≥20%", "≥5%", "≥1%", "<1%")
_LEAST_LOOKS = (0.02, 0.05, 0.1, 0.25)
LOOK_NAMES = ("<2%", "≥2%", "≥5%", "≥10%", "≥25%")
_SIGNED_FROM = 3


def surprise_levels(nats: npt.NDArray[np.floating]) -> list[int]:
    """A level from 0, expected, to 4, hardly thought possible; NaN is 0."""
    probabilities = np.exp(-np.nan_to_num(nats, nan=0.0))
    return [sum(p < least for least in _LEAST_PROBABILITIES) for p in probabilities]


def look_levels(weights: npt.NDArray[np.floating]) -> list[int]:
    """A level from 0, hardly looked at, to 4, a quarter of all attention or more."""
    return [sum(weight >= least for least in _LEAST_LOOKS) for weight in weights]


class ReadingText(StreamText):
    """The text of the surprise view; ``position`` is the character under the cursor."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "reading-text--level-0",
        "reading-text--level-1",
        "reading-text--level-2",
        "reading-text--level-3",
        "reading-text--level-4",
        "reading-text--cursor",
    }
    DEFAULT_CSS: ClassVar[str] = """
    ReadingText > .reading-text--level-0 { color: $text-muted; }
    ReadingText > .reading-text--level-1 { color: $foreground; }
    ReadingText > .reading-text--level-2 {
        color: $foreground; background: $warning 18%; text-style: bold;
    }
    ReadingText > .reading-text--level-3 {
        color: $foreground; background: $warning 40%; text-style: bold italic;
    }
    ReadingText > .reading-text--level-4 {
        color: $background; background: $error; text-style: bold;
    }
    ReadingText > .reading-text--cursor {
        color: $background; background: $accent; text-style: bold;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Back", show=False, id="reading.left"),
        Binding("right", "move(1)", "On", show=False, id="reading.right"),
        Binding("up", "move_lines(-1)", "Line up", show=False, id="reading.up"),
        Binding("down", "move_lines(1)", "Line down", show=False, id="reading.down"),
        Binding("pageup", "move_lines(-10)", "Ten lines up", show=False, id="reading.page_up"),
        Binding("pagedown", "move_lines(10)", "Ten down", show=False, id="reading.page_down"),
        Binding("home", "go_to(0)", "Beginning", show=False, id="reading.home"),
        Binding("end", "go_to(-1)", "End", show=False, id="reading.end"),
    ]

    class Moved(Message):
        """The cursor stands on another character."""

    def __init__(self) -> None:
        super().__init__()
        self.position = 0
        self._levels: Sequence[int] = ()

    def shade(self, levels: Sequence[int]) -> None:
        """Shade the characters; those beyond have no shade."""
        self._levels = levels
        self.refresh()

    def go_to(self, position: int) -> None:
        """Put the cursor on a character; the place behind the last is one too."""
        self.position = min(max(position, 0), len(self.text))
        self.keep_in_view(is_at_end=False)
        self.refresh()
        self.post_message(self.Moved())

    def keep_in_view(self, is_at_end: bool) -> None:
        """Keep the line of the cursor in view."""
        line = self.lines.line_of(self.position)
        height = max(1, self.scrollable_content_region.height)
        least, most = max(0, line - height + 1), line
        self._scroll_now(min(max(self.scroll_y, least), most))

    def parts_of(self, start: int, stop: int) -> list[tuple[str, ...]]:
        """Shade and cursor, besides what every text has."""
        parts = super().parts_of(start, stop)
        for place in range(start, stop):
            more: tuple[str, ...] = ()
            if place == self.position:
                more = ("cursor",)
            elif place < len(self._levels):
                more = (f"level-{self._levels[place]}",)
            kept = tuple(part for part in parts[place - start] if part == "copy" or not more)
            parts[place - start] = more + kept
        return parts

    def style_of(self, part: str) -> Style:
        """Shades and the cursor have a ground of their own."""
        if part not in ("cursor", *(f"level-{level}" for level in range(LEVELS))):
            return super().style_of(part)
        styles = self.get_component_styles(f"reading-text--{part}")
        ground = self.background_colors[1] + styles.background
        return styles.text_style + Style(
            color=(ground + styles.color).rich_color, bgcolor=ground.rich_color
        )

    def _segments(self, start: int, stop: int) -> list[Segment]:
        segments = super()._segments(start, stop)
        is_end = stop == len(self.text) and self.position == stop
        if is_end and self.lines.line_of(stop) == self.lines.line_of(start):
            segments.append(Segment(" ", self._style(("cursor",))))
        return segments

    def shown_character(self, character: str, parts: tuple[str, ...] = ()) -> str:
        """Blanks are seen where the cursor stands and where they surprise."""
        strong = ("cursor", *(f"level-{level}" for level in range(_SIGNED_FROM, LEVELS)))
        if character in " \n" and any(part in strong for part in parts):
            return sign(character, bool(getattr(self.app, "ascii", False)))
        return super().shown_character(character)

    # --- keys and mouse ------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        """Move along the text."""
        self.go_to(self.position + by)

    def action_move_lines(self, by: int) -> None:
        """Move by lines, in the same column as far as there is one."""
        line = self.lines.line_of(self.position)
        self.go_to(self.lines.position_at(line + by, self.lines.column_of(self.position)))

    def action_go_to(self, position: int) -> None:
        """Go to the beginning or, with -1, behind the end."""
        self.go_to(position if position >= 0 else len(self.text))

    def on_click(self, event: events.Click) -> None:
        """Go where one clicks."""
        offset = event.get_content_offset(self)
        if offset is not None and self.text:
            self.go_to(self.lines.position_at(offset.y + round(self.scroll_y), offset.x))
