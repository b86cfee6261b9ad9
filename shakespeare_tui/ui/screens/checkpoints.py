"""The Checkpoints place: what runs there are, what they reached, and where each leads."""

from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import DataTable, Static

from shakespeare_tui.core.formatting import (
    format_bytes,
    format_count,
    format_duration,
    format_loss,
    perplexity,
)
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.run_listing import CheckpointRow, RunRow, list_run_rows

_RUN_COLUMNS = (
    ("Run", False),
    ("Val loss", True),
    ("Perplexity", True),
    ("Step", True),
    ("Parameters", True),
    ("State", False),
    ("Age", True),
    ("Corpus", False),
)
_CHECKPOINT_COLUMNS = (
    ("Step", True),
    ("", False),
    ("Val loss", True),
    ("Perplexity", True),
    ("Train loss", True),
    ("Protocol", False),
    ("Size", True),
    ("Age", True),
)
_EMPTY = (
    "There are no runs yet.\n\nPress 3, then s, to train a first model: two minutes make a small "
    "Shakespeare. Its checkpoints are then listed here."
)


class RunsListed(Message):
    """The runs' folders were read."""

    def __init__(self, rows: list[RunRow]) -> None:
        super().__init__()
        self.rows = rows


class RunTable(DataTable[Text]):
    """A table whose cells are plain text and whose numbers end in one column."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select_cursor", "Show run", id="checkpoints.open"),
    ]

    def __init__(self, columns: tuple[tuple[str, bool], ...], table_id: str) -> None:
        super().__init__(id=table_id, cursor_type="row", zebra_stripes=False)
        self._right = [is_right for _, is_right in columns]
        for title, is_right in columns:
            self.add_column(Text(title, justify="right" if is_right else "left"))

    def show(self, rows: dict[str, tuple[str, ...]]) -> None:
        """Show other rows by key; the cursor stays on the row it was on, if that is still there."""
        before = self.chosen
        self.clear()
        for key, cells in rows.items():
            self.add_row(
                *(
                    Text(cell, justify="right" if right else "left", no_wrap=True)
                    for cell, right in zip(cells, self._right, strict=True)
                ),
                key=key,
            )
        if before in rows:
            self.move_cursor(row=list(rows).index(before))

    @property
    def chosen(self) -> str | None:
        """The key of the row under the cursor."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value


