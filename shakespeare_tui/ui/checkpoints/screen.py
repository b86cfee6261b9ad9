"""The Checkpoints screen: what the runs reached, which is best, and where each leads."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.compare.items import CheckpointItem, sort_items
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.notes import RunNames
from shakespeare_tui.ui.checkpoints.blind_test import BlindTestScreen
from shakespeare_tui.ui.checkpoints.browser import SORTS, CheckpointBrowser, CopyCheck, Listing
from shakespeare_tui.ui.checkpoints.compare import CompareScreen
from shakespeare_tui.ui.checkpoints.editing import CheckpointEditor
from shakespeare_tui.ui.checkpoints.export_dialog import ExportDialog
from shakespeare_tui.ui.checkpoints.table import (
    CheckpointTable,
    FilterBar,
    about_text,
    recommendation_text,
)
from shakespeare_tui.ui.checkpoints.timelapse import TimelapseScreen
from shakespeare_tui.ui.checkpoints.writing import WritingScreen
from shakespeare_tui.ui.engine.text_writer import TextWriter
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.widgets.ask_bar import AskBar

MOST_COMPARED = 6
MOST_BLIND_TESTED = 12
_POLLS_A_SECOND = 10
_EMPTY = (
    "There are no runs yet.\n\nPress 3, then s, to train a first model in about two minutes. "
    "Its checkpoints will be listed here."
)
_EXAMPLE = "val<1.6 d_model=384 corpus:tiny"
_DONE_WITH_CHECKPOINTS = frozenset(
    ("mark", "filter", "compare", "timelapse", "blind_test", "generate", "export")
)


class CheckpointsScreen(LabScreen):
    """All checkpoints of all runs; keys lead from each to the other screens."""

    MODE: ClassVar[str] = "checkpoints"
    AUTO_FOCUS = ""
    CSS_PATH = "screen.tcss"
    HELP: ClassVar[str] = """\
All runs, newest first, with their checkpoints. On a run's own row, keys act on its best
checkpoint. Losses are in nats per token; a ~ marks a loss on a subset of the validation split.
Losses under different protocols or on different texts are not comparable: a loss column is sorted
within one protocol, and the line at the top names what it leaves out.

/ filters: val<1.6 d_model=384 corpus:tiny, words from a run's name or note, -is:damaged; put "or"
between two conditions to accept either. Fields are run, step, val, train, gap, ppl, elo, size
(10MB), age (2h), params, corpus, parent, note, state, protocol, is (best, last, damaged), and
every setting. Escape clears the filter.

Space marks checkpoints. c compares their texts side by side; v is a blind test that hides which
checkpoint wrote what (Elo); l steps through a run's checkpoints with one prompt. s sorts by the
next column, S reverses the order, u clears the marks. b jumps to the best checkpoint and checks
whether a sample of it is copied from the training text. e exports the marked checkpoints, or the
one under the cursor, as files that other programs open, and verifies them.

