"""The ways out of the lab: by key, by Ctrl+C, by signal; a run at work is saved first."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shakespeare_tui.ui.app import LabApp
    from shakespeare_tui.ui.leave import Leave

ABANDONED = 130
"""Exit code after leaving without waiting for the trainer, or by a signal."""

_SECOND_INTERRUPT_SECONDS = 3.0


class Leaving:
    """Decides whether and how the app ends.

    Args:
        app: The app.

    Attributes:
        is_given_up: Whether someone left without waiting for the trainer.
    """

    def __init__(self, app: "LabApp") -> None:
        self._app = app
        self._interrupted_at = -_SECOND_INTERRUPT_SECONDS
        self.is_given_up = False

    def ask(self) -> None:
        """Quit; with a trainer at work, ask, save, and only then. A start is cancelled unasked."""
        from shakespeare_tui.ui.leave import LeaveDialog

        training = self._app.services.training
        self._app.follow_training()
        if training.is_loading:
            training.ask_to_stop()
            self._exit(0)
        elif not training.is_alive:
            self._exit(0)
        elif not isinstance(self._app.screen, LeaveDialog):
            self._app.push_screen(LeaveDialog(self._app.services.training), self._answered)

    def _answered(self, answer: "Leave | None") -> None:
        if answer == "leave":
            self._exit(0)
        elif answer == "abandon":
            self.is_given_up = True
            self._exit(ABANDONED)

    def interrupt(self) -> None:
        """Ctrl+C: as ``ask`` where a run is at work or something loads; else it takes two."""
        now = time.monotonic()
        if self._app.services.training.is_alive or self._app.is_loading:
            self.ask()
        elif now - self._interrupted_at < _SECOND_INTERRUPT_SECONDS:
            self._exit(0)
        else:
            self._interrupted_at = now
            self._app.say("q quits, and so does Ctrl+C once more")

    def leave_now(self) -> None:
        """The process was told to end: the trainer saves, and whoever runs the app waits for it."""
        self._app.services.training.ask_to_stop("interrupted")
        self._exit(ABANDONED)

    def _exit(self, code: int) -> None:
        # Work for screens that are about to go would only fail on them.
        self._app.workers.cancel_all()
        self._app.exit(code)
