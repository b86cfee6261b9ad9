"""One column of the Playground: a strategy, the text it writes, and the text's measures."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from shakespeare_tui.ui.playground.measure_lines import measure_lines
from shakespeare_tui.ui.playground.strategy_field import StrategyField
from shakespeare_tui.ui.widgets.stream_text import StreamText

if TYPE_CHECKING:
    from shakespeare_tui.measures import Measures
    from shakespeare_tui.sampling import Recording


@dataclass(frozen=True, eq=False)
class ColumnState:
    """What a column shows: the strategy in its line, and the text that ``written_with`` wrote."""

    strategy: str
    written_with: str = ""
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
        self.written_with = ""
        self.recording: Recording | None = None
        self._preview: Measures | None = None
        self._best: frozenset[str] = frozenset()

    def compose(self) -> ComposeResult:
        """Line, text, measures."""
        yield self.field
        yield self.stream
        yield self._measures_line

    @property
    def strategy(self) -> str:
        """What stands in the line."""
        return self.field.value

    def number(self, number: int) -> None:
        """Title the frame."""
        self.border_title = Content(str(number))

    def begin(self, prompt: str, recording: "Recording | None" = None) -> None:
        """A text begins; of its tokens is noted in ``recording`` what they are chosen from."""
        self.written_with, self.recording = self.strategy, recording
        self.stream.begin(prompt, len(prompt))
        self.show_measures(None, frozenset())

    @property
    def state(self) -> ColumnState:
        """What is shown, to come back to."""
        return ColumnState(
            strategy=self.strategy,
            written_with=self.written_with,
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
        self.written_with, self.recording = state.written_with, state.recording
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
        """Lay the measures out anew."""
        self._draw_measures()

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Tell which column is at hand."""
        self.post_message(self.Entered(self))

    @on(StrategyField.Left)
    def _to_text(self) -> None:
        self.stream.focus()
