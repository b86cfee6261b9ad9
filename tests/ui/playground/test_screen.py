"""The Playground screen: a prompt, up to six strategies, and the texts that come of them."""

import asyncio
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_harness import MakeApp, ScriptedTrainer, press, shown, until
from listed_runs import runs
from playground_script import TEXT, ScriptedEngine, measures, write
from real_cli import CommandLine
from streams import busy_run
from textual import events
from textual.content import Content
from textual.widgets import Static
from trained_run import trained

from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.engine.training import TrainingController
from shakespeare_tui.ui.playground.columns_strip import TextColumn
from shakespeare_tui.ui.playground.screen import PlaygroundScreen
from shakespeare_tui.ui.settings import Settings

__all__ = ["trained"]

Write = Callable[[GenerationRequest, GenerationJob], None]


def place(app: LabApp) -> PlaygroundScreen:
    assert isinstance(app.screen, PlaygroundScreen)
    return app.screen


def texts(app: LabApp) -> list[str]:
    return [column.stream.text for column in place(app).columns.strip.columns]


@pytest.fixture
def scripted_place(make_app: MakeApp, runs_root: Path) -> Callable[..., LabApp]:
    """An app over listed checkpoints whose texts come from a script."""

    def make(write_with: Write = write, **choices: object) -> LabApp:
        runs(runs_root)
        return make_app("playground", engine=ScriptedEngine(write=write_with), **choices)

    return make


async def test_the_same_text_comes_as_on_the_command_line(
    make_app: MakeApp, trained: RunFolder, cli: CommandLine
) -> None:
    app = make_app("playground")
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "p", "end", *"AB", "escape")
        place(app).columns.n_tokens, place(app).columns.seed = 40, 7
        await press(pilot, "g")
        await until(lambda: place(app).columns.strip.columns[0].measures is not None, 60)
        first, _, greedy = texts(app)
    best = f"alpha@{trained.index()['best']}"
    arguments = (best, "--prompt=ROMEO:AB", "--max-tokens=40", "--seed=7")
    assert first == cli("generate", *arguments).out.removesuffix("\n")
    zero = cli("generate", *arguments, "--temperature=0").out.removesuffix("\n")
    assert greedy == zero


async def test_without_a_checkpoint_it_says_how_to_get_one(make_app: MakeApp) -> None:
    app = make_app("playground")
    async with app.run_test(notifications=True) as pilot:
        await pilot.pause()
        assert "Press 3, then s, to train" in " ".join(shown(app).replace("│", "").split())
        await press(pilot, "g")
        await pilot.pause()
        assert "3 then s trains a model" in shown(app)


async def test_all_columns_stream_together_and_x_stops_them(
    scripted_place: Callable[..., LabApp],
) -> None:
    go_on = threading.Event()

    def slow(request: GenerationRequest, job: GenerationJob) -> None:
        job.add([f"[red]{s}[/red] " for s in request.strategies], 0.1)
        while not job.stop_requested():
            go_on.wait(0.01)
        job.add(["last"] * len(request.strategies), 0.2)
        raise CancelledError

    app = scripted_place(slow)
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "g")
        await until(lambda: all("[/red]" in text for text in texts(app)))
        assert "[red]greedy[/red]" in shown(app)
        await press(pilot, "x")
        await until(lambda: all(text.endswith("last") for text in texts(app)))
        await until(lambda: "stopped" in shown(app))
        await press(pilot, "y")
        assert app.clipboard == "ROMEO:[red]temperature=0.8[/red] last"


async def test_n_takes_the_next_seed_for_all_columns(
    scripted_place: Callable[..., LabApp],
) -> None:
    seen: list[GenerationRequest] = []

    def note(request: GenerationRequest, job: GenerationJob) -> None:
        seen.append(request)
        write(request, job)

    app = scripted_place(note)
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "g", "n")
        await until(lambda: len(seen) == 2)
        assert [request.seed for request in seen] == [42, 43]
        assert len(seen[1].strategies) == 3
        await pilot.press("number_sign", "backspace", "backspace", "7", "enter")
        await pilot.press("l", *"99", "enter")
        await press(pilot, "g")
        await until(lambda: len(seen) == 3)
        assert (seen[2].seed, seen[2].max_tokens) == (7, 99)


