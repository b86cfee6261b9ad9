"""Choose one run to show, or several to lay over the chart."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, SelectionList, Static
from textual.widgets.option_list import Option
from textual.widgets.selection_list import Selection

from shakespeare_tui.formatting import format_duration
from shakespeare_tui.runs.catalog import RunCatalog, RunEntry
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.lab_screen import Dialog, state_content
from shakespeare_tui.ui.widgets.choice_dialog import Options, Selections
from shakespeare_tui.visible_text import visible

_EMPTY = "There are no runs yet: press escape, then s, to train one."


class ChooseRuns(Dialog[tuple[str, ...] | None]):
    """A list of runs; the result is the names chosen, or None where it was left.

    Args:
        title: What is chosen.
        root: The folder of all runs.
        chosen: Names that are marked at first; None lets one be chosen instead of several.
        left_out: Names that are not offered.
    """

    DEFAULT_CSS: ClassVar[str] = """
    ChooseRuns {
        align: center middle;
        background: $background 60%;
    }
    ChooseRuns > Vertical {
        width: 76;
        max-width: 100%;
        height: auto;
        max-height: 80%;
        padding: 1 1 0 1;
        background: $surface;
        border: round $border;
        border-title-color: $foreground;
        border-subtitle-color: $text-muted;
    }
    ChooseRuns OptionList, ChooseRuns SelectionList {
        height: auto;
        max-height: 20;
        border: none;
        padding: 0;
        background: $surface;
    }
    ChooseRuns Static { height: auto; color: $text-muted; padding-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Cancel", id="choose.leave"),
        Binding("enter", "choose", "Choose", priority=True, id="choose.take"),
    ]

    def __init__(
        self,
        title: str,
        root: Path,
        *,
        chosen: Iterable[str] | None = None,
        left_out: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self._title = title
        self._root = root
        self._chosen = None if chosen is None else set(chosen)
        self._left_out = set(left_out)
        self._jobs = Jobs(self)

    def compose(self) -> ComposeResult:
        with Vertical() as frame:
            frame.border_title = Content(self._title)
            several = "space marks · " if self._chosen is not None else ""
            frame.border_subtitle = Content(f"{several}enter selects · esc closes")
            yield Static("reading …", markup=False)
            if self._chosen is None:
                yield Options(compact=True)
            else:
                yield Selections[str](compact=True)

    def on_mount(self) -> None:
        """Read the folders off the UI thread."""
        self._jobs.start(
            "list of runs", lambda job: RunCatalog(self._root).entries(), self._show_runs
        )

    def on_unmount(self) -> None:
        self._jobs.close()

    def _show_runs(self, job: Job[list[RunEntry]]) -> None:
        offered = [run for run in job.result or () if run.name not in self._left_out]
        note = self.query_one(Static)
        note.update(_EMPTY)
        note.display = not offered
        width = max((len(run.name) for run in offered), default=0)
        choices, now = self.query_one(OptionList), time.time()
        if isinstance(choices, SelectionList):
            choices.add_options(
                Selection(
                    _describe(run, width, now),
                    run.name,
                    run.name in (self._chosen or ()),
                    disabled=run.problem is not None,
                )
                for run in offered
            )
        else:
            choices.add_options(
                Option(_describe(run, width, now), id=run.name, disabled=run.problem is not None)
                for run in offered
            )
        choices.highlighted = 0 if offered else None
        choices.focus()

    def action_choose(self) -> None:
        """Take what is marked, or the run under the cursor."""
        choices = self.query_one(OptionList)
        if isinstance(choices, SelectionList):
            self.dismiss(tuple(choices.selected))
        elif choices.highlighted_option is not None:
            self.dismiss((choices.highlighted_option.id or "",))
        else:
            self.dismiss(None)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        if self._chosen is None:
            self.dismiss((event.option.id or "",))

    def action_leave(self) -> None:
        """Choose nothing."""
        self.dismiss(None)


def _describe(run: RunEntry, width: int, now: float) -> Content:
    name = f"{visible(run.name):<{width}}"
    if run.problem is not None:
        return Content.styled(f"{name}  {visible(run.problem)}", "$text-muted")
    best = run.best.info if run.best else None
    loss = best.loss if best else None
    step = "-" if run.step is None else f"{run.step:,}"
    return Content.assemble(
        name,
        (f"  val loss {loss or '-'}", "bold"),
        (f"  step {step:>7}  ", "$text-muted"),
        state_content(run.state),
        (f"  {format_duration(now - (best.time if best else run.created))} ago", "$text-muted"),
    )
