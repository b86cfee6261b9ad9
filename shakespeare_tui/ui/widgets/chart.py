"""What all charts share: a picture that is drawn once and shown until something changes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.filter import ANSIToTruecolor, DimFilter, LineFilter
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    from shakespeare_tui.ui.widgets.plot import Canvas


class Chart(Widget):
    """A widget that shows a canvas; subclasses override ``draw``."""

    _strips: list[Strip] | None = None

    def draw(self) -> "Canvas":
        """The picture, as large as the widget."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw anew at the next refresh of the screen."""
        self.forget()
        self.refresh()

    def forget(self) -> None:
        """Let go of what was drawn."""
        self._strips = None

    def render_line(self, y: int) -> Strip:
        """A line of the picture, which is drawn only when something changed."""
        if self._strips is None:
            style = self.rich_style
            self._strips = [strip.apply_style(style) for strip in self.draw().strips()]
        if y >= len(self._strips):
            return Strip.blank(self.size.width, self.rich_style)
        return self._strips[y]

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Leave out Textual's filters of colours that no chart has: they go over every cell."""
        needless = (ANSIToTruecolor, DimFilter)
        return [f for f in super().get_line_filters() if not isinstance(f, needless)]

    def notify_style_update(self) -> None:
        """Colours changed."""
        super().notify_style_update()
        self.forget()

    def on_resize(self) -> None:
        """Another size needs another picture; the one so far may be on the screen already."""
        self.redraw()
