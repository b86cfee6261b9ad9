"""The line that names the panes where there is room for only one of them."""

from typing import ClassVar

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widget import Widget


class PaneTabs(Widget):
    """One line: all panes, the shown one marked; a click shows another.

    Args:
        panes: Name and title of each, in order.
    """

    DEFAULT_CSS: ClassVar[str] = """
    PaneTabs { height: 1; padding: 0 1; }
    """

    class Chosen(Message):
        """A pane was clicked."""

        def __init__(self, pane: str) -> None:
            super().__init__()
            self.pane = pane

    def __init__(self) -> None:
        super().__init__()
        self._panes: tuple[tuple[str, str], ...] = ()
        self._shown = ""
        self._is_focused = False

    def show(self, panes: tuple[tuple[str, str], ...], shown: str, *, is_focused: bool) -> None:
        """Name other panes, mark another one, or tell whether the arrows move in it."""
        if (panes, shown, is_focused) != (self._panes, self._shown, self._is_focused):
            self._panes, self._shown, self._is_focused = panes, shown, is_focused
            self.refresh()

    def render(self) -> Content:
        """The names in a rule."""
        rule = "─"
        parts = [Content.styled(rule, "$border-blurred")]
        for name, title in self._panes:
            chosen = "bold $accent" if self._is_focused else "bold $foreground"
            style = chosen if name == self._shown else "$text-muted"
            mark = f"[{title}]" if name == self._shown else f" {title} "
            parts.append(Content.styled(mark, style))
        line = Content("").join(parts)
        room = self.content_size.width - len(line)
        hint = " tab "
        if room > len(hint) + 1:
            line = line + Content.styled(rule * (room - len(hint) - 1), "$border-blurred")
            line = line + Content.styled(hint, "$text-muted")
            line = line + Content.styled(rule, "$border-blurred")
        return line

    def on_click(self, event: events.Click) -> None:
        """Show the pane under the pointer."""
        offset = event.get_content_offset(self)
        start = 1
        for name, title in self._panes:
            if offset is not None and start <= offset.x < start + len(title) + 2:
                self.post_message(self.Chosen(name))
            start += len(title) + 2
