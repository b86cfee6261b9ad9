"""Pictures of the Train screen: empty, busy, finished and failed."""

from collections.abc import Awaitable, Callable, Iterable

import pytest
from lab_harness import MakeApp, ScriptedTrainer, press, until
from pictures import LOOKS, TOKEN_LOOKS, Look, Pictured
from streams import busy_run, failed_run, finished_run, in_byte_pairs, run_with_ill_layers
from textual.pilot import Pilot

from shakespeare_tui.runs.events import Event
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.engine.channel import Ended
from shakespeare_tui.ui.engine.training import TrainingController
from shakespeare_tui.ui.widgets.loss_chart import LossChart

Taking = Callable[..., Awaitable[None]]


@pytest.fixture
def take(
    pictured: Pictured,
    make_app: MakeApp,
    scripted: Callable[..., tuple[TrainingController, ScriptedTrainer]],
) -> Taking:
    """``await take(stream, *keys, is_over=…, error=…)``: the screen looks as it did."""

    async def pictures(
        stream: Iterable[Event] | None = None,
        *keys: str,
        is_over: bool = False,
        error: str = "",
        looks: Iterable[Look] = LOOKS,
    ) -> None:
        training, trainer = scripted(stream or ())
        trainer.ending = Ended(error=error)
        app = make_app("train", training=training)
        app.services.memory_bytes = lambda: 812_000_000

        async def prepare(pilot: Pilot[int]) -> None:
            if stream is not None:
                if is_over:
                    trainer.release()
                training.start(TrainingRequest(root=app.services.runs_root, resume="quick-1"))
                chart = app.screen.query_one(LossChart)
                await until(lambda: chart.history.last is not None)
                await until(lambda: training.is_active is not is_over)
                await pilot.pause()
                chart.redraw()
            await press(pilot, *keys)
            app.clear_notifications()

        await pictured(app, prepare, looks)

    return pictures


async def test_empty(take: Taking) -> None:
    await take()


async def test_busy(take: Taking) -> None:
    await take(busy_run(1100), "left", "left", "left", "left")


async def test_layers(take: Taking) -> None:
    await take(run_with_ill_layers(1100), "h", "left", "down", "down", "left")


async def test_layers_of_a_deep_model(take: Taking) -> None:
    await take(run_with_ill_layers(1100, blocks=12), "h", "u")


async def test_finished(take: Taking) -> None:
    await take(finished_run(2000), is_over=True)


async def test_finished_by_byte_pairs(take: Taking) -> None:
    stream = in_byte_pairs(finished_run(2000), pretrained="smollm2-135m")
    await take(stream, is_over=True, looks=TOKEN_LOOKS)


async def test_failed(take: Taking) -> None:
    await take(failed_run(600), is_over=True, error="training diverged: loss nan")
