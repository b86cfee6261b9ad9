"""What the Config screen offers to choose from: presets, past runs, advice."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from shakespeare_tui.config.draft import ConfigDraft, Origin, preset_origin
from shakespeare_tui.config.estimate.advice import Advice
from shakespeare_tui.config.estimate.nearest_run import PastRun
from shakespeare_tui.config.load import preset_description, preset_names
from shakespeare_tui.config.schema import Config
from shakespeare_tui.ui.config.card import ConfigCard
from shakespeare_tui.ui.widgets.choice_dialog import Choice, ChoiceDialog

if TYPE_CHECKING:
    from shakespeare_tui.ui.lab_screen import LabScreen


class ConfigChooser:
    """The commands that ask what to take.

    Args:
        screen: The screen, for dialogs and notices.
        draft: What they change.
        card: Knows the past runs and the advice.
        changed: Called after they changed the draft, with the one setting that it was, or None.
    """

    def __init__(
        self,
        screen: "LabScreen",
        draft: ConfigDraft,
        card: ConfigCard,
        changed: Callable[[str | None], None],
    ) -> None:
        self._screen = screen
        self._draft = draft
        self._card = card
        self._changed = changed

    def begin_with(self) -> None:
        """Ask for a preset or a past run, and load it."""
        self._ask("Start from", self._draft.origin.name, self.load)

    def load(self, origin: Origin) -> None:
        """Replace the draft, as one step."""
        had_changes = bool(self._draft.changed_paths)
        if self._draft.load(origin) and had_changes:
            self._screen.lab.say(f"loaded {origin.name}; u undoes this")
        self._changed(None)

    def compare_with(self, current: str, then: Callable[[Origin], None]) -> None:
        """Ask for a preset or a past run, with ``current`` highlighted."""
        self._ask("Compare with", current, then)

    def _ask(self, title: str, current: str, then: Callable[[Origin], None]) -> None:
        # More runs may be read while the question is open.
        runs = list(self._card.runs)

        def take(choice: Choice | None) -> None:
            if choice is not None:
                then(chosen_origin(choice, runs))

        self._screen.app.push_screen(ChoiceDialog(title, config_choices(runs), current), take)

    def follow_advice(self) -> None:
        """List all advice, and change what the chosen one says."""
        advice = self._card.advice
        if not advice:
            self._screen.lab.say("there is no advice for this config")
            return

        def follow(choice: Choice | None) -> None:
            changes = dict(advice[int(choice.name) - 1].overrides) if choice else {}
            if choice and not changes:
                self._screen.lab.say("this advice names no single value")
            elif self._draft.set_texts(changes):
                told = ", ".join(f"{path} {text}" for path, text in changes.items())
                self._screen.lab.say(f"{told}; u undoes this")
                self._changed(next(iter(changes)))

        dialog = ChoiceDialog("Follow advice", advice_choices(advice))
        self._screen.app.push_screen(dialog, follow)


def config_choices(runs: Sequence[PastRun]) -> list[Choice]:
    """The presets, and the past runs."""
    presets = [Choice("preset", name, preset_description(name)) for name in preset_names()]
    return presets + [
        Choice("run", run.name, run.problem or f"val loss {run.loss or '-'}", run.config is None)
        for run in runs
    ]


def chosen_origin(choice: Choice, runs: Sequence[PastRun]) -> Origin:
    """The config behind a choice of ``config_choices(runs)``."""
    if choice.kind == "preset":
        return preset_origin(choice.name)
    run = next(run for run in runs if run.name == choice.name)
    assert run.config is not None, "a damaged run cannot be chosen"
    stem, _, number = run.name.rpartition("-")
    return Origin("run", run.name, run.config, stem if stem and number.isdigit() else run.name)


def given_origin(config: Config, stem: str, start_from: str | None) -> Origin:
    """A config that another screen hands over; a preset that it equals gives it its name."""
    if stem in preset_names() and start_from is None:
        preset = preset_origin(stem)
        if preset.config == config:
            return preset
    return Origin("config", start_from or stem, config, stem, start_from)


def advice_choices(advice: Sequence[Advice]) -> list[Choice]:
    """All advice, numbered from 1, each with the settings that it would change."""
    return [
        Choice("advice", str(number), _with_changes(item))
        for number, item in enumerate(advice, start=1)
    ]


def _with_changes(advice: Advice) -> str:
    changes = ", ".join(f"{path} {text}" for path, text in advice.overrides)
    return f"{advice.text} → {changes}" if changes else advice.text
