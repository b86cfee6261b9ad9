"""Decides which run the Train place shows, reads it off the UI thread, and what lies beside it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from shakespeare_tui.runs.catalog import RunCatalog
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.rank import Rank, rank_of
from shakespeare_tui.ui.place import LabScreen
from shakespeare_tui.ui.services import Services
from shakespeare_tui.ui.train.choose_runs import ChooseRuns
from shakespeare_tui.ui.train.run_view import (
    LiveView,
    ReplayView,
    RunView,
    open_view,
    read_history,
)


class RunViewer:
    """Owns the view: the live run, one that another process trains, or a replay.

    Args:
        place: The screen that shows it; background work ends with it.
        changed: Called when another run is shown, or something else about it.

    Attributes:
        reading: The run whose log is being read.
        is_looking: Whether the runs' folders are being looked through for one to show.
        is_newest_shown: Whether the run is shown because nobody chose another.
        overlays: Runs that are laid over the chart, by name.
        rank: Where the run, if it has ended, stands among the others; None until that is known.
    """

    def __init__(self, place: LabScreen, changed: Callable[[], None]) -> None:
        self._place, self._changed = place, changed
        self._view: RunView | None = None
        self._started: RunHistory | None = None
        self._ranked: str | None = None
        self.reading: RunFolder | None = None
        self.is_looking = False
        self.is_newest_shown = False
        self.overlays: dict[str, RunHistory] = {}
        self.rank: Rank | None = None

    @property
    def _services(self) -> Services:
        return self._place.lab.services

    @property
    def view(self) -> RunView:
        """The run that is shown."""
        if self._view is None:
            self._view = LiveView(self._services.training)
        return self._view

    @property
    def name(self) -> str:
        """What the run is called that is shown, or about to be."""
        return self.reading.name if self.reading else self.view.name

    @property
    def state(self) -> str:
        """A key of ``figures.STATES``."""
        return "reading" if self.reading else self.view.state

    @property
    def is_live(self) -> bool:
        """Whether it is the run of this process."""
        return isinstance(self.view, LiveView)

    @property
    def replay(self) -> ReplayView | None:
        """The run where it is played back."""
        return self.view if isinstance(self.view, ReplayView) else None

    @property
    def is_over(self) -> bool:
        """Whether the run has come to an end."""
        return self.view.state in ("finished", "stopped", "failed", "interrupted")

    def poll(self) -> None:
        """Take in what the run did since; a run that starts here is what one wants to see."""
        training = self._services.training
        if training.is_active and training.history is not self._started:
            self._started = training.history
            if not self.is_live:
                self.show_live()
        self.view.poll(self._services.clock())

    def close(self) -> None:
        """Let go of a log that is open."""
        if self._view is not None:
            self._view.close()

    # --- which run -----------------------------------------------------------------------------

    def show_live(self) -> None:
        """Show the run of this process."""
        self.is_newest_shown = False
        self._show(LiveView(self._services.training))

    def go_back(self) -> None:
        """Show the run of this process again, or the newest one where there is none."""
        self.show_live()
        self.show_newest()

    def show_newest(self) -> None:
        """Where nobody chose a run, show one that is being trained, or else the newest."""
        if self._is_free_to_choose and not self.is_looking:
            self.is_looking = True
            self._place.run_worker(self._find_newest(), group="newest")

    @property
    def _is_free_to_choose(self) -> bool:
        is_nothing = self.is_live and self.view.history.started is None
        is_idle = self._services.training.state == "idle" and self.reading is None
        return is_idle and (is_nothing or self.is_newest_shown)

    async def _find_newest(self) -> None:
        run = await asyncio.to_thread(_newest_run, self._services.runs_root)
        self.is_looking = False
        if run is not None and self._is_free_to_choose and run.name != self.view.name:
            self._read(run, None)
            self.is_newest_shown = True
        else:
            self._changed()

    def open_run(self, run: RunFolder, *, speed: float | None = None) -> None:
        """Show a run: followed while another process trains it, else its end or a replay.

        Args:
            run: The run; the one that this process trains is shown live.
            speed: Replay from the beginning, so many times as fast; None shows the end.
        """
        training = self._services.training
        if training.is_active and training.run_name == run.name:
            self.show_live()
            return
        self.is_newest_shown = False
        self._read(run, speed)

    def choose_run(self) -> None:
        """Ask for a run to watch or replay."""
        root = self._services.runs_root

        def chosen(names: tuple[str, ...] | None) -> None:
            for name in names or ():
                self.open_run(RunFolder(root / name))

        self._place.app.push_screen(ChooseRuns("Show a run", root), chosen)

    def _read(self, run: RunFolder, speed: float | None) -> None:
        self.reading = run
        self._changed()
        self._place.run_worker(self._open(run, speed), group="open")

    async def _open(self, run: RunFolder, speed: float | None) -> None:
        try:
            view = await asyncio.to_thread(open_view, run, speed)
        except OSError as error:
            self._place.lab.say(f"{run.events_path}: {error.strerror or error}", is_error=True)
            if self.reading is run:
                self.reading = None
                self._changed()
            return
        if self.reading is run:
            self._show(view)
        else:
            # Another run was asked for meanwhile.
            view.close()

    def _show(self, view: RunView) -> None:
        self.close()
        self._view, self.reading = view, None
        self.rank = self._ranked = None
        self.overlays.pop(view.name, None)
        self._changed()

    def control_replay(self, act: Callable[[ReplayView], None]) -> None:
        """Play, pause or send a replay elsewhere, and go there without waiting for the clock."""
        if self.replay is not None:
            act(self.replay)
            self.replay.poll(self._services.clock())
            self._changed()

    # --- others beside it ----------------------------------------------------------------------

    def choose_overlays(self) -> None:
        """Ask for runs to lay behind the curve."""

        def chosen(names: tuple[str, ...] | None) -> None:
            if names is not None:
                work = self._read_overlays(names)
                self._place.run_worker(work, exclusive=True, group="overlays")

        dialog = ChooseRuns(
            "Overlay on the chart",
            self._services.runs_root,
            chosen=self.overlays,
            left_out=[self.view.name],
        )
        self._place.app.push_screen(dialog, chosen)

    async def _read_overlays(self, names: tuple[str, ...]) -> None:
        known, overlays = self.overlays, {}
        for name in names:
            path = RunFolder(self._services.runs_root / name).events_path
            try:
                overlays[name] = (
                    known[name] if name in known else await asyncio.to_thread(read_history, path)
                )
            except OSError as error:
                self._place.lab.say(f"{name}: {error.strerror or error}", is_error=True)
        self.overlays = overlays
        self._changed()

    def find_rank(self) -> None:
        """Compare a run that has ended with the others, once."""
        folder = self.view.folder
        if folder is not None and self._ranked != folder.name:
            self._ranked = folder.name
            self._place.run_worker(self._compare(folder), exclusive=True, group="rank")

    async def _compare(self, run: RunFolder) -> None:
        rank = await asyncio.to_thread(rank_of, run, self._services.runs_root)
        if run.name == self.view.name:
            self.rank = rank
            self._changed()


def _newest_run(root: Path) -> RunFolder | None:
    """A run that is being trained, else the newest that has a log."""
    runs = [
        run
        for run in RunCatalog(root).entries()
        if run.problem is None and RunFolder(run.path).events_path.is_file()
    ]
    trained = [run for run in runs if run.state in ("training", "paused")]
    found = next(iter(trained or runs), None)
    return RunFolder(found.path) if found else None
