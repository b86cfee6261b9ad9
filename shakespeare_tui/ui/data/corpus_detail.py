"""What there is to see about one corpus: a page while it cannot be read, then tabs."""

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.containers import Vertical

from shakespeare_tui.data.available import ShelfItem
from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.ui.widgets.text_page import TextPage

if TYPE_CHECKING:
    from pathlib import Path

    from shakespeare_tui.data.inspect.scan import ScanState
    from shakespeare_tui.ui.data.detail import CorpusTabs
    from shakespeare_tui.ui.data.jobs import FetchJob, ScanJob

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
        self._waiting: tuple[ShelfItem, str] | None = None
        self._cut: tuple[int, int | None, str] = (_USUAL_SEQ_LEN, None, "random")

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

    def set_cut(self, seq_len: int, stride: int | None, draws: str) -> None:
        """Take over how the config cuts windows.

        Args:
            seq_len: Characters of a window.
            stride: Distance between neighbours; None means ``seq_len``.
            draws: ``random`` or ``shuffled``.
        """
        self._cut = (seq_len, stride, draws)
        if self._tabs is not None:
            self._tabs.set_cut(self._cut)

    def show(self, item: ShelfItem, scan: "ScanJob | None", fetch: "FetchJob | None") -> None:
        """Show a corpus as far as it is known.

        Args:
            item: The corpus.
            scan: Its scan, under way or over.
            fetch: The fetch under way, maybe of another corpus.
        """
        if item.problem is not None:
            self.show_refusal(item, item.problem, None)
        elif not item.is_at_hand:
            is_coming = fetch is not None and fetch.spec == item.spec
            self.show_waiting(item, _advice(item, is_coming))
        elif scan is not None and scan.error:
            self.show_refusal(item, scan.error, scan.path)
        elif scan is not None and scan.state is not None:
            self.show_state(item, scan.state)
        else:
            self.show_waiting(item, "Reading …")

    def show_waiting(self, item: ShelfItem, advice: str) -> None:
        """Show what is known of a corpus without reading it, and what to do."""
        from shakespeare_tui.ui.data.overview import waiting_lines

        self._show_tabs(False)
        if (item, advice) != self._waiting:
            self._waiting = (item, advice)
            self._page.show(lambda width: waiting_lines(item, advice, width))

    def show_refusal(self, item: ShelfItem, error: str, path: "Path | None") -> None:
        """Show why a corpus cannot be read."""
        from shakespeare_tui.data.inspect.verdict import judge_unreadable
        from shakespeare_tui.ui.data.overview import refused_lines

        verdict, is_ascii = judge_unreadable(error, path), bool(getattr(self.app, "ascii", False))
        self._show_tabs(False)
        self._waiting = None
        self._page.show(lambda width: refused_lines(item, verdict, width, is_ascii))

    def show_state(self, item: ShelfItem, state: "ScanState") -> None:
        """Show what was measured, or what is known so far."""
        if self._tabs is None:
            from shakespeare_tui.ui.data.detail import CorpusTabs

            self._tabs = CorpusTabs(item, state, self._cut)
            self.mount(self._tabs)
        self._show_tabs(True)
        self._tabs.show_state(item, state)

    def switch(self, direction: int) -> None:
        """Go to the next tab or the one before, and into it."""
        if self._tabs is not None and self.state is not None:
            self._tabs.switch(direction)


def _advice(item: ShelfItem, is_coming: bool) -> str:
    if item.standing == "unchecked":
        return "Searching …"
    if is_coming:
        return "Downloading; x cancels it."
    size = "" if item.size_bytes is None else f" ({format_bytes(item.size_bytes)})"
    return f"It is not on this machine yet. Press f to download it{size}."
