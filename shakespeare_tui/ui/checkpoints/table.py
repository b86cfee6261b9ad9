"""The table of checkpoints, of which only the lines in view are drawn, and the filter above it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import (
    format_accuracy,
    format_bytes,
    format_count,
    format_duration,
    format_loss,
)
from shakespeare_tui.runs.compare.items import CheckpointItem
from shakespeare_tui.runs.compare.query import Query, parse_query
from shakespeare_tui.runs.compare.recommendation import Recommendation
from shakespeare_tui.runs.compare.settings import (
    Texts,
    describe_differences,
    describe_fine_tuning,
    preset_of,
    preset_texts,
)
from shakespeare_tui.runs.folder import pretrained_hint
from shakespeare_tui.runs.history import one_line
from shakespeare_tui.runs.losses import differ_in_tokenizer, perplexity
from shakespeare_tui.runs.state import STATE_LOOKS
from shakespeare_tui.ui.advice_in_keys import in_lab
from shakespeare_tui.ui.widgets.line_table import LEAD, LineTable, Part, TableColumn, cut
from shakespeare_tui.ui.widgets.text_glyphs import fitted

_NAME_SHARE = 0.3
_SMALLEST_NAME = 14


@dataclass(frozen=True)
class CheckpointLine:
    """One line: a run's heading, or a checkpoint."""

    kind: Literal["run", "checkpoint"]
    item: CheckpointItem

    @property
    def key(self) -> str:
        """What tells it from all other lines."""
        return f"{self.item.run.name}@" if self.kind == "run" else self.item.key


_FIGURES = (
    TableColumn("val", "Val", 7),
    TableColumn("train", "Train", 7),
    TableColumn("ppl", "Perpl.", 7),
    TableColumn("accuracy", "Acc.", 6),
    TableColumn("elo", "Elo", 8),
    TableColumn("size", "Size", 8),
    TableColumn("age", "Age", 7),
)
_WIDE_FIGURES = (
    TableColumn("gap", "Gap", 7),
    TableColumn("protocol", "Protocol", 10, False),
)


_SHORTEST_ABOUT = len("best last")
_PER_BYTE = TableColumn("bits", "Bits/B", 7)


def columns_for(
    width: int, longest_name: int, *, is_mixed: bool = False, is_rated: bool = False
) -> tuple[TableColumn, ...]:
    """The columns that fit into ``width`` cells; the last takes what is left.

    Where tokenizers differ (``is_mixed``), losses stand in bits per byte, too. Where there is
    little room, ratings are left out unless there are some (``is_rated``), and sizes.
    """
    is_wide = width >= 120
    name = TableColumn(
        "run",
        "Checkpoint",
        max(_SMALLEST_NAME, min(longest_name, int(width * _NAME_SHARE))),
        False,
    )
    figures = list(_FIGURES)
    if is_wide:
        figures[2:2] = _WIDE_FIGURES[:1]
        figures.append(_WIDE_FIGURES[1])
    if is_mixed:
        figures.insert(1, _PER_BYTE)
    least = ["elo"] * (not is_rated) + ["size"]
    while least and LEAD + name.width + _taken(figures) + 1 + _SHORTEST_ABOUT > width:
        figures = [figure for figure in figures if figure.name != least[0]]
        del least[0]
    chosen, used = [name], LEAD + name.width
    for figure in figures:
        if used + 1 + figure.width <= width:
            chosen.append(figure)
            used += 1 + figure.width
    left = width - used - 1
    if left >= 4:
        chosen.append(TableColumn("about", "", left, False))
    return tuple(chosen)


def _taken(columns: Sequence[TableColumn]) -> int:
    return sum(1 + column.width for column in columns)


def line_parts(
    line: CheckpointLine, columns: Sequence[TableColumn], *, now: float, is_grouped: bool
) -> list[Part]:
    """A line without what stands before its name."""
    width = sum(column.width + 1 for column in columns) - 1
    if line.kind == "run":
        return run_parts(line.item, width)
    item = line.item
    if item.problem is not None:
        name = _name(item, is_grouped)
        return [(fitted(f"{name}  {one_line(item.problem, 500)}", width), "damaged")]
    parts: list[Part] = []
    for number, column in enumerate(columns):
        text, style = _cell(item, column.name, now, is_grouped)
        text = fitted(text, column.width, is_right=column.is_right)
        parts.append((" " * (number > 0) + text, style))
    return parts