class CheckpointsScreen(LabScreen):
    """Runs above, the checkpoints of the chosen one below."""

    PLACE: ClassVar[str] = "checkpoints"
    CSS_PATH = "checkpoints.tcss"
    HELP: ClassVar[str] = """\
Every run below the folder of runs, newest first, and the checkpoints of the one under the cursor.
Tab moves between the two tables.

Enter shows the run in the Train place: attached while it is trained, replayed when it is over.
g opens the Playground with the checkpoint. t goes on training exactly where the run stopped; f
forks it: its config is opened for editing, and the new run starts from the checkpoint's weights.

Losses are in nats per token, under the protocol named beside them: figures of different protocols
do not compare."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "generate", "Generate", id="checkpoints.generate"),
        Binding("t", "resume", "Train on", id="checkpoints.resume"),
        Binding("f", "fork", "Fork", id="checkpoints.fork"),
        Binding("y", "copy_reference", "Copy name", id="checkpoints.copy"),
        Binding("r", "reload", "Read again", show=False, id="checkpoints.reload"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, RunRow] = {}
        self._seen: tuple[object, ...] = ()

    def compose_body(self) -> ComposeResult:
        """Two tables, or advice where there is nothing to list."""
        yield Static(_EMPTY, id="advice", markup=False)
        with Vertical(id="body"):
            yield RunTable(_RUN_COLUMNS, "runs")
            yield Static("", id="problem", markup=False)
            yield RunTable(_CHECKPOINT_COLUMNS, "checkpoints")

    def on_mount(self) -> None:
        """Title the tables; they show once there is something in them."""
        self.query_one("#runs").border_title = "Runs"
        self.query_one("#checkpoints").border_title = "Checkpoints"
        self.query_one("#advice").display = False
        self.query_one("#body").display = False

    def on_place_shown(self) -> None:
        """Read the folders: runs may have come meanwhile."""
        self._list_runs()

    def on_training_changed(self) -> None:
        """List a run, and a checkpoint of it, as soon as the trainer has written it."""
        training = self.lab.services.training
        seen = (training.checkpoints_saved, training.run_path, training.is_active)
        if seen != self._seen:
            self._seen = seen
            self._list_runs()

    @work(thread=True, exclusive=True, group="list")
    def _list_runs(self) -> None:
        self.post_message(RunsListed(list_run_rows(self.lab.services.runs_root)))

    @on(RunsListed)
    def _show_runs(self, message: RunsListed) -> None:
        self._rows = {row.summary.name: row for row in message.rows}
        self.query_one("#advice").display = not message.rows
        body = self.query_one("#body")
        was_shown, body.display = body.display, bool(message.rows)
        table = self.query_one("#runs", RunTable)
        now = self.lab.services.clock()
        table.show({name: _run_cells(row, now) for name, row in self._rows.items()})
        self._show_checkpoints()
        if body.display and not was_shown:
            table.focus()

    @on(DataTable.RowHighlighted, "#runs")
    def _show_checkpoints(self) -> None:
        row = self._run
        now = self.lab.services.clock()
        checkpoints = row.checkpoints if row else []
        self.query_one("#checkpoints", RunTable).show(
            {item.reference: _checkpoint_cells(item, now) for item in checkpoints}
        )
        parent = row.summary.parent if row else None
        subtitle = f"started from {parent}" if parent else ""
        self.query_one("#checkpoints").border_subtitle = Content(subtitle)
        problem = row.summary.problem if row else None
        line = self.query_one("#problem", Static)
        line.update(problem or "")
        line.display = bool(problem)

    @property
    def _run(self) -> RunRow | None:
        return self._rows.get(self.query_one("#runs", RunTable).chosen or "")

    @property
    def _checkpoint(self) -> CheckpointRow | None:
        """The checkpoint meant: the one under the cursor below, or the best of the run above."""
        row = self._run
        if row is None or not row.checkpoints:
            return None
        table = self.query_one("#checkpoints", RunTable)
        if self.focused is table:
            for item in row.checkpoints:
                if item.reference == table.chosen:
                    return item
        best = [item for item in row.checkpoints if "best" in item.marks]
        return best[0] if best else row.checkpoints[0]

    # --- actions -------------------------------------------------------------------------------

    @on(DataTable.RowSelected)
    def action_open_run(self) -> None:
        """Show the run in the Train place."""
        if self._run is None:
            self._say_nothing_there()
        else:
            self.lab.open_run(self._run.summary.name)

    def action_generate(self) -> None:
        """Open the Playground with the checkpoint."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            self._say_nothing_there()
        else:
            self.lab.open_playground(checkpoint.reference)

    def action_resume(self) -> None:
        """Go on training exactly where the run stopped."""
        if self._run is None or not self._run.checkpoints:
            self._say_nothing_there()
        else:
            self.lab.start_training(resume=self._run.summary.name)

    def action_fork(self) -> None:
        """Edit the run's config for a new run that starts from the checkpoint."""
        from shakespeare_tui.core.errors import UserError
        from shakespeare_tui.core.runs import find_run

        run, checkpoint = self._run, self._checkpoint
        if run is None or checkpoint is None:
            self._say_nothing_there()
            return
        name = run.summary.name
        try:
            config = find_run(name, self.lab.services.runs_root).config()
        except UserError as error:
            self.lab.say(str(error), is_error=True)
            return
        self.lab.edit_config(config, stem=f"{name}-fork", start_from=checkpoint.reference)

    def action_copy_reference(self) -> None:
        """Copy how the checkpoint is addressed on the command line."""
        if self._checkpoint is not None:
            self.lab.copy(self._checkpoint.reference, self._checkpoint.reference)

    def action_reload(self) -> None:
        """Read the runs' folders again."""
        self._list_runs()

    def _say_nothing_there(self) -> None:
        self.lab.say("there is no checkpoint yet: 3 then s trains a model", is_error=True)


def _run_cells(row: RunRow, now: float) -> tuple[str, ...]:
    summary = row.summary
    return (
        summary.name,
        format_loss(summary.val_loss),
        "-" if summary.perplexity is None else f"{summary.perplexity:.2f}",
        "-" if summary.step is None else f"{summary.step:,}",
        "-" if summary.parameters is None else format_count(summary.parameters),
        summary.state,
        format_duration(now - row.time),
        summary.corpus or "-",
    )


def _checkpoint_cells(row: CheckpointRow, now: float) -> tuple[str, ...]:
    figure = perplexity(row.val_loss)
    return (
        f"{row.step:,}",
        " ".join(row.marks),
        format_loss(row.val_loss),
        "-" if figure is None else f"{figure:.2f}",
        format_loss(row.train_loss),
        row.protocol or "-",
        format_bytes(row.size_bytes),
        format_duration(now - row.time),
    )
