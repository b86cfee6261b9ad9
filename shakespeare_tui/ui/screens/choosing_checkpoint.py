"""Which checkpoint a place works with: the list, kept up to date, and the choice from it."""

from textual import on, work
from textual.message import Message

from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.run_listing import CheckpointRow, RunRow, list_run_rows


class CheckpointsListed(Message):
    """The runs' folders were read."""

    def __init__(self, rows: list[RunRow]) -> None:
        super().__init__()
        self.rows = rows


class ChoosingCheckpoint(LabScreen):
    """A place that works with one checkpoint at a time; ``chosen`` is it, ``RUN@STEP``."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: str | None = None
        self._wanted: str | None = None
        self._rows: list[RunRow] = []

    def show_advice(self) -> None:
        """Another checkpoint was chosen, or there is none."""

    @work(thread=True, exclusive=True, group="list")
    def list_checkpoints(self) -> None:
        """Read the runs' folders off the UI thread."""
        self.post_message(CheckpointsListed(list_run_rows(self.lab.services.runs_root)))

    @on(CheckpointsListed)
    def _show_checkpoints(self, message: CheckpointsListed) -> None:
        self._rows = message.rows
        references = [row.reference for run in self._rows for row in run.checkpoints]
        wanted = self._wanted or self.chosen
        self.chosen = wanted if wanted in references else _best(self._rows)
        self._wanted = None
        self.show_advice()

    def open_checkpoint(self, reference: str) -> None:
        """Choose a checkpoint by ``RUN@STEP``, at once or as soon as the list is there."""
        self._wanted = reference
        self.list_checkpoints()

    def action_choose_checkpoint(self) -> None:
        """Choose from all checkpoints."""
        from shakespeare_tui.ui.widgets.config_dialogs import Choice, ChoiceDialog

        choices = [
            Choice("checkpoint", row.reference, _about(row))
            for run in self._rows
            for row in run.checkpoints
        ]
        if not choices:
            self.lab.say("there is no checkpoint yet: 3 then s trains a model", is_error=True)
            return

        def take(choice: Choice | None) -> None:
            if choice is not None:
                self.chosen = choice.name
                self.show_advice()

        self.lab.push_screen(ChoiceDialog("Checkpoint", choices, self.chosen or ""), take)

    def action_reload(self) -> None:
        """Read the runs' folders again."""
        self.list_checkpoints()


def _about(row: CheckpointRow) -> str:
    return " · ".join((f"val loss {row.loss or '-'}", *row.marks))


def _best(rows: list[RunRow]) -> str | None:
    """The best checkpoint of the newest run that has one."""
    for run in rows:
        for row in run.checkpoints:
            if "best" in row.marks:
                return row.reference
    return next((row.reference for run in rows for row in run.checkpoints), None)
