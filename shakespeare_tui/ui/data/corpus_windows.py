"""The window viewer: set seq_len and stride, walk through the windows, see inputs and targets."""

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Label, Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.ui.widgets.text_lines import paragraph
from shakespeare_tui.ui.widgets.text_page import TextPage

if TYPE_CHECKING:
    from shakespeare_tui.data.inspect.scan import ScanState

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
        from shakespeare_tui.ui.data.windows import cut_window, summary_line, window_lines

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
