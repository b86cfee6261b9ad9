"""``e``: checkpoints as files that other programs open, in a dialog with progress and result."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.formatting import counted
from shakespeare_tui.ui.advice_in_keys import in_lab
from shakespeare_tui.ui.engine.exporting import ExportProgress, ExportRequest
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.lab_screen import Dialog, lab_of
from shakespeare_tui.ui.widgets.choice_dialog import FRAME, Options
from shakespeare_tui.ui.widgets.inputs import OrderedInput
from shakespeare_tui.ui.widgets.path_dialog import PathSuggester
from shakespeare_tui.visible_text import visible

if TYPE_CHECKING:
    from shakespeare_tui.export.registry import Format

_POLLS_A_SECOND = 10
_NAME_WIDTH = 14
_PRUNE_STEP, _MOST_PRUNED = 10, 90
_FOLDER = "exports"
"""Where several go by default, each by its own name."""

Outcome = tuple[str, bool]
"""A line about an export, and whether it failed."""


class ExportDialog(Dialog[None]):
    """Format, precision and place of an export; what does not fit a checkpoint says why.

    Args:
        references: The checkpoints, ``RUN@STEP``.
    """

    DEFAULT_CSS: ClassVar[str] = (
        FRAME.format(name="ExportDialog", width=84)
        + """
    ExportDialog > Vertical { max-height: 100%; }
    ExportDialog OptionList {
        height: auto;
        max-height: 11;
        border: none;
        padding: 0;
        background: $surface;
        scrollbar-size-vertical: 1;
    }
    ExportDialog #how { height: 2; margin-top: 1; }
    ExportDialog Horizontal { height: 1; }
    ExportDialog Horizontal > Static { width: 14; }
    ExportDialog Input { width: 1fr; background: $panel; }
    ExportDialog #note { margin-top: 1; max-height: 5; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close", id="export.close"),
        Binding("left", "precision(-1)", "More precise", show=False, id="export.more_precise"),
        Binding("right", "precision(1)", "Smaller", show=False, id="export.smaller"),
        Binding("plus,equals_sign", "prune(1)", "Prune more", show=False, id="export.prune_more"),
        Binding("minus", "prune(-1)", "Prune less", show=False, id="export.prune_less"),
        Binding("k", "cache", "KV cache", show=False, id="export.cache"),
    ]

    def __init__(self, references: Sequence[str]) -> None:
        super().__init__()
        self._references = list(references)
        self._jobs = Jobs(self)
        self._job: Job[list[Outcome]] | None = None
        self._progress = ExportProgress()
        self._unfit: Mapping[str, str] = {}
        self._dtypes: dict[str, int] = {}
        self._pruned, self._has_cache = 0, False
        self._suggested = ""
        self._asked_for: tuple[str, str] | None = None

    def compose(self) -> ComposeResult:
        """The formats, how and where, and a line for what comes of it."""
        with Vertical() as frame:
            one = self._references[0]
            count = len(self._references)
            frame.border_title = Content(f"Export {one if count == 1 else f'{count} checkpoints'}")
            yield Options(id="formats", markup=False, compact=True)
            yield Static("", id="how", markup=False)
            with Horizontal():
                yield Static("Into", markup=False)
                yield OrderedInput("", suggester=PathSuggester(()), id="path", compact=True)
            yield Static("looking which formats fit …", id="note", markup=False)

    def on_mount(self) -> None:
        """Offer all formats, and find out which of them fit."""
        services = lab_of(self).services
        engine, root, references = services.engine, services.runs_root, self._references

        def look(job: Job[dict[str, str]]) -> dict[str, str]:
            found: dict[str, str] = {}
            for reference in references:
                unfit = engine.unfit_formats(reference, root, job.cancelled.is_set)
                several = f"{reference}: " if len(references) > 1 else ""
                found = {name: f"{several}{why}" for name, why in unfit.items()} | found
            return found

        self._jobs.start("look for formats", look, self._take_unfit)
        self.query_one(OptionList).focus()
        self.set_interval(1 / _POLLS_A_SECOND, self._follow)
        self._show_keys()

    def on_unmount(self) -> None:
        """What is being written is given up."""
        self._jobs.close()

    def on_resize(self) -> None:
        """Fold the explanations at the width there is."""
        self.call_after_refresh(self._fill)

    # --- what is chosen ------------------------------------------------------------------------

    @property
    def _formats(self) -> "Mapping[str, Format]":
        from shakespeare_tui.export.registry import FORMATS

        return FORMATS

    @property
    def _format(self) -> "Format | None":
        option = self.query_one(OptionList).highlighted_option
        return None if option is None else self._formats[option.id or ""]

    def _dtype(self, format_: "Format") -> str:
        return format_.dtypes[self._dtypes.get(format_.name, 0)]

    def _file_name(self, format_: "Format", reference: str) -> str:
        from shakespeare_tui.export.registry import file_name

        has_cache = self._has_cache and format_.takes_cache
        options = format_.options(self._dtype(format_), kv_cache=has_cache)
        return f"{reference.replace('@', '-')}-{file_name(format_, options)}"

    def action_precision(self, by: int) -> None:
        """Go to the next type of weights that the format has."""
        format_ = self._format
        if format_ is not None and len(format_.dtypes) > 1:
            place = self._dtypes.get(format_.name, 0) + by
            self._dtypes[format_.name] = place % len(format_.dtypes)
            self._show_choice()

    def action_prune(self, by: int) -> None:
        """Leave out more weights or fewer."""
        if self._format is not None and self._format.takes_pruning:
            self._pruned = max(0, min(_MOST_PRUNED, self._pruned + by * _PRUNE_STEP))
            self._show_choice()

    def action_cache(self) -> None:
        """Give keys and values in and out, or not."""
        if self._format is not None and self._format.takes_cache:
            self._has_cache = not self._has_cache
            self._show_choice()

    # --- showing -------------------------------------------------------------------------------

    def _fill(self) -> None:
        options = self.query_one(OptionList)
        format_, width = self._format, options.size.width
        options.set_options(
            Option(self._line(each, width), id=name, disabled=name in self._unfit)
            for name, each in self._formats.items()
        )
        fitting = [name for name in self._formats if name not in self._unfit]
        wanted = format_.name if format_ is not None else ""
        if fitting:
            name = wanted if wanted in fitting else fitting[0]
            options.highlighted = options.get_option_index(name)
        self._show_choice()

    def _line(self, format_: "Format", width: int) -> Content:
        about = self._unfit.get(format_.name)
        lines = wrap(format_.title if about is None else about, max(20, width - _NAME_WIDTH - 2))
        fold = "\n" + " " * _NAME_WIDTH
        style = "bold" if about is None else "$text-muted"
        name = format_.name.ljust(_NAME_WIDTH)
        return Content.assemble((name, style), (fold.join(lines), "$text-muted"))

    @on(OptionList.OptionHighlighted)
    def _show_choice(self) -> None:
        """Show how the format under the cursor is written, and where to."""
        format_ = self._format
        if format_ is None:
            return
        chosen = self._dtype(format_)
        parts: list[tuple[str, str] | str] = ["Precision".ljust(_NAME_WIDTH)]
        for dtype in format_.dtypes:
            parts += [(f" {dtype} ", "bold reverse" if dtype == chosen else "$text-muted"), " "]
        if format_.is_rounded:
            parts = ["Precision".ljust(_NAME_WIDTH), (" int8 ", "bold reverse"), " "]
        if len(format_.dtypes) > 1:
            parts.append((" ←→", "$text-muted"))
        if format_.takes_pruning:
            parts.append(f"\n{'Pruned'.ljust(_NAME_WIDTH)} {self._pruned} %  ")
            parts.append(("of each matrix, what is nearest to zero   - +", "$text-muted"))
        if format_.takes_cache:
            parts.append(
                f"\n{'KV cache'.ljust(_NAME_WIDTH)} {'yes' if self._has_cache else 'no'}  "
            )
            parts.append(("each token is read once   k", "$text-muted"))
        self.query_one("#how", Static).update(Content.assemble(*parts))
        field = self.query_one(Input)
        if field.value == self._suggested:
            is_one = len(self._references) == 1
            self._suggested = self._file_name(format_, self._references[0]) if is_one else _FOLDER
            field.value = self._suggested

    def _show_keys(self) -> None:
        keys = "↓↑ format · tab path · enter exports · esc closes"
        frame = self.query_one(Vertical)
        frame.border_subtitle = Content("esc cancels" if self._is_busy else keys)

    def _tell(self, *lines: Outcome | str) -> None:
        parts = [
            Content(line) if isinstance(line, str) else Content.styled(line[0], "$error")
            for line in lines
        ]
        self.query_one("#note", Static).update(Content("\n").join(parts))

    def _take_unfit(self, job: Job[dict[str, str]]) -> None:
        if job.result is None:
            self._tell((job.error, True))
            return
        self._unfit = {name: in_lab(why) for name, why in job.result.items()}
        self._fill()
        if self._job is None:
            self._tell("")

    # --- exporting -----------------------------------------------------------------------------

    @property
    def _is_busy(self) -> bool:
        return self._job is not None and not self._job.is_over

    @on(OptionList.OptionSelected)
    @on(Input.Submitted)
    def _submitted(self) -> None:
        """Export, once it is clear that nothing is lost by it."""
        format_, text = self._format, self.query_one(Input).value.strip()
        if self._is_busy or format_ is None:
            return
        if not text:
            self._tell(("type the path to write to", True))
            return
        path, several = Path(text).expanduser(), len(self._references) > 1
        targets = {
            reference: path / self._file_name(format_, reference) if several else path
            for reference in self._references
        }
        there = [target for target in targets.values() if os.path.lexists(target)]
        question = (text, self._file_name(format_, ""))
        if there and question != self._asked_for:
            self._asked_for = question
            names = visible(str(there[0])) if len(there) == 1 else counted(len(there), "export")
            verb = "exists" if len(there) == 1 else "exist"
            self._tell((f"{names} {verb}; enter again replaces what is there", True))
            return
        self._asked_for = None
        self._begin(format_, targets, path if several else None)

    def _begin(self, format_: "Format", targets: dict[str, Path], folder: Path | None) -> None:
        services = lab_of(self).services
        engine, progress = services.engine, ExportProgress()
        requests = [
            ExportRequest(
                runs_root=services.runs_root,
                reference=reference,
                format=format_.name,
                dtype=self._dtype(format_),
                kv_cache=self._has_cache and format_.takes_cache,
                prune=float(self._pruned) if format_.takes_pruning else 0.0,
                target=target,
            )
            for reference, target in targets.items()
        ]

        def work(job: Job[list[Outcome]]) -> list[Outcome]:
            if folder is not None:
                folder.mkdir(exist_ok=True)
            outcomes: list[Outcome] = []
            for place, request in enumerate(requests):
                job.report(place, len(requests))
                try:
                    lines = engine.export(request, progress, job.cancelled.is_set)
                    outcomes += [(line, False) for line in lines]
                except (UserError, RunFailedError) as error:
                    outcomes.append((in_lab(str(error)), True))
            return outcomes

        self._progress = progress
        self._job = self._jobs.start("export", work, self._finish)
        self._follow()
        self._show_keys()

    def _follow(self) -> None:
        job, progress = self._job, self._progress
        if job is None or not self._is_busy or job.cancelled.is_set():
            return
        share = f" {progress.done / progress.total:.0%}" if progress.total else " …"
        several = f"{job.done + 1} of {job.total} · " if job.total and job.total > 1 else ""
        self._tell(f"{several}{progress.what or 'beginning'}{share}")

    def _finish(self, job: Job[list[Outcome]]) -> None:
        self._show_keys()
        if job.state == "cancelled":
            self._tell("cancelled; nothing was left behind")
        elif job.result is None:
            self._tell((job.error, True))
        else:
            lines = [(visible(text), failed) for text, failed in job.result]
            self._tell(*[(text, True) if failed else text for text, failed in lines])

    def action_leave(self) -> None:
        """Give up what is being written; close where nothing is."""
        if self._job is not None and self._is_busy:
            self._job.cancel()
            self._tell("cancelling …")
        else:
            self.dismiss(None)
