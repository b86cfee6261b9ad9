"""Make an experiment of settings that are given several values, and queue configs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shakespeare_tui.config.draft import ConfigDraft
from shakespeare_tui.config.fields import find_field
from shakespeare_tui.config.schema import Config
from shakespeare_tui.config.write import write_text
from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.experiments.compose import QUEUE, add_config, experiment_text, read_values
from shakespeare_tui.experiments.folder import new_folder
from shakespeare_tui.experiments.plan import short_name
from shakespeare_tui.experiments.runner import threads_per_job
from shakespeare_tui.files import reason, write_output_file
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.widgets.ask_bar import AskBar

_REMEMBERED = "config.varied"


class ConfigExperiments:
    """What the Config screen has to do with experiments.

    Args:
        screen: The screen with the bar that asks.
        draft: The config.
        changed: Called after a setting was given other values.

    Attributes:
        varied: The values of settings that are varied, by path, as they are shown.
    """

    def __init__(
        self, screen: LabScreen, draft: ConfigDraft, changed: Callable[[str], object]
    ) -> None:
        self._screen, self._draft, self._changed = screen, draft, changed
        self.varied: dict[str, str] = {}

    def recall(self) -> None:
        """Take up what was varied when the lab was left."""
        try:
            found = json.loads(self._screen.lab.settings.get(_REMEMBERED, "") or "{}")
            kept = {str(path): str(text) for path, text in dict(found).items()}
            self.varied.update({path: _shown(path, text) for path, text in kept.items()})
        except (ValueError, TypeError, AssertionError, UserError):
            self.varied.clear()  # of an older version, or edited: it is quickly marked again

    def _ask(self, label: str, hint: str, value: str, answer: Callable[[str], None]) -> None:
        self._screen.query_one(AskBar).ask(label, hint, value, answer)

    def vary(self, path: str) -> None:
        """Ask for the values of a setting; none takes the mark away."""
        field = find_field(path)
        assert field is not None
        choices = ("false", "true") if field.kind == "boolean" else field.choices
        value = self.varied.get(path) or ", ".join(choices) or self._draft.text(path)

        def answer(text: str) -> None:
            shown = _shown(path, text)
            if shown and "," not in shown:
                raise UserError("write two values or more, with commas between; none ends it")
            if shown:
                self.varied[path] = shown
            else:
                self.varied.pop(path, None)
            self._screen.lab.remember(_REMEMBERED, json.dumps(self.varied))
            self._changed(path)

        self._ask(
            f"Values of {short_name(path)}", "such as 64, 128; empty: one only", value, answer
        )

    def _config(self) -> Config | None:
        """The draft as it is; None, and said why, where it cannot be trained anew."""
        start_from, config = self._draft.origin.start_from, self._draft.config
        if config is None:
            self._screen.lab.say("fix the errors first: n goes to the next one", is_error=True)
        elif start_from is not None:
            self._screen.lab.say(
                f"experiments train new weights, not those of {start_from}: X forgets them",
                is_error=True,
            )
            return None
        return config

    def make(self) -> None:
        """Ask for a name, write an experiment of the varied settings, and show its runs."""
        if not self.varied:
            self._screen.lab.say("v gives a setting several values; x then makes an experiment")
            return
        config = self._config()
        if config is None:
            return
        root = self._screen.lab.services.experiments_root
        stem = Path(self._draft.origin.stem).name

        def answer(text: str) -> None:
            name = text.strip()
            folder, path = new_folder(name, root), root / f"{name}.yaml"
            if folder.exists or path.exists():
                raise UserError(f"there is an experiment {name} already; give another name")
            axes = {path: read_values(path, values) for path, values in self.varied.items()}
            _write(path, experiment_text(config, axes, name=stem))
            self._screen.lab.plan_experiment(path)

        self._ask("Experiment", "its name", _free_name(root, _name(stem, self.varied)), answer)

    def queue(self) -> None:
        """Ask for a name, and let the config wait for its turn."""
        config = self._config()
        if config is None:
            return
        services = self._screen.lab.services

        def answer(text: str) -> None:
            if not text.strip():
                raise UserError("write a name for it")
            try:
                trial = add_config(
                    config,
                    text.strip(),
                    services.experiments_root,
                    services.runs_root,
                    experiment=QUEUE,
                    threads=threads_per_job(1),
                )
            except OSError as error:
                raise UserError(f"it cannot be written: {reason(error)}") from None
            self._screen.lab.say(f"{trial.run} waits in the queue: 6, then s, trains what waits")

        self._ask("Queue as", "a name for the table", self._draft.origin.stem, answer)


def _shown(path: str, text: str) -> str:
    """Values as the form shows them.

    Raises:
        UserError: They are none of the setting's.
    """
    field = find_field(path)
    assert field is not None
    values: list[Any] = read_values(path, text)
    return ", ".join(write_text(field, value) for value in values)


def _name(stem: str, varied: Mapping[str, str]) -> str:
    keys = [path.partition(".")[2] for path in varied]
    return "-".join([stem, *(key.replace("_", "-") for key in keys[:2])])


def _free_name(root: Path, name: str) -> str:
    number, free = 1, name
    while (root / free).exists() or (root / f"{free}.yaml").exists():
        number += 1
        free = f"{name}-{number}"
    return free


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_output_file(path, text)
    except (RunFailedError, OSError) as error:
        raise UserError(f"{path} cannot be written: {error}") from None