async def test_an_unknown_character_is_named(make_app: MakeApp, trained: RunFolder) -> None:
    app = make_app("playground")
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        place(app).columns.prompt.set_prompt("be中")
        await press(pilot, "g")
        await until(lambda: "U+4E2D" in shown(app), 60)
        assert "failed" in shown(app)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "U+4E2D" in shown(app)


async def test_a_long_error_is_shown_in_full(scripted_place: Callable[..., LabApp]) -> None:
    words = " ".join(f"word{number}" for number in range(30))

    def fail(request: GenerationRequest, job: GenerationJob) -> None:
        raise UserError(words)

    app = scripted_place(fail)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "g")
        await until(lambda: words in " ".join(shown(app).split()))


async def test_an_error_in_the_lab_advises_keys_and_no_commands(
    make_app: MakeApp, trained: RunFolder
) -> None:
    app = make_app("playground")
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        for step in trained.steps():
            shutil.rmtree(trained.checkpoint_folder(step))
        (trained.path / "index.json").unlink()
        place(app).picker.chosen = "alpha"
        await press(pilot, "g")
        await until(lambda: "resume alpha on the Checkpoints screen" in shown(app), 60)
        assert "--resume" not in shown(app)


async def test_a_wrong_strategy_is_told_and_nothing_starts(
    scripted_place: Callable[..., LabApp],
) -> None:
    app = scripted_place()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await pilot.press("e", "end", *" temprature=1")
        await until(lambda: "unknown sampling step" in shown(app))
        assert "temperature?" in shown(app)
        await pilot.press("escape", "g")
        assert texts(app) == ["", "", ""]
        assert app.focused is place(app).columns.strip.columns[0].field


async def test_the_step_under_the_cursor_is_explained(
    scripted_place: Callable[..., LabApp],
) -> None:
    app = scripted_place()
    async with app.run_test(size=(140, 40)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "right", "e", "end")
        await until(lambda: "Keep the k likeliest" in shown(app))
        await press(pilot, "home")
        await until(lambda: "Divide the logits" in shown(app))


async def test_a_step_is_chosen_from_the_list(scripted_place: Callable[..., LabApp]) -> None:
    app = scripted_place()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "e", "f2")
        await until(lambda: "type to filter" in shown(app))
        await press(pilot, *"mirostat", "enter")
        await until(
            lambda: place(app).columns.strip.strategies[0].startswith("temperature=0.8 mirostat=")
        )
        assert place(app).columns.strip.columns[0].field.problem == ""


async def test_an_empty_prompt_is_told_and_a_backslash_n_is_a_new_line(
    scripted_place: Callable[..., LabApp],
) -> None:
    app = scripted_place()
    async with app.run_test(size=(120, 40)) as pilot:
        await until(lambda: place(app).picker.chosen)
        place(app).columns.prompt.set_prompt("")
        await press(pilot, "g")
        await pilot.pause()
        assert "at least one character" in shown(app)
        assert app.focused is place(app).columns.prompt
        await press(pilot, *"A:\\n", "enter")
        await until(lambda: texts(app)[0].startswith("A:\n\nWhat"))


async def test_up_and_down_walk_the_prompts_of_earlier_sessions(
    scripted_place: Callable[..., LabApp], make_app: MakeApp, tmp_path: Path
) -> None:
    path = tmp_path / "settings.yaml"
    app = scripted_place(settings=Settings.load(path))
    async with app.run_test() as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "g", "p", "end", *"X", "enter", "escape", "a")
        await press(pilot, "e", "end", *" top_k=3", "enter")
        await until(lambda: "la la" in texts(app)[3])
    again = make_app("playground", settings=Settings.load(path))
    async with again.run_test() as pilot:
        await until(lambda: place(again).picker.chosen)
        assert place(again).columns.strip.strategies[1] == "temperature=0.8 top_k=3"
        await press(pilot, "p", "up")
        assert place(again).columns.prompt.prompt == "ROMEO:"
        await press(pilot, "down", "down")
        assert place(again).columns.prompt.prompt == "ROMEO:X"


