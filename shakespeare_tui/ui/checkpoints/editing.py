"""The part of the Checkpoints place that changes what is on disk: rename, annotate, delete."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message

from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.ui.checkpoints.listing import ListingScreen
from shakespeare_tui.ui.checkpoints.table import TableLine
from shakespeare_tui.ui.dialogs import ConfirmDialog
from shakespeare_tui.ui.widgets.ask_bar import AskBar


class Changed(Message):
    """A change on disk was made, or was not: ``error`` says why."""

    def __init__(self, done: str, error: str = "") -> None:
        super().__init__()
        self.done, self.error = done, error


class EditingScreen(ListingScreen):
    """Keys that rename, annotate and delete; what a trainer holds is left alone."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d,delete", "delete", "Delete", show=False, id="checkpoints.delete"),
        Binding("n", "rename", "Rename run", show=False, id="checkpoints.rename"),
        Binding("a", "annotate", "Add a note", show=False, id="checkpoints.annotate"),
    ]

    @work(thread=True, group="change")
    def _change(self, change: Callable[[], object], done: str) -> None:
        error = ""
        try:
            change()
        except UserError as problem:
            error = str(problem)
        except OSError as problem:
            error = f"{problem.filename or 'the folder'}: {problem.strerror or problem}"
        self.post_message(Changed(done, error))

    @on(Changed)
    def _tell_change(self, message: Changed) -> None:
        self.lab.say(message.error or message.done, is_error=bool(message.error))
        self.read_runs()

    def _chosen_run(self) -> RunFolder | None:
        """The run that the cursor is on, if it is one."""
        line = self.table.chosen
        if line is None or line.item.run.info is None:
            self.say_nothing_there()
            return None
        return RunFolder(line.item.run.path)

    def action_rename(self) -> None:
        """Ask for the run's new name."""
        from shakespeare_tui.runs.editing import rename_run

        run = self._chosen_run()
        if run is None:
            return

        def answer(text: str) -> None:
            renamed = rename_run(run, text.strip(), now=self.lab.services.clock())
            self.marked.clear()
            self.lab.say(f"{run.name} is called {renamed.name} now; forks still find it")
            self.read_runs()

        hint = "letters, digits, - _ . · enter renames"
        self.query_one(AskBar).ask("Rename", hint, run.name, _telling(answer))

    def action_annotate(self) -> None:
        """Ask for a note on the run."""
        from shakespeare_tui.runs.editing import annotate_run
        from shakespeare_tui.runs.notes import read_notes

        run = self._chosen_run()
        if run is None:
            return

        def answer(text: str) -> None:
            annotate_run(run, text)
            self.read_runs()

        note = read_notes(run.path).note
        self.query_one(AskBar).ask("Note", f"on {run.name} · empty: none", note, _telling(answer))

    def action_delete(self) -> None:
        """Ask before the checkpoint or the run under the cursor is deleted."""
        line = self.table.chosen
        if line is None:
            self.say_nothing_there()
            return
        title, text, change = self._deletion(line)

        def answer(is_yes: bool | None) -> None:
            if is_yes:
                self._change(change, f"deleted {title.partition(' ')[2]}")

        self.app.push_screen(ConfirmDialog(title, text, "Delete"), answer)

    def _deletion(self, line: TableLine) -> tuple[str, str, Callable[[], object]]:
        """What a deletion is called, what is lost, and what does it."""
        from shakespeare_tui.runs.editing import delete_checkpoint, delete_foreign, delete_run

        entry, checkpoint = line.item.run, line.item.checkpoint
        run = RunFolder(entry.path)
        if entry.info is None:
            text = f"{entry.path}\nis damaged or not a run of this program; all of it is deleted."
            return f"Delete {entry.name}", text, lambda: delete_foreign(entry.path)
        if line.kind == "run" or checkpoint is None:
            return f"Delete {entry.name}", self._lost_with_run(line), lambda: delete_run(run)
        if checkpoint.step < 0:
            path: Path = entry.path / checkpoint.name
            return (
                f"Delete {checkpoint.reference}",
                f"{path}\nis no checkpoint of this program.",
                lambda: delete_foreign(path),
            )
        text = f"{format_bytes(checkpoint.size_bytes)} of weights and training state are lost."
        marks = ["best"] * checkpoint.is_best + ["last"] * checkpoint.is_last
        if marks:
            left = sum(other.info is not None for other in entry.checkpoints) - line.item.is_usable
            text += f"\nIt is the run's {' and '.join(marks)} checkpoint; " + (
                "another one takes its place." if left else "the run then has none."
            )
        if checkpoint.is_last:
            text += "\nResuming then starts from an earlier step."
        step = checkpoint.step
        return f"Delete {checkpoint.reference}", text, lambda: delete_checkpoint(run, step)

    def _lost_with_run(self, line: TableLine) -> str:
        entry = line.item.run
        size = sum(checkpoint.size_bytes for checkpoint in entry.checkpoints)
        count = len(entry.checkpoints)
        lost = f"{count} checkpoint{'s' if count != 1 else ''} ({format_bytes(size)})"
        if entry.problem and not count:
            lost = "All of its checkpoints"
        text = f"{lost}, the log of all steps and samples, the config and the note are lost."
        forks = {
            item.run.name
            for item in self.items
            if item.parent and item.parent.rpartition("@")[0] == entry.name
        }
        if forks:
            text += f"\nStarted from it, and kept: {', '.join(sorted(forks))}."
        return text


def _telling(answer: Callable[[str], None]) -> Callable[[str], None]:
    """The same; what the disk refuses is told like what the user can mend."""

    def told(text: str) -> None:
        try:
            answer(text)
        except OSError as error:
            raise UserError(f"{error.filename or 'the run'}: {error.strerror or error}") from None

    return told
