"""The Checkpoints place: what the runs reached, which is best, and where each leads."""

from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType

from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.compare.items import CheckpointItem, sort_items
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.notes import RunNames
from shakespeare_tui.ui.checkpoints.blind_test import TastingScreen
from shakespeare_tui.ui.checkpoints.comparing import ComparingScreen
from shakespeare_tui.ui.checkpoints.copy_check import CopyCheck
from shakespeare_tui.ui.checkpoints.editing import EditingScreen
from shakespeare_tui.ui.checkpoints.table import CheckpointTable
from shakespeare_tui.ui.checkpoints.timelapse import LapseScreen
from shakespeare_tui.ui.checkpoints.writing import WritingScreen
from shakespeare_tui.ui.engine.text_writer import TextWriter

_POLLS_A_SECOND = 10
MOST_COMPARED = 6
MOST_TASTED = 12


class CheckpointsScreen(EditingScreen):
    """All checkpoints of all runs; keys lead from each to the other places."""

    PLACE: ClassVar[str] = "checkpoints"
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
whether a sample of it is copied from the training text.

Enter shows the run on the Train screen. t resumes training exactly where the run stopped; f opens
its config for a new run that starts from the checkpoint's weights. n renames a run (forks still
find it), a adds a note, d deletes. Grey rows cannot be used; the line below says why."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "compare", "Compare", id="checkpoints.compare"),
        Binding("l", "lapse", "Time-lapse", id="checkpoints.lapse"),
        Binding("v", "taste", "Blind test", id="checkpoints.taste"),
        Binding("enter", "open_run", "Show run", show=False, id="checkpoints.open"),
        Binding("g", "generate", "Generate", id="checkpoints.generate"),
        Binding("t", "resume", "Resume", show=False, id="checkpoints.resume"),
        Binding("f", "fork", "Fork", show=False, id="checkpoints.fork"),
        Binding("y", "copy_reference", "Copy name", show=False, id="checkpoints.copy"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.writer = TextWriter()
        """Writes for the screens that lie over this one, and keeps their texts."""
        self._check = CopyCheck(self.writer, self.copies)

    def on_mount(self) -> None:
        """Follow a check for copies, where one was asked for."""
        self.set_interval(1 / _POLLS_A_SECOND, self._follow_check)

    def _follow_check(self) -> None:
        if self.is_current and self._check.poll():
            self.show_items()

    def recommendation_note(self) -> str:
        """How the check for copies stands."""
        return self._check.note

    def action_go_to_best(self) -> None:
        """Go to the recommended checkpoint, and look whether it recites its training text."""
        super().action_go_to_best()
        if self.recommendation is not None:
            self._check.begin(self.lab.services.runs_root, self.recommendation.item.key)
            self.show_items()

    def on_unmount(self) -> None:
        """Nothing that is being written is wanted any more."""
        self.writer.stop()

    # --- several at once -----------------------------------------------------------------------

    def _marked_items(self) -> list[CheckpointItem]:
        return [item for key in self.marked if (item := self.item_of(key)) is not None]

    def action_compare(self) -> None:
        """Let the marked checkpoints write side by side."""
        items = self._marked_items()[:MOST_COMPARED]
        if len(items) < 2:
            self.lab.say("space marks checkpoints; c compares two to six of them")
            return
        if len(self.marked) > MOST_COMPARED:
            self.lab.say(f"the first {MOST_COMPARED} of {len(self.marked)} are compared")
        self._show_over(ComparingScreen(self.writer, items, self.copies))

    def action_lapse(self) -> None:
        """Walk through the checkpoints of the run under the cursor."""
        line = self.table.chosen
        name = line.item.run.name if line else ""
        items = [item for item in self.items if item.run.name == name and item.is_usable]
        items.sort(key=lambda item: item.checkpoint.step if item.checkpoint else 0)
        if line is None or not items:
            self.say_nothing_there()
            return
        keys = [item.key for item in items]
        index = keys.index(line.key) if line.key in keys else 0
        self._show_over(LapseScreen(self.writer, items, index))

    def action_taste(self) -> None:
        """Judge texts of hidden origin: of the marked checkpoints, else of the best shown."""
        items = self._marked_items()
        if len(items) < 2:
            usable = [item for item in self.shown if item.is_usable]
            items = sort_items(usable, "val", is_descending=False, now=0.0)
        if len(items) < 2:
            self.lab.say("a blind test needs two usable checkpoints", is_error=True)
            return
        names = RunNames(self.runs)
        self._show_over(TastingScreen(self.writer, items[:MOST_TASTED], names))

    def _show_over(self, screen: WritingScreen) -> None:
        # Ratings may have changed there.
        def read_again(_: None) -> None:
            self.read_runs()

        self.app.push_screen(screen, read_again)

    # --- where a checkpoint leads --------------------------------------------------------------

    @on(CheckpointTable.Chosen)
    def action_open_run(self) -> None:
        """Show the run in the Train place."""
        line = self.table.chosen
        if line is None or line.item.run.info is None:
            self.say_nothing_there()
        else:
            self.lab.open_run(line.item.run.name)

    def action_generate(self) -> None:
        """Open the Playground with the checkpoint."""
        item = self.chosen
        if item is None:
            self.say_nothing_there()
        else:
            self.lab.open_playground(item.key)

    def action_resume(self) -> None:
        """Go on training exactly where the run stopped."""
        item = self.chosen
        if item is None:
            self.say_nothing_there()
        else:
            self.lab.start_training(resume=item.run.name)

    def action_fork(self) -> None:
        """Edit the run's config for a new run that starts from the checkpoint."""
        item = self.chosen
        if item is None:
            self.say_nothing_there()
            return
        try:
            config = RunFolder(item.run.path).config()
        except UserError as error:
            self.lab.say(str(error), is_error=True)
            return
        self.lab.edit_config(config, stem=f"{item.run.name}-fork", start_from=item.key)

    def action_copy_reference(self) -> None:
        """Copy how the checkpoint is addressed on the command line."""
        if self.chosen is not None:
            self.lab.copy(self.chosen.key, self.chosen.key)