async def test_classic_and_sweep_fill_six_columns_and_write_them(
    scripted_place: Callable[..., LabApp],
) -> None:
    app = scripted_place()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "k")
        await until(lambda: len(texts(app)) == 6 and all(TEXT in text for text in texts(app)))
        assert place(app).columns.strip.strategies[0] == "greedy"
        assert place(app).columns.strip.strategies[-1] == "top_p=0.95"
        assert "columns 1-2 of 6" in shown(app)
        await press(pilot, "right", "right", "right")
        await pilot.pause()
        assert "columns 3-4 of 6" in shown(app)
        await press(pilot, "t")
        await until(lambda: place(app).columns.strip.strategies[0] == "temperature=0.3")
        assert place(app).columns.strip.strategies[-1] == "temperature=1.5"


async def test_columns_come_and_go_between_one_and_six(
    scripted_place: Callable[..., LabApp],
) -> None:
    app = scripted_place()
    async with app.run_test(size=(200, 60), notifications=True) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "right", "a")
        assert place(app).columns.strip.strategies[1:3] == ("temperature=0.8 top_k=20",) * 2
        await press(pilot, "a", "a", "a")
        assert len(texts(app)) == 6
        await until(lambda: "six columns" in shown(app))
        await press(pilot, *"ddddddd")
        assert len(texts(app)) == 1
        await press(pilot, "g")
        await until(lambda: TEXT in texts(app)[0])


async def test_the_best_of_each_measure_is_marked_and_copies_are_underlined(
    scripted_place: Callable[..., LabApp],
) -> None:
    app = scripted_place()
    async with app.run_test(size=(140, 45)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "g")
        await until(lambda: "★" in shown(app))
        rows = [row for row in shown(app).splitlines() if "distinct-2" in row]
        assert rows[0].count("★") == 1
        assert rows[0].index("★") < rows[0].index("75%")
        column: TextColumn = place(app).columns.strip.columns[1]
        assert ("copy",) in column.stream.parts_of(0, 45)
        assert column.stream.parts_of(0, 1) == [("prompt",)]


async def test_c_chooses_another_checkpoint(scripted_place: Callable[..., LabApp]) -> None:
    app = scripted_place()
    async with app.run_test() as pilot:
        await until(lambda: place(app).picker.chosen)
        before = place(app).picker.chosen
        await press(pilot, "c")
        await until(lambda: "type to filter" in shown(app))
        await press(pilot, *"quick-1@1500", "enter")
        await until(lambda: isinstance(app.screen, PlaygroundScreen))
        assert place(app).picker.chosen == "quick-1@1500" != before
        await until(lambda: "quick-1@1500" in shown(app))


async def test_before_and_after_and_many_texts_are_those_of_the_command_line(
    make_app: MakeApp, trained: RunFolder, cli: CommandLine
) -> None:
    app = make_app("playground")
    first, best = f"alpha@{min(trained.steps())}", f"alpha@{trained.index()['best']}"

    async def written(count: int) -> list[str]:
        def is_shown() -> bool:  # the screen takes measures over with the last of its text
            columns, is_busy = place(app).columns.strip.columns, place(app).columns.is_busy
            return not is_busy and len(columns) == count and all(c.measures for c in columns)

        await until(is_shown, 60)
        return texts(app)

    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        place(app).columns.n_tokens, place(app).columns.seed = 40, 7
        await pilot.press("b")
        before_and_after = await written(2)
        assert all(f" · {reference} " in shown(app) for reference in (first, best))
        await pilot.press("right", "m", "3", "enter")
        await until(lambda: len(texts(app)) == 3)
        many = await written(3)
        assert "3 · " in shown(app) and "seed +2" in shown(app)
        exported = place(app).columns.texts()
        assert [(text.checkpoint, text.settings["seed"]) for text in exported] == [
            (best, 7),
            (best, 8),
            (best, 9),
        ]
        await pilot.press("u")
        assert texts(app) == before_and_after

    def of_the_command(reference: str, seed: int) -> str:
        arguments = ("--max-tokens=40", f"--seed={seed}", "--temperature=0.8")
        return cli("generate", reference, *arguments).out.removesuffix("\n")

    assert before_and_after == [of_the_command(first, 7), of_the_command(best, 7)]
    assert many == [of_the_command(best, seed) for seed in (7, 8, 9)]


