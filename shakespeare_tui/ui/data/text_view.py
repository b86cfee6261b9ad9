"""Scroll through a text of any size: only the rows on the screen are ever read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from shakespeare_tui.errors import UserError
from shakespeare_tui.ui.widgets.text_glyphs import glyphs, sign, wrap

if TYPE_CHECKING:
    from shakespeare_tui.data.inspect.line_index import LineIndex, Row

Kind = Literal["text", "characters", "ids", "split"]


@dataclass(frozen=True, slots=True)
class ScreenLine:
    """A line of the screen.

    Attributes:
        kind: Wrapped text; characters spread out above their ids; these ids; or the split's mark.
        row: The row it belongs to.
        start: First character in the row's text.
        stop: Behind its last character.
        is_first: Whether it begins the row.
        is_validation: Whether it lies behind the split.
    """

    kind: Kind
    row: "Row"
    start: int = 0
    stop: int = 0
    is_first: bool = False
    is_validation: bool = False


@dataclass(frozen=True, slots=True)
class TextLayout:
    """How rows are laid out.

    Attributes:
        width: Cells at hand for the text.
        split: Number of the first validation character; None while it is not known.
        id_cells: Cells that a character with its id takes; 0 shows plain text.
    """

    width: int
    split: int | None = None
    id_cells: int = 0

    def lines(self, row: "Row") -> list[ScreenLine]:
        """The lines that a row takes; at least one."""
        split = self.split
        if split is None or not row.start <= split < row.stop:
            return self._part(row, 0, len(row.text), split is not None and row.start > split)
        cut = split - row.start
        before = self._part(row, 0, cut, False) if cut else []
        return [*before, ScreenLine("split", row), *self._part(row, cut, len(row.text), True)]

    def _part(self, row: "Row", start: int, stop: int, is_validation: bool) -> list[ScreenLine]:
        if self.id_cells:
            per_line = max(1, self.width // self.id_cells)
            cuts = range(start, max(stop, start + 1), per_line)
            spans = [(cut, min(cut + per_line, stop)) for cut in cuts]
            kinds: tuple[Kind, ...] = ("characters", "ids")
        else:
            spans = [(start + a, start + b) for a, b in wrap(row.text[start:stop], self.width)]
            kinds = ("text",)
        return [
            ScreenLine(kind, row, a, b, a == 0 and kind != "ids", is_validation)
            for a, b in spans
            for kind in kinds
        ]


Place = tuple[int, int]
"""A row, and which of the lines that it is wrapped into."""

ReadRows = Callable[[int, int], "list[Row]"]
"""Gives the rows from one number up to another, as far as there are any."""


def end_place(read: ReadRows, layout: TextLayout, n_rows: int, height: int) -> Place:
    """The place from which the last lines of a text fill ``height`` lines of the screen."""
    room = height
    for row in reversed(read(n_rows - height, n_rows)):
        n_lines = len(layout.lines(row))
        if n_lines >= room:
            return row.number, n_lines - room
        room -= n_lines
    return 0, 0


def moved_place(read: ReadRows, layout: TextLayout, place: Place, n_lines: int) -> Place | None:
    """The place ``n_lines`` lines of the screen further on, or back where it is negative.

    None lies behind the end of the text.
    """
    row, line = place
    if n_lines > 0:
        line += n_lines
        for item in read(row, row + n_lines + 1):
            height = len(layout.lines(item))
            if line < height:
                return item.number, line
            line -= height
        return None
    line += n_lines
    for item in reversed(read(row + n_lines, row)):
        if line >= 0:
            break
        row = item.number
        line += len(layout.lines(item))
    return row, max(0, line)


# The mark left of the training part and of the validation part: not by colour alone.
_PART_MARKS = ("│", "┃")
_ASCII_PART_MARKS = ("|", "#")


@dataclass(frozen=True)
class TextPainter:
    """How lines are drawn.

    Attributes:
        style: Gives the style of a part: number, training, validation, sign, id or split.
        number_cells: Cells of a line number.
        id_cells: Cells of a character with its id.
        ids: Token ids by character.
        split: Number of the first validation character.
        is_ascii: Draw in ASCII.
    """

    style: Callable[[str], Style]
    number_cells: int
    id_cells: int
    ids: Mapping[str, int]
    split: int | None
    is_ascii: bool

    def segments(self, line: ScreenLine, width: int) -> list[Segment]:
        """What stands in a line of ``width`` cells."""
        if line.kind == "split":
            return [self._rule(width)]
        is_numbered = line.is_first and line.row.is_line_start
        number = f"{line.row.line + 1:,}" if is_numbered else ""
        mark = (_ASCII_PART_MARKS if self.is_ascii else _PART_MARKS)[line.is_validation]
        part = "validation" if line.is_validation else "training"
        return [
            Segment(number.rjust(self.number_cells), self.style("number")),
            Segment(f" {mark} ", self.style(part)),
            *self._content(line),
        ]

    def _rule(self, width: int) -> Segment:
        rule = ("-" if self.is_ascii else "─") * width
        label = f" validation begins, character {self.split:,} "
        return Segment(f"{rule[: self.number_cells + 1]}{label}{rule}"[:width], self.style("split"))

    def _content(self, line: ScreenLine) -> list[Segment]:
        text = line.row.text[line.start : line.stop]
        if line.kind == "text":
            return [Segment(glyphs(text))]
        if line.kind == "ids":
            numbers = "".join(str(self.ids.get(c, "?")).rjust(self.id_cells) for c in text)
            return [Segment(numbers, self.style("id"))]
        style = self.style("sign")
        return [self._spread(character, style) for character in text]

    def _spread(self, character: str, style: Style) -> Segment:
        shown = sign(character, self.is_ascii)
        blank = " " * (self.id_cells - Segment(shown).cell_length)
        return Segment(blank + shown, None if shown == character else style)


_LINES_A_WHEEL_STEP = 3
_FEWEST_NUMBER_CELLS = 5
_TENTHS = 10


class TextView(ScrollView, can_focus=True):
    """A text by its index: line numbers, the split as a rule, token ids on request.

    The scrollbar counts rows of the index; where rows wrap, ``top`` says in addition which of the
    first row's lines is the first on the screen.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "text-view--number",
        "text-view--training",
        "text-view--validation",
        "text-view--sign",
        "text-view--id",
        "text-view--split",
        "text-view--problem",
    }
    DEFAULT_CSS: ClassVar[str] = """
    TextView {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: scroll;
    }
    TextView > .text-view--number { color: $text-muted; }
    TextView > .text-view--training { color: $border-blurred; }
    TextView > .text-view--validation { color: $warning; }
    TextView > .text-view--sign { color: $accent; }
    TextView > .text-view--id { color: $text-muted; }
    TextView > .text-view--split { color: $warning; text-style: bold; }
    TextView > .text-view--problem { color: $error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "toggle_ids", "Token ids", id="text.ids"),
        Binding("s", "go_to_split", "Split", id="text.split"),
        Binding("k", "scroll_up", "Up", show=False, id="text.up"),
        Binding("j", "scroll_down", "Down", show=False, id="text.down"),
        Binding("space", "page_down", "Next page", show=False, id="text.page_down"),
        Binding("b", "page_up", "Previous page", show=False, id="text.page_up"),
        Binding("less_than_sign", "skip(-1)", "Back 10 %", show=False, id="text.skip_back"),
        Binding("greater_than_sign", "skip(1)", "Forward 10 %", show=False, id="text.skip_on"),
        Binding("g", "scroll_home", "First line", show=False, id="text.first"),
        Binding("G", "scroll_end", "Last line", show=False, id="text.last"),
    ]

    class Moved(Message):
        """Another part of the text is shown, or more is known of it."""

        def __init__(self, view: "TextView") -> None:
            super().__init__()
            self.view = view

        @property
        def control(self) -> "TextView":
            """The view."""
            return self.view

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._index: LineIndex | None = None
        self._split: int | None = None
        self._ids: Mapping[str, int] | None = None
        self._shows_ids = False
        self._top: Place = (0, 0)
        """What is first on the screen."""
        self._end: Place = (0, 0)
        """The last place that ``_top`` may have."""
        self._lines: list[ScreenLine] | None = None
        self._problem = ""

    # --- what is shown -------------------------------------------------------------------------

    def show_text(
        self,
        index: "LineIndex | None",
        *,
        split: int | None = None,
        ids: "Mapping[str, int] | None" = None,
    ) -> None:
        """Show a text, or more of the same one.

        Args:
            index: The index as far as it goes; None shows nothing.
            split: Number of the first validation character, as soon as it is known.
            ids: The token of every character, as soon as they are known.
        """
        is_same = (
            index is not None
            and self._index is not None
            and (self._index.stream is index.stream or self._index is index)
        )
        if not is_same:
            self._top = (0, 0)
        self._index, self._split, self._ids = index, split, ids
        self._refit()

    @property
    def shows_ids(self) -> bool:
        """Whether token ids are asked for."""
        return self._shows_ids

    @property
    def rows_shown(self) -> "tuple[Row, Row] | None":
        """The first and the last row on the screen."""
        lines = self._screen_lines()
        return (lines[0].row, lines[-1].row) if lines else None

    @property
    def _has_ids(self) -> bool:
        return self._shows_ids and bool(self._ids)

    def _number_cells(self) -> int:
        n_lines = self._index.n_lines if self._index else 0
        return max(_FEWEST_NUMBER_CELLS, len(f"{n_lines:,}"))

    def _layout(self) -> TextLayout:
        id_cells = 0
        if self._has_ids and self._ids is not None:
            id_cells = max(2, len(str(len(self._ids) - 1))) + 1
        width = self.scrollable_content_region.width - self._number_cells() - 3
        return TextLayout(max(8, width), self._split, id_cells)

    # --- moving --------------------------------------------------------------------------------

    def _read(self, first: int, stop: int) -> "list[Row]":
        """Rows by number; none where the file cannot be read, which is then shown instead."""
        if self._index is None:
            return []
        try:
            return self._index.rows(first, stop)
        except UserError as error:
            self._problem = str(error)
            return []

    def _refit(self) -> None:
        """Find out how far one can scroll, and draw anew."""
        self._lines = None
        self._problem = ""
        height = self.scrollable_content_region.height
        if not height or self._index is None:
            self.virtual_size = Size(0, 0)
            self.refresh()
            return
        self._end = end_place(self._read, self._layout(), self._index.n_rows, height)
        self.virtual_size = Size(
            self.scrollable_content_region.width,
            self._end[0] + height + (1 if self._end[1] and not self._end[0] else 0),
        )
        self._move_to(self._top)

    def _move_to(self, place: Place) -> None:
        self._top = min(max(place, (0, 0)), self._end)
        self._lines = None
        self._problem = ""
        self.scroll_to(y=self._top[0])
        self.refresh()
        self.post_message(self.Moved(self))

    def _move_by(self, n_lines: int) -> None:
        """Move by lines of the screen; stay where the file cannot be read, and say so."""
        self._problem = ""
        place = moved_place(self._read, self._layout(), self._top, n_lines)
        if self._problem:
            self.refresh()
        else:
            self._move_to(place or self._end)

    def scroll_to(self, x: float | None = None, y: float | None = None, **_: object) -> None:
        """Scroll at once: an animation over millions of rows would last for days."""
        super().scroll_to(x, y, animate=False)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """The scrollbar was moved, by us or by the mouse."""
        super().watch_scroll_y(old_value, new_value)
        row = round(new_value)
        if row != self._top[0]:
            self._move_to(self._end if row >= self._end[0] else (row, 0))

    def go_to_character(self, position: int) -> None:
        """Show a character, a few lines below the top."""
        if self._index is None:
            return
        try:
            row = self._index.row_of_character(position)
            found = self._index.rows(row, row + 1)
        except UserError as error:
            self._problem = str(error)
            self.refresh()
            return
        if not found:
            return
        lines = self._layout().lines(found[0])
        line = max(i for i, item in enumerate(lines) if item.row.start + item.start <= position)
        self._move_to((row, line))
        self._move_by(-min(5, self.scrollable_content_region.height // 3))

    def on_resize(self) -> None:
        self._refit()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll by lines of the screen, not by rows."""
        event.prevent_default().stop()
        self._move_by(_LINES_A_WHEEL_STEP)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll by lines of the screen, not by rows."""
        event.prevent_default().stop()
        self._move_by(-_LINES_A_WHEEL_STEP)

    def action_scroll_down(self) -> None:
        """One line on."""
        self._move_by(1)

    def action_scroll_up(self) -> None:
        """One line back."""
        self._move_by(-1)

    def action_page_down(self) -> None:
        """One screen on."""
        self._move_by(max(1, self.scrollable_content_region.height - 1))

    def action_page_up(self) -> None:
        """One screen back."""
        self._move_by(-max(1, self.scrollable_content_region.height - 1))

    def action_scroll_home(self) -> None:
        """The beginning."""
        self._move_to((0, 0))

    def action_scroll_end(self) -> None:
        self._move_to(self._end)

    def action_skip(self, direction: int) -> None:
        """A tenth of the text on or back."""
        if self._index is not None:
            step = max(1, self._index.n_rows // _TENTHS)
            self._move_to((self._top[0] + direction * step, 0))

    def action_go_to_split(self) -> None:
        """Where validation begins."""
        if self._split is not None:
            self.go_to_character(self._split)

    def action_toggle_ids(self) -> None:
        """Show or hide the ids of the characters."""
        self._shows_ids = not self._shows_ids
        self._top = (self._top[0], 0)
        self._refit()

    # --- drawing -------------------------------------------------------------------------------

    def _screen_lines(self) -> list[ScreenLine]:
        """The lines on the screen, as many as it has rows at most."""
        if self._lines is None:
            row, skipped = self._top
            height = self.scrollable_content_region.height
            layout = self._layout()
            lines: list[ScreenLine] = []
            for item in self._read(row, row + height):
                lines += layout.lines(item)
                if len(lines) >= height + skipped:
                    break
            self._lines = lines[skipped : skipped + height]
        return self._lines

    @property
    def _painter(self) -> TextPainter:
        layout = self._layout()
        return TextPainter(
            style=lambda part: self.get_component_rich_style(f"text-view--{part}"),
            number_cells=self._number_cells(),
            id_cells=layout.id_cells,
            ids=self._ids or {},
            split=self._split,
            is_ascii=bool(getattr(self.app, "ascii", False)),
        )

    def render_line(self, y: int) -> Strip:
        lines = self._screen_lines()
        width = self.scrollable_content_region.width
        if self._problem and y == 0:
            style = self.get_component_rich_style("text-view--problem")
            segments = [Segment(self._problem, style)]
        elif y < len(lines):
            segments = self._painter.segments(lines[y], width)
        else:
            segments = []
        return (
            Strip(segments).adjust_cell_length(width, self.rich_style).apply_style(self.rich_style)
        )
