"""Pictures of the Train place: empty, busy, finished and failed, in two sizes and two themes."""

from collections.abc import Callable, Iterable

import pytest
from lab_harness import MakeApp, ScriptedTrainer, until
from streams import busy_run, failed_run, finished_run
from textual.pilot import Pilot

from shakespeare_tui.core.events import Event
from shakespeare_tui.ui.screens.train import TrainScreen
from shakespeare_tui.ui.training import TrainingController
from shakespeare_tui.ui.widgets.loss_chart import LossChart

SIZES = [(80, 24), (140, 45)]
THEMES = ["lab-dark", "lab-light"]
Snapshot = Callable[..., bool]

pytestmark = [
    pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}"),
    pytest.mark.parametrize("theme", THEMES),
]


@pytest.fixture
def pictured(
    snap_compare: Snapshot,
    make_app: MakeApp,
    scripted: Callable[..., tuple[TrainingController, ScriptedTrainer]],
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    theme: str,
) -> Callable[..., bool]:
    """``pictured(stream, keys=…, is_over=…)``: whether the place looks as it did."""
    monkeypatch.setattr(TrainScreen, "memory_bytes", staticmethod(lambda: 812_000_000))

    def compare(
        stream: Iterable[Event] | None = None, *, keys: Iterable[str] = (), is_over: bool = False
    ) -> bool:
        training, trainer = scripted(stream or ())
        app = make_app("train", training=training, theme=theme)

        async def prepare(pilot: Pilot[int]) -> None:
            if stream is not None:
                if is_over:
                    trainer.release()
                training.start(resume="quick-1")
                chart = app.screen.query_one(LossChart)
                await until(lambda: chart.history.last is not None)
                await until(lambda: training.is_active is not is_over)
                await pilot.pause()
                chart.redraw()
            await pilot.press(*keys)
            app.clear_notifications()
            await pilot.pause()

        return snap_compare(app, terminal_size=size, run_before=prepare)

    return compare


def test_empty(pictured: Callable[..., bool]) -> None:
    assert pictured()


def test_busy(pictured: Callable[..., bool]) -> None:
    assert pictured(busy_run(1100), keys=["left", "left", "left", "left"])


def test_finished(pictured: Callable[..., bool]) -> None:
    assert pictured(finished_run(2000), is_over=True)


def test_failed(pictured: Callable[..., bool]) -> None:
    assert pictured(failed_run(600), is_over=True)
