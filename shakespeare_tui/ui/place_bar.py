"""The line that names the five places and marks the present one."""

from typing import ClassVar

from textual import events
from textual.content import Content
from textual.widget import Widget

PLACES = ("data", "config", "train", "playground", "checkpoints")
_NAME = "shakespeare-tui "


class PlaceBar(Widget):
    """One line: ``1 Data  2 Config …``; a click goes there.

    Args:
        place: The present place.
    """

    DEFAULT_CSS: ClassVar[str] = """
    PlaceBar {
        height: 1;
        dock: top;
        background: $panel;
    }
    """

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place
        self._spans: list[tuple[int, int, str]] = []

    def render(self) -> Content:
        """All places, the present one marked; the program's name where there is room."""
        self._spans = []
        parts: list[Content] = []
        start = 0
        for number, place in enumerate(PLACES, start=1):
            is_here = place == self._place
            text = f" {number} {place.title()} "
            style = "bold $background on $accent" if is_here else "$text-muted"
            parts.append(Content.styled(text, style))
            self._spans.append((start, start + len(text), place))
            start += len(text)
        room = self.size.width - start
        if room > len(_NAME):
            parts.append(Content.styled(_NAME.rjust(room), "$text-muted"))
        return Content("").join(parts)

    async def on_click(self, event: events.Click) -> None:
        """Go to the place under the pointer."""
        for start, end, place in self._spans:
            if start <= event.x < end:
                await self.run_action(f"app.show_place({place!r})")
