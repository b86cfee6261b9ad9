"""The Train screen: a run as it learns, live, attached to another process's, or replayed."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from shakespeare_tui.formatting import format_bytes
from shakespeare_tui.runs.figures import run_figures
from shakespeare_tui.runs.folder import RunFolder
from shakespeare_tui.runs.losses import QUANTITIES
from shakespeare_tui.runs.series import SMOOTHING_STEPS, TRAIN_LOSS_STEPS
from shakespeare_tui.ui.engine.channel import Progressed
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.train.commands import RunCommands
from shakespeare_tui.ui.train.figures import RunLine, RunNumbers, as_text, figures_of
from shakespeare_tui.ui.train.layers import LayersPane
from shakespeare_tui.ui.train.panes import DoctorPane, ResultCard, SamplesPane
from shakespeare_tui.ui.train.rate_charts import RateCharts
from shakespeare_tui.ui.train.run_list import RunList, RunListTable
from shakespeare_tui.ui.train.run_view import Playback, ReplayView
from shakespeare_tui.ui.train.viewer import RunViewer
from shakespeare_tui.ui.widgets.ask_bar import AskBar
from shakespeare_tui.ui.widgets.loss_chart import ALONGS, LossChart
from shakespeare_tui.ui.widgets.pane_tabs import PaneTabs

_KEYS = (
    ("s", "train {draft}"),
    ("2", "review its config first, or choose another"),
    ("w", "show a run: live while another process trains it, otherwise replayed"),
    ("?", "all keys, and help for this screen"),
)
_SHORTEST_TRACK_CELLS = 8
_PROMISE = (
    "During training this screen shows the loss curve, samples every few hundred steps, and the "
    "doctor's diagnosis. You can pause, save, draw a sample or change the LR at any time."
)


class TrainAdvice(Static):
    """Plain text in the middle of an empty screen."""

    DEFAULT_CSS: ClassVar[str] = """
    TrainAdvice { width: 1fr; height: 1fr; padding: 1 2; }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)

    def show_reading(self, name: str) -> None:
        """The log of a run is being read."""
        self.update(Content.styled(f"Reading the log of {name} …", "$text-muted"))

    def show_looking(self) -> None:
        """The runs' folders are being looked through."""
        self.update(Content.styled("Looking for runs …", "$text-muted"))

    def show_preparing(self, setup: Progressed | None) -> None:
        """A run is about to begin."""
        what = "loading torch and the corpus"
        if setup is not None:
            what = setup.what
            if setup.total:
                what += f"  {setup.done / setup.total:.0%}"
                if "corpus" in setup.what:
                    what += f" of {format_bytes(setup.total)}"
        self.update(
            Content.assemble(("Starting\n\n", "bold"), what, ("\n\ns cancels", "$text-muted"))
        )

    def show_first_steps(self, draft: str, problem: str) -> None:
        """Nothing runs.

        Args:
            draft: What a start would train.
            problem: Why the last start came to nothing, if it did.
        """
        parts: list[Content] = []
        if problem:
            parts.append(Content.assemble(("✕ ", "bold $error"), problem))
        parts.append(Content.styled("No run yet", "bold"))
        parts.append(
            Content("\n").join(
                Content.assemble((f"{key:>3}  ", "bold $accent"), text.format(draft=draft))
                for key, text in _KEYS
            )
        )
        parts.append(Content.styled(_PROMISE, "$text-muted"))
        self.update(Content("\n\n").join(parts))


_SHORTEST_SECONDS = 0.5
_LONGEST_SECONDS = 2.0
_SHARE_OF_PROCESSOR = 0.02
"""A trainer on all cores loses as much speed as the screens take."""


