"""Settings with several values become an experiment, and configs wait in a queue."""

from typing import Any

from lab_harness import MakeApp, press, shown, until

from shakespeare_tui.experiments.folder import ExperimentFolder
from shakespeare_tui.experiments.plan import Changes, read_definition
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.config.form import ConfigForm

TALL = (120, 60)


class Speeds:
    """The speed of any config."""

    def measure_speed(self, config: Any, cancelled: Any, vocab_size: int) -> tuple[float, str]:
        return 1000.0, "CPU"


def go_to(app: LabApp, path: str) -> None:
    app.screen.query_one(ConfigForm).rows.move_to(path)


async def test_marked_settings_become_an_experiment_whose_runs_are_shown(
    make_app: MakeApp,
) -> None:
    app = make_app("config", engine=Speeds())
    async with app.run_test(size=TALL, notifications=True) as pilot:
        await until(lambda: app.focused is not None)
        await press(pilot, "x")
        assert "v gives a setting several values" in shown(app)
        go_to(app, "model.d_model")
        await press(pilot, "v", *["backspace"] * 5, *"64", "enter")
        assert "write two values or more" in shown(app)
        await press(pilot, *", 128", "enter")
        go_to(app, "training.optimizer")
        await press(pilot, "v", "enter")  # all choices
        assert "≡ 2 varied (x)" in shown(app) and "64, 128" in shown(app)
        go_to(app, "training.max_steps")
        await press(pilot, "v", *"00, 5", "enter")
        assert "is the same for all runs" in shown(app)
        await press(pilot, "escape")
        await press(pilot, "x", "enter")
        await until(lambda: app.current_mode == "experiments")
        root = app.services.experiments_root
        file = root / "quick-d-model-optimizer.yaml"
        runs = read_definition(str(file), Changes()).runs()
        widths = {run.config.model.d_model for run in runs}
        optimizers = {run.config.training.optimizer for run in runs}
        assert widths == {64, 128} and len(runs) == 2 * len(optimizers) > 2
        await until(lambda: f"{len(runs)} runs, about" in shown(app))
        assert not (root / "quick-d-model-optimizer").exists()
        await press(pilot, "escape")
        await press(pilot, "2")
        go_to(app, "model.d_model")
        await press(pilot, "v", *["backspace"] * 10, "enter")
        assert "≡ 1 varied (x)" in shown(app)


async def test_t_queues_the_config_as_it_is(make_app: MakeApp) -> None:
    app = make_app("config")
    async with app.run_test(size=TALL, notifications=True) as pilot:
        await until(lambda: app.focused is not None)
        await press(pilot, "t", *["backspace"] * 10, *"first", "enter")
        await until(lambda: "queue-1 waits in the queue" in shown(app))
        go_to(app, "model.n_layers")
        await press(pilot, "enter", *["backspace"] * 3, "2", "enter")
        await press(pilot, "t", "enter")
        await until(lambda: "queue-2 waits in the queue" in shown(app))
        folder = ExperimentFolder(app.services.experiments_root / "queue")
        first, second = folder.trials(folder.record())
        assert (first.variant.label, second.variant.label) == ("first", "quick")
        assert folder.config(second) == app.services.draft.runnable.config
        await press(pilot, "t", "enter")
        assert "has that run already: queue-2" in shown(app)