Enter shows the run on the Train screen. t resumes training exactly where the run stopped; f opens
its config for a new run that starts from the checkpoint's weights. n renames a run (forks still
find it), a adds a note, d deletes. Grey rows cannot be used; the line below says why."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="checkpoints.mark"),
        Binding("slash", "filter", "Filter", id="checkpoints.filter"),
        Binding("s", "sort", "Sort", show=False, id="checkpoints.sort"),
        Binding("S", "reverse", "Reverse the order", show=False, id="checkpoints.reverse"),
        Binding("u", "unmark", "Clear marks", show=False, id="checkpoints.unmark"),
        Binding("b", "go_to_best", "Go to best", show=False, id="checkpoints.best"),
        Binding("r", "reload", "Refresh", show=False, id="checkpoints.reload"),
        Binding("escape", "leave_filter", "Clear filter", show=False, id="checkpoints.all"),
        Binding("d,delete", "delete", "Delete", show=False, id="checkpoints.delete"),
        Binding("n", "rename", "Rename run", show=False, id="checkpoints.rename"),
        Binding("a", "annotate", "Add a note", show=False, id="checkpoints.annotate"),
        Binding("c", "compare", "Compare", id="checkpoints.compare"),
        Binding("l", "timelapse", "Time-lapse", id="checkpoints.timelapse"),
        Binding("v", "blind_test", "Blind test", id="checkpoints.blind_test"),
        Binding("enter", "open_run", "Show run", show=False, id="checkpoints.open"),
        Binding("g", "generate", "Generate", id="checkpoints.generate"),
        Binding("e", "export", "Export", show=False, id="checkpoints.export"),
        Binding("t", "resume", "Resume", show=False, id="checkpoints.resume"),
        Binding("f", "fork", "Fork", show=False, id="checkpoints.fork"),
        Binding("y", "copy_reference", "Copy name", show=False, id="checkpoints.copy"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.browser = CheckpointBrowser(lambda: self.lab.services.clock())
        self.writer = TextWriter(self.lab.services.engine.write)
        """Writes for the screens that lie over this one, and keeps their texts."""
        self._editor = CheckpointEditor(self, self.browser, self.read_runs)
        self._check = CopyCheck(self.writer, self.browser.copies)
        self._jobs = Jobs(self)
        self._seen: tuple[object, ...] = ()

    def compose_body(self) -> ComposeResult:
        """The filter, the table, and what is to be said about the line under the cursor."""
        yield Static(_EMPTY, id="advice", markup=False)
        with Vertical(id="body"):
            yield FilterBar(_EXAMPLE)
            yield CheckpointTable(lambda: self.lab.services.clock(), id="table")
            yield Static("", id="about", markup=False)
            yield Static("", id="recommended", markup=False)
        yield AskBar()

    def on_mount(self) -> None:
        """Show the table once there is something in it, and follow a check for copies."""
        self.query_one("#advice").display = False
        self.query_one("#body").display = False
        self.set_interval(1 / _POLLS_A_SECOND, self._follow_check)

    def on_unmount(self) -> None:
        """Nothing that is being written is wanted any more."""
        self.writer.stop()
        self._jobs.close()

    @property
    def table(self) -> CheckpointTable:
        return self.query_one(CheckpointTable)

    @property
    def home(self) -> CheckpointTable | None:
        """The table, once there is something in it."""
        return self.table if self.browser.items else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what is done with checkpoints where there are some."""
        return action not in _DONE_WITH_CHECKPOINTS or bool(self.browser.items)

    # --- reading -------------------------------------------------------------------------------

    def on_screen_shown(self) -> None:
        """Read the folders: runs may have come meanwhile."""
        self.read_runs()

    def on_training_changed(self) -> None:
        """List a run, and a checkpoint of it, as soon as the trainer has written it."""
        training = self.lab.services.training
        seen = (training.checkpoints_saved, training.run_path, training.is_active)
        if seen != self._seen:
            self._seen = seen
            self.read_runs()

    def action_reload(self) -> None:
        """Read the runs' folders again."""
        self.read_runs()

    def read_runs(self) -> None:
        """List the folder anew: the figures at once, the settings as soon as they are read."""
        self._read_runs(reads_configs=bool(self.browser.configs))

    def _read_runs(self, *, reads_configs: bool) -> None:
        root = self.lab.services.runs_root

        def take(job: Job[Listing]) -> None:
            if job.result is not None:
                self._show_runs(job.result)
                if not reads_configs:
                    self._read_runs(reads_configs=True)
            elif job.error:
                self.lab.say(job.error, is_error=True)

        self._jobs.start("list", lambda job: self.browser.read(root, reads_configs), take)

    def _show_runs(self, listing: Listing) -> None:
        self.browser.take(listing)
        has_items = bool(self.browser.items)
        self.query_one("#advice").display = not has_items
        body = self.query_one("#body")
        was_shown, body.display = body.display, has_items
        self.show_items()
        if body.display != was_shown:
            self.refresh_bindings()
        if body.display and not was_shown:
            self.table.focus()

    # --- showing -------------------------------------------------------------------------------

    def show_items(self) -> None:
        """Show what the browser holds."""
        browser = self.browser
        self.table.show(
            browser.lines,
            browser.marked,
            sorted_by=browser.sorted_by,
            is_descending=browser.is_descending,
            empty=browser.nothing_found,
        )
        line = self.query_one("#recommended", Static)
        line.display = browser.recommendation is not None
        if browser.recommendation is not None:
            line.update(recommendation_text(browser.recommendation, self._check.note))
        self.query_one(FilterBar).tell(browser.count)

    def _show_marks(self) -> None:
        self.table.mark(self.browser.marked)
        self.show_about()
        self.query_one(FilterBar).tell(self.browser.count)

    @on(CheckpointTable.Moved)
    def show_about(self) -> None:
        """Say about the line under the cursor what its cells have no room for."""
        line = self.table.chosen
        about = about_text(line, self.browser.marked_config) if line else Content()
        self.query_one("#about", Static).update(about)

    @property
    def chosen(self) -> CheckpointItem | None:
        """The checkpoint meant: the one under the cursor, or the best of the run there."""
        return self.browser.meant_by(self.table.chosen)

    def _chosen_run(self) -> RunFolder | None:
        """The run that the cursor is on; where there is none, that is said."""
        line = self.table.chosen
        if line is None or line.item.run.info is None:
            self._say_nothing_there()
            return None
        return RunFolder(line.item.run.path)

    def _say_nothing_there(self) -> None:
        """Say how to get a checkpoint, or that there is none on this line."""
        if self.browser.items:
            self.lab.say("there is no usable checkpoint on this line", is_error=True)
        else:
            self.lab.say("there is no checkpoint yet: 3 then s trains a model", is_error=True)

    # --- marks, filter and order ---------------------------------------------------------------

    def action_mark(self) -> None:
        """Mark the checkpoint, or take its mark away; go on to the next line."""
        item = self.chosen
        if item is None:
            self._say_nothing_there()
            return
        self.browser.toggle_mark(item)
        self.table.action_move(1)
        self._show_marks()

    def action_unmark(self) -> None:
        """Take all marks away."""
        self.browser.marked.clear()
        self._show_marks()

    def action_sort(self) -> None:
        """Sort by the next column; after the last, by run again."""
        self.browser.sort_by_next()
        self.show_items()

    def action_reverse(self) -> None:
        """Turn the order round."""
        self.browser.reverse()
        self.show_items()

    @on(CheckpointTable.HeaderClicked)
    def _sort_by_click(self, message: CheckpointTable.HeaderClicked) -> None:
        if message.name in SORTS:
            self.browser.sort_by(message.name)
            self.show_items()

    def action_filter(self) -> None:
        """Write a query."""
        if self.browser.items:
            self.query_one(FilterBar).edit()
        else:
            self._say_nothing_there()

    @on(FilterBar.Changed)
    def _narrow(self, message: FilterBar.Changed) -> None:
        self.browser.narrow(message.query)
        self.show_items()

    @on(FilterBar.Left)
    def _to_table(self) -> None:
        """Go to the table."""
        self.table.focus()

    def action_leave_filter(self) -> None:
        """Leave a field; in the table, show everything again."""
        if self.focused is self.table:
            self.query_one(FilterBar).clear()
        else:
            self.action_leave_field()

    def action_go_to_best(self) -> None:
        """Go to the recommended checkpoint, and look whether it recites its training text."""
        best = self.browser.recommendation
        if best is None:
            self._say_nothing_there()
            return
        self.table.go_to(best.item.key)
        self._check.begin(self.lab.services.runs_root, best.item.key)
        self.show_items()

    def _follow_check(self) -> None:
        if self.is_current and self._check.poll():
            self.browser.refresh()
            self.show_items()

    # --- changes on disk -----------------------------------------------------------------------

    def action_rename(self) -> None:
        """Ask for the run's new name."""
        run = self._chosen_run()
        if run is not None:
            self._editor.rename(run)

    def action_annotate(self) -> None:
        """Ask for a note on the run."""
        run = self._chosen_run()
        if run is not None:
            self._editor.annotate(run)

    def action_delete(self) -> None:
        """Ask before the checkpoint or the run under the cursor is deleted."""
        line = self.table.chosen
        if line is None:
            self._say_nothing_there()
        else:
            self._editor.delete(line)

    # --- several at once -----------------------------------------------------------------------

    def action_compare(self) -> None:
        """Let the marked checkpoints write side by side."""
        items = self.browser.marked_items[:MOST_COMPARED]
        if len(items) < 2:
            self.lab.say("space marks checkpoints; c compares two to six of them")
            return
        if len(self.browser.marked) > MOST_COMPARED:
            self.lab.say(f"the first {MOST_COMPARED} of {len(self.browser.marked)} are compared")
        self._show_over(CompareScreen(self.writer, items, self.browser.copies))

    def action_timelapse(self) -> None:
        """Walk through the checkpoints of the run under the cursor."""
        line = self.table.chosen
        items = self.browser.usable_of(line.item.run.name) if line else []
        items.sort(key=lambda item: item.checkpoint.step if item.checkpoint else 0)
        if line is None or not items:
            self._say_nothing_there()
            return
        keys = [item.key for item in items]
        index = keys.index(line.key) if line.key in keys else 0
        self._show_over(TimelapseScreen(self.writer, items, index))

    def action_blind_test(self) -> None:
        """Judge texts of hidden origin: of the marked checkpoints, else of the best shown."""
        items = self.browser.marked_items
        if len(items) < 2:
            usable = [item for item in self.browser.shown if item.is_usable]
            items = sort_items(usable, "val", is_descending=False, now=0.0)
        if len(items) < 2:
            self.lab.say("a blind test needs two usable checkpoints", is_error=True)
            return
        names = RunNames(self.browser.runs)
        self._show_over(BlindTestScreen(self.writer, items[:MOST_BLIND_TESTED], names))

    def _show_over(self, screen: WritingScreen) -> None:
        # Ratings may have changed there.
        def read_again(_: None) -> None:
            self.read_runs()

        self.app.push_screen(screen, read_again)

    # --- where a checkpoint leads --------------------------------------------------------------

    @on(CheckpointTable.Chosen)
    def action_open_run(self) -> None:
        """Show the run on the Train screen."""
        run = self._chosen_run()
        if run is not None:
            self.lab.open_run(run.name)

    def action_generate(self) -> None:
        """Open the Playground with the checkpoint."""
        item = self.chosen
        if item is None:
            self._say_nothing_there()
        else:
            self.lab.open_playground(item.key)

    def action_resume(self) -> None:
        """Go on training exactly where the run stopped."""
        item = self.chosen
        if item is None:
            self._say_nothing_there()
        else:
            self.lab.resume_training(item.run.name)

    def action_fork(self) -> None:
        """Edit the run's config for a new run that starts from the checkpoint."""
        item = self.chosen
        if item is None:
            self._say_nothing_there()
            return
        try:
            config = RunFolder(item.run.path).config_to_fork()
        except UserError as error:
            self.lab.say(str(error), is_error=True)
            return
        self.lab.edit_config(config, stem=f"{item.run.name}-fork", start_from=item.key)

    def action_export(self) -> None:
        """Export what is marked, or the checkpoint under the cursor, as files of others."""
        items = self.browser.marked_items or [item for item in [self.chosen] if item is not None]
        if items:
            self.app.push_screen(ExportDialog([item.key for item in items]))
        else:
            self._say_nothing_there()

    def action_copy_reference(self) -> None:
        """Copy how the checkpoint is addressed on the command line."""
        if self.chosen is not None:
            self.lab.copy(self.chosen.key, self.chosen.key)