def run_parts(item: CheckpointItem, width: int) -> list[Part]:
    """A run's heading: its name, what became of it, where it came from, what is special in it."""
    run = item.run
    if run.info is None or (run.problem and not run.checkpoints):
        problem = one_line(run.problem or "", 500)
        return [(fitted(f"{run.name}  {problem}", width), "damaged")]
    sign, tone = STATE_LOOKS[run.state]
    facts = [format_count(run.info.parameters), run.info.corpus, origin(item), settings_text(item)]
    parts: list[Part] = [(run.name, "run")]
    if run.problem:
        parts.append((f"  {one_line(run.problem, 200)}", "damaged"))
    else:
        parts.append((f"  {sign} {run.state}", tone))
    if not run.checkpoints:
        parts.append((" · no checkpoint yet", "muted"))
    parts.append((f" · {' · '.join(filter(None, facts))}", "muted"))
    if run.notes.note:
        parts.append((f"  “{one_line(run.notes.note, 200)}”", "note"))
    return cut(parts, width)


def origin(item: CheckpointItem) -> str:
    """Where a run's weights came from, and who taught it; empty where it began with nothing."""
    taught = f"taught by {' + '.join(item.teachers)}" if item.teachers else ""
    if item.parent or taught:
        return " · ".join(filter(None, [f"from {item.parent}" if item.parent else "", taught]))
    source = item.run.info.pretrained if item.run.info else None
    return f"imported from {source}" if source else ""


def settings_text(item: CheckpointItem) -> str:
    """The preset that the run began with, and what differs from it."""
    if item.config is None:
        return ""
    if item.run.info and item.run.info.pretrained:
        return describe_fine_tuning(item.config) if item.parent else ""
    preset = preset_of(item.run.name, item.run.former_names, item.config)
    differences = describe_differences(item.config, preset_texts(preset))
    return f"{preset} {differences}".strip()


def _name(item: CheckpointItem, is_grouped: bool) -> str:
    checkpoint = item.checkpoint
    if checkpoint is None:
        return item.run.name
    if not is_grouped:
        return item.key
    return f"  {checkpoint.step:,}" if checkpoint.step >= 0 else f"  {checkpoint.name}"


def _cell(item: CheckpointItem, name: str, now: float, is_grouped: bool) -> Part:
    checkpoint = item.checkpoint
    if name == "run":
        return _name(item, is_grouped), "value"
    if checkpoint is None or checkpoint.info is None:
        return "", "muted"
    style = "best" if checkpoint.is_best and name in ("val", "bits") else "value"
    match name:
        case "val":
            return item.loss.short if item.loss else "-", style
        case "bits":
            return format_loss(item.bits_per_byte), style
        case "train":
            return format_loss(item.train_loss), "value"
        case "gap":
            return format_loss(item.gap), "value"
        case "ppl":
            figure = perplexity(item.val_loss)
            return "-" if figure is None else f"{figure:.2f}", "value"
        case "accuracy":
            return format_accuracy(item.accuracy), "value"
        case "elo":
            return str(item.rating) if item.rating else "-", "value" if item.rating else "muted"
        case "size":
            return format_bytes(checkpoint.size_bytes), "muted"
        case "age":
            return format_duration(now - item.time), "muted"
        case "protocol":
            return (item.loss.protocol if item.loss else "") or "-", "muted"
    marks = " ".join(["best"] * checkpoint.is_best + ["last"] * checkpoint.is_last)
    about = "" if is_grouped else settings_text(item)
    return f"{marks} {about}".strip(), "best" if checkpoint.is_best and is_grouped else "muted"


def recommendation_text(advice: Recommendation, note: str) -> Content:
    """The recommended checkpoint, why it is, what speaks against it; ``note`` comes last."""
    text = Content.assemble(
        ("★ ", "bold $success"), (advice.item.key, "bold"), f"  {advice.reason}"
    )
    for warning in advice.warnings:
        text = text + Content.assemble("\n", ("! ", "bold $warning"), (warning, "$warning"))
    if advice.alternative is not None:
        loss = advice.alternative.loss
        text = text + Content(f"; without that: {advice.alternative.key} ({loss})")
    for line in advice.left_out:
        text = text + Content.styled(f"\n{in_lab(line)}", "$text-muted")
    if note:
        text = text + Content.styled(f"\n{note}", "$text-muted")
    return text


