"""The line that names the panes where there is room for only one of them."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget


class PaneTabs(Widget):
    """One line: all panes, the shown one marked; a click shows another.

    Args:
        keys: The keys that walk along it.
    """

    DEFAULT_CSS: ClassVar[str] = """
    PaneTabs { height: 1; padding: 0 1; }
    """

    class Chosen(Message):
        """A pane was clicked."""

        def __init__(self, pane: str) -> None:
            super().__init__()
            self.pane = pane

    def __init__(self, keys: str = "tab") -> None:
        super().__init__()
        self._hint = f" {keys} "
        self._panes: tuple[tuple[str, str], ...] = ()
        self._shown = ""
        self._is_focused = False
        self._spans: list[tuple[int, int, str]] = []

    def show(self, panes: tuple[tuple[str, str], ...], shown: str, *, is_focused: bool) -> None:
        """Name other panes, mark another one, or tell whether the arrows move in it."""
        if (panes, shown, is_focused) != (self._panes, self._shown, self._is_focused):
            self._panes, self._shown, self._is_focused = panes, shown, is_focused
            self.refresh()

    def render(self) -> Content:
        room = self.content_size.width
        parts, self._spans, column = [_rule(1)], [], 1
        for name, title in self._panes[self._first_shown(room) :]:
            chosen = "bold $accent" if self._is_focused else "bold $foreground"
            style = chosen if name == self._shown else "$text-muted"
            mark = f"[{title}]" if name == self._shown else f" {title} "
            parts.append(Content.styled(mark, style))
            self._spans.append((column, column + len(mark), name))
            column += len(mark)
        gap = room - column - len(self._hint) - 1
        if gap > 0:
            parts += [_rule(gap), Content.styled(self._hint, "$text-muted"), _rule(1)]
        return Content("").join(parts)

    def _first_shown(self, room: int) -> int:
        """The first name for which there is room with the shown one."""
        names = [name for name, _ in self._panes]
        last = names.index(self._shown) if self._shown in names else 0
        first = 0
        while first < last and _cells(self._panes[first : last + 1]) > room:
            first += 1
        return first

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        for start, end, name in self._spans:
            if offset is not None and start <= offset.x < end:
                self.post_message(self.Chosen(name))


def _cells(panes: Sequence[tuple[str, str]]) -> int:
    return 1 + sum(len(title) + 2 for _, title in panes)


def _rule(length: int) -> Content:
    return Content.styled("─" * length, "$border-blurred")
