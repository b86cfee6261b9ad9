"""The tabs about a corpus that can be read; only the tab that is seen is kept up to date."""

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Static

from shakespeare_tui.data.available import AvailableCorpus
from shakespeare_tui.data.tokens import TokenSettings, open_tokenizer
from shakespeare_tui.data.windows import WindowCut
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.ui.data.characters import CharacterLines, CorpusZipf, word_lines
from shakespeare_tui.ui.data.report import (
    overview_lines,
    refused_lines,
    speaker_lines,
    waiting_lines,
)
from shakespeare_tui.ui.data.text_view import TextView
from shakespeare_tui.ui.data.tokens import CorpusTokens
from shakespeare_tui.ui.data.windows import MOST_ENCODED_BYTES, CorpusWindows, WindowSettings
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.widgets.pane_tabs import PaneTabs
from shakespeare_tui.ui.widgets.text_glyphs import signs
from shakespeare_tui.ui.widgets.text_page import TextPage

if TYPE_CHECKING:
    from pathlib import Path

    from shakespeare_tui.data.inspect.line_index import LineIndex
    from shakespeare_tui.data.inspect.scan import ScanState
    from shakespeare_tui.data.inspect.text_tokens import PlacedToken, TextTokens
    from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
    from shakespeare_tui.ui.data.scans import Scan

TABS = (
    ("overview", "Overview"),
    ("characters", "Characters"),
    ("zipf", "Zipf"),
    ("speakers", "Speakers"),
    ("text", "Text"),
    ("windows", "Windows"),
    ("tokens", "Tokens"),
)


