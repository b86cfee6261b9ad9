"""The Playground screen: its keys, and what they lead to: columns, the surprise view, files."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static, TextArea

from shakespeare_tui.files import read_bounded, reason
from shakespeare_tui.runs.catalog import RunEntry
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.lab_screen import Dialog, LabScreen
from shakespeare_tui.ui.playground.checkpoint_picker import CheckpointPicker
from shakespeare_tui.ui.playground.columns import ColumnsPanel
from shakespeare_tui.ui.playground.columns_strip import ColumnState
from shakespeare_tui.ui.playground.export import ask_and_export
from shakespeare_tui.ui.playground.surprise import SurprisePanel
from shakespeare_tui.ui.widgets.choice_dialog import FRAME, Choice, ChoiceDialog

if TYPE_CHECKING:
    from shakespeare_tui.sampling import Recording

HELP = """\
One prompt, continued by up to six strategies from the same seed, so that the differences come
from the strategies alone. g generates all columns, x stops, n takes the next seed.

A strategy is a line of steps, applied from left to right: temperature=0.8 top_k=20. e edits the
current column's strategy; the line below the columns explains the step under the cursor, and h
lists all steps. k loads the six classic strategies, t sweeps the temperature from 0.3 to 1.5, a
adds a column, d removes one, and the arrows move between columns. u undoes k, t, a, d, b and m,
texts included. Seed and length at the top are dim until texts have been generated with them.

c chooses the checkpoint, C one for the current column alone. b puts the checkpoint beside the one
that it was trained from, from one prompt and seed: a fine-tuned model after and before. m writes
several texts by the current strategy, from as many seeds; l says how long they become.

In the prompt, \\n is a new line; up recalls earlier prompts. Below each text are its measures; a
star marks the best column (none for a tie, or for a text caught in a loop). Underlined passages
of 20 characters or more occur word for word in the training text.

s shows surprise: every token of the current text is shaded by its probability, and the panel
shows what the model expected at the cursor, before and after each step. v or a paste does the
same for a text of your own. + and - change the selected step, [ and ] select another, c applies
the changed strategy to the column. Enter opens the candidates: enter or a number takes one and
continues from there as a branch; b walks the tree of branches. m jumps to the next passage copied
from the training text. a shows which earlier tokens the model attended to: [ and ] choose the
layer, + and - the head, w goes back.

