"""One prompt continued by up to six strategies: asking, writing, following, remembering."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.files import parse_json
from shakespeare_tui.machine import sharing_words
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.lab_screen import lab_of
from shakespeare_tui.ui.playground.batch import Batch, read_speakers
from shakespeare_tui.ui.playground.checkpoint_picker import CheckpointPicker
from shakespeare_tui.ui.playground.columns_strip import (
    MOST_COLUMNS,
    ColumnsStrip,
    ColumnState,
    StrategyField,
)
from shakespeare_tui.ui.playground.export import WrittenText, ask_path, written_text
from shakespeare_tui.ui.playground.prompt import PromptField, PromptHistory
from shakespeare_tui.ui.widgets.ask_bar import AskBar

if TYPE_CHECKING:
    from shakespeare_tui.ui.app import LabApp

_POLLS_A_SECOND = 12
_MOST_UNDONE = 10
_FIRST_STRATEGIES = ("temperature=0.8", "temperature=0.8 top_k=20", "greedy")
_NO_CHECKPOINT = (
    "There is no checkpoint yet.\n\nPress 3, then s, to train a model in about two minutes."
)


@dataclass(frozen=True)
class _Shown:
    """All columns before a key replaced or removed them, and what their texts were asked for."""

    states: tuple[ColumnState, ...]
    place: int
    written: GenerationRequest | None


class ColumnsPanel(Vertical):
    """Writes columns, or a batch to a file, with the picked checkpoint.

    Args:
        picker: Says with which checkpoint.

    Attributes:
        seed: Of all columns.
        n_tokens: How long texts become.
        written: What the texts that are shown were asked for with.
    """

    def __init__(self, picker: CheckpointPicker) -> None:
        super().__init__(id="columns-view")
        self._picker = picker
        self.seed = 42
        self.n_tokens = 400
        self._job: GenerationJob | None = None
        self.written: GenerationRequest | None = None
        self._undo: list[_Shown] = []
        self._batch: Batch | None = None
        self._outcome = ""
        """What came of the last batch; it stays until texts are written."""
        self._poll: Timer | None = None

    def compose(self) -> ComposeResult:
        """Head, prompt, columns, and a line for hints and mistakes."""
        get = self.lab.settings.get
        self.seed = max(0, get("playground.seed", 42))
        self.n_tokens = max(1, get("playground.tokens", 400))
        strategies = _remembered(get("playground.strategies", ""))
        history = PromptHistory.from_json(get("playground.history", ""))
        yield Static("", id="head", markup=False)
        with Horizontal(id="prompt-line"):
            yield Static("Prompt", id="prompt-label", markup=False)
            yield PromptField(get("playground.prompt", "ROMEO:"), history)
        yield ColumnsStrip(strategies or _FIRST_STRATEGIES)
        yield Static("", id="note", markup=False)
        yield AskBar()

    def on_mount(self) -> None:
        self._poll = self.set_interval(1 / _POLLS_A_SECOND, self._follow, pause=True)
        self.show_advice()

    def on_unmount(self) -> None:
        for work in (self._job, self._batch):
            if work is not None:
                work.stop()

    @property
    def lab(self) -> "LabApp":
        """The app, with its type."""
        return lab_of(self)

    @property
    def is_busy(self) -> bool:
        """Whether columns or a batch are being written."""
        return self._batch is not None or (self._job is not None and not self._job.is_over)

    @property
    def can_undo(self) -> bool:
        """Whether columns were replaced or removed."""
        return bool(self._undo)

    @property
    def is_loading(self) -> bool:
        """Whether the checkpoint of the texts is being loaded."""
        return self._job is not None and self._job.state == "loading"

    @property
    def strip(self) -> ColumnsStrip:
        return self.query_one(ColumnsStrip)

    @property
    def prompt(self) -> PromptField:
        """The prompt's line."""
        return self.query_one(PromptField)

    # --- words around the columns --------------------------------------------------------------

    def show_advice(self) -> None:
        """Say what to do next, where there is no text."""
        self.show_head()
        advice = "Press g to write, p to change the prompt, e the strategy."
        for column in self.strip.columns:
            if not column.stream.text:
                column.stream.advise(advice if self._picker.chosen else _NO_CHECKPOINT)

    def show_head(self) -> None:
        """Checkpoint, seed and length; what the texts were not written with is dimmed."""
        strip, training, written = self.strip, self.lab.services.training, self.written
        chosen, length = self._picker.chosen, f"{self.n_tokens:,} tokens"
        parts = [
            (chosen or "no checkpoint", "bold ", written and written.reference == chosen),
            (f"seed {self.seed}", "", written and written.seed == self.seed),
            (length, "", written and written.max_tokens == self.n_tokens),
        ]
        head = Content(" · ").join(
            Content.styled(text, weight + ("$foreground" if is_true else "$text-muted"))
            for text, weight, is_true in parts
        )
        n_columns = len(strip.columns)
        if strip.n_shown < n_columns:
            last = strip.first_shown + strip.n_shown
            head += f" · columns {strip.first_shown + 1}-{last} of {n_columns} ←/→"
        if training.is_at_work:
            head += f" · {sharing_words(training.run_name or 'training')}"
        self.query_one("#head", Static).update(head)

    def _note(self, text: str, *, is_error: bool = False) -> None:
        note = self.query_one("#note", Static)
        note.update(Content(text))
        note.set_class(is_error, "-error")

    @on(StrategyField.Told)
    @on(ColumnsStrip.Changed)
    @on(Input.Changed)
    def _show_hint(self) -> None:
        """What is wrong comes first, then what the step under the cursor does."""
        if not self.strip.is_mounted:
            return
        self.show_head()
        focused = self.screen.focused
        problem = self.strip.problem()
        if isinstance(focused, StrategyField):
            self._note(focused.problem or focused.hint, is_error=bool(focused.problem))
        elif not self.prompt.prompt:
            self._note("prompt: give at least one character; \\n is a new line", is_error=True)
        elif problem is not None:
            self._note(f"{problem[0].border_title}: {problem[1]}", is_error=True)
        elif self._job is not None and self._job.state == "failed":
            self._note(self._job.error, is_error=True)
        else:
            self._note(self._outcome)

    # --- writing -------------------------------------------------------------------------------

    @on(Input.Submitted)
    def generate(self) -> None:
        """Write all columns and leave the field; what is being written is given up."""
        if self._picker.chosen is None:
            self.lab.say("there is no checkpoint yet: 3 then s trains a model", is_error=True)
            return
        problem = self.strip.problem()
        if not self.prompt.prompt or problem is not None:
            (problem[0].field if problem and self.prompt.prompt else self.prompt).focus()
            return
        self._remember()
        self.stop()
        request = self.request(self.prompt.prompt, self.strip.strategies)
        columns = self.strip.columns
        if any(column.reference for column in columns):
            references = tuple(column.reference or request.reference for column in columns)
            request = replace(request, references=references)
        if any(column.seed_offset for column in columns):
            seeds = tuple(self.seed + column.seed_offset for column in columns)
            request = replace(request, seeds=seeds)
        self.written, self._outcome = request, ""
        self._job = GenerationJob(request, self.lab.services.engine.write)
        self.strip.begin(self._job)
        self.show_head()
        if isinstance(self.screen.focused, Input):
            self.strip.current.stream.focus()
        self.refresh_bindings()
        self._follow()
        assert self._poll is not None
        self._poll.resume()

    def request(self, prompt: str, strategies: tuple[str, ...]) -> GenerationRequest:
        """What is asked for, with the chosen checkpoint."""
        return GenerationRequest(
            runs_root=self.lab.services.runs_root,
            reference=self._picker.chosen or "",
            prompt=prompt,
            strategies=strategies,
            max_tokens=self.n_tokens,
            seed=self.seed,
        )

    def _remember(self) -> None:
        self.prompt.history.add(self.prompt.prompt)
        remember = self.lab.remember
        remember("playground.prompt", self.prompt.value)
        remember("playground.history", self.prompt.history.to_json())
        remember("playground.strategies", json.dumps(self.strip.strategies))
        remember("playground.seed", self.seed)
        remember("playground.tokens", self.n_tokens)

    def stop(self) -> None:
        """Give up the texts that are being written; what is there stays."""
        if self._job is not None:
            self._job.stop()
        if self._batch is not None:
            self._batch.stop()
            self._batch = None
            self._note("the batch was stopped; no file was written")

    def _follow(self) -> None:
        job, batch = self._job, self._batch
        is_over = job is None or job.is_over
        if job is not None:
            self.strip.follow(job)
        if batch is not None and batch.follow():
            self._batch, self._outcome = None, "" if batch.is_failed else batch.outcome
            self._note(batch.outcome, is_error=batch.is_failed)
        elif batch is not None:
            self._note(batch.progress)
        if is_over and self._batch is None and self._poll is not None:
            self._poll.pause()
            self.refresh_bindings()
            if job is not None and job.state == "failed":
                self._note(job.error, is_error=True)

    def next_seed(self) -> None:
        """Other texts by the same strategies."""
        self.seed += 1
        self.show_head()
        self.generate()

    # --- columns -------------------------------------------------------------------------------

    async def add_column(self) -> None:
        """One more column beside the current one."""
        before = self._shown
        if await self.strip.add():
            self._can_undo(before)
        else:
            self.lab.say("there are already six columns, the maximum")
        self.show_advice()

    async def remove_column(self) -> None:
        """Take the current column away."""
        before = self._shown
        if await self.strip.remove_current():
            self._can_undo(before)
        else:
            self.lab.say("this is the only column")

    async def replace_columns(self, columns: Sequence[ColumnState]) -> None:
        """Have these columns instead, and write them."""
        self._can_undo(self._shown)
        await self.strip.set_columns(columns)
        self.show_advice()
        if self._picker.chosen is not None:
            self.generate()

    @on(PromptField.Left)
    def _leave_prompt(self) -> None:
        self.strip.current.stream.focus()

    @property
    def _shown(self) -> _Shown:
        return _Shown(self.strip.states, self.strip.place, self.written)

    def _can_undo(self, before: _Shown) -> None:
        self._undo = [*self._undo, before][-_MOST_UNDONE:]
        self.refresh_bindings()

    async def undo(self) -> None:
        """Bring back the columns, and their texts, that the last change replaced or removed."""
        if not self._undo:
            return
        before = self._undo.pop()
        self.stop()
        # What the job still wrote is not for the columns that come back.
        self._job = None
        self.written = before.written
        await self.strip.restore(before.states, before.place)
        self.show_advice()
        self.refresh_bindings()

    def use_strategy(self, strategy: str) -> None:
        """Put a strategy into the current column's line; its text stays until it is written."""
        self._can_undo(self._shown)
        self.strip.current.field.write(strategy)

    def ask_length(self) -> None:
        """Ask how many tokens to write."""
        self._ask("Tokens", 1, 1_000_000, self.n_tokens, "n_tokens")

    async def compare_with_before(self) -> None:
        """The chosen checkpoint beside the one that it was trained from, by one strategy."""
        chosen = self._picker.chosen
        if chosen is None:
            self.generate()
            return
        before = self._picker.before(chosen)
        if before is None:
            self.lab.say(
                f"{chosen} was trained from nothing that is here; c chooses another", is_error=True
            )
            return
        strategy = self.strip.current.strategy
        await self.replace_columns([ColumnState(strategy, each) for each in (before, chosen)])

    def ask_texts(self) -> None:
        """Ask for how many texts, and write them by the current strategy from as many seeds."""

        def answer(text: str) -> None:
            plain = text.strip()
            if not plain.isdecimal() or not 1 <= int(plain) <= MOST_COLUMNS:
                raise UserError(f"a whole number from 1 to {MOST_COLUMNS}")
            current = self.strip.current
            states = [
                ColumnState(current.strategy, current.reference, offset)
                for offset in range(int(plain))
            ]
            self.call_later(self.replace_columns, states)

        bar = self.query_one(AskBar)
        bar.ask("Texts", "of the current strategy, from seeds in a row", "4", answer)

    def ask_seed(self) -> None:
        self._ask("Seed", 0, 2**63 - 1, self.seed, "seed")

    def _ask(self, label: str, low: int, high: int, value: int, attribute: str) -> None:
        def answer(text: str) -> None:
            plain = text.strip().replace(",", "")
            if not plain.isdecimal() or not low <= int(plain) <= high:
                raise UserError(f"a whole number from {low:,} to {high:,}")
            setattr(self, attribute, int(plain))
            self.show_head()

        bar = self.query_one(AskBar)
        bar.ask(label, "enter accepts · esc cancels", str(value), answer)

    # --- files ---------------------------------------------------------------------------------

    def texts(self) -> list[WrittenText]:
        """The columns that have a text, for a file."""
        return [
            written_text(
                checkpoint=column.written_by[0],
                strategy=column.written_with,
                seed=column.written_by[1],
                text=column.stream.text,
                prompt_length=column.stream.prompt_length,
                measures=column.measures,
            )
            for column in self.strip.columns
            if column.stream.text
        ]

    def ask_batch(self) -> None:
        """Ask for speakers and a file, and let the current strategy write for each of them."""
        strategy = self.strip.current.field.strategy
        if self._picker.chosen is None or strategy is None:
            self.generate()
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
        self._batch = Batch(requests, path, self.lab.services.engine.write)
        assert self._poll is not None
        self._poll.resume()
        self.refresh_bindings()


def _remembered(text: str) -> tuple[str, ...]:
    try:
        found = parse_json(text)
    except ValueError:
        return ()
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()
