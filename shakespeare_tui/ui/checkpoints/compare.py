"""The comparison of marked checkpoints: texts, measures, curves and settings side by side."""

import contextlib
from collections.abc import Mapping, MutableMapping, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import ContentSwitcher, Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import format_accuracy, format_bytes, format_loss
from shakespeare_tui.measures import Memorisation
from shakespeare_tui.runs.compare.items import CheckpointItem
from shakespeare_tui.runs.compare.settings import Row, figure_rows, measure_rows, settings_rows
from shakespeare_tui.runs.folder import RunFolder, pretrained_hint
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.losses import differ_in_tokenizer, perplexity
from shakespeare_tui.ui.checkpoints.writing import WritingScreen
from shakespeare_tui.ui.engine.text_writer import TextWriter
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.widgets.loss_chart import LossChart
from shakespeare_tui.ui.widgets.pane_tabs import PaneTabs
from shakespeare_tui.ui.widgets.text_glyphs import fitted

PANES = (("texts", "Texts"), ("measures", "Measures"), ("curves", "Curves"), ("config", "Config"))
_NARROWEST = 24
_NO_CORPUS = "Word and copy measures need the corpus of the run: fetch it on the Data screen (1)."


class CompareScreen(WritingScreen):
    """Two to six checkpoints beside each other; tab goes from the texts to the figures.

    Args:
        writer: Writes the texts and keeps them.
        items: The checkpoints; the others are compared with the first.
        copies: Takes what their texts copied from their corpus, by ``RUN@STEP``.
    """

    HELP: ClassVar[str] = """\
The marked checkpoints continue the same prompt with the same seed. Words that the first one did
not write are highlighted; the first character that differs is shown in reverse.

Tab switches between the texts, their measures, the runs' loss curves, and the settings that
differ. The best value of each measure is marked. Up and down scroll all texts together; left and
right show columns that do not fit; on the curves, a shows perplexity and accuracy. p changes the
prompt, n the seed, o the length; escape goes back."""
    DEFAULT_CSS: ClassVar[str] = """
    CompareScreen #texts { height: 1fr; overflow-x: auto; scrollbar-size-horizontal: 1; }
    CompareScreen TextPane { min-width: 26; }
    CompareScreen #panes { height: 1fr; }
    CompareScreen #measures, CompareScreen #config { height: 1fr; padding: 1 1; }
    CompareScreen #measures > Static, CompareScreen #config > Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "pane(1)", "Next view", id="compare.next"),
        Binding("shift+tab", "pane(-1)", "Previous view", show=False, id="compare.before"),
        Binding("a", "quantity", "Loss/perplexity/accuracy", show=False, id="compare.quantity"),
        Binding("left", "columns(-1)", "Columns to the left", show=False, id="compare.left"),
        Binding("right", "columns(1)", "Columns to the right", show=False, id="compare.right"),
    ]

    def __init__(
        self,
        writer: TextWriter,
        items: Sequence[CheckpointItem],
        copies: MutableMapping[str, Memorisation],
    ) -> None:
        super().__init__(writer, items)
        self._copies = copies
        self.pane = PANES[0][0]
        self.curves: Mapping[str, RunHistory] | None = None
        self._jobs = Jobs(self)

    def compose_texts(self) -> ComposeResult:
        """The four views; one is shown at a time."""
        tabs = PaneTabs()
        tabs.show(PANES, self.pane, is_focused=True)
        yield tabs
        with ContentSwitcher(id="panes", initial=self.pane):
            yield from super().compose_texts()
            with VerticalScroll(id="measures", can_focus=False):
                yield Static("", id="measures-table", markup=False)
            yield LossChart(id="curves")
            with VerticalScroll(id="config", can_focus=False):
                yield Static("", id="config-table", markup=False)

    def on_resize(self) -> None:
        """Another width has room for wider columns, or only for narrower ones."""
        if self.is_mounted:
            self.show_texts()

    # --- views ---------------------------------------------------------------------------------

    def show_pane(self, pane: str) -> None:
        """Show one of the views."""
        self.pane = pane
        self.query_one(ContentSwitcher).current = pane
        self.query_one(PaneTabs).show(PANES, pane, is_focused=True)
        if pane == "curves":
            self._show_curves()
            self.query_one(LossChart).focus()
        else:
            self.set_focus(None)
        self.show_texts()

    @on(PaneTabs.Chosen)
    def _choose_pane(self, message: PaneTabs.Chosen) -> None:
        self.show_pane(message.pane)

    def action_pane(self, by: int) -> None:
        """Go to the next view."""
        names = [name for name, _ in PANES]
        self.show_pane(names[(names.index(self.pane) + by) % len(names)])

    def action_columns(self, by: int) -> None:
        """Bring columns into view that have no room."""
        self.query_one("#texts").scroll_relative(x=by * (_NARROWEST + 2), animate=False)

    def action_scroll(self, lines: int) -> None:
        """Scroll what is shown."""
        if self.pane == "texts":
            super().action_scroll(lines)
        elif self.pane != "curves":
            self.query_one(f"#{self.pane}").scroll_relative(y=lines, animate=False)

    def show_texts(self) -> None:
        """Bring the view that is shown up to date."""
        self._keep_copies()
        if self.pane == "texts":
            super().show_texts()
        elif self.pane == "measures":
            self._show_measures()
        elif self.pane == "config":
            rows = settings_rows([item.config for item in self.items])
            empty = "All have the same settings."
            self.query_one("#config-table", Static).update(self._table(rows, empty, "•"))

    def _table(self, rows: Sequence[Row], empty: str, mark: str) -> Content:
        """Rows with a column for each checkpoint; what stands out is marked."""
        if not rows:
            return Content.styled(empty, "$text-muted")
        name_width = max(14, *(cell_len(name) for name, _, _ in rows)) + 2
        room = max(20, self.size.width - 3 - name_width)
        width = max(8, min(30, room // len(self.items) - 1))
        head = "".join(" " + fitted(item.key, width, is_right=True) for item in self.items)
        lines = [Content.styled(" " * name_width + head, "$text-muted")]
        for name, values, marks in rows:
            parts: list[tuple[str, str]] = [(fitted(name, name_width), "$text-muted")]
            for value, is_marked in zip(values, marks, strict=True):
                shown = f"{mark} {value}" if is_marked else value
                style = "bold $success" if is_marked else "$foreground"
                parts.append((" " + fitted(shown, width, is_right=True), style))
            lines.append(Content.assemble(*parts))
        return Content("\n").join(lines)

    def _show_measures(self) -> None:
        written = [self.written(item) for item in self.items]
        is_mixed = differ_in_tokenizer(item.unit for item in self.items)
        rows = figure_rows([_figures(item, is_mixed=is_mixed) for item in self.items])
        rows += measure_rows([text.measures for text in written])
        table = self._table(rows, "", "★")
        left = sum(text.measures is None and text.state != "failed" for text in written)
        if left and self.writer.is_busy:
            table = table + Content.styled(f"\n\n{left} not generated yet …", "$text-muted")
        elif any(text.measures and text.measures.memorisation is None for text in written):
            table = table + Content.styled(f"\n\n{_NO_CORPUS}", "$text-muted")
        for note in dict.fromkeys(map(_pretrained, self.items)):
            table = table + Content.styled(f"\n{note}" if note else "", "$text-muted")
        self.query_one("#measures-table", Static).update(table)

    def _keep_copies(self) -> None:
        for item in self.items:
            measures = self.written(item).measures
            if measures is not None and measures.memorisation is not None:
                self._copies[item.key] = measures.memorisation

    # --- curves --------------------------------------------------------------------------------

    def _show_curves(self) -> None:
        if self.curves is None:
            self.curves = {}
            names = dict.fromkeys(item.run.name for item in self.items)
            paths = {item.run.name: item.run.path for item in self.items}
            runs = [RunFolder(paths[name]) for name in names]
            self._jobs.start("curves", lambda job: _read_curves(runs), self._take_curves)

    def action_quantity(self) -> None:
        """Show perplexity or accuracy in place of the loss."""
        self.query_one(LossChart).change_quantity()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is drawn is chosen where curves are shown."""
        if action == "quantity":
            return self.pane == "curves"
        return super().check_action(action, parameters)

    def on_unmount(self) -> None:
        self._jobs.close()

    def _take_curves(self, job: "Job[dict[str, RunHistory]]") -> None:
        if job.result is None:
            self.lab.say(job.error, is_error=True)
            return
        self.curves = job.result
        first, *others = self.curves
        chart = self.query_one(LossChart)
        chart.show_run(self.curves[first])
        chart.show_overlays({name: self.curves[name] for name in others})
        chart.border_title = Content(first)


def _read_curves(runs: list[RunFolder]) -> dict[str, RunHistory]:
    from shakespeare_tui.runs.event_log import read_events

    curves = {}
    for run in runs:
        curves[run.name] = RunHistory()
        # A run whose log is gone has no curve.
        with contextlib.suppress(OSError, UserError):
            curves[run.name].extend(read_events(run.events_path))
    return curves


def _pretrained(item: CheckpointItem) -> str:
    source = item.run.info.pretrained if item.run.info else None
    return f"{item.run.name}: {pretrained_hint(source)}" if source and item.losses else ""


def _figures(item: CheckpointItem, *, is_mixed: bool) -> dict[str, str]:
    size = item.checkpoint.size_bytes if item.checkpoint else 0
    figure = perplexity(item.val_loss)
    return {
        "val loss": str(item.loss or "-"),
        **({"bits per byte": format_loss(item.bits_per_byte)} if is_mixed else {}),
        "train loss": format_loss(item.train_loss),
        "gap": format_loss(item.gap),
        "perplexity": "-" if figure is None else f"{figure:.2f}",
        "accuracy": format_accuracy(item.accuracy),
        "Elo": str(item.rating or "-"),
        "size": format_bytes(size),
    }
