"""The characters of a corpus as a bar chart, and the rank–frequency plot beside its words."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, overload

import numpy as np
from rich.style import Style
from textual.content import Content

from shakespeare_tui.chart_axes import Axis
from shakespeare_tui.data.inspect.verdict import RARE_OCCURRENCES, character_name
from shakespeare_tui.formatting import counted
from shakespeare_tui.ui.widgets.plot import BRAILLE, Canvas, Chart, Curve, draw_curves
from shakespeare_tui.ui.widgets.text_glyphs import glyphs
from shakespeare_tui.ui.widgets.text_page import bar, heading, muted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from shakespeare_tui.data.inspect.characters import TextStatistics
    from shakespeare_tui.data.inspect.scan import ScanState

_NAME_CELLS = 8
_LONGEST_BAR_CELLS = 100


class CharacterLines(Sequence[Content]):
    """The lines of the chart, each made when it is looked at: some vocabularies are large.

    Args:
        statistics: The figures.
        width: Cells of a line.
        by_code_point: The order of the tokens instead of the most frequent first.
        is_log: Bars by the logarithm of the count.
        is_ascii: Bars in ASCII.
    """

    def __init__(
        self,
        statistics: "TextStatistics",
        width: int,
        *,
        by_code_point: bool,
        is_log: bool,
        is_ascii: bool,
    ) -> None:
        self._statistics = statistics
        self._is_log, self._is_ascii = is_log, is_ascii
        counts = statistics.counts
        if by_code_point:
            self._order = np.arange(len(counts))
        else:
            self._order = np.argsort(-counts, kind="stable")
        self._largest = int(counts.max()) if len(counts) else 1
        self._cells = max(9, len(f"{self._largest:,}") + 1)
        room = width - _NAME_CELLS - 8 - 5 - self._cells - 9 - 7
        self._bar_cells = max(0, min(_LONGEST_BAR_CELLS, room))
        order = "code point" if by_code_point else "frequency"
        rare = int((counts <= RARE_OCCURRENCES).sum())
        self._head = (
            Content.assemble(
                counted(len(counts), "character"),
                (
                    f" by {order} · {rare:,} rare (at most {RARE_OCCURRENCES} times)"
                    + (" · bars by logarithm" if is_log else ""),
                    "$text-muted",
                ),
            ).truncate(width, ellipsis=True),
            Content.styled(
                f"{'':<{_NAME_CELLS}}{'code':<8}{'id':>5}{'count':>{self._cells}}{'share':>9}",
                "$text-muted",
            ),
        )

    def __len__(self) -> int:
        return len(self._order) + len(self._head)

    @overload
    def __getitem__(self, index: int) -> Content: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Content]: ...

    def __getitem__(self, index: int | slice) -> Content | Sequence[Content]:
        """A line, or several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if index < len(self._head):
            return self._head[index]
        return self._line(int(self._order[index - len(self._head)]))

    def _line(self, token: int) -> Content:
        statistics = self._statistics
        character = statistics.vocabulary[token]
        count = int(statistics.counts[token])
        share = count / statistics.characters
        name = Content(character_name(character))
        is_rare = count <= RARE_OCCURRENCES
        return Content.assemble(
            name.pad_right(_NAME_CELLS - name.cell_length),
            (f"U+{ord(character):04X}".ljust(8), "$text-muted"),
            (f"{token:>5}", "$text-muted"),
            f"{count:>{self._cells},}{share:>9.2%}  ",
            (bar(self._length(count), self._bar_cells, self._is_ascii), "$accent"),
            (" rare" if is_rare else "", "$warning"),
        )

    def _length(self, count: int) -> float:
        if self._is_log:
            return math.log(count + 1) / math.log(self._largest + 1)
        return count / self._largest


_GUTTER_CELLS = 7
_ROWS_ABOVE = 1
_ROWS_BELOW = 2
_WORD_CELLS = 14


