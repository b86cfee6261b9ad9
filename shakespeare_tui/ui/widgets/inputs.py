"""What text fields share."""

from textual import events
from textual.widgets import Input


class OrderedInput(Input):
    """A text field that obeys keys in the order in which they are typed.

    Keys with a binding are otherwise obeyed later than letters, as they travel up to the app
    first: after a moment of load, a backspace would delete what was typed after it. A key that has
    no use here, such as one that scrolls, is left to the dialog around.
    """

    async def on_key(self, event: events.Key) -> None:
        active = None if event.is_printable else self.screen.active_bindings.get(event.key)
        if active is None or active.node is not self:
            return
        if await self.app.run_action(active.binding.action, self):
            event.stop()
            event.prevent_default()
