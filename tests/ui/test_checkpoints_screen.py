"""The Checkpoints place: what it lists and where it leads."""

import json
from pathlib import Path

from lab_harness import NOW, MakeApp, shown, until
from streams import finished_run, make_run
from textual.pilot import Pilot
from trained_run import trained

from shakespeare_tui.core.runs import RunFolder
from shakespeare_tui.ui.app import LabApp

__all__ = ["trained"]


def row_of(app: LabApp, word: str) -> list[str]:
    """The words of the first row that begins with a word, frames left out."""
    for line in shown(app).splitlines():
        words = line.replace("│", " ").split()
        if words and words[0] == word:
            return words
    return []


async def opened(app: LabApp, pilot: Pilot[int], word: str) -> None:
    await until(lambda: word in shown(app))
    await pilot.pause()


async def test_runs_and_their_checkpoints_are_listed_with_their_figures(
    make_app: MakeApp, trained: RunFolder
) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot, "alpha")
        best = trained.checkpoint(trained.index()["best"]).info
        assert best.val_loss is not None
        row = row_of(app, "alpha")
        assert f"{best.val_loss:.4f}" in row
        assert "30" in row
        assert "completed" in row
        assert "sample" in row
        for checkpoint in trained.checkpoints():
            info = checkpoint.info
            row = row_of(app, f"{info.step:,}")
            assert f"{info.val_loss:.4f}" in row
            assert ("best" in row) == (info.step == best.step)
            assert ("last" in row) == (info.step == 30)


async def test_a_damaged_run_says_so_and_the_others_are_there(
    make_app: MakeApp, trained: RunFolder, runs_root: Path
) -> None:
    (runs_root / "broken").mkdir()
    (runs_root / "broken" / "run.json").write_text('{"format": 1, "name": "[b]"')
    app = make_app("checkpoints")
    async with app.run_test(size=(120, 30)) as pilot:
        await opened(app, pilot, "broken")
        assert "damaged" in row_of(app, "broken")
        assert "completed" in row_of(app, "alpha")
        await pilot.press("home")
        await pilot.pause()
        assert "run.json is damaged" in " ".join(shown(app).split())
        await pilot.press("g")
        await pilot.pause()
        assert app.current_mode == "checkpoints"


async def test_enter_shows_the_run_in_train(make_app: MakeApp, runs_root: Path) -> None:
    make_run(runs_root, "quick-1", finished_run(500))
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot, "quick-1")
        await pilot.press("enter")
        await until(lambda: app.current_mode == "train" and "quick-1" in shown(app))


async def test_g_opens_the_playground_with_the_checkpoint(
    make_app: MakeApp, trained: RunFolder
) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot, "alpha")
        await pilot.press("tab", "end", "g")
        await until(lambda: app.current_mode == "playground")
        first = trained.steps()[0]
        await until(lambda: app.screen.chosen == f"alpha@{first}")  # type: ignore[attr-defined]


async def test_t_goes_on_training_and_f_forks(make_app: MakeApp, trained: RunFolder) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot, "alpha")
        await pilot.press("f")
        await until(lambda: app.current_mode == "config")
        best = trained.index()["best"]
        await until(lambda: app.services.draft.start_from == f"alpha@{best}")
        await pilot.press("escape", "5")
        await opened(app, pilot, "alpha")
        await pilot.press("t")
        await until(lambda: app.current_mode == "train")
        await until(lambda: not app.services.training.is_alive, 60)
        app.follow_training()
        assert app.services.training.state == "finished"
        assert app.services.training.history.last_step == 30


async def test_a_new_checkpoint_appears_by_itself(make_app: MakeApp, trained: RunFolder) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot, "alpha")
        app.services.training.start(
            resume="alpha", overrides=("training.max_steps=31", "checkpoints.keep_best=9")
        )
        await until(lambda: not app.services.training.is_alive, 60)
        await until(lambda: row_of(app, "31") != [])


async def test_y_copies_how_the_checkpoint_is_called(make_app: MakeApp, trained: RunFolder) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot, "alpha")
        await pilot.press("y")
        assert app.clipboard == f"alpha@{trained.index()['best']}"


async def test_the_age_is_told_by_the_lab_s_clock(make_app: MakeApp, trained: RunFolder) -> None:
    path = trained.checkpoint_folder(30) / "info.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"time": NOW - 90}))
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot, "alpha")
        assert "1m 30s" in " ".join(row_of(app, "30"))
