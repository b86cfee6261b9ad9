"""The text fields of the Config screen."""

from collections.abc import Callable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input


class OrderedInput(Input):
    """A text field that obeys keys in the order in which they are typed.

    Keys with a binding are otherwise obeyed later than letters, as they travel up to the app
    first: after a moment of load, a backspace would delete what was typed after it.
    """

    async def on_key(self, event: events.Key) -> None:
        active = None if event.is_printable else self.screen.active_bindings.get(event.key)
        if active is not None and active.node is self:
            event.stop()
            event.prevent_default()
            await self.run_action(active.binding.action)


class ValueInput(OrderedInput):
    """The field in which a value is typed, laid over its row; not displayed when nothing is.

    Args:
        leave: Called when typing is over, with whether to keep what was typed and by how many rows
            to move on.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave(False, 0)", "Cancel", id="config.cancel"),
        Binding("enter", "leave(True, 0)", "Done", id="config.done"),
        Binding("down,tab", "leave(True, 1)", "Done, next", show=False, id="config.done_down"),
        Binding(
            "up,shift+tab", "leave(True, -1)", "Done, previous", show=False, id="config.done_up"
        ),
    ]

    def __init__(self, leave: Callable[[bool, int], None], *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, compact=True)
        self._leave = leave

    async def on_key(self, event: events.Key) -> None:
        """Pass on what was typed before the focus had moved to the rows."""
        if not self.display:
            event.stop()
            event.prevent_default()
            self.app.post_message(events.Key(event.key, event.character))

    def action_leave(self, keep: bool, then: int) -> None:
        """End typing."""
        self._leave(keep, then)

    def on_blur(self) -> None:
        """A click elsewhere keeps what was typed."""
        if self.display:
            self._leave(True, 0)


class FilterInput(OrderedInput):
    """The field in which a filter is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear", "Show all", id="config.show_all"),
        Binding("enter,down,tab", "done", "To the rows", id="config.to_rows"),
    ]

    class Done(Message):
        """The focus goes to the rows."""

    def action_clear(self) -> None:
        """Show all rows."""
        self.value = ""
        self.post_message(self.Done())

    def action_done(self) -> None:
        """Keep the filter."""
        self.post_message(self.Done())
