"""Decides which run the Train screen shows, reads it off the UI thread, and what lies beside it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.runs.catalog import RunCatalog, RunEntry
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.run_rank import Rank, rank_of
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.lab_screen import LabScreen
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
        screen: The screen that shows it.
        changed: Called when another run is shown, or something else about it.

    Attributes:
        reading: The run whose log is being read; None where that of ``view`` has been.
        is_looking: Whether the runs' folders are being looked through for one to show.
        is_newest_shown: Whether the run is shown because nobody chose another.
        overlays: Runs that are laid over the chart, by name.
        reference: The one of them that others are measured against; empty where there is none.
        listed: All runs, as the list beside the chart shows them.
        rank: Where the run, if it has ended, stands among the others; None until that is known.
    """

    def __init__(self, screen: LabScreen, changed: Callable[[], None]) -> None:
        self._screen, self._changed, self._jobs = screen, changed, Jobs(screen)
        self._view: RunView | None = None
        self._started: RunHistory | None = None
        self._ranked: str | None = None
        self.reading: str | None = None
        self.is_looking = False
        self.is_newest_shown = False
        self.overlays: dict[str, RunHistory] = {}
        self.reference = ""
        self.listed: Sequence[RunEntry] = ()
        self._catalog: RunCatalog | None = None
        self.rank: Rank | None = None

    @property
    def _services(self) -> Services:
        return self._screen.lab.services

    @property
    def view(self) -> RunView:
        """The run that is shown."""
        if self._view is None:
            self._view = LiveView(self._services.training)
        return self._view

    @property
    def name(self) -> str:
        """What the run is called that is shown, or about to be."""
        return self.reading or self.view.name

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
        """Let go of a log that is open, and of work under way."""
        self._jobs.close()
        self.view.close()

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
            root = self._services.runs_root
            self._jobs.start("newest run", lambda job: _newest_run(root), self._show_newest)

    @property
    def _is_free_to_choose(self) -> bool:
        is_nothing = self.is_live and self.view.history.started is None
        is_idle = self._services.training.state == "idle" and self.reading is None
        return is_idle and (is_nothing or self.is_newest_shown)

    def _show_newest(self, job: Job[RunFolder | None]) -> None:
        run, self.is_looking = job.result, False
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

        self._screen.app.push_screen(ChooseRuns("Show a run", root), chosen)

    def _read(self, run: RunFolder, speed: float | None) -> None:
        self.reading = run.name
        self._changed()

        def read(job: Job[RunView]) -> RunView:
            try:
                view = open_view(run, speed)
            except OSError as error:
                raise UserError(f"{run.events_path}: {error.strerror or error}") from None
            if job.cancelled.is_set():
                view.close()
                raise CancelledError("another run was asked for")
            return view

        self._jobs.start("run log", read, self._show_opened)

    def _show_opened(self, job: Job[RunView]) -> None:
        if job.result is not None:
            # The run of this process may have been asked for at the last moment.
            if job.cancelled.is_set():
                job.result.close()
            else:
                self._show(job.result)
        elif job.error:
            self._screen.lab.say(job.error, is_error=True)
            if not job.cancelled.is_set():
                self.reading = None
                self._changed()

    def _show(self, view: RunView) -> None:
        self._jobs.cancel("run log")
        self.view.close()
        self._view, self.reading = view, None
        self._jobs.cancel("rank")
        self.rank = self._ranked = None
        self.overlays.pop(view.name, None)
        if self.reference and self.reference not in (view.name, *self.overlays):
            # Shown until now itself: it stays on the chart.
            self._lay_over((*self.overlays, self.reference))
        self._changed()

    def control_replay(self, act: Callable[[ReplayView], None]) -> None:
        """Play, pause or send a replay elsewhere, and go there without waiting for the clock."""
        if self.replay is not None:
            act(self.replay)
            self.replay.poll(self._services.clock())
            self._changed()

    # --- others beside it ----------------------------------------------------------------------

    def list_runs(self) -> None:
        """Read which runs there are, for the list beside the chart."""
        if self._catalog is None:
            self._catalog = RunCatalog(self._services.runs_root)
        catalog = self._catalog

        def take(job: Job[list[RunEntry]]) -> None:
            if job.result is not None:
                self.listed = job.result
                self._changed()

        self._jobs.start("list of runs", lambda job: catalog.entries(), take)

    def toggle_overlay(self, name: str) -> None:
        """Lay a run over the chart, or take it away."""
        names = [other for other in self.overlays if other != name]
        self._lay_over((*names, *([name] if name not in self.overlays else ())))

    def pin(self, name: str) -> None:
        """Measure others against a run, or no longer; it stays on the chart."""
        self.reference = "" if name == self.reference else name
        if self.reference and name not in self.overlays and name != self.view.name:
            self._lay_over((*self.overlays, name))
        else:
            self._changed()

    def _lay_over(self, names: tuple[str, ...]) -> None:
        root, known = self._services.runs_root, dict(self.overlays)
        self._jobs.start(
            "overlays", lambda job: _read_overlays(root, names, known), self._show_overlays
        )

    def choose_overlays(self) -> None:
        """Ask for runs to lay behind the curve."""

        def chosen(names: tuple[str, ...] | None) -> None:
            if names is not None:
                self._lay_over(names)

        dialog = ChooseRuns(
            "Overlay on the chart",
            self._services.runs_root,
            chosen=self.overlays,
            left_out=[self.view.name],
        )
        self._screen.app.push_screen(dialog, chosen)

    def _show_overlays(self, job: Job[tuple[dict[str, RunHistory], list[str]]]) -> None:
        if job.result is None:
            self._screen.lab.say(job.error, is_error=True)
            return
        self.overlays, problems = job.result
        for problem in problems:
            self._screen.lab.say(problem, is_error=True)
        self._changed()

    def find_rank(self) -> None:
        """Compare a run that has ended with the others, once."""
        folder = self.view.folder
        if folder is not None and self._ranked != folder.name:
            self._ranked = folder.name
            root = self._services.runs_root
            self._jobs.start("rank", lambda job: rank_of(folder, root), self._show_rank)

    def _show_rank(self, job: Job[Rank | None]) -> None:
        # Another run may be shown by now.
        if not job.cancelled.is_set():
            self.rank = job.result
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


def _read_overlays(
    root: Path, names: tuple[str, ...], known: dict[str, RunHistory]
) -> tuple[dict[str, RunHistory], list[str]]:
    """The runs' histories, and why some could not be read; those that are ``known`` are not."""
    read: dict[str, RunHistory] = {}
    problems = []
    for name in names:
        try:
            path = RunFolder(root / name).events_path
            read[name] = known[name] if name in known else read_history(path)
        except OSError as error:
            problems.append(f"{name}: {error.strerror or error}")
    return read, problems
