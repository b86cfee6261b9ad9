"""Text as a model writes it: the prompt set off, the end kept in view, speed in the frame."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.ui.generation import GenerationJob


class GeneratedText(VerticalScroll):
    """One generated text; ``text`` is prompt and continuation together."""

    DEFAULT_CSS: ClassVar[str] = """
    GeneratedText {
        border: round $border-blurred;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        padding: 0 1;
    }
    GeneratedText:focus { border: round $border; border-title-color: $foreground; }
    GeneratedText > Static { width: 1fr; height: auto; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._prompt = ""
        self._pieces: list[str] = []

    def compose(self) -> ComposeResult:
        """The text itself."""
        yield Static("", markup=False)

    def on_mount(self) -> None:
        """Name the frame."""
        self.border_title = "Text"

    @property
    def text(self) -> str:
        """Prompt and continuation."""
        return self._prompt + "".join(self._pieces)

    def advise(self, advice: str) -> None:
        """Say what to do, as long as there is no text."""
        if not self.text:
            self.query_one(Static).update(Content.styled(advice, "$text-muted"))

    def begin(self, reference: str, prompt: str) -> None:
        """A new text begins."""
        self._prompt, self._pieces = prompt, []
        self.border_title = Content(reference)
        self.border_subtitle = "loading"
        self._show()

    def add(self, piece: str, job: GenerationJob) -> None:
        """Append what was written since the last call, and say how the job stands."""
        if piece:
            self._pieces.append(piece)
            self._show()
        if job.state == "failed":
            self.query_one(Static).update(
                Content.assemble(Content(self.text), "\n\n", (job.error, "$error"))
            )
            self.border_subtitle = "failed"
        elif job.tokens:
            speed = job.tokens / job.seconds if job.seconds else 0.0
            how = "" if job.state in ("writing", "done") else f" · {job.state}"
            self.border_subtitle = f"{job.tokens:,} tokens · {speed:,.0f} tokens/s{how}"
        else:
            self.border_subtitle = job.state

    def _show(self) -> None:
        # Whoever scrolled back to read is left in peace.
        if self.scroll_offset.y >= self.max_scroll_y:
            self.call_after_refresh(self.scroll_end, animate=False)
        self.query_one(Static).update(
            Content.assemble((self._prompt, "bold $accent"), Content("".join(self._pieces)))
        )
