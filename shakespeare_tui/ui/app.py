"""The lab: six screens, the keys that lead to them, and one trainer that outlives them all."""

import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, cast

from textual import events
from textual.app import App, ScreenStackError, SystemCommand
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.driver import Driver
from textual.errors import NoWidget
from textual.filter import LineFilter
from textual.screen import Screen
from textual.types import AnimationLevel

from shakespeare_tui.errors import UserError
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.advice_in_keys import in_lab
from shakespeare_tui.ui.compat import forgiving_while_leaving
from shakespeare_tui.ui.engine.channel import Asked
from shakespeare_tui.ui.jobs import Job
from shakespeare_tui.ui.keys import load_keymap
from shakespeare_tui.ui.lab_screen import SCREENS, LabScreen, status_content
from shakespeare_tui.ui.quitting import Leaving
from shakespeare_tui.ui.services import Services
from shakespeare_tui.ui.settings import Settings
from shakespeare_tui.ui.terminal import TerminalGuard
from shakespeare_tui.ui.themes import Looks, series_colors
from shakespeare_tui.visible_text import LINES, visible

if TYPE_CHECKING:
    from pathlib import Path

    from shakespeare_tui.config.schema import Config
    from shakespeare_tui.experiments.folder import ExperimentFolder

_THRESHOLDS = (5_000, 20, 100)
"""Small collections take a millisecond. The last number is where a full one no longer waits."""

_PASSES_BEFORE_FULL = 5
"""Collections of the middle generation, each after 100,000 objects more, that make one due."""

_QUIET_SECONDS = 3.0


class QuietCollection:
    """Puts off full collections until no key has come for a while.

    Args:
        now: The time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._last_input = now()

    def note_input(self) -> None:
        """A key or the mouse: someone waits for a response, or soon will."""
        self._last_input = self._now()

    def collect_if_due(self) -> None:
        """Collect everything, if there may be enough of it and nobody is at the keys."""
        is_quiet = self._now() - self._last_input >= _QUIET_SECONDS
        if is_quiet and gc.get_count()[2] >= _PASSES_BEFORE_FULL:
            gc.collect()

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """Collect at quiet moments for the block's length."""
        before = gc.get_threshold()
        gc.set_threshold(*_THRESHOLDS)
        try:
            yield
        finally:
            gc.set_threshold(*before)


_TICKS_A_SECOND = 5
_TICKS_A_STATUS = 5
_PRELOAD_AFTER_SECONDS = 0.2
_SECONDS_BETWEEN_COLLECTIONS = 2.0


def _maker(mode: str) -> Callable[[], Screen[None]]:
    """Loads a screen's module when it is first shown: the first paint waits for one screen only."""

    def make() -> Screen[None]:
        import importlib

        module = importlib.import_module(f"shakespeare_tui.ui.{mode}.screen")
        return cast(Screen[None], getattr(module, f"{mode.title()}Screen")())

    return make


