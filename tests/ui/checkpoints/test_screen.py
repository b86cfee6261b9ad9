"""The Checkpoints screen: what it lists, how it is narrowed, and where it leads."""

import json
import os
from pathlib import Path

from checkpoint_trees import add_checkpoint, add_run, add_run_with_losses
from lab_harness import NOW, MakeApp, press, shown, until
from streams import finished_run, make_run
from textual.pilot import Pilot
from trained_run import trained

from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.notes import read_notes
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.checkpoints.screen import CheckpointsScreen
from shakespeare_tui.ui.dialogs import ConfirmDialog

__all__ = ["trained"]


def place(app: LabApp) -> CheckpointsScreen:
    screen = app.screen_stack[0]
    assert isinstance(screen, CheckpointsScreen)
    return screen


def row_of(app: LabApp, word: str) -> list[str]:
    """The words of the first row that begins with a word, marks and cursor left out."""
    for line in shown(app).splitlines():
        words = line.replace("▶", " ").replace("●", " ").split()
        if words and words[0] == word:
            return words
    return []


def keys(app: LabApp) -> list[str]:
    """What the table shows, from top to bottom."""
    return [item.key for item in place(app).browser.shown]


async def opened(app: LabApp, pilot: Pilot[int], count: int = 1) -> None:
    """Wait until the settings of so many runs are read, too."""
    await until(lambda: len(place(app).browser.configs) == count)
    await pilot.pause()


async def type_filter(pilot: Pilot[int], text: str) -> None:
    await press(pilot, "slash", *text, "enter")
    await pilot.pause()


async def test_runs_and_their_checkpoints_are_listed_with_their_figures(
    make_app: MakeApp, trained: RunFolder
) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        row = row_of(app, "alpha")
        assert "finished" in row
        assert "sample" in row
        for checkpoint in trained.checkpoints():
            info = checkpoint.info
            row = row_of(app, f"{info.step:,}")
            assert info.loss.short in row
            assert f"{info.train_loss:.4f}" in row
            assert f"{2.718281828459045**info.loss.value:.2f}" in row
            assert ("best" in row) == (info.step == trained.index()["best"])
            assert ("last" in row) == (info.step == 30)


async def test_what_is_damaged_or_foreign_says_so_and_the_others_are_there(
    make_app: MakeApp, trained: RunFolder, runs_root: Path
) -> None:
    (runs_root / "broken").mkdir()
    (runs_root / "broken" / "run.json").write_text('{"format": 1, "name": "[b]"')
    (runs_root / "foreign").mkdir()
    (trained.checkpoint_folder(20) / "weights.safetensors").write_bytes(b"x")
    app = make_app("checkpoints")
    async with app.run_test(size=(160, 30), notifications=True) as pilot:
        await opened(app, pilot)
        assert "damaged:" in row_of(app, "broken")
        assert "run.json" in row_of(app, "foreign")
        assert "damaged:" in row_of(app, "20")
        assert "finished" in row_of(app, "alpha")
        screen = place(app)
        for key in ("broken@", "foreign@", "alpha@20"):
            assert screen.table.go_to(key)
            await press(pilot, "enter" if key != "alpha@20" else "g", "g", "t", "f", "y", "space")
            await pilot.pause()
            assert app.current_mode == "checkpoints"
        assert "there is no usable checkpoint on this line" in shown(app)
        assert screen.browser.marked == []


async def test_r_notices_what_was_damaged_meanwhile(
    make_app: MakeApp, trained: RunFolder, runs_root: Path
) -> None:
    """A byte of the weights, a config, a FIFO: a grey row each, with the reason, and no more."""
    for name in ("config", "fifo"):
        add_run_with_losses(runs_root, name, {10: 2.0})
    app = make_app("checkpoints")
    async with app.run_test(size=(160, 30), notifications=True) as pilot:
        await opened(app, pilot, 3)
        path = trained.checkpoint(20).weights_path
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
        (runs_root / "config" / "config.yaml").write_text("model: [")
        (runs_root / "fifo" / "run.json").unlink()
        os.mkfifo(runs_root / "fifo" / "run.json")
        await press(pilot, "r")
        await until(lambda: "SHA-256" in " ".join(row_of(app, "20")))
        assert "config.yaml:1:" in row_of(app, "config")
        assert "not a regular file" in " ".join(row_of(app, "fifo"))
        assert "finished" in row_of(app, "alpha")


async def test_enter_shows_the_run_in_train(make_app: MakeApp, runs_root: Path) -> None:
    make_run(runs_root, "quick-1", finished_run(500))
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        await press(pilot, "enter")
        await until(lambda: app.current_mode == "train" and "quick-1" in shown(app))


async def test_g_opens_the_playground_with_the_checkpoint(
    make_app: MakeApp, trained: RunFolder
) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        await press(pilot, "end", "g")
        await until(lambda: app.current_mode == "playground")
        first = trained.steps()[0]
        await until(lambda: app.screen.picker.chosen == f"alpha@{first}")  # type: ignore[attr-defined]


