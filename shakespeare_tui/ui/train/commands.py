"""What a person orders of the run that is shown: a key to a command, and the questions between."""

import contextlib
import re
from typing import Any

from shakespeare_tui.errors import UserError
from shakespeare_tui.files import as_number
from shakespeare_tui.formatting import format_duration, format_rate
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
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.train.run_view import LiveView
from shakespeare_tui.ui.train.viewer import RunViewer
from shakespeare_tui.ui.widgets.ask_bar import AskBar


class RunCommands:
    """The commands by name: which of them make sense now, and what each does.

    Args:
        screen: The screen with the bar that asks.
        viewer: The run that is shown.
    """

    def __init__(self, screen: LabScreen, viewer: RunViewer) -> None:
        self._screen, self._viewer = screen, viewer

    def offered(self) -> set[str]:
        """The commands that make sense now."""
        view, training = self._viewer.view, self._screen.lab.services.training
        if view.takes_commands:
            hold = "go_on" if view.history.phase == "paused" else "pause"
            return {"stop", hold, "save", "sample", "prompt", "rate", "extend", "note"}
        if view.state == "starting":
            return {"stop"}
        is_ended = self._viewer.is_over and view.folder is not None
        offered = {"generate", "fork"} if is_ended else set()
        if not training.is_active:
            # Where a run has ended, its key resumes it: a second press starts no other one. What is
            # shown only because nobody chose a run does not change what the keys start.
            is_resumable = is_ended and not self._viewer.is_newest_shown
            offered |= {"resume", "start_another"} if is_resumable else {"start"}
        return offered

    def give(self, name: str) -> None:
        """Do what one of the commands stands for."""
        match name:
            case "start" | "start_another":
                self._viewer.show_live()
                self._screen.lab.start_training()
            case "stop":
                self._stop()
            case "resume":
                self._resume_ended()
            case "pause":
                self._post(Pause())
            case "go_on":
                self._post(Resume())
            case "save":
                self._post(SaveCheckpoint(), "a checkpoint is saved after this step")
            case "sample":
                self._post(GenerateSample(), "a sample is drawn after this step")
            case "prompt":
                self._ask_prompt()
            case "rate":
                self._ask_learning_rate()
            case "extend":
                self._ask_extension()
            case "note":
                self._ask_bar.ask("Note", "", "", lambda text: self._post(parse_note(text)))
            case "generate":
                self._generate()
            case "fork":
                self._fork()

    def _post(self, command: Command, told: str = "") -> None:
        lab = self._screen.lab
        try:
            is_heard = self._viewer.view.post(command)
        except OSError as error:
            reason = error.strerror or error
            lab.say(f"the run's command file cannot be written: {reason}", is_error=True)
            return
        if not is_heard:
            lab.say("no process is training this run", is_error=True)
        elif told:
            lab.say(told)

    def _stop(self) -> None:
        """Ask, then save a checkpoint and end the run; a start is cancelled at once."""
        view = self._viewer.view
        if not view.takes_commands:
            self._post(Stop())
            return
        spent = format_duration(run_figures(view.history).elapsed_seconds)
        text = (
            f"It has trained for {spent}, {view.history.last_step:,} steps. Stopping saves a "
            "checkpoint, from which s resumes it exactly."
        )
        if not isinstance(view, LiveView):
            text = f"Another process trains this run and would end.\n\n{text}"

        def answer(is_yes: bool | None) -> None:
            if is_yes and self._viewer.view is view:
                self._post(Stop(), "saving and stopping after this step")

        self._screen.lab.push_screen(ConfirmDialog(f"Stop {view.name}?", text, "Stop"), answer)

    # --- questions -----------------------------------------------------------------------------

    @property
    def _ask_bar(self) -> AskBar:
        return self._screen.query_one(AskBar)

    def _ask_prompt(self) -> None:
        lab = self._screen.lab

        def answer(text: str) -> None:
            lab.remember("train.prompt", text)
            self._post(parse_prompt(text), "a sample is drawn after this step")

        last = lab.settings.get("train.prompt", "")
        self._ask_bar.ask("Prompt", r"\n is a new line", last, answer)

    def _ask_learning_rate(self) -> None:
        peak = peak_learning_rate(self._viewer.view.history)

        def answer(text: str) -> None:
            command = parse_learning_rate(text, peak)
            rate = format_rate(command.learning_rate, 3)
            self._post(command, f"the peak LR becomes {rate} after this step")

        value = "" if peak is None else format_rate(peak, 3)
        self._ask_bar.ask("Peak learning rate", "5e-4, or x0.5", value, answer)

    def _ask_extension(self) -> None:
        is_timed = self._viewer.view.history.planned_minutes is not None

        def answer(text: str) -> None:
            self._post(parse_extension(text, is_timed=is_timed), "the run is extended")

        self._ask_bar.ask("Extend by", *_length_hint(is_timed), answer)

    # --- after the end -------------------------------------------------------------------------

    def _resume_ended(self) -> None:
        """Go on where the run was stopped, or for longer where it was completed."""
        view, history = self._viewer.view, self._viewer.view.history
        name, finished = view.name, history.finished
        if finished is None or finished.is_early:
            self._resume(name, ())
            return
        is_timed = history.planned_minutes is not None

        def answer(text: str) -> None:
            extension = parse_extension(text, is_timed=is_timed)
            self._resume(name, extension_overrides(history, extension))

        self._ask_bar.ask("Resume for", *_length_hint(is_timed), answer)

    def _resume(self, name: str, overrides: tuple[str, ...]) -> None:
        self._viewer.show_live()
        self._screen.lab.resume_training(name, overrides)

    def _generate(self) -> None:
        """Write text with the run's best checkpoint in the Playground."""
        reference = self._checkpoint_reference()
        if reference is not None:
            self._screen.lab.open_playground(reference)

    def _fork(self) -> None:
        """Edit the run's config for a new run that starts from its best checkpoint."""
        folder, reference = self._viewer.view.folder, self._checkpoint_reference()
        if folder is None or reference is None:
            return
        try:
            config = folder.config()
        except UserError as error:
            self._screen.lab.say(str(error), is_error=True)
            return
        self._screen.lab.edit_config(config, stem=f"{folder.name}-fork", start_from=reference)

    def _checkpoint_reference(self) -> str | None:
        """The best checkpoint, or the last, as ``RUN@STEP``."""
        folder = self._viewer.view.folder
        try:
            index = folder.index() if folder is not None else {}
        except UserError as error:
            self._screen.lab.say(str(error), is_error=True)
            return None
        step = index.get("best", index.get("last"))
        if folder is None or step is None:
            self._screen.lab.say("this run has no checkpoint", is_error=True)
            return None
        return f"{folder.name}@{step}"


