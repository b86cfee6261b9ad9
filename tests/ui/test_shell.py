"""The shell around the screens: keys, palette, help, themes, ASCII, settings, key maps, leaving."""

import itertools
import math
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from lab_harness import MakeApp, ScriptedTrainer, press, shown, until
from streams import healthy_run, make_run
from textual import events
from textual.widget import Widget
from textual.widgets import Input, Label, OptionList

from shakespeare_tui.config.schema import Config
from shakespeare_tui.runs.commands import GenerateSample, Stop
from shakespeare_tui.training.request import TrainingRequest
from shakespeare_tui.ui.app import LabApp
from shakespeare_tui.ui.engine.channel import Ended
from shakespeare_tui.ui.engine.training import TrainingController
from shakespeare_tui.ui.keys import is_key, load_keymap
from shakespeare_tui.ui.lab_screen import SCREENS, KeyLine, LabScreen
from shakespeare_tui.ui.quitting import LeaveDialog
from shakespeare_tui.ui.settings import Settings
from shakespeare_tui.ui.themes import THEMES, series_colors
from shakespeare_tui.ui.train.choose_runs import ChooseRuns

Scripted = Callable[..., tuple[TrainingController, ScriptedTrainer]]


NEW_RUN = TrainingRequest(root=Path("runs"), config=Config())


class TestPlaces:
    async def test_a_key_each_leads_to_the_places(self, make_app: MakeApp) -> None:
        app = make_app()
        async with app.run_test() as pilot:
            for key, place in (
                ("2", "config"), ("3", "train"), ("4", "playground"), ("6", "experiments"),
                ("1", "data"),
            ):  # fmt: skip
                await pilot.press(key)
                await pilot.pause()
                assert app.current_mode == place
                assert shown(app).splitlines()[0].split()[:4] == ["1", "Data", "2", "Config"]

    async def test_the_place_bar_takes_clicks(self, make_app: MakeApp) -> None:
        app = make_app("playground")
        async with app.run_test() as pilot:
            column = shown(app).splitlines()[0].index("Checkpoints")
            await pilot.click(offset=(column, 0))
            await pilot.pause()
            assert app.current_mode == "checkpoints"

    async def test_a_text_field_takes_digits_until_escape(self, make_app: MakeApp) -> None:
        app = make_app("playground")
        async with app.run_test() as pilot:
            await pilot.press("p", "5", "q")
            assert app.current_mode == "playground"
            assert app.screen.query_one("#prompt", Input).value.endswith("5q")
            await pilot.press("escape", "5")
            await pilot.pause()
            assert app.current_mode == "checkpoints"


class TestHelpAndPalette:
    @pytest.mark.parametrize("place", SCREENS)
    async def test_help_tells_what_a_place_is_for_and_every_key(
        self, make_app: MakeApp, place: str
    ) -> None:
        app = make_app(place)
        async with app.run_test(size=(100, 120)) as pilot:
            await pilot.pause()
            screen = app.screen
            promised = {
                binding.description
                for active in screen.active_bindings.values()
                if not (binding := active.binding).system and binding.description
            }
            await pilot.press("f1")
            await pilot.pause()
            text = shown(app)
            assert len(type(screen).HELP.split()) > 20  # type: ignore[attr-defined]
            assert type(screen).HELP.split()[0] in text  # type: ignore[attr-defined]
            assert {what for what in promised if what not in text} == set()
            await pilot.press("escape")
            assert app.screen is screen

    async def test_the_palette_has_the_actions_of_the_place(self, make_app: MakeApp) -> None:
        app = make_app("playground")
        async with app.run_test() as pilot:
            await pilot.press("ctrl+p", *"next seed")
            await pilot.pause(0.3)
            await pilot.press("enter")
            await until(lambda: "seed 43" in shown(app))

    async def test_the_palette_changes_the_theme_for_good(
        self, make_app: MakeApp, tmp_path: Path
    ) -> None:
        path = tmp_path / "settings.yaml"
        app = make_app("playground", settings=Settings.load(path))
        async with app.run_test() as pilot:
            await pilot.press("ctrl+p", *"theme: light")
            await pilot.pause(0.3)
            await pilot.press("enter")
            await until(lambda: app.theme == "lab-light")
        assert Settings.load(path).theme == "lab-light"


