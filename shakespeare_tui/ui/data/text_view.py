"""Scroll through a text of any size: only the rows on the screen are ever read."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar, Literal

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from shakespeare_tui.errors import UserError
from shakespeare_tui.ui.widgets.text_glyphs import cell_widths, glyphs, signs, wrap

if TYPE_CHECKING:
    from shakespeare_tui.data.inspect.line_index import LineIndex, Row
    from shakespeare_tui.data.inspect.text_tokens import PlacedToken, TextTokens

Kind = Literal["text", "tokens", "ids", "split"]


@dataclass(frozen=True, slots=True)
class ScreenLine:
    """A line of the screen.

    Attributes:
        kind: Wrapped text; tokens spread out above their ids; these ids; or the split's mark.
        row: The row it belongs to.
        start: First character in the row's text.
        stop: Behind its last character.
        is_first: Whether it begins the row.
        is_validation: Whether it lies behind the split.
        tokens: Of a line of tokens or ids, what stands in it, by their numbers in the row.
    """

    kind: Kind
    row: "Row"
    start: int = 0
    stop: int = 0
    is_first: bool = False
    is_validation: bool = False
    tokens: tuple[tuple[int, "PlacedToken"], ...] = ()


@dataclass(frozen=True, slots=True)
class TextLayout:
    """How rows are laid out.

    Attributes:
        width: Cells at hand for the text.
        split: Number of the first validation character; None while it is not known.
        id_cells: Cells that a token with its id takes at least; 0 shows plain text.
        tokens: Those that reach into a row, where ids are shown.
    """

    width: int
    split: int | None = None
    id_cells: int = 0
    tokens: "Callable[[Row], Sequence[PlacedToken]]" = lambda row: ()

    def lines(self, row: "Row") -> list[ScreenLine]:
        """The lines that a row takes; at least one."""
        split = self.split
        if split is None or not row.start <= split < row.stop:
            return self._part(row, 0, len(row.text), split is not None and row.start > split)
        cut = split - row.start
        before = self._part(row, 0, cut, False) if cut else []
        return [*before, ScreenLine("split", row), *self._part(row, cut, len(row.text), True)]

    def _part(self, row: "Row", start: int, stop: int, is_validation: bool) -> list[ScreenLine]:
        if not self.id_cells:
            return [
                ScreenLine("text", row, start + a, start + b, start + a == 0, is_validation)
                for a, b in wrap(row.text[start:stop], self.width)
            ]
        lines: list[ScreenLine] = []
        for tokens in self._lines_of_tokens(row, start, stop):
            first = max(0, tokens[0][1].start - row.start) if tokens else start
            is_first = not lines and start == 0
            lines += [
                ScreenLine("tokens", row, first, stop, is_first, is_validation, tokens),
                ScreenLine("ids", row, first, stop, False, is_validation, tokens),
            ]
        return lines

    def _lines_of_tokens(
        self, row: "Row", start: int, stop: int
    ) -> "Iterator[tuple[tuple[int, PlacedToken], ...]]":
        """The tokens that begin in the row and end between two of its places, line by line."""
        line: list[tuple[int, PlacedToken]] = []
        used = 0
        for number, token in enumerate(self.tokens(row)):
            last = min(max(token.start, token.stop - 1), row.stop - 1) - row.start
            if token.start < row.start or not start <= last < max(stop, start + 1):
                continue
            cells = self.cells_of(token)
            if line and used + cells > self.width:
                yield tuple(line)
                line, used = [], 0
            line.append((number, token))
            used += cells
        yield tuple(line)

    def cells_of(self, token: "PlacedToken") -> int:
        """What a token takes beside its id, with a blank before it."""
        return max(self.id_cells, cell_len(signs(token.shown, is_ascii=True)) + 1)


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
        style: Gives the style of a part: number, training, validation, sign, id, split, odd or
            cursor.
        layout: How they were laid out.
        number_cells: Cells of a line number.
        tokens: Those that reach into a row.
        is_apart: Whether every other token is set apart.
        cursor: The row and the number of the token under the cursor.
        is_ascii: Draw in ASCII.
    """

    style: Callable[[str], Style]
    layout: TextLayout
    number_cells: int
    tokens: "Callable[[Row], Sequence[PlacedToken]]"
    is_apart: bool
    cursor: tuple[int, int] | None
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
        label = f" validation begins, character {self.layout.split:,} "
        return Segment(f"{rule[: self.number_cells + 1]}{label}{rule}"[:width], self.style("split"))

    def _content(self, line: ScreenLine) -> Iterator[Segment]:
        row = line.row
        if line.kind != "text":
            for number, token in line.tokens:
                yield from self._spread(line, number, token)
        elif not (self.is_apart or (self.cursor and self.cursor[0] == row.number)):
            yield Segment(glyphs(row.text[line.start : line.stop]))
        else:
            tokens = self.tokens(row)
            chosen = self._seen_number(row, tokens)
            for number, token in enumerate(tokens):
                start = max(line.start, token.start - row.start)
                stop = min(line.stop, token.stop - row.start)
                if start < stop:
                    yield self._piece(number, row.text[start:stop], number == chosen)

    def _seen_number(self, row: "Row", tokens: "Sequence[PlacedToken]") -> int | None:
        """The token that is marked: one that goes on with a character is seen where that begins."""
        if self.cursor is None or self.cursor[0] != row.number:
            return None
        number = min(self.cursor[1], len(tokens) - 1)
        while number > 0 and tokens[number].start == tokens[number].stop:
            number -= 1
        return number

    def _piece(self, number: int, text: str, is_chosen: bool) -> Segment:
        """What lies of a token in a line of text."""
        if is_chosen:
            return Segment(signs(text, self.is_ascii), self.style("cursor"))
        return Segment(glyphs(text), self.style("odd") if number % 2 and self.is_apart else None)

    def _spread(self, line: ScreenLine, number: int, token: "PlacedToken") -> Iterator[Segment]:
        """A token or its id, at the right of the cells that both take."""
        shown, style = signs(token.shown, self.is_ascii), None
        if line.kind == "ids":
            shown, style = str(token.id), self.style("id")
        elif shown != token.shown:
            style = self.style("sign")
        blank = " " * (self.layout.cells_of(token) - cell_len(shown))
        if (line.row.number, number) == self.cursor:
            yield Segment(blank)
            yield Segment(shown, self.style("cursor"))
        else:
            yield Segment(blank + shown, style)


