"""The frame that all screens share: their names above, status line and keys below."""

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

from textual import events
from textual.app import App, ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.dom import DOMNode
from textual.geometry import Size
from textual.screen import ModalScreen, Screen, ScreenResultType
from textual.widget import Widget

from shakespeare_tui.formatting import format_duration, format_loss
from shakespeare_tui.runs.state import STATE_LOOKS, RunState
from shakespeare_tui.ui.engine.training import TrainingController

if TYPE_CHECKING:
    from shakespeare_tui.ui.app import LabApp


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


STATE_MARKS: dict[str, tuple[str, str]] = {
    **{
        state: (f"{sign} {state}", f"$text-{tone}" if tone == "muted" else f"${tone}")
        for state, (sign, tone) in STATE_LOOKS.items()
    },
    "starting": ("… starting", "$warning"),
    "stopping": ("▪ saving", "$warning"),
}
"""What a run, or the trainer of this process, is doing: its words and their style."""
_SEPARATOR = "   "


def state_content(state: RunState) -> Content:
    """A run's state in its colour."""
    return Content.styled(*STATE_MARKS[state])


def status_content(training: TrainingController) -> Content:
    """What training is doing: the run, its step, loss and time left; a hint where nothing runs."""
    if training.state == "idle":
        if training.elsewhere and not training.message:
            text = f"{training.elsewhere} is being trained by another process · ? for help"
            return Content.styled(text, "$text-muted")
        what = training.message or "no run in training"
        return Content.styled(f"{what} · 3 then s starts a run · ? for help", "$text-muted")
    mark, style = STATE_MARKS[training.shown_state]
    parts = [Content.styled(mark, style)]
    if training.run_name:
        parts.append(Content.styled(training.run_name, "bold"))
    if training.state == "starting":
        parts.append(Content.styled(_setup(training), "$text-muted"))
    elif training.state == "failed":
        parts.append(Content(" ".join(training.shown_message.split())))
    else:
        parts += [
            Content.assemble((label, "$text-muted"), (" " if label else ""), value)
            for label, value in _figures(training)
        ]
    return Content(_SEPARATOR).join(parts)


def _setup(training: TrainingController) -> str:
    step = training.setup
    if step is None:
        return "loading torch and the corpus"
    return step.what + (f" {step.done / step.total:.0%}" if step.total else "")


def _figures(training: TrainingController) -> list[tuple[str, str]]:
    from shakespeare_tui.runs.figures import run_figures

    figures = run_figures(training.history)
    total = f"/{figures.total_steps:,}" if figures.total_steps else ""
    found = [("step", f"{figures.step:,}{total}")]
    if figures.train_loss is not None:
        found.append(("train", format_loss(figures.train_loss)))
    if figures.val is not None:
        found.append(("val", figures.val.short))
    evaluating = training.history.evaluating
    if evaluating is not None:
        found.append(("measuring", f"{evaluating.done / max(1, evaluating.total):.0%}"))
    if figures.seconds_left is not None and training.state == "running":
        found.append(("left", format_duration(figures.seconds_left)))
    return found


class StatusLine(Widget):
    """One line: the run, its step, loss and time left; a hint where nothing runs."""

    DEFAULT_CSS: ClassVar[str] = """
    StatusLine {
        height: 1;
        padding: 0 1;
        background: $surface;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._line = Content("")

    def on_mount(self) -> None:
        """Say something from the first paint on."""
        self.update_status()

    def update_status(self) -> None:
        """Ask the app for the line and redraw if it is another one."""
        line = self.app.status_content()  # type: ignore[attr-defined]
        if line != self._line:
            self._line = line
            self.refresh()

    def render(self) -> Content:
        return self._line


SCREENS = ("data", "config", "train", "playground", "checkpoints", "experiments")
_NAME = "shakespeare-tui "


class ScreenBar(Widget):
    """One line: ``1 Data  2 Config …``; a click goes there.

    Args:
        mode: That of the present screen.
    """

    DEFAULT_CSS: ClassVar[str] = """
    ScreenBar {
        height: 1;
        dock: top;
        background: $panel;
    }
    """

    def __init__(self, mode: str) -> None:
        super().__init__()
        self._mode = mode
        self._spans: list[tuple[int, int, str]] = []

    def render(self) -> Content:
        """All screens, the present one marked; the program's name where there is room.

        Where there is none for all names, the others are numbers.
        """
        self._spans = []
        parts: list[Content] = []
        start = 0
        is_narrow = sum(len(mode) + 4 for mode in SCREENS) > self.size.width
        for number, mode in enumerate(SCREENS, start=1):
            is_here = mode == self._mode
            text = f" {number} {mode.title()} " if is_here or not is_narrow else f" {number} "
            style = "bold $background on $accent" if is_here else "$text-muted"
            parts.append(Content.styled(text, style))
            self._spans.append((start, start + len(text), mode))
            start += len(text)
        room = max(0, self.size.width - start)
        name = _NAME if room > len(_NAME) else ""
        parts.append(Content.styled(name.rjust(room), "$text-muted"))
        return Content("").join(parts)

    async def on_click(self, event: events.Click) -> None:
        for start, end, mode in self._spans:
            if start <= event.x < end:
                await self.run_action(f"app.show_screen({mode!r})")


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
    """One line of keys: those of the screen on the left, those of the app on the right.

    Keys that find no room are left out from the end of the screen's own; help lists them all. One
    widget that draws text, where Textual's footer mounts a widget a key each time the focus moves:
    that would be a third of the time a change of screen takes.
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
        for start, end, key in self._spans:
            if start <= event.x - 1 < end:
                self.app.simulate_key(key)