class CorpusZipf(Chart, can_focus=True):
    """How often the words and the characters of a text occur, by their rank.

    The dotted line falls with slope -1, as Zipf's law has it for words.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "corpus-zipf--words",
        "corpus-zipf--characters",
        "corpus-zipf--law",
        "corpus-zipf--axis",
    }
    DEFAULT_CSS: ClassVar[str] = """
    CorpusZipf { height: 1fr; width: 1fr; padding: 0 1; }
    CorpusZipf > .corpus-zipf--words { color: $accent; }
    CorpusZipf > .corpus-zipf--characters { color: $warning; text-style: bold; }
    CorpusZipf > .corpus-zipf--law { color: $text-muted; }
    CorpusZipf > .corpus-zipf--axis { color: $text-muted; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._state: ScanState | None = None

    def show(self, state: "ScanState") -> None:
        """Plot what is known of a corpus; it is drawn when it is seen."""
        if state is not self._state:
            self._state = state
            self.redraw()

    def _style(self, part: str) -> Style:
        return self.get_component_rich_style(f"corpus-zipf--{part}")

    def draw(self) -> Canvas:
        """Frequencies over ranks of words and characters, and Zipf's law beside them."""
        width, height = self.size
        canvas = Canvas(width, height)
        rows = height - _ROWS_ABOVE - _ROWS_BELOW
        columns = width - _GUTTER_CELLS
        if self._state is None or rows < 3 or columns < 10:
            return canvas
        words = self._state.words.counts
        characters = _descending(self._state)
        filled = [c for c in (words, characters) if len(c)]
        highest = max((int(c[0]) for c in filled), default=1)
        lowest = min((int(c[-1]) for c in filled), default=1)
        ranks = Axis(1, max(10, len(words), len(characters)), columns, is_log=True)
        counts = Axis(0.7 * lowest, max(10 * lowest, highest) * 1.2, rows, is_log=True)
        curves = self._curves(words, characters, ranks, counts)
        canvas.paste(draw_curves(curves, columns, rows), _GUTTER_CELLS, _ROWS_ABOVE)
        self._draw_axes(canvas, ranks, counts)
        self._draw_legend(canvas, words, characters)
        return canvas

    def _marks(self) -> tuple[str, str, str]:
        return ("*", "o", ".") if getattr(self.app, "ascii", False) else (BRAILLE, "●", "·")

    def _curves(
        self, words: "NDArray[np.int64]", characters: "NDArray[np.int64]", x: Axis, y: Axis
    ) -> list[Curve]:
        from shakespeare_tui.data.inspect.words import thin_ranks

        word_mark, character_mark, law_mark = self._marks()
        curves = []
        if len(words):
            along = np.geomspace(1, x.high, x.size)
            law = np.where(words[0] / along >= y.low, words[0] / along, np.nan)
            curves.append(
                Curve(x.position(along), y.position(law), self._style("law"), law_mark, False)
            )
        for counts, part, mark in (
            (characters, "characters", character_mark),
            (words, "words", word_mark),
        ):
            ranks, heights = thin_ranks(counts, 2 * x.size)
            if len(ranks):
                places = np.minimum(x.position(ranks), x.size - 0.5)
                curves.append(
                    Curve(places, y.position(heights), self._style(part), mark, part == "words")
                )
        return curves

    def _draw_axes(self, canvas: Canvas, x: Axis, y: Axis) -> None:
        axis = self._style("axis")
        is_ascii = getattr(self.app, "ascii", False)
        bottom = canvas.height - _ROWS_BELOW
        canvas.write(_GUTTER_CELLS, bottom, ("-" if is_ascii else "─") * x.size, axis)
        for row in range(_ROWS_ABOVE, bottom):
            canvas.write(_GUTTER_CELLS - 1, row, "|" if is_ascii else "│", axis)
        canvas.write(_GUTTER_CELLS - 1, bottom, "+" if is_ascii else "└", axis)
        for value in y.ticks(max(2, y.size // 3)):
            row = bottom - 1 - y.cell(value)
            canvas.write(0, row, _tick(value).rjust(_GUTTER_CELLS - 2), axis)
        for value in x.ticks(max(2, x.size // 9)):
            label = _tick(value)
            column = _GUTTER_CELLS + x.cell(value)
            canvas.write(column, bottom, "+" if is_ascii else "┴", axis)
            canvas.write(min(column, canvas.width - len(label)), bottom + 1, label, axis)
        title = "rank"
        if canvas.is_blank(canvas.width - 16, bottom + 1, 16):
            canvas.write(canvas.width - len(title), bottom + 1, title, axis)

    def _draw_legend(
        self, canvas: Canvas, words: "NDArray[np.int64]", characters: "NDArray[np.int64]"
    ) -> None:
        from shakespeare_tui.data.inspect.words import zipf_slope

        word_mark, character_mark, law_mark = self._marks()
        column = 0
        word_sign = "*" if word_mark == "*" else "━"
        for sign, part, text in (
            (word_sign, "words", _named("word", words, zipf_slope(words))),
            (character_mark, "characters", _named("character", characters, None)),
            (law_mark, "law", "slope -1"),
        ):
            canvas.write(column, 0, sign, self._style(part))
            canvas.write(column + 2, 0, text)
            column += len(text) + 5


def _tick(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def _named(what: str, counts: "NDArray[np.int64]", slope: float | None) -> str:
    text = counted(len(counts), what)
    return text if slope is None else f"{text}, slope {slope:.2f}"


def _descending(state: "ScanState") -> "NDArray[np.int64]":
    return np.sort(state.statistics.counts)[::-1]


def word_lines(state: "ScanState", width: int) -> list[Content]:
    """The most frequent words and what part of the text they were counted in."""
    words = state.words
    lines = [heading("Most frequent words")]
    for rank, (word, count) in enumerate(words.top, start=1):
        name = Content(glyphs(word)).truncate(_WORD_CELLS, ellipsis=True)
        lines.append(
            Content.assemble(
                (f"{rank:>3} ", "$text-muted"),
                name.pad_right(_WORD_CELLS - name.cell_length),
                f"{count:>10,}",
            ).truncate(width, ellipsis=True)
        )
    once = int((words.counts == 1).sum())
    lines += [
        Content(""),
        muted(f"{counted(once, 'word')} found only once"),
    ]
    if not words.is_whole:
        lines.append(muted("counted in the first 16 M characters"))
    return lines
