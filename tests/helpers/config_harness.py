"""What tests of the Config screen share: past runs, rows on the screen, keys for an edit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoint_trees import weights
from lab_harness import press, shown
from textual.pilot import Pilot

from shakespeare_tui.config.draft import ConfigDraft
from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.tokenizers.tokenizer import CharTokenizer
from shakespeare_tui.runs.folder import RunFolder, new_run_info
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.config.card import ConfigCard
from shakespeare_tui.ui.config.files import ConfigFiles
from shakespeare_tui.ui.config.form import ConfigForm
from shakespeare_tui.ui.config.screen import ConfigScreen
from shakespeare_tui.ui.settings import Settings


@dataclass
class Place:
    """The Config screen's parts."""

    screen: ConfigScreen
    draft: ConfigDraft
    files: ConfigFiles
    card: ConfigCard

    @property
    def cursor(self) -> str | None:
        return self.screen.query_one(ConfigForm).cursor


def place(app: LabApp) -> Place:
    """The parts of the Config screen that is shown."""
    screen = app.screen_stack[0]
    assert isinstance(screen, ConfigScreen)
    return Place(screen, screen.draft, screen.files, screen.query_one(ConfigCard))


def row(app: LabApp, key: str) -> str:
    """The form's row of a setting, as it is on the screen."""
    lines = (line.partition("│")[0] for line in shown(app).splitlines())
    return next(line + " " for line in lines if line[3:].startswith(f"{key} "))


async def edit_row(pilot: Pilot[Any], key: str, text: str, *, done: bool = True) -> None:
    """Go to a setting by the filter, type over its value, and show all rows again."""
    await press(pilot, "slash", *key, "enter", "enter", *text)
    if done:
        await press(pilot, "enter", "escape")


def keep_settings(tmp_path: Path) -> Settings:
    """Settings on disk, below the test's folder."""
    return Settings.load(tmp_path / "lab" / "settings.yaml")


def add_run(root: Path, name: str, config: Config, val_loss: float) -> None:
    """A finished run's folder with the figures of one checkpoint."""
    folder = RunFolder(root / name)
    info = new_run_info(
        name=name, corpus="c", corpus_sha256="", characters=1, vocab_size=2, parameters=1
    )
    folder.write_definition(info, config, CharTokenizer.from_vocabulary(["a", "b"]))
    step = folder.checkpoint_folder(5)
    step.mkdir()
    (step / "info.json").write_text(
        '{"format": 1, "step": 5, "train_loss": null, "protocol": "exact", "time": 0, '
        f'"elapsed_seconds": 1, "val_loss": {val_loss}}}'
    )
    (step / "weights.safetensors").write_bytes(weights())
    folder.write_index(5, 5)