class Pace:
    """Spaces out updates by what the thread that draws has spent since the last one.

    What an update costs is known only after the next refresh of the screen, so this counts all
    that the thread did meanwhile.

    Args:
        now: The time in seconds.
        spent: The processor time in seconds that the calling thread has taken.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._now, self._spent = now, spent
        self._updated_at, self._spent_before = float("-inf"), 0.0

    def is_due(self) -> bool:
        """Whether it is time to update."""
        wanted = (self._spent() - self._spent_before) / _SHARE_OF_PROCESSOR
        waited = self._now() - self._updated_at
        return waited >= min(max(wanted, _SHORTEST_SECONDS), _LONGEST_SECONDS)

    def start(self) -> None:
        """Note that an update begins."""
        self._updated_at, self._spent_before = self._now(), self._spent()


_PANES = {
    "samples": "Samples",
    "doctor": "Doctor",
    "rates": "Metrics",
    "layers": "Layers",
    "result": "Result",
}
_ENLARGED = ("-only-curves", "-only-layers", "-only-side")
_KEYS_AFTER = (
    ("g", "generate"),
    ("5", "compare"),
    ("s", "resume"),
    ("f", "fork"),
    ("S", "new run"),
)
_KEYS_OF_NEWEST = (("g", "generate"), ("5", "compare"), ("f", "fork"), ("s", "new run"))
_WIDGETS = {
    "samples": "#samples",
    "doctor": "#doctor",
    "rates": "#rates-tab",
    "layers": "#layers-tab",
    "result": "#result",
    "runs": "#runs",
}


class ReplayBar(Widget, can_focus=True):
    """The scrubber of a replay, one line: play or pause, speed, track to jump along, time, step."""

    DEFAULT_CSS: ClassVar[str] = """
    ReplayBar { height: 1; padding: 0 1; background: $surface; }
    ReplayBar:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "jump(-0.02)", "Jump", key_display="←→", id="replay.back"),
        Binding("right", "jump(0.02)", "Jump ahead", show=False, id="replay.on"),
        Binding("home", "jump(-1.0)", "To the beginning", show=False, id="replay.home"),
        Binding("end", "jump(1.0)", "To the end", show=False, id="replay.end"),
    ]

    class Sought(Message):
        """Go to a share of the run's time."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    def __init__(self) -> None:
        super().__init__()
        self._playback = Playback()
        self._track = (0, 1)

    def show(self, playback: Playback) -> None:
        """Show where the replay stands."""
        if playback != self._playback:
            self._playback = playback
            self.refresh()

    def render(self) -> Content:
        at = self._playback
        head = f"{'▶ playing' if at.is_playing else '= paused '} ×{at.speed:<5.4g}"
        tail = f" {_clock(at.position_seconds)} / {_clock(at.duration_seconds)}"
        tail += f"   step {at.step:,} / {at.last_step:,}"
        length = self.content_size.width - len(head) - len(tail)
        if length < _SHORTEST_TRACK_CELLS:
            self._track = (0, 1)
            return Content(head + tail)
        self._track = (len(head), length)
        column = min(length - 1, round(at.share * (length - 1)))
        is_ascii = getattr(self.app, "ascii", False)
        heavy, knob, light = ("=", "O", "-") if is_ascii else ("━", "●", "─")
        return Content.assemble(
            (head, "bold"),
            (heavy * column + knob, "$accent"),
            (light * (length - 1 - column), "$text-muted"),
            (tail, "$text-muted"),
        )

    def action_jump(self, share: float) -> None:
        """Go back or on by a share of the run."""
        self._seek(self._playback.share + share)

    def _seek(self, share: float) -> None:
        share = min(1.0, max(0.0, share))
        # At once, so that the next key jumps from there.
        position = share * self._playback.duration_seconds
        self.show(replace(self._playback, position_seconds=position))
        self.post_message(self.Sought(share))

    def on_click(self, event: events.Click) -> None:
        start, length = self._track
        offset = event.get_content_offset(self)
        if length > 1 and offset is not None and offset.x >= start:
            self._seek((offset.x - start) / (length - 1))


def _clock(seconds: float) -> str:
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


class TrainScreen(LabScreen):
    """Chart, samples, doctor and figures of one run."""

    MODE: ClassVar[str] = "train"
    KEEPS_FRAME: ClassVar[bool] = True
    AUTO_FOCUS = "LossChart"
    CSS_PATH = "screen.tcss"
    HELP: ClassVar[str] = """\
The chart shows the training loss of each step and its running mean, validation losses as dots,
and the n-gram baselines. Marks on the lower edge are checkpoints, samples, diagnoses and
commands. Losses are in nats per token; a shows perplexity and accuracy in their place.

The heat strip below it has a row for each layer: how large its gradient is, or with u how far a
step moves its weights. Blue is far less than usual, orange far more: a layer that turns blue has
stopped learning, one that turns orange blows up. h goes there; the arrows read a cell.

In the chart, left and right read values, up and down zoom; in the samples, left and right step
through time; on the replay bar they jump. Tab moves between the panes.

