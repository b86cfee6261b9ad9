"""The part of the Checkpoints place that lists: reading, filtering, sorting, marking."""

from collections.abc import Mapping
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from shakespeare_tui.formatting import counted
from shakespeare_tui.runs.catalog import RunCatalog, RunEntry
from shakespeare_tui.runs.compare.blind_tests import Rating, games_now, ratings_of, read_verdicts
from shakespeare_tui.runs.compare.items import GREATEST_FIRST, CheckpointItem, items_of, sort_items
from shakespeare_tui.runs.compare.query import Query, parse_query, without_begun_name
from shakespeare_tui.runs.compare.recommendation import Copies, Recommendation, recommend
from shakespeare_tui.runs.compare.settings import Texts
from shakespeare_tui.runs.notes import RunNames
from shakespeare_tui.ui.checkpoints.filter_bar import FilterBar
from shakespeare_tui.ui.checkpoints.table import (
    CheckpointTable,
    TableLine,
    about_text,
    recommendation_text,
)
from shakespeare_tui.ui.place import LabScreen
from shakespeare_tui.ui.widgets.ask_bar import AskBar

SORTS: tuple[str | None, ...] = (None, "val", "train", "gap", "elo", "step", "size", "age", "run")
"""None is by run, newest first. Losses, sizes and ages begin with the smallest."""
_EMPTY = (
    "There are no runs yet.\n\nPress 3, then s, to train a first model in about two minutes. "
    "Its checkpoints will be listed here."
)
_EXAMPLE = "val<1.6 d_model=384 corpus:tiny"
_DONE_WITH_CHECKPOINTS = frozenset(("mark", "filter", "compare", "lapse", "taste", "generate"))


class RunsListed(Message):
    """The runs' folders were read."""

    def __init__(self, runs: list[RunEntry], ratings: Mapping[str, Rating]) -> None:
        super().__init__()
        self.runs, self.ratings = runs, ratings


