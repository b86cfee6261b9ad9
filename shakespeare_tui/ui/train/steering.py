"""The half of the Train place that acts on a run: start, steer, stop, and what comes after."""

import math
import re
from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType

from shakespeare_tui.diagnosis.findings import format_rate
from shakespeare_tui.errors import UserError
from shakespeare_tui.files import as_number
from shakespeare_tui.formatting import format_duration, parse_duration, ungrouped
from shakespeare_tui.runs.commands import (
    AddNote,
    Command,
    ExtendRun,
    GenerateSample,
    Pause,
    Resume,
    SaveCheckpoint,
    SetLearningRate,
    Stop,
)
from shakespeare_tui.runs.figures import run_figures
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.ui.dialogs import ConfirmDialog
from shakespeare_tui.ui.place import LabScreen
from shakespeare_tui.ui.train import steering as questions
from shakespeare_tui.ui.train.run_view import LiveView, RunView
from shakespeare_tui.ui.widgets.ask_bar import AskBar

_HIGHEST_RATE = 100.0
_MOST_STEPS = 100_000_000
_MOST_MINUTES = 100_000.0


def peak_learning_rate(history: RunHistory) -> float | None:
    """The schedule's peak, after what commands made of it."""
    training = history.config.get("training")
    peak = as_number(training.get("learning_rate")) if isinstance(training, dict) else None
    for command in history.commands:
        arguments = command.arguments
        if command.command == SetLearningRate.__name__:
            peak = as_number(arguments.get("learning_rate")) or peak
    return peak


def parse_learning_rate(text: str, peak: float | None) -> SetLearningRate:
    """A peak rate such as ``5e-4``, or a factor of the present one such as ``x0.5``.

    Raises:
        UserError: It is neither.
    """
    text = text.strip().lower()
    is_factor = text[:1] in ("x", "*", "×")
    try:
        rate = float(text[1:] if is_factor else text)
    except ValueError:
        raise UserError("write an LR such as 5e-4, or a factor such as x0.5") from None
    if is_factor:
        if peak is None:
            raise UserError("the current LR is unknown: write an LR such as 5e-4")
        rate *= peak
    if not math.isfinite(rate) or not 0 < rate <= _HIGHEST_RATE:
        raise UserError(f"a learning rate is above 0 and at most {_HIGHEST_RATE:g}")
    return SetLearningRate(learning_rate=float(format_rate(rate, 6)))


def is_timed(history: RunHistory) -> bool:
    """Whether the run's length is a time budget instead of a number of steps."""
    training = history.config.get("training")
    return isinstance(training, dict) and as_number(training.get("minutes")) is not None


def parse_extension(text: str, *, timed: bool) -> ExtendRun:
    """Steps such as ``500``, or, for a run with a time budget, a duration such as ``2m``.

    Raises:
        UserError: It is no length, or not of the run's kind.
    """
    written = text.strip().lower().removeprefix("+").strip()
    seconds = parse_duration(written)
    if seconds is not None and not timed:
        raise UserError("this run is measured in steps: write a number of steps such as 500")
    number = re.fullmatch(r"(.*?)\s*steps?", written)
    if number and timed:
        raise UserError("this run has a time budget: write a duration such as 2m or 90s")
    try:
        amount = float(ungrouped(number[1] if number else written))
    except ValueError:
        amount = math.nan
    if timed:
        minutes = amount if seconds is None else seconds / 60
        if math.isnan(minutes):
            raise UserError("write a duration such as 2m or 90s")
        if not 0 < minutes <= _MOST_MINUTES:
            raise UserError(f"write more than 0 and at most {_MOST_MINUTES:,.0f} minutes")
        return ExtendRun(minutes=minutes)
    if not 1 <= amount <= _MOST_STEPS or amount != int(amount):
        raise UserError(f"write a whole number of steps, from 1 to {_MOST_STEPS:,}")
    return ExtendRun(steps=int(amount))


def parse_prompt(text: str) -> GenerateSample:
    r"""A prompt; ``\n`` stands for a new line. Empty asks for the config's own prompts."""
    return GenerateSample(prompt=text.replace("\\n", "\n"))


def parse_note(text: str) -> AddNote:
    """A remark.

    Raises:
        UserError: It is empty.
    """
    if not text.strip():
        raise UserError("write a few words, or press escape")
    return AddNote(text=text.strip())


