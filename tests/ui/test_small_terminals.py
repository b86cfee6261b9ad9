"""What matters first on a small terminal, and what is said on one that is too small."""

from pathlib import Path

import pytest
from lab_harness import MakeApp, press, until
from streams import finished_run, healthy_run, make_run

from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.config.form import ConfigForm
from shakespeare_tui.ui.lab_screen import SCREENS
from shakespeare_tui.ui.train.figures import RunNumbers
from shakespeare_tui.ui.train.screen import TrainScreen
from shakespeare_tui.ui.widgets.loss_chart import LossChart

TOO_SMALL = "Terminal too small"


def rows(app: LabApp) -> list[str]:
    return [strip.text for strip in app.screen._compositor.render_strips()]


async def open_run(app: LabApp, run: RunFolder) -> None:
    assert isinstance(app.screen, TrainScreen)
    app.screen.open_run(run)
    await until(lambda: app.screen.query_one(LossChart).history.last is not None)


@pytest.mark.parametrize("size", [(60, 16), (40, 12)])
async def test_the_chart_comes_first_in_train_also_of_a_finished_run(
    make_app: MakeApp, runs_root: Path, size: tuple[int, int]
) -> None:
    run = make_run(runs_root, "done-1", finished_run(600, run="done-1"))
    app = make_app("train")
    async with app.run_test(size=size) as pilot:
        await open_run(app, run)
        await until(lambda: app.screen.has_class("-ended"))
        await pilot.pause()
        chart, side = app.screen.query_one(LossChart), app.screen.query_one("#side")
        assert chart.region.height >= size[1] - 8 and side.region.height == 1
        await press(pilot, "tab")
        await pilot.pause()
        assert app.screen.query_one("#samples").region.height >= 3 - (size[1] < 16)


async def test_labels_and_values_never_touch(make_app: MakeApp, runs_root: Path) -> None:
    run = make_run(runs_root, "busy-1", healthy_run(400, run="busy-1"))
    app = make_app("train")
    async with app.run_test(size=(40, 24)) as pilot:
        await open_run(app, run)
        for columns in range(40, 150, 5):
            await pilot.resize_terminal(columns, 24)
            await pilot.pause()
            numbers = app.screen.query_one(RunNumbers)
            words = " ".join(row[: numbers.region.width] for row in rows(app)[2:4]).split()
            labels = {
                label for short, long, _ in numbers.figures for label in (short, *long.split())
            }
            values = {part for _, _, value in numbers.figures for part in value.split()}
            assert set(words) <= labels | values, columns
            assert "val" in words and len(set(words) & values) >= 3, columns


@pytest.mark.parametrize("size", [(40, 12), (60, 16)])
async def test_config_shows_settings(make_app: MakeApp, size: tuple[int, int]) -> None:
    app = make_app("config")
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        assert app.screen.query_one(ConfigForm).rows.region.height >= size[1] - 4
        assert "d_model" in "\n".join(rows(app)) and "n_layers" in "\n".join(rows(app))


async def test_the_keys_of_a_replay_are_in_the_last_line(
    make_app: MakeApp, runs_root: Path
) -> None:
    run = make_run(runs_root, "done-1", finished_run(600, run="done-1"))
    app = make_app("train")
    async with app.run_test(size=(80, 24)) as pilot:
        await open_run(app, run)
        await until(lambda: app.screen.has_class("-replay"))
        await pilot.pause()
        for words in ("space Play", ", . Step", "< > Speed", "b Back", "? Help"):
            assert words in rows(app)[-1]


async def test_below_the_least_size_it_says_so_and_nothing_is_lost(make_app: MakeApp) -> None:
    app = make_app(SCREENS[0])
    async with app.run_test(size=(40, 12)) as pilot:
        for number, place in enumerate(SCREENS, 1):
            await press(pilot, str(number))
            await until(lambda place=place: app.current_mode == place)  # type: ignore[misc]
            await pilot.resize_terminal(40, 12)
            await pilot.pause()
            assert TOO_SMALL not in " ".join(rows(app))
            focused = app.focused
            await pilot.resize_terminal(38, 10)
            await pilot.pause()
            words = " ".join(" ".join(rows(app)).split())
            assert "Terminal too small: 38x10, at least 40x12" in words
            assert "Data" not in words
            await pilot.resize_terminal(39, 40)
            await pilot.pause()
            assert "39x40" in " ".join(rows(app))
            await pilot.resize_terminal(80, 24)
            await pilot.pause()
            assert TOO_SMALL not in " ".join(rows(app)) and app.focused is focused


async def test_before_the_first_sample_its_step_is_named(
    make_app: MakeApp, runs_root: Path
) -> None:
    run = make_run(runs_root, "busy-1", healthy_run(40, run="busy-1"))
    app = make_app("train")
    with run.locked():
        async with app.run_test(size=(140, 45)):
            await open_run(app, run)
            every = app.screen.query_one(LossChart).history.config["sampling"]["every"]
            said = f"The first sample comes at step {every:,}."
            await until(lambda: said in " ".join(" ".join(rows(app)).split()))
