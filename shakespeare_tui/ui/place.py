"""The frame that the five places share: place bar above, status line and keys below."""

from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widget import Widget

from shakespeare_tui.ui.closing import is_on_top, nothing_to_await
from shakespeare_tui.ui.key_line import KeyLine
from shakespeare_tui.ui.place_bar import PlaceBar
from shakespeare_tui.ui.status_line import StatusLine
from shakespeare_tui.ui.too_small import TooSmall

if TYPE_CHECKING:
    from shakespeare_tui.ui.app import LabApp


class LabScreen(Screen[None]):
    """Base of the places.

    Subclasses set ``PLACE`` and ``HELP``, override ``compose_body``, and may override
    ``on_training_changed`` and ``on_place_shown``.
    """

    PLACE: ClassVar[str] = ""
    """The mode's name: data, config, train, playground or checkpoints."""
    HELP: ClassVar[str] = ""
    """What one can do here, as plain text for ``?``; the keys are listed below it by themselves."""

    HORIZONTAL_BREAKPOINTS = [
        (0, "-narrow"),
        (110, "-wide"),
        (180, "-very-wide"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-short"), (34, "-tall")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave_field", "Unfocus", show=False, id="lab.leave_field"),
    ]

    def compose(self) -> ComposeResult:
        """The frame around the place's own widgets."""
        yield TooSmall()
        yield PlaceBar(self.PLACE)
        yield from self.compose_body()
        with Vertical(id="frame-foot"):
            yield StatusLine()
            yield KeyLine()

    def compose_body(self) -> ComposeResult:
        """The place's own widgets; they share the rows between place bar and status line."""
        yield from ()

    @property
    def lab(self) -> "LabApp":
        """The app, with its type."""
        from shakespeare_tui.ui.app import LabApp

        assert isinstance(self.app, LabApp)
        return self.app

    @property
    def is_loading(self) -> bool:
        """Whether the place waits for a checkpoint to be loaded."""
        return False

    def key_rank(self, action: str) -> int:
        """Where an action stands among the keys in the last line: the lowest first."""
        return 0

    def on_training_changed(self) -> None:
        """News from training; called on the place that is shown, at most ten times a second."""

    def on_place_shown(self) -> None:
        """The place came into view, also the first time."""

    def on_resize(self) -> None:
        """Say so where the terminal has no room for the place."""
        for note in self.query(TooSmall):
            note.fit(self.app.size)

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        """Bring the frame up to date before the place itself."""
        # Textual would match every rule with every widget again. What changed them while the place
        # was away, a theme for example, has done so already.
        event.refresh_styles = False
        # What a place then begins, reading files for example, is not to delay the first paint.
        if self.lab.is_painted:
            self.arrive()

    def arrive(self) -> None:
        """Bring everything up to date."""
        self.refresh_frame()
        self.on_place_shown()
        self.on_training_changed()

    def refresh_frame(self) -> None:
        """Redraw the status line if what it says changed."""
        for line in self.query(StatusLine):
            line.update_status()

    def dismiss(self, result: None = None) -> AwaitComplete:
        """Close a screen that lies over a place; nothing happens where it is closed already."""
        return super().dismiss(result) if is_on_top(self) else nothing_to_await()

    @property
    def home(self) -> Widget | None:
        """What the arrows move when nothing else has been chosen; None where nothing moves."""
        return None

    def action_leave_field(self) -> None:
        """Bring the focus home from wherever it is, so that single keys work again."""
        self.set_focus(self.home)
