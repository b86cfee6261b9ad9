"""The Experiments screen: what it lists, and what each key does."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from lab_harness import MakeApp, press, shown, until
from listed_experiments import experiment, fail, in_training, make_trial
from streams import finished_run, step_event, write_log
from textual.pilot import Pilot

from shakespeare_tui.experiments.folder import ExperimentFolder, list_experiments
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.children import Children
from shakespeare_tui.ui.experiments.plan import PlanScreen
from shakespeare_tui.ui.experiments.screen import ExperimentsScreen
from shakespeare_tui.ui.experiments.sensitivity import SensitivityChart
from shakespeare_tui.ui.widgets.ask_bar import AskBar
from shakespeare_tui.ui.widgets.loss_chart import LossChart

SIZE = (120, 40)


def place(app: LabApp) -> ExperimentsScreen:
    screen = app.get_screen_stack("experiments")[0]
    assert isinstance(screen, ExperimentsScreen)
    return screen


def rows(app: LabApp) -> list[str]:
    """The runs of the table from top to bottom."""
    return [line.key for line in place(app).query_one("#runs").lines]  # type: ignore[attr-defined]


def row_of(app: LabApp, word: str) -> list[str]:
    """The words of the first row that has a word, marks and cursor left out."""
    for line in shown(app).splitlines():
        words = line.replace("▶", " ").replace("●", " ").replace("○", " ").split()
        if word in words[:2]:
            return words
    return []


async def opened(app: LabApp, pilot: Pilot[int], count: int = 6) -> None:
    """Open the experiment, and wait until its runs are there."""
    await until(lambda: "widths" in shown(app))
    await press(pilot, "enter")
    await until(lambda: len(rows(app)) == count)
    await pilot.pause()


async def test_enter_opens_an_experiment_and_escape_leads_back(
    make_app: MakeApp, widths: ExperimentFolder, runs_root: Path
) -> None:
    broken = widths.path.parent / "broken"
    broken.mkdir()
    (broken / "experiment.json").write_text("{")
    app = make_app("experiments")
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until(lambda: "4/6" in row_of(app, "widths"))
        assert "stopped" in row_of(app, "widths")
        assert "damaged:" in shown(app)
        await until(lambda: app.focused is not None)
        assert place(app).query_one("#experiments").go_to("widths")  # type: ignore[attr-defined]
        await opened(app, pilot)
        row = row_of(app, "widths-3")
        best = RunFolder(runs_root / "widths-3").best()
        assert best is not None and row[:2] == ["★", "widths-3"]
        assert {"64", "0.001", f"{best.info.loss.value:.4f}"} <= set(row)
        assert row_of(app, "widths-6")[1] == "·"  # it waits
        assert "best on tiny_shakespeare: d_model=64 learning_rate=0.001" in shown(app)
        assert "★ widths-3 has" in shown(app)
        await press(pilot, "escape")
        await until(lambda: "4/6" in row_of(app, "widths"))


async def test_any_column_sorts_by_key_and_by_click(
    make_app: MakeApp, widths: ExperimentFolder
) -> None:
    app = make_app("experiments")
    async with app.run_test(size=SIZE) as pilot:
        await opened(app, pilot)
        await press(pilot, "o", "O")
        assert rows(app) == [f"widths-{n}" for n in (6, 5, 4, 3, 2, 1)]
        await press(pilot, "o", "o", "o", "o")  # state, width, rate, loss
        assert "Val▲" in shown(app)
        assert rows(app)[:4] == ["widths-3", "widths-4", "widths-1", "widths-2"]
        head = next(line for line in shown(app).splitlines() if "d_model" in line)
        y = shown(app).splitlines().index(head)
        await pilot.click(offset=(head.index("d_model") + 2, y))
        await pilot.pause()
        assert "d_model▲" in shown(app) and rows(app)[0] in ("widths-1", "widths-2")
        for _ in range(20):
            await press(pilot, "right")
        assert "Time" in shown(app) and "d_model▲" not in shown(app)


async def test_space_draws_a_curve_and_u_all_or_none(
    make_app: MakeApp, widths: ExperimentFolder
) -> None:
    app = make_app("experiments")
    async with app.run_test(size=SIZE) as pilot:
        await opened(app, pilot)
        chart = app.screen.query_one(LossChart)
        await until(lambda: set(chart.overlays) == {"widths-2", "widths-3", "widths-4"})
        colour = chart.colour_of("widths-3")
        await press(pilot, "down", "space")  # widths-2 goes, the cursor is on widths-3
        assert set(chart.overlays) == {"widths-1", "widths-4"}
        assert chart.history.started is not None and chart.history.started.run == "widths-3"
        assert chart.colour_of("widths-3") == colour
        await press(pilot, "u", "u")
        assert set(chart.overlays) == set()
        await press(pilot, "u")
        assert set(chart.overlays) == {"widths-1", "widths-2", "widths-4"}


async def test_the_table_follows_a_run_in_training(
    make_app: MakeApp, widths: ExperimentFolder, runs_root: Path
) -> None:
    live = in_training(widths, runs_root, "widths-5", 300)
    fail(widths, runs_root, "widths-6")
    app = make_app("experiments")
    with live.locked():
        async with app.run_test(size=SIZE) as pilot:
            await opened(app, pilot)
            assert "50%" in row_of(app, "widths-5")
            assert "1 in training" in shown(app)
            write_log(live.events_path, [step_event(step) for step in range(301, 451)])
            await until(lambda: "75%" in row_of(app, "widths-5"))
            assert app.screen.query_one(LossChart).last_step == 600
            await press(pilot, "end")
            await until(lambda: "no memory is left" in shown(app))


async def test_enter_shows_a_run_in_train_and_c_its_config(
    make_app: MakeApp, widths: ExperimentFolder
) -> None:
    app = make_app("experiments")
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await opened(app, pilot)
        await press(pilot, "end", "enter")
        assert "waits for its turn" in shown(app)
        await press(pilot, "c")
        await until(lambda: app.current_mode == "config")
        assert app.services.draft.runnable.config.model.d_model == 128
        await press(pilot, "6", "home", "enter")
        await until(lambda: app.current_mode == "train" and "widths-1" in shown(app))


async def test_s_trains_what_is_left_and_stops_it(
    make_app: MakeApp, widths: ExperimentFolder, runs_root: Path, executor: Any
) -> None:
    app = make_app("experiments", children=Children(executor))
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await opened(app, pilot)
        await press(pilot, "J", "backspace", "2", "enter")
        await press(pilot, "s")
        command = ["experiment", "run", "widths", "--json", "--retry", "--jobs", "2"]
        assert executor.started == [command]
        assert executor.environments[0]["SHAKESPEARE_TUI_RUNS"] == str(runs_root)
        live = in_training(widths, runs_root, "widths-5")
        with live.locked():
            await until(lambda: "1 in training" in shown(app))
            before = widths.stop_mark()
            await press(pilot, "s", "y")
            await until(lambda: widths.stop_mark() != before)
            await until(live.commands_path.exists)
            assert "Stop" in live.commands_path.read_text()
        executor.processes[0].code = 130
        await until(lambda: "widths is stopped and saved" in shown(app))
        await until(lambda: "1 in training" not in shown(app))
        await press(pilot, "s")
        executor.processes[1].code = 0
        await until(lambda: "widths is finished" in shown(app))


async def test_n_adds_a_run_like_the_one_under_the_cursor(
    make_app: MakeApp, widths: ExperimentFolder
) -> None:
    app = make_app("experiments")
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await opened(app, pilot)
        await press(pilot, "n")
        field = app.screen.query_one("AskBar Input")
        seed = widths.trial("widths-1").seed
        assert field.value == f"d_model=32 learning_rate=0.001 seed={seed}"  # type: ignore[attr-defined]
        await press(pilot, "enter")
        await until(lambda: "has that run already: widths-1" in shown(app))
        await press(pilot, "home", *["delete"] * len("d_model=32"), *"d_model=96", "enter")
        await until(lambda: len(rows(app)) == 7)
        trial = widths.trial("widths-7")
        assert widths.config(trial).model.d_model == 96
        assert not app.screen.query_one(AskBar).display


async def test_r_writes_the_report_in_a_process(
    make_app: MakeApp, widths: ExperimentFolder, executor: Any
) -> None:
    app = make_app("experiments", children=Children(executor))
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await opened(app, pilot)
        await press(pilot, "r")
        assert executor.started == [["report", "widths", "--output", "reports/widths"]]
        await press(pilot, "r")
        assert len(executor.started) == 1 and "is being written" in shown(app)
        widths.log_path("report").write_text("error: a report takes packages\n")
        executor.processes[0].code = 2
        await until(lambda: "widths: a report takes packages" in shown(app))
        await press(pilot, "r")
        executor.processes[1].code = 0
        await until(lambda: "wrote reports/widths/report.html" in shown(app))


async def test_what_a_setting_does_by_arrows(make_app: MakeApp, widths: ExperimentFolder) -> None:
    app = make_app("experiments")
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(app, pilot)
        await press(pilot, "tab", "tab")
        chart = app.screen.query_one(SensitivityChart)
        await until(lambda: "val loss by d_model" in shown(app))
        found = chart.found
        assert found is not None and found.values == (32, 64)
        # By hand: the lines join what differs in the width alone.
        losses = {p.label: p.figure for p in found.points}
        assert [[p.figure for p in line] for _, line in found.lines] == [
            [losses[f"d_model={width} learning_rate={rate}"] for width in (32, 64)]
            for rate in ("0.001", "0.003")
        ]
        await press(pilot, "right")
        assert "val loss by learning_rate" in shown(app)
        await press(pilot, "down", "down")
        assert "perplexity by learning_rate" in shown(app)
        await press(pilot, "m")
        assert chart.size.height > 10
        await press(pilot, "m", "escape")
        assert app.focused is app.screen.query_one("#runs")


async def test_an_experiment_that_ships_is_planned_changed_and_begun(
    make_app: MakeApp, executor: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Speeds:
        def measure_speed(self, config: Any, cancelled: Any, vocab_size: int) -> tuple[float, str]:
            return 1000.0, "CPU"

    monkeypatch.chdir(tmp_path)
    app = make_app("experiments", children=Children(executor), engine=Speeds())
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until(lambda: "There are no experiments yet" in shown(app))
        await press(pilot, "n", *"sensitivity", "enter")
        screen = app.screen
        assert isinstance(screen, PlanScreen)
        await until(lambda: "on this machine" in shown(app))
        await press(pilot, "b", *["backspace"] * 20, *"40 steps", "enter")
        await press(pilot, "l", "3", "enter")
        await until(lambda: "3 runs, about" in shown(app))
        assert screen.plan is not None
        steps = [estimate.figures.steps for estimate in screen.plan.estimates]
        assert steps == [40, 40, 40]
        # Tokens by 1,000 a second, and what evaluations take besides.
        tokens = sum(estimate.figures.tokens or 0 for estimate in screen.plan.estimates)
        assert (screen.plan.seconds or 0) >= tokens / 1000
        await press(pilot, "b", *["backspace"] * 20, *"soon", "enter")
        assert "write 600 steps, 3m, or 1e6 tokens" in shown(app)
        await press(pilot, "escape")
        await press(pilot, "s")
        await until(lambda: len(rows(app)) == 3)
        (folder,) = list_experiments(app.services.experiments_root)
        assert folder.name == "sensitivity"
        assert [folder.config(t).training.max_steps for t in folder.trials(folder.record())] == [
            *(40, 40, 40)
        ]
        assert executor.started[0][:3] == ["experiment", "run", "sensitivity"]


async def test_an_experiment_that_the_command_line_began_is_shown_and_trained(
    make_app: MakeApp, widths: ExperimentFolder, executor: Any
) -> None:
    app = make_app("experiments", children=Children(executor))
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        app.remember("experiments.jobs", 2)
        app.train_experiment(widths)
        await until(lambda: len(rows(app)) == 6)
        opened = place(app).browser.opened
        assert opened is not None and opened.name == "widths"
        # One run at a time has its time by itself.
        command = ["experiment", "run", "widths", "--json", "--retry", "--jobs", "1"]
        assert executor.started == [command]
        children = app.services.children
        assert (children.jobs_of("widths"), children.has_failed("widths")) == (1, False)
        executor.processes[0].code = 1
        await until(lambda: "runs failed" in shown(app))
        assert (children.jobs_of("widths"), children.has_failed("widths")) == (None, True)
        # What was tried again, and finished, is no failure any more.
        await press(pilot, "s")
        executor.processes[1].code = 0
        await until(lambda: "widths is finished" in shown(app))
        assert not children.has_failed("widths")


async def test_a_student_that_begins_reads_its_teachers(
    make_app: MakeApp, tmp_path: Path, executor: Any
) -> None:
    text = "base: quick\narms: {teacher: {seeds: [1, 2]}, student: {distill: teacher}}\n"
    folder = experiment(tmp_path, name="class", text=text, trained=1)
    fail(folder, tmp_path / "runs", "class-2")
    app = make_app("experiments", children=Children(executor))
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        app.train_experiment(folder)
        await until(lambda: "… starting" in shown(app))
        # A teacher that failed is tried again.
        await pilot.pause(1.2)
        assert "reading the teachers" not in shown(app)
        shutil.rmtree(tmp_path / "runs" / "class-2")
        make_trial(folder, tmp_path / "runs", "class-2", list(finished_run(600, run="class-2")))
        await until(lambda: "… reading the teachers" in shown(app))