o exports columns or branches as text, Markdown or JSON, y copies the current text, f generates a
batch of speakers into one file.
"""

_MOST_BYTES = 1_000_000


class OwnTextDialog(Dialog[str | None]):
    """A field for a text and a line for a file; the result is the text, None where it was left."""

    DEFAULT_CSS: ClassVar[str] = (
        FRAME.format(name="OwnTextDialog", width=76)
        + """
    OwnTextDialog TextArea { height: 12; border: none; padding: 0; background: $panel; }
    """
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", priority=True, id="own_text.leave"),
        Binding("ctrl+s,f2", "take", "Score it", priority=True, id="own_text.take"),
        Binding("tab", "next", "To the path", priority=True, show=False, id="own_text.next"),
    ]

    def compose(self) -> ComposeResult:
        with Vertical() as frame:
            frame.border_title = Content("Paste a text")
            frame.border_subtitle = Content("ctrl+s scores it · tab goes to the path · esc closes")
            yield TextArea()
            yield Input(placeholder="or the path of a text file, then enter", compact=True)
            yield Static("", markup=False)

    def on_mount(self) -> None:
        self.query_one(TextArea).focus()

    def action_next(self) -> None:
        """From the text to the file and back."""
        is_text = self.query_one(TextArea).has_focus
        (self.query_one(Input) if is_text else self.query_one(TextArea)).focus()

    def action_take(self) -> None:
        """Take the text, or the file where there is none."""
        text = self.query_one(TextArea).text
        if len(text) > 1:
            self.dismiss(text)
        elif self.query_one(Input).value.strip():
            self._take_file()
        else:
            self._tell("type or paste at least two characters, or name a file")

    @on(Input.Submitted)
    def _take_file(self) -> None:
        path = Path(self.query_one(Input).value.strip()).expanduser()
        try:
            text = read_bounded(path, _MOST_BYTES).decode()
        except UnicodeDecodeError:
            self._tell(f"{path} is not a UTF-8 text")
        except (OSError, ValueError) as error:
            self._tell(f"{path}: {reason(error)}; take a part of a longer text")
        else:
            self.dismiss(text)

    def _tell(self, text: str) -> None:
        self.query_one(Static).update(Content.styled(text, "$error"))

    def action_leave(self) -> None:
        """Take nothing."""
        self.dismiss(None)


_SWEEP = (0.3, 0.5, 0.8, 1.0, 1.2, 1.5)
_OF_COLUMNS = frozenset(
    ("generate", "stop", "next_seed", "edit_prompt", "edit_strategy", "classic", "sweep")
    + ("show_surprise", "move", "add_column", "remove_column", "ask_length", "ask_seed")
    + ("copy_written", "choose_checkpoint", "reload", "batch", "list_steps", "undo_columns")
    + ("compare_with_before", "ask_texts")
)


class PlaygroundScreen(LabScreen):
    """Continue a prompt with any checkpoint by several strategies; all texts stream together."""

    MODE: ClassVar[str] = "playground"
    AUTO_FOCUS: ClassVar[str] = "StreamText"
    CSS_PATH = "screen.tcss"
    HELP: ClassVar[str] = HELP
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("g", "generate", "Write", id="playground.generate"),
        Binding("x", "stop", "Stop", id="playground.stop"),
        Binding("e", "edit_strategy", "Strategy", id="playground.strategy"),
        Binding("k", "classic", "Classic", id="playground.classic"),
        Binding("t", "sweep", "Sweep", id="playground.sweep"),
        Binding("s", "show_surprise", "Surprise", id="playground.surprise"),
        Binding("p", "edit_prompt", "Prompt", id="playground.prompt"),
        Binding("u", "undo_columns", "Undo", id="playground.undo"),
        Binding("n", "next_seed", "Next seed", id="playground.next_seed"),
        Binding("v", "paste_text", "Paste a text", show=False, id="playground.paste"),
        Binding("h,f2", "list_steps", "Steps", show=False, id="playground.steps"),
        Binding("left", "move(-1)", "Previous column", show=False, id="playground.left"),
        Binding("right", "move(1)", "Next column", show=False, id="playground.right"),
        Binding("a", "add_column", "Add column", show=False, id="playground.add"),
        Binding("d", "remove_column", "Remove column", show=False, id="playground.remove"),
        Binding(
            "c", "choose_checkpoint(False)", "Checkpoint", show=False, id="playground.checkpoint"
        ),
        Binding(
            "C",
            "choose_checkpoint(True)",
            "Checkpoint of this column",
            show=False,
            id="playground.own_checkpoint",
        ),
        Binding("b", "compare_with_before", "Before and after", show=False, id="playground.before"),
        Binding("m", "ask_texts", "Many texts", show=False, id="playground.many"),
        Binding("l", "ask_length", "Length", show=False, id="playground.length"),
        Binding("number_sign", "ask_seed", "Seed", show=False, id="playground.seed"),
        Binding("y", "copy_written", "Copy text", show=False, id="playground.copy"),
        Binding("o", "export", "Export", show=False, id="playground.export"),
        Binding("f", "batch", "Batch to a file", show=False, id="playground.batch"),
        Binding("r", "reload", "Find new checkpoints", show=False, id="playground.reload"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.picker = CheckpointPicker()
        self.columns = ColumnsPanel(self.picker)
        self.surprise = SurprisePanel()
        self._jobs = Jobs(self)

    def compose_body(self) -> ComposeResult:
        """The columns, and in place of them the view of one text."""
        yield self.columns
        yield self.surprise

    def on_unmount(self) -> None:
        self._jobs.close()

    def on_screen_shown(self) -> None:
        """Look for checkpoints that came meanwhile."""
        self.list_checkpoints()

    def on_training_changed(self) -> None:
        """Say that the cores are shared, or no longer."""
        self.columns.show_head()

    @property
    def is_loading(self) -> bool:
        """Whether the checkpoint of the texts is being loaded."""
        return self.columns.is_loading

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer to stop or undo only what can be; columns have keys when shown."""
        if self.is_surprise_shown and action in _OF_COLUMNS:
            return False
        if action == "undo_columns":
            return self.columns.can_undo
        return action != "stop" or self.columns.is_busy

    @property
    def home(self) -> Widget:
        """The text of the surprise view, or the current column's."""
        if self.is_surprise_shown:
            return self.surprise.text_view
        return self.columns.strip.current.stream

    # --- the checkpoint ------------------------------------------------------------------------

    def list_checkpoints(self) -> None:
        """Read the runs' folders off the UI thread."""
        root = self.lab.services.runs_root
        self._jobs.start("list", lambda job: self.picker.read(root), self._show_checkpoints)

    def _show_checkpoints(self, job: Job[list[RunEntry]]) -> None:
        if job.result is None:
            self.lab.say(job.error, is_error=True)
            return
        self.picker.take(job.result)
        self.columns.show_advice()

    def open_checkpoint(self, reference: str) -> None:
        """Choose a checkpoint by ``RUN@STEP``, as soon as the list is there."""
        self.picker.want(reference)
        self.list_checkpoints()

    def action_reload(self) -> None:
        """Read the runs' folders again."""
        self.list_checkpoints()

    def action_choose_checkpoint(self, is_own: bool) -> None:
        """Choose the checkpoint that writes all columns, or the current one alone."""
        if self.picker.is_empty:
            self._say_no_checkpoint()
            return
        strip = self.columns.strip

        def take(choice: Choice | None) -> None:
            if choice is None:
                return
            if is_own:
                strip.set_reference(choice.name, [strip.current])
            else:
                self.picker.chosen = choice.name
                strip.set_reference("", strip.columns)
            self.columns.show_advice()

        present = (is_own and strip.current.reference) or self.picker.chosen or ""
        title = "Checkpoint of this column" if is_own else "Checkpoint"
        self.lab.push_screen(ChoiceDialog(title, self.picker.choices, present), take)

    def _say_no_checkpoint(self) -> None:
        self.lab.say("there is no checkpoint yet: 3 then s trains a model", is_error=True)

    # --- columns -------------------------------------------------------------------------------

    def action_generate(self) -> None:
        """Write all columns and leave the field; what is being written is given up."""
        self.columns.generate()

    def action_stop(self) -> None:
        """Give up the texts that are being written; what is there stays."""
        self.columns.stop()

    def action_next_seed(self) -> None:
        """Other texts by the same strategies."""
        self.columns.next_seed()

    def action_edit_prompt(self) -> None:
        """Go to the prompt."""
        self.columns.prompt.focus()

    def action_edit_strategy(self) -> None:
        """Go to the current column's strategy."""
        self.columns.strip.current.field.focus()

    def action_move(self, by: int) -> None:
        """Go to another column."""
        self.columns.strip.go_to(self.columns.strip.place + by)

    async def action_add_column(self) -> None:
        """One more column beside the current one."""
        await self.columns.add_column()

    async def action_remove_column(self) -> None:
        """Take the current column away."""
        await self.columns.remove_column()

    async def action_classic(self) -> None:
        """The comparison that everyone begins with: six strategies."""
        from shakespeare_tui.sampling import CLASSIC

        await self.columns.replace_columns([ColumnState(strategy.text) for strategy in CLASSIC])

    async def action_sweep(self) -> None:
        """One strategy at six temperatures."""
        sweep = [ColumnState(f"temperature={value}") for value in _SWEEP]
        await self.columns.replace_columns(sweep)

    async def action_compare_with_before(self) -> None:
        """The checkpoint beside what it was trained from."""
        await self.columns.compare_with_before()

    def action_ask_texts(self) -> None:
        """Several continuations by one strategy."""
        self.columns.ask_texts()

    async def action_undo_columns(self) -> None:
        """Bring back the columns, and their texts, that the last change replaced or removed."""
        await self.columns.undo()

    def action_ask_length(self) -> None:
        """Ask how many tokens to write."""
        self.columns.ask_length()

    def action_ask_seed(self) -> None:
        self.columns.ask_seed()

    def action_batch(self) -> None:
        """Ask for speakers and a file, and write a text for each of them."""
        self.columns.ask_batch()

    def action_list_steps(self) -> None:
        """All steps of sampling; the one that is chosen is added to the current strategy."""
        from shakespeare_tui.sampling import STEP_KINDS

        choices = [Choice("step", kind.name, kind.help) for kind in STEP_KINDS.values()]

        def take(choice: Choice | None) -> None:
            if choice is not None:
                field = self.columns.strip.current.field
                field.write(f"{field.value} {STEP_KINDS[choice.name].make().text}".strip())
                field.focus()

        self.lab.push_screen(ChoiceDialog("Steps of sampling", choices), take)

    # --- the surprise view ---------------------------------------------------------------------

    @property
    def is_surprise_shown(self) -> bool:
        """Whether the surprise view is shown."""
        return self.has_class("-surprise")

    def action_show_surprise(self) -> None:
        """Read the current column's text, token by token."""
        column = self.columns.strip.current
        if column.stream.text:
            self.columns.stop()
            self._read(
                column.stream.text,
                column.stream.prompt_length,
                column.written_with,
                column.recording,
                column.reference,
            )
        else:
            self._say_no_text()

    def _read(
        self,
        text: str,
        prompt_length: int = 0,
        strategy: str = "",
        recording: "Recording | None" = None,
        reference: str = "",
    ) -> None:
        if self.picker.chosen is None:
            self._say_no_checkpoint()
        elif len(text) < 2:
            self.lab.say("the text is too short: at least two characters", is_error=True)
        else:
            self.add_class("-surprise")
            request = self.columns.request("", ())
            if reference:
                request = replace(request, reference=reference)
            self.surprise.open_text(
                text, prompt_length, request, strategy=strategy, recording=recording
            )
            self.refresh_bindings()

    @on(SurprisePanel.Left)
    def _leave_surprise(self) -> None:
        self.remove_class("-surprise")
        self.columns.strip.current.stream.focus()
        self.refresh_bindings()

    @on(SurprisePanel.StrategyTaken)
    def _take_strategy(self, message: SurprisePanel.StrategyTaken) -> None:
        self.columns.use_strategy(message.strategy)
        number = self.columns.strip.current.border_title
        self.lab.say(f"column {number} has {message.strategy}: g writes with it, u undoes it")

    def action_paste_text(self) -> None:
        """Read a text of one's own: pasted, typed or from a file."""

        def take(text: str | None) -> None:
            if text is not None:
                self._read(text)

        self.lab.push_screen(OwnTextDialog(), take)

    def on_paste(self, event: events.Paste) -> None:
        """A text that is pasted outside a field is read."""
        event.stop()
        self._read(event.text.replace("\r\n", "\n").replace("\r", "\n"))

    # --- files ---------------------------------------------------------------------------------

    def _say_no_text(self) -> None:
        self.lab.say("there is no text yet: g writes one")

    def action_copy_written(self) -> None:
        """Copy the current column's prompt and text."""
        text = self.columns.strip.current.stream.text
        if text:
            self.lab.copy(text, "the text")
        else:
            self._say_no_text()

    def action_export(self) -> None:
        """Write what is shown, columns or branches, to a file."""
        texts = self.surprise.texts() if self.is_surprise_shown else self.columns.texts()
        if texts:
            ask_and_export(self.lab, texts, f"{texts[0].checkpoint.partition('@')[0] or 'text'}.md")
        else:
            self._say_no_text()