async def test_t_goes_on_training_and_f_forks(make_app: MakeApp, trained: RunFolder) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        await press(pilot, "f")
        await until(lambda: app.current_mode == "config")
        best = trained.index()["best"]
        await until(lambda: app.services.draft.origin.start_from == f"alpha@{best}")
        await press(pilot, "escape", "5")
        await press(pilot, "t")
        await until(lambda: app.current_mode == "train")
        await until(lambda: not app.services.training.is_alive, 60)
        app.follow_training()
        assert app.services.training.state == "finished"
        assert app.services.training.history.last_step == 30


async def test_a_new_checkpoint_appears_by_itself(make_app: MakeApp, trained: RunFolder) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        longer = ("training.max_steps=31", "checkpoints.keep_best=9")
        app.services.training.start(
            TrainingRequest(root=app.services.runs_root, resume="alpha", overrides=longer)
        )
        await until(lambda: not app.services.training.is_alive, 60)
        await until(lambda: row_of(app, "31") != [])


async def test_y_copies_how_the_checkpoint_is_called(make_app: MakeApp, trained: RunFolder) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        await press(pilot, "y")
        assert app.clipboard == f"alpha@{trained.index()['best']}"


async def test_the_age_is_told_by_the_lab_s_clock(make_app: MakeApp, trained: RunFolder) -> None:
    path = trained.checkpoint_folder(30) / "info.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"time": NOW - 90}))
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        assert "1m 30s" in " ".join(row_of(app, "30"))


async def test_sorting_filtering_and_marking(make_app: MakeApp, runs_root: Path) -> None:
    add_run_with_losses(runs_root, "a", {10: 2.0, 20: 1.5}, created=NOW - 9)
    add_run_with_losses(runs_root, "b", {10: 1.8, 20: 1.6}, created=NOW - 5, parent="a@20")
    app = make_app("checkpoints")
    async with app.run_test(size=(110, 30)) as pilot:
        await opened(app, pilot, 2)
        assert keys(app) == ["b@20", "b@10", "a@20", "a@10"]
        await press(pilot, "s")
        assert keys(app) == ["a@20", "b@20", "b@10", "a@10"]
        await press(pilot, "S")
        assert keys(app) == ["a@10", "b@10", "b@20", "a@20"]
        await type_filter(pilot, "val<1.9 run=b")
        assert keys(app) == ["b@10", "b@20"]
        assert "2 of 4" in shown(app)
        await press(pilot, "home", "space", "space")
        assert place(app).browser.marked == ["b@10", "b@20"]
        assert "2 marked" in shown(app)
        await press(pilot, "escape")
        await pilot.pause()
        assert keys(app) == ["a@10", "b@10", "b@20", "a@20"]
        assert place(app).browser.marked == ["b@10", "b@20"]
        await press(pilot, "u")
        assert place(app).browser.marked == []


async def test_a_wrong_query_is_told_as_one_types_and_the_terms_before_it_hold(
    make_app: MakeApp, runs_root: Path
) -> None:
    add_run_with_losses(runs_root, "a", {10: 2.0, 20: 1.5})
    app = make_app("checkpoints")
    async with app.run_test(size=(120, 30)) as pilot:
        await opened(app, pilot)
        await press(pilot, "slash", *"val<1.6")
        await pilot.pause()
        assert keys(app) == ["a@20"]
        await press(pilot, "space", *"d_modle=1")
        await pilot.pause()
        assert "did you mean d_model?" in shown(app)
        assert keys(app) == ["a@20"]


async def test_the_best_is_recommended_and_b_goes_there(make_app: MakeApp, runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0, 20: 1.5})
    add_checkpoint(run, 30, 1.4, train_loss=0.9)
    app = make_app("checkpoints")
    async with app.run_test(size=(120, 30)) as pilot:
        await opened(app, pilot)
        assert "a@30  lowest validation loss of 3" in shown(app)
        assert "overfitted" in shown(app)
        assert "without that: a@20" in shown(app)
        await press(pilot, "b")
        assert place(app).table.chosen is not None
        assert place(app).table.chosen.key == "a@30"  # type: ignore[union-attr]


async def test_renaming_and_annotating(make_app: MakeApp, runs_root: Path) -> None:
    add_run_with_losses(runs_root, "a", {10: 2.0}, created=NOW - 9)
    add_run_with_losses(runs_root, "b", {10: 1.8}, created=NOW - 5, parent="a@10")
    app = make_app("checkpoints")
    async with app.run_test(size=(120, 30)) as pilot:
        await opened(app, pilot, 2)
        place(app).table.go_to("a@10")
        await pilot.press("n", "home", "b", "delete", "enter")
        await pilot.pause()
        assert "already a run 'b'" in shown(app)
        await press(pilot, "end", "2", "enter")
        await until(lambda: "b2@10" in keys(app))
        assert "from b2@10" in shown(app)
        await press(pilot, "a", *"[b]good", "enter")
        await until(lambda: "“[b]good”" in shown(app))
        assert read_notes(runs_root / "b2").note == "[b]good"


