"""Every view of the lab over a real model of 135M parameters, imported, and tuned for two steps.

It is run where the model is in the cache, as ``shakespeare-tui import smollm2-135m`` leaves it. The
pictures, in two sizes, are left in the folder that ``SHAKESPEARE_TUI_PICTURES`` names, with a file
of the seconds that each view took.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from config_harness import place as config_place
from lab_harness import MakeApp, press, shown, until
from listed_runs import is_read
from pictures import LOOKS, settled_picture
from real_cli import CommandLine
from textual.pilot import Pilot

from shakespeare_tui.data.catalogue import MODELS
from shakespeare_tui.paths import cache_folder
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.checkpoints.writing import WritingScreen
from shakespeare_tui.ui.config.screen import ConfigScreen
from shakespeare_tui.ui.data.corpus_list import CorpusList
from shakespeare_tui.ui.playground.screen import PlaygroundScreen

_ENTRY = MODELS["smollm2-135m"]
MODEL = cache_folder() / "models" / _ENTRY.name / _ENTRY.files[0].name
"""Looked for before tests have a cache of their own."""
_PATIENCE_SECONDS = 240
_SIZES = (LOOKS[0], LOOKS[3])
_BUSY = ("Reading", "Encoding", "sought", "loading", "measuring", "measured …", "Looking")


class Tour:
    """Goes through the lab, and takes a picture of each view in both sizes."""

    def __init__(self, pilot: Pilot[int], folder: Path) -> None:
        self.pilot, self.folder = pilot, folder
        self.seconds: dict[str, float] = {}
        self._since = time.monotonic()

    @property
    def app(self) -> LabApp:
        app = self.pilot.app
        assert isinstance(app, LabApp)
        return app

    async def press(self, *keys: str) -> None:
        self._since = time.monotonic()
        await press(self.pilot, *keys)

    async def until(self, condition: Callable[[], object]) -> None:
        await until(condition, _PATIENCE_SECONDS)

    async def take(self, name: str, *words: str) -> None:
        """Wait until nothing is under way and the words are shown; take the pictures."""
        await self.until(lambda: not any(word in shown(self.app) for word in _BUSY))
        await self.until(lambda: all(word in " ".join(shown(self.app).split()) for word in words))
        self.seconds[name] = time.monotonic() - self._since
        for look in _SIZES:
            await self.pilot.resize_terminal(*look[:2])
            picture = await settled_picture(self.pilot)
            (self.folder / f"{name}-{look.columns}x{look.rows}.svg").write_text(picture)
        await self.pilot.resize_terminal(*_SIZES[0][:2])
        await self.pilot.pause()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not MODEL.is_file(), reason="the model is not in the cache")
async def test_every_view_over_a_pretrained_model(
    cli: CommandLine, make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = cache_folder() / "models" / _ENTRY.name
    here.mkdir(parents=True)
    (here / MODEL.name).symlink_to(MODEL)
    assert cli("import", _ENTRY.name, "--name", "smol").code == 0
    small = ("--set=data.seq_len=64", "--set=training.batch_size=1", "--set=sampling.max_tokens=20")
    tuned = cli(
        *("train", "--no-ui", "--from", "smol", "--corpus", "sample", "--lora", "4"),
        *("--max-steps", "2", "--name", "tuned", "--set=training.eval_every=1", *small),
    )
    assert tuned.code == 0, tuned.err
    folder = Path(os.environ.get("SHAKESPEARE_TUI_PICTURES", tmp_path / "pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    app = make_app("checkpoints")
    async with app.run_test(size=_SIZES[0][:2], notifications=True) as pilot:
        tour = Tour(pilot, folder)
        await tour.until(lambda: is_read(app))
        await _checkpoints(tour)
        await _playground(tour)
        await _config_and_data(tour)
    lines = (f"{name} {seconds:.1f}\n" for name, seconds in tour.seconds.items())
    (folder / "seconds.txt").write_text("".join(lines))


async def _checkpoints(tour: Tour) -> None:
    await tour.take("checkpoints", "tuned", "weights from smollm2-135m")
    await tour.press("down", "space", "end", "space", "c")
    await tour.until(lambda: isinstance(tour.app.screen, WritingScreen))
    await tour.take("compare-texts", "smol@0", "tuned@")
    for name in ("compare-measures", "compare-curves", "compare-settings"):
        await tour.press("tab")
        await tour.take(name)
    await tour.press("escape", "home", "down", "l")
    await tour.until(lambda: isinstance(tour.app.screen, WritingScreen))
    await tour.take("timelapse")
    await tour.press("escape", "v")
    await tour.until(lambda: isinstance(tour.app.screen, WritingScreen))
    await tour.take("blind-test")
    await tour.press("escape", "home", "enter")
    await tour.take("train", "tuned", "replay")
    await tour.press("h")
    await tour.take("train-layers")


async def _playground(tour: Tour) -> None:
    await tour.press("4")
    place = tour.app.screen
    assert isinstance(place, PlaygroundScreen)
    await tour.until(lambda: place.picker.chosen)
    assert place.picker.chosen is not None and place.picker.chosen.startswith("tuned@")
    columns = place.columns
    columns.n_tokens = 40

    def is_written() -> bool:
        is_measured = all(column.measures is not None for column in columns.strip.columns)
        return is_measured and not columns.is_busy

    for key, name in (("g", "playground"), ("b", "before-and-after")):
        await tour.press(key)
        await tour.until(is_written)
        await tour.take(name, "tokens")
    assert [column.written_by[0].partition("@")[0] for column in columns.strip.columns] == [
        "smol",
        "tuned",
    ]
    await tour.press("s", *["right"] * 3)
    await tour.until(lambda: not place.surprise.is_asking)
    await tour.take("surprise", "nats per character")
    await tour.press("a")
    await tour.until(lambda: not place.surprise.is_asking)
    await tour.take("attention", "layer")
    await tour.press("w", "enter", "2")
    await tour.until(lambda: not place.surprise.is_asking)
    await tour.press("b")
    await tour.take("branches", "Branches")
    await tour.press("escape", "escape", "v", *"Hark, who goes there?", "ctrl+s")
    await tour.until(lambda: not place.surprise.is_asking)
    await tour.take("own-text")


async def _config_and_data(tour: Tour) -> None:
    await tour.press("5")
    await tour.until(lambda: is_read(tour.app))
    await tour.press("home", "down", "f")
    await tour.until(lambda: isinstance(tour.app.screen, ConfigScreen))
    await tour.until(lambda: config_place(tour.app).card.is_settled)
    await tour.take("config", "134.5M")
    await tour.press("z")
    await tour.take("config-sizes", "embedding")
    await tour.press("escape", "1")
    corpora = tour.app.screen.query_one(CorpusList)
    await tour.until(lambda: "sample" in [option.id for option in corpora.options])
    corpora.highlight("sample")
    await tour.take("data")
    names = ("characters", "zipf", "speakers", "text", "windows", "tokens")
    for name in names:
        await tour.press("right_square_bracket")
        if name == "text":
            await tour.take("text")
            await tour.press(*["right"] * 3)
            await tour.take("text-cursor", "token ")
            await tour.press("t")
            name = "text-ids"
        await tour.take(name)
