"""How seq_len and stride cut windows out of the training part, as lines of a page."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Label, Static

from shakespeare_tui.data.tokenizers import CharTokenizer
from shakespeare_tui.data.tokens import check_length
from shakespeare_tui.data.windows import TextDataset
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import counted
from shakespeare_tui.ui.widgets.text_glyphs import sign
from shakespeare_tui.ui.widgets.text_page import TextPage, heading, muted, paragraph, sections

if TYPE_CHECKING:
    from shakespeare_tui.data.inspect.scan import ScanState

_WINDOWS_DRAWN = 5
_LABEL_CELLS = 9
_MOST_PLACES = 2048
_GRID_NOTE = (
    "The target is the input one character later: at every position the model reads the input "
    "up to there and is asked for the character below it."
)


@dataclass(frozen=True)
class WindowCut:
    """One window, its neighbours, and how many there are.

    Attributes:
        seq_len: Characters of a window.
        stride: Distance between the starts of neighbouring windows.
        n_train: Characters of the training part.
        n_windows: Whole windows in it, each with its shifted target.
        number: The window that is looked at, from 0.
        drawn: Numbers of the windows in the picture.
        text: The training text from the first of these on, as far as they reach.
        inputs: Token ids, shape [seq_len].
        targets: The same one token later.
        vocabulary: Characters by token id.
    """

    seq_len: int
    stride: int
    n_train: int
    n_windows: int
    number: int
    drawn: range
    text: str
    inputs: Sequence[int]
    targets: Sequence[int]
    vocabulary: str


def cut_window(state: "ScanState", seq_len: int, stride: int, number: int) -> WindowCut:
    """Cut one window as training does; ``number`` is brought into the range there is.

    Raises:
        UserError: The text is too short for this ``seq_len``, or cannot be read any more.
    """
    assert state.split is not None
    split = state.split
    check_length(split.train, split.validation, seq_len)
    # Windows are counted by the very code that cuts them, on tokens that take no memory.
    counted = TextDataset(np.broadcast_to(np.uint8(0), (split.train,)), seq_len, stride)
    number = min(max(number, 0), len(counted) - 1)
    last_first = max(0, len(counted) - _WINDOWS_DRAWN)
    first = min(max(0, number - 1), last_first)
    drawn = range(first, min(first + _WINDOWS_DRAWN, len(counted)))
    start = number * stride
    vocabulary = state.statistics.vocabulary
    tokens = CharTokenizer.from_vocabulary(vocabulary).encode(
        state.index.text(start, start + seq_len + 1)
    )
    inputs, targets = TextDataset(tokens, seq_len, stride)[0]
    text_stop = drawn[-1] * stride + seq_len + 1
    return WindowCut(
        seq_len=seq_len,
        stride=stride,
        n_train=split.train,
        n_windows=len(counted),
        number=number,
        drawn=drawn,
        text=state.index.text(first * stride, min(text_stop, first * stride + 1000)),
        inputs=inputs.tolist(),
        targets=targets.tolist(),
        vocabulary=vocabulary,
    )


def summary_line(cut: WindowCut) -> Content:
    """The window that is looked at, and how many there are."""
    start = cut.number * cut.stride
    return Content.assemble(
        f"window {cut.number + 1:,} of {cut.n_windows:,}",
        (f" · characters {start:,}–{start + cut.seq_len - 1:,}", "$text-muted"),
    )


def window_lines(cut: WindowCut, width: int, is_ascii: bool, draws: str) -> list[Content]:
    """The page about a window.

    Args:
        cut: The window.
        width: Cells of a line.
        is_ascii: Draw in ASCII.
        draws: The config's ``data.windows``: ``random`` or ``shuffled``.
    """
    return sections(
        _picture(cut, width, is_ascii),
        _grid(cut, width, is_ascii),
        _facts(cut, width, draws),
    )


def _facts(cut: WindowCut, width: int, draws: str) -> Iterable[Content]:
    yield heading("What that means")
    if cut.stride < cut.seq_len:
        shared = cut.seq_len - cut.stride
        text = (
            f"Neighbours share {shared:,} of {cut.seq_len:,} characters; away from the ends every "
            f"character lies in about {cut.seq_len / cut.stride:.3g} windows."
        )
    elif cut.stride == cut.seq_len:
        text = "Windows follow one another without overlap: every character is read once an epoch."
    else:
        text = f"{cut.stride - cut.seq_len:,} characters between neighbours are in no window."
    rest = cut.n_train - 1 - ((cut.n_windows - 1) * cut.stride + cut.seq_len)
    if rest > 0:
        text += f" Another window does not fit: {counted(rest, 'character')} left before the split."
    yield from paragraph(text, width)
    how = (
        "data.windows is random: training starts windows anywhere and does not use the stride; "
        "with shuffled it takes each of these once an epoch."
        if draws == "random"
        else "data.windows is shuffled: training takes each of these once an epoch, in an order "
        "and at an offset of the epoch's own."
    )
    yield from paragraph(how, width, "$text-muted")


def _picture(cut: WindowCut, width: int, is_ascii: bool) -> Iterable[Content]:
    label_cells = max(_LABEL_CELLS, len(f"{cut.drawn[-1] + 1:,}") + 3)
    columns = max(8, width - label_cells)
    span = (len(cut.drawn) - 1) * cut.stride + cut.seq_len + 1
    scale = math.ceil(span / columns)
    base = cut.drawn[0] * cut.stride
    title = "How the training split is cut"
    if scale > 1:
        title += f", {scale:,} characters a column"
    yield heading(title)
    if scale == 1:
        # A sign for every character, so that the text stays in step with the windows below it.
        text = "".join(c if c == " " else sign(c, is_ascii) for c in cut.text)
        yield Content.assemble(("text".ljust(label_cells), "$text-muted"), text)
    for number in cut.drawn:
        offset = number * cut.stride - base
        first = offset // scale
        last = max(first, (offset + cut.seq_len - 1) // scale)
        is_chosen = number == cut.number
        label = f"{'>' if is_chosen else ' '} {number + 1:,}".ljust(label_cells)
        style = "bold $accent" if is_chosen else "$text-muted"
        yield Content.assemble(
            (label, style), " " * first, (_span(last - first + 1, is_ascii), style)
        )
        if is_chosen and scale == 1:
            yield Content.assemble(
                ("  target".ljust(label_cells), "$warning"),
                " " * (first + 1),
                (_span(last - first + 1, is_ascii), "$warning"),
            )


def _span(cells: int, is_ascii: bool) -> str:
    left, line, right = "|-|" if is_ascii else "├─┤"
    return left if cells < 2 else left + line * (cells - 2) + right


def _grid(cut: WindowCut, width: int, is_ascii: bool) -> Iterable[Content]:
    n_places = min(cut.seq_len, _MOST_PLACES)
    cells = 1 + max(len(str(n_places - 1)), len(str(len(cut.vocabulary) - 1)), 2)
    per_line = max(1, (width - _LABEL_CELLS) // cells)
    yield heading("Input and target")
    yield from paragraph(_GRID_NOTE, width, "$text-muted")
    for start in range(0, n_places, per_line):
        places = range(start, min(start + per_line, n_places))
        if start:
            yield Content("")
        yield _row("position", (str(place) for place in places), cells, "$text-muted")
        for label, ids, style in (
            ("input", cut.inputs, "$accent"),
            ("target", cut.targets, "$warning"),
        ):
            shown = (sign(cut.vocabulary[ids[place]], is_ascii) for place in places)
            yield _row(label, shown, cells, f"bold {style}")
            yield _row("  id", (str(ids[place]) for place in places), cells, "$text-muted")
    if n_places < cut.seq_len:
        yield muted(f"and {counted(cut.seq_len - n_places, 'position')} more")


def _row(label: str, items: Iterable[str], cells: int, style: str) -> Content:
    parts = [Content(" " * max(0, cells - Content(item).cell_length) + item) for item in items]
    return Content.assemble(
        (label.ljust(_LABEL_CELLS), "$text-muted"), Content("").join(parts).stylize(style)
    )


_LONGEST_WINDOW = 131_072
_LARGEST_STRIDE = 1_000_000_000
_TENTHS = 10


class WindowPage(TextPage):
    """The lines about a window; its keys move from window to window."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "Window", key_display="←→", id="windows.previous"),
        Binding("right", "move(1)", "Next window", show=False, id="windows.next"),
        Binding("less_than_sign", "skip(-1)", "Back 10 %", show=False, id="windows.skip_back"),
        Binding("greater_than_sign", "skip(1)", "Forward 10 %", show=False, id="windows.skip_on"),
        Binding(
            "plus,equals_sign", "scale_seq_len(2)", "seq_len", key_display="+-", id="windows.longer"
        ),
        Binding("minus", "scale_seq_len(-2)", "Half seq_len", show=False, id="windows.shorter"),
        Binding("full_stop", "scale_stride(2)", "Stride", key_display=".,", id="windows.wider"),
        Binding("comma", "scale_stride(-2)", "Half the stride", show=False, id="windows.narrower"),
    ]

    @property
    def _viewer(self) -> "CorpusWindows":
        viewer = self.parent
        assert isinstance(viewer, CorpusWindows)
        return viewer

    def action_move(self, n: int) -> None:
        """Look at another window."""
        self._viewer.move(n)

    def action_skip(self, direction: int) -> None:
        """A tenth of all windows on or back."""
        self._viewer.skip(direction)

    def action_scale_seq_len(self, factor: int) -> None:
        """Double or halve seq_len."""
        self._viewer.scale("seq-len", factor)

    def action_scale_stride(self, factor: int) -> None:
        """Double or halve the stride."""
        self._viewer.scale("stride", factor)