def _line_width(keys: list[_Key]) -> int:
    return sum(key.width for key in keys) + _GAP * max(0, len(keys) - 1)


LEAST_COLUMNS, LEAST_ROWS = 40, 12


class TooSmall(Widget):
    """Lies over the whole screen while the terminal is smaller than the least size."""

    DEFAULT_CSS: ClassVar[str] = """
    TooSmall {
        layer: above;
        width: 100%;
        height: 100%;
        content-align: center middle;
        text-align: center;
        background: $background;
        display: none;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._terminal = Size()

    def fit(self, size: Size) -> None:
        """Lie over the screen, or give it free, for a size of the terminal."""
        self._terminal = size
        self.display = size.width < LEAST_COLUMNS or size.height < LEAST_ROWS
        self.refresh()

    def render(self) -> Content:
        """How large the terminal is, and how large it must be."""
        return Content(
            f"Terminal too small: {self._terminal.width}x{self._terminal.height}, "
            f"at least {LEAST_COLUMNS}x{LEAST_ROWS}"
        )


def lab_of(node: DOMNode) -> "LabApp":
    """The app that a widget or a screen is in, with its type."""
    return cast("LabApp", node.app)


class LabScreen(Screen[None]):
    """Base of the lab's screens.

    Subclasses set ``MODE`` and ``HELP``, override ``compose_body``, and may override
    ``on_training_changed``, ``on_tick`` and ``on_screen_shown``.
    """

    MODE: ClassVar[str] = ""
    """The mode's name, one of ``SCREENS``."""
    HELP: ClassVar[str] = ""
    """What one can do here, as plain text for ``?``; the keys are listed below it by themselves."""
    KEEPS_FRAME: ClassVar[bool] = False
    """Whether it redraws the status line with figures of its own, which are to be at one step."""

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
        """The frame around the screen's own widgets."""
        yield TooSmall()
        yield ScreenBar(self.MODE)
        yield from self.compose_body()
        with Vertical(id="frame-foot"):
            yield StatusLine()
            yield KeyLine()

    def compose_body(self) -> ComposeResult:
        """The screen's own widgets, between the names above and the status line."""
        yield from ()

    @property
    def lab(self) -> "LabApp":
        """The app, with its type."""
        return lab_of(self)

    @property
    def is_loading(self) -> bool:
        """Whether the screen waits for a checkpoint to be loaded."""
        return False

    def key_rank(self, action: str) -> int:
        """Where an action stands among the keys in the last line: the lowest first."""
        return 0

    def on_training_changed(self) -> None:
        """News from training; called on the screen that is shown, before ``on_tick``."""

    def on_tick(self) -> None:
        """The lab's one clock, five times a second, on the screen that is shown."""

    def on_screen_shown(self) -> None:
        """The screen came into view, also the first time."""

    def on_resize(self) -> None:
        """Say so where the terminal has no room for the screen."""
        for note in self.query(TooSmall):
            note.fit(self.app.size)

    def on_screen_resume(self, event: events.ScreenResume) -> None:
        """Bring the frame up to date before the screen itself."""
        # Textual would match every rule with every widget again. What changed them while the screen
        # was away, a theme for example, has done so already.
        event.refresh_styles = False
        # What a screen then begins, reading files for example, is not to delay the first paint.
        if self.lab.is_painted:
            self.arrive()

    def arrive(self) -> None:
        """Bring everything up to date."""
        self.refresh_frame()
        self.on_screen_shown()
        self.on_training_changed()

    def refresh_frame(self) -> None:
        """Redraw the status line if what it says changed."""
        for line in self.query(StatusLine):
            line.update_status()

    def dismiss(self, result: None = None) -> AwaitComplete:
        """Close a screen that lies over another; nothing happens where it is closed already."""
        return super().dismiss(result) if is_on_top(self) else nothing_to_await()

    @property
    def home(self) -> Widget | None:
        """What the arrows move when nothing else has been chosen; None where nothing moves."""
        return None

    def action_leave_field(self) -> None:
        """Bring the focus home from wherever it is, so that single keys work again."""
        self.set_focus(self.home)
