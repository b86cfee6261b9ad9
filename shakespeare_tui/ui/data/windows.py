"""The windows that training takes out of its part of the text, as lines of a page."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Label, Static

from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer, TokenArray, shown_token
from shakespeare_tui.data.tokens import TokenSettings, check_length
from shakespeare_tui.data.windows import WindowCut, WindowSampler, gather_windows
from shakespeare_tui.errors import UserError
from shakespeare_tui.formatting import counted
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.widgets.text_glyphs import signs
from shakespeare_tui.ui.widgets.text_page import TextPage, heading, muted, paragraph, sections

if TYPE_CHECKING:
    from shakespeare_tui.config.schema import Config
    from shakespeare_tui.data.inspect.scan import ScanState
    from shakespeare_tui.data.source import TextSource

_WINDOWS_DRAWN = 5
_MOST_RANDOM = 1_000_000_000
_LABEL_CELLS = 9
_MOST_PLACES = 2048
_MOST_CELLS = 12  # of a token's text
MOST_ENCODED_BYTES = 64_000_000
"""Larger corpora are not encoded to be looked at."""


@dataclass(frozen=True)
class WindowSettings:
    """What a config says of windows.

    Attributes:
        cut: How the split is cut.
        tokens: What there is to be cut.
        validation: As ``data.validation``.
    """

    cut: WindowCut
    tokens: TokenSettings = TokenSettings()
    validation: str = ""

    @classmethod
    def of(cls, config: "Config") -> "WindowSettings":
        """Those of a config."""
        return cls(config.window_cut, config.tokens, config.data.validation)


@dataclass(frozen=True)
class TrainingTokens:
    """The training part of a corpus as windows are cut out of it.

    Attributes:
        n_train: Its tokens.
        unit: What they are to people: ``character`` or ``token``.
        vocab_size: Of the tokenizer.
        read: Ids from a place to another, shape [stop - start].
        shown: The text of an id.
    """

    n_train: int
    unit: str
    vocab_size: int
    read: Callable[[int, int], TokenArray]
    shown: Callable[[int], str]

    @classmethod
    def of_characters(cls, state: "ScanState") -> "TrainingTokens":
        """Of a corpus that was scanned, by characters: nothing has to be encoded."""
        assert state.split is not None
        tokenizer = CharTokenizer.from_vocabulary(state.statistics.vocabulary)
        return cls(
            state.split.train,
            "character",
            tokenizer.vocab_size,
            lambda start, stop: tokenizer.encode(state.index.text(start, stop)),
            functools.partial(shown_token, tokenizer),
        )


def encode_training_part(
    source: "TextSource", settings: WindowSettings, job: Job[TrainingTokens]
) -> TrainingTokens:
    """Encode a corpus as training does, in the same cache.

    Raises:
        UserError: It is too large or too short, or the tokenizer cannot be had.
        CancelledError: The job was called off.
    """
    from shakespeare_tui.data.tokens import encode_split, open_tokenizer
    from shakespeare_tui.paths import cache_folder

    kind, cancelled = settings.tokens.tokenizer, job.cancelled.is_set

    def report(what: str, done: int, total: int | None) -> None:
        job.report(done, total)

    if source.size_bytes > MOST_ENCODED_BYTES:
        raise UserError(f"this corpus is too large to be encoded by {kind} for a look")
    tokenizer = open_tokenizer(settings.tokens, source, report, cancelled)
    train, _ = encode_split(
        source,
        tokenizer,
        settings.tokens.val_fraction,
        settings.cut.seq_len,
        cache_folder() / "tokens",
        job.report,
        cancelled,
        is_streamed=settings.tokens.is_streamed,
    )
    return TrainingTokens(
        len(train),
        "token",
        tokenizer.vocab_size,
        lambda start, stop: train[start:stop],
        functools.partial(shown_token, tokenizer),
    )


@dataclass(frozen=True)
class ShownWindow:
    """One window and those that training takes before and after it.

    Attributes:
        cut: How the split is cut.
        tokens: The training part.
        n_windows: Of shuffled windows, how many an epoch has; None of random ones.
        number: The window that is looked at, from 0, in the order of training.
        drawn: Numbers of the windows in the picture, and where each starts.
        inputs: Token ids, shape [seq_len].
        targets: The same one token later.
    """

    cut: WindowCut
    tokens: TrainingTokens
    n_windows: int | None
    number: int
    drawn: dict[int, int]
    inputs: Sequence[int]
    targets: Sequence[int]

    @property
    def stride(self) -> int:
        """Distance between neighbours of shuffled windows."""
        return self.cut.stride or self.cut.seq_len


@functools.lru_cache(maxsize=1)
def _sampler(cut: WindowCut, length: int) -> WindowSampler:
    """Kept from window to window: it knows the order of its epoch."""
    return cut.sampler(length)


def show_window(tokens: TrainingTokens, cut: WindowCut, number: int) -> ShownWindow:
    """A window as training takes it; ``number`` is brought into the range there is.

    Raises:
        UserError: The text cannot be read any more.
    """
    sampler = _sampler(cut, tokens.n_train)
    n_windows = sampler.windows_an_epoch() if cut.order != "random" else None
    most = _MOST_RANDOM if n_windows is None else n_windows
    number = min(max(number, 0), most - 1)
    first = min(max(0, number - 1), max(0, most - _WINDOWS_DRAWN))
    drawn = {n: sampler.start(n) for n in range(first, min(first + _WINDOWS_DRAWN, most))}
    start = drawn[number]
    ids = tokens.read(start, start + cut.seq_len + 1)
    (window,) = gather_windows(ids, np.zeros(1, np.int64), cut.seq_len)
    return ShownWindow(
        cut=cut,
        tokens=tokens,
        n_windows=n_windows,
        number=number,
        drawn=drawn,
        inputs=window[:-1].tolist(),
        targets=window[1:].tolist(),
    )


def summary_line(shown: ShownWindow) -> Content:
    """The window that is looked at, which batch takes it, and how many there are."""
    start, batch = shown.drawn[shown.number], shown.number // shown.cut.batch_size + 1
    last = start + shown.cut.seq_len - 1
    of = f" of {shown.n_windows:,} an epoch" if shown.n_windows is not None else ""
    return Content.assemble(
        f"window {shown.number + 1:,}{of}",
        (
            f" · batch {batch:,} · {shown.tokens.unit}s {start:,}–{last:,}",
            "$text-muted",
        ),
    )


def window_lines(shown: ShownWindow, width: int, is_ascii: bool) -> list[Content]:
    """The page about a window.

    Args:
        shown: The window.
        width: Cells of a line.
        is_ascii: Draw in ASCII.
    """
    return sections(
        _picture(shown, width, is_ascii),
        _grid(shown, width, is_ascii),
        _facts(shown, width),
    )


def _facts(shown: ShownWindow, width: int) -> Iterable[Content]:
    yield heading("What that means")
    seq_len, stride, unit = shown.cut.seq_len, shown.stride, shown.tokens.unit
    if shown.n_windows is None:
        a_pass = max(1, shown.tokens.n_train // seq_len)
        yield from paragraph(
            "data.windows is random: training starts windows anywhere, some places often and some "
            f"not for long, and does not use the stride. {counted(a_pass, 'window')} read as many "
            f"{unit}s as the split has.",
            width,
        )
        return
    if stride < seq_len:
        text = (
            f"Neighbours share {seq_len - stride:,} of {seq_len:,} {unit}s; away from the ends "
            f"every {unit} lies in about {seq_len / stride:.3g} windows."
        )
    elif stride == seq_len:
        text = f"Windows follow one another without overlap: every {unit} is read once an epoch."
    else:
        text = f"{stride - seq_len:,} {unit}s between neighbours are in no window."
    yield from paragraph(text, width)
    how = (
        "data.windows is shuffled: training takes each of these once an epoch, in an order and at "
        "an offset of the epoch's own."
        if shown.cut.order == "shuffled"
        else "data.windows is streamed: training takes a few parts of the text at a time, and the "
        "windows of these in shuffled order; shown is an order of all, as without parts."
    )
    yield from paragraph(how, width, "$text-muted")


def _picture(shown: ShownWindow, width: int, is_ascii: bool) -> Iterable[Content]:
    """Where in the training split each window lies."""
    label_cells = max(_LABEL_CELLS, len(f"{max(shown.drawn) + 1:,}") + 3)
    scale = math.ceil(shown.tokens.n_train / max(8, width - label_cells))
    yield heading(f"Where training takes its windows, {counted(scale, shown.tokens.unit)} a column")
    for number, start in shown.drawn.items():
        first, last = start // scale, (start + shown.cut.seq_len - 1) // scale
        is_chosen = number == shown.number
        label = f"{'>' if is_chosen else ' '} {number + 1:,}".ljust(label_cells)
        style = "bold $accent" if is_chosen else "$text-muted"
        bar = ("#" if is_ascii else "█") * (last - first + 1)
        yield Content.assemble((label, style), " " * first, (bar, style))


def _grid(shown: ShownWindow, width: int, is_ascii: bool) -> Iterable[Content]:
    n_places, unit = min(shown.cut.seq_len, _MOST_PLACES), shown.tokens.unit
    ids = (shown.inputs[:n_places], shown.targets[:n_places])
    texts = [[signs(shown.tokens.shown(token), is_ascii) for token in row] for row in ids]
    numbers = (n_places - 1, shown.tokens.vocab_size - 1)
    widest = max(Content(text).cell_length for row in texts for text in row)
    cells = 1 + max(*(len(str(number)) for number in numbers), min(widest, _MOST_CELLS), 2)
    per_line = max(1, (width - _LABEL_CELLS) // cells)
    yield heading("Input and target")
    yield from paragraph(
        f"The target is the input one {unit} later: at every position the model reads the input "
        f"up to there and is asked for the {unit} below it.",
        width,
        "$text-muted",
    )
    for start in range(0, n_places, per_line):
        stop = min(start + per_line, n_places)
        if start:
            yield Content("")
        yield _row("position", map(str, range(start, stop)), cells, "$text-muted")
        for label, row, tokens, style in (
            ("input", texts[0], ids[0], "$accent"),
            ("target", texts[1], ids[1], "$warning"),
        ):
            yield _row(label, row[start:stop], cells, f"bold {style}")
            yield _row("  id", map(str, tokens[start:stop]), cells, "$text-muted")
    if n_places < shown.cut.seq_len:
        yield muted(f"and {counted(shown.cut.seq_len - n_places, 'position')} more")


def _row(label: str, items: Iterable[str], cells: int, style: str) -> Content:
    shown = (Content(item).truncate(cells - 1, ellipsis=True) for item in items)
    parts = [Content(" " * (cells - item.cell_length)) + item for item in shown]
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
        settings: The config's.
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
        settings: WindowSettings,
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self._settings = settings
        self._state: ScanState | None = None
        self._tokens: TrainingTokens | None = None
        self._jobs = Jobs(self)
        self._number = 0
        self._is_set = False

    def compose(self) -> ComposeResult:
        """Two fields, a line of figures, and the page."""
        with Horizontal():
            yield Label("seq_len", markup=False)
            yield Input(
                str(self._settings.cut.seq_len),
                type="integer",
                id="seq-len",
                compact=True,
                select_on_focus=True,
            )
            yield Label("stride", markup=False)
            yield Input(
                str(self._settings.cut.stride or self._settings.cut.seq_len),
                type="integer",
                id="stride",
                compact=True,
                select_on_focus=True,
            )
            yield Static("", id="window-figures", markup=False)
        yield WindowPage(id="window-page")

    def on_unmount(self) -> None:
        self._jobs.close()

    def set_config(self, settings: WindowSettings) -> None:
        """Take over what the config says, until the user sets something else here."""
        if replace(settings, cut=self._settings.cut) != self._settings:
            self._tokens = None
        self._settings, cut = settings, settings.cut
        if not self._is_set:
            with self.prevent(Input.Changed):
                self.query_one("#seq-len", Input).value = str(cut.seq_len)
                self.query_one("#stride", Input).value = str(cut.stride or cut.seq_len)
        self._refresh()

    def show(self, state: "ScanState | None") -> None:
        """Show the windows of a corpus that was read to its end; None shows nothing."""
        if state is None or self._state is None or state.index is not self._state.index:
            self._number, self._tokens = 0, None
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
        if self._tokens is not None and stride:
            self.move(direction * max(1, self._tokens.n_train // stride // _TENTHS))

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
        assert state.split is not None
        cut = replace(self._settings.cut, seq_len=seq_len, stride=stride)
        try:
            if self._tokens is None and self._settings.tokens.tokenizer == "char":
                self._tokens = TrainingTokens.of_characters(state)
            if self._tokens is None:
                self._encode(state)
                return
            check_length(self._tokens.n_train, state.split.validation, cut.seq_len)
            shown = show_window(self._tokens, cut, self._number)
        except UserError as error:
            self._say(str(error), is_error=True)
            return
        self._number = shown.number
        self.query_one("#window-figures", Static).update(summary_line(shown))
        is_ascii = bool(getattr(self.app, "ascii", False))
        self.page.show(lambda width: window_lines(shown, width, is_ascii))

    def _encode(self, state: "ScanState") -> None:
        """Have the corpus encoded by the config's tokenizer, as training will."""
        settings = self._settings

        def take(job: Job[TrainingTokens]) -> None:
            if job.error:
                self._say(job.error, is_error=True)
            elif job.result is not None:
                self._tokens = job.result
                self._refresh()

        self._say(f"Encoding the corpus by {settings.tokens.tokenizer}, as training does …")
        self._jobs.start(
            "encode", lambda job: encode_training_part(state.source, settings, job), take
        )

    def _say(self, text: str, *, is_error: bool = False) -> None:
        """Show words in the window's place."""
        self.query_one("#window-figures", Static).update("")
        style = "$error" if is_error else "$text-muted"
        self.page.show(lambda width: paragraph(text, width, style))