@forgiving_while_leaving
class LabApp(App[int]):
    """The interactive program; its result is the exit code.

    What screens may use: ``services``, ``settings.get``, ``remember``, ``series_colors``,
    ``ascii``, ``show_screen``, ``start_training``, ``open_run``, ``open_playground``,
    ``edit_config``, ``plan_experiment``, ``train_experiment``, ``copy`` and ``say``.

    Args:
        settings: Remembered choices.
        services: The trainer, the draft, the clock and the folders.
        start_mode: Of the screen to open.
        opening: Called once, after the first paint: start a run, open one.
        guard: Keeps other output off the terminal; None where there is no terminal.
    """

    TITLE = "shakespeare-tui"
    CSS_PATH = "lab.tcss"
    MODES = {mode: _maker(mode) for mode in SCREENS}
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(
                str(number),
                f"show_screen({mode!r})",
                mode.title(),
                show=False,
                id=f"app.{mode}",
            )
            for number, mode in enumerate(SCREENS, start=1)
        ),
        Binding("question_mark,f1", "show_help", "Help", key_display="?", id="app.help"),
        Binding("q", "leave", "Quit", id="app.quit"),
        Binding("ctrl+q", "leave", "Quit", show=False, priority=True, id="app.quit_anywhere"),
        Binding("ctrl+c", "interrupt", "Quit", show=False, system=True, id="app.interrupt"),
    ]
    start_animations: ClassVar[AnimationLevel] = "basic"

    def __init__(
        self,
        *,
        settings: Settings,
        services: Services,
        start_mode: str = "data",
        opening: "Callable[[LabApp], object] | None" = None,
        guard: TerminalGuard | None = None,
    ) -> None:
        # The app opens this mode's screen itself: another start would paint an empty one first.
        self.DEFAULT_MODE = start_mode  # type: ignore[misc]
        super().__init__()
        self.animation_level = self.start_animations
        self.settings = settings
        self.services = services
        self._opening = opening
        self._guard = guard or TerminalGuard()
        self._seen_changes = 0
        self._said = ""
        self._ticks = 0
        self.is_painted = False
        self._is_status_stale = False
        self.leaving = Leaving(self)
        self.looks = Looks(self, settings)
        self.collection = QuietCollection()

    # --- life ----------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Follow the trainer, and do after the first paint what need not come before it."""
        self.looks.follow()
        keymap = load_keymap()
        if keymap.keys:
            self.set_keymap(keymap.keys)
        problems = [problem for problem in (self.settings.problem, *keymap.problems) if problem]
        self.call_after_refresh(self._after_first_paint, keymap.keys, problems)

    def _after_first_paint(self, keys: dict[str, str], problems: list[str]) -> None:
        self.is_painted = True
        if isinstance(self.screen, LabScreen) and self.screen.is_mounted:
            self.screen.arrive()
        self.set_interval(1 / _TICKS_A_SECOND, self.follow_training)
        self.set_interval(_SECONDS_BETWEEN_COLLECTIONS, self.collection.collect_if_due)
        if self._opening is not None:
            self._opening(self)
        if self.services.preload:
            self.set_timer(_PRELOAD_AFTER_SECONDS, self._preload)
        if keys:
            from shakespeare_tui.ui.keys import check_keymap, known_bindings

            problems = problems + check_keymap(keys, known_bindings())
        for problem in problems:
            self.say(problem, is_error=True)

    def _preload(self) -> None:
        from shakespeare_tui.ui.engine.trainer_thread import preload

        # Not waited for: leaving meanwhile is possible at once.
        Job("preload", lambda job: preload(SCREENS))

    def on_unmount(self) -> None:
        self.looks.save()

    @contextlib.contextmanager
    def suspend(self) -> Iterator[None]:
        """Give the terminal to another program, an editor for example, for the block's length."""
        with super().suspend(), self._guard.opened():
            yield

    async def on_event(self, event: events.Event) -> None:
        """Whatever a person does puts off what would make them wait."""
        if isinstance(event, events.InputEvent):
            self.collection.note_input()
        if isinstance(event, events.MouseEvent) and self._hits_what_is_gone(event):
            return
        await super().on_event(event)

    def _hits_what_is_gone(self, event: events.MouseEvent) -> bool:
        """Whether the pointer is where a widget was until just now; Textual would fail there."""
        if event.is_forwarded or self.mouse_captured:
            return False
        try:
            widget, _ = self.get_widget_at(event.x, event.y)
        except (NoWidget, ScreenStackError):
            return False
        return not widget.is_attached

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Hold the cursor of text fields still: blinking costs power and distracts."""
        if getattr(event.widget, "cursor_blink", False):
            event.widget.cursor_blink = False  # type: ignore[attr-defined]

    def get_driver_class(self) -> type[Driver]:
        """The driver for this platform; where it is Textual's usual one, ours in its place."""
        usual = super().get_driver_class()
        if usual.__name__ != "LinuxDriver":
            return usual
        from shakespeare_tui.ui.terminal import PromptDriver

        return PromptDriver

    # --- training ------------------------------------------------------------------------------

    def follow_training(self) -> None:
        """The lab's one clock: take what the trainer sent, and let the screen shown follow."""
        training = self.services.training
        taken = training.drain()
        is_changed = training.changes != self._seen_changes
        self._ticks += 1
        self._is_status_stale |= bool(taken)
        screen = self._shown_screen()
        is_status_due = self._is_status_stale and self._ticks % _TICKS_A_STATUS == 0
        if screen and (is_changed or (is_status_due and not screen.KEEPS_FRAME)):
            screen.refresh_frame()
            self._is_status_stale = False
        if taken or is_changed:
            self._tell_news(screen)
        for ended in self.services.children.poll():
            self.say(ended.message, is_error=ended.is_error)
            if screen:
                screen.refresh_frame()
        if screen:
            screen.on_tick()

    def _tell_news(self, screen: LabScreen | None) -> None:
        training = self.services.training
        self._seen_changes = training.changes
        if training.message != self._said:
            self._said = training.message
            if self._said:
                self.say(training.shown_message, is_error=training.state == "failed")
        if screen:
            screen.on_training_changed()
        if training.asked is not None:
            self._ask(training.asked)
            training.asked = None

    def _ask(self, asked: Asked) -> None:
        from shakespeare_tui.ui.dialogs import ConfirmDialog

        def answer(is_yes: bool | None) -> None:
            asked.answer(bool(is_yes))

        dialog = ConfirmDialog("Train all the same?", asked.question, "Train", no="Cancel")
        self.push_screen(dialog, answer)

    @property
    def is_loading(self) -> bool:
        """Whether a screen waits for a checkpoint to be loaded."""
        screens = (screen for mode in SCREENS for screen in self._screens_of(mode))
        return any(isinstance(screen, LabScreen) and screen.is_loading for screen in screens)

    def _screens_of(self, mode: str) -> list[Screen[object]]:
        """The screens of a mode, the lowest first; none before it was shown."""
        try:
            return self.get_screen_stack(mode)
        except KeyError:
            return []

    def _shown_screen(self) -> LabScreen | None:
        """The screen in view; None under a dialog, while it is being mounted, and while leaving."""
        # While leaving, the screens are being taken apart.
        if self.return_code is not None or not self._screens_of(self.current_mode):
            return None
        # A screen that is not mounted yet asks for the news itself when it is.
        screen = self.screen
        return screen if isinstance(screen, LabScreen) and screen.is_mounted else None

    def status_content(self) -> Content:
        """What the status line says; where this process trains nothing, what its children do."""
        training, experiments = self.services.training, self.services.children.in_training
        if experiments and training.state == "idle":
            text = f"▶ {', '.join(experiments)} in training · 6 shows how it goes · ? for help"
            return Content.styled(visible(text), "$success")
        return status_content(training)

    def resume_training(self, reference: str, overrides: tuple[str, ...] = ()) -> bool:
        """Go on with a run, as ``start_training`` does.

        Args:
            reference: ``RUN`` or ``RUN@STEP``.
            overrides: ``section.key=value`` changes.
        """
        return self.start_training(
            TrainingRequest(root=self.services.runs_root, resume=reference, overrides=overrides)
        )

    def start_training(self, request: TrainingRequest | None = None) -> bool:
        """Start a run and go to the Train screen; without a request, a new run of the draft.

        Returns:
            Whether it was started; if not, the user has been told why.
        """
        if request is None:
            from shakespeare_tui.config.load import DEFAULT_PRESET, load_config

            try:
                draft, default = self.services.draft.runnable, load_config(DEFAULT_PRESET)
            except UserError as error:
                self.say(str(error), is_error=True)
                return False
            start_from = draft.origin.start_from
            request = TrainingRequest(
                root=self.services.runs_root,
                config=draft.config,
                stem=draft.origin.stem,
                start_from=start_from,
                fallback_to_sample=start_from is None and draft.config == default,
            )
        is_started = self.services.training.start(request)
        if is_started:
            self.show_screen("train")
        self.follow_training()
        return is_started

    # --- screens -------------------------------------------------------------------------------

    def show_screen(self, mode: str) -> None:
        """Go to a screen by its mode's name."""
        self.switch_mode(mode)

    def delay_update(self, delay: float = 0.001) -> None:
        """Textual would draw nothing for 50 ms after each change of screen; none needs that."""
        super().delay_update(delay)

    def open_run(self, reference: str, *, speed: float = 1.0) -> None:
        """Show a run on the Train screen: attached while another process trains it, else replayed.

        Calls ``TrainScreen.open_run(run: RunFolder, speed=...)``.
        """
        from shakespeare_tui.runs.folder import find_run

        try:
            run = find_run(reference, self.services.runs_root)
        except UserError as error:
            self.say(str(error), is_error=True)
            return
        self._show_and("train", lambda screen: screen.open_run(run, speed=speed))

    def open_playground(self, reference: str) -> None:
        """Go to the Playground with a checkpoint chosen: ``PlaygroundScreen.open_checkpoint``."""
        self._show_and("playground", lambda screen: screen.open_checkpoint(reference))

    def edit_config(
        self, config: "Config", *, stem: str = "run", start_from: str | None = None
    ) -> None:
        """Go to the Config screen with a config: ``ConfigScreen.open_config(config, ...)``.

        Args:
            config: What to edit.
            stem: What a run of it would be called.
            start_from: The checkpoint ``RUN@STEP`` that the new run forks from.
        """
        self._show_and(
            "config",
            lambda screen: screen.open_config(config, stem=stem, start_from=start_from),
        )

    def plan_experiment(self, path: "Path") -> None:
        """Show what the runs of an experiment file will be: ``ExperimentsScreen.plan``."""
        self._show_and("experiments", lambda screen: screen.plan(str(path)))

    def train_experiment(self, folder: "ExperimentFolder") -> None:
        """Train an experiment's runs, one at a time, and show it: ``ExperimentsScreen.train``."""
        self._show_and("experiments", lambda screen: screen.train(folder, jobs=1))

    def _show_and(self, mode: str, act: Callable[..., object]) -> None:
        async def show() -> None:
            await self.switch_mode(mode)
            act(self.screen_stack[0])

        self.call_next(show)

    # --- looks and settings --------------------------------------------------------------------

    @property
    def series_colors(self) -> tuple[str, ...]:
        """Colours of chart series in order, ``#rrggbb``, told apart by colour-blind eyes too."""
        return series_colors(self.current_theme)

    @property
    def ascii(self) -> bool:
        """Whether to draw with ASCII characters only."""
        return self.looks.is_ascii

    def remember(self, name: str, value: object) -> None:
        """Keep a scalar under a dotted name such as ``train.smoothing`` for the next session."""
        self.settings.set(name, value)
        self.looks.save_later()

    @property
    def shown_modes(self) -> set[str]:
        """The modes that have been shown, whose screens exist."""
        return {mode for mode in SCREENS if self._screens_of(mode)}

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and after them our own: harmless characters, in ASCII mode ASCII."""
        return [*super().get_line_filters(), *self.looks.filters]

    # --- words ---------------------------------------------------------------------------------

    def copy(self, text: str, what: str) -> None:
        """Put text on the clipboard of the terminal (OSC 52) and say so."""
        self.copy_to_clipboard(text)
        self.say(f"copied {what}")

    def say(self, text: str, *, is_error: bool = False) -> None:
        """A short notice in the corner, plain text."""
        shown = visible(in_lab(text), keep=LINES)
        self.notify(shown, severity="error" if is_error else "information", markup=False)

    # --- actions -------------------------------------------------------------------------------

    def action_show_screen(self, mode: str) -> None:
        """Go to a screen."""
        self.show_screen(mode)

    def action_show_help(self) -> None:
        """Explain the screen one is in."""
        from shakespeare_tui.ui.dialogs import HelpDialog

        if isinstance(self.screen, LabScreen):
            self.push_screen(HelpDialog(self.screen))

    def action_command_palette(self) -> None:
        """Open the palette."""
        from shakespeare_tui.ui.command_palette import LabPalette

        if isinstance(self.screen, LabScreen):
            self.push_screen(LabPalette(id="--command-palette"))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every action, for the palette."""
        from shakespeare_tui.ui.command_palette import commands

        yield from commands(self, screen)

    def action_leave(self) -> None:
        """Quit; a run at work is saved first."""
        self.leaving.ask()

    async def action_quit(self) -> None:
        """What Textual's own ways out lead to."""
        self.leaving.ask()

    def action_interrupt(self) -> None:
        """Ctrl+C."""
        self.leaving.interrupt()