_LINES_A_WHEEL_STEP = 3
_FEWEST_NUMBER_CELLS = 5
_TENTHS = 10


class TextView(ScrollView, can_focus=True):
    """A text by its index: line numbers, the split as a rule, tokens and their ids on request.

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
        "text-view--odd",
        "text-view--cursor",
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
    TextView > .text-view--odd { color: $foreground; background: $foreground 15%; }
    TextView > .text-view--cursor {
        color: $background; background: $accent; text-style: bold;
    }
    TextView > .text-view--problem { color: $error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "toggle_ids", "Token ids", id="text.ids"),
        Binding("s", "go_to_split", "Split", id="text.split"),
        Binding("left", "move(-1)", "Token", key_display="←→", id="text.token_before"),
        Binding("right", "move(1)", "Next token", show=False, id="text.token_after"),
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
        self._tokens: TextTokens | None = None
        self._cursor: tuple[int, int] | None = None
        """The row and the number in it of the token under the cursor, once there is one."""
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
        tokens: "TextTokens | None" = None,
    ) -> None:
        """Show a text, or more of the same one.

        Args:
            index: The index as far as it goes; None shows nothing.
            split: Number of the first validation character, as soon as it is known.
            tokens: Those of the text, as soon as they can be told.
        """
        is_same = (
            index is not None
            and self._index is not None
            and (self._index.stream is index.stream or self._index is index)
        )
        if not is_same:
            self._top, self._cursor = (0, 0), None
        if tokens is None or self._tokens is None or tokens.tokenizer != self._tokens.tokenizer:
            self._cursor = None
        self._index, self._split, self._tokens = index, split, tokens
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
    def token(self) -> "PlacedToken | None":
        """The token under the cursor."""
        if self._cursor is None or self._tokens is None:
            return None
        row, number = self._cursor
        found = [token for item in self._read(row, row + 1) for token in self._tokens_of(item)]
        return found[number] if number < len(found) else None

    def _tokens_of(self, row: "Row") -> "Sequence[PlacedToken]":
        """The tokens of a row; none where they cannot be told, which is then shown instead."""
        try:
            return self._tokens.of_row(row) if self._tokens is not None else ()
        except UserError as error:
            self._problem = str(error)
            return ()

    def _number_cells(self) -> int:
        n_lines = self._index.n_lines if self._index else 0
        return max(_FEWEST_NUMBER_CELLS, len(f"{n_lines:,}"))

    def _layout(self) -> TextLayout:
        id_cells = 0
        if self._shows_ids and self._tokens is not None:
            id_cells = max(2, len(str(self._tokens.tokenizer.vocab_size - 1))) + 1
        width = self.scrollable_content_region.width - self._number_cells() - 3
        return TextLayout(max(8, width), self._split, id_cells, self._tokens_of)

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

    def action_move(self, by: int) -> None:
        """Go on or back by a token; to the first that is seen where there is none yet."""
        if self._tokens is None:
            return
        lines = self._screen_lines()
        rows = {line.row.number for line in lines}
        if self._cursor is None or self._cursor[0] not in rows:
            places = (self._places(line.row, line.start) for line in lines)
            self._choose(next((found[0] for found in places if found), None))
        else:
            self._choose(self._neighbour(self._cursor, by))

    def _places(self, row: "Row", start: int = 0) -> list[tuple[int, int]]:
        """The tokens that begin in a row, from a character of it on."""
        first = row.start + start
        tokens = enumerate(self._tokens_of(row))
        return [(row.number, number) for number, token in tokens if token.start >= first]

    def _neighbour(self, place: tuple[int, int], by: int) -> tuple[int, int] | None:
        """The token after or before one, in whichever row that begins; None beyond the ends."""
        row = place[0]
        while rows := self._read(row, row + 1):
            found = [other for other in self._places(rows[0]) if (other > place) == (by > 0)]
            found = [other for other in found if other != place]
            if found:
                return found[0] if by > 0 else found[-1]
            row += by
            if row < 0:
                break
        return None

    def _choose(self, place: tuple[int, int] | None) -> None:
        """Put the cursor on a token, and the token on the screen."""
        if place is None:
            return
        self._cursor = place
        token = self.token
        self.refresh()
        self.post_message(self.Moved(self))
        if token is None:
            return
        (row,) = self._read(place[0], place[0] + 1)
        lines = self._layout().lines(row)
        line = max(i for i, item in enumerate(lines) if row.start + item.start <= token.start)
        shown = self._screen_lines()
        if (place[0], line) < self._top:
            self._move_to((place[0], line))
        elif lines[line] not in shown:
            self._top = (place[0], line)
            self._move_by(1 - self.scrollable_content_region.height)

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the token that was clicked."""
        place = event.get_content_offset(self)
        if place is not None:
            self._choose(self._token_at(*place))

    def _token_at(self, x: int, y: int) -> tuple[int, int] | None:
        """What stands in a cell of the view."""
        lines = self._screen_lines()
        x -= self._number_cells() + 3
        if y >= len(lines) or x < 0 or lines[y].kind == "split":
            return None
        line, row = lines[y], lines[y].row
        if line.kind != "text":
            cells = [self._layout().cells_of(token) for _, token in line.tokens]
            number = bisect_right(list(accumulate(cells)), x)
            return (row.number, line.tokens[number][0]) if number < len(cells) else None
        widths = cell_widths(row.text[line.start : line.stop])
        character = row.start + line.start + bisect_right(list(accumulate(widths)), x)
        tokens = enumerate(self._tokens_of(row))
        found = (number for number, token in tokens if token.start <= character < token.stop)
        return next(((row.number, number) for number in found), None)

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
        """Show or hide the ids of the tokens."""
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
        tokens = self._tokens
        return TextPainter(
            style=lambda part: self.get_component_rich_style(f"text-view--{part}"),
            layout=self._layout(),
            number_cells=self._number_cells(),
            tokens=self._tokens_of,
            is_apart=tokens is not None and not tokens.are_characters,
            cursor=self._cursor,
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
