"""What text fields share."""

from textual import events
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
