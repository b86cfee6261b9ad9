"""What is said instead of a place for which the terminal has no room."""

from typing import ClassVar

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

LEAST_COLUMNS, LEAST_ROWS = 40, 12


class TooSmall(Widget):
    """Lies over the whole place while the terminal is smaller than the least size."""

    DEFAULT_CSS: ClassVar[str] = """
    TooSmall {
        layer: above;
        width: 100%;
        height: 100%;
        content-align: center middle;
        text-align: center;
        background: $background;
        display: none;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._size = Size()

    def fit(self, size: Size) -> None:
        """Lie over the place, or give it free, for a size of the terminal."""
        self._size = size
        self.display = size.width < LEAST_COLUMNS or size.height < LEAST_ROWS
        self.refresh()

    def render(self) -> Content:
        """How large the terminal is, and how large it must be."""
        return Content(
            f"Terminal too small: {self._size.width}x{self._size.height}, "
            f"at least {LEAST_COLUMNS}x{LEAST_ROWS}"
        )
