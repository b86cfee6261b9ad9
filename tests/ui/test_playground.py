"""The Playground place: a checkpoint, a prompt, a strategy, a text."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_harness import MakeApp, shown, until
from real_cli import CommandLine
from textual.widgets import Input
from trained_run import trained

from shakespeare_tui.core.runs import RunFolder
from shakespeare_tui.ui import bridge
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.settings import Settings
from shakespeare_tui.ui.widgets.generated_text import GeneratedText

__all__ = ["trained"]

Write = Callable[[GenerationRequest, GenerationJob], None]


def text_of(app: LabApp) -> str:
    return app.screen.query_one(GeneratedText).text


def field(app: LabApp, name: str) -> Input:
    return app.screen.query_one(f"#{name}", Input)


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Write], None]:
    """``writing(write)``: let a script write instead of a model."""
    return lambda write: monkeypatch.setattr(bridge, "write_text", write)


async def test_the_same_text_comes_as_on_the_command_line(
    make_app: MakeApp, trained: RunFolder, cli: CommandLine
) -> None:
    app = make_app("playground")
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: app.screen.chosen)  # type: ignore[attr-defined]
        await pilot.press("p", "end", *"AB", "tab")
        field(app, "max_tokens").value = "40"
        field(app, "seed").value = "7"
        await pilot.press("enter")
        await until(lambda: "40 tokens" in shown(app), 60)
        text, prompt = text_of(app), field(app, "prompt").value
    best = f"alpha@{trained.index()['best']}"
    outcome = cli("generate", best, f"--prompt={prompt}", "--max-tokens=40", "--seed=7")
    assert outcome.code == 0
    assert text == outcome.out.removesuffix("\n")
    assert prompt == "ROMEO:AB"


async def test_n_takes_another_seed_and_r_finds_new_runs(
    make_app: MakeApp, trained: RunFolder
) -> None:
    app = make_app("playground")
    async with app.run_test() as pilot:
        await until(lambda: app.screen.chosen)  # type: ignore[attr-defined]
        field(app, "max_tokens").value = "30"
        await pilot.press("g")
        await until(lambda: "30 tokens" in shown(app), 60)
        first = text_of(app)
        await pilot.press("n")
        await until(lambda: len(text_of(app)) == len(first) and text_of(app) != first, 60)
        assert field(app, "seed").value == "43"


async def test_without_a_checkpoint_it_says_how_to_get_one(make_app: MakeApp) -> None:
    app = make_app("playground")
    async with app.run_test(notifications=True) as pilot:
        await pilot.pause()
        assert "Press 3, then s, to train a model" in " ".join(shown(app).replace("│", "").split())
        await pilot.press("g")
        await pilot.pause()
        assert "3 then s trains a model" in shown(app)


async def test_text_appears_while_it_is_written_and_x_stops_it(
    make_app: MakeApp, trained: RunFolder, writing: Callable[[Write], None]
) -> None:
    go_on = threading.Event()

    def write(request: GenerationRequest, job: GenerationJob) -> None:
        job.add("[red]first[/red] ", 1, 0.1)
        while not job.stop_requested():
            go_on.wait(0.01)
        job.add("last", 2, 0.2)
        job.end("stopped")

    writing(write)
    app = make_app("playground")
    async with app.run_test() as pilot:
        await until(lambda: app.screen.chosen)  # type: ignore[attr-defined]
        await pilot.press("g")
        await until(lambda: "[red]first[/red]" in shown(app))
        await pilot.press("x")
        await until(lambda: "[red]first[/red] last" in shown(app))
        await until(lambda: "stopped" in shown(app))
        await pilot.press("y")
        assert app.clipboard == "ROMEO:[red]first[/red] last"


async def test_an_unknown_character_is_named(make_app: MakeApp, trained: RunFolder) -> None:
    app = make_app("playground")
    async with app.run_test(size=(120, 30)) as pilot:
        await until(lambda: app.screen.chosen)  # type: ignore[attr-defined]
        field(app, "prompt").value = "[b]中"
        await pilot.press("g")
        await until(lambda: "U+4E2D" in shown(app), 60)
        assert "failed" in shown(app)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("temperature", "-1", "Temperature"),
        ("temperature", "hot", "a number"),
        ("top_p", "1.5", "Top-p"),
        ("max_tokens", "0", "Tokens"),
        ("seed", "", "Seed"),
        ("prompt", "", "at least one character"),
    ],
)
async def test_a_wrong_value_is_told_beside_the_fields_and_nothing_starts(
    make_app: MakeApp, trained: RunFolder, name: str, value: str, told: str
) -> None:
    app = make_app("playground")
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: app.screen.chosen)  # type: ignore[attr-defined]
        field(app, name).value = value
        await pilot.pause()
        assert told in shown(app)
        app.screen.set_focus(None)
        await pilot.press("g")
        await pilot.pause()
        assert text_of(app) == ""
        assert app.focused is field(app, name)


async def test_a_backslash_n_in_the_prompt_is_a_new_line(
    make_app: MakeApp, trained: RunFolder
) -> None:
    app = make_app("playground")
    async with app.run_test() as pilot:
        await until(lambda: app.screen.chosen)  # type: ignore[attr-defined]
        field(app, "prompt").value = "KING:\\n"
        field(app, "max_tokens").value = "1"
        await pilot.press("g")
        await until(lambda: len(text_of(app)) == len("KING:\n") + 1, 60)
        assert text_of(app).startswith("KING:\n")


async def test_the_strategy_is_remembered(
    make_app: MakeApp, trained: RunFolder, tmp_path: Path
) -> None:
    path = tmp_path / "settings.yaml"
    app = make_app("playground", settings=Settings.load(path))
    async with app.run_test() as pilot:
        await pilot.pause()
        field(app, "temperature").value = "0.5"
        await pilot.pause()
        field(app, "seed").value = "no"
        await pilot.pause()
    again = make_app("playground", settings=Settings.load(path))
    async with again.run_test() as pilot:
        await pilot.pause()
        assert field(again, "temperature").value == "0.5"
        assert field(again, "seed").value == "42"
