"""What changes runs and checkpoints on disk: rename, annotate, delete, each after a question."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.ui.checkpoints.browser import CheckpointBrowser
from shakespeare_tui.ui.checkpoints.table import CheckpointLine
from shakespeare_tui.ui.dialogs import ConfirmDialog
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.widgets.ask_bar import AskBar


class CheckpointEditor:
    """Renames, annotates and deletes; what a trainer holds is left alone.

    Args:
        screen: Shows the questions, in its ``AskBar`` and in dialogs over it.
        browser: What is listed.
        changed: Called when something on disk may be another.
    """

    def __init__(
        self, screen: LabScreen, browser: CheckpointBrowser, changed: Callable[[], object]
    ) -> None:
        self._screen, self._browser, self._changed = screen, browser, changed
        # Of two deletions in one run, the second would find it held, as by a trainer.
        self._turn = asyncio.Lock()

    def rename(self, run: RunFolder) -> None:
        """Ask for the run's new name."""
        from shakespeare_tui.runs.editing import rename_run

        lab = self._screen.lab

        def answer(text: str) -> None:
            with _refusals_told():
                renamed = rename_run(run, text.strip(), now=lab.services.clock())
            self._browser.marked.clear()
            lab.say(f"{run.name} is called {renamed.name} now; forks still find it")
            self._changed()

        hint = "letters, digits, - _ . · enter renames"
        self._screen.query_one(AskBar).ask("Rename", hint, run.name, answer)

    def annotate(self, run: RunFolder) -> None:
        """Ask for a note on the run."""
        from shakespeare_tui.runs.editing import annotate_run
        from shakespeare_tui.runs.notes import read_notes

        def answer(text: str) -> None:
            with _refusals_told():
                annotate_run(run, text)
            self._changed()

        note = read_notes(run.path).note
        self._screen.query_one(AskBar).ask("Note", f"on {run.name} · empty: none", note, answer)

    def delete(self, line: CheckpointLine) -> None:
        """Ask before the checkpoint or the run of a line is deleted."""
        title, text, change = self._deletion(line)

        def answer(is_yes: bool | None) -> None:
            if is_yes:
                done = f"deleted {title.partition(' ')[2]}"
                self._screen.run_worker(self._carry_out(change, done), group="change")

        self._screen.app.push_screen(ConfirmDialog(title, text, "Delete"), answer)

    async def _carry_out(self, change: Callable[[], object], done: str) -> None:
        try:
            async with self._turn:
                with _refusals_told():
                    await asyncio.to_thread(change)
        except UserError as problem:
            self._screen.lab.say(str(problem), is_error=True)
        else:
            self._screen.lab.say(done)
        self._changed()

    def _deletion(self, line: CheckpointLine) -> tuple[str, str, Callable[[], object]]:
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

    def _lost_with_run(self, line: CheckpointLine) -> str:
        entry = line.item.run
        size = sum(checkpoint.size_bytes for checkpoint in entry.checkpoints)
        count = len(entry.checkpoints)
        lost = f"{count} checkpoint{'s' if count != 1 else ''} ({format_bytes(size)})"
        if entry.problem and not count:
            lost = "All of its checkpoints"
        text = f"{lost}, the log of all steps and samples, the config and the note are lost."
        forks = {
            item.run.name
            for item in self._browser.items
            if item.parent and item.parent.rpartition("@")[0] == entry.name
        }
        if forks:
            text += f"\nStarted from it, and kept: {', '.join(sorted(forks))}."
        return text


@contextmanager
def _refusals_told() -> Iterator[None]:
    """What the disk refuses is told like what the user can mend."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename or 'the run'}: {error.strerror or error}") from None
