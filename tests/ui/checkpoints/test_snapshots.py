"""Pictures of the Checkpoints screen: empty, filled, narrowed, marked, damaged, asking."""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from lab_harness import MakeApp, press, shown, until
from listed_runs import damaged_runs, is_read, runs, runs_in_several_tokenizers
from pictures import LOOKS, TOKEN_LOOKS, Look, Pictured
from textual.pilot import Pilot

Taking = Callable[..., Awaitable[None]]


@pytest.fixture
def take(
    pictured: Pictured, make_app: MakeApp, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> Taking:
    """``await take(*keys, is_empty=False)``: the screen looks as it did."""
    monkeypatch.chdir(runs_root.parent)

    async def pictures(*keys: str, is_empty: bool = False, looks: Iterable[Look] = LOOKS) -> None:
        app = make_app("checkpoints")
        app.services.runs_root = Path("runs")

        async def prepare(pilot: Pilot[int]) -> None:
            # Only then is everything read.
            await until(lambda: "no runs yet" in shown(app) if is_empty else is_read(app))
            await pilot.pause()
            await press(pilot, *keys)

        await pictured(app, prepare, looks)

    return pictures


async def test_empty(take: Taking) -> None:
    await take(is_empty=True)


async def test_runs(take: Taking, runs_root: Path) -> None:
    runs(runs_root)
    await take("down", "space", "down", "space")


async def test_runs_in_several_tokenizers(take: Taking, runs_root: Path) -> None:
    runs_in_several_tokenizers(runs_root)
    await take("down", looks=TOKEN_LOOKS)


async def test_sorted(take: Taking, runs_root: Path) -> None:
    damaged_runs(runs_root)
    await take("s", "end", "up", "up", "up", "up")


async def test_damaged(take: Taking, runs_root: Path) -> None:
    damaged_runs(runs_root)
    await take(*["down"] * 6)


async def test_filtered(take: Taking, runs_root: Path) -> None:
    damaged_runs(runs_root)
    await take("slash", *"val<1.6 fork")


async def test_a_wrong_filter(take: Taking, runs_root: Path) -> None:
    runs(runs_root)
    await take("slash", *"d_modle=384")


async def test_deleting(take: Taking, runs_root: Path) -> None:
    runs(runs_root)
    await take("down", "d")


async def test_renaming(take: Taking, runs_root: Path) -> None:
    runs(runs_root)
    await take("n")
