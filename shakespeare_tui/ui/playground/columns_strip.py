"""Up to six columns side by side, as many as are legible; the others are a key away."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import counted
from shakespeare_tui.ui.engine.generation import GenerationJob
from shakespeare_tui.ui.widgets.inputs import OrderedInput
from shakespeare_tui.ui.widgets.stream_text import StreamText

if TYPE_CHECKING:
    from shakespeare_tui.measures import MeasureKind, Measures
    from shakespeare_tui.sampling import Recording, Strategy

SHOWN = (
    "mean_surprise",
    "distinct_2",
    "repeated_share",
    "real_word_rate",
    "wellformed_share",
    "copied_share",
)
"""Two a line, in this order."""

_BEST = "★"
_WIDEST_VALUE = 4
_BRIEF_LABELS = {
    "distinct_2": "distinct",
    "real_word_rate": "words",
    "wellformed_share": "formed",
}
"""Where two whole labels a line find no room."""


def best_columns(measures: Sequence["Measures | None"]) -> list[frozenset[str]]:
    """For each text, the measures by which it is the best, as they are shown here."""
    from shakespeare_tui.measures import best_measures

    return best_measures(measures, _short)


def measure_lines(measures: "Measures | None", best: frozenset[str], width: int) -> Content:
    """Three lines of two measures; without measures, their names alone."""
    from shakespeare_tui.measures import MEASURES

    kinds = [MEASURES[name] for name in SHOWN]
    cell = (width - 1) // 2
    labels = [kind.label for kind in kinds]
    if max(map(len, labels)) + _WIDEST_VALUE + 3 > cell:
        labels = [_BRIEF_LABELS.get(kind.name, kind.label) for kind in kinds]
    cells = [
        _cell(label, kind, measures, kind.name in best, cell)
        for label, kind in zip(labels, kinds, strict=True)
    ]
    lines = [
        Content.assemble(cells[place], " ", cells[place + 1]) for place in range(0, len(cells), 2)
    ]
    return Content("\n").join(lines)


def _cell(
    label: str, kind: "MeasureKind", measures: "Measures | None", is_best: bool, width: int
) -> Content:
    value = "" if measures is None else _short(kind, measures.value(kind.name))
    mark = _BEST if is_best else " "
    room = max(len(label), width - len(value) - 2)
    return Content.assemble(
        (label.ljust(room), "$text-muted"),
        (value, "bold $success" if is_best else "$foreground"),
        (f" {mark}", "bold $success"),
    )


def _short(kind: "MeasureKind", value: float | None) -> str:
    if kind.unit == "share" and value is not None:
        return f"{value:.0%}"
    return f"{value:.2f}" if kind.unit == "nats" and value is not None else kind.format(value)


class StrategyField(OrderedInput):
    """A strategy as text; ``problem`` says what is wrong with it, ``hint`` what it does."""

    DEFAULT_CSS: ClassVar[str] = """
    StrategyField { width: 1fr; background: $surface; }
    StrategyField:focus { background: $panel; }
    StrategyField.-wrong { color: $error; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Write", key_display="enter", id="strategy.write"),
        Binding("escape", "leave", "Unfocus", id="strategy.leave"),
        Binding("down,up", "leave", "Unfocus", show=False, id="strategy.leave_down"),
    ]

    class Told(Message):
        """The strategy, the place in it, or the focus changed: there is another hint."""

    class Left(Message):
        """The line is done with."""

    def __init__(self, strategy: str) -> None:
        super().__init__(
            strategy, compact=True, select_on_focus=False, placeholder="temperature=0.8"
        )
        self.problem = ""
        self._check()

    @property
    def strategy(self) -> "Strategy | None":
        """The strategy; None while it cannot be read."""
        from shakespeare_tui.sampling import parse_strategy

        try:
            return parse_strategy(self.value)
        except UserError:
            return None

    def write(self, strategy: str) -> None:
        """Put another strategy into the line, the cursor behind it."""
        self.value = strategy
        self.cursor_position = len(strategy)
        self._check()

    def _check(self) -> None:
        from shakespeare_tui.sampling import parse_strategy

        try:
            parse_strategy(self.value)
            self.problem = ""
        except UserError as error:
            self.problem = str(error)
        self.set_class(bool(self.problem), "-wrong")

    @property
    def hint(self) -> str:
        """What the step under the cursor does, and the range of its values."""
        from shakespeare_tui.sampling import STEP_KINDS

        before = self.value[: self.cursor_position]
        start = before.rfind(" ") + 1
        word = self.value[start:].split(" ")[0].partition("=")[0].partition(",")[0]
        kind = STEP_KINDS.get(word.lower().replace("-", "_"))
        if kind is None:
            return "steps from left to right, temperature=0.8 top_k=20 · f2 lists them"
        first = kind.parameters[0] if kind.parameters else None
        return f"{kind.title}: {kind.help}" + (f" {first.name} {first.range}." if first else "")

    def on_mount(self) -> None:
        """Tell the hint anew where the cursor moves within the line."""
        self.watch(self, "selection", self._moved)

    def _moved(self) -> None:
        if self.has_focus:
            self.post_message(self.Told())

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._check()
        self.post_message(self.Told())

    def on_focus(self, event: events.Focus) -> None:
        self.post_message(self.Told())

    def on_blur(self, event: events.Blur) -> None:
        self.post_message(self.Told())

    def action_leave(self) -> None:
        """Back to the text."""
        self.post_message(self.Left())


