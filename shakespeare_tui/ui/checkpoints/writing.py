"""What the screens that let checkpoints write share: prompt and seed, the poll, a text's pane."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.machine import sharing_words
from shakespeare_tui.measures.changes import first_difference
from shakespeare_tui.runs.compare.items import CheckpointItem
from shakespeare_tui.runs.losses import in_one_unit
from shakespeare_tui.ui.engine.generation import GenerationRequest
from shakespeare_tui.ui.engine.text_writer import TextWriter, Written
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.widgets.ask_bar import AskBar
from shakespeare_tui.ui.widgets.changed_text import compared, marked
from shakespeare_tui.visible_text import LINES, visible

DEFAULT_PROMPT = "ROMEO:"
DEFAULT_SEED = 42
STRATEGY = "temperature=0.8"
"""One for all: what differs is the checkpoint."""
_POLLS_A_SECOND = 10
_MOST_TOKENS = 100_000


class TextPane(VerticalScroll, can_focus=False):
    """What a checkpoint wrote, in a frame that names it and says how far it is."""

    DEFAULT_CSS: ClassVar[str] = """
    TextPane {
        border: round $border-blurred;
        border-title-color: $foreground;
        border-subtitle-color: $text-muted;
        padding: 0 1;
        scrollbar-size-vertical: 1;
    }
    TextPane > Static { height: auto; width: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._text = Static("", markup=False)

    def compose(self) -> ComposeResult:
        yield self._text

    def show(
        self,
        title: str,
        prompt: str,
        written: Written,
        *,
        other: Written | None = None,
        than: str = "",
    ) -> None:
        """Show a text as far as it is there.

        Args:
            title: What the frame is called.
            prompt: What the text goes on from.
            written: The text.
            other: What it is compared with.
            than: What that is called; empty where it need not be named.
        """
        note = _state_note(written)
        if not note and other is not None:
            note = difference_note(written.text, other.text, is_whole=other.is_whole, than=than)
        self.border_title, self.border_subtitle = Content(title), Content(note)
        self._text.update(
            Content.styled(written.error, "$error")
            if written.error
            else compared_text(prompt, written.text, other.text if other else None)
        )


def _state_note(written: Written) -> str:
    """How far a text is, in words."""
    match written.state:
        case None:
            return "waits"
        case "loading":
            return "loading …"
        case "writing":
            return f"{len(written.text):,} characters …"
        case "measuring" | "failed":
            return written.state
        case _:
            return ""


def compared_text(prompt: str, text: str, other: str | None) -> Content:
    """Prompt and text; words that ``other`` has not stand out, the first difference is reversed.

    Args:
        prompt: What both texts go on from.
        text: What is shown.
        other: What it is compared with; None compares with nothing.
    """
    prompt, text = visible(prompt, keep=LINES), visible(text, keep=LINES)
    shown = Content.styled(prompt, "$accent")
    if other is None:
        return shown + Content(text)
    other = visible(other, keep=LINES)
    at = first_difference(text, other)
    body = marked(compared(other, text))
    if at is None:
        return shown + body
    mark = Content.styled("↵" if text[at] == "\n" else text[at], "reverse bold")
    rest = at if text[at] == "\n" else at + 1
    return shown + body[:at] + mark + body[rest:]


def difference_note(text: str, other: str, *, is_whole: bool, than: str = "") -> str:
    """Where two texts part, and how much of ``text`` is not in the other; ``than`` names that."""
    at = first_difference(text, other)
    if at is None:
        return "the same text" if is_whole and text == other else "no difference yet"
    share = f"{compared(other, text).share:.0%}"
    if than:
        return f"{share} differs from {than}, starting at character {at + 1:,}"
    return f"{share} differs, starting at character {at + 1:,}"


class WritingScreen(LabScreen):
    """Lies over the Checkpoints screen and shows what checkpoints write.

    All checkpoints write beside each other; subclasses let fewer write, or show more than texts.

    Args:
        writer: Writes the texts and keeps them beyond this screen.
        items: The checkpoints.
    """

    MODE: ClassVar[str] = "checkpoints"
    AUTO_FOCUS = ""
    DEFAULT_CSS: ClassVar[str] = """
    WritingScreen #head { height: auto; max-height: 3; padding: 0 1; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "ask_prompt", "Prompt", id="writing.prompt"),
        Binding("n", "next_seed", "Next seed", id="writing.next_seed"),
        Binding("o", "ask_tokens", "Length", show=False, id="writing.tokens"),
        Binding("x", "stop", "Stop", show=False, id="writing.stop"),
        Binding("g", "again", "Rewrite", show=False, id="writing.again"),
        Binding("escape", "back", "Back", id="writing.back"),
        Binding("up,k", "scroll(-1)", "Up", show=False, id="writing.up"),
        Binding("down,j", "scroll(1)", "Down", show=False, id="writing.down"),
        Binding("pageup", "scroll(-10)", "Page up", show=False, id="writing.page_up"),
        Binding("pagedown", "scroll(10)", "Page down", show=False, id="writing.page_down"),
    ]

    def __init__(self, writer: TextWriter, items: Sequence[CheckpointItem]) -> None:
        super().__init__()
        self.writer = writer
        self.items = list(items)
        self.prompt, self.seed, self.max_tokens = DEFAULT_PROMPT, DEFAULT_SEED, 400

    def compose_body(self) -> ComposeResult:
        """What is asked of the checkpoints, their texts, and a line for questions."""
        yield Static("", id="head", markup=False)
        yield from self.compose_texts()
        yield AskBar()

    def compose_texts(self) -> ComposeResult:
        """The part below the head: a text of each."""
        with Horizontal(id="texts"):
            for _ in self.items:
                yield TextPane()

    def on_mount(self) -> None:
        """Take up what was remembered and begin to write."""
        settings = self.lab.settings
        self.prompt = str(settings.get("checkpoints.prompt", DEFAULT_PROMPT)) or DEFAULT_PROMPT
        self.max_tokens = int(settings.get("checkpoints.tokens", self.max_tokens))
        self.set_interval(1 / _POLLS_A_SECOND, self._follow)
        self.begin()

    def on_unmount(self) -> None:
        self.writer.stop()

    @property
    def is_loading(self) -> bool:
        """Whether the checkpoint of the next text is being loaded."""
        return self.writer.is_loading

    def on_training_changed(self) -> None:
        """A run that begins or ends changes who has the cores."""
        self.show_head()

    # --- what is written and shown -------------------------------------------------------------

    def wanted(self) -> list[GenerationRequest]:
        """The texts to write, the most urgent first: one of each."""
        return [self.request(item) for item in self.items]

    def show_texts(self) -> None:
        """Show the texts as far as they are there; the others are compared with the first."""
        first = self.written(self.items[0])
        losses_of = in_one_unit(self.items, lambda item: item.losses, lambda item: item.unit)
        for number, (item, pane) in enumerate(zip(self.items, self.query(TextPane), strict=False)):
            other = first if number else None
            title = f"{item.key}  {next(iter(losses_of(item)), '-')}"
            pane.show(title, self.prompt, self.written(item), other=other)

    def head(self) -> Content:
        """What is said about prompt and seed."""
        prompt = self.prompt.replace("\n", "\\n")
        return Content.assemble(
            (prompt, "bold $accent"), (f"  seed {self.seed} · {self.max_tokens:,} tokens", "")
        )

    # --- writing -------------------------------------------------------------------------------

    def request(self, item: CheckpointItem) -> GenerationRequest:
        """What a checkpoint is asked for."""
        return GenerationRequest(
            runs_root=self.lab.services.runs_root,
            reference=item.key,
            prompt=self.prompt,
            strategies=(STRATEGY,),
            max_tokens=self.max_tokens,
            seed=self.seed,
        )

    def written(self, item: CheckpointItem) -> Written:
        """What a checkpoint has written so far."""
        return self.writer.of(self.request(item))

    def begin(self) -> None:
        """Let write what is wanted now."""
        self.writer.want(self.wanted())
        self.show_head()
        self.show_texts()

    def _follow(self) -> None:
        if self.writer.poll():
            self.show_head()
            self.show_texts()

    def show_head(self) -> None:
        """Bring the head up to date."""
        line = self.head()
        training = self.lab.services.training
        if training.is_at_work and self.writer.is_busy:
            words = sharing_words(training.run_name or "a run")
            line = line + Content.styled(f"\nwriting: {words}", "$warning")
        for head in self.query("#head").results(Static):
            head.update(line)

    # --- actions -------------------------------------------------------------------------------

    def action_back(self) -> None:
        """Go back to the table."""
        self.dismiss(None)

    def action_stop(self) -> None:
        """Write no further; what is whole stays."""
        self.writer.stop()
        self.show_head()
        self.show_texts()

    def action_again(self) -> None:
        """Write what was stopped or has failed."""
        self.writer.forget_failures()
        self.begin()

    def action_next_seed(self) -> None:
        """Other texts of the same prompt."""
        self.seed += 1
        self.begin()

    def action_ask_prompt(self) -> None:
        """Ask what the checkpoints shall continue."""
        shown = self.prompt.replace("\n", "\\n")
        self.query_one(AskBar).ask("Prompt", "\\n is a new line · enter writes", shown, self._take)

    def _take(self, text: str) -> None:
        prompt = text.replace("\\n", "\n")
        if not prompt:
            raise UserError("a prompt has at least one character; \\n is a new line")
        self.prompt = prompt
        self.lab.remember("checkpoints.prompt", prompt)
        self.begin()

    def action_ask_tokens(self) -> None:
        """Ask how long the texts shall be."""
        hint = "tokens of each text"
        self.query_one(AskBar).ask("Length", hint, str(self.max_tokens), self._take_tokens)

    def _take_tokens(self, text: str) -> None:
        if not text.strip().isdecimal() or not 1 <= int(text) <= _MOST_TOKENS:
            raise UserError(f"a whole number from 1 to {_MOST_TOKENS:,}")
        self.max_tokens = int(text)
        self.lab.remember("checkpoints.tokens", self.max_tokens)
        self.begin()

    def action_scroll(self, lines: int) -> None:
        """Scroll all texts together."""
        for text in self.query(TextPane):
            text.scroll_relative(y=lines, animate=False)
