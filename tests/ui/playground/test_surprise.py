"""The surprise view of the Playground: cursor, X-ray, attention, branches, texts of one's own."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab_harness import MakeApp, press, shown, until
from listed_runs import runs
from playground_script import (
    TEXT,
    ScriptedEngine,
    expectation_at,
    expectation_of_pairs,
    score_pairs,
    score_text,
    write,
)
from textual import events
from trained_run import trained

from shakespeare_tui.errors import UserError
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.sampling import Draw, parse_strategy
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.engine.scoring import Expectation
from shakespeare_tui.ui.playground.columns_strip import ColumnState
from shakespeare_tui.ui.playground.screen import PlaygroundScreen
from shakespeare_tui.ui.playground.surprise import AttentionChoice, SurprisePanel, surprise_levels
from shakespeare_tui.ui.playground.xray import XRay, nudged, xray_lines

__all__ = ["trained"]


def place(app: LabApp) -> PlaygroundScreen:
    assert isinstance(app.screen, PlaygroundScreen)
    return app.screen


def view(app: LabApp) -> SurprisePanel:
    return app.screen.query_one(SurprisePanel)


def scored(app: LabApp, number: int) -> bool:
    """Whether a branch is there and scored."""
    branches = view(app).branches
    return number <= len(branches) and branches[number].scored is not None


@pytest.fixture
def requests() -> list[GenerationRequest]:
    return []


@pytest.fixture
def engine(requests: list[GenerationRequest]) -> ScriptedEngine:
    def write_and_note(request: GenerationRequest, job: GenerationJob) -> None:
        requests.append(request)
        write(request, job)

    return ScriptedEngine(write=write_and_note)


@pytest.fixture
def surprise_app(make_app: MakeApp, runs_root: Path, engine: ScriptedEngine) -> LabApp:
    runs(runs_root)
    return make_app("playground", engine=engine)


async def open_surprise(app: LabApp, pilot: object) -> None:
    await until(lambda: place(app).picker.chosen)
    await press(pilot, "g")  # type: ignore[attr-defined]
    await until(lambda: TEXT in place(app).columns.strip.columns[0].stream.text)
    await press(pilot, "s")  # type: ignore[attr-defined]
    await until(lambda: scored(app, 1) and view(app).xray is not None)


def test_levels_go_by_probability() -> None:
    nats = np.array([np.nan, 0.0, -np.log(0.3), -np.log(0.06), -np.log(0.02), 9.0])
    assert surprise_levels(nats) == [0, 0, 1, 2, 3, 4]


def test_a_value_is_nudged_within_its_range() -> None:
    strategy = parse_strategy("temperature=0.8 top_p=0.95")
    assert nudged(strategy, 0, 1).text == "temperature=0.9 top_p=0.95"
    for _ in range(30):
        strategy = nudged(strategy, 0, -1)
    assert strategy.text.startswith("temperature=0 ")
    assert nudged(parse_strategy("greedy"), 0, 1).text == "greedy"


async def test_the_cursor_shows_what_was_expected(surprise_app: LabApp) -> None:
    app = surprise_app
    async with app.run_test(size=(140, 45)) as pilot:
        await open_surprise(app, pilot)
        assert view(app).text_view.position == len("ROMEO:")
        await press(pilot, "right")
        await until(lambda: "character 8 of" in shown(app))
        nats = 0.05 + 0.9 * (ord("W") % 7)
        assert f"surprise {nats:.2f}" in shown(app)
        assert f"rank {1 + ord('W') % 7}" in shown(app)
        assert "entropy 1.25" in shown(app)
        assert "copied: 33 characters from line 1,234" in shown(app)
        await press(pilot, "end")
        await until(lambda: "behind the last" in shown(app))


async def test_the_cursor_moves_by_token(make_app: MakeApp, runs_root: Path) -> None:
    runs(runs_root)
    engine = ScriptedEngine(score=score_pairs, expectation=expectation_of_pairs)
    app = make_app("playground", engine=engine)
    async with app.run_test(size=(140, 45)) as pilot:
        await open_surprise(app, pilot)
        text = view(app).text_view
        starts = view(app).branches[1].scored.starts  # type: ignore[union-attr]
        assert len(starts) < len(text.text)
        await press(pilot, "home")
        seen = [text.position]
        for _ in range(12):
            await press(pilot, "right")
            seen.append(text.position)
        assert seen == list(starts[:13])
        await press(pilot, "left")
        assert text.position == starts[11]
        word = next(n for n in range(len(starts) - 1) if starts[n + 1] - starts[n] > 2)
        text.go_to(starts[word] + 1)
        first, stop = starts[word], starts[word + 1]
        assert text.position == first
        await until(lambda: f"token {word + 1} of {len(starts) - 1}" in shown(app))
        assert text.tokens_between(starts[2], starts[9]) == 7
        assert "nats per character" in shown(app)
        chosen = text.text[first:stop].replace(" ", "␣").replace("\n", "↵")
        await until(lambda: view(app).xray is not None and f" {chosen} " in shown(app))


async def test_plus_and_minus_change_the_selected_step_live(surprise_app: LabApp) -> None:
    app = surprise_app
    async with app.run_test(size=(140, 45)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "right")
        await open_surprise(app, pilot)
        await until(lambda: "temperature=0.8 top_k=20" in shown(app))
        before = view(app).xray.stages[-1].probabilities.max()  # type: ignore[union-attr]
        await press(pilot, "minus", "minus", "right_square_bracket", "plus")
        await until(lambda: "temperature=0.6 top_k=21" in shown(app))
        assert view(app).xray.stages[-1].probabilities.max() > before  # type: ignore[union-attr]


@pytest.mark.parametrize("key", ["plus", "right_square_bracket"])
async def test_beside_the_branches_a_change_of_the_steps_is_seen(
    surprise_app: LabApp, key: str
) -> None:
    app = surprise_app
    async with app.run_test(size=(140, 45)) as pilot:
        await open_surprise(app, pilot)
        await press(pilot, "b")
        await until(lambda: "up and down walk" in shown(app))
        await press(pilot, key)
        await until(lambda: "up and down walk" not in shown(app))
        assert view(app).strategy in shown(app)


@pytest.mark.parametrize("keys", [("enter", "down", "down", "enter"), ("enter", "3")])
async def test_another_candidate_begins_a_branch(
    surprise_app: LabApp, requests: list[GenerationRequest], keys: tuple[str, ...]
) -> None:
    app = surprise_app
    async with app.run_test(size=(140, 45)) as pilot:
        await open_surprise(app, pilot)
        await press(pilot, "right", "right")
        await until(lambda: not view(app).is_asking)
        third = view(app).xray.candidates(3)[2]  # type: ignore[union-attr]
        await press(pilot, *keys)
        await until(lambda: len(requests) == 2)
        assert requests[1].prompt == "ROMEO:\nW" + third
        assert requests[1].strategies == ("temperature=0.8",)
        await until(lambda: view(app).text_view.text == requests[1].prompt + TEXT + "\n")
        await until(lambda: scored(app, 2))
        await press(pilot, "b", "up")
        await until(lambda: view(app).number == 1)
        assert view(app).text_view.text.startswith("ROMEO:\nWhat is")
        await press(pilot, "down", "escape", "escape")
        assert not place(app).is_surprise_shown
        assert view(app).branches[2].text == requests[1].prompt + TEXT + "\n"


async def test_the_score_of_a_branch_may_come_when_another_text_is_read(
    surprise_app: LabApp, engine: ScriptedEngine
) -> None:
    answers, given = threading.Event(), threading.Event()

    def score_when_told(reference: str, root: Path, text: str, prompt_length: int) -> object:
        if text.startswith("ROMEO:\nW") and not text.startswith("ROMEO:\nWhat is"):
            answers.wait(20)
            given.set()
        return score_text(reference, root, text, prompt_length)

    engine.score = score_when_told
    app = surprise_app
    async with app.run_test(size=(140, 45)) as pilot:
        await open_surprise(app, pilot)
        await press(pilot, "right", "right")
        await until(lambda: not view(app).is_asking)
        await press(pilot, "enter", "3")
        await until(lambda: len(view(app).branches) == 2 and TEXT in view(app).text_view.text[9:])
        await press(pilot, "escape", "s")
        await until(lambda: len(view(app).branches) == 1 and scored(app, 1))
        answers.set()
        await until(given.is_set)
        await pilot.pause(0.1)
        assert view(app).text_view.text.startswith("ROMEO:\nWhat is")


async def test_attention_by_layer_and_head(surprise_app: LabApp) -> None:
    app = surprise_app
    async with app.run_test(size=(140, 45)) as pilot:
        await open_surprise(app, pilot)
        await press(pilot, "a")
        await until(lambda: "layer mean of 2 · head mean of 2" in shown(app))
        await press(pilot, "right_square_bracket", "plus", "plus")
        await until(lambda: "layer 1 of 2 · head 2 of 2" in shown(app))
        row = next(row for row in shown(app).splitlines() if "70%" in row)
        assert "-4" in row
        await press(pilot, "a")
        await until(lambda: "Expected" in shown(app))


async def test_attention_of_another_place_is_not_shown_while_an_answer_is_awaited(
    surprise_app: LabApp, engine: ScriptedEngine
) -> None:
    answers = threading.Event()
    answers.set()

    def expectation_when_told(*arguments: Any) -> Expectation:
        answers.wait(20)
        return expectation_at(*arguments)

    engine.expectation = expectation_when_told
    app = surprise_app
    async with app.run_test(size=(140, 45)) as pilot:
        await open_surprise(app, pilot)
        await press(pilot, "end", "a")
        await until(lambda: "head mean of 2" in shown(app))
        answers.clear()
        # What was looked at most lies behind this place.
        await press(pilot, "home", "right")
        assert "reading …" in shown(app)
        answers.set()
        await until(lambda: "head mean of 2" in shown(app))


async def test_a_pasted_text_is_read(surprise_app: LabApp) -> None:
    app = surprise_app
    async with app.run_test(size=(140, 45)):
        await until(lambda: place(app).picker.chosen)
        app.screen.post_message(events.Paste("To be, [b]or not\r\nto be"))
        await until(lambda: "your text" in shown(app) and scored(app, 1))
        assert view(app).text_view.text == "To be, [b]or not\nto be"


async def test_a_typed_text_or_a_file_is_read(surprise_app: LabApp, tmp_path: Path) -> None:
    app = surprise_app
    path = tmp_path / "own.txt"
    path.write_text("Full fathom five")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "v", *"Hark", "ctrl+s")
        await until(lambda: view(app).text_view.text == "Hark")
        await press(pilot, "v", "tab", *str(tmp_path / "no"), "enter")
        await until(lambda: "such file" in shown(app))
        await press(pilot, "escape", "v", "tab", *str(path), "enter")
        await until(lambda: view(app).text_view.text == "Full fathom five")


async def test_the_real_model_is_asked(make_app: MakeApp, trained: RunFolder) -> None:
    app = make_app("playground")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(lambda: place(app).picker.chosen)
        place(app).columns.n_tokens = 20
        await press(pilot, "g")
        await until(lambda: place(app).columns.strip.columns[0].measures is not None, 60)
        await pilot.press("s", "right", "a")
        await until(lambda: scored(app, 1) and view(app).attention is not None, 30)
        chosen = AttentionChoice().of(view(app).attention)  # type: ignore[arg-type]
        assert chosen.sum() == pytest.approx(1, abs=1e-4)
        position = view(app).text_view.position
        probability = np.exp(-view(app).branches[1].scored.nats[position])
        stage = view(app).xray.stages[0]  # type: ignore[union-attr]
        token = view(app).xray.characters.index(  # type: ignore[union-attr]
            view(app).text_view.text[position]
        )
        assert stage.probabilities[token] == pytest.approx(probability, rel=1e-3)


def footer(app: LabApp) -> str:
    """The line of keys; a screenshot drops the blanks between them."""
    return shown(app).splitlines()[-1]


async def test_the_footer_names_the_keys_of_what_is_shown(surprise_app: LabApp) -> None:
    app = surprise_app
    async with app.run_test(size=(140, 45)) as pilot:
        await open_surprise(app, pilot)
        await until(lambda: "+- Change[] Step" in footer(app))
        await press(pilot, "a")
        await until(lambda: "+- Head[] Layer" in footer(app))
        assert "Change" not in footer(app)
        await until(lambda: "layer mean of 2 · head mean of 2" in shown(app))
        await press(pilot, "minus", "left_square_bracket")
        await until(lambda: "layer 2 of 2 · head 2 of 2" in shown(app))
        assert view(app).strategy == "temperature=0.8"
        await press(pilot, "w")
        await until(lambda: "+- Change[] Step" in footer(app))


async def test_c_gives_the_changed_strategy_to_the_column(surprise_app: LabApp) -> None:
    app = surprise_app
    async with app.run_test(size=(140, 45), notifications=True) as pilot:
        await until(lambda: place(app).picker.chosen)
        await press(pilot, "right")
        await open_surprise(app, pilot)
        assert "To column" not in footer(app)
        await press(pilot, "plus")
        await until(lambda: "c To column" in footer(app))
        await press(pilot, "c")
        await until(lambda: "column 2 has temperature=0.9 top_k=20" in shown(app))
        assert "To column" not in footer(app)
        written = place(app).columns.strip.columns[1].stream.text
        await press(pilot, "escape")
        assert place(app).columns.strip.strategies[1] == "temperature=0.9 top_k=20"
        assert place(app).columns.strip.columns[1].stream.text == written
        await press(pilot, "u")
        await until(lambda: place(app).columns.strip.strategies[1] == "temperature=0.8 top_k=20")
        assert place(app).columns.strip.columns[1].stream.text == written


async def test_a_text_of_ones_own_opens_where_something_was_expected(surprise_app: LabApp) -> None:
    app = surprise_app
    async with app.run_test(size=(140, 45)):
        await until(lambda: place(app).picker.chosen)
        app.screen.post_message(events.Paste("To be"))
        await until(lambda: view(app).xray is not None and "character 2 of 5" in shown(app))
        assert "nothing stands before" not in shown(app)
        assert "surprise" in shown(app)


async def test_help_names_the_key_of_the_next_copy(surprise_app: LabApp) -> None:
    app = surprise_app
    async with app.run_test(size=(140, 60)) as pilot:
        await open_surprise(app, pilot)
        await press(pilot, "question_mark")
        said = "m jumps to the next passage copied"
        await until(lambda: said in " ".join(shown(app).replace("│", "").split()))


CHAINS = (
    "xtc=0.6,threshold=0.05 temperature=1.2",
    "mirostat=0.9,rate=0.4 temperature=0.9",
    "dry=0.8,allowed=2 frequency_penalty=0.3 top_p=0.8",
    "beam=3",
    "contrastive=4,alpha=0.5",
)


async def test_the_xray_of_what_a_real_model_drew_is_what_it_drew_from(
    make_app: MakeApp, trained: RunFolder
) -> None:
    """No drawn character is shown as impossible; a search shows the scores of what it kept."""
    app = make_app("playground")
    async with app.run_test(size=(200, 45)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await place(app).columns.strip.set_columns(list(map(ColumnState, CHAINS)))
        place(app).columns.n_tokens = 40
        await press(pilot, "g")
        await until(lambda: place(app).columns.strip.columns[-1].measures is not None, 60)
        for chain in CHAINS:
            column = place(app).columns.strip.current
            assert column.written_with == chain
            await press(pilot, "s")
            for position in range(6, 46, 9):
                view(app).text_view.go_to(position)
                await until(lambda: not view(app).is_asking)
                xray = view(app).xray
                assert xray is not None
                assert xray.title == "As it was drawn"
                token = xray.characters.index(column.stream.text[position])
                last = xray.stages[-1]
                if last.scores is None:
                    assert last.probabilities[token] > 0
                else:
                    assert np.isfinite(last.scores[token])
                    assert np.isfinite(last.scores).sum() <= 4
                if last.name == "contrastive":
                    assert np.nanargmax(last.scores) == token
                assert token in xray.rows(5)
            words = {"mirostat": "μ ", "dry": "repeats", "beam": "score"}
            if word := words.get(chain.partition("=")[0]):
                await until(lambda word=word: word in shown(app))  # type: ignore[misc]
            await press(pilot, "escape", "right")


async def test_a_changed_strategy_or_a_branch_is_not_called_drawn(
    make_app: MakeApp, trained: RunFolder
) -> None:
    app = make_app("playground")
    async with app.run_test(size=(200, 45)) as pilot:
        await until(lambda: place(app).picker.chosen)
        place(app).columns.n_tokens = 30
        await press(pilot, "g")
        await until(lambda: place(app).columns.strip.columns[-1].measures is not None, 60)
        await press(pilot, "s", "right")
        await until(lambda: "As it was drawn" in shown(app))
        await press(pilot, "plus")
        await until(lambda: "As it could be drawn" in shown(app))
        await press(pilot, "minus", "enter", "3")
        await until(lambda: scored(app, 2), 60)
        position = view(app).text_view.position
        await until(lambda: view(app).xray is not None and "Expected" in shown(app))
        await press(pilot, "right")
        await until(lambda: "As it was drawn" in shown(app))
        token = view(app).xray.characters.index(  # type: ignore[union-attr]
            view(app).text_view.text[position + 1]
        )
        assert view(app).xray.stages[-1].probabilities[token] > 0  # type: ignore[union-attr]


async def test_a_search_counts_the_characters_that_it_writes(
    make_app: MakeApp, trained: RunFolder
) -> None:
    app = make_app("playground")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(lambda: place(app).picker.chosen)
        await place(app).columns.strip.set_columns(
            [ColumnState(each) for each in ("beam=3", "contrastive=4", "greedy")]
        )
        place(app).columns.n_tokens = 25
        await press(pilot, "g")
        await until(lambda: place(app).columns.strip.columns[-1].measures is not None, 60)
        for column in place(app).columns.strip.columns:
            assert len(column.stream.text) == len("ROMEO:") + 25
            assert str(column.border_subtitle).startswith("25 · ")


LONG = " ".join(f"word{number}" for number in range(25))


@pytest.mark.parametrize(
    ("error", "words"),
    [(UserError(LONG), LONG), (LookupError("x"), "look crashed; see the lab's log")],
)
async def test_an_error_of_the_reading_is_shown_in_full(
    surprise_app: LabApp, engine: ScriptedEngine, error: Exception, words: str
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    app = surprise_app
    async with app.run_test(size=(80, 24)) as pilot:
        await open_surprise(app, pilot)
        engine.expectation = fail
        await press(pilot, "right")
        await until(lambda: words in " ".join(shown(app).split()))


def test_a_number_takes_the_candidate_that_stands_beside_it() -> None:
    logits = -np.arange(20, dtype=np.float32)
    characters = tuple("abcdefghijklmnopqrst")
    strategy = parse_strategy("temperature=1")
    known = Draw.imagined(strategy, logits)
    xray = XRay(characters, np.array([0]), known, strategy, chosen="q")
    rows = xray_lines(xray, 40, 6, is_focused=True, ascii=True).plain.splitlines()[1:]
    beside = [row[1:4].split() for row in rows]
    assert beside == [["1", "a"], ["2", "b"], ["3", "c"], ["4", "d"], ["5", "q"]]
    assert xray.candidates(7) == ["a", "b", "c", "d", "q", "e", "f"]