async def test_deleting_is_confirmed_and_enter_keeps(make_app: MakeApp, runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0, 20: 1.5}, created=NOW - 9)
    add_run_with_losses(runs_root, "b", {10: 1.8}, created=NOW - 5, parent="a@10")
    app = make_app("checkpoints")
    async with app.run_test(size=(120, 30)) as pilot:
        await opened(app, pilot, 2)
        place(app).table.go_to("a@20")
        for answer in ("enter", "escape", "n"):
            await press(pilot, "d")
            await until(lambda: isinstance(app.screen, ConfirmDialog))
            await pilot.pause()
            assert "best and last" in shown(app)
            await press(pilot, answer)
            await pilot.pause()
            assert run.steps() == [10, 20]
        await press(pilot, "d", "y")
        await until(lambda: run.steps() == [10])
        await until(lambda: "a@20" not in keys(app))
        assert run.index() == {"best": 10, "last": 10}
        place(app).table.go_to("a@")
        await press(pilot, "d")
        await until(lambda: isinstance(app.screen, ConfirmDialog))
        await pilot.pause()
        assert "Started from it, and kept: b" in shown(app)
        await press(pilot, "y")
        await until(lambda: not run.path.exists())
        await until(lambda: keys(app) == ["b@10"])
        assert "from a@10 (gone)" in shown(app)


async def test_a_run_in_training_is_not_deleted(make_app: MakeApp, runs_root: Path) -> None:
    run = add_run_with_losses(runs_root, "a", {10: 2.0})
    app = make_app("checkpoints")
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await opened(app, pilot)
        with run.locked():
            await press(pilot, "d", "y")
            await until(lambda: "is being trained and cannot be deleted" in shown(app))
        assert run.steps() == [10]


async def test_any_size_and_ten_thousand_lines(make_app: MakeApp, runs_root: Path) -> None:
    run = add_run(runs_root, "a")
    for step in range(1, 301):
        add_checkpoint(run, step, 1 + 1 / step)
    app = make_app("checkpoints")
    async with app.run_test(size=(40, 10)) as pilot:
        await opened(app, pilot)
        screen = place(app)
        # The same figures thirty times over: ``bench catalog`` reads that many.
        screen.browser.items = screen.browser.items * 34
        screen.browser.refresh()
        screen.show_items()
        for size in ((40, 10), (20, 5), (200, 60)):
            await pilot.resize_terminal(*size)
            await press(pilot, "end", "pageup", "s", "home")
            assert len(screen.browser.shown) == 10200


async def test_the_list_waits_while_a_name_is_typed(make_app: MakeApp, runs_root: Path) -> None:
    add_run_with_losses(runs_root, "a", {10: 2.0, 20: 1.5})
    app = make_app("checkpoints")
    async with app.run_test(size=(120, 30)) as pilot:
        await opened(app, pilot)
        await press(pilot, "slash")
        for key in "val":
            await press(pilot, key)
            assert len(keys(app)) == 2
        await press(pilot, "<", "1", ".", "6")
        assert keys(app) == ["a@20"]
        await press(pilot, "space", *"zz")
        await pilot.pause()
        assert keys(app) == []


async def test_a_filter_that_fits_nothing_says_so_in_words(
    make_app: MakeApp, trained: RunFolder
) -> None:
    app = make_app("checkpoints")
    async with app.run_test(size=(100, 30)) as pilot:
        await opened(app, pilot)
        await type_filter(pilot, "val<0.001")
        await until(lambda: "No checkpoint matches val<0.001: empty the filter" in shown(app))
        await press(pilot, "escape")
        await until(lambda: "No checkpoint matches" not in shown(app) and keys(app))


async def test_what_the_header_calls_a_column_filters_by_it(
    make_app: MakeApp, runs_root: Path
) -> None:
    add_run_with_losses(runs_root, "small", {500: 2.5, 600: 2.0})
    app = make_app("checkpoints")
    async with app.run_test(size=(160, 30)) as pilot:
        await opened(app, pilot)
        header = next(line for line in shown(app).splitlines() if "Perpl." in line)
        for title, value in (("Val", "2.25"), ("Perpl.", "9"), ("Step", "550")):
            assert title in header or title == "Step"
            sign = ">" if title == "Step" else "<"
            await type_filter(pilot, f"{title}{sign}{value}")
            assert keys(app) == ["small@600"], title
            await press(pilot, "escape")
        await type_filter(pilot, "Val<2.25 or Checkpoint:@500")
        assert keys(app) == ["small@600", "small@500"]