@dataclass(frozen=True, eq=False)
class ColumnState:
    """What a column shows: the strategy in its line, and the text that ``written_with`` wrote.

    Attributes:
        reference: The column's own checkpoint; empty where it has that of all.
        seed_offset: Added to the seed of all.
        written_by: The checkpoint that wrote the text, and its seed.
    """

    strategy: str
    reference: str = ""
    seed_offset: int = 0
    written_with: str = ""
    written_by: tuple[str, int] = ("", 0)
    text: str = ""
    prompt_length: int = 0
    measures: "Measures | None" = None
    best: frozenset[str] = frozenset()
    progress: str = ""
    recording: "Recording | None" = None


class TextColumn(Vertical):
    """A strategy's line above its text above its measures.

    Args:
        strategy: The strategy as text.
    """

    DEFAULT_CSS: ClassVar[str] = """
    TextColumn {
        width: 1fr;
        border: round $border-blurred;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        padding: 0 1;
    }
    TextColumn:focus-within { border: round $border; border-title-color: $accent; }
    TextColumn > .measures { height: 3; text-wrap: nowrap; text-overflow: clip; }
    """

    class Entered(Message):
        """The focus came to this column."""

        def __init__(self, column: "TextColumn") -> None:
            super().__init__()
            self.column = column

    def __init__(self, strategy: str) -> None:
        super().__init__()
        # Parts of its own from the beginning, whether it is mounted yet, or no longer: texts come
        # in while columns come and go.
        self.field = StrategyField(strategy)
        self.stream = StreamText()
        self._measures_line = Static(classes="measures", markup=False)
        self.measures: Measures | None = None
        self.reference, self.seed_offset = "", 0
        self.written_with = ""
        self.written_by = ("", 0)
        self.recording: Recording | None = None
        self._preview: Measures | None = None
        self._best: frozenset[str] = frozenset()

    def compose(self) -> ComposeResult:
        yield self.field
        yield self.stream
        yield self._measures_line

    @property
    def strategy(self) -> str:
        """What stands in the line."""
        return self.field.value

    def number(self, number: int) -> None:
        """Title the frame, by what the column has of its own too."""
        offset = f"seed +{self.seed_offset}" if self.seed_offset else ""
        parts = (str(number), self.reference, offset)
        self.border_title = Content(" · ".join(part for part in parts if part))

    def begin(self, job: GenerationJob, place: int) -> None:
        """The text at a place of a job begins; what its tokens are chosen from will be noted."""
        request = job.request
        self.written_with, self.recording = self.strategy, job.recordings[place]
        self.written_by = (request.reference_of(place), request.seed_of(place))
        self.stream.begin(request.prompt, len(request.prompt))
        self.show_measures(None, frozenset())

    @property
    def state(self) -> ColumnState:
        """What is shown, to come back to."""
        return ColumnState(
            strategy=self.strategy,
            reference=self.reference,
            seed_offset=self.seed_offset,
            written_with=self.written_with,
            written_by=self.written_by,
            text=self.stream.text,
            prompt_length=self.stream.prompt_length,
            measures=self.measures,
            best=self._best,
            progress=str(self.border_subtitle or ""),
            recording=self.recording,
        )

    def restore(self, state: ColumnState) -> None:
        """Show what was shown before."""
        self.field.write(state.strategy)
        self.reference, self.seed_offset = state.reference, state.seed_offset
        self.written_with, self.recording = state.written_with, state.recording
        self.written_by = state.written_by
        self.stream.begin(state.text, state.prompt_length)
        self.show_measures(state.measures, state.best)
        self.border_subtitle = Content(state.progress)

    def show_measures(self, measures: "Measures | None", best: frozenset[str]) -> None:
        """Show measures below the text and underline what was copied."""
        self.measures, self._preview, self._best = measures, None, best
        copies = measures.memorisation.passages if measures and measures.memorisation else ()
        self.stream.mark_copies([(passage.start, passage.end) for passage in copies])
        self._draw_measures()

    def preview_measures(self, measures: "Measures | None") -> None:
        """Show the measures of a text that is still being written."""
        if measures is not self._preview:
            self._preview = measures
            self._draw_measures()

    def _draw_measures(self) -> None:
        width = self.content_size.width
        if width:
            lines = measure_lines(self.measures or self._preview, self._best, width)
            self._measures_line.update(lines)

    def on_resize(self) -> None:
        self._draw_measures()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self.post_message(self.Entered(self))

    @on(StrategyField.Left)
    def _to_text(self) -> None:
        self.stream.focus()


