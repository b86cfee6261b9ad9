"""The Playground place: keys, the surprise view and files around the columns."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget

from shakespeare_tui.ui.engine.generation import GenerationRequest
from shakespeare_tui.ui.playground.batch import Batch, read_speakers
from shakespeare_tui.ui.playground.columns import WritingColumns
from shakespeare_tui.ui.playground.files import ask_and_export, ask_path, branch_texts, column_texts
from shakespeare_tui.ui.playground.prompt import PromptField
from shakespeare_tui.ui.playground.surprise import ReadingView
from shakespeare_tui.ui.widgets.ask_bar import AskBar

if TYPE_CHECKING:
    from shakespeare_tui.sampling import Recording

HELP = """\
One prompt, continued by up to six strategies from the same seed, so that the differences come
from the strategies alone. g generates all columns, x stops, n takes the next seed.

A strategy is a line of steps, applied from left to right: temperature=0.8 top_k=20. e edits the
current column's strategy; the line below the columns explains the step under the cursor, and h
lists all steps. k loads the six classic strategies, t sweeps the temperature from 0.3 to 1.5, a
adds a column, d removes one, and the arrows move between columns. u undoes k, t, a and d, texts
included. Seed and length at the top are dim until texts have been generated with them.

In the prompt, \\n is a new line; up recalls earlier prompts. Below each text are its measures; a
star marks the best column (none for a tie, or for a text caught in a loop). Underlined passages
of 20 characters or more occur word for word in the training text.

s shows surprise: every character of the current text is shaded by its probability, and the panel
shows what the model expected at the cursor, before and after each step. v or a paste does the
same for a text of your own. + and - change the selected step, [ and ] select another, c applies
the changed strategy to the column. Enter opens the candidates: enter or a number takes one and
continues from there as a branch; b walks the tree of branches. m jumps to the next passage copied
from the training text. a shows which earlier characters the model attended to: [ and ] choose the
layer, + and - the head, w goes back.