def extension_overrides(history: RunHistory, extension: ExtendRun) -> tuple[str, ...]:
    """The settings with which a finished run goes on for ``extension`` longer."""
    training = history.config.get("training")
    values = training if isinstance(training, dict) else {}
    if extension.minutes:
        minutes = (as_number(values.get("minutes")) or 0.0) + extension.minutes
        return (f"training.minutes={minutes:g}",)
    planned = int(as_number(values.get("max_steps")) or 0)
    # Steps added during the run are part of its checkpoint and count on top.
    reached = max(planned, history.last_step - history.extra_steps)
    return (f"training.max_steps={reached + extension.steps}",)


_NEEDS_TRAINER = {
    "save_checkpoint",
    "sample_now",
    "ask_prompt",
    "ask_learning_rate",
    "ask_extension",
    "ask_note",
}
_NEEDS_CHECKPOINT = {"generate", "fork"}


class SteeringScreen(LabScreen):
    """Commands to the trainer of the run that ``view`` shows, by key and palette.

    Keys that mean one thing while a run is trained and another when it is over share their place in
    the key map.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start_run", "Start", id="train.start"),
        Binding("s", "stop_run", "Stop", id="train.start"),
        Binding("s", "resume_ended", "Resume", id="train.start"),
        Binding("S", "new_run", "New run", id="train.new"),
        Binding("p", "pause_run", "Pause", id="train.pause"),
        Binding("p", "resume_run", "Go on", id="train.pause"),
        Binding("c", "save_checkpoint", "Save", id="train.checkpoint"),
        Binding("g", "sample_now", "Sample", id="train.sample"),
        Binding("g", "generate", "Generate", id="train.sample"),
        Binding("G", "ask_prompt", "Sample from a prompt", show=False, id="train.prompt"),
        Binding("l", "ask_learning_rate", "LR", id="train.rate"),
        Binding("e", "ask_extension", "Extend", show=False, id="train.extend"),
        Binding("n", "ask_note", "Note", show=False, id="train.note"),
        Binding("f", "fork", "Fork", id="train.fork"),
    ]

    is_newest_shown = False

    @property
    def view(self) -> RunView:
        """The run that is shown."""
        raise NotImplementedError

    def show_live(self) -> None:
        """Show the run of this process."""
        raise NotImplementedError

    @property
    def is_over(self) -> bool:
        """Whether the shown run has come to an end."""
        return self.view.state in ("finished", "stopped", "failed", "interrupted")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only what is possible now."""
        view, training = self.view, self.lab.services.training
        takes_commands = view.takes_commands
        if action in _NEEDS_TRAINER:
            return takes_commands
        is_ended = self.is_over and view.folder is not None
        if action in _NEEDS_CHECKPOINT:
            return is_ended
        is_free = not takes_commands and not training.is_active
        # What is shown only because nobody chose a run does not change what the keys start.
        is_resumable = is_ended and not self.is_newest_shown
        match action:
            case "start_run":
                # Where a run has ended, its key resumes it: a second press starts no other one.
                return is_free and not is_resumable
            case "new_run":
                return is_free and is_resumable
            case "resume_ended":
                return is_resumable and not training.is_active
            case "stop_run":
                is_starting = isinstance(view, LiveView) and view.state == "starting"
                return takes_commands or is_starting
            case "pause_run":
                return takes_commands and view.history.phase != "paused"
            case "resume_run":
                return takes_commands and view.history.phase == "paused"
        return True

    # --- commands ------------------------------------------------------------------------------

    def _post(self, command: Command, told: str = "") -> None:
        try:
            is_heard = self.view.post(command)
        except OSError as error:
            self.lab.say(
                f"the run's command file cannot be written: {error.strerror or error}",
                is_error=True,
            )
            return
        if not is_heard:
            self.lab.say("no process is training this run", is_error=True)
        elif told:
            self.lab.say(told)

    def action_start_run(self) -> None:
        """Train the config of the Config place."""
        self.show_live()
        self.lab.start_training()

    def action_new_run(self) -> None:
        """Train the config of the Config place, leaving this run as it is."""
        self.action_start_run()

    def action_stop_run(self) -> None:
        """Ask, then save a checkpoint and end the run; a start is cancelled at once."""
        view = self.view
        if not view.takes_commands:
            self._post(Stop())
            return
        is_elsewhere = not isinstance(view, LiveView)
        spent = format_duration(run_figures(view.history).elapsed_seconds)
        text = (
            f"It has trained for {spent}, {view.history.last_step:,} steps. Stopping saves a "
            "checkpoint, from which s resumes it exactly."
        )
        if is_elsewhere:
            text = f"Another process trains this run and would end.\n\n{text}"

        def answer(is_yes: bool | None) -> None:
            if is_yes and self.view is view:
                self._post(Stop(), "saving and stopping after this step")

        self.lab.push_screen(ConfirmDialog(f"Stop {view.name}?", text, "Stop"), answer)

    def action_pause_run(self) -> None:
        """Hold training after this step."""
        self._post(Pause())

    def action_resume_run(self) -> None:
        """Go on after a pause."""
        self._post(Resume())

    def action_save_checkpoint(self) -> None:
        """Save a checkpoint after this step."""
        self._post(SaveCheckpoint(), "a checkpoint is saved after this step")

    def action_sample_now(self) -> None:
        """Draw a sample after this step, from the config's prompts."""
        self._post(GenerateSample(), "a sample is drawn after this step")

    # --- questions -----------------------------------------------------------------------------

    def _ask(self, label: str, hint: str, value: str, answer: Callable[[str], None]) -> None:
        self.query_one(AskBar).ask(label, hint, value, answer)

    def action_ask_prompt(self) -> None:
        """Draw a sample after this step, from a prompt of one's own."""

        def answer(text: str) -> None:
            self.lab.remember("train.prompt", text)
            self._post(questions.parse_prompt(text), "a sample is drawn after this step")

        self._ask("Prompt", r"\n is a new line", self.lab.settings.get("train.prompt", ""), answer)

    def action_ask_learning_rate(self) -> None:
        """Scale the schedule to another peak from the next step on."""
        peak = questions.peak_learning_rate(self.view.history)

        def answer(text: str) -> None:
            command = questions.parse_learning_rate(text, peak)
            rate = format_rate(command.learning_rate, 3)
            self._post(command, f"the peak LR becomes {rate} after this step")

        value = "" if peak is None else format_rate(peak, 3)
        self._ask("Peak learning rate", "5e-4, or x0.5", value, answer)

    def action_ask_extension(self) -> None:
        """Make the run longer; its schedule stretches."""
        timed = questions.is_timed(self.view.history)

        def answer(text: str) -> None:
            self._post(questions.parse_extension(text, timed=timed), "the run is extended")

        self._ask(*self._length_question("Extend by", timed), answer)

    def action_ask_note(self) -> None:
        """Write a remark into the run's log; the chart marks it."""
        self._ask("Note", "", "", lambda text: self._post(questions.parse_note(text)))

    def _length_question(self, label: str, timed: bool) -> tuple[str, str, str]:
        return (label, "minutes, or as 90s", "1m") if timed else (label, "steps", "500")

    # --- after the end -------------------------------------------------------------------------

    def action_generate(self) -> None:
        """Write text with the run's best checkpoint in the Playground."""
        reference = self._checkpoint_reference()
        if reference is not None:
            self.lab.open_playground(reference)

    def action_resume_ended(self) -> None:
        """Resume the run: where it was stopped, or for longer where it was completed."""
        view, history = self.view, self.view.history
        name, finished = view.name, history.finished
        if finished is None or finished.reason in ("stopped", "interrupted"):
            self._resume(name, ())
            return
        timed = questions.is_timed(history)

        def answer(text: str) -> None:
            extension = questions.parse_extension(text, timed=timed)
            self._resume(name, questions.extension_overrides(history, extension))

        self._ask(*self._length_question("Resume for", timed), answer)

    def _resume(self, name: str, overrides: tuple[str, ...]) -> None:
        self.show_live()
        self.lab.start_training(resume=name, overrides=overrides)

    def action_fork(self) -> None:
        """Edit the run's config for a new run that starts from its best checkpoint."""
        folder, reference = self.view.folder, self._checkpoint_reference()
        if folder is None or reference is None:
            return
        try:
            config = folder.config()
        except UserError as error:
            self.lab.say(str(error), is_error=True)
            return
        self.lab.edit_config(config, stem=f"{folder.name}-fork", start_from=reference)

    def _checkpoint_reference(self) -> str | None:
        """The best checkpoint, or the last, as ``RUN@STEP``."""
        folder = self.view.folder
        try:
            index = folder.index() if folder is not None else {}
        except UserError as error:
            self.lab.say(str(error), is_error=True)
            return None
        step = index.get("best", index.get("last"))
        if folder is None or step is None:
            self.lab.say("this run has no checkpoint", is_error=True)
            return None
        return f"{folder.name}@{step}"