s starts a run with the config from the Config screen, asks before it stops a run, and resumes one
that has ended; S starts a new one. A run keeps training while you visit other screens. Commands
take effect at the end of a step and are recorded in the run. w shows another run: live while
another process trains it, otherwise as a replay; o overlays finished runs on the chart.

t lists the runs beside the chart where there is room: space draws a run's curve, i pins it as the
reference that others are measured against, and below stands in what the run under the cursor
differs. X draws over steps, tokens or time, F up to where the run will end."""
    BINDINGS: ClassVar[list[BindingType]] = [
        # Keys that mean one thing while a run is trained and another when it is over share their
        # place in the key map.
        Binding("s", "command('start')", "Start", id="train.start"),
        Binding("s", "command('stop')", "Stop", id="train.start"),
        Binding("s", "command('resume')", "Resume", id="train.start"),
        Binding("S", "command('start_another')", "New run", id="train.new"),
        Binding("p", "command('pause')", "Pause", id="train.pause"),
        Binding("p", "command('go_on')", "Go on", id="train.pause"),
        Binding("c", "command('save')", "Save", id="train.checkpoint"),
        Binding("g", "command('sample')", "Sample", id="train.sample"),
        Binding("g", "command('generate')", "Generate", id="train.sample"),
        Binding("G", "command('prompt')", "Sample from a prompt", show=False, id="train.prompt"),
        Binding("l", "command('rate')", "LR", id="train.rate"),
        Binding("e", "command('extend')", "Extend", show=False, id="train.extend"),
        Binding("n", "command('note')", "Note", show=False, id="train.note"),
        Binding("f", "command('fork')", "Fork", id="train.fork"),
        Binding("space", "replay_toggle", "Play", id="replay.toggle"),
        Binding("comma", "replay_step(-1)", "Step back", show=False, id="replay.step_back"),
        Binding("full_stop", "replay_step(1)", "Step", key_display=", .", id="replay.step"),
        Binding("less_than_sign", "replay_speed(0.5)", "Slower", show=False, id="replay.slower"),
        Binding(
            "greater_than_sign",
            "replay_speed(2.0)",
            "Speed",
            key_display="< >",
            id="replay.faster",
        ),
        Binding("o", "choose_overlays", "Overlay runs", show=False, id="train.overlay"),
        Binding("w", "choose_run", "Show a run", show=False, id="train.watch"),
        Binding("b", "go_back", "Back", id="train.live"),
        Binding("plus,equals_sign", "smooth(1)", "More smoothing", show=False, id="chart.smoother"),
        Binding("minus", "smooth(-1)", "Less smoothing", show=False, id="chart.rougher"),
        Binding("x", "log_steps", "Log/linear steps", show=False, id="chart.log_steps"),
        Binding("X", "along", "Steps/tokens/time", show=False, id="chart.along"),
        Binding("F", "whole", "Full range", show=False, id="chart.whole"),
        Binding("t", "list_runs", "List of runs", show=False, id="train.run_list"),
        Binding("a", "quantity", "Loss/perplexity/accuracy", show=False, id="chart.quantity"),
        Binding("v", "log_loss", "Log/linear loss", show=False, id="chart.log_loss"),
        Binding("h", "layers", "Layers", show=False, id="train.layers"),
        Binding("u", "switch_layers", "Gradients/updates", show=False, id="layers.switch"),
        Binding("z", "zoom(0.5)", "Zoom in", show=False, id="train.zoom_in"),
        Binding("Z", "zoom(2.0)", "Zoom out", show=False, id="train.zoom_out"),
        Binding("0", "show_all", "Show all steps", show=False, id="train.show_all"),
        Binding("i", "pin", "Pin prompt", show=False, id="samples.pin"),
        Binding(
            "left_square_bracket", "scrub(-1)", "Previous sample", show=False, id="train.older"
        ),
        Binding("right_square_bracket", "scrub(1)", "Next sample", show=False, id="train.newer"),
        Binding("y", "copy_sample", "Copy sample", show=False, id="train.copy_sample"),
        Binding("Y", "copy_figures", "Copy figures", show=False, id="train.copy_figures"),
        Binding("tab", "next_pane(1)", "Next pane", show=False, id="train.next_pane"),
        Binding("shift+tab", "next_pane(-1)", "Previous pane", show=False, id="train.pane_before"),
        Binding("m", "enlarge", "Maximise pane", show=False, id="train.enlarge"),
    ]

    def __init__(self) -> None:
        super().__init__()
        # Until there is a run, nothing that is hidden may take the focus.
        self.add_class("-empty")
        self._viewer = RunViewer(self, self._show_everything)
        self._commands = RunCommands(self, self._viewer)
        self._pane = "samples"
        self._shows_updates = False
        self._pace = Pace()
        self._drawn: object = None

    def compose_body(self) -> ComposeResult:
        """Figures above; the curves on the left, samples and doctor on the right or below."""
        yield RunLine()
        yield RunNumbers()
        yield TrainAdvice()
        with Horizontal(id="main"):
            yield RunList(lambda name: self.query_one(LossChart).colour_of(name), id="run-list")
            with Vertical(id="curves"):
                yield LossChart(id="chart")
                yield LayersPane(id="layers", classes="pane")
                yield RateCharts(id="rates")
            with Vertical(id="side"):
                yield PaneTabs()
                yield ResultCard(id="result", classes="pane")
                yield SamplesPane(id="samples", classes="pane")
                yield DoctorPane(id="doctor", classes="pane")
                yield RateCharts(id="rates-tab", classes="pane")
                yield LayersPane(id="layers-tab", classes="pane")
        yield ReplayBar()
        yield AskBar()

    def on_mount(self) -> None:
        """Name the parts and take up what was remembered."""
        for selector, title in (
            ("#samples", "Samples"),
            ("#doctor", "Doctor"),
            ("#result", "Result"),
            ("#layers", "Layers"),
            ("#run-list", "Runs"),
        ):
            self.query_one(selector).border_title = title
        chart, settings = self.query_one(LossChart), self.lab.settings
        smoothing = settings.get("train.smoothing", TRAIN_LOSS_STEPS)
        if smoothing in SMOOTHING_STEPS:
            chart.smoothing_steps = smoothing
        quantity = settings.get("train.quantity", QUANTITIES[0])
        if quantity in QUANTITIES:
            chart.quantity = quantity
        chart.border_title = chart.quantity.capitalize()
        along = settings.get("train.along", ALONGS[0])
        if along in ALONGS:
            chart.run_along(along)
        if isinstance(is_listed := settings.get("train.run_list", None), bool):
            self._list_runs(is_listed)
        chart.is_log_steps = settings.get("train.log_steps", False)
        chart.is_log_loss = settings.get("train.log_loss", False)
        self._shows_updates = settings.get("train.layer_updates", False)

    def on_unmount(self) -> None:
        self._viewer.close()

    @property
    def home(self) -> LossChart | None:
        """The chart, once there is one."""
        return None if self.has_class("-empty") else self.query_one(LossChart)

    # --- following -----------------------------------------------------------------------------

    def open_run(self, run: RunFolder, *, speed: float | None = None) -> None:
        """As ``RunViewer.open_run``."""
        self._viewer.open_run(run, speed=speed)

    def on_screen_shown(self) -> None:
        self._viewer.poll()
        self._viewer.show_newest()
        self._show_everything()
        self._read_list()

    def on_resize(self) -> None:
        """A narrow screen has a part more to choose from than a wide one."""
        was_in_layers = isinstance(self.focused, LayersPane)
        self.call_after_refresh(lambda: self._lay_out(was_in_layers))

    def _lay_out(self, is_in_layers: bool) -> None:
        if is_in_layers and self.has_class("-layers"):
            self._go_to("layers")
        else:
            self._show_pane(self._pane)
        if self._has_list and not self._viewer.listed:
            self._read_list()

    def on_tick(self) -> None:
        """Take in news of the run: what is new about its state at once, figures when it is time."""
        if not self._is_there:
            return
        self._viewer.poll()
        if self._state() != self._drawn:
            self._show_everything()
            self._read_list()
        elif self._plays_smoothly or self._pace.is_due():
            self._show_news()

    @property
    def _plays_smoothly(self) -> bool:
        """Whether a replay plays and no trainer of this process wants the processor."""
        replay = self._viewer.replay
        is_playing = replay is not None and replay.source.is_playing
        return is_playing and not self.lab.services.training.is_at_work

    @property
    def _is_there(self) -> bool:
        """Whether all parts are there: not yet before mounting, no longer while the app closes."""
        return self.is_mounted and self.app.is_running

    def _state(self) -> object:
        """What must be shown at once when it changes; figures can wait a little."""
        viewer, history = self._viewer, self._viewer.view.history
        setup = self.lab.services.training.setup if viewer.state == "starting" else None
        return (viewer.name, viewer.state, id(history), history.phase, setup)

    def _show_everything(self) -> None:
        """Show another run, or what else is no mere news of it."""
        if not self._is_there:
            return
        viewer, view, self._drawn = self._viewer, self._viewer.view, self._state()
        is_elsewhere = view.takes_commands and not viewer.is_live
        self.lab.services.training.elsewhere = view.name if is_elsewhere else ""
        is_empty = viewer.reading is not None or view.history.started is None
        was_ended = self.has_class("-ended")
        self.set_class(is_empty, "-empty")
        self.set_class(viewer.is_over and not is_empty, "-ended")
        self.set_class(viewer.replay is not None and not is_empty, "-replay")
        if self.has_class("-ended"):
            viewer.find_rank()
        if self.has_class("-ended") != was_ended:
            # The result is news once; what one looks at later is one's own choice.
            self._show_pane("result" if not was_ended else "samples")
        self._show_pane(self._pane)
        self._show_advice()
        chart = self.query_one(LossChart)
        chart.show_overlays(viewer.overlays, reference=viewer.reference)
        self.query_one(RunList).show(
            viewer.listed, viewer.overlays, shown=viewer.view.name, reference=viewer.reference
        )
        self._show_news()
        self.refresh_bindings()
        if self.focused is None:
            self.action_leave_field()

    def _show_news(self) -> None:
        """Bring figures, curves and texts up to date."""
        self._pace.start()
        self.refresh_frame()
        viewer, view, history = self._viewer, self._viewer.view, self._viewer.view.history
        figures = run_figures(history)
        self.query_one(RunLine).show_run(history, figures, viewer.name, viewer.state)
        memory = self.lab.services.memory_bytes() if viewer.is_live else None
        self.query_one(RunNumbers).show(figures_of(figures, memory))
        chart = self.query_one(LossChart)
        chart.show_run(history)
        # The hidden ones too: a wider terminal or a key may show them before there is more news.
        for rates in self.query(RateCharts):
            rates.show_run(history, chart.step_span, chart.is_log_steps)
        self._show_layers()
        self.query_one(SamplesPane).show_run(history, can_ask=view.takes_commands)
        self.query_one(DoctorPane).show_run(history)
        if self.has_class("-ended"):
            keys: tuple[tuple[str, str], ...] = ()
            if view.folder is not None:
                keys = _KEYS_OF_NEWEST if viewer.is_newest_shown else _KEYS_AFTER
            self.query_one(ResultCard).show_run(history, figures, viewer.rank, keys)
        if (replay := viewer.replay) is not None:
            self.query_one(ReplayBar).show(replay.playback)

    def _show_layers(self) -> None:
        history, chart = self._viewer.view.history, self.query_one(LossChart)
        had_layers = self.has_class("-layers")
        self.set_class(len(history.layers) > 0, "-layers")
        if self.has_class("-layers") != had_layers:
            self._show_pane(self._pane)
        for pane in self.query(LayersPane):
            pane.show_run(history, chart.step_span, chart.is_log_steps, self._shows_updates)

    def _show_advice(self) -> None:
        training, advice = self.lab.services.training, self.query_one(TrainAdvice)
        if self._viewer.reading is not None:
            advice.show_reading(self._viewer.name)
        elif self._viewer.is_live and training.is_active:
            advice.show_preparing(training.setup)
        elif self._viewer.is_looking:
            advice.show_looking()
        else:
            problem = training.message if training.state == "failed" else ""
            advice.show_first_steps(self.lab.services.draft.runnable.described(), problem)

    # --- which run, and what it is told --------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer only what is possible now."""
        if action == "command":
            return parameters[0] in self._commands.offered()
        if action.startswith("replay_"):
            return self._viewer.replay is not None
        if action == "go_back":
            return not self._viewer.is_live and not self._viewer.is_newest_shown
        return True

    def key_rank(self, action: str) -> int:
        """The keys of a replay come first while there is one."""
        return -1 if action.startswith("replay_") or action == "go_back" else 0

    def action_command(self, name: str) -> None:
        """Give one of ``RunCommands``."""
        self._commands.give(name)

    def action_choose_run(self) -> None:
        """Choose a run to watch or replay."""
        self._viewer.choose_run()

    def action_choose_overlays(self) -> None:
        """Choose runs to lay behind the curve."""
        self._viewer.choose_overlays()

    def action_go_back(self) -> None:
        """Show the run of this process again, or the newest one where there is none."""
        self._viewer.go_back()

    def action_replay_toggle(self) -> None:
        """Play or pause the replay; at the end, play from the beginning."""
        self._viewer.control_replay(ReplayView.toggle)

    def action_replay_step(self, steps: int) -> None:
        """Go a step back or on."""
        self._viewer.control_replay(lambda replay: replay.seek_step(replay.source.step + steps))

    def action_replay_speed(self, factor: float) -> None:
        """Play twice as fast, or half."""
        self._viewer.control_replay(lambda replay: replay.source.change_speed(factor))

    @on(ReplayBar.Sought)
    def _seek(self, message: ReplayBar.Sought) -> None:
        self._viewer.control_replay(lambda replay: replay.seek_share(message.share))

    # --- the runs beside the chart -------------------------------------------------------------

    @property
    def _has_list(self) -> bool:
        """Whether the list of runs is shown."""
        return self._is_there and self.query_one(RunList).display

    def _list_runs(self, is_listed: bool) -> None:
        self.set_class(is_listed, "-runs-on")
        self.set_class(not is_listed, "-runs-off")

    def _read_list(self) -> None:
        if self._has_list:
            self._viewer.list_runs()

    def action_list_runs(self) -> None:
        """Show the list of runs beside the chart, or hide it."""
        is_listed = not self._has_list
        self._list_runs(is_listed)
        if is_listed and self.has_class("-narrow"):
            self.lab.say("the list of runs needs 110 columns; o chooses runs, w shows one")
            return
        self.lab.remember("train.run_list", is_listed)
        self.call_after_refresh(self._arrange_list)

    def _arrange_list(self) -> None:
        self._read_list()
        if self._has_list:
            self._go_to("runs")
        else:
            self.set_focus(self.home)

    @on(RunListTable.Toggled)
    def _toggle_overlay(self, message: RunListTable.Toggled) -> None:
        self._viewer.toggle_overlay(message.name)

    @on(RunListTable.Pinned)
    def _pin_reference(self, message: RunListTable.Pinned) -> None:
        self._viewer.pin(message.name)

    @on(RunListTable.Chosen, "#runs")
    def _show_listed(self) -> None:
        line = self.query_one(RunListTable).chosen
        if line is not None:
            self._viewer.open_run(RunFolder(line.entry.path))

    # --- chart ---------------------------------------------------------------------------------

    def action_along(self) -> None:
        """Draw over steps, tokens or training time."""
        self.lab.remember("train.along", self.query_one(LossChart).change_along())

    def action_whole(self) -> None:
        """Draw up to where the run will end, or to where it has come."""
        self.query_one(LossChart).toggle_whole()

    def action_smooth(self, direction: int) -> None:
        """Smooth the loss more, or less."""
        self.lab.remember("train.smoothing", self.query_one(LossChart).change_smoothing(direction))

    def action_quantity(self) -> None:
        """Show perplexity or accuracy in place of the loss."""
        chart = self.query_one(LossChart)
        quantity = chart.change_quantity()
        chart.border_title = quantity.capitalize()
        self.lab.remember("train.quantity", quantity)

    def action_log_steps(self) -> None:
        """Switch the axis of steps between linear and logarithmic."""
        chart = self.query_one(LossChart)
        chart.toggle_log_steps()
        self.lab.remember("train.log_steps", chart.is_log_steps)

    def action_log_loss(self) -> None:
        """Switch the axis of losses between linear and logarithmic."""
        chart = self.query_one(LossChart)
        chart.toggle_log_loss()
        self.lab.remember("train.log_loss", chart.is_log_loss)

    def action_zoom(self, factor: float) -> None:
        """Show fewer or more steps."""
        self.query_one(LossChart).action_zoom(factor)

    def action_show_all(self) -> None:
        """Show the whole run."""
        self.query_one(LossChart).action_show_all()

    def action_layers(self) -> None:
        """Go to the heat strip of the layers."""
        self._show_layers()
        if self.has_class("-layers"):
            self._go_to("layers")
        else:
            self.lab.say("no layer was measured yet; logging.layers_every says how often")

    def action_switch_layers(self) -> None:
        """Show update ratios in the heat strip instead of gradient norms, or these again."""
        self._shows_updates = not self._shows_updates
        self.lab.remember("train.layer_updates", self._shows_updates)
        self._show_layers()

    # --- samples -------------------------------------------------------------------------------

    def action_scrub(self, direction: int) -> None:
        """Go to an earlier or later sample."""
        self.query_one(SamplesPane).action_scrub(direction)

    def action_pin(self) -> None:
        """Show only samples of one prompt, or of all."""
        pane = self.query_one(SamplesPane)
        if pane.chosen is None:
            self.lab.say("there is no sample to pin yet")
        else:
            pinned = pane.toggle_pin()
            self.lab.say("all prompts" if pinned is None else f"only samples of {pinned!r}")

    def action_copy_sample(self) -> None:
        """Copy the sample on top, prompt and text."""
        sample = self.query_one(SamplesPane).chosen
        if sample is None:
            self.lab.say("there is no sample yet")
        else:
            self.lab.copy(sample.prompt + sample.text, f"the sample of step {sample.step:,}")

    def action_copy_figures(self) -> None:
        """Copy the figures, a line each."""
        self.lab.copy(as_text(self.query_one(RunNumbers).figures), "the figures")

    # --- parts ---------------------------------------------------------------------------------

    def on_descendant_focus(self) -> None:
        self._show_pane(self._pane)

    @property
    def _panes(self) -> list[str]:
        """The parts beside the chart that can be shown now, in order."""
        is_narrow, layers = self.has_class("-narrow"), ["layers"] * self.has_class("-layers")
        if is_narrow:
            panes = ["samples", "doctor", "rates", *layers]
        else:
            # The strip is below the chart.
            panes = [*layers, "samples", "doctor"]
        return [*panes, "result"] if self.has_class("-ended") else panes

    def _show_pane(self, pane: str) -> None:
        """Where there is room for one part only, show this one."""
        if not self._is_there:
            return
        self._pane = pane
        for name in _PANES:
            self.set_class(name == pane, f"-pane-{name}")
        titles = tuple((name, _PANES[name]) for name in self._panes)
        is_focused = self.focused is self._part(pane)
        self.query_one(PaneTabs).show(titles, pane, is_focused=is_focused)

    def action_next_pane(self, direction: int) -> None:
        """Move to the next part: the chart, then those beside or below it, then the scrubber."""
        if self.has_class("-empty"):
            return
        parts = [*(["runs"] * self._has_list), "chart", *self._panes]
        if self.has_class("-replay"):
            parts.append("replay")
        focused = self.focused
        here = next((part for part in parts if self._part(part) is focused), "chart")
        self._go_to(parts[(parts.index(here) + direction) % len(parts)])

    def _go_to(self, part: str) -> None:
        """Show a part and bring the keyboard to it."""
        if part in _PANES:
            self._show_pane(part)
        if self._is_enlarged:
            self._enlarge(self._part(part))
        self._part(part).focus()

    def _part(self, name: str) -> Widget:
        if name == "replay":
            return self.query_one(ReplayBar)
        if name == "layers" and not self.has_class("-narrow"):
            return self.query_one("#layers")
        return self.query_one(_WIDGETS.get(name, "#chart"))

    @on(PaneTabs.Chosen)
    def _choose_pane(self, message: PaneTabs.Chosen) -> None:
        self._go_to(message.pane)

    @property
    def _is_enlarged(self) -> bool:
        return any(map(self.has_class, _ENLARGED))

    def action_enlarge(self) -> None:
        """Give the whole screen to the part that has the focus, or share it again."""
        if self._is_enlarged:
            self.remove_class(*_ENLARGED)
        else:
            self._enlarge(self.focused)

    def _enlarge(self, part: Widget | None) -> None:
        self.remove_class(*_ENLARGED)
        if part is not None and part.id == "layers":
            self.add_class("-only-layers")
        elif part is not None and "pane" in part.classes:
            self.add_class("-only-side")
        else:
            self.add_class("-only-curves")

    @on(LossChart.SpanChanged)
    def _follow_span(self) -> None:
        self._show_news()
