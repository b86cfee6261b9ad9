"""The ways out of the lab: by key, by Ctrl+C, by signal; a run at work is saved first."""

import time
from typing import TYPE_CHECKING, ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Static

from shakespeare_tui.formatting import format_duration
from shakespeare_tui.ui.engine.training import TrainingController
from shakespeare_tui.ui.lab_screen import Dialog

if TYPE_CHECKING:
    from shakespeare_tui.ui.app import LabApp

Leave = Literal["stay", "leave", "abandon"]
_POLLS_A_SECOND = 10
_PATIENCE_SECONDS = 15.0


class LeaveDialog(Dialog[Leave]):
    """Save and stop, or stay; while saving, a way out that loses what is not saved.

    Args:
        training: The trainer at work.
    """

    DEFAULT_CSS: ClassVar[str] = """
    LeaveDialog {
        align: center middle;
        background: $background 60%;
    }
    LeaveDialog > Vertical {
        width: 64;
        max-width: 100%;
        height: auto;
        padding: 1 2;
        background: $surface;
        border: round $border;
    }
    LeaveDialog Static { height: auto; }
    LeaveDialog Horizontal { height: auto; margin-top: 1; align-horizontal: right; }
    LeaveDialog Button { margin-left: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s,y,enter", "stop", "Save and stop", id="leave.stop"),
        Binding("escape,n,q", "stay", "Keep training", id="leave.stay"),
        Binding("ctrl+c", "hurry", "Quit now", show=False, id="leave.hurry"),
        Binding("x", "abandon", "Quit without saving", show=False, id="leave.abandon"),
        Binding("left,right", "app.focus_next", "Switch", show=False, id="leave.other"),
    ]

    def __init__(self, training: TrainingController) -> None:
        super().__init__()
        self._training = training
        self._asked_at = 0.0

    def compose(self) -> ComposeResult:
        with Vertical() as frame:
            frame.border_title = "Quit"
            yield Static(self._question(), id="question", markup=False)
            with Horizontal():
                yield Button("Keep training (esc)", id="stay", compact=True)
                yield Button("Save and stop (s)", id="stop", variant="primary", compact=True)

    def _question(self) -> str:
        return (
            f"{self._training.run_name or 'A run'} is being trained.\n"
            "Stopping saves a checkpoint; the run continues exactly there when it is resumed."
        )

    def on_mount(self) -> None:
        """Watch the trainer; it may end by itself before there is an answer."""
        self.set_interval(1 / _POLLS_A_SECOND, self._poll)
        self.query_one("#stop").focus()

    def _poll(self) -> None:
        if not self._training.is_alive:
            self.dismiss("leave" if self._asked_at else "stay")
            return
        if not self._asked_at:
            return
        waited = time.monotonic() - self._asked_at
        text = f"Saving {self._training.run_name or 'the run'} … {format_duration(waited)}"
        if waited > _PATIENCE_SECONDS:
            text += (
                "\nThe trainer is still busy with its current step. x quits at once: "
                "progress since the last checkpoint is lost, but the run can be resumed."
            )
        self.query_one("#question", Static).update(text)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "stop":
            self.action_stop()
        else:
            self.action_stay()

    def action_stop(self) -> None:
        """Ask the trainer to save and stop; the dialog closes when it has."""
        if self._asked_at:
            return
        self._asked_at = time.monotonic()
        self.query_one(Horizontal).display = False
        self._training.ask_to_stop()
        self._poll()

    def action_stay(self) -> None:
        """Keep training; too late once the trainer was told to stop."""
        if not self._asked_at:
            self.dismiss("stay")

    def action_hurry(self) -> None:
        """Ctrl+C: save and stop the first time, give up waiting the second."""
        if self._asked_at:
            self.action_abandon()
        else:
            self.action_stop()

    def action_abandon(self) -> None:
        """Leave without waiting for the checkpoint."""
        if self._asked_at:
            self.dismiss("abandon")


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
        self._app.exit(code)
