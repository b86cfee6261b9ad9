"""Screens that close once: a second click or key that was on its way closes nothing else."""

from typing import Any

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, Screen, ScreenResultType


def is_on_top(screen: Screen[Any]) -> bool:
    """Whether ``dismiss`` would take away this very screen.

    Textual takes away whichever is on top: after a double click, the one below.
    """
    return screen.app.screen_stack[-1] is screen


def nothing_to_await() -> AwaitComplete:
    """What ``dismiss`` returns where there is nothing to close."""
    return AwaitComplete.nothing()  # type: ignore[no-any-return, no-untyped-call]


class Dialog(ModalScreen[ScreenResultType]):
    """Base of the dialogs."""

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Close with a result; nothing happens where it is closed already."""
        return super().dismiss(result) if is_on_top(self) else nothing_to_await()