def _length_hint(is_timed: bool) -> tuple[str, str]:
    """What may be written as a length, and the first suggestion."""
    return ("minutes, or as 90s", "1m") if is_timed else ("steps", "500")


def peak_learning_rate(history: RunHistory) -> float | None:
    """The schedule's peak, after what commands made of it."""
    training = history.config.get("training")
    peak = as_number(training.get("learning_rate")) if isinstance(training, dict) else None
    for command in history.commands:
        if command.command == SetLearningRate.__name__:
            peak = as_number(command.arguments.get("learning_rate")) or peak
    return peak


def parse_learning_rate(text: str, peak: float | None) -> SetLearningRate:
    """A peak rate such as ``5e-4``, or a factor of the present one such as ``x0.5``.

    Raises:
        UserError: It is neither.
    """
    text = text.strip().lower()
    rate: object = text
    if text[:1] in ("x", "*", "×"):
        if peak is None:
            raise UserError("the current LR is unknown: write an LR such as 5e-4")
        with contextlib.suppress(ValueError):
            rate = float(text[1:]) * peak
    example = "an LR such as 5e-4, or a factor such as x0.5"
    checked = _setting("training.learning_rate", rate, example)
    return SetLearningRate(learning_rate=float(format_rate(checked, 6)))


def parse_extension(text: str, *, is_timed: bool) -> ExtendRun:
    """Steps such as ``500``, or, for a run with a time budget, a duration such as ``2m``.

    Raises:
        UserError: It is no length, or not of the run's kind.
    """
    text = text.strip().lower().removeprefix("+").strip()
    if is_timed:
        return ExtendRun(minutes=_setting("training.minutes", text, "a duration such as 2m or 90s"))
    text = re.sub(r"\s*steps?$", "", text)
    return ExtendRun(steps=_setting("training.max_steps", text, "a number of steps such as 500"))


def _setting(path: str, value: object, example: str) -> Any:
    """A value that the config would take for a setting: what steers a run has the same limits.

    Raises:
        UserError: It would not.
    """
    from shakespeare_tui.config.fields import find_field, read_value

    field = find_field(path)
    assert field is not None
    checked, problems = read_value(field, value)
    if problems:
        raise UserError(f"write {example} ({field.range_text})")
    return checked


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
    """The settings with which a finished run goes on for ``extension`` longer.

    What commands added during the run is part of its checkpoint and counts on top of them.
    """
    if history.planned_minutes is not None:
        minutes = history.planned_minutes - history.extra_minutes + extension.minutes
        return (f"training.minutes={minutes:g}",)
    steps = (history.planned_steps or history.last_step) - history.extra_steps + extension.steps
    return (f"training.max_steps={steps}",)
