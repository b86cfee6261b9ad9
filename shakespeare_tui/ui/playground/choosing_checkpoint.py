"""Which checkpoint a place works with: the list, kept up to date, and the choice from it."""

from textual import on, work
from textual.message import Message

from shakespeare_tui.runs.catalog import CheckpointEntry, RunCatalog, RunEntry
from shakespeare_tui.ui.place import LabScreen


class CheckpointsListed(Message):
    """The runs' folders were read."""

    def __init__(self, runs: list[RunEntry]) -> None:
        super().__init__()
        self.runs = runs


class ChoosingCheckpoint(LabScreen):
    """A place that works with one checkpoint at a time; ``chosen`` is it, ``RUN@STEP``."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: str | None = None
        self._wanted: str | None = None
        self._runs: list[RunEntry] = []
        self._catalog: RunCatalog | None = None

    def show_advice(self) -> None:
        """Another checkpoint was chosen, or there is none."""

    @work(thread=True, exclusive=True, group="list")
    def list_checkpoints(self) -> None:
        """Read the runs' folders off the UI thread."""
        if self._catalog is None:
            self._catalog = RunCatalog(self.lab.services.runs_root)
        self.post_message(CheckpointsListed(self._catalog.entries()))

    @on(CheckpointsListed)
    def _show_checkpoints(self, message: CheckpointsListed) -> None:
        self._runs = message.runs
        references = [entry.reference for entry in _usable(self._runs)]
        wanted = self._wanted or self.chosen
        self.chosen = wanted if wanted in references else _best(self._runs)
        self._wanted = None
        self.show_advice()

    def open_checkpoint(self, reference: str) -> None:
        """Choose a checkpoint by ``RUN@STEP``, at once or as soon as the list is there."""
        self._wanted = reference
        self.list_checkpoints()

    def action_choose_checkpoint(self) -> None:
        """Choose from all checkpoints."""
        from shakespeare_tui.ui.widgets.choices import Choice, ChoiceDialog

        choices = [
            Choice("checkpoint", entry.reference, _about(entry), entry.problem is not None)
            for run in self._runs
            for entry in run.checkpoints
        ]
        choices += [
            Choice("damaged", run.name, run.problem, is_damaged=True)
            for run in self._runs
            if run.problem is not None and not run.checkpoints
        ]
        if not _usable(self._runs):
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


def _usable(runs: list[RunEntry]) -> list[CheckpointEntry]:
    return [entry for run in runs for entry in run.checkpoints if entry.info is not None]


def _about(entry: CheckpointEntry) -> str:
    if entry.problem is not None:
        return entry.problem
    loss = entry.info.loss if entry.info else None
    figure = f"val loss {loss or '-'}"
    marks = ["best"] * entry.is_best + ["last"] * entry.is_last
    return " · ".join((figure, *marks))


def _best(runs: list[RunEntry]) -> str | None:
    """The best checkpoint of the newest run that has one."""
    return next((best.reference for run in runs if (best := run.best) is not None), None)
