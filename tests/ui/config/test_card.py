"""The pre-flight card: figures that follow the form, speed, past runs, and advice."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from config_harness import add_run, edit_row, place, row
from lab_harness import MakeApp, ScriptedTrainer, press, shown, until

from shakespeare_tui.config.estimate.figures import CorpusFigures
from shakespeare_tui.config.load import load_config
from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.tokens import TokenSettings
from shakespeare_tui.errors import CancelledError, RunFailedError
from shakespeare_tui.formatting import format_count
from shakespeare_tui.models.parameters import count_parameters
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.training import TrainingController
from shakespeare_tui.ui.services import Engine

Scripted = Callable[..., tuple[TrainingController, ScriptedTrainer]]
TALL = (100, 40)
QUICK_PARAMETERS = format_count(count_parameters(load_config("quick").model, 65))


def card_text(app: LabApp) -> str:
    return "\n".join(line.rpartition("│")[2] for line in shown(app).splitlines())


class Speedometer(Engine):
    """Measures no speed but the one it is given; each measurement waits to be let go."""

    def __init__(self, tokens_per_second: float = 20_000.0) -> None:
        self.speed = tokens_per_second
        self.failure: Exception | None = None
        self.asked: list[Config] = []
        self.cancelled: list[Config] = []
        self.go = threading.Event()

    def measure_speed(
        self, config: Config, cancelled: Callable[[], bool], vocab_size: int
    ) -> tuple[float, str]:
        self.asked.append(config)
        while not self.go.wait(0.005):
            if cancelled():
                self.cancelled.append(config)
                raise CancelledError("called off")
        if self.failure:
            raise self.failure
        return self.speed, "cpu (2 threads)"


@pytest.fixture
def speedometer() -> Speedometer:
    return Speedometer()


async def test_parameters_follow_every_key_typed(make_app: MakeApp) -> None:
    app = make_app("config")
    async with app.run_test(size=TALL) as pilot:
        await edit_row(pilot, "n_layers", "1", done=False)
        for typed, layers in (("", 1), ("2", 12)):
            await press(pilot, *typed)
            config = load_config("quick", [f"model.n_layers={layers}"])
            assert format_count(count_parameters(config.model, 65)) in card_text(app)


async def test_a_mistake_leaves_the_last_figures_and_says_so(make_app: MakeApp) -> None:
    app = make_app("config")
    async with app.run_test(size=TALL) as pilot:
        await edit_row(pilot, "n_layers", "0")
        text = card_text(app)
        assert "Pre-flight, last valid state" in text
        assert QUICK_PARAMETERS in text


async def test_m_measures_the_speed_and_the_rest_follows(
    make_app: MakeApp, speedometer: Speedometer
) -> None:
    app = make_app("config", engine=speedometer)
    async with app.run_test(size=TALL) as pilot:
        await press(pilot, "m")
        assert "measuring" in card_text(app)
        speedometer.go.set()
        await until(lambda: "20,000 tok/s" in card_text(app))
        figures = place(app).card.figures
        assert figures is not None
        minutes = load_config("quick").training.minutes
        assert minutes is not None
        # Evaluations, and the exact one at the end, lie inside the budget.
        assert 0.9 < figures.tokens / (20_000 * minutes * 60) < 1 / 1.05
        # Of another shape the speed is an estimate, and says so.
        await edit_row(pilot, "n_layers", "8")
        assert "≈" in card_text(app)
        await press(pilot, "u")
        assert "≈" not in card_text(app)


async def test_an_edit_calls_the_measurement_of_another_config_off(
    make_app: MakeApp, speedometer: Speedometer
) -> None:
    app = make_app("config", engine=speedometer)
    async with app.run_test(size=TALL) as pilot:
        await press(pilot, "m")
        await edit_row(pilot, "n_layers", "8")
        await until(lambda: speedometer.cancelled)
        assert "m measures it" in card_text(app)


async def test_a_measurement_that_fails_says_why(
    make_app: MakeApp, speedometer: Speedometer
) -> None:
    speedometer.failure = RunFailedError("memory ran out; lower training.batch_size")
    speedometer.go.set()
    app = make_app("config", engine=speedometer)
    async with app.run_test(size=TALL) as pilot:
        await press(pilot, "m")
        await until(lambda: "memory ran out" in card_text(app))
        assert "m measures it" in card_text(app)


async def test_speed_is_measured_unasked_after_a_pause_and_only_once(
    make_app: MakeApp, speedometer: Speedometer
) -> None:
    import torch  # noqa: F401

    app = make_app("config", engine=speedometer, speed_after_seconds=0.05)
    async with app.run_test(size=TALL) as pilot:
        await pilot.pause(0.2)
        assert not speedometer.asked
        app.services.preload = True
        await until(lambda: speedometer.asked)
        speedometer.go.set()
        await until(lambda: "20,000 tok/s" in card_text(app))
        await pilot.pause(0.2)
        assert len(speedometer.asked) == 1


async def test_nothing_is_measured_unasked_while_a_run_is_trained(
    make_app: MakeApp, speedometer: Speedometer, scripted: Scripted
) -> None:
    import torch  # noqa: F401

    training, _ = scripted()
    app = make_app("config", engine=speedometer, speed_after_seconds=0.05, training=training)
    async with app.run_test(size=TALL, notifications=True) as pilot:
        training.start(TrainingRequest(root=app.services.runs_root, config=load_config("tiny")))
        app.services.preload = True
        await pilot.pause(0.3)
        assert not speedometer.asked
        await press(pilot, "m")
        assert "its speed is in Train" in " ".join(shown(app).split())
        assert not speedometer.asked


async def test_the_nearest_past_run_is_named_with_its_loss(
    make_app: MakeApp, runs_root: Path
) -> None:
    add_run(runs_root, "tiny-1", load_config("tiny"), 1.93)
    add_run(runs_root, "quick-4", load_config("quick", ["training.batch_size=8"]), 1.6123)
    app = make_app("config")
    async with app.run_test(size=TALL):
        await until(lambda: "quick-4" in card_text(app))
        text = card_text(app)
        assert "1.6123" in text
        assert "quick-4, 1 setting differs" in text


async def test_the_corpus_is_measured_and_a_missing_one_is_told(
    make_app: MakeApp, tmp_path: Path
) -> None:
    path = tmp_path / "own.txt"
    path.write_text("0123456789abcdef\n" * 5000)
    app = make_app("config")
    async with app.run_test(size=TALL) as pilot:
        await edit_row(pilot, "corpus", str(path))
        config = load_config("quick")
        expected = format_count(count_parameters(config.model, 17))
        await until(lambda: expected in card_text(app))
        await edit_row(pilot, "corpus", str(tmp_path / "absent.txt"))
        await until(lambda: "no corpus, file or folder" in card_text(app).replace("\n", " "))


async def test_advice_is_shown_and_followed_by_key(
    make_app: MakeApp, speedometer: Speedometer
) -> None:
    speedometer.speed = 4780.0
    speedometer.go.set()
    app = make_app("config", engine=speedometer)
    async with app.run_test(size=(140, 45)) as pilot:
        await press(pilot, "p", *"shakespeare", "enter")
        await edit_row(pilot, "dropout", "0")
        await press(pilot, "m")
        await until(lambda: "press F to load the quick preset" in " ".join(card_text(app).split()))
        text = " ".join(card_text(app).split())
        assert "10.65M parameters on" in text
        assert "may be memorised; dropout 0.2 makes that harder" in text
        await press(pilot, "a", *"dropout", "enter")
        assert " 0.2 " in row(app, "dropout")
        await press(pilot, "F")
        assert "quick preset" in shown(app)


async def test_an_empty_weight_decay_is_by_the_corpus(make_app: MakeApp) -> None:
    app = make_app("config")
    async with app.run_test(size=TALL) as pilot:
        await press(pilot, "p", *"mile", "enter")
        await until(lambda: "mile preset" in shown(app))
        await press(pilot, "slash", *"weight_decay", "enter")
        assert "(by the corpus)" in row(app, "weight_decay")
        await press(pilot, "enter", *"0.2", "enter")
        assert " 0.2 " in row(app, "weight_decay")


async def test_answers_for_a_config_no_longer_shown_do_no_harm(make_app: MakeApp) -> None:
    app = make_app("config")
    async with app.run_test(size=TALL) as pilot:
        card = place(app).card
        card.take_speed(load_config("base"), 100.0, "cpu (2 threads)")
        card.take_corpus(("elsewhere", "", TokenSettings()), CorpusFigures(vocab_size=999))
        await pilot.pause()
        assert "≈" in card_text(app)
        assert QUICK_PARAMETERS in card_text(app)


async def test_m_measures_a_real_step(make_app: MakeApp) -> None:
    app = make_app("config")
    async with app.run_test(size=TALL) as pilot:
        await press(pilot, "p", *"tiny", "enter")
        await until(lambda: "tiny preset" in shown(app))
        await press(pilot, "m")
        await until(lambda: (f := place(app).card.figures) and f.tokens_per_second, seconds=60)
        figures = place(app).card.figures
        assert figures is not None
        assert figures.tokens_per_second is not None
        assert 100 < figures.tokens_per_second < 1e9
