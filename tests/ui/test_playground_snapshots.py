"""Pictures of the Playground place: its views, empty, at work, and with something wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lab_harness import MakeApp, shown, until
from playground_script import attention_of, expectation_at, score_text, write
from test_checkpoints_snapshots import runs
from textual.pilot import Pilot

from shakespeare_tui.ui import bridge_generation, bridge_reading
from shakespeare_tui.ui.generation import GenerationJob, GenerationRequest

LOOKS = [((80, 24), "lab-dark"), ((140, 45), "lab-light")]
"""Each size and each theme once: every view is drawn by the same few widgets."""
Snapshot = Callable[..., bool]

_WAITS = {"(written)": "★", "(read)": "mean surprise", "(seen)": " 1 "}
"""Words among the keys that wait for something to be shown."""

READ = ("g", "(written)", "s", "(read)", *["right"] * 8, "(seen)")

pytestmark = pytest.mark.parametrize(("size", "theme"), LOOKS, ids=["80x24-dark", "140x45-light"])


@pytest.fixture
def picture(
    snap_compare: Snapshot,
    make_app: MakeApp,
    runs_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    theme: str,
) -> Callable[..., bool]:
    """``picture(*keys, until=text, write=…)``: press keys over scripted texts, wait, compare."""

    def take(*keys: str, until_shown: str, write: object = write) -> bool:
        runs(runs_root)
        monkeypatch.setattr(bridge_generation, "write_columns", write)
        monkeypatch.setattr(bridge_reading, "score_text", score_text)
        monkeypatch.setattr(bridge_reading, "expectation_at", expectation_at)
        monkeypatch.setattr(bridge_reading, "attention_of", attention_of)
        app = make_app("playground", theme=theme)

        async def prepare(pilot: Pilot[int]) -> None:
            await until(lambda: app.screen.chosen)  # type: ignore[attr-defined]
            for key in keys:
                if key in _WAITS:
                    await until(lambda key=key: _WAITS[key] in " ".join(shown(app).split()))
                else:
                    await pilot.press(key)
                await pilot.pause()
            await until(lambda: until_shown in " ".join(shown(app).split()))
            # The footer follows a little later than what it tells of.
            await pilot.pause(0.2)

        return snap_compare(app, terminal_size=size, run_before=prepare)

    return take


def stuck(request: GenerationRequest, job: GenerationJob) -> None:
    """Loads for ever, until it is stopped."""
    while not job.stop_requested():
        job._stop.wait(0.01)
    job.end("stopped")


def failing(request: GenerationRequest, job: GenerationJob) -> None:
    """Fails."""
    job.end("failed", "the weights of [b]quick-1[/b] are damaged; choose another checkpoint with c")


def test_empty(
    snap_compare: Snapshot, make_app: MakeApp, size: tuple[int, int], theme: str
) -> None:
    assert snap_compare(make_app("playground", theme=theme), terminal_size=size)


def test_loading(picture: Callable[..., bool]) -> None:
    assert picture("g", until_shown="loading", write=stuck)


def test_columns_written(picture: Callable[..., bool]) -> None:
    assert picture("k", until_shown="★")


def test_a_wrong_strategy(picture: Callable[..., bool]) -> None:
    assert picture("g", "e", "end", "x", until_shown="must be a number")


def test_a_failure(picture: Callable[..., bool]) -> None:
    assert picture("g", until_shown="are damaged", write=failing)


def test_surprise(picture: Callable[..., bool]) -> None:
    assert picture(*READ, "enter", "down", until_shown="Expected")


def test_xray_of_a_chain(picture: Callable[..., bool]) -> None:
    keys = ("right", *READ, "right_square_bracket", "minus", "minus")
    assert picture(*keys, until_shown="top_k=18")


def test_branches(picture: Callable[..., bool]) -> None:
    branch = ("enter", "2", "(read)")
    assert picture(*READ, *branch, *["right"] * 9, "(seen)", *branch, "b", until_shown="Branches")


def test_attention(picture: Callable[..., bool]) -> None:
    assert picture(*READ, "a", "right_square_bracket", until_shown="layer 1 of 2")


def test_exporting(picture: Callable[..., bool]) -> None:
    assert picture("g", "(written)", "o", until_shown="Export to")


def test_a_text_of_ones_own(picture: Callable[..., bool]) -> None:
    assert picture("v", *"Hark", until_shown="Hark")


def test_ascii(
    snap_compare: Snapshot,
    make_app: MakeApp,
    runs_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    theme: str,
) -> None:
    runs(runs_root)
    for name in ("score_text", "expectation_at", "attention_of"):
        monkeypatch.setattr(bridge_reading, name, globals()[name])
    monkeypatch.setattr(bridge_generation, "write_columns", write)
    app = make_app("playground", theme=theme, ascii=True)

    async def prepare(pilot: Pilot[int]) -> None:
        await until(lambda: app.screen.chosen)  # type: ignore[attr-defined]
        await pilot.press("g")
        await until(lambda: "*" in shown(app))
        await pilot.press("s", "right")
        await until(lambda: "mean surprise" in shown(app) and " 1 " in shown(app))
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=prepare)
