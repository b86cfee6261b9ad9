"""No character from a corpus, a run, its events, names or notes steers the terminal in the lab."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from checkpoint_trees import add_checkpoint, add_run
from lab_harness import MakeApp, until
from playground_script import ScriptedEngine
from streams import START, command, make_run, started, step_event
from textual.pilot import Pilot

from shakespeare_tui.data.catalogue import CATALOGUE
from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.events import (
    DiagnosisRaised,
    EvalCompleted,
    Event,
    RunFailed,
    RunStarted,
    SampleGenerated,
)
from shakespeare_tui.runs.notes import RunNotes, write_notes
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.data.corpus_list import CorpusList
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.train.screen import ReplayBar
from shakespeare_tui.visible_text import is_harmless

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"]
DIRECTIONS = list("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
SEQUENCES = "\x1b]0;owned\x07 \x1b]52;c;b3duZWQ=\x1b\\ \x1b[31mred \x9b2J \x1b[?1049l \x90q\x9c"
HOSTILE = SEQUENCES + "".join(CONTROLS) + "\u2028" + "".join(DIRECTIONS)
NAME = "".join(c for c in f"bad{HOSTILE}" if c not in "/\0")[:80]
SIZES = [(80, 24), pytest.param((140, 45), marks=pytest.mark.slow)]


def painted(app: LabApp) -> str:
    """What goes to the terminal, as the strips that are painted."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


def check(app: LabApp) -> str:
    text = painted(app)
    steering = {hex(ord(c)) for c in text if c != "\n" and not is_harmless(c)}
    assert steering == set(), text
    return text


def hostile_stream() -> Iterator[Event]:
    first = started()
    yield RunStarted(**{**vars(first), "run": NAME, "corpus": HOSTILE, "device": HOSTILE})
    for step in range(1, 41):
        yield step_event(step)
    yield EvalCompleted(time=START + 2, step=40, train_loss=2.0, val_loss=2.1, protocol=HOSTILE)
    for step in (20, 40):
        text = f"the text of {step} {HOSTILE}\n and more"
        yield SampleGenerated(time=START + 2, step=step, prompt=f"P{HOSTILE}", text=text)
    yield DiagnosisRaised(
        time=START + 2, step=40, kind="exploding", evidence=f"seen {HOSTILE}", advice=HOSTILE
    )
    yield command(40, "AddNote", text=f"note {HOSTILE}")


async def press(app: LabApp, pilot: Pilot[int], *keys: str) -> str:
    await pilot.press(*keys)
    await pilot.pause()
    return check(app)


@pytest.mark.parametrize("size", SIZES)
async def test_a_run_of_others_in_train(
    size: tuple[int, int], make_app: MakeApp, runs_root: Path
) -> None:
    failure = RunFailed(time=START + 3, step=40, error=f"it failed {HOSTILE}")
    make_run(runs_root, NAME, [*hostile_stream(), failure])
    app = make_app("train")
    async with app.run_test(size=size, notifications=True) as pilot:
        app.open_run(NAME, speed=1000)
        await until(lambda: "playing" in painted(app))
        app.screen.query_one(ReplayBar).focus()
        await pilot.press("end")
        await until(lambda: "the text of 40" in painted(app) or "it failed" in painted(app))
        assert "bad\\x1b]0;owned\\x07" in check(app).replace("\n", "")
        for keys in (["left"], ["P"], ["m"], ["m"], ["v"], ["o"], ["escape"], ["w"], ["escape"]):
            await press(app, pilot, *keys)
        app.say(f"told {HOSTILE}", is_error=True)
        await pilot.pause()
        assert "told \\x1b]0;owned" in check(app)


@pytest.mark.parametrize("size", SIZES)
async def test_samples_of_a_run_in_training(
    size: tuple[int, int], make_app: MakeApp, scripted
) -> None:
    training, trainer = scripted(hostile_stream())
    app = make_app("train", training=training)
    async with app.run_test(size=size, notifications=True) as pilot:
        training.start(TrainingRequest(root=app.services.runs_root, resume="quick-1"))
        await until(lambda: "40" in painted(app))
        await pilot.pause()
        check(app)
        await press(app, pilot, "m")
        for _ in range(5):
            await press(app, pilot, "tab")
        trainer.release()


@pytest.mark.parametrize("size", SIZES)
async def test_names_notes_and_problems_in_checkpoints(
    size: tuple[int, int], make_app: MakeApp, runs_root: Path
) -> None:
    run = add_run(runs_root, NAME, corpus=HOSTILE, parent=f"parent{HOSTILE}@3")
    for step in (10, 20):
        add_checkpoint(run, step, 2.0 - step / 100, protocol=HOSTILE)
    run.write_index(best=20, last=20)
    write_notes(run.path, RunNotes(note=f"kept because {HOSTILE}"))
    damaged = add_run(runs_root, f"damaged{NAME[3:]}")
    (damaged.path / "run.json").write_text("{")
    app = make_app("checkpoints")
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(lambda: "bad" in painted(app))
        await pilot.pause()
        assert "bad\\x1b]0;owned" in check(app)
        for keys in (["down"], ["a"], ["escape"], ["r"], ["escape"], ["space"], ["y"], ["d"]):
            await press(app, pilot, *keys)
        await press(app, pilot, "escape")
        await press(app, pilot, "slash", *"zzz", "enter")


@pytest.mark.parametrize("size", SIZES)
async def test_a_corpus_and_its_name_in_data(
    size: tuple[int, int], make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    hostile = f"SPEAKER{HOSTILE}:\nsays {HOSTILE}\n\n"
    (tmp_path / "data" / f"{NAME[:40]}.txt").write_text(hostile * 30, encoding="utf-8")
    app = make_app("data")
    async with app.run_test(size=size, notifications=True) as pilot:
        corpora = app.screen.query_one(CorpusList)
        await until(lambda: corpora.options[-1].id not in CATALOGUE)
        await pilot.press("end", "enter")
        await until(lambda: "bad" in painted(app))
        check(app)
        for _ in range(8):
            await press(app, pilot, "right_square_bracket")
            await press(app, pilot, "tab", "down", "pagedown")


async def test_texts_of_a_model_in_the_playground(make_app: MakeApp, runs_root: Path) -> None:
    run = add_run(runs_root, NAME)
    add_checkpoint(run, 20, 1.9)
    run.write_index(best=20, last=20)

    def write(request: GenerationRequest, job: GenerationJob) -> None:
        n_columns = len(request.strategies)
        job.add([f"written {HOSTILE}\n"] * n_columns, 0.1)
        raise UserError(f"it broke {HOSTILE}")

    app = make_app("playground", engine=ScriptedEngine(write=write))
    async with app.run_test(size=(140, 45), notifications=True) as pilot:
        await until(lambda: "bad" in painted(app))
        await press(app, pilot, "g")
        await until(lambda: "written" in painted(app))
        check(app)
        await press(app, pilot, "m")
        await press(app, pilot, "c")
        await press(app, pilot, "escape")


async def test_ascii_mode_is_harmless_too(make_app: MakeApp, runs_root: Path) -> None:
    run = add_run(runs_root, NAME, corpus=HOSTILE)
    write_notes(run.path, RunNotes(note=HOSTILE))
    app = make_app("checkpoints", ascii=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: "bad" in painted(app))
        await pilot.pause()
        assert check(app).isascii()