class ListingScreen(LabScreen):
    """One table of all checkpoints, what it is narrowed to, and what is marked in it."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="checkpoints.mark"),
        Binding("slash", "filter", "Filter", id="checkpoints.filter"),
        Binding("s", "sort", "Sort", show=False, id="checkpoints.sort"),
        Binding("S", "reverse", "Reverse the order", show=False, id="checkpoints.reverse"),
        Binding("u", "unmark", "Clear marks", show=False, id="checkpoints.unmark"),
        Binding("b", "go_to_best", "Go to best", show=False, id="checkpoints.best"),
        Binding("r", "reload", "Refresh", show=False, id="checkpoints.reload"),
        Binding("escape", "leave_filter", "Clear filter", show=False, id="checkpoints.all"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._catalog: RunCatalog | None = None
        self._query = Query("")
        self._sort: str | None = None
        self._is_descending = False
        self._seen: tuple[object, ...] = ()
        self.runs: list[RunEntry] = []
        self.items: list[CheckpointItem] = []
        self.shown: list[CheckpointItem] = []
        self.marked: list[str] = []
        """Keys of the marked checkpoints, in the order of marking."""
        self.copies: dict[str, Copies] = {}
        """What samples that were written here copied from their corpus, by ``RUN@STEP``."""
        self.recommendation: Recommendation | None = None

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
        """The table shows once there is something in it."""
        self._catalog = RunCatalog(self.lab.services.runs_root)
        self.query_one("#advice").display = False
        self.query_one("#body").display = False

    @property
    def table(self) -> CheckpointTable:
        """The table."""
        return self.query_one(CheckpointTable)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what is done with checkpoints where there are some."""
        if action in _DONE_WITH_CHECKPOINTS and not self.items:
            return False
        return super().check_action(action, parameters)

    @property
    def home(self) -> CheckpointTable | None:
        """The table, once there is something in it."""
        return self.table if self.items else None

    # --- reading -------------------------------------------------------------------------------

    def on_place_shown(self) -> None:
        """Read the folders: runs may have come meanwhile."""
        self.read_runs()

    def on_training_changed(self) -> None:
        """List a run, and a checkpoint of it, as soon as the trainer has written it."""
        training = self.lab.services.training
        seen = (training.checkpoints_saved, training.run_path, training.is_active)
        if seen != self._seen:
            self._seen = seen
            self.read_runs()

    @work(thread=True, exclusive=True, group="list")
    def read_runs(self) -> None:
        """List the folder anew: the figures at once, the settings as soon as they are read."""
        root = self.lab.services.runs_root
        catalog = self._catalog or RunCatalog(root)
        verdicts = read_verdicts(root)
        for reads_configs in (True,) if self.configs else (False, True):
            runs = catalog.entries(reads_configs=reads_configs)
            ratings = ratings_of(games_now(verdicts, RunNames(runs)))
            self.post_message(RunsListed(runs, ratings))

    @property
    def configs(self) -> Mapping[str, Texts]:
        """The runs' settings by their names, as far as they have been read."""
        return {run.name: run.texts for run in self.runs if run.texts is not None}

    @on(RunsListed)
    def _show_runs(self, message: RunsListed) -> None:
        self.runs = message.runs
        self.items = items_of(message.runs, ratings=message.ratings)
        is_there = {item.key for item in self.items if item.is_usable}
        self.marked = [key for key in self.marked if key in is_there]
        self.query_one("#advice").display = not self.items
        body = self.query_one("#body")
        was_shown, body.display = body.display, bool(self.items)
        self.show_items()
        if body.display != was_shown:
            self.refresh_bindings()
        if body.display and not was_shown:
            self.table.focus()

    # --- showing -------------------------------------------------------------------------------

    def show_items(self) -> None:
        """Filter, sort and show what has been read."""
        now = self.lab.services.clock()
        shown = [item for item in self.items if self._query.matches(item, now)]
        if not shown and (before := without_begun_name(self._query.text)) is not None:
            # What fits nothing is the beginning of a condition: the list waits for the rest.
            query = parse_query(before)
            shown = [item for item in self.items if query.matches(item, now)]
        if self._sort is not None:
            shown = sort_items(shown, self._sort, is_descending=self._is_descending, now=now)
        self.shown = shown
        self.table.show(
            self._lines(shown),
            self.marked,
            sorted_by=self._sort,
            is_descending=self._is_descending,
            empty=f"No checkpoint matches {self._query.text.strip()}: empty the filter to see all.",
        )
        self.recommendation = recommend(shown, self.copies)
        self._show_recommendation()
        self._tell_count()

    def _lines(self, shown: list[CheckpointItem]) -> list[TableLine]:
        if self._sort is not None:
            return [TableLine("checkpoint", item) for item in shown]
        lines = []
        run = None
        for item in shown:
            if item.run is not run:
                run = item.run
                lines.append(TableLine("run", item))
            if item.checkpoint is not None:
                lines.append(TableLine("checkpoint", item))
        return lines

    def _tell_count(self) -> None:
        checkpoints = sum(item.checkpoint is not None for item in self.shown)
        note = counted(checkpoints, "checkpoint")
        if self._query.text.strip():
            note = f"{checkpoints:,} of {sum(i.checkpoint is not None for i in self.items):,}"
        if self._query.reads_configs and not self.configs:
            note = "reading settings …"
        if self.marked:
            note += f" · {len(self.marked)} marked"
        self.query_one(FilterBar).tell(note)

    def _show_recommendation(self) -> None:
        line = self.query_one("#recommended", Static)
        line.display = self.recommendation is not None
        if self.recommendation is not None:
            line.update(recommendation_text(self.recommendation, self.recommendation_note()))

    def recommendation_note(self) -> str:
        """What else is to be said about the recommendation."""
        return ""

    @on(CheckpointTable.Moved)
    def show_about(self) -> None:
        """Say about the line under the cursor what its cells have no room for."""
        line = self.table.chosen
        about = about_text(line, self._marked_config()) if line else Content()
        self.query_one("#about", Static).update(about)

    def _marked_config(self) -> tuple[str, Texts] | None:
        """The run of the first marked checkpoint and its settings."""
        if not self.marked:
            return None
        name = self.marked[0].rpartition("@")[0]
        texts = self.configs.get(name)
        return None if texts is None else (name, texts)

    # --- actions -------------------------------------------------------------------------------

    @property
    def chosen(self) -> CheckpointItem | None:
        """The checkpoint meant: the one under the cursor, or the best of the run there."""
        line = self.table.chosen
        if line is None:
            return None
        if line.kind == "checkpoint":
            return line.item if line.item.is_usable else None
        usable = [i for i in self.items if i.run.name == line.item.run.name and i.is_usable]
        best = [item for item in usable if item.checkpoint and item.checkpoint.is_best]
        return next(iter([*best, *usable]), None)

    def item_of(self, key: str) -> CheckpointItem | None:
        """The checkpoint of a key, if it is there."""
        return next((item for item in self.items if item.key == key), None)

    def action_mark(self) -> None:
        """Mark the checkpoint, or take its mark away; go on to the next line."""
        item = self.chosen
        if item is None:
            self.say_nothing_there()
            return
        if item.key in self.marked:
            self.marked.remove(item.key)
        else:
            self.marked.append(item.key)
        self.table.action_move(1)
        self._show_marks()

    def action_unmark(self) -> None:
        """Take all marks away."""
        self.marked.clear()
        self._show_marks()

    def _show_marks(self) -> None:
        self.table.mark(self.marked)
        self.show_about()
        self._tell_count()

    def action_sort(self) -> None:
        """Sort by the next column; after the last, by run again."""
        self._sort_by(SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)])

    def _sort_by(self, name: str | None) -> None:
        self._sort = name
        self._is_descending = name in GREATEST_FIRST
        self.show_items()

    def action_reverse(self) -> None:
        """Turn the order round."""
        if self._sort is None:
            self._sort = "run"
        self._is_descending = not self._is_descending
        self.show_items()

    @on(CheckpointTable.HeaderClicked)
    def _sort_by_click(self, message: CheckpointTable.HeaderClicked) -> None:
        if message.name == self._sort:
            self.action_reverse()
        elif message.name in SORTS:
            self._sort_by(message.name)

    def action_filter(self) -> None:
        """Write a query."""
        if self.items:
            self.query_one(FilterBar).edit()
        else:
            self.say_nothing_there()

    @on(FilterBar.Changed)
    def _narrow(self, message: FilterBar.Changed) -> None:
        self._query = message.query
        self.show_items()

    @on(FilterBar.Left)
    def action_to_table(self) -> None:
        """Go to the table."""
        self.table.focus()

    def action_leave_filter(self) -> None:
        """Leave a field; in the table, show everything again."""
        if self.focused is self.table:
            self.query_one(FilterBar).clear()
        else:
            self.action_leave_field()

    def action_go_to_best(self) -> None:
        """Go to the recommended checkpoint."""
        if self.recommendation is None:
            self.say_nothing_there()
        else:
            self.table.go_to(self.recommendation.item.key)

    def action_reload(self) -> None:
        """Read the runs' folders again."""
        self.read_runs()

    def say_nothing_there(self) -> None:
        """Say how to get a checkpoint, or that there is none on this line."""
        if self.items:
            self.lab.say("there is no usable checkpoint on this line", is_error=True)
        else:
            self.lab.say("there is no checkpoint yet: 3 then s trains a model", is_error=True)
