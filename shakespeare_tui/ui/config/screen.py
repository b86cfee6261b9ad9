"""The Config screen: a form for every setting, and beside it what the config will cost."""

import sys
import threading
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from shakespeare_tui.config.draft import (
    ConfigDraft,
    DraftState,
    DraftStore,
    Origin,
    draft_record,
    preset_origin,
)
from shakespeare_tui.config.load import DEFAULT_PRESET
from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import UserError
from shakespeare_tui.machine import has_torch
from shakespeare_tui.ui.config.card import ConfigCard, SizesDialog
from shakespeare_tui.ui.config.choices import ConfigChooser, given_origin
from shakespeare_tui.ui.config.diff import ConfigDiff
from shakespeare_tui.ui.config.experiments import ConfigExperiments
from shakespeare_tui.ui.config.files import ConfigFiles
from shakespeare_tui.ui.config.form import VARIED, WRONG, ConfigForm, shown
from shakespeare_tui.ui.config.line_list import ConfigLines
from shakespeare_tui.ui.jobs import Job
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.widgets.ask_bar import AskBar

_MOST_MOMENTS = 100

History = tuple[list[DraftState], int]


class DraftKeeper:
    """Writes the newest draft, in a thread or at once.

    Args:
        folder: The settings folder; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._store = DraftStore(folder) if folder else None
        self._lock = threading.Lock()
        self._waiting: History | None = None
        self.problem = ""
        """Why the draft cannot be kept or was not found, one line; empty when all is well."""

    def restore(self) -> ConfigDraft | None:
        """The draft as it was left, or None."""
        if self._store is None:
            return None
        try:
            return self._store.open()
        except UserError as error:
            self.problem = str(error)
            return None

    @property
    def edit_path(self) -> Path | None:
        """Where the text is kept that an editor works on; None where nothing is kept."""
        path = self._store.path if self._store else None
        return path.with_suffix(".edit.yaml") if path else None

    def keep(self, draft: ConfigDraft) -> None:
        """Write the draft in a thread."""
        if self._store is not None and self._store.path is not None:
            self._waiting = draft.history(_MOST_MOMENTS)
            Job("config-draft", lambda job: self._write(), daemon=False)

    def close(self, draft: ConfigDraft) -> None:
        """Write the draft now and let go of the file."""
        self._waiting = draft.history(_MOST_MOMENTS)
        self._write()
        if self._store is not None:
            self._store.close()

    def _write(self) -> None:
        with self._lock:
            # Only the newest is written, whichever thread comes first.
            history, self._waiting = self._waiting, None
            if history is None or self._store is None:
                return
            try:
                self._store.save(draft_record(history))
                self.problem = ""
            except OSError as error:
                self.problem = f"edits of the config cannot be saved: {error.strerror or error}"


class ConfigTitle(Static):
    """One line about a draft, or about what it is compared with."""

    DEFAULT_CSS: ClassVar[str] = "ConfigTitle { height: 1; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__(id="config-title", markup=False)

    def show_draft(self, draft: ConfigDraft, varied: int) -> None:
        """Name the origin, and count changes, mistakes, and settings with several values."""
        origin = draft.origin
        parts = [_name(origin)]
        changed, wrong = len(draft.changed_paths), sum(map(len, draft.problems.values()))
        if changed:
            parts.append(Content.styled(f"{changed} changed", "$accent"))
        if wrong:
            parts.append(Content.styled(f"{WRONG} {wrong} wrong (n)", "$error"))
        if varied:
            parts.append(Content.styled(f"{VARIED} {varied} varied (x)", "$accent"))
        if origin.start_from:
            parts.append(Content.styled(f"weights of {origin.start_from}", "$warning"))
        self.update(Content("   ").join(parts))

    def show_comparison(self, other: Origin) -> None:
        """Name what the draft is compared with."""
        self.update(Content.assemble(("difference from ", "$text-muted"), _name(other)))


def _name(origin: Origin) -> Content:
    kind = "" if origin.kind == "config" else f" {origin.kind}"
    return Content.assemble((shown(origin.name), "bold"), (kind, "$text-muted"))


_KEEP_AFTER_SECONDS = 0.5


class ConfigScreen(LabScreen):
    """Edit what the next run will be."""

    MODE: ClassVar[str] = "config"
    HELP: ClassVar[str] = """\