async def test_a_fork_is_set_beside_what_it_came_from(
    scripted_place: Callable[..., LabApp],
) -> None:
    app = scripted_place()
    async with app.run_test(size=(140, 30), notifications=True) as pilot:
        await until(lambda: place(app).picker.chosen == "quick-1-fork-1@1000")
        await pilot.press("b")
        await until(lambda: len(texts(app)) == 2)
        written = place(app).columns.written
        assert written is not None
        assert written.references == ("quick-1@2000", "quick-1-fork-1@1000")
        place(app).picker.chosen = "quick-1@1000"  # the first that its run has
        await pilot.press("b")
        await until(lambda: "was trained from nothing that is here" in shown(app))


async def test_a_column_has_a_checkpoint_of_its_own(scripted_place: Callable[..., LabApp]) -> None:
    app = scripted_place()
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await pilot.press("right", "C", *"quick-1@1500", "enter", "g")
        await until(lambda: "quick-1@1500" in shown(app))
        written = place(app).columns.written
        assert written is not None
        chosen = "quick-1-fork-1@1000"
        assert written.references == (chosen, "quick-1@1500", chosen)
        await pilot.press("c", *"quick-1@2000", "enter", "g")
        await until(lambda: place(app).columns.written != written)
        assert place(app).columns.written.references == ()


async def test_a_damaged_checkpoint_is_offered_with_its_reason_and_not_taken(
    scripted_place: Callable[..., LabApp], runs_root: Path
) -> None:
    app = scripted_place()
    path = RunFolder(runs_root / "quick-1").checkpoint_folder(1500) / "weights.safetensors"
    path.write_bytes(b"")
    (runs_root / "quick-1-fork-1" / "config.yaml").unlink()
    async with app.run_test(size=(100, 40)) as pilot:
        await until(lambda: place(app).picker.chosen)
        before = place(app).picker.chosen
        await press(pilot, "c")
        await until(lambda: "type to filter" in shown(app))
        assert "quick-1@1500  weights.safetensors is damaged" in shown(app)
        assert "quick-1-fork-1  config.yaml is missing" in shown(app)
        await press(pilot, *"quick-1@1500", "enter")
        assert not isinstance(app.screen, PlaygroundScreen)
        await press(pilot, "escape")
        assert place(app).picker.chosen == before


async def test_while_a_run_is_trained_it_says_that_the_cores_are_shared(
    scripted_place: Callable[..., LabApp],
    scripted: Callable[..., tuple[TrainingController, ScriptedTrainer]],
) -> None:
    training, trainer = scripted(busy_run())
    app = scripted_place(training=training)
    async with app.run_test(size=(140, 30)) as pilot:
        training.start(TrainingRequest(root=app.services.runs_root, config=Config()))
        await until(lambda: "shares the cores with quick-1" in shown(app))
        await press(pilot, "g")
        await until(lambda: TEXT in texts(app)[0])
        trainer.release()
        await until(lambda: "shares the cores" not in shown(app))


async def test_columns_are_removed_and_added_while_their_texts_come_in(
    scripted_place: Callable[..., LabApp],
) -> None:
    """The poll finds columns that are gone, and such as are not mounted yet."""

    def long(request: GenerationRequest, job: GenerationJob) -> None:
        while not job.stop_requested():
            job.add(["la la\n"] * len(request.strategies), 0.1)
            time.sleep(0.01)
        raise CancelledError

    app = scripted_place(long)
    async with app.run_test(size=(200, 40)) as pilot:
        await until(lambda: place(app).picker.chosen)
        for key in "kdtddkaddagdaddtxkdnd":
            app.post_message(events.Key(key, key))
            await asyncio.sleep(0.06)
        await pilot.pause()
        assert 1 <= len(place(app).columns.strip.columns) <= 6
        await press(pilot, "x")
        await until(lambda: not place(app).columns.is_busy)


