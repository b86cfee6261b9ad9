"""Up to six columns side by side, as many as are legible; the others are a key away."""

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message

from shakespeare_tui.ui.engine.generation import GenerationJob
from shakespeare_tui.ui.playground.measure_lines import best_columns
from shakespeare_tui.ui.playground.strategy_field import StrategyField
from shakespeare_tui.ui.playground.text_column import ColumnState, TextColumn

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
        self.place = 0
        self.first_shown = 0

    def compose(self) -> ComposeResult:
        """The columns."""
        yield from self.columns

    def on_mount(self) -> None:
        """Number the columns."""
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

    async def set_strategies(self, strategies: Sequence[str]) -> None:
        """Have one column for each, the first ones kept with their texts."""
        await self._resize(len(strategies))
        for column, text in zip(self.columns, strategies, strict=True):
            column.field.write(text)
        self.go_to(0)

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
        await self._add(self.current.strategy, self.place + 1)
        self.go_to(self.place + 1)
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
        """Show as many as are legible now."""
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
        for column, recording in zip(self.columns, job.recordings, strict=True):
            column.begin(job.request.prompt, recording)

    def follow(self, job: GenerationJob, columns: Sequence[TextColumn]) -> None:
        """Take over what a job has written; ``columns`` are those it writes, in its order."""
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
    speed = f" · {characters / job.seconds:,.0f}/s" if job.seconds else ""
    how = "" if job.state in ("writing", "done") else f" · {job.state}"
    return f"{characters:,}{speed}{how}"