o exports columns or branches as text, Markdown or JSON, y copies the current text, f generates a
batch of speakers into one file.
"""


_OF_COLUMNS = frozenset(
    ("generate", "stop", "next_seed", "edit_prompt", "edit_strategy", "classic", "sweep")
    + ("read", "move", "add_column", "remove_column", "ask_length", "ask_seed", "copy_written")
    + ("choose_checkpoint", "reload", "batch", "list_steps", "undo_columns")
)


class PlaygroundScreen(WritingColumns):
    """Continue a prompt with any checkpoint by several strategies; all texts stream together."""

    PLACE: ClassVar[str] = "playground"
    AUTO_FOCUS: ClassVar[str] = "StreamText"
    CSS_PATH = "screen.tcss"
    HELP: ClassVar[str] = HELP
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "generate", "Write", id="playground.generate"),
        Binding("x", "stop", "Stop", id="playground.stop"),
        Binding("e", "edit_strategy", "Strategy", id="playground.strategy"),
        Binding("k", "classic", "Classic", id="playground.classic"),
        Binding("t", "sweep", "Sweep", id="playground.sweep"),
        Binding("s", "read", "Surprise", id="playground.read"),
        Binding("p", "edit_prompt", "Prompt", id="playground.prompt"),
        Binding("u", "undo_columns", "Undo", id="playground.undo"),
        Binding("n", "next_seed", "Next seed", id="playground.next_seed"),
        Binding("v", "paste_text", "Paste a text", show=False, id="playground.paste"),
        Binding("h,f2", "list_steps", "Steps", show=False, id="playground.steps"),
        Binding("left", "move(-1)", "Previous column", show=False, id="playground.left"),
        Binding("right", "move(1)", "Next column", show=False, id="playground.right"),
        Binding("a", "add_column", "Add column", show=False, id="playground.add"),
        Binding("d", "remove_column", "Remove column", show=False, id="playground.remove"),
        Binding("c", "choose_checkpoint", "Checkpoint", show=False, id="playground.checkpoint"),
        Binding("l", "ask_length", "Length", show=False, id="playground.length"),
        Binding("number_sign", "ask_seed", "Seed", show=False, id="playground.seed"),
        Binding("y", "copy_written", "Copy text", show=False, id="playground.copy"),
        Binding("o", "export", "Export", show=False, id="playground.export"),
        Binding("f", "batch", "Batch to a file", show=False, id="playground.batch"),
        Binding("r", "reload", "Find new checkpoints", show=False, id="playground.reload"),
    ]

    def compose_body(self) -> ComposeResult:
        """Columns, and the view that reads one of them."""
        yield from super().compose_body()
        yield ReadingView(self.lab.services.runs_root)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer to stop or undo only what can be; columns have keys when shown."""
        if self.is_reading and action in _OF_COLUMNS:
            return False
        if action == "undo_columns":
            return bool(self._undo)
        is_busy = self._batch is not None or (self._job is not None and not self._job.is_over)
        return action != "stop" or is_busy

    @property
    def home(self) -> Widget:
        """The text that is read, or the current column's."""
        if self.is_reading:
            return self.query_one(ReadingView).reading
        return self.strip.current.stream

    @on(PromptField.Left)
    def _leave_prompt(self) -> None:
        self.action_leave_field()

    def action_list_steps(self) -> None:
        """All steps of sampling; the one that is chosen is added to the current strategy."""
        from shakespeare_tui.sampling import STEP_KINDS
        from shakespeare_tui.ui.widgets.choices import Choice, ChoiceDialog

        choices = [Choice("step", kind.name, kind.help) for kind in STEP_KINDS.values()]

        def take(choice: Choice | None) -> None:
            if choice is not None:
                field = self.strip.current.field
                field.write(f"{field.value} {STEP_KINDS[choice.name].make().text}".strip())
                field.focus()

        self.lab.push_screen(ChoiceDialog("Steps of sampling", choices), take)

    # --- reading -------------------------------------------------------------------------------

    @property
    def is_reading(self) -> bool:
        """Whether the surprise view is shown."""
        return self.has_class("-reading")

    def action_read(self) -> None:
        """Read the current column's text, character by character."""
        column = self.strip.current
        if column.stream.text:
            self.action_stop()
            self._read(
                column.stream.text,
                column.stream.prompt_length,
                column.written_with,
                column.recording,
            )
        else:
            self.lab.say("there is no text yet: g writes one")

    def _read(
        self,
        text: str,
        prompt_length: int = 0,
        strategy: str = "",
        recording: "Recording | None" = None,
    ) -> None:
        if self.chosen is None:
            self.lab.say("there is no checkpoint yet: 3 then s trains a model", is_error=True)
        elif len(text) < 2:
            self.lab.say("the text is too short: at least two characters", is_error=True)
        else:
            self.add_class("-reading")
            self.query_one(ReadingView).open_text(
                text,
                prompt_length,
                reference=self.chosen,
                strategy=strategy,
                recording=recording,
                seed=self.seed,
                n_characters=self.n_characters,
            )
            self.refresh_bindings()

    @on(ReadingView.Left)
    def _leave_reading(self) -> None:
        self.remove_class("-reading")
        self.strip.current.stream.focus()
        self.refresh_bindings()

    @on(ReadingView.StrategyTaken)
    def _take_strategy(self, message: ReadingView.StrategyTaken) -> None:
        self.use_strategy(message.strategy)
        number = self.strip.current.border_title
        self.lab.say(f"column {number} has {message.strategy}: g writes with it, u undoes it")

    def action_paste_text(self) -> None:
        """Read a text of one's own: pasted, typed or from a file."""
        from shakespeare_tui.ui.playground.files import OwnTextDialog

        def take(text: str | None) -> None:
            if text is not None:
                self._read(text)

        self.lab.push_screen(OwnTextDialog(), take)

    def on_paste(self, event: events.Paste) -> None:
        """A text that is pasted outside a field is read."""
        event.stop()
        self._read(event.text.replace("\r\n", "\n").replace("\r", "\n"))

    # --- files ---------------------------------------------------------------------------------

    def action_copy_written(self) -> None:
        """Copy the current column's prompt and text."""
        text = self.strip.current.stream.text
        if text:
            self.lab.copy(text, "the text")
        else:
            self.lab.say("there is no text yet: g writes one")

    def action_export(self) -> None:
        """Write what is shown, columns or branches, to a file."""
        view = self.query_one(ReadingView)
        texts = branch_texts(view, self.seed) if self.is_reading else column_texts(self.strip, self)
        if texts:
            ask_and_export(self.lab, texts, f"{texts[0].checkpoint.partition('@')[0] or 'text'}.md")
        else:
            self.lab.say("there is no text yet: g writes one")

    def action_batch(self) -> None:
        """Ask for speakers and a file, and let the current strategy write for each of them."""
        strategy = self.strip.current.field.strategy
        if self.chosen is None or strategy is None:
            self.action_generate()
            return
        request = self.request("?", (strategy.text,))

        def answer(text: str) -> None:
            requests = [replace(request, prompt=prompt) for prompt in read_speakers(text)]
            ask_path(
                self.lab, "Batch", "speakers.md", lambda path: self._begin_batch(requests, path)
            )

        bar = self.query_one(AskBar)
        bar.ask("Speakers", "or the path of a file, one a line", "ROMEO, JULIET", answer)

    def _begin_batch(self, requests: list[GenerationRequest], path: Path) -> None:
        self._batch = Batch(requests, path)
        assert self._poll is not None
        self._poll.resume()
        self.refresh_bindings()