async def test_a_column_takes_text_before_it_is_mounted_and_after_it_is_gone(
    scripted_place: Callable[..., LabApp],
) -> None:
    app = scripted_place()
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        column = TextColumn("greedy")
        column.stream.begin("A:", 2)
        column.stream.append("before")
        await place(app).columns.strip.mount(column)
        await until(lambda: "before" in shown(app))
        await column.remove()
        column.stream.append(" after")
        column.show_measures(measures(1), frozenset())
        await pilot.pause()
        assert column.stream.text == "A:before after"


async def test_enter_in_a_field_writes_and_leaves_it(scripted_place: Callable[..., LabApp]) -> None:
    def endless(request: GenerationRequest, job: GenerationJob) -> None:
        job.add(["begun"] * len(request.strategies), 0.1)
        while not job.stop_requested():
            time.sleep(0.01)
        raise CancelledError

    app = scripted_place(endless)
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        for field, ending in (("p", "X"), ("e", " top_k=3")):
            await press(pilot, field, "end", *ending, "enter")
            await until(lambda: "begun" in texts(app)[0])
            await until(lambda: "x Stop" in shown(app).splitlines()[-1])
            await press(pilot, "x")
            await until(lambda: "stopped" in shown(app))
            assert "x Stop" not in shown(app).splitlines()[-1]
        assert place(app).columns.prompt.prompt == "ROMEO:X"
        assert place(app).columns.strip.strategies[0] == "temperature=0.8 top_k=3"


async def test_after_a_key_that_replaces_strategies_e_edits_behind_the_new_one(
    scripted_place: Callable[..., LabApp],
) -> None:
    app = scripted_place()
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        for key, first in (("k", "greedy"), ("t", "temperature=0.3")):
            await press(pilot, key)
            await until(lambda first=first: place(app).columns.strip.strategies[0] == first)  # type: ignore[misc]
            await press(pilot, "e", *" top_k=3", "escape")
            assert place(app).columns.strip.strategies[0] == f"{first} top_k=3"


async def test_u_brings_back_the_columns_and_their_texts(
    scripted_place: Callable[..., LabApp],
) -> None:
    app = scripted_place()
    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        assert "u Undo" not in shown(app)
        await press(pilot, "right", "e", "end", *",", "backspace", *" min_p=0.1", "enter")
        await until(lambda: place(app).columns.strip.columns[2].measures is not None)
        before, strategies = texts(app), place(app).columns.strip.strategies
        await press(pilot, "n")
        await until(lambda: place(app).columns.strip.columns[2].measures is not None)
        for key in "ktd":
            await press(pilot, key)
            await until(lambda: place(app).columns.strip.strategies != strategies)
            await until(lambda: "u Undo" in shown(app).splitlines()[-1])
            await press(pilot, "u")
            await until(lambda: place(app).columns.strip.strategies == strategies)
            assert texts(app) == before
            assert strategies[1] == "temperature=0.8 top_k=20 min_p=0.1"
            assert place(app).columns.strip.place == 1
            column = place(app).columns.strip.columns[1]
            assert column.written_with == strategies[1]
            assert ("copy",) in column.stream.parts_of(0, 45)
            assert "u Undo" not in shown(app)


async def test_the_head_dims_what_the_texts_were_not_written_with(
    scripted_place: Callable[..., LabApp],
) -> None:
    app = scripted_place()

    def dimmed() -> list[str]:
        head = app.screen.query_one("#head", Static).content
        assert isinstance(head, Content)
        return [head.plain[s.start : s.end] for s in head.spans if s.style == "$text-muted"]

    async with app.run_test(size=(140, 30)) as pilot:
        await until(lambda: place(app).picker.chosen)
        assert dimmed()[-2:] == ["seed 42", "400 tokens"]
        await press(pilot, "g")
        await until(lambda: place(app).columns.strip.columns[2].measures is not None)
        assert dimmed() == []
        await press(pilot, "number_sign", *"7", "enter")
        await until(lambda: dimmed() == ["seed 7"])
        await press(pilot, "l", *"99", "enter")
        await until(lambda: dimmed() == ["seed 7", "99 tokens"])
        await press(pilot, "g")
        await until(lambda: dimmed() == [])
        assert "seed 7 · 99 tokens" in shown(app)
