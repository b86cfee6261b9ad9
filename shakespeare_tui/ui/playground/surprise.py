"""What the surprise view knows of its text: scores, expectations, attention, as they come in."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.ui.engine.generation import GenerationJob
from shakespeare_tui.ui.lab_words import in_lab
from shakespeare_tui.ui.playground.attention_lines import AttentionChoice, attention_lines
from shakespeare_tui.ui.playground.branches import BranchTree
from shakespeare_tui.ui.playground.reading_foot import reading_foot
from shakespeare_tui.ui.playground.reading_side import ReadingSide, branch_lines
from shakespeare_tui.ui.playground.reading_text import ReadingText, look_levels, surprise_levels
from shakespeare_tui.ui.playground.xray import XRay, xray_lines

if TYPE_CHECKING:
    from shakespeare_tui.sampling import Draw, Recording
    from shakespeare_tui.ui.engine.scoring import Expectation, Reals, Scored

_POLLS_A_SECOND = 20
_DEFAULT_STRATEGY = "temperature=0.8"


class ReadingDesk(Horizontal):
    """The half of the surprise view that asks the model and shows the answers."""

    DEFAULT_CSS: ClassVar[str] = """
    ReadingDesk > #reading {
        width: 1fr;
        border: round $border-blurred;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        padding: 0 1;
    }
    ReadingDesk > #reading:focus { border: round $border; border-title-color: $accent; }
    ReadingDesk > #reading-foot { dock: bottom; height: 3; padding: 0 1; text-wrap: nowrap; }
    ReadingDesk > #reading-foot.-error { text-wrap: wrap; }
    """

    class TextScored(Message):
        """A branch was scored, or why not."""

        def __init__(self, number: int, text: str, scored: "Scored | None", error: str) -> None:
            super().__init__()
            self.number, self.text, self.scored, self.error = number, text, scored, error

    class PlaceSeen(Message):
        """What was expected at a place, and where the model looked."""

        def __init__(
            self,
            text: str,
            expectation: "Expectation | None",
            attention: "Reals | None",
            error: str,
        ) -> None:
            super().__init__()
            self.text, self.expectation, self.attention = text, expectation, attention
            self.error = error

    def __init__(self, runs_root: Path) -> None:
        super().__init__()
        self._runs_root = runs_root
        self.reference, self._seed, self._n_characters = "", 42, 400
        self.branches = BranchTree("", 0, "")
        self.recordings: dict[int, Recording | None] = {}
        """By the number of the branch; None where no model wrote it."""
        self.number = 1
        self.side = "xray"
        self.scores: dict[int, Scored] = {}
        self.xray: XRay | None = None
        self.strategy = self.column_strategy = _DEFAULT_STRATEGY
        self.attention: Reals | None = None
        self.choice = AttentionChoice()
        self._looked: str | None = None
        self._is_busy = False
        self._error = ""
        self._job: GenerationJob | None = None
        self._poll: Timer | None = None

    def compose(self) -> ComposeResult:
        """Text, panel, and three lines about the character under the cursor."""
        reading = ReadingText()
        reading.id = "reading"
        yield reading
        yield ReadingSide()
        yield Static("", id="reading-foot", markup=False)

    @property
    def reading(self) -> ReadingText:
        """The text."""
        return self.query_one(ReadingText)

    @property
    def _is_writing(self) -> bool:
        return self._job is not None and not self._job.is_over

    def action_stop(self) -> None:
        """Give up the branch that is being written; what is there stays."""
        job = self._job
        if job is not None:
            job.stop()
            self._job = None
            if self._poll is not None:
                self._poll.pause()

    # --- what is read --------------------------------------------------------------------------

    def open_text(
        self,
        text: str,
        prompt_length: int,
        *,
        reference: str,
        strategy: str,
        recording: "Recording | None",
        seed: int,
        n_characters: int,
    ) -> None:
        """Read a text of at least two characters from its first written character on.

        Of a text without a prompt that is the second: the first is not predicted from anything.

        Args:
            text: The whole text.
            prompt_length: How much of it was given.
            reference: The model, ``RUN@STEP``.
            strategy: What wrote it, as text; empty where no model did.
            recording: What its tokens were chosen from, where a model wrote it.
            seed: For branches.
            n_characters: How many a branch is given.
        """
        self.action_stop()
        self.reference, self._seed, self._n_characters = reference, seed, n_characters
        self.branches = BranchTree(text, prompt_length, strategy)
        self.recordings = {1: recording}
        self.strategy = self.column_strategy = strategy or _DEFAULT_STRATEGY
        self.scores, self.xray, self.attention, self.side = {}, None, None, "xray"
        self.choice = AttentionChoice()
        self.show_branch(1, max(1, prompt_length))
        self.reading.focus()

    def show_branch(self, number: int, position: int) -> None:
        """Show a branch with the cursor on a character; it is scored where it was not yet."""
        # A branch that reads the same so far may have been drawn otherwise.
        self.number, self._looked = number, None
        branch, reading = self.branches[number], self.reading
        reading.begin(branch.text, branch.prompt_length)
        # First what tells branches apart: a narrow window cuts off the rest.
        name = f"branch {number} of {len(self.branches)} · " if len(self.branches) > 1 else ""
        reading.border_title = Content(f"{name}{self.reference} · {branch.strategy or 'your text'}")
        self.shade_text()
        reading.go_to(position)
        if number not in self.scores and not self._is_writing:
            self.score(number, branch.text, branch.prompt_length)

    @work(thread=True, exclusive=True, group="score")
    def score(self, number: int, text: str, prompt_length: int) -> None:
        """Have a branch scored; one that was asked for before is given up."""
        from shakespeare_tui.ui.engine import scoring as bridge_reading

        try:
            scored = bridge_reading.score_text(self.reference, self._runs_root, text, prompt_length)
            self.post_message(self.TextScored(number, text, scored, ""))
        except (UserError, OSError) as error:
            self.post_message(self.TextScored(number, text, None, in_lab(str(error))))

    @on(TextScored)
    def _show_score(self, message: TextScored) -> None:
        if message.text != self.branches[message.number].text:
            return
        self._error = message.error
        if message.scored is not None:
            self.scores[message.number] = message.scored
            if message.number == self.number:
                memory = message.scored.measures.memorisation
                passages = memory.passages if memory else ()
                self.reading.mark_copies([(each.start, each.end) for each in passages])
                surprise = message.scored.measures.mean_surprise
                if surprise is not None:
                    self.reading.border_subtitle = Content(f"mean surprise {surprise:.3f} nats")
        self.shade_text()
        self.draw()

    def shade_text(self) -> None:
        """Shade the text by surprise or by attention."""
        scored = self.scores.get(self.number)
        if self.side == "attention" and self.attention is not None:
            self.reading.shade(look_levels(self.choice.of(self.attention)))
        else:
            self.reading.shade(surprise_levels(scored.nats) if scored else ())

    # --- the place under the cursor ------------------------------------------------------------

    @on(ReadingText.Moved)
    def _moved(self) -> None:
        if self._looked != self._before:
            self.look()
        self.draw()

    @property
    def _before(self) -> str:
        return self.reading.text[: self.reading.position]

    def look(self) -> None:
        """Ask what was expected; while an answer is awaited, the newest place is asked next."""
        if not self._is_busy and self._before:
            self._is_busy = True
            self._ask(self._before, self.side == "attention")

    @work(thread=True, group="look")
    def _ask(self, before: str, wants_attention: bool) -> None:
        from shakespeare_tui.ui.engine import scoring as bridge_reading

        place = (self.reference, self._runs_root, before, len(before))
        try:
            expectation = bridge_reading.expectation_at(*place)
            attention = bridge_reading.attention_of(*place) if wants_attention else None
            self.post_message(self.PlaceSeen(before, expectation, attention, ""))
        except (UserError, OSError) as error:
            self.post_message(self.PlaceSeen(before, None, None, in_lab(str(error))))

    @on(PlaceSeen)
    def _show_look(self, message: PlaceSeen) -> None:
        self._is_busy, self._looked, self._error = False, message.text, message.error
        if message.text != self._before:
            self.look()
            return
        self.attention = message.attention
        found = message.expectation
        if found is not None:
            from shakespeare_tui.sampling import Draw, parse_strategy

            step = self.xray.step if self.xray else 0
            strategy = parse_strategy(self.strategy)
            draw = self._draw_at(self.number, len(message.text))
            known = draw or Draw.imagined(strategy, found.logits)
            is_own = draw is not None and self._is_drawn(len(message.text))
            self.xray = XRay(found.characters, found.tokens, known, strategy, step, is_drawn=is_own)
        self.shade_text()
        self.draw()

    def _draw_at(self, number: int, position: int) -> "Draw | None":
        """What the character at a place of a branch, or of what it grew out of, was drawn from."""
        branch = self.branches[number]
        if branch.parent is not None and position <= branch.start:
            return self._draw_at(branch.parent, position)
        recording = self.recordings.get(number)
        first = branch.prompt_length if branch.parent is None else branch.start + 1
        return recording.at(position - first) if recording is not None else None

    def _is_drawn(self, position: int) -> bool:
        """Whether the character at a place of the branch was drawn there, not taken by hand."""
        branch = self.branches[self.number]
        return position < len(branch.text) and not (branch.parent and position == branch.start)

    def draw(self) -> None:
        """Show the panel and the lines below for the present place."""
        position, text = self.reading.position, self.reading.text
        ascii_only = bool(getattr(self.app, "ascii", False))
        side = self.query_one(ReadingSide)
        # While an answer is awaited, they are of the place before.
        is_present = self._looked == self._before
        xray = self.xray if is_present else None
        attention = self.attention if is_present else None
        if xray is not None:
            xray.chosen = text[position : position + 1]
        if self.side == "branches":
            side.show(
                "Branches",
                "up and down walk",
                lambda w, h, _: branch_lines(self.branches, self.number, w, h, ascii_only),
            )
        elif self.side == "attention" and attention is not None:
            chosen, n = self.choice.of(attention), attention.shape
            before = self._before
            side.show(
                "Attention",
                self.choice.title(n[0], n[1]),
                lambda w, h, _: attention_lines(before, chosen, w, h, ascii=ascii_only),
            )
        elif xray is not None:
            side.show(
                xray.title,
                xray.strategy.text,
                lambda w, h, f: xray_lines(xray, w, h, is_focused=f, ascii=ascii_only),
            )
        else:
            words = "nothing stands before the first character" if not position else "reading …"
            side.show("Expected", "", lambda w, h, f: Content.styled(words, "$text-muted"))
        foot = reading_foot(text, position, self.scores.get(self.number), self.side, ascii_only)
        line = self.query_one("#reading-foot", Static)
        line.set_class(bool(self._error), "-error")
        line.update(Content.styled(self._error, "$error") if self._error else foot)
