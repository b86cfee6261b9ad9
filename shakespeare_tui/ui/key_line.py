"""The line that names the keys which do something here: the place's own, and those of the app."""

from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from textual import events
from textual.app import App
from textual.content import Content
from textual.widget import Widget

if TYPE_CHECKING:
    from textual.screen import Screen

    from shakespeare_tui.ui.place import LabScreen

_GAP = 2


class _Key(NamedTuple):
    """A key as it is shown, and the key that a click on it presses."""

    shown: str
    description: str
    key: str
    is_enabled: bool

    @property
    def width(self) -> int:
        return len(self.shown) + 1 + len(self.description)


class KeyLine(Widget):
    """One line of keys: those of the place on the left, those of the app on the right.

    Keys that find no room are left out from the end of the place's own; help lists them all. One
    widget that draws text, where Textual's footer mounts a widget a key each time the focus moves:
    that would be a third of the time a change of place takes.
    """

    DEFAULT_CSS: ClassVar[str] = """
    KeyLine {
        height: 1;
        padding: 0 1;
        background: $panel;
        text-wrap: nowrap;
        text-overflow: clip;
    }
    """
    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__()
        self._here: list[_Key] = []
        self._everywhere: list[_Key] = []
        self._spans: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        """Follow the screen's keys."""
        self.screen.bindings_updated_signal.subscribe(self, self._follow, immediate=True)

    def _follow(self, screen: "Screen[object]") -> None:
        here: dict[str, _Key] = {}
        everywhere: dict[str, _Key] = {}
        for node, binding, is_enabled, _ in screen.active_bindings.values():
            is_palette = binding.key == self.app.COMMAND_PALETTE_BINDING
            if not (binding.show or is_palette):
                continue
            key = _Key(
                self.app.get_key_display(binding), binding.description, binding.key, is_enabled
            )
            # Of several keys for one action, the first is shown.
            (everywhere if isinstance(node, App) else here).setdefault(binding.action, key)
        ranked = sorted(here, key=cast("LabScreen", screen).key_rank)
        found = [here[action] for action in ranked], list(everywhere.values())
        if found != (self._here, self._everywhere):
            self._here, self._everywhere = found
            self.refresh()

    def render(self) -> Content:
        """Both groups, as far as there is room."""
        width = self.content_size.width
        right = _line_width(self._everywhere)
        left: list[_Key] = []
        room = width - right - _GAP
        for key in self._here:
            if key.width > room:
                break
            left.append(key)
            room -= key.width + _GAP
        self._spans = []
        gap = max(0, width - right - _line_width(left))
        parts = [*self._parts(left, 0), Content(" " * gap)]
        return Content("").join([*parts, *self._parts(self._everywhere, width - right)])

    def _parts(self, keys: list[_Key], start: int) -> list[Content]:
        parts = []
        for index, key in enumerate(keys):
            if index:
                parts.append(Content(" " * _GAP))
                start += _GAP
            dim = "" if key.is_enabled else " dim"
            parts.append(Content.styled(key.shown, f"bold $accent{dim}"))
            parts.append(Content.styled(f" {key.description}", f"$text-muted{dim}"))
            self._spans.append((start, start + key.width, key.key))
            start += key.width
        return parts

    def on_click(self, event: events.Click) -> None:
        """Press the key under the pointer."""
        for start, end, key in self._spans:
            if start <= event.x - 1 < end:
                self.app.simulate_key(key)


def _line_width(keys: list[_Key]) -> int:
    return sum(key.width for key in keys) + _GAP * max(0, len(keys) - 1)