def about_text(line: CheckpointLine, marked: tuple[str, Texts] | None) -> Content:
    """What a line's cells have no room for.

    Args:
        line: The line.
        marked: The run of the first marked checkpoint and its settings, to compare with.
    """
    item = line.item
    run = item.run
    problem = item.problem if line.kind == "checkpoint" else run.problem
    if problem is not None:
        return Content.styled(problem, "$error")
    facts = [item.key if line.kind == "checkpoint" else run.name, origin(item)]
    if run.info and run.info.pretrained and item.parent:
        facts.append(pretrained_hint(run.info.pretrained))
    if item.config is not None:
        facts.append(settings_text(item))
        if marked is not None and marked[0] != run.name:
            differences = describe_differences(item.config, marked[1])
            facts.append(f"against {marked[0]}: {differences or 'the same settings'}")
    if item.rating is not None and line.kind == "checkpoint":
        games = item.rating.games
        facts.append(f"Elo {item.rating} by {games} verdict{'s' if games != 1 else ''}")
    if run.notes.note:
        facts.append(f"“{run.notes.note}”")
    return Content.styled(" · ".join(filter(None, facts)), "$text-muted")


_STEP_CELLS = 12


class CheckpointTable(LineTable[CheckpointLine]):
    """Runs with their checkpoints below them, or sorted checkpoints."""

    def __init__(self, clock: Callable[[], float], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._clock = clock

    @property
    def is_grouped(self) -> bool:
        """Whether checkpoints stand below their runs."""
        return self.sorted_by is None

    def fit_columns(self, width: int) -> Sequence[TableColumn]:
        """As ``columns_for``."""
        longest = _STEP_CELLS
        if not self.is_grouped:
            longest = max((len(line.key) for line in self.lines), default=0)
        is_mixed = differ_in_tokenizer(line.item.unit for line in self.lines if line.item.losses)
        is_rated = any(line.item.rating for line in self.lines)
        return columns_for(width, longest, is_mixed=is_mixed, is_rated=is_rated)

    def parts_of(self, line: CheckpointLine) -> Sequence[Part]:
        """As ``line_parts``."""
        return line_parts(line, self.columns, now=self._clock(), is_grouped=self.is_grouped)

    def heading_of(self, number: int) -> int:
        """The run's heading above its first checkpoint."""
        return number - 1 if number and self.lines[number - 1].kind == "run" else number


class FilterBar(Vertical):
    """A field for a query, told at once; of a wrong one, what stands before the wrong term.

    Args:
        example: What may be written, shown while the field is empty.
    """

    DEFAULT_CSS: ClassVar[str] = """
    FilterBar { height: auto; padding: 0 1; background: $panel; }
    FilterBar > Horizontal { height: 1; }
    FilterBar #filter-label { width: auto; color: $text-muted; }
    FilterBar Input { width: 1fr; min-width: 20; margin: 0 1; background: $panel; }
    FilterBar #filter-note { width: auto; color: $text-muted; }
    FilterBar > #filter-error { height: auto; color: $error; display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "leave", "To the list", show=False, id="filter.down"),
        Binding("escape", "leave", "To the list", id="filter.leave"),
    ]

    class Changed(Message):
        """Another query is in force."""

        def __init__(self, query: Query) -> None:
            super().__init__()
            self.query = query

    class Left(Message):
        """The field was left for the list."""

    def __init__(self, example: str) -> None:
        super().__init__()
        self._example = example
        self.error = ""

    def compose(self) -> ComposeResult:
        """Label, field, note, and below them what is wrong."""
        with Horizontal():
            yield Static("Filter /", id="filter-label", markup=False)
            yield Input(placeholder=self._example, compact=True, select_on_focus=False)
            yield Static("", id="filter-note", markup=False)
        yield Static("", id="filter-error", markup=False)

    @property
    def text(self) -> str:
        """What is written."""
        return self.query_one(Input).value

    def clear(self) -> None:
        """Take the query away."""
        self.query_one(Input).value = ""

    def edit(self) -> None:
        """Write in the field."""
        self.query_one(Input).focus()

    def tell(self, note: str) -> None:
        """Say how much is left, and what is wrong with the query."""
        self.query_one("#filter-note", Static).update(Content(note))
        line = self.query_one("#filter-error", Static)
        line.update(Content(self.error))
        line.display = bool(self.error)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.error, text = "", event.value
        while True:
            try:
                query = parse_query(text)
                break
            except UserError as error:
                self.error = self.error or str(error)
                text = text.rstrip().rpartition(" ")[0]
        self.post_message(self.Changed(query))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_leave()

    def action_leave(self) -> None:
        """Go to the list."""
        self.post_message(self.Left())