class CharactersPage(TextPage):
    """The bar chart of characters; keys change its order and its scale."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "change_order", "Order", id="characters.order"),
        Binding("l", "change_scale", "Log scale", id="characters.log"),
    ]
    by_code_point = False
    is_log = False

    def show_state(self, state: "ScanState", is_ascii: bool) -> None:
        """Show the characters of a corpus."""
        self.show(
            lambda width: CharacterLines(
                state.statistics,
                width,
                by_code_point=self.by_code_point,
                is_log=self.is_log,
                is_ascii=is_ascii,
            )
        )

    def action_change_order(self) -> None:
        """By code point, or the most frequent first."""
        self.by_code_point = not self.by_code_point
        self.scroll_home(animate=False)
        self.make_anew()

    def action_change_scale(self) -> None:
        """Bars by the logarithm of the count, or by the count."""
        self.is_log = not self.is_log
        self.make_anew()


class CorpusTabs(Vertical):
    """Everything that was measured about one corpus.

    Args:
        item: The corpus.
        state: What is known of it.
        cut: The config's ``seq_len``, ``stride`` and ``windows``.
    """

    DEFAULT_CSS: ClassVar[str] = """
    CorpusTabs { height: 1fr; }
    CorpusTabs ContentSwitcher { height: 1fr; }
    CorpusTabs #words { width: 38; padding: 0 1 0 2; display: none; }
    CorpusTabs #text-place { height: 1; padding: 0 1; color: $text-muted;
        text-wrap: nowrap; text-overflow: ellipsis; }
    CorpusTabs TextView { padding: 0 0 0 1; }
    """

    def __init__(self, item: AvailableCorpus, state: "ScanState", windows: WindowSettings) -> None:
        super().__init__()
        self._item = item
        self.state = state
        self._windows = windows
        self.tab = TABS[0][0]
        """The tab that is seen."""
        self._is_composed = False
        self._sought: tuple[TokenSettings, str] | None = None
        self._sought_in: LineIndex | None = None
        self._tokens: TextTokens | str = ""
        """Those that were sought of the text, or why there are none."""
        self._jobs = Jobs(self)

    def compose(self) -> ComposeResult:
        """The line of names, and one pane a subject."""
        yield PaneTabs("[ ]")
        with ContentSwitcher(initial=self.tab):
            yield TextPage(id="overview")
            yield CharactersPage(id="characters")
            with Horizontal(id="zipf"):
                yield CorpusZipf(id="zipf-plot")
                yield TextPage(id="words")
            yield TextPage(id="speakers")
            with Vertical(id="text"):
                yield Static("", id="text-place", markup=False)
                yield TextView()
            yield CorpusWindows(self._windows, id="windows")
            yield CorpusTokens(id="tokens")

    def on_mount(self) -> None:
        """Show the tab that was asked for meanwhile, once the panes are there."""
        self._begin()

    def _begin(self) -> None:
        if not self.query(CorpusTokens):  # the switcher mounts its panes in its own time
            self.call_after_refresh(self._begin)
            return
        self._is_composed = True
        if self.tab == TABS[0][0]:
            self._show_tab()
        else:
            self.open_tab(self.tab)

    @property
    def _is_ascii(self) -> bool:
        return bool(getattr(self.app, "ascii", False))

    def show_state(self, item: AvailableCorpus, state: "ScanState") -> None:
        """Show what was measured, or what is known so far."""
        if item != self._item or state is not self.state:
            self._item, self.state = item, state
            self.refresh_tab()

    def set_windows(self, windows: WindowSettings) -> None:
        """Take over how the config cuts windows."""
        self._windows = windows
        if self._is_composed:
            self.query_one(CorpusWindows).set_config(windows)
            self.refresh_tab()

    def refresh_tab(self) -> None:
        """Bring the tab that is seen up to date."""
        if not self._is_composed:
            return
        item, state, is_ascii, tab = self._item, self.state, self._is_ascii, self.tab
        if tab == "overview":
            self.query_one("#overview", TextPage).show(
                lambda width: overview_lines(item, state, width, is_ascii)
            )
        elif tab == "characters":
            self.query_one(CharactersPage).show_state(state, is_ascii)
        elif tab == "zipf":
            self.query_one(CorpusZipf).show(state)
            self.query_one("#words", TextPage).show(lambda width: word_lines(state, width))
        elif tab == "speakers":
            self._show_speakers(state)
        elif tab == "text":
            split = state.split.train if state.split else None
            found = self._text_tokens(state)
            self.query_one(TextView).show_text(
                state.index, split=split, tokens=None if isinstance(found, str) else found
            )
        elif tab == "windows":
            self.query_one(CorpusWindows).show(state if state.is_read else None)
        elif tab == "tokens":
            tokens = self.query_one(CorpusTokens)
            tokens.set_config(self._windows.tokens, self._windows.validation)
            tokens.show(item)

    def _show_speakers(self, state: "ScanState") -> None:
        is_ascii = self._is_ascii
        self.query_one("#speakers", TextPage).show(
            lambda width: speaker_lines(state, width, is_ascii)
        )

    def _text_tokens(self, state: "ScanState") -> "TextTokens | str":
        """The tokens of the text, or why there are none yet; the config says which."""
        from shakespeare_tui.data.inspect.text_tokens import TextTokens
        from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer

        if not state.is_read:
            return ""
        settings = self._windows.tokens
        is_same = self._sought == (settings, self._windows.validation)
        if is_same and self._sought_in is state.index:
            return self._tokens
        self._sought, self._sought_in = (settings, self._windows.validation), state.index
        if settings.tokenizer == "char":
            known = CharTokenizer.from_vocabulary(state.statistics.vocabulary)
            self._jobs.cancel("tokenizer")
            self._tokens = TextTokens(state.index, known)
            return self._tokens
        self._tokens = f"the tokens of {settings.tokenizer} are being sought"

        def take(job: "Job[Tokenizer]") -> None:
            found = job.result
            self._tokens = job.error if found is None else TextTokens(state.index, found)
            self.refresh_tab()

        self._jobs.start(
            "tokenizer",
            lambda job: open_tokenizer(
                settings,
                state.source,
                cancelled=job.cancelled.is_set,
                most_bytes=MOST_ENCODED_BYTES,
            ),
            take,
        )
        return self._tokens

    def on_unmount(self) -> None:
        self._jobs.close()

    @on(TextView.Moved)
    def _say_place(self, event: TextView.Moved) -> None:
        rows, token, state = event.view.rows_shown, event.view.token, self.state
        if rows is None:
            return
        first, last = rows
        index = state.index
        said = [] if token is None else [_token(token, is_ascii=self._is_ascii)]
        said.append(_part(first.start, last.stop, state.split.train) if state.split else "so far")
        tokens = self._text_tokens(state)
        if isinstance(tokens, str) and tokens:
            said.append(tokens)
        lines = "line" if first.line == last.line else f"lines {first.line + 1:,} to"
        said.append(f"{lines} {last.line + 1:,} of {index.n_lines:,}")
        said.append(f"characters {first.start:,} to {max(first.start, last.stop - 1):,}")
        self.query_one("#text-place", Static).update(Content(" · ".join(said)))

    # --- moving about --------------------------------------------------------------------------

    def switch(self, direction: int) -> None:
        """Go to the next tab or the one before, and into it."""
        names = [name for name, _ in TABS]
        self.open_tab(names[(names.index(self.tab) + direction) % len(names)])

    def open_tab(self, tab: str) -> None:
        """Show a tab and bring the keyboard to it."""
        self.tab = tab
        if self._is_composed:
            self._show_tab()
            self.screen.set_focus(self._page)

    @on(PaneTabs.Chosen)
    def _open_clicked(self, message: PaneTabs.Chosen) -> None:
        self.open_tab(message.pane)

    def _show_tab(self) -> None:
        self.query_one(ContentSwitcher).current = self.tab
        self.refresh_tab()
        self._mark_tab()

    def on_descendant_focus(self) -> None:
        self._mark_tab()

    def on_descendant_blur(self) -> None:
        self._mark_tab()

    def _mark_tab(self) -> None:
        self.query_one(PaneTabs).show(TABS, self.tab, is_focused=self.has_focus_within)

    @property
    def _page(self) -> Widget:
        """What the keys of the tab act on."""
        pane = self.query_one(f"#{self.tab}")
        return next(
            widget for widget in pane.walk_children(Widget, with_self=True) if _is_page(widget)
        )


def _is_page(widget: Widget) -> bool:
    return isinstance(widget, TextPage | CorpusZipf | TextView)


def _token(token: "PlacedToken", *, is_ascii: bool) -> str:
    """A token in words."""
    place = f"{token.start:,}" if token.stop - token.start < 2 else f"from {token.start:,}"
    return f'token {token.id:,} "{signs(token.shown, is_ascii=is_ascii)}", character {place}'


def _part(start: int, stop: int, split: int) -> str:
    if stop <= split:
        return "training part"
    return "validation part" if start >= split else "the split is here"


_USUAL_SEQ_LEN = 128


class CorpusDetail(Vertical):
    """The page, and the tabs, which are made when there is something to put into them."""

    DEFAULT_CSS: ClassVar[str] = """
    CorpusDetail { height: 1fr; width: 1fr; }
    CorpusDetail #waiting { padding: 1 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._tabs: CorpusTabs | None = None
        self._waiting: tuple[AvailableCorpus, str] | None = None
        self._windows = WindowSettings(
            WindowCut(_USUAL_SEQ_LEN, None, "random", batch_size=1, seed=0)
        )

    def compose(self) -> ComposeResult:
        """The page alone: the tabs would make the first paint wait."""
        yield TextPage(id="waiting")

    @property
    def _page(self) -> TextPage:
        return self.query_one("#waiting", TextPage)

    def _show_tabs(self, are_shown: bool) -> None:
        self._page.display = not are_shown
        if self._tabs is not None:
            self._tabs.display = are_shown

    @property
    def state(self) -> "ScanState | None":
        """What was measured about the corpus that is shown; None while the page is seen."""
        return self._tabs.state if self._tabs is not None and self._tabs.display else None

    def set_windows(self, windows: WindowSettings) -> None:
        """Take over how the config cuts windows."""
        self._windows = windows
        if self._tabs is not None:
            self._tabs.set_windows(windows)

    def show(self, item: AvailableCorpus, scan: "Scan | None", fetched: str | None) -> None:
        """Show a corpus as far as it is known.

        Args:
            item: The corpus.
            scan: Its scan, under way or over.
            fetched: The spec of the corpus that is being fetched, maybe another.
        """
        if item.problem is not None:
            self.show_refusal(item, item.problem, None)
        elif not item.is_at_hand:
            self.show_waiting(item, _advice(item, is_coming=item.spec == fetched))
        elif scan is not None and scan.job.error:
            self.show_refusal(item, scan.job.error, scan.path)
        elif scan is not None and scan.state is not None:
            self.show_state(item, scan.state)
        else:
            self.show_waiting(item, "Reading …")

    def show_waiting(self, item: AvailableCorpus, advice: str) -> None:
        """Show what is known of a corpus without reading it, and what to do."""
        self._show_tabs(False)
        if (item, advice) != self._waiting:
            self._waiting = (item, advice)
            self._page.show(lambda width: waiting_lines(item, advice, width))

    def show_refusal(self, item: AvailableCorpus, error: str, path: "Path | None") -> None:
        """Show why a corpus cannot be read."""
        from shakespeare_tui.data.inspect.verdict import judge_unreadable

        verdict, is_ascii = judge_unreadable(error, path), bool(getattr(self.app, "ascii", False))
        self._show_tabs(False)
        self._waiting = None
        self._page.show(lambda width: refused_lines(item, verdict, width, is_ascii))

    def show_state(self, item: AvailableCorpus, state: "ScanState") -> None:
        """Show what was measured, or what is known so far."""
        if self._tabs is None:
            self._tabs = CorpusTabs(item, state, self._windows)
            self.mount(self._tabs)
        self._show_tabs(True)
        self._tabs.show_state(item, state)

    def switch(self, direction: int) -> None:
        """Go to the next tab or the one before, and into it."""
        if self._tabs is not None and self.state is not None:
            self._tabs.switch(direction)


def _advice(item: AvailableCorpus, *, is_coming: bool) -> str:
    if item.status == "unchecked":
        return "Searching …"
    if is_coming:
        return "Downloading; x cancels it."
    size = "" if item.size_bytes is None else f" ({format_bytes(item.size_bytes)})"
    return f"It is not on this machine yet. Press f to download it{size}."