Every setting of the next run, with its range, default and preset value. A dot marks what you
changed, a cross what is invalid. Enter edits a row; space selects the next choice.

The card beside the form estimates what the config costs: parameters, memory, tokens and time.
z lists the parameters by component, and their size in float32, bfloat16 and int8.
Speed is measured on this machine for a second when you press m or pause typing. Advice comes from
the tuning guide (shakespeare-tui config guide).

v gives the setting under the cursor several values; x makes an experiment of all that are varied,
and shows its runs before they are trained on the Experiments screen. t queues the config as it is:
what waits is trained there, one after the other.

Nothing is lost: undo also reverts loading a preset or a file, and the draft is saved to disk as
you type, errors included."""
    CSS_PATH = "screen.tcss"
    HORIZONTAL_BREAKPOINTS = [
        (0, "-narrow"),
        (76, "-normal"),
        (116, "-wide"),
        (170, "-huge"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "train", "Train", id="config.train"),
        Binding("p", "presets", "Load", id="config.presets"),
        Binding("d", "diff", "Diff", id="config.diff"),
        Binding("u", "undo", "Undo", id="config.undo"),
        Binding("U", "redo", "Redo", show=False, id="config.redo"),
        Binding("w", "save", "Save", id="config.save"),
        Binding("o", "open", "Open a file", show=False, id="config.open"),
        Binding("e", "editor", "Edit in $EDITOR", show=False, id="config.editor"),
        Binding("z", "sizes", "Parameters and sizes", show=False, id="config.sizes"),
        Binding("m", "measure", "Measure speed", show=False, id="config.measure"),
        Binding("a", "advice", "Follow advice", show=False, id="config.advice"),
        Binding("F", "fast", f"Load {DEFAULT_PRESET}", show=False, id="config.fast"),
        Binding("y", "copy", "Copy as YAML", show=False, id="config.copy"),
        Binding("v", "vary", "Vary", show=False, id="config.vary"),
        Binding("x", "experiment", "Experiment", show=False, id="config.experiment"),
        Binding("t", "queue", "Train later", show=False, id="config.queue"),
        Binding("X", "forget", "New weights", show=False, id="config.new_weights"),
        # The same while a text field has the focus.
        Binding("ctrl+z", "undo", "Undo", show=False, id="config.undo_typing"),
        Binding("ctrl+y", "redo", "Redo", show=False, id="config.redo_typing"),
        Binding("ctrl+s", "save", "Save", show=False, id="config.save_typing"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._keep_timer: Timer | None = None
        self._seen_state = ""

    draft: ConfigDraft
    """What is being edited."""
    files: ConfigFiles
    """Its file commands."""
    experiments: ConfigExperiments
    """What is varied, and what comes of that."""

    def compose_body(self) -> ComposeResult:
        """Form or differences on the left, the card on the right."""
        path = self.lab.settings.path
        self._keeper = DraftKeeper(path.parent if path else None)
        self.draft = self._first_draft()
        self._shown = self.draft.state
        self.files = ConfigFiles(self, self.draft, self.show_draft, self._keeper.edit_path)
        self._form = ConfigForm(self.draft, id="config-form")
        self._diff = ConfigDiff(self.draft, id="config-diff")
        self._diff.display = False
        self._heading = ConfigTitle()
        services = self.lab.services
        self._card = ConfigCard(services, self._may_measure_unasked, id="config-card")
        self._chooser = ConfigChooser(self, self.draft, self._card, self.show_draft)
        self.experiments = ConfigExperiments(self, self.draft, self.show_draft)
        self._form.rows.varied = self.experiments.varied
        with Horizontal(id="config-body"):
            with Vertical(id="config-left"):
                yield self._heading
                yield self._form
                yield self._diff
            yield self._card
        yield AskBar()

    def _first_draft(self) -> ConfigDraft:
        """What was left last time, with what other screens have changed meanwhile."""
        kept, draft = self._keeper.restore(), self.lab.services.draft
        if kept is not None:
            draft.restore(kept)
        return draft

    @property
    def home(self) -> ConfigLines:
        """The rows of the form, or the differences."""
        return self._diff if self._diff.display else self._form.rows

    # --- life ----------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.experiments.recall()
        self.show_draft()
        self._form.rows.focus()
        if self._keeper.problem:
            self.lab.say(self._keeper.problem, is_error=True)

    def on_screen_shown(self) -> None:
        """Show the corpus that was chosen meanwhile, and look again at runs and memory."""
        if self.draft.state is not self._shown:
            self.show_draft("data.corpus")
        self._card.look_again()

    def on_screen_suspend(self) -> None:
        """Measure nothing, and lose nothing, while another screen is shown."""
        self._card.pause()
        self._form.finish_typing()

    def on_unmount(self) -> None:
        self._keeper.close(self.draft)

    def on_training_changed(self) -> None:
        """Leave the machine to a run that begins, and count one that ended among the past."""
        state = self.lab.services.training.state
        if state == self._seen_state:
            return
        self._seen_state = state
        if self.lab.services.training.is_active:
            self._card.pause()
        elif state in ("finished", "failed"):
            self._card.look_again()

    # --- what other screens ask -----------------------------------------------------------------

    def open_config(
        self, config: Config, *, stem: str = "run", start_from: str | None = None
    ) -> None:
        """Edit a config that another screen hands over; undo brings the draft before it back.

        Args:
            config: The config.
            stem: What a run of it is called before its number.
            start_from: The checkpoint ``RUN@STEP`` whose weights the run starts from.
        """
        self.draft.load(given_origin(config, stem, start_from))
        self.show_draft()

    # --- drawing -------------------------------------------------------------------------------

    def show_draft(self, path: str | None = None) -> None:
        """Draw the draft after it was changed, with the cursor on ``path`` if that is given."""
        self._form.show_draft(path)
        self._after_change(is_typing=False)

    @on(ConfigForm.Changed)
    def _form_changed(self, event: ConfigForm.Changed) -> None:
        event.stop()
        self._after_change(event.is_typing)

    def _after_change(self, is_typing: bool) -> None:
        draft = self.draft
        if self._diff.display:
            self._diff.rebuild()
            self._heading.show_comparison(self._diff.other)
        else:
            self._heading.show_draft(draft, len(self.experiments.varied))
        self._card.show_config(draft.config, is_typing=is_typing)
        self._shown = draft.state
        if self._keep_timer is not None:
            self._keep_timer.stop()
        self._keep_timer = self.set_timer(_KEEP_AFTER_SECONDS, self._keep)

    def _keep(self) -> None:
        had_problem = self._keeper.problem
        self._keeper.keep(self.draft)
        if had_problem and self.draft.can_undo:
            self.lab.say(had_problem, is_error=True)
            self._keeper.problem = ""

    # --- history -------------------------------------------------------------------------------

    def action_undo(self) -> None:
        """Take the last change back."""
        self._form.finish_typing()
        self._travel(self.draft.undo(), "nothing to undo")

    def action_redo(self) -> None:
        """Do again what was taken back."""
        self._form.finish_typing()
        self._travel(self.draft.redo(), "nothing to redo")

    def _travel(self, paths: tuple[str, ...] | None, nothing: str) -> None:
        if paths is None:
            self.lab.say(nothing)
        else:
            self.show_draft(paths[0] if len(paths) == 1 else None)

    # --- presets, runs and differences ---------------------------------------------------------

    def action_presets(self) -> None:
        """Choose a preset or a past run to begin with."""
        self._chooser.begin_with()

    def action_fast(self) -> None:
        """Load the fast preset."""
        self._chooser.load(preset_origin(DEFAULT_PRESET))

    def action_diff(self) -> None:
        """Show what differs from the preset, or the form again."""
        if self._diff.display:
            self._close_diff()
            return
        self._form.finish_typing()
        self._diff.display, self._form.display = True, False
        self._diff.compare_with(self.draft.origin)
        self._diff.focus()
        self._after_change(is_typing=False)

    @on(ConfigDiff.Choose)
    def _choose_other(self) -> None:
        def compare(other: Origin) -> None:
            self._diff.compare_with(other)
            self._after_change(is_typing=False)

        self._chooser.compare_with(self._diff.other.name, compare)

    @on(ConfigDiff.Take)
    def _take_theirs(self, event: ConfigDiff.Take) -> None:
        if self.draft.set_text(event.path, event.text):
            self.show_draft()

    @on(ConfigDiff.Close)
    def _close_diff(self) -> None:
        path = self._diff.cursor
        self._diff.display, self._form.display = False, True
        self._form.rows.focus()
        self.show_draft(path)

    # --- files ---------------------------------------------------------------------------------

    def action_open(self) -> None:
        """Load a YAML file."""
        self.files.ask_and_open()

    def action_save(self) -> None:
        """Save as a YAML file."""
        self._form.finish_typing()
        self.files.ask_and_save()

    def action_editor(self) -> None:
        """Edit the YAML in one's own editor."""
        self.files.edit()

    def action_copy(self) -> None:
        """Copy the YAML to the clipboard."""
        self.lab.copy(self.draft.to_yaml(), "the config as YAML")

    # --- what follows --------------------------------------------------------------------------

    def _may_measure_unasked(self) -> bool:
        """Only in view, with the machine idle, and never so that torch is loaded for it."""
        return (
            self.is_current
            and self.lab.services.preload
            and (not has_torch() or "torch" in sys.modules)
            and not self.lab.services.training.is_active
        )

    def action_measure(self) -> None:
        """Measure the training speed now."""
        training = self.lab.services.training
        if training.is_active:
            self.lab.say(f"{training.run_name or 'a run'} is being trained: its speed is in Train")
        elif not self._card.measure_speed():
            self.lab.say("fix the errors first: n goes to the next one", is_error=True)

    def action_sizes(self) -> None:
        """Show the parameters and their sizes by component."""
        figures = self._card.figures
        if figures is None:
            self.lab.say("fix the errors first: n goes to the next one", is_error=True)
        else:
            self.app.push_screen(SizesDialog(figures.parameters))

    def action_advice(self) -> None:
        """List all advice; what is chosen is followed."""
        self._chooser.follow_advice()

    def action_forget(self) -> None:
        """Start from new weights instead of a checkpoint's."""
        if self.draft.origin.start_from is None:
            self.lab.say("the run starts from new weights already")
        elif self.draft.forget_weights():
            self.show_draft()

    def action_vary(self) -> None:
        """Give the setting under the cursor several values."""
        self._form.finish_typing()
        if self._form.display and self._form.cursor is not None:
            self.experiments.vary(self._form.cursor)

    def action_experiment(self) -> None:
        """Make an experiment of what is varied."""
        self._form.finish_typing()
        self.experiments.make()

    def action_queue(self) -> None:
        """Let the config wait for its turn."""
        self._form.finish_typing()
        self.experiments.queue()

    def action_train(self) -> None:
        """Start training with this config."""
        self._form.finish_typing()
        if self.draft.config is None:
            path = next(iter(self.draft.problems))
            self.show_draft(path)
            self.lab.say(f"{path}: {self.draft.problems[path][0]}", is_error=True)
            return
        self._keeper.keep(self.draft)
        self.lab.start_training()
