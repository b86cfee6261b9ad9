"""The Config screen, as somebody at the keyboard meets it."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from config_harness import add_run, edit_row, keep_settings, place, row
from lab_harness import MakeApp, ScriptedTrainer, press, shown, until
from textual import events
from textual.widgets import Input

from shakespeare_tui.config.draft import config_texts
from shakespeare_tui.config.fields import config_fields
from shakespeare_tui.config.load import load_config
from shakespeare_tui.ui.config.form import matches
from shakespeare_tui.ui.engine.training import TrainingController

Scripted = Callable[..., tuple[TrainingController, ScriptedTrainer]]
TALL = (100, 46)
QUICK = config_texts(load_config("quick"))
LAYERS = QUICK["model.n_layers"]


class TestForm:
    async def test_every_setting_has_a_row_with_value_range_and_help(
        self, make_app: MakeApp
    ) -> None:
        app = make_app("config")
        async with app.run_test(size=(240, 100)) as pilot:
            await pilot.pause()
            text = shown(app)
            for field in config_fields():
                rows = [line for line in text.splitlines() if line[3:].startswith(f"{field.key} ")]
                line = next(line for line in rows if field.help[:30] in line)
                if field.kind in ("integer", "number"):
                    assert field.range_text in line
                elif field.kind == "choice":
                    assert field.choices[0] in line

    async def test_the_row_under_the_cursor_is_explained_in_full(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL) as pilot:
            await press(pilot, "p", *"nanogpt-gpu", "enter", "slash", *"dropout", "enter")
            text = shown(app)
            assert "Share of activations dropped in training" in text
            assert "at least 0, below 1   default 0   nanogpt-gpu 0.2" in text

    async def test_a_mistake_is_told_beside_its_row_while_typing(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=(80, 24)) as pilot:
            await edit_row(pilot, "d_model", "130", done=False)
            lines = shown(app).splitlines()
            at = next(n for n, line in enumerate(lines) if " d_model" in line)
            assert "d_model 130 is not divisible by n_heads" in lines[at + 1]
            assert "1 wrong" in lines[1]
            await press(pilot, "escape")
            assert "not divisible" not in shown(app)
            assert f" {QUICK['model.d_model']} " in row(app, "d_model")

    async def test_all_mistakes_stay_in_view_and_n_goes_round_them(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await edit_row(pilot, "n_layers", "0")
            await edit_row(pilot, "beta2", "two")
            text = shown(app)
            assert "must be at least 1, got 0" in text
            assert "must be a number, got 'two'" in text
            await press(pilot, "home", "n")
            assert place(app).cursor == "model.n_layers"
            await press(pilot, "n", "n")
            assert place(app).cursor == "model.n_layers"

    async def test_a_changed_row_says_what_it_was_and_r_puts_it_back(
        self, make_app: MakeApp
    ) -> None:
        app = make_app("config")
        async with app.run_test(size=(80, 24)) as pilot:
            await edit_row(pilot, "n_layers", "6")
            assert row(app, "n_layers").split()[:5] == ["▸●", "n_layers", "6", "was", LAYERS]
            assert "1 changed" in shown(app)
            await press(pilot, "r")
            assert row(app, "n_layers").split()[:3] == ["▸", "n_layers", LAYERS]

    async def test_undo_and_redo_by_key_also_over_presets(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await edit_row(pilot, "n_layers", "6")
            await press(pilot, "p", *"tiny", "enter")
            assert "tiny preset" in shown(app)
            await press(pilot, "u")
            assert "quick preset" in shown(app)
            assert " 6 " in row(app, "n_layers")
            await press(pilot, "u")
            assert f" {LAYERS} " in row(app, "n_layers")
            await press(pilot, "U", "U")
            assert "tiny preset" in shown(app)

    async def test_choices_turn_without_typing(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            before = place(app).draft.text("model.bias")
            await press(pilot, "slash", *"bias", "enter", "space")
            assert place(app).draft.text("model.bias") == {"true": "false", "false": "true"}[before]
            positions = place(app).draft.text("model.positions")
            await press(pilot, "escape", "slash", *"positions", "enter", "left")
            other = place(app).draft.text("model.positions")
            assert other != positions
            assert f" {other} " in row(app, "positions")
            await press(pilot, "right")
            assert place(app).draft.text("model.positions") == positions

    async def test_a_filter_narrows_the_rows_and_escape_shows_all(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await press(pilot, "slash", *"muon")
            text = shown(app)
            assert "muon_steps" in text
            assert "d_model" not in text.replace("model.d_model", "")
            await press(pilot, "enter", "escape")
            assert "n_heads" in shown(app)

    def test_a_filter_knows_initials_and_words_of_the_help(self) -> None:
        def found(words: str) -> list[str]:
            return [field.path for field in config_fields() if matches(field, words)]

        assert {"training.learning_rate", "training.min_lr"} <= set(found("lr"))
        assert "training.batch_size" not in found("lr")
        assert "training.grad_clip" in found("gradient norm")
        assert found("sampling temp") == ["sampling.temperature"]
        assert found("zzz") == []

    async def test_c_shows_only_what_was_changed(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await press(pilot, "c")
            assert "the same as quick" in shown(app)
            await press(pilot, "c")
            await edit_row(pilot, "n_layers", "6")
            await press(pilot, "c")
            text = shown(app)
            assert "n_layers" in text
            assert "n_heads" not in text

    async def test_the_mouse_chooses_a_row_and_edits_it(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await pilot.pause()
            at = next(n for n, line in enumerate(shown(app).splitlines()) if " n_layers" in line)
            await pilot.click(offset=(8, at))
            await pilot.pause()
            assert place(app).cursor == "model.n_layers"
            await pilot.click(offset=(8, at))
            await pilot.pause()
            await press(pilot, "9")
            # A click elsewhere keeps what was typed.
            await pilot.click(offset=(8, at - 1))
            await pilot.pause()
            assert " 9 " in row(app, "n_layers")

    async def test_keys_that_come_at_once_are_obeyed_in_order(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await edit_row(pilot, "n_layers", "12", done=False)
            for key, character in (("backspace", None), ("6", "6"), ("enter", None)):
                app.post_message(events.Key(key, character))
            await pilot.pause()
            assert " 16 " in row(app, "n_layers")

    async def test_brackets_in_values_are_shown_as_they_are(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await edit_row(pilot, "prompts", "a[red]x[/red]")
            assert "a[red]x[/red]" in row(app, "prompts")
            await edit_row(pilot, "corpus", "[/][bold]y")
            assert "[/][bold]y" in row(app, "corpus")
            await press(pilot, "d")
            assert "[/][bold]y" in shown(app)

    async def test_only_ascii_reaches_the_terminal_in_ascii_mode(self, make_app: MakeApp) -> None:
        app = make_app("config", ascii=True)
        async with app.run_test(size=(80, 24)) as pilot:
            await edit_row(pilot, "d_model", "0")
            *lines, footer = shown(app).splitlines()
            assert all(line.isascii() for line in (*lines, footer))
            assert all("?" not in line.partition("|")[0] for line in lines[:-1])
            assert ">x d_model" in "\n".join(lines)

    @pytest.mark.slow  # the random walk goes through this screen, too
    async def test_any_size_and_any_key_are_survived(self, make_app: MakeApp) -> None:
        app = make_app("config")
        chance = random.Random(7)
        keys = [
            *"jkgGrcduUnNl", "enter", "escape", "up", "down", "7", "slash", "tab", "p", "space",
            "pagedown", "a", "x", "right_square_bracket", "left_square_bracket",
        ]  # fmt: skip
        async with app.run_test(size=(80, 24)) as pilot:
            for _ in range(60):
                if chance.random() < 0.15:
                    await pilot.resize_terminal(chance.randint(20, 200), chance.randint(6, 60))
                app.post_message(
                    events.Key(key := chance.choice(keys), key if key == "7" else None)
                )
                await pilot.pause(0)
            await pilot.pause()


class TestDiff:
    async def test_both_values_are_shown_and_theirs_can_be_taken(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=(80, 24)) as pilot:
            await edit_row(pilot, "n_layers", "6")
            await edit_row(pilot, "learning_rate", "1e-2")
            await press(pilot, "d")
            lines = [line.partition("│")[0].split() for line in shown(app).splitlines()]
            assert ["▸", "n_layers", "6", "←", LAYERS] in lines
            assert ["learning_rate", "1e-2", "←", QUICK["training.learning_rate"]] in lines
            await press(pilot, "enter", "escape", "home")
            assert "1 changed" in shown(app)
            assert f" {LAYERS} " in row(app, "n_layers")

    async def test_a_damaged_run_is_offered_with_its_reason_and_not_taken(
        self, make_app: MakeApp, runs_root: Path
    ) -> None:
        add_run(runs_root, "old-3", load_config("quick", ["model.n_layers=2"]), 1.75)
        add_run(runs_root, "bad-1", load_config("tiny"), 1.9)
        (runs_root / "bad-1" / "config.yaml").write_text("model: [")
        app = make_app("config")
        async with app.run_test(size=(100, 40)) as pilot:
            await until(lambda: len(place(app).card.runs) == 2)
            await press(pilot, "p", *"bad-1")
            assert "bad-1  config.yaml:1:" in shown(app)
            await press(pilot, "enter")
            assert "bad-1  config.yaml:1:" in shown(app)
            await press(pilot, *["backspace"] * 5, *"old-3", "enter")
            assert place(app).draft.text("model.n_layers") == "2"

    async def test_another_preset_or_any_run_can_be_compared_with(
        self, make_app: MakeApp, runs_root: Path
    ) -> None:
        add_run(runs_root, "old-3", load_config("quick", ["model.n_layers=2"]), 1.75)
        app = make_app("config")
        async with app.run_test(size=(100, 40)) as pilot:
            await until(lambda: place(app).card.runs)
            await press(pilot, "d")
            assert "no setting differs from quick" in shown(app)
            await press(pilot, "c", *"old-3", "enter")
            text = shown(app)
            assert "difference from old-3 run" in text
            assert ["▸", "n_layers", LAYERS, "←", "2"] in [
                line.partition("│")[0].split() for line in text.splitlines()
            ]
            await press(pilot, "c", *"shakespeare", "enter")
            assert "difference from shakespeare preset" in shown(app)


class TestFiles:
    async def test_saved_yaml_has_comments_and_reads_back_equal(
        self, make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await edit_row(pilot, "n_layers", "6")
            await press(pilot, "w", "enter")
            await until(lambda: Path("my-quick.yaml").exists())
            await pilot.pause()
            assert load_config(Path("my-quick.yaml")) == load_config("quick", ["model.n_layers=6"])
            assert "# Transformer blocks. [1 to 256]" in Path("my-quick.yaml").read_text()
            assert "my-quick.yaml file" in shown(app)
            assert "changed" not in shown(app)

    async def test_another_file_is_replaced_only_when_asked_twice(
        self, make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        other = tmp_path / "other.yaml"
        other.write_text("precious")
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await press(pilot, "w", *"other", "enter")
            assert other.read_text() == "precious"
            assert "other.yaml exists; enter again replaces it" in shown(app)
            await press(pilot, "enter")
            await until(lambda: other.read_text() != "precious")

    async def test_an_invalid_config_is_not_saved_and_says_why(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await edit_row(pilot, "n_layers", "0")
            await press(pilot, "w")
            assert "fix 1 error first" in shown(app)

    async def test_a_file_is_loaded_with_path_completion(
        self, make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "experiment.yaml").write_text("model:\n  n_layers: 9\n")
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await press(pilot, "o", *"exp")
            await until(lambda: app.screen.query_one(Input)._suggestion)
            await press(pilot, "tab", "enter")
            assert "experiment.yaml file" in shown(app)
            assert " 9 " in row(app, "n_layers")

    async def test_all_problems_of_a_file_are_told_and_the_form_stays(
        self, make_app: MakeApp, tmp_path: Path
    ) -> None:
        path = tmp_path / "bad.yaml"
        path.write_text("model:\n  n_layerz: 9\ntraining:\n  batch_size: -1\n")
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            place(app).files.open(path)
            await pilot.pause()
            text = shown(app)
            assert "did you mean n_layers?" in text
            assert "must be at least 1, got -1" in text
            await press(pilot, "escape")
            assert "quick preset" in shown(app)

    async def test_what_the_editor_brought_is_one_step(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            text = place(app).draft.to_yaml()
            text = text.replace("n_layers: 4", "n_layers: 5").replace(
                "dropout: 0.0", "dropout: 0.2"
            )
            place(app).files.take_edited(text)
            await pilot.pause()
            assert "2 changed" in shown(app)
            await press(pilot, "u")
            assert "changed" not in shown(app).splitlines()[1]

    async def test_without_a_terminal_to_hand_over_the_editor_key_says_so(
        self, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EDITOR", "true")
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await press(pilot, "e")
            assert "cannot be handed to an editor" in shown(app)


class TestDraft:
    async def test_edits_outlive_the_lab_mistakes_and_undo_included(
        self, make_app: MakeApp, tmp_path: Path
    ) -> None:
        app = make_app("config", settings=keep_settings(tmp_path))
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await edit_row(pilot, "n_layers", "6")
            await edit_row(pilot, "beta2", "two")
        again = make_app("config", settings=keep_settings(tmp_path))
        async with again.run_test(size=TALL) as pilot:
            await pilot.pause()
            assert " two " in row(again, "beta2")
            await press(pilot, "u", "u")
            assert f" {LAYERS} " in row(again, "n_layers")

    async def test_an_edit_is_on_disk_soon_after_it_was_made(
        self, make_app: MakeApp, tmp_path: Path
    ) -> None:
        app = make_app("config", settings=keep_settings(tmp_path))
        file = tmp_path / "lab" / "config-draft.json"
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await edit_row(pilot, "n_layers", "6", done=False)
            await until(lambda: file.exists() and '"model.n_layers": "6"' in file.read_text())

    async def test_a_damaged_draft_is_said_and_kept(
        self, make_app: MakeApp, tmp_path: Path
    ) -> None:
        (tmp_path / "lab").mkdir()
        (tmp_path / "lab" / "config-draft.json").write_text("{")
        app = make_app("config", settings=keep_settings(tmp_path))
        async with app.run_test(size=TALL, notifications=True):
            await until(lambda: "damaged" in shown(app))
            assert (tmp_path / "lab" / "config-draft.json.damaged").exists()


class TestOtherPlaces:
    async def test_s_starts_training_with_this_config_and_shows_it(
        self, make_app: MakeApp, scripted: Scripted
    ) -> None:
        training, trainer = scripted()
        app = make_app("config", training=training)
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await edit_row(pilot, "n_layers", "6")
            await press(pilot, "s")
            await until(lambda: trainer.requests)
            await pilot.pause()
            assert app.current_mode == "train"
            [request] = trainer.requests
            assert request.config == load_config("quick", ["model.n_layers=6"])
            assert request.stem == "quick"

    async def test_a_mistake_stops_the_start_and_is_named(
        self, make_app: MakeApp, scripted: Scripted
    ) -> None:
        training, trainer = scripted()
        app = make_app("config", training=training)
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await edit_row(pilot, "n_layers", "0")
            await press(pilot, "s")
            assert app.current_mode == "config"
            assert "model.n_layers: must be at least 1" in shown(app)
        assert not trainer.requests

    async def test_a_corpus_chosen_in_data_is_taken_and_can_be_undone(
        self, make_app: MakeApp
    ) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await press(pilot, "5")
            app.services.draft.set_text("data.corpus", "sample")
            await press(pilot, "2")
            assert " sample " in row(app, "corpus")
            await press(pilot, "u")
            assert "tiny_shakespeare" in row(app, "corpus")
            assert app.services.draft.runnable.config.data.corpus == "tiny_shakespeare"

    async def test_a_fork_keeps_its_weights_shape_until_they_are_forgotten(
        self, make_app: MakeApp
    ) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            app.edit_config(load_config("tiny"), stem="tiny", start_from="tiny-1@100")
            await pilot.pause()
            assert "weights of tiny-1@100" in shown(app)
            assert app.services.draft.origin.start_from == "tiny-1@100"
            await edit_row(pilot, "n_layers", "3")
            assert "the weights of tiny-1@100 need 2" in shown(app)
            await press(pilot, "X")
            assert "need 2" not in shown(app)
            assert app.services.draft.origin.start_from is None

    async def test_copy_puts_the_yaml_on_the_clipboard(self, make_app: MakeApp) -> None:
        app = make_app("config")
        async with app.run_test(size=TALL, notifications=True) as pilot:
            await edit_row(pilot, "n_layers", "6")
            await press(pilot, "y")
            assert "  n_layers: 6" in app.clipboard
