"""One line that shows how far a fetch or a scan has come, and how to cancel it."""

from typing import TYPE_CHECKING, ClassVar

from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.ui.widgets.text_lines import bar

if TYPE_CHECKING:
    from shakespeare_tui.ui.data.jobs import FetchJob, ScanJob

_LONGEST_BAR_CELLS = 30
_BAR_SHARE = 0.3


class CorpusProgress(Static):
    """Hidden while nothing is under way; a click cancels it."""

    DEFAULT_CSS: ClassVar[str] = """
    CorpusProgress {
        height: 1;
        padding: 0 1;
        display: none;
        text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(markup=False, id=id)
        self._progress: tuple[str, int, int | None] | None = None

    def on_resize(self) -> None:
        """The bar follows the width at once, not with the next news."""
        if self._progress is not None:
            self.show(*self._progress)

    def show(self, what: str, done: int, total: int | None) -> None:
        """Show how far something has come.

        Args:
            what: What is under way.
            done: Bytes done.
            total: Bytes in all; None where nobody knows.
        """
        self.display = True
        self._progress = (what, done, total)
        parts: list[Content | str | tuple[str, str]] = [what, "  "]
        if total:
            cells = max(8, min(_LONGEST_BAR_CELLS, int(self.app.size.width * _BAR_SHARE)))
            share = min(1.0, done / total)
            is_ascii = bool(getattr(self.app, "ascii", False))
            filled = bar(share, cells, is_ascii)
            rest = ("." if is_ascii else "░") * (cells - len(filled))
            parts += [(filled, "$accent"), (rest, "$border-blurred"), f" {share:>4.0%}"]
            parts.append((f"  {format_bytes(done)} of {format_bytes(total)}", "$text-muted"))
        self.update(Content.assemble(*parts))

    def show_fetch(self, job: "FetchJob | None") -> None:
        """Show how a fetch stands; nothing where there is none."""
        if job is None:
            self.hide()
        else:
            self.show(f"fetching {job.spec}", job.done, job.total)

    def show_scan(self, job: "ScanJob | None", name: str) -> None:
        """Show how the scan of a corpus stands; nothing where it is complete."""
        is_read = job is not None and job.state is not None and job.state.is_read
        if job is None or job.error or (job.is_over and is_read):
            self.hide()
        elif job.is_over or job.cancelled.is_set():
            self.display, self._progress = True, None
            self.update(
                Content.assemble("reading was cancelled  ", ("r reads it again", "$text-muted"))
            )
        elif is_read:
            self.show("counting n-grams", 0, None)
        else:
            self.show(f"reading {name}", job.done, job.total)

    def hide(self) -> None:
        """Nothing is under way any more."""
        self.display, self._progress = False, None

    async def on_click(self) -> None:
        """Cancel it."""
        await self.run_action("screen.cancel")
