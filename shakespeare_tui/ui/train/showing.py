"""The half of the Train place that decides which run is shown, and plays replays."""

from dataclasses import dataclass
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message

from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.rank import Standing, standing_of
from shakespeare_tui.ui.train.choose_runs import ChooseRuns
from shakespeare_tui.ui.train.replay_bar import ReplayBar
from shakespeare_tui.ui.train.run_view import (
    AttachedView,
    LiveView,
    ReplayView,
    RunView,
    open_view,
    read_history,
)
from shakespeare_tui.ui.train.steering import SteeringScreen


@dataclass
class ViewOpened(Message):
    """A run was read and can be shown."""

    view: AttachedView | ReplayView
    request: int
    """Which request it answers."""


@dataclass
class NewestFound(Message):
    """The runs' folders were looked through; ``run`` is the one to show, if there is any."""

    run: RunFolder | None


@dataclass
class OverlaysRead(Message):
    """Runs to lay over the chart were read."""

    overlays: dict[str, RunHistory]


@dataclass
class Placed(Message):
    """A finished run was compared with the others."""

    name: str
    standing: Standing | None


@dataclass
class ReadingFailed(Message):
    """A log could not be read; ``problem`` is one line."""

    problem: str


class ShowingScreen(SteeringScreen):
    """Owns the view: the live run, one that another process trains, or a replay."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "replay_toggle", "Play", id="replay.toggle"),
        Binding("comma", "replay_step(-1)", "Step back", show=False, id="replay.step_back"),
        Binding("full_stop", "replay_step(1)", "Step", key_display=", .", id="replay.step"),
        Binding("less_than_sign", "replay_speed(0.5)", "Slower", show=False, id="replay.slower"),
        Binding(
            "greater_than_sign",
            "replay_speed(2.0)",
            "Speed",
            key_display="< >",
            id="replay.faster",
        ),
        Binding("o", "choose_overlays", "Overlay runs", show=False, id="train.overlay"),
        Binding("w", "choose_run", "Show a run", show=False, id="train.watch"),
        Binding("b", "go_live", "Back", id="train.live"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._view: RunView | None = None
        self.reading: str | None = None
        """The run whose log is being read."""
        self.overlays: dict[str, RunHistory] = {}
        self.standing: Standing | None = None
        self._standing_asked: str | None = None
        self._requests = 0
        self.is_looking = False
        """Whether the runs' folders are being looked through for one to show."""
        self.is_newest_shown = False
        """Whether the run is shown because nobody chose another."""

    @property
    def view(self) -> RunView:
        """The run that is shown."""
        if self._view is None:
            self._view = LiveView(self.lab.services.training)
        return self._view

    def view_changed(self) -> None:
        """Another run is shown, or the same one from elsewhere."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only what is possible now."""
        if action.startswith("replay_"):
            return isinstance(self.view, ReplayView)
        if action == "go_live":
            return not isinstance(self.view, LiveView) and not self.is_newest_shown
        return super().check_action(action, parameters)

    def key_rank(self, action: str) -> int:
        """The keys of a replay come first while there is one."""
        return -1 if action.startswith("replay_") or action == "go_live" else 0

    # --- which run -----------------------------------------------------------------------------

    def show_live(self) -> None:
        """Show the run of this process."""
        self._requests += 1
        self.is_newest_shown = False
        self._show(LiveView(self.lab.services.training))

    def action_go_live(self) -> None:
        """Show the run of this process again, or the newest one where there is none."""
        self.show_live()
        self.show_newest()

    def show_newest(self) -> None:
        """Where nobody chose a run, show one that is being trained, or else the newest."""
        if self._is_free_to_choose and not self.is_looking:
            self.is_looking = True
            self._find_newest()

    @property
    def _is_free_to_choose(self) -> bool:
        view, training = self.view, self.lab.services.training
        is_nothing = isinstance(view, LiveView) and view.history.started is None
        is_idle = training.state == "idle" and self.reading is None
        return is_idle and (is_nothing or self.is_newest_shown)

    @work(thread=True, exclusive=True, group="newest")
    def _find_newest(self) -> None:
        runs = [
            run
            for run in RunCatalog(self.lab.services.runs_root).entries()
            if run.problem is None and RunFolder(run.path).events_path.is_file()
        ]
        trained = [run for run in runs if run.state in ("training", "paused")]
        found = next(iter(trained or runs), None)
        self.post_message(NewestFound(RunFolder(found.path) if found else None))

    @on(NewestFound)
    def _show_newest(self, message: NewestFound) -> None:
        self.is_looking = False
        run = message.run
        if run is not None and self._is_free_to_choose and run.name != self.view.name:
            self._read(run, None)
            self.is_newest_shown = True
        else:
            self.view_changed()

    def open_run(self, run: RunFolder, *, speed: float | None = None) -> None:
        """Show a run: followed while another process trains it, else its end or a replay.

        Args:
            run: The run; the one that this process trains is shown live.
            speed: Replay from the beginning, so many times as fast; None shows the end.
        """
        training = self.lab.services.training
        if training.is_active and training.run_name == run.name:
            self.show_live()
            return
        self.is_newest_shown = False
        self._read(run, speed)

    def _read(self, run: RunFolder, speed: float | None) -> None:
        self._requests += 1
        self.reading = run.name
        self.view_changed()
        self._open(run, speed, self._requests)

    @work(thread=True, exclusive=True, group="open")
    def _open(self, run: RunFolder, speed: float | None, request: int) -> None:
        try:
            self.post_message(ViewOpened(open_view(run, speed), request))
        except OSError as error:
            self.post_message(ReadingFailed(f"{run.events_path}: {error.strerror or error}"))

    @on(ViewOpened)
    def _show_opened(self, message: ViewOpened) -> None:
        if message.request == self._requests:
            self._show(message.view)
        else:
            message.view.close()

    @on(ReadingFailed)
    def _say_failed(self, message: ReadingFailed) -> None:
        self.reading = None
        self.lab.say(message.problem, is_error=True)
        self.view_changed()

    def _show(self, view: RunView) -> None:
        self.reading = None
        if self._view is not None:
            self._view.close()
        self._view = view
        self.standing = self._standing_asked = None
        self.overlays.pop(view.name, None)
        self.view_changed()

    def on_unmount(self) -> None:
        """Let go of a log that is open."""
        if self._view is not None:
            self._view.close()

    def action_choose_run(self) -> None:
        """Choose a run to watch or replay."""
        dialog = ChooseRuns("Show a run", self.lab.services.runs_root)
        self.app.push_screen(dialog, self._run_chosen)

    def _run_chosen(self, names: tuple[str, ...] | None) -> None:
        for name in names or ():
            self.open_run(RunFolder(self.lab.services.runs_root / name))

    # --- others beside it ----------------------------------------------------------------------

    def action_choose_overlays(self) -> None:
        """Choose runs to lay behind the curve."""
        dialog = ChooseRuns(
            "Overlay on the chart",
            self.lab.services.runs_root,
            chosen=self.overlays,
            left_out=[self.view.name],
        )
        self.app.push_screen(dialog, self._overlays_chosen)

    def _overlays_chosen(self, names: tuple[str, ...] | None) -> None:
        if names is not None:
            self._read_overlays(names, dict(self.overlays))

    @work(thread=True, exclusive=True, group="overlays")
    def _read_overlays(self, names: tuple[str, ...], known: dict[str, RunHistory]) -> None:
        root = self.lab.services.runs_root
        read: dict[str, RunHistory] = {}
        for name in names:
            try:
                path = RunFolder(root / name).events_path
                read[name] = known[name] if name in known else read_history(path)
            except OSError as error:
                self.post_message(ReadingFailed(f"{name}: {error.strerror or error}"))
        self.post_message(OverlaysRead(read))

    @on(OverlaysRead)
    def _show_overlays(self, message: OverlaysRead) -> None:
        self.overlays = message.overlays
        self.view_changed()

    def ask_standing(self) -> None:
        """Compare a run that has ended with the others, once."""
        folder = self.view.folder
        if folder is not None and self._standing_asked != folder.name:
            self._standing_asked = folder.name
            self._compare(folder)

    @work(thread=True, exclusive=True, group="standing")
    def _compare(self, run: RunFolder) -> None:
        self.post_message(Placed(run.name, standing_of(run, self.lab.services.runs_root)))

    @on(Placed)
    def _show_place(self, message: Placed) -> None:
        if message.name == self.view.name:
            self.standing = message.standing
            self.view_changed()

    # --- replays -------------------------------------------------------------------------------

    def action_replay_toggle(self) -> None:
        """Play or pause the replay; at the end, play from the beginning."""
        if isinstance(self.view, ReplayView):
            self.view.toggle()
            self._show_now()

    def action_replay_step(self, steps: int) -> None:
        """Go a step back or on."""
        if isinstance(self.view, ReplayView):
            self.view.seek_step(self.view.source.step + steps)
            self._show_now()

    def action_replay_speed(self, factor: float) -> None:
        """Play twice as fast, or half."""
        if isinstance(self.view, ReplayView):
            self.view.source.change_speed(factor)
            self._show_now()

    @on(ReplayBar.Sought)
    def _seek(self, message: ReplayBar.Sought) -> None:
        if isinstance(self.view, ReplayView):
            self.view.seek_share(message.share)
            self._show_now()

    def _show_now(self) -> None:
        """Go where the replay was sent without waiting for the next tick."""
        self.view.poll(self.lab.services.clock())
        self.view_changed()
