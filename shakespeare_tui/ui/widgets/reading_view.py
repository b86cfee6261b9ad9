"""The surprise view: a text under the cursor, what was expected there, and other ways on."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from shakespeare_tui.core.branches import BranchTree
from shakespeare_tui.core.errors import UserError
from shakespeare_tui.ui.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.widgets.attention_lines import AttentionChoice, attention_lines
from shakespeare_tui.ui.widgets.reading_foot import reading_foot
from shakespeare_tui.ui.widgets.reading_side import ReadingSide, branch_lines
from shakespeare_tui.ui.widgets.reading_text import ReadingText, look_levels, surprise_levels
from shakespeare_tui.ui.widgets.xray import XRay, nudged, xray_lines

if TYPE_CHECKING:
    from shakespeare_tui.ui.bridge_reading import Expectation, Reals, Scored

_POLLS_A_SECOND = 20
_DEFAULT_STRATEGY = "temperature=0.8"


class ReadingView(Horizontal):
    """Reads a text with a model; ``branches`` holds it and all branches that grew out of it."""

    DEFAULT_CSS: ClassVar[str] = """
    ReadingView > #reading {
        width: 1fr;
        border: round $border-blurred;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        padding: 0 1;
    }
    ReadingView > #reading:focus { border: round $border; border-title-color: $accent; }
    ReadingView > #reading-foot { dock: bottom; height: 3; padding: 0 1; text-wrap: nowrap; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="reading.leave"),
        Binding("enter", "candidates", "Candidates", id="reading.candidates"),
        Binding("plus,equals_sign", "nudge(1)", "More", key_display="+", id="reading.more"),
        Binding("minus", "nudge(-1)", "Less", key_display="-", id="reading.less"),
        Binding("right_square_bracket", "step(1)", "Step", key_display="]", id="reading.step"),
        Binding(
            "left_square_bracket",
            "step(-1)",
            "Step before",
            show=False,
            key_display="[",
            id="reading.step_before",
        ),
        Binding("a", "show_side('attention')", "Attention", id="reading.attention"),
        Binding("w", "show_side('xray')", "X-ray", show=False, id="reading.xray"),
        Binding("b", "show_side('branches')", "Branches", id="reading.branches"),
        Binding("m", "next_copy", "Next copy", show=False, id="reading.next_copy"),
        Binding("x", "stop", "Stop", show=False, id="reading.stop"),
        Binding("y", "copy_reading", "Copy the text", show=False, id="reading.copy"),
    ]

    class Left(Message):
        """Back to the columns."""

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
        self.number = 1
        self.side = "xray"
        self.scores: dict[int, Scored] = {}
        self.xray: XRay | None = None
        self.strategy = _DEFAULT_STRATEGY
        self.attention: Reals | None = None
        self.choice = AttentionChoice()
        self._looked = ""
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

    def on_mount(self) -> None:
        """Prepare the poll of a branch being written."""
        self._poll = self.set_interval(1 / _POLLS_A_SECOND, self._follow, pause=True)

    def on_unmount(self) -> None:
        """The branch is no longer wanted."""
        self.action_stop()

    @property
    def reading(self) -> ReadingText:
        """The text."""
        return self.query_one(ReadingText)

    # --- what is read --------------------------------------------------------------------------

    def open_text(
        self,
        text: str,
        prompt_length: int,
        *,
        reference: str,
        strategy: str,
        seed: int,
        n_characters: int,
    ) -> None:
        """Read a text of at least two characters from its first written character on.

        Args:
            text: The whole text.
            prompt_length: How much of it was given.
            reference: The model, ``RUN@STEP``.
            strategy: What wrote it, as text; empty where no model did.
            seed: For branches.
            n_characters: How many a branch is given.
        """
        self.action_stop()
        self.reference, self._seed, self._n_characters = reference, seed, n_characters
        self.branches = BranchTree(text, prompt_length, strategy)
        self.strategy = strategy or _DEFAULT_STRATEGY
        self.scores, self.xray, self.attention, self.side = {}, None, None, "xray"
        self.choice = AttentionChoice()
        self._show_branch(1, prompt_length)
        self.reading.focus()

    def _show_branch(self, number: int, position: int) -> None:
        self.number = number
        branch, reading = self.branches[number], self.reading
        reading.begin(branch.text, branch.prompt_length)
        name = f" · branch {number} of {len(self.branches)}" if len(self.branches) > 1 else ""
        reading.border_title = Content(f"{self.reference} · {branch.strategy or 'your text'}{name}")
        self._shade()
        reading.go_to(position)
        if number not in self.scores and not self._is_writing:
            self._score(number, branch.text, branch.prompt_length)

    @work(thread=True, exclusive=True, group="score")
    def _score(self, number: int, text: str, prompt_length: int) -> None:
        from shakespeare_tui.ui import bridge_reading

        try:
            scored = bridge_reading.score_text(self.reference, self._runs_root, text, prompt_length)
            self.post_message(self.TextScored(number, text, scored, ""))
        except (UserError, OSError) as error:
            self.post_message(self.TextScored(number, text, None, str(error)))

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
        self._shade()
        self._draw()

    def _shade(self) -> None:
        scored = self.scores.get(self.number)
        if self.side == "attention" and self.attention is not None:
            self.reading.shade(look_levels(self.choice.of(self.attention)))
        else:
            self.reading.shade(surprise_levels(scored.nats) if scored else ())

    # --- the place under the cursor ------------------------------------------------------------

    @on(ReadingText.Moved)
    def _moved(self) -> None:
        if self._looked != self._before:
            self._look()
        self._draw()

    @property
    def _before(self) -> str:
        return self.reading.text[: self.reading.position]

    def _look(self) -> None:
        """Ask what was expected; while an answer is awaited, the newest place is asked next."""
        if not self._is_busy and self._before:
            self._is_busy = True
            self._ask(self._before, self.side == "attention")

    @work(thread=True, group="look")
    def _ask(self, before: str, wants_attention: bool) -> None:
        from shakespeare_tui.ui import bridge_reading

        place = (self.reference, self._runs_root, before, len(before))
        try:
            expectation = bridge_reading.expectation_at(*place)
            attention = bridge_reading.attention_of(*place) if wants_attention else None
            self.post_message(self.PlaceSeen(before, expectation, attention, ""))
        except (UserError, OSError) as error:
            self.post_message(self.PlaceSeen(before, None, None, str(error)))

    @on(PlaceSeen)
    def _show_look(self, message: PlaceSeen) -> None:
        self._is_busy, self._looked, self._error = False, message.text, message.error
        if message.text != self._before:
            self._look()
            return
        self.attention = message.attention
        if message.expectation is not None:
            from shakespeare_tui.core.sampling import parse_strategy

            step = self.xray.step if self.xray else 0
            self.xray = XRay(message.expectation, parse_strategy(self.strategy), step)
        self._shade()
        self._draw()

    def _draw(self) -> None:
        """Show the panel and the lines below for the present place."""
        position, text = self.reading.position, self.reading.text
        ascii_only = bool(getattr(self.app, "ascii", False))
        side = self.query_one(ReadingSide)
        xray = self.xray if self._looked == self._before else None
        if xray is not None:
            xray.chosen = text[position : position + 1]
        if self.side == "branches":
            side.show(
                "Branches",
                "up and down walk",
                lambda w, h, _: branch_lines(self.branches, self.number, w, h, ascii_only),
            )
        elif self.side == "attention" and self.attention is not None:
            chosen, n = self.choice.of(self.attention), self.attention.shape
            before = self._before
            side.show(
                "Attention",
                self.choice.title(n[0], n[1]),
                lambda w, h, _: attention_lines(before, chosen, w, h, ascii=ascii_only),
            )
        elif xray is not None:
            side.show(
                "Expected",
                xray.strategy.text,
                lambda w, h, f: xray_lines(xray, w, h, is_focused=f, ascii=ascii_only),
            )
        else:
            words = "nothing stands before the first character" if not position else "reading …"
            side.show("Expected", "", lambda w, h, f: Content.styled(words, "$text-muted"))
        foot = reading_foot(text, position, self.scores.get(self.number), self.side, ascii_only)
        error = Content.styled(self._error, "$error") if self._error else None
        self.query_one("#reading-foot", Static).update(error or foot)

    # --- actions -------------------------------------------------------------------------------

    def action_leave(self) -> None:
        """From the panel to the text, from the text to the columns."""
        if self.query_one(ReadingSide).has_focus:
            self.reading.focus()
        else:
            self.post_message(self.Left())

    def action_candidates(self) -> None:
        """Into the panel of candidates."""
        self.action_show_side("xray")
        self.query_one(ReadingSide).focus()

    def action_show_side(self, side: str) -> None:
        """Show the X-ray, attention or the branches; what is shown already gives way to X-ray."""
        self.side = "xray" if side == self.side else side
        if self.side == "attention":
            self._look()
        (self.query_one(ReadingSide) if self.side == "branches" else self.reading).focus()
        self._shade()
        self._draw()

    def action_nudge(self, by: int) -> None:
        """Move the selected step's value; in the attention view, go to the next head."""
        if self.side == "attention" and self.attention is not None:
            self.choice.move_head(by, self.attention.shape[1])
            self._shade()
        elif self.xray is not None:
            self.xray.strategy = nudged(self.xray.strategy, self.xray.step, by)
            self.strategy = self.xray.strategy.text
        self._draw()

    def action_step(self, by: int) -> None:
        """Select another step; in the attention view, another layer."""
        if self.side == "attention" and self.attention is not None:
            self.choice.move_layer(by, self.attention.shape[0])
            self._shade()
        elif self.xray is not None:
            self.xray.step = (self.xray.step + by) % len(self.xray.strategy.steps)
        self._draw()

    def action_next_copy(self) -> None:
        """Go to the next copied passage."""
        scored = self.scores.get(self.number)
        memory = scored.measures.memorisation if scored else None
        starts = [passage.start for passage in memory.passages] if memory else []
        if starts:
            after = [start for start in starts if start > self.reading.position]
            self.reading.go_to(after[0] if after else starts[0])

    def action_copy_reading(self) -> None:
        """Copy the text."""
        self.app.copy(self.reading.text, "the text")  # type: ignore[attr-defined]

    # --- branches ------------------------------------------------------------------------------

    @property
    def _is_writing(self) -> bool:
        return self._job is not None and not self._job.is_over

    @on(ReadingSide.Selected)
    def _select(self, message: ReadingSide.Selected) -> None:
        if self.side == "branches":
            self.action_stop()
            branch = self.branches.neighbour(self.number, message.by)
            self._show_branch(branch.number, branch.start or branch.prompt_length)
        elif self.xray is not None:
            n = len(self.xray.expectation.characters)
            self.xray.candidate = min(max(self.xray.candidate + message.by, 0), n - 1)
            self._draw()

    @on(ReadingSide.Taken)
    def _take(self, message: ReadingSide.Taken) -> None:
        if self.side == "branches":
            self.reading.focus()
        elif self.side == "xray" and self.xray is not None and self._looked == self._before:
            place = self.xray.candidate if message.number is None else message.number - 1
            found = self.xray.candidates(place + 1)
            if len(found) > place:
                self._branch(found[place])

    def _branch(self, token: str) -> None:
        """Leave the text at the cursor and let the model go on from another character."""
        self.action_stop()
        position = self.reading.position
        branch = self.branches.branch(self.number, position, token, self.strategy)
        request = GenerationRequest(
            runs_root=self._runs_root,
            reference=self.reference,
            prompt=branch.text,
            strategies=(branch.strategy,),
            max_tokens=self._n_characters,
            seed=self._seed,
        )
        self._job = GenerationJob(request)
        self._show_branch(branch.number, position)
        self.reading.focus()
        assert self._poll is not None
        self._poll.resume()

    def _follow(self) -> None:
        job = self._job
        if job is None:
            return
        # Read before the text: what comes after is then taken by the next poll.
        is_over = job.is_over
        self.reading.append(job.take()[0])
        branch = self.branches[self.number]
        branch.text = self.reading.text
        self.reading.border_subtitle = Content(f"{job.tokens:,} · {job.state}")
        if is_over and self._poll is not None:
            self._poll.pause()
            self._error = job.error
            self._job = None
            self._score(branch.number, branch.text, branch.prompt_length)
            self._draw()

    def action_stop(self) -> None:
        """Give up the branch that is being written; what is there stays."""
        job = self._job
        if job is not None:
            job.stop()
            self._job = None
            if self._poll is not None:
                self._poll.pause()