MOST_COLUMNS = 6
_LEGIBLE_CELLS = 33


class ColumnsStrip(Horizontal):
    """The columns in order; ``current`` is the one that has or had the focus.

    Args:
        strategies: One a column.
    """

    DEFAULT_CSS: ClassVar[str] = "ColumnsStrip { height: 1fr; }"

    class Changed(Message):
        """Other strategies, another current column, or other columns in view."""

    def __init__(self, strategies: Sequence[str]) -> None:
        super().__init__()
        self.columns = [TextColumn(text) for text in strategies[:MOST_COLUMNS]]
        self._written: list[TextColumn] = []
        """Those that the last job writes, in its order."""
        self.place = 0
        self.first_shown = 0

    def compose(self) -> ComposeResult:
        yield from self.columns

    def on_mount(self) -> None:
        self._arrange()

    @property
    def current(self) -> TextColumn:
        """The column at hand."""
        return self.columns[self.place]

    @property
    def strategies(self) -> tuple[str, ...]:
        """What stands in the columns' lines."""
        return tuple(column.strategy for column in self.columns)

    @property
    def n_shown(self) -> int:
        """How many columns are in view."""
        return max(1, min(len(self.columns), self.size.width // _LEGIBLE_CELLS))

    def problem(self) -> tuple[TextColumn, str] | None:
        """The first column whose strategy is wrong, and why."""
        for column in self.columns:
            if column.field.problem:
                return column, column.field.problem
        return None

    # --- which columns there are ---------------------------------------------------------------

    @property
    def states(self) -> tuple[ColumnState, ...]:
        """What all columns show, to come back to."""
        return tuple(column.state for column in self.columns)

    async def set_columns(self, columns: Sequence[ColumnState]) -> None:
        """Have one column for each, the first ones kept with their texts."""
        await self._resize(len(columns))
        for column, wanted in zip(self.columns, columns, strict=True):
            column.field.write(wanted.strategy)
            column.reference, column.seed_offset = wanted.reference, wanted.seed_offset
        self.go_to(0)

    def set_reference(self, reference: str, columns: Sequence[TextColumn]) -> None:
        """Give columns a checkpoint of their own, or that of all where it is empty."""
        for column in columns:
            column.reference = reference
        self._arrange()

    async def restore(self, states: Sequence[ColumnState], place: int) -> None:
        """Show what was shown before."""
        await self._resize(len(states))
        for column, state in zip(self.columns, states, strict=True):
            column.restore(state)
        self.go_to(place)

    async def _resize(self, count: int) -> None:
        """Have so many columns."""
        # The list is right before anything is waited for: messages come in meanwhile.
        gone, self.columns[count:] = self.columns[count:], []
        self.place = min(self.place, count - 1)
        for column in gone:
            await column.remove()
        while len(self.columns) < count:
            await self._add("", len(self.columns))

    async def add(self) -> bool:
        """A copy of the current column's strategy beside it; False where there are six."""
        if len(self.columns) >= MOST_COLUMNS:
            return False
        source = self.current
        await self._add(source.strategy, self.place + 1)
        self.go_to(self.place + 1)
        self.set_reference(source.reference, [self.current])
        return True

    async def _add(self, strategy: str, place: int) -> None:
        column = TextColumn(strategy)
        self.columns.insert(place, column)
        await self.mount(column, after=self.columns[place - 1])

    async def remove_current(self) -> bool:
        """Take the current column away; False where it is the only one."""
        if len(self.columns) == 1:
            return False
        column = self.columns.pop(self.place)
        self.go_to(min(self.place, len(self.columns) - 1))
        await column.remove()
        return True

    def go_to(self, place: int) -> None:
        """Bring a column into view and focus its text."""
        self.place = min(max(place, 0), len(self.columns) - 1)
        self._arrange()
        self.current.stream.focus()

    def _arrange(self) -> None:
        n_shown = self.n_shown
        first = min(max(self.first_shown, self.place - n_shown + 1), self.place)
        self.first_shown = max(0, min(first, len(self.columns) - n_shown))
        for place, column in enumerate(self.columns):
            column.number(place + 1)
            column.display = self.first_shown <= place < self.first_shown + n_shown
        self.post_message(self.Changed())

    def on_resize(self) -> None:
        self._arrange()

    @on(TextColumn.Entered)
    def _entered(self, message: TextColumn.Entered) -> None:
        if message.column in self.columns and message.column is not self.current:
            self.place = self.columns.index(message.column)
            self.post_message(self.Changed())

    @on(StrategyField.Changed)
    def _edited(self) -> None:
        self.post_message(self.Changed())

    # --- texts ---------------------------------------------------------------------------------

    def begin(self, job: GenerationJob) -> None:
        """The texts of a job begin, one in each column."""
        # Columns may come and go while it writes.
        self._written = list(self.columns)
        for place, column in enumerate(self._written):
            column.begin(job, place)

    def follow(self, job: GenerationJob) -> None:
        """Take over what the job that was begun last has written."""
        columns = self._written
        # Read before the text: what comes after is then taken by the next poll.
        is_over = job.is_over
        for place, (column, piece) in enumerate(zip(columns, job.take(), strict=True)):
            column.stream.append(piece)
            column.border_subtitle = Content(progress(job, place))
        if not is_over:
            for column, measures in zip(columns, job.previews, strict=True):
                column.preview_measures(measures)
        else:
            best = best_columns(job.measures)
            for column, measures, marks in zip(columns, job.measures, best, strict=True):
                column.show_measures(measures, marks)


def progress(job: GenerationJob, column: int) -> str:
    """How far a column of a job is, in words."""
    characters, searched = job.characters[column], job.searched[column]
    if not characters:
        is_searching = searched and job.state == "writing"
        return f"searching {searched:,}" if is_searching else job.state
    count, shown = characters, f"{characters:,}"
    tokens, begun = job.recordings[column].placed
    if tokens != begun:  # where they are no characters, lengths are told in tokens everywhere
        count, shown = tokens, counted(tokens, "token")
    seconds, is_measured = job.seconds[column], job.measures[column] is not None
    speed = f" · {count / seconds:,.0f}/s" if seconds else ""
    how = "" if is_measured or job.state in ("writing", "done") else f" · {job.state}"
    return f"{shown}{speed}{how}"
