"""The Playground place: a checkpoint, a prompt, a strategy, and the text that comes of them."""

from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from shakespeare_tui.core.formatting import format_loss
from shakespeare_tui.ui.generation import GenerationJob
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.run_listing import RunRow, list_run_rows
from shakespeare_tui.ui.widgets.generated_text import GeneratedText
from shakespeare_tui.ui.widgets.strategy_form import StrategyForm

_POLLS_A_SECOND = 10


class CheckpointsListed(Message):
    """The runs' folders were read."""

    def __init__(self, rows: list[RunRow]) -> None:
        super().__init__()
        self.rows = rows


class PlaygroundScreen(LabScreen):
    """Continue a prompt with any checkpoint; the text streams as it is made."""

    PLACE: ClassVar[str] = "playground"
    CSS_PATH = "playground.tcss"
    HELP: ClassVar[str] = """\
Choose a checkpoint on the left, write a prompt, set the strategy, and press g (or enter in a
field). The text appears as the model writes it; x stops it.

Temperature divides the logits: low is careful, high is wild, 0 always takes the likeliest token.
Top-k keeps the k likeliest tokens (0 keeps all), top-p the smallest set with that probability.
A repetition penalty above 1 makes tokens that occurred already less likely. The same seed gives
the same text; n takes another one. In the prompt, \\n stands for a new line."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "generate", "Generate", id="playground.generate"),
        Binding("x", "stop", "Stop", id="playground.stop"),
        Binding("p", "edit_prompt", "Prompt", id="playground.prompt"),
        Binding("n", "next_seed", "Next seed", id="playground.next_seed"),
        Binding("y", "copy_generated", "Copy", id="playground.copy"),
        Binding("c", "choose_checkpoint", "Checkpoint", show=False, id="playground.checkpoint"),
        Binding("r", "reload", "Look for checkpoints", show=False, id="playground.reload"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._job: GenerationJob | None = None
        self._wanted: str | None = None
        self._poll: Timer | None = None

    def compose_body(self) -> ComposeResult:
        """Checkpoints and strategy on the left, the text on the right."""
        with Horizontal(id="body"):
            with Vertical(id="side"):
                yield OptionList(id="checkpoints", compact=True)
                yield StrategyForm(id="strategy")
            yield GeneratedText(id="text")

    def on_mount(self) -> None:
        """Title the parts and prepare the poll of a job at work."""
        self.query_one("#checkpoints").border_title = "Checkpoint"
        self._poll = self.set_interval(1 / _POLLS_A_SECOND, self._follow, pause=True)
        self._show_advice()

    def on_place_shown(self) -> None:
        """Look for checkpoints that came meanwhile."""
        self._list_checkpoints()

    def on_unmount(self) -> None:
        """The text is no longer wanted."""
        if self._job is not None:
            self._job.stop()

    # --- checkpoints ---------------------------------------------------------------------------

    @work(thread=True, exclusive=True, group="list")
    def _list_checkpoints(self) -> None:
        self.post_message(CheckpointsListed(list_run_rows(self.lab.services.runs_root)))

    @on(CheckpointsListed)
    def _show_checkpoints(self, message: CheckpointsListed) -> None:
        choices = self.query_one("#checkpoints", OptionList)
        before = self._wanted or self.chosen
        options = [
            Option(_describe(row.reference, row.val_loss, row.marks), id=row.reference)
            for run in message.rows
            for row in run.checkpoints
        ]
        # Listing anew must not scroll away from what one looks at.
        if [option.id for option in options] != [option.id for option in choices.options]:
            choices.set_options(options)
        references = [option.id for option in options]
        wanted = before if before in references else _best(message.rows)
        if wanted in references:
            choices.highlighted = references.index(wanted)
        self._wanted = None
        self._show_advice()

    @property
    def chosen(self) -> str | None:
        """The chosen checkpoint, ``RUN@STEP``."""
        option = self.query_one("#checkpoints", OptionList).highlighted_option
        return option.id if option else None

    def open_checkpoint(self, reference: str) -> None:
        """Choose a checkpoint by ``RUN@STEP``, at once or as soon as the list is there."""
        self._wanted = reference
        self._list_checkpoints()

    def _show_advice(self) -> None:
        text = self.query_one(GeneratedText)
        if self.chosen is None:
            text.advise(
                "There is no checkpoint yet.\n\nPress 3, then s, to train a model: two minutes "
                "make a small Shakespeare."
            )
        else:
            text.advise("Press g to write, p to change the prompt.")

    # --- actions -------------------------------------------------------------------------------

    @on(Input.Submitted)
    def action_generate(self) -> None:
        """Write a continuation; one that is being written is given up."""
        reference = self.chosen
        if reference is None:
            self.lab.say("there is no checkpoint yet: 3 then s trains a model", is_error=True)
            return
        request = self.query_one(StrategyForm).request(self.lab.services.runs_root, reference)
        if request is None:
            return
        self.action_stop()
        self._job = GenerationJob(request)
        self.query_one(GeneratedText).begin(reference, request.prompt)
        assert self._poll is not None
        self._poll.resume()

    def action_stop(self) -> None:
        """Give up the text that is being written; what is there stays."""
        if self._job is not None:
            self._job.stop()

    def _follow(self) -> None:
        job = self._job
        if job is None:
            return
        # Read before the text: what comes after is then taken by the next poll.
        is_over = job.is_over
        self.query_one(GeneratedText).add(job.take(), job)
        if is_over and self._poll is not None:
            self._poll.pause()

    def action_edit_prompt(self) -> None:
        """Go to the prompt."""
        self.query_one("#prompt", Input).focus()

    def action_choose_checkpoint(self) -> None:
        """Go to the list of checkpoints."""
        self.query_one("#checkpoints").focus()

    def action_next_seed(self) -> None:
        """Another text of the same strategy."""
        self.query_one(StrategyForm).next_seed()
        self.action_generate()

    def action_copy_generated(self) -> None:
        """Copy prompt and text."""
        text = self.query_one(GeneratedText).text
        if text:
            self.lab.copy(text, "the text")
        else:
            self.lab.say("there is no text yet: g writes one")

    def action_reload(self) -> None:
        """Read the runs' folders again."""
        self._list_checkpoints()


def _describe(reference: str, val_loss: float | None, marks: tuple[str, ...]) -> Content:
    mark = "best" if "best" in marks else ""
    return Content.assemble(
        reference, "  ", (format_loss(val_loss), "$text-muted"), "  ", (mark, "$success")
    )


def _best(rows: list[RunRow]) -> str | None:
    """The best checkpoint of the newest run that has one."""
    for run in rows:
        for row in run.checkpoints:
            if "best" in row.marks:
                return row.reference
    return next((row.reference for run in rows for row in run.checkpoints), None)