class CorpusWindows(Vertical):
    """Shows how a corpus is cut into windows.

    Args:
        seq_len: Characters of a window, to begin with.
        stride: Distance between neighbours; None means ``seq_len``.
        draws: The config's ``data.windows``.
        id: Of the widget.
    """

    DEFAULT_CSS: ClassVar[str] = """
    CorpusWindows { height: 1fr; }
    CorpusWindows > Horizontal { height: 1; padding: 0 1; }
    CorpusWindows Label { color: $text-muted; margin-right: 1; }
    CorpusWindows Input { width: 9; height: 1; border: none; padding: 0; margin-right: 3;
        background: $panel; }
    CorpusWindows Input:focus { background: $block-cursor-background; }
    CorpusWindows Input.-invalid { color: $error; }
    CorpusWindows #window-figures { width: 1fr; height: 1; text-wrap: nowrap;
        text-overflow: ellipsis; }
    """

    def __init__(
        self,
        seq_len: int,
        stride: int | None,
        draws: str,
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self._first = (str(seq_len), str(stride or seq_len))
        self._state: ScanState | None = None
        self._number = 0
        self._draws = draws
        self._is_set = False

    def compose(self) -> ComposeResult:
        """Two fields, a line of figures, and the page."""
        with Horizontal():
            yield Label("seq_len", markup=False)
            yield Input(
                self._first[0], type="integer", id="seq-len", compact=True, select_on_focus=True
            )
            yield Label("stride", markup=False)
            yield Input(
                self._first[1], type="integer", id="stride", compact=True, select_on_focus=True
            )
            yield Static("", id="window-figures", markup=False)
        yield WindowPage(id="window-page")

    def set_config(self, seq_len: int, stride: int | None, draws: str) -> None:
        """Take over what the config says, until the user sets something else here."""
        self._draws = draws
        if not self._is_set:
            with self.prevent(Input.Changed):
                self.query_one("#seq-len", Input).value = str(seq_len)
                self.query_one("#stride", Input).value = str(stride or seq_len)
        self._refresh()

    def show(self, state: "ScanState | None") -> None:
        """Show the windows of a corpus that was read to its end; None shows nothing."""
        if state is None or self._state is None or state.index is not self._state.index:
            self._number = 0
        self._state = state
        self._refresh()

    @property
    def page(self) -> WindowPage:
        """The lines about the window."""
        return self.query_one(WindowPage)

    def move(self, n: int) -> None:
        """Look at the window ``n`` further on."""
        self._number = max(0, self._number + n)
        self._refresh()

    def skip(self, direction: int) -> None:
        """A tenth of all windows on or back."""
        stride = self._read("stride", _LARGEST_STRIDE)
        if self._state is not None and self._state.split is not None and stride:
            self.move(direction * max(1, self._state.split.train // stride // _TENTHS))

    def scale(self, field: str, factor: int) -> None:
        """Multiply a field by ``factor``, or divide it by a negative one's size."""
        most = _LONGEST_WINDOW if field == "seq-len" else _LARGEST_STRIDE
        value = self._read(field, most)
        if value is not None:
            value = value * factor if factor > 0 else max(1, value // -factor)
            self.query_one(f"#{field}", Input).value = str(min(value, most))

    @on(Input.Changed)
    def _fields_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._is_set = True
        self._refresh()

    @on(Input.Submitted)
    def _field_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.page.focus()

    def _read(self, field: str, most: int) -> int | None:
        """What a field says; None marks it as wrong."""
        widget = self.query_one(f"#{field}", Input)
        text = widget.value.strip().replace("_", "").replace(",", "")
        value = int(text) if text.isdecimal() else 0
        is_valid = 1 <= value <= most
        widget.set_class(not is_valid, "-invalid")
        return value if is_valid else None

    def _refresh(self) -> None:
        seq_len = self._read("seq-len", _LONGEST_WINDOW)
        stride = self._read("stride", _LARGEST_STRIDE)
        state = self._state
        if state is None or state.split is None:
            self._say("windows are cut when the whole text has been read")
        elif seq_len is None:
            self._say(f"seq_len is a whole number from 1 to {_LONGEST_WINDOW:,}", is_error=True)
        elif stride is None:
            self._say(f"stride is a whole number from 1 to {_LARGEST_STRIDE:,}", is_error=True)
        else:
            self._show_window(state, seq_len, stride)

    def _show_window(self, state: "ScanState", seq_len: int, stride: int) -> None:

        try:
            cut = cut_window(state, seq_len, stride, self._number)
        except UserError as error:
            self._say(str(error), is_error=True)
            return
        self._number = cut.number
        self.query_one("#window-figures", Static).update(summary_line(cut))
        is_ascii, draws = bool(getattr(self.app, "ascii", False)), self._draws
        self.page.show(lambda width: window_lines(cut, width, is_ascii, draws))

    def _say(self, text: str, *, is_error: bool = False) -> None:
        """Show words in the window's place."""
        self.query_one("#window-figures", Static).update("")
        style = "$error" if is_error else "$text-muted"
        self.page.show(lambda width: paragraph(text, width, style))