class TestLooks:
    @pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
    def test_text_and_series_are_readable_on_every_theme(self, theme: object) -> None:
        from textual.color import Color
        from textual.theme import Theme

        assert isinstance(theme, Theme)
        ground = [Color.parse(c) for c in (theme.background, theme.surface, theme.panel) if c]
        is_strong = "contrast" in theme.name
        words = [theme.foreground, theme.accent, theme.success, theme.warning, theme.error]
        for word in [*words, theme.variables["text-muted"]]:
            assert word is not None
            for colour in ground:
                least = 7.0 if is_strong else 4.5
                assert _contrast(Color.parse(word), colour) >= least, (word, colour.hex)
        cursor = Color.parse(theme.variables["block-cursor-background"])
        assert theme.foreground is not None
        assert _contrast(Color.parse(theme.foreground), cursor) >= 4.5
        for series in series_colors(theme):
            assert _contrast(Color.parse(series), ground[0]) >= 3.0, series

    @pytest.mark.parametrize("is_dark", [True, False])
    def test_series_stay_apart_for_colour_blind_eyes(self, is_dark: bool) -> None:
        theme = next(theme for theme in THEMES if theme.dark == is_dark)
        colours = series_colors(theme)[:4]
        for matrix in _COLOUR_BLINDNESS.values():
            seen = [_seen_by(matrix, colour) for colour in colours]
            for one, other in itertools.combinations(seen, 2):
                assert math.dist(one, other) > 0.12, (colours, one, other)

    @pytest.mark.parametrize("place", SCREENS)
    async def test_ascii_mode_draws_nothing_but_ascii(self, make_app: MakeApp, place: str) -> None:
        app = make_app(place, ascii=True)
        async with app.run_test() as pilot:
            await pilot.pause()
            assert [c for c in shown(app) if not c.isascii()] == []
            await pilot.press("f1")
            await pilot.pause()
            assert [c for c in shown(app) if not c.isascii()] == []

    async def test_ascii_mode_goes_on_and_off_at_once(self, make_app: MakeApp) -> None:
        app = make_app("playground")
        async with app.run_test() as pilot:
            await pilot.pause()
            before = shown(app)
            assert not before.isascii()
            app.looks.choose_ascii(True)
            await pilot.pause()
            assert shown(app).isascii()
            app.looks.choose_ascii(False)
            await pilot.pause()
            assert shown(app) == before

    async def test_without_colour_the_present_place_is_still_marked(
        self, make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from textual.color import Color

        monkeypatch.setenv("NO_COLOR", "1")
        app = make_app("playground")
        async with app.run_test() as pilot:
            await pilot.pause()
            svg = app.export_screenshot()
        # The picture's own frame, its buttons and its default text are not ours.
        frame = {"#ff5f57", "#febc2e", "#28c840", "#c5c8c6"}
        colours = [Color.parse(fill) for fill in _fills(svg) - frame]
        assert [c.hex for c in colours if max(c.rgb) - min(c.rgb) > 2] == []
        assert len(colours) >= 3


class TestSettings:
    def test_what_was_remembered_comes_back(self, tmp_path: Path) -> None:
        path = tmp_path / "folder" / "settings.yaml"
        settings = Settings.load(path)
        settings.set("train.smoothing", 0.9)
        settings.set("train.log_x", True)
        settings.set("config.file", "[red]x[/red]: ümlaut")
        settings.save()
        again = Settings.load(path)
        assert again.get("train.smoothing", 0.5) == 0.9
        assert again.get("train.log_x", False) is True
        assert again.get("config.file", "") == "[red]x[/red]: ümlaut"
        assert again.problem == ""

    def test_a_value_of_another_type_is_not_used(self, tmp_path: Path) -> None:
        path = tmp_path / "settings.yaml"
        path.write_text("places: {train.smoothing: much, train.columns: 3, train.log_x: 1}")
        settings = Settings.load(path)
        assert settings.get("train.smoothing", 0.5) == 0.5
        assert settings.get("train.columns", 1.0) == 3.0
        assert settings.get("train.log_x", False) is False

    @pytest.mark.parametrize(
        "content",
        [
            *(b"\xff\xfe\x00", b"{theme: [", b"- 1\n- 2\n", b"42", b"[" * 100_000),
            b"a: &a [x, x]\nb: [*a, *a]\n",
            b"theme: lab-light\n#" + b"x" * 5_000_000,
        ],
        ids=range(7),
    )
    def test_a_damaged_file_is_told_and_kept(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "settings.yaml"
        path.write_bytes(content)
        found = Settings.load(path)
        assert "settings.yaml" in found.problem
        assert found.theme == "lab-dark"
        assert path.with_name("settings.yaml.damaged").read_bytes() == content
        assert Settings.load(path).problem == ""

    async def test_with_a_damaged_file_the_lab_opens_and_tells_so(
        self, make_app: MakeApp, tmp_path: Path
    ) -> None:
        path = tmp_path / "settings.yaml"
        path.write_text("{theme: [")
        app = make_app("playground", settings=Settings.load(path))
        async with app.run_test(notifications=True) as pilot:
            await pilot.pause()
            # The path may be longer than the line.
            assert "settings.yaml" in shown(app).replace("\n▌", "")
            assert app.theme == "lab-dark"

    @pytest.mark.parametrize(
        "content",
        [
            "places: {playground.length: 2020-01-02, train.smoothing: .nan}",
            f"places: {{playground.length: {'9' * 400}, train.log_x: 1e999}}",
            "places: {playground.history: '" + "[" * 100_000 + "', playground.columns: '[[[['}",
            "places: 3\ntheme: 2020-01-01\nascii: {}",
        ],
        # Each is sent to and fro between processes.
        ids=range(4),
    )
    async def test_odd_values_are_not_used_and_the_lab_opens(
        self, make_app: MakeApp, tmp_path: Path, content: str
    ) -> None:
        path = tmp_path / "settings.yaml"
        path.write_text(content)
        app = make_app("playground", settings=Settings.load(path))
        async with app.run_test(notifications=True) as pilot:
            await pilot.press("3", "2", "4")
            await pilot.pause()
            assert app.current_mode == "playground"

    def test_a_fifo_in_the_place_of_the_file_is_not_waited_for(self, tmp_path: Path) -> None:
        path = tmp_path / "settings.yaml"
        os.mkfifo(path)
        assert "not a regular file" in Settings.load(path).problem
        assert Settings.load(path).problem == ""

    async def test_an_unknown_theme_falls_back(self, make_app: MakeApp) -> None:
        app = make_app("playground", theme="no-such-theme")
        async with app.run_test():
            assert app.theme == "lab-dark"

    async def test_a_folder_that_cannot_be_written_is_told_once(
        self, make_app: MakeApp, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        app = make_app("playground", settings=Settings(path=tmp_path / "file" / "settings.yaml"))
        async with app.run_test(notifications=True) as pilot:
            app.remember("train.smoothing", 0.9)
            await pilot.pause(1.2)
            assert _tells(app, "settings cannot be saved")


class TestKeyMap:
    async def test_a_remapped_key_works_and_the_old_one_does_not(
        self, make_app: MakeApp, keys_file: Path
    ) -> None:
        keys_file.write_text("app.checkpoints: ctrl+t\nplayground.prompt: [w, f6]\n")
        app = make_app("playground")
        async with app.run_test() as pilot:
            await pilot.pause()
            await pilot.press("5")
            assert app.current_mode == "playground"
            await pilot.press("w")
            assert isinstance(app.focused, Input)
            await pilot.press("escape", "f6")
            assert isinstance(app.focused, Input)
            await pilot.press("escape", "ctrl+t")
            await pilot.pause()
            assert app.current_mode == "checkpoints"

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ("app.checkpoint: ctrl+t", "did you mean app.checkpoints"),
            ("app.checkpoints: ctrl+nokey", "'ctrl+nokey' is no key"),
            ("app.checkpoints: '4'", "4 is both"),
            ("[", "the keys stay as they are"),
            ("- app.quit", "action: key"),
        ],
    )
    async def test_what_is_wrong_is_told_and_the_rest_works(
        self, make_app: MakeApp, keys_file: Path, content: str, told: str
    ) -> None:
        keys_file.write_text(content)
        app = make_app("playground")
        async with app.run_test(notifications=True, size=(120, 40)) as pilot:
            await until(lambda: _tells(app, told))
            await pilot.press("3")
            await pilot.pause()
            assert app.current_mode == "train"

    async def test_a_text_field_obeys_the_key_map_only(
        self, make_app: MakeApp, keys_file: Path
    ) -> None:
        keys_file.write_text("config.done: f6\n")
        app = make_app("config")
        async with app.run_test(size=(120, 40)) as pilot:
            await until(lambda: "n_layers" in shown(app))
            await press(pilot, "j", "j", "enter", "x", "f6")
            assert not isinstance(app.focused, Input)
            await press(pilot, "enter", "x", "enter")
            assert isinstance(app.focused, Input)

    async def test_the_template_names_every_action_and_changes_nothing(
        self, make_app: MakeApp, keys_file: Path
    ) -> None:
        from shakespeare_tui.ui.keys import check_keymap, known_bindings, write_template

        assert write_template(keys_file)
        assert load_keymap(keys_file).keys == {}
        text = keys_file.read_text(encoding="utf-8")
        uncommented = "\n".join(
            line.removeprefix("# ") for line in text.splitlines() if ": " in line and '"' in line
        )
        actions = yaml.safe_load(uncommented)
        known = {b.id for group in known_bindings().values() for b in group}
        assert set(actions) == known
        keys_file.write_text(uncommented)
        keymap = load_keymap(keys_file)
        assert keymap.problems == ()
        assert check_keymap(keymap.keys, known_bindings()) == []
        assert not write_template(keys_file)

    def test_every_key_in_the_lab_can_be_remapped(self) -> None:
        from textual.binding import Binding
        from textual.dom import DOMNode

        from shakespeare_tui.ui import keys as keymap

        keymap.known_bindings()
        without = [
            (node.__name__, binding.key)
            for node in keymap._subclasses(DOMNode)
            if node.__module__.startswith("shakespeare_tui.")
            for binding in Binding.make_bindings(vars(node).get("BINDINGS", []))
            if not binding.id
        ]
        assert without == []

    @pytest.mark.parametrize(
        ("name", "is_good"),
        [("a", True), ("ctrl+t", True), ("f5", True), ("question_mark", True), ("?", True)]
        + [("", False), ("ctrl+", False), ("hello", False), ("ctrl+shift", False), ("a b", False)],
    )
    def test_key_names(self, name: str, is_good: bool) -> None:
        assert is_key(name) is is_good


class TestTraining:
    async def test_the_status_line_follows_a_run_everywhere(
        self, make_app: MakeApp, scripted: Scripted
    ) -> None:
        training, trainer = scripted(healthy_run(500, run="[red]x[/red]"))
        app = make_app("playground", training=training)
        async with app.run_test():
            training.start(NEW_RUN)
            for place in SCREENS:
                app.show_screen(place)
                await until(lambda: _status(app, "[red]x[/red]", "500/2,000", "val ~2.06"))

    async def test_a_second_run_is_refused_while_one_is_trained(
        self, make_app: MakeApp, scripted: Scripted
    ) -> None:
        training, trainer = scripted(healthy_run(10))
        app = make_app("playground", training=training)
        async with app.run_test(notifications=True) as pilot:
            assert app.start_training(NEW_RUN)
            await pilot.pause(0.2)
            assert not app.start_training(NEW_RUN)
            await pilot.pause()
            assert _tells(app, "is being trained; stop it first")
            assert len(trainer.requests) == 1

    async def test_an_error_of_the_trainer_is_shown_as_it_is(
        self, make_app: MakeApp, scripted: Scripted
    ) -> None:
        training, trainer = scripted()
        trainer.ending = Ended(error="the corpus [b]x[/b] is too short; choose another")
        app = make_app("playground", training=training)
        async with app.run_test(size=(120, 30)) as pilot:
            training.start(NEW_RUN)
            trainer.release()
            await until(lambda: training.state == "failed")
            await pilot.pause()
            line = shown(app).splitlines()[-2]
            assert "the corpus [b]x[/b] is too short; choose another" in line

    def test_commands_given_before_the_run_is_open_wait_for_it(self, scripted: Scripted) -> None:
        training, trainer = scripted()
        training.start(NEW_RUN)
        training.post(GenerateSample(prompt="HAMLET:"))
        training.post(Stop())
        assert training.join(5)
        assert [type(command) for command in trainer.commands] == [GenerateSample, Stop]
        training.drain()
        assert training.state == "finished"

    def test_states_follow_the_stream(self, scripted: Scripted) -> None:
        from shakespeare_tui.runs.commands import Pause, Resume

        training, trainer = scripted(healthy_run(3))
        assert training.state == "idle"
        assert not training.post(Stop())
        training.start(NEW_RUN)
        assert training.state == "starting"
        for command, state in ((Pause(), "paused"), (Resume(), "running")):
            training.post(command)
            deadline = time.monotonic() + 5
            while training.state != state and time.monotonic() < deadline:
                training.drain()
                time.sleep(0.01)
            assert training.state == state
        assert training.shutdown(5)
        training.drain()
        assert (training.state, training.stopped_at) == ("finished", 3)
        assert training.start(NEW_RUN)
        assert training.history.last_step == 0
        trainer.release()


class TestLeaving:
    async def test_q_leaves_when_nothing_runs(self, make_app: MakeApp) -> None:
        app = make_app("playground")
        async with app.run_test() as pilot:
            await pilot.press("q")
            await pilot.pause()
        assert app.return_value == 0

    @pytest.mark.parametrize("place", SCREENS)
    async def test_ctrl_c_leaves_when_pressed_twice(self, make_app: MakeApp, place: str) -> None:
        app = make_app(place)
        async with app.run_test() as pilot:
            await pilot.press("ctrl+c")
            await pilot.pause()
            assert app.is_running
            await pilot.press("ctrl+c")
            await pilot.pause()
        assert app.return_value == 0

    async def test_with_a_run_one_may_stay(self, make_app: MakeApp, scripted: Scripted) -> None:
        training, trainer = scripted(healthy_run(10))
        app = make_app("playground", training=training)
        async with app.run_test() as pilot:
            training.start(NEW_RUN)
            await pilot.press("q")
            await pilot.pause()
            assert isinstance(app.screen, LeaveDialog)
            await pilot.press("escape")
            await pilot.pause()
            assert not isinstance(app.screen, LeaveDialog)
            assert training.is_alive
            assert trainer.commands == []

    @pytest.mark.parametrize("keys", [("s",), ("enter",), ("ctrl+c",)])
    async def test_with_a_run_one_may_save_and_stop(
        self, make_app: MakeApp, scripted: Scripted, keys: tuple[str, ...]
    ) -> None:
        training, trainer = scripted(healthy_run(10))
        app = make_app("playground", training=training)
        async with app.run_test() as pilot:
            training.start(NEW_RUN)
            await pilot.press("q")
            await pilot.press(*keys)
            await until(lambda: app.return_value is not None)
        assert app.return_value == 0
        assert not training.is_alive
        assert [type(command) for command in trainer.commands] == [Stop]

    async def test_the_mouse_can_answer(self, make_app: MakeApp, scripted: Scripted) -> None:
        training, _ = scripted(healthy_run(10))
        app = make_app("playground", training=training)
        async with app.run_test() as pilot:
            training.start(NEW_RUN)
            await pilot.press("q")
            await pilot.pause()
            await pilot.click("#stop")
            await until(lambda: app.return_value is not None)
        assert not training.is_alive

    async def test_a_trainer_that_does_not_answer_cannot_hold_one_back(
        self, make_app: MakeApp, scripted: Scripted
    ) -> None:
        training, trainer = scripted(healthy_run(10), is_stuck=True)
        app = make_app("playground", training=training)
        async with app.run_test() as pilot:
            training.start(NEW_RUN)
            await pilot.press("ctrl+c", "ctrl+c")
            await pilot.pause(0.3)
            assert app.is_running
            assert "Saving" in shown(app)
            await pilot.press("ctrl+c")
            await until(lambda: app.return_value is not None)
        assert app.return_value == 130
        assert app.leaving.is_given_up

    async def test_a_signal_lets_the_trainer_save(
        self, make_app: MakeApp, scripted: Scripted
    ) -> None:
        training, trainer = scripted(healthy_run(10))
        app = make_app("playground", training=training)
        async with app.run_test():
            training.start(NEW_RUN)
            app.leaving.leave_now()
            await until(lambda: app.return_value is not None)
        assert app.return_value == 130
        assert training.join(5)
        assert [command.arguments() for command in trainer.commands] == [{"reason": "interrupted"}]

    async def test_a_run_that_ends_by_itself_ends_the_question(
        self, make_app: MakeApp, scripted: Scripted
    ) -> None:
        training, trainer = scripted(healthy_run(10))
        app = make_app("playground", training=training)
        async with app.run_test() as pilot:
            training.start(NEW_RUN)
            await pilot.press("q")
            await pilot.pause()
            trainer.release()
            await until(lambda: not isinstance(app.screen, LeaveDialog))
            assert app.is_running


async def test_copying_reaches_the_clipboard_and_says_so(make_app: MakeApp) -> None:
    app = make_app("playground")
    async with app.run_test(notifications=True):
        app.copy("[b]to be[/b]", "the text")
        assert app.clipboard == "[b]to be[/b]"
        await until(lambda: "copied the text" in shown(app))


async def test_no_thread_is_left_behind(make_app: MakeApp, scripted: Scripted) -> None:
    before = set(threading.enumerate())
    training, _ = scripted(healthy_run(10))
    app: LabApp = make_app("checkpoints", training=training)
    async with app.run_test() as pilot:
        training.start(NEW_RUN)
        await pilot.pause(0.2)
        await pilot.press("q", "s")
        await until(lambda: app.return_value is not None)
    rest = {t for t in set(threading.enumerate()) - before if not t.name.startswith("asyncio_")}
    assert rest == set()


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "config" / "keys.yaml"
    path.parent.mkdir()
    return path


def _tells(app: LabApp, message: str) -> bool:
    """Whether a message is on the screen; its words, since a notice breaks its lines."""
    text = shown(app)
    return all(word in text for word in message.split())


def _status(app: LabApp, *wanted: str) -> bool:
    return any(all(word in row for word in wanted) for row in shown(app).splitlines())


def _fills(svg: str) -> set[str]:
    import re

    return set(re.findall(r'fill[:=]"?\s*(#[0-9a-fA-F]{6})', svg))


def _luminance(rgb: tuple[int, int, int]) -> float:
    linear = [
        value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in rgb)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: object, other: object) -> float:
    """The contrast ratio of the Web Content Accessibility Guidelines."""
    from textual.color import Color

    assert isinstance(one, Color) and isinstance(other, Color)
    bright, dark = sorted((_luminance(one.rgb), _luminance(other.rgb)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


# Machado, Oliveira and Fernandes (2009), full severity, for linear RGB.
_COLOUR_BLINDNESS = {
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
_TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_TO_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def _seen_by(matrix: tuple[tuple[float, ...], ...], colour: str) -> list[float]:
    """A colour in Oklab (Ottosson, 2020) as seen without one kind of cone; 0.02 is just visible."""
    from textual.color import Color

    linear = [(channel / 255) ** 2.2 for channel in Color.parse(colour).rgb]
    mixed = _times(matrix, linear)
    cones = [max(value, 0.0) ** (1 / 3) for value in _times(_TO_CONES, mixed)]
    return _times(_TO_OKLAB, cones)


def _times(matrix: tuple[tuple[float, ...], ...], vector: list[float]) -> list[float]:
    return [sum(w * max(v, -1.0) for w, v in zip(row, vector, strict=True)) for row in matrix]


async def test_a_click_on_a_key_in_the_last_line_presses_it(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=(100, 30)) as pilot:
        await until(lambda: "? Help" in shown(app))
        line = app.screen.query_one(KeyLine)
        start = line.render().plain.index("? Help") + 1
        await pilot.click(KeyLine, offset=(start, 0))
        await until(lambda: "esc closes" in shown(app))


async def test_keys_without_room_are_left_out_but_the_apps_own_stay(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=(44, 24)) as pilot:
        await until(lambda: "? Help" in shown(app))
        await pilot.pause()
        last = shown(app).splitlines()[-1]
        assert "q Quit" in last
        assert len(last) <= 44


async def test_news_that_come_while_the_lab_closes_break_nothing(
    make_app: MakeApp, scripted: Scripted
) -> None:
    training, trainer = scripted()
    app = make_app("data", training=training)
    async with app.run_test(size=(80, 24)):
        training.start(NEW_RUN)
        await until(lambda: trainer.requests)
    # The timer's last tick may come when the screens are gone.
    app.follow_training()


async def test_help_flows_to_the_width_of_the_dialog(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=(100, 40)) as pilot:
        await pilot.press("question_mark")
        await until(lambda: "esc closes" in shown(app))
        lines = [line.strip(" │") for line in shown(app).splitlines()]
        first = next(i for i, line in enumerate(lines) if line.startswith("Corpora to train"))
        paragraph = lines[first : lines.index("", first)]
        # No line ends early: the next one's first word would not have fitted.
        width = max(map(len, paragraph))
        for line, following in itertools.pairwise(paragraph):
            assert len(line) + 1 + len(following.split()[0]) >= width


async def test_what_changed_while_a_place_was_away_shows_in_it(make_app: MakeApp) -> None:
    """Theme and size: a screen that is shown again looks as one that was never left."""

    async def pictures(is_before: bool) -> list[str]:
        app, found = make_app(), list[str]()
        async with app.run_test(size=(140, 45)) as pilot:
            await pilot.pause()

            async def change() -> None:
                app.looks.choose_theme("lab-light")
                await pilot.resize_terminal(80, 24)

            if is_before:
                await change()
            for place in "235":
                await pilot.press(place)
                await pilot.pause()
            if not is_before:
                await pilot.press("1")
                await pilot.pause()
                await change()
            for place in "235":
                await pilot.press(place)
                await pilot.pause()
                app.screen.set_focus(None)
                await pilot.pause(0.2)
                picture = app.export_screenshot(simplify=True)
                # The picture's identifiers differ from one to the next.
                found.append(re.sub(r"terminal-\d+", "terminal", picture))
        return found

    pairs = zip(await pictures(is_before=True), await pictures(is_before=False), strict=True)
    assert [before == after for before, after in pairs] == [True] * 3


async def test_a_click_on_what_has_just_gone_hits_nothing(make_app: MakeApp) -> None:
    """Columns, rows and dialogs go while the pointer is on them."""
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        going = Label("here")
        await app.screen.mount(going, before=0)
        await pilot.pause()
        x, y = going.region.offset
        assert app.get_widget_at(x, y)[0] is going
        await going.remove()
        # Before the screen is laid out anew.
        down = events.MouseDown(None, x, y, 0, 0, 1, False, False, False, x, y)
        await app.on_event(down)
        await pilot.pause()


@pytest.mark.parametrize("place", ["data", "config"])
async def test_a_list_without_room_takes_every_key(make_app: MakeApp, place: str) -> None:
    app = make_app(place)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(lambda: isinstance(app.focused, Widget))
        if place == "config":
            # Load: a list to choose from.
            await pilot.press("p")
        await pilot.resize_terminal(1, 1)
        await pilot.press("pagedown", "pageup", "end", "home", "down", "up")
        await pilot.resize_terminal(80, 24)
        await pilot.press("pagedown")
        assert app.screen.query_one(OptionList).highlighted


async def test_news_of_training_while_leaving_reach_no_screen(
    make_app: MakeApp, scripted: Scripted
) -> None:
    """The screens are being taken apart then."""
    training, _ = scripted(healthy_run(10))
    app = make_app("playground", training=training)
    async with app.run_test() as pilot:
        await pilot.pause()
        await app.screen.query("#head").remove()
        training.start(NEW_RUN)
        app.exit(0)
        app.follow_training()
    assert app.return_value == 0


async def test_what_fails_while_leaving_does_not_change_how_the_lab_ends(
    make_app: MakeApp,
) -> None:
    """A screen that opens at that moment finds its widgets gone."""

    class Late(LabScreen):
        def on_mount(self) -> None:
            self.query_one("#gone")

    app = make_app()
    async with app.run_test() as pilot:
        await pilot.pause()
        app.exit(130, return_code=130)
        await app.push_screen(Late())
    assert (app.return_value, app.return_code) == (130, 130)


async def test_runs_to_overlay_are_chosen_from_a_list(make_app: MakeApp, runs_root: Path) -> None:
    for name in ("one", "two", "three"):
        make_run(runs_root, name, healthy_run(10))
    app = make_app()
    chosen: list[object] = []
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(ChooseRuns("Overlay runs", runs_root, chosen=()), chosen.append)
        await until(lambda: "three" in shown(app))
        await pilot.press("space", "pagedown", "space", "enter")
        await until(lambda: chosen)
    (names,) = chosen
    assert isinstance(names, tuple) and len(names) == 2
