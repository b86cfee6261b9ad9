"""The surprise view: a text under the cursor, what was expected there, and other ways on."""

from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message

from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.playground.columns_strip import progress
from shakespeare_tui.ui.playground.reading_side import ReadingSide
from shakespeare_tui.ui.playground.surprise import ReadingDesk
from shakespeare_tui.ui.playground.xray import nudged

_POLLS_A_SECOND = 20
_BEFORE = "The one before"


class ReadingView(ReadingDesk):
    """Reads a text with a model; ``branches`` holds it and all branches that grew out of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="reading.leave"),
        Binding("enter", "candidates", "Candidates", key_display="enter", id="reading.candidates"),
        # The same keys twice: what they change is named by what is shown.
        Binding("plus,equals_sign", "nudge(1)", "Change", key_display="+-", id="reading.more"),
        Binding("plus,equals_sign", "head(1)", "Head", key_display="+-", id="reading.more"),
        Binding("minus", "nudge(-1)", "Less", show=False, key_display="-", id="reading.less"),
        Binding("minus", "head(-1)", "Previous head", show=False, id="reading.less"),
        Binding("right_square_bracket", "step(1)", "Step", key_display="[]", id="reading.step"),
        Binding("right_square_bracket", "layer(1)", "Layer", key_display="[]", id="reading.step"),
        Binding("left_square_bracket", "step(-1)", _BEFORE, show=False, id="reading.step_before"),
        Binding("left_square_bracket", "layer(-1)", _BEFORE, show=False, id="reading.step_before"),
        Binding("c", "to_column", "To column", id="reading.to_column"),
        Binding("a", "show_side('attention')", "Attention", id="reading.attention"),
        Binding("w", "show_side('xray')", "X-ray", id="reading.xray"),
        Binding("b", "show_side('branches')", "Branches", id="reading.branches"),
        Binding("m", "next_copy", "Next copy", show=False, id="reading.next_copy"),
        Binding("x", "stop", "Stop", show=False, id="reading.stop"),
        Binding("y", "copy_reading", "Copy text", show=False, id="reading.copy"),
    ]

    class Left(Message):
        """Back to the columns."""

    class StrategyTaken(Message):
        """The strategy, as it was changed here, is to be the current column's."""

        def __init__(self, strategy: str) -> None:
            super().__init__()
            self.strategy = strategy

    def on_mount(self) -> None:
        """Prepare the poll of a branch being written."""
        self._poll = self.set_interval(1 / _POLLS_A_SECOND, self._follow, pause=True)

    def on_unmount(self) -> None:
        """The branch is no longer wanted."""
        self.action_stop()

    # --- actions -------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Name the keys of what is shown, and offer only what does something."""
        if action in ("head", "layer"):
            return self.side == "attention"
        if action in ("nudge", "step"):
            return self.side != "attention"
        if action == "show_side" and parameters == ("xray",):
            return self.side != "xray"
        if action == "to_column":
            return self.side != "attention" and self.strategy != self.column_strategy
        return True

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
            self.look()
        (self.query_one(ReadingSide) if self.side == "branches" else self.reading).focus()
        self.shade_text()
        self.draw()
        self.refresh_bindings()

    def action_nudge(self, by: int) -> None:
        """Move the selected step's value."""
        self._leave_branches()
        if self.xray is not None:
            strategy = nudged(self.xray.strategy, self.xray.step, by)
            self.xray.strategy, self.strategy = strategy, strategy.text
        self.draw()
        self.refresh_bindings()

    def action_step(self, by: int) -> None:
        """Select another step."""
        self._leave_branches()
        if self.xray is not None:
            self.xray.step = (self.xray.step + by) % len(self.xray.strategy.steps)
        self.draw()

    def action_head(self, by: int) -> None:
        """Show what another head looked at."""
        if self.attention is not None:
            self.choice.move_head(by, self.attention.shape[1])
            self.shade_text()
            self.draw()

    def action_layer(self, by: int) -> None:
        """Show what another layer looked at."""
        if self.attention is not None:
            self.choice.move_layer(by, self.attention.shape[0])
            self.shade_text()
            self.draw()

    def action_to_column(self) -> None:
        """Let the current column write by the strategy as it was changed here."""
        self.column_strategy = self.strategy
        self.post_message(self.StrategyTaken(self.strategy))
        self.refresh_bindings()

    def _leave_branches(self) -> None:
        # What changes must be seen: beside the branches stand no steps.
        if self.side == "branches":
            self.action_show_side("xray")

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

    @on(ReadingSide.Selected)
    def _select(self, message: ReadingSide.Selected) -> None:
        if self.side == "branches":
            self.action_stop()
            branch = self.branches.neighbour(self.number, message.by)
            self.show_branch(branch.number, branch.start or branch.prompt_length)
        elif self.xray is not None:
            n = len(self.xray.characters)
            self.xray.candidate = min(max(self.xray.candidate + message.by, 0), n - 1)
            self.draw()

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
        self.recordings[branch.number] = self._job.recordings[0]
        self.show_branch(branch.number, position)
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
        self.reading.border_subtitle = Content(progress(job, 0))
        if is_over and self._poll is not None:
            self._poll.pause()
            self._error = job.error
            self._job = None
            self.score(branch.number, branch.text, branch.prompt_length)
            self.draw()
