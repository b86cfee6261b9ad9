"""Pictures of the Playground screen: its views, empty, at work, and with something wrong."""

import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from lab_harness import MakeApp, press, shown, until
from listed_runs import runs
from pictures import LOOKS, TOKEN_LOOKS, Look, Pictured
from playground_script import (
    ScriptedEngine,
    attention_on_pairs,
    expectation_of_pairs,
    score_pairs,
    write,
    write_pairs,
)
from textual.pilot import Pilot

from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.playground.columns_strip import TextColumn
from shakespeare_tui.ui.playground.surprise import SurprisePanel

Taking = Callable[..., Awaitable[None]]

WRITTEN, READ = "(written)", "(read)"
"""Among the keys: wait until the columns are written, or until the surprise view is read."""

READING = ("g", WRITTEN, "s", READ, *["right"] * 8, READ)


def is_read(app: LabApp) -> bool:
    """Whether all is there that the surprise view asked for."""
    return not app.screen.query_one(SurprisePanel).is_asking


@pytest.fixture
def take(pictured: Pictured, make_app: MakeApp, runs_root: Path) -> Taking:
    """``await take(*keys, until_shown=text, write=…)``: press keys over scripted texts, wait."""

    async def pictures(
        *keys: str,
        until_shown: str,
        write: Callable[..., None] = write,
        ascii: bool = False,  # noqa: A002
        looks: Iterable[Look] = LOOKS,
        **scripts: Callable[..., object],
    ) -> None:
        runs(runs_root)
        engine = ScriptedEngine(write=write, **scripts)
        app = make_app("playground", ascii=ascii, engine=engine)

        def has(words: str) -> bool:
            return words in " ".join(shown(app).split())

        async def prepare(pilot: Pilot[int]) -> None:
            await until(lambda: app.screen.picker.chosen)  # type: ignore[attr-defined]
            for key in keys:
                if key == WRITTEN:
                    await until(lambda: has("★") or has("*"))
                elif key == READ:
                    await until(lambda: is_read(app))
                else:
                    await press(pilot, key)
            await until(lambda: has(until_shown))
            if until_shown == "★":  # the first star comes before the last text is measured
                columns = app.screen.query(TextColumn)
                await until(lambda: all(column.measures is not None for column in columns))

        await pictured(app, prepare, looks)

    return pictures


def stuck(request: GenerationRequest, job: GenerationJob) -> None:
    """Loads for ever, until it is stopped."""
    while not job.stop_requested():
        time.sleep(0.01)
    raise CancelledError


def failing(request: GenerationRequest, job: GenerationJob) -> None:
    """Fails."""
    raise UserError("the weights of [b]quick-1[/b] are damaged; choose another checkpoint with c")


async def test_empty(pictured: Pictured, make_app: MakeApp) -> None:
    await pictured(make_app("playground"))


async def test_loading(take: Taking) -> None:
    await take("g", until_shown="loading", write=stuck)


async def test_columns_written(take: Taking) -> None:
    await take("k", until_shown="★")


async def test_a_wrong_strategy(take: Taking) -> None:
    await take("g", "e", "end", "x", until_shown="must be a number")


async def test_a_failure(take: Taking) -> None:
    await take("g", until_shown="are damaged", write=failing)


async def test_surprise(take: Taking) -> None:
    await take(*READING, "enter", "down", until_shown="Expected")


BY_PAIRS = {
    "write": write_pairs,
    "score": score_pairs,
    "expectation": expectation_of_pairs,
    "attention": attention_on_pairs,
}


async def test_before_and_after_by_byte_pairs(take: Taking) -> None:
    await take("b", until_shown="★", looks=TOKEN_LOOKS, **BY_PAIRS)


async def test_many_texts_by_byte_pairs(take: Taking) -> None:
    await take("m", "3", "enter", until_shown="★", looks=TOKEN_LOOKS, **BY_PAIRS)


async def test_branches_by_byte_pairs(take: Taking) -> None:
    keys = (*READING, "enter", "3", READ, "right", "right", READ, "b")
    await take(*keys, until_shown="Branches", looks=TOKEN_LOOKS, **BY_PAIRS)


async def test_attention_on_byte_pairs(take: Taking) -> None:
    keys = (*READING, "right", READ, "a", READ, "right_square_bracket")
    await take(*keys, until_shown="layer 1 of 2", looks=TOKEN_LOOKS, **BY_PAIRS)


async def test_surprise_by_byte_pairs(take: Taking) -> None:
    scripts = {"score": score_pairs, "expectation": expectation_of_pairs}
    await take(*READING, "right", READ, "right", READ, until_shown="Expected", **scripts)


async def test_xray_of_a_chain(take: Taking) -> None:
    keys = ("right", *READING, "right_square_bracket", "minus", "minus")
    await take(*keys, until_shown="top_k=18")


async def test_branches(take: Taking) -> None:
    branch = ("enter", "2", READ)
    await take(*READING, *branch, *["right"] * 9, READ, *branch, "b", until_shown="Branches")


async def test_attention(take: Taking) -> None:
    await take(*READING, "a", READ, "right_square_bracket", until_shown="layer 1 of 2")


async def test_exporting(take: Taking) -> None:
    await take("g", WRITTEN, "o", until_shown="Export to")


async def test_a_text_of_ones_own(take: Taking) -> None:
    await take("v", *"Hark", until_shown="Hark")


async def test_ascii(take: Taking) -> None:
    keys = ("g", WRITTEN, "s", "right", READ)
    await take(*keys, until_shown=" 1 ", ascii=True)
