"""The Experiments screen: several runs that answer one question, as they train and side by side."""

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.compose import read_added
from shakespeare_tui.experiments.conclusions import conclusions
from shakespeare_tui.experiments.folder import ExperimentFolder
from shakespeare_tui.experiments.plan import short_name, value_text
from shakespeare_tui.experiments.runner import stop_experiment
from shakespeare_tui.experiments.schema import experiment_description, shipped_experiments
from shakespeare_tui.experiments.table import ExperimentTable, RunRow
from shakespeare_tui.files import reason
from shakespeare_tui.formatting import counted, format_duration
from shakespeare_tui.runs.compare.settings import differing_paths
from shakespeare_tui.runs.history import RunHistory
from shakespeare_tui.runs.losses import QUANTITIES
from shakespeare_tui.runs.series import SMOOTHING_STEPS
from shakespeare_tui.ui.dialogs import ConfirmDialog
from shakespeare_tui.ui.experiments.browser import ExperimentBrowser, Listing
from shakespeare_tui.ui.experiments.plan import PlanScreen
from shakespeare_tui.ui.experiments.sensitivity import SensitivityChart
from shakespeare_tui.ui.experiments.tables import (
    BEST,
    ExperimentsTable,
    RunLine,
    RunsTable,
    sorted_lines,
    standing,
)
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.widgets.ask_bar import AskBar
from shakespeare_tui.ui.widgets.choice_dialog import Choice, ChoiceDialog
from shakespeare_tui.ui.widgets.loss_chart import ALONGS, LossChart
from shakespeare_tui.ui.widgets.pane_tabs import PaneTabs
from shakespeare_tui.ui.widgets.path_dialog import PathDialog
from shakespeare_tui.visible_text import visible

_SECONDS_BETWEEN_READINGS = 1.0
_PANES = (("chart", "Curves"), ("sensitivity", "Sensitivity"))
_EMPTY = (
    "There are no experiments yet: several runs that answer one question.\n\n"
    "Press n to begin one of those that come with the program, or one of a file. On the Config "
    "screen (2), v gives a setting several values, and x makes an experiment of them; t queues "
    "the config itself."
)
_OTHER_FILE = "another file …"
_OF_ONE = frozenset(
    (
        *("sort", "reverse", "toggle_curve", "curves", "add"),
        *("open_run", "open_config", "next_pane", "enlarge", "copy_name", "quantity", "log_loss"),
        *("log_steps", "along", "whole", "smooth", "zoom", "show_all"),
    )
)


class ExperimentHeading(Widget):
    """The open experiment in two lines: name, state, progress and time left; then the question."""

    DEFAULT_CSS: ClassVar[str] = """
    ExperimentHeading { height: 2; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._content = Content("")

    def show(self, name: str, table: ExperimentTable | None, jobs: int, *, is_begun: bool) -> None:
        """Show where an experiment stands.

        Args:
            name: The experiment's.
            table: As it was read; None before that.
            jobs: How many runs are trained at a time.
            is_begun: Whether a process of this lab works on it, also between two runs.
        """
        parts = [Content.styled(visible(name), "bold")]
        question = ""
        if table is None:
            parts.append(Content.styled("reading …", "$text-muted"))
        else:
            text, tone = standing(table)
            if is_begun and not table.count("training", "paused"):
                text = "… reading the teachers" if table.has_only_students_left else "… starting"
                tone = "warning"
            style = "$text-muted" if tone == "muted" else f"${tone}"
            parts.append(Content.styled(text, style))
            done = table.count("finished", "pruned")
            parts.append(Content(f"{done} of {counted(table.planned, 'run')}"))
            left = table.seconds_left(jobs) if not table.is_complete else None
            if left:
                parts.append(
                    Content.styled(f"about {format_duration(left)} of training left", "$text-muted")
                )
            question = visible(table.experiment.question)
        line = Content("   ").join(parts)
        content = Content("\n").join([line, Content.styled(question, "$text-muted")])
        if content != self._content:
            self._content = content
            self.refresh()

    def render(self) -> Content:
        return self._content


class ExperimentsScreen(LabScreen):
    """All experiments, and one of them as a live table with its curves."""

    MODE: ClassVar[str] = "experiments"
    AUTO_FOCUS = ""
    CSS_PATH = "screen.tcss"
    HELP: ClassVar[str] = """\
An experiment is one question and the runs that answer it. Enter opens one, escape goes back to the
list, n begins another: of a file, or one of those that come with the program. Its runs are trained
one after the other by a process of its own, which goes on when the lab is left.

Each row of the table is a run, with nothing but the settings that differ, and the figures of its
best checkpoint; the best is marked with a star. o sorts by the next column, O turns the order
round, a click on a title sorts by it; left and right show columns that do not fit. Space draws a
run's curve, or leaves it out; its dot has the curve's colour. The run under the cursor is always
drawn. u changes to all curves, to none, and to the best.

s trains what is left, or saves and stops; J says how many runs are trained at a time. n adds a run
with settings of its own, seeds included. Enter shows the run on the Train screen, c opens its
config, r writes the report: a page with pictures in reports/.

Tab moves to the curves, with the keys of the Train screen, and to what one setting does: there left
and right choose the setting, up and down the figure. Lines join runs that differ in that setting
alone. m gives a part the whole screen. On the command line: shakespeare-tui experiment."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", id="experiments.open"),
        Binding("enter", "open_run", "Show run", id="experiments.open"),
        Binding("s", "start", "Start", id="experiments.start"),
        Binding("s", "stop", "Stop", id="experiments.start"),
        Binding("n", "begin", "New", id="experiments.new"),
        Binding("n", "add", "Add a run", id="experiments.new"),
        Binding("r", "report", "Report", id="experiments.report"),
        Binding("space", "toggle_curve", "Curve", id="experiments.toggle"),
        Binding("o", "sort", "Sort", id="experiments.sort"),
        Binding("O", "reverse", "Reverse the order", show=False, id="experiments.reverse"),
        Binding("u", "curves", "Best/all/no curves", show=False, id="experiments.curves"),
        Binding("J", "jobs", "Runs at a time", show=False, id="experiments.jobs"),
        Binding("c", "open_config", "Config of the run", show=False, id="experiments.config"),
        Binding("y", "copy_name", "Copy name", show=False, id="experiments.copy"),
        Binding("plus,equals_sign", "smooth(1)", "More smoothing", show=False, id="chart.smoother"),
        Binding("minus", "smooth(-1)", "Less smoothing", show=False, id="chart.rougher"),
        Binding("x", "log_steps", "Log/linear steps", show=False, id="chart.log_steps"),
        Binding("X", "along", "Steps/tokens/time", show=False, id="chart.along"),
        Binding("F", "whole", "Full range", show=False, id="chart.whole"),
        Binding("a", "quantity", "Loss/perplexity/accuracy", show=False, id="chart.quantity"),
        Binding("v", "log_loss", "Log/linear loss", show=False, id="chart.log_loss"),
        Binding("z", "zoom(0.5)", "Zoom in", show=False, id="train.zoom_in"),
        Binding("Z", "zoom(2.0)", "Zoom out", show=False, id="train.zoom_out"),
        Binding("0", "show_all", "Show all steps", show=False, id="train.show_all"),
        Binding("tab", "next_pane(1)", "Next pane", show=False, id="experiments.next_pane"),
        Binding(
            "shift+tab", "next_pane(-1)", "Previous pane", show=False, id="experiments.pane_before"
        ),
        Binding("m", "enlarge", "Maximise pane", show=False, id="experiments.enlarge"),
        Binding("escape", "back", "Back", id="experiments.back"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.browser = ExperimentBrowser()
        self._jobs = Jobs(self)
        self._is_reading = False
        self._is_read = False
        self._pane = "chart"
        self._drawn: object = None

    def compose_body(self) -> ComposeResult:
        """The list, or one experiment: its table, its curves, and what settings do."""
        yield Static(_EMPTY, id="advice", markup=False)
        with Vertical(id="list"):
            yield ExperimentsTable(id="experiments")
            yield Static("", id="about-experiment", markup=False)
        with Vertical(id="one"):
            yield ExperimentHeading()
            with Horizontal(id="main"):
                with Vertical(id="left"):
                    yield RunsTable(lambda run: self._chart.colour_of(run), id="runs")
                    yield Static("", id="about", markup=False)
                with Vertical(id="right"):
                    yield PaneTabs()
                    yield LossChart(id="chart")
                    yield SensitivityChart(id="sensitivity")
            yield Static("", id="verdict", markup=False)
        yield AskBar()

    def on_mount(self) -> None:
        """Take up what was remembered, and read again and again while the screen is shown."""
        chart, settings = self._chart, self.lab.settings
        chart.add_class("pane")
        self._sensitivity.add_class("pane")
        chart.border_title, self._sensitivity.border_title = "Curves", "Sensitivity"
        smoothing = settings.get("train.smoothing", SMOOTHING_STEPS[3])
        if smoothing in SMOOTHING_STEPS:
            chart.smoothing_steps = smoothing
        quantity = settings.get("train.quantity", QUANTITIES[0])
        if quantity in QUANTITIES:
            chart.quantity = quantity
        along = settings.get("train.along", ALONGS[0])
        if along in ALONGS:
            chart.run_along(along)
        chart.is_log_steps = settings.get("train.log_steps", False)
        chart.is_log_loss = settings.get("train.log_loss", False)
        self._show_parts()
        self.set_interval(_SECONDS_BETWEEN_READINGS, self.read)

    def on_unmount(self) -> None:
        self._jobs.close()

    @property
    def _list(self) -> ExperimentsTable:
        return self.query_one(ExperimentsTable)

    @property
    def _runs(self) -> RunsTable:
        return self.query_one(RunsTable)

    @property
    def _chart(self) -> LossChart:
        return self.query_one(LossChart)

    @property
    def _sensitivity(self) -> SensitivityChart:
        return self.query_one(SensitivityChart)

    @property
    def home(self) -> Widget | None:
        """The table that is shown, once there is something in it."""
        if self.browser.opened is not None:
            return self._runs
        return self._list if self.browser.lines else None

    # --- reading -------------------------------------------------------------------------------

    def on_screen_shown(self) -> None:
        """Read the folders: experiments may have come meanwhile."""
        self.read()

    def read(self) -> None:
        """Read what is shown anew, unless that is being done."""
        if self._is_reading or not self.is_current:
            return
        self._is_reading = True
        services, browser = self.lab.services, self.browser
        folder = browser.opened

        def take_all(job: Job[Listing]) -> None:
            self._is_reading, self._is_read = False, True
            if job.result is not None:
                browser.lines = job.result.lines
                self._show_list()
            elif job.error:
                self.lab.say(job.error, is_error=True)

        def take_one(job: Job[ExperimentTable]) -> None:
            self._is_reading = False
            if browser.opened is not folder:
                self.read()
            elif job.result is not None:
                browser.take(job.result)
                self._show_one()
            elif job.error:
                self.lab.say(job.error, is_error=True)
                self.action_back()

        if folder is None:
            root = services.experiments_root
            self._jobs.start(
                "list", lambda job: browser.read_all(root, services.runs_root), take_all
            )
        else:
            self._jobs.start(
                "experiment", lambda job: browser.read_one(folder, services.runs_root), take_one
            )

    # --- showing -------------------------------------------------------------------------------

    def _show_parts(self) -> None:
        """The list, or the experiment that is open, or what to do where there is none."""
        is_open, has_lines = self.browser.opened is not None, bool(self.browser.lines)
        self.query_one("#one").display = is_open
        self.query_one("#list").display = not is_open and has_lines
        self.query_one("#advice").display = not is_open and not has_lines and self._is_read
        self._show_pane(self._pane)

    def _show_list(self) -> None:
        if self.browser.opened is not None:
            return
        had_lines = self.query_one("#list").display
        self._show_parts()
        self._list.show(self.browser.lines, ())
        self._show_experiment_about()
        if not had_lines and self.browser.lines:
            self._list.focus()
        self.refresh_bindings()

    @on(ExperimentsTable.Moved, "#experiments")
    def _show_experiment_about(self) -> None:
        line = self._list.chosen
        about = Content("")
        if line is not None and line.table is None:
            about = Content.styled(line.problem, "$error")
        elif line is not None and line.table is not None:
            question = line.table.experiment.question
            first = next(iter(conclusions(line.table)), "")
            parts = [Content(visible(question))] if question else []
            about = Content("\n").join([*parts, Content.styled(first, "$text-muted")])
        self.query_one("#about-experiment", Static).update(about)

    def _show_one(self) -> None:
        browser, table = self.browser, self.browser.table
        opened = browser.opened
        if opened is None:
            return
        children = self.lab.services.children
        is_begun = children.is_at_work("run", opened.name)
        heading = self.query_one(ExperimentHeading)
        jobs = children.jobs_of(opened.name) or self._jobs_at_a_time
        heading.show(opened.name, table, jobs, is_begun=is_begun)
        if table is None:
            return
        state = self._state(table)
        if state != self._drawn:
            self._drawn = state
            self._show_runs()
            self._sensitivity.show_table(table)
            self.query_one("#verdict", Static).update(_verdict(table))
        self.refresh_bindings()

    def _state(self, table: ExperimentTable) -> object:
        runs = [(row.state, row.history.revision, row.failure) for row in table.rows]
        return table.name, runs, [row.name for row in table.rows]

    def _show_runs(self) -> None:
        """The table, and the curves that belong to it."""
        browser, table = self.browser, self.browser.table
        assert table is not None
        self._chart.names = [row.trial.run for row in table.rows]
        best = {id(row) for variant in table.best for row in variant.rows}
        curves = browser.curves
        lines = [
            RunLine(row, is_best=id(row) in best, is_drawn=row.trial.run in curves)
            for row in table.rows
        ]
        sorted_by = browser.sorted_by
        field = None if sorted_by is None else browser.field_of(sorted_by)
        runs = self._runs
        runs.show_fields(browser.fields)
        runs.show(
            sorted_lines(lines, field, is_descending=browser.is_descending),
            (),
            sorted_by=sorted_by,
            is_descending=browser.is_descending,
            empty="No runs yet: n adds one.",
        )

    @on(RunsTable.Moved, "#runs")
    def _show_chosen(self) -> None:
        """The curve of the run under the cursor over the others, and what is special in it."""
        table, line = self.browser.table, self._runs.chosen
        if table is None:
            return
        curves = self.browser.curves
        drawn = {row.trial.run: row.history for row in table.rows if row.history.started}
        chosen = line.key if line is not None and line.key in drawn else ""
        chosen = chosen or next((name for name in drawn if name in curves), "")
        chart = self._chart
        chart.show_run(drawn[chosen] if chosen else RunHistory(), keeps_view=bool(chosen))
        others = {name: drawn[name] for name in drawn if name in curves and name != chosen}
        chart.show_overlays(others, names=[row.trial.run for row in table.rows])
        others_too = f" and {counted(len(others), 'other')}" if others else ""
        chart.border_title = f"Curves: {visible(chosen)}{others_too}" if chosen else "Curves"
        about = _about(line.row, table) if line is not None else Content("")
        self.query_one("#about", Static).update(about)

    # --- one experiment or the list ------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what is possible now."""
        is_open = self.browser.opened is not None
        if action in ("start", "stop"):
            return self._folder is not None and (action == "stop") == self._is_at_work
        if action == "report":
            return self._folder is not None
        if action in _OF_ONE or action == "back":
            return is_open
        if action in ("open", "begin"):
            return not is_open and (action != "open" or bool(self.browser.lines))
        return True

    def key_rank(self, action: str) -> int:
        """The way back comes after what one can do here."""
        return 1 if action == "back" else 0

    @property
    def _folder(self) -> ExperimentFolder | None:
        """The experiment that is open, or under the cursor of the list."""
        if self.browser.opened is not None:
            return self.browser.opened
        line = self._list.chosen if self.is_mounted else None
        return ExperimentFolder(self.lab.services.experiments_root / line.key) if line else None

    @property
    def _table(self) -> ExperimentTable | None:
        if self.browser.opened is not None:
            return self.browser.table
        line = self._list.chosen
        return line.table if line is not None else None

    @property
    def _is_at_work(self) -> bool:
        """Whether somebody trains the experiment."""
        folder, table = self._folder, self._table
        if folder is not None and self.lab.services.children.is_at_work("run", folder.name):
            return True
        return table is not None and table.count("training", "paused") > 0

    @on(ExperimentsTable.Chosen, "#experiments")
    def action_open(self) -> None:
        """Open the experiment under the cursor."""
        line = self._list.chosen
        if line is None:
            return
        if line.table is None:
            self.lab.say(line.problem, is_error=True)
        else:
            self.open(ExperimentFolder(self.lab.services.experiments_root / line.key), line.table)

    def open(self, folder: ExperimentFolder, table: ExperimentTable | None = None) -> None:
        """Show one experiment, at once where it was read already."""
        self.browser.open(folder)
        self._drawn = None
        self._runs.show_fields(())
        self._runs.show((), ())
        self._sensitivity.show_table(None)
        self._chart.action_show_all()
        if table is not None:
            self.browser.take(table)
        self._show_parts()
        self._show_one()
        self._runs.focus()
        self.read()
        self.refresh_bindings()

    def action_back(self) -> None:
        """From a picture to the table, and from there to the list."""
        if self.browser.opened is None:
            self.action_leave_field()
        elif self.focused is not self._runs:
            self.remove_class("-only-left", "-only-right")
            self._runs.focus()
        else:
            name = self.browser.opened.name
            self.browser.open(None)
            self._show_parts()
            self._show_list()
            self._list.go_to(name)
            self.set_focus(self.home)
            self.read()

    # --- beginning, training, stopping ---------------------------------------------------------

    def action_begin(self) -> None:
        """Choose an experiment to begin."""
        choices = [
            Choice("come with the program", name, experiment_description(name))
            for name in shipped_experiments()
        ]
        root = self.lab.services.experiments_root
        for path in sorted(root.glob("*.yaml")):
            choices.append(Choice("files", str(path)))
        choices.append(Choice("files", _OTHER_FILE, "by its path"))

        def chosen(choice: Choice | None) -> None:
            if choice is None:
                return
            if choice.name == _OTHER_FILE:
                self.app.push_screen(PathDialog("Open an experiment file"), chosen_path)
            else:
                self.plan(choice.name)

        def chosen_path(path: Path | None) -> None:
            if path is not None:
                self.plan(str(path))

        self.app.push_screen(ChoiceDialog("Begin an experiment", choices), chosen)

    def plan(self, spec: str) -> None:
        """Show what the runs of an experiment file will be; from there it is begun."""
        self.app.push_screen(PlanScreen(spec, Path(spec).stem, self.train))

    def train(self, folder: ExperimentFolder, jobs: int | None = None) -> None:
        """Open an experiment and train what is left of it, ``jobs`` runs at a time."""
        self.open(folder)
        self._train(folder, jobs or self._jobs_at_a_time)

    @property
    def _jobs_at_a_time(self) -> int:
        found = self.lab.settings.get("experiments.jobs", 1)
        return found if isinstance(found, int) and found > 0 else 1

    def action_start(self) -> None:
        """Train what is left of the experiment."""
        folder, table = self._folder, self._table
        if folder is None or table is None:
            return
        if table.is_complete and not table.count("failed"):
            done = "no run waits" if table.planned else "it has no runs yet"
            self.lab.say(f"{done}: n adds one, and a file with more values adds more")
        else:
            self._train(folder, self._jobs_at_a_time)

    def _train(self, folder: ExperimentFolder, jobs: int) -> None:
        services = self.lab.services
        try:
            services.children.train(folder, services.runs_root, jobs=jobs)
        except (UserError, OSError) as error:
            self.lab.say(str(error), is_error=True)
            return
        self.lab.say(f"{folder.name} is trained by a process of its own; s stops it")
        self.refresh_frame()
        self._show_one()
        self.refresh_bindings()

    def action_stop(self) -> None:
        """Ask, then have all that work on the experiment save and stop."""
        folder, table = self._folder, self._table
        if folder is None:
            return
        running = table.count("training", "paused") if table is not None else 0
        text = (
            f"{counted(running, 'run')} in training will be saved, and none is begun after that. "
            "s goes on exactly there."
        )

        def answer(is_yes: bool | None) -> None:
            if is_yes:
                root = self.lab.services.runs_root
                self._jobs.start(
                    "stop", lambda job: stop_experiment(folder, root), lambda job: told(job)
                )

        def told(job: Job[int]) -> None:
            text = f"{folder.name} saves and stops" if not job.error else job.error
            self.lab.say(text, is_error=bool(job.error))

        self.app.push_screen(ConfirmDialog(f"Stop {folder.name}?", text, "Stop"), answer)

    def action_jobs(self) -> None:
        """Ask how many runs are trained at a time."""

        def answer(text: str) -> None:
            if not text.strip().isdecimal() or not 1 <= int(text) <= 64:
                raise UserError("write a number from 1 to 64")
            self.lab.remember("experiments.jobs", int(text))
            self.lab.say("from the next start on; the cores are shared among them")

        value = str(self._jobs_at_a_time)
        self.query_one(AskBar).ask("Runs at a time", "1 on a small machine", value, answer)

    def action_add(self) -> None:
        """Ask for the settings of another run, beginning with those under the cursor."""
        folder, table, line = self.browser.opened, self.browser.table, self._runs.chosen
        if folder is None or table is None:
            return

        def answer(text: str) -> None:
            try:
                added = read_added(text.split(), folder.record().definition)
                trial = folder.add_run(added, self.lab.services.runs_root)
            except OSError as error:
                raise UserError(f"it cannot be written: {reason(error)}") from None
            self.lab.say(f"added {trial.run}: {trial.variant.label}, seed {trial.seed}")
            self.read()

        value = _words_of(line.row, table) if line is not None else ""
        self.query_one(AskBar).ask("Add", "key=value …, seed=N", value, answer)

    def action_report(self) -> None:
        """Write the report in a process of its own."""
        folder, table = self._folder, self._table
        if folder is None:
            return
        if table is None or not any(row.history.started for row in table.rows):
            self.lab.say("nothing was trained yet: there is nothing to report", is_error=True)
            return
        services = self.lab.services
        if services.children.report(folder, services.runs_root):
            self.lab.say("writing the report …")
        else:
            self.lab.say("the report is being written")

    # --- runs ----------------------------------------------------------------------------------

    @on(RunsTable.Chosen, "#runs")
    def action_open_run(self) -> None:
        """Show the run on the Train screen."""
        line = self._runs.chosen
        if line is None:
            return
        if line.row.entry is None:
            self.lab.say(f"{line.row.name} waits for its turn: s starts the experiment")
        else:
            self.lab.open_run(line.row.name)

    def action_open_config(self) -> None:
        """Edit the config of the run for a new one."""
        line = self._runs.chosen
        if line is not None:
            self.lab.edit_config(line.row.config, stem=line.row.name)

    def action_copy_name(self) -> None:
        """Copy how the run is addressed on the command line."""
        if (line := self._runs.chosen) is not None:
            self.lab.copy(line.row.name, line.row.name)

    def action_sort(self) -> None:
        """Sort by the next column; after the last, in the order of the experiment."""
        self._sort(None)

    def action_reverse(self) -> None:
        """Turn the order round."""
        browser = self.browser
        browser.sorted_by = browser.sorted_by or "run"
        browser.is_descending = not browser.is_descending
        self._show_runs()

    @on(RunsTable.HeaderClicked, "#runs")
    def _sort_by_click(self, message: RunsTable.HeaderClicked) -> None:
        if self.browser.field_of(message.name) is not None:
            self._sort(message.name)

    def _sort(self, name: str | None) -> None:
        browser = self.browser
        if name is None:
            browser.sort_by_next()
        else:
            browser.sort_by(name)
        self._show_runs()
        if browser.sorted_by is not None:
            self._runs.bring(browser.sorted_by)

    def action_toggle_curve(self) -> None:
        """Draw the curve of the run under the cursor, or leave it out."""
        if (line := self._runs.chosen) is not None:
            self.browser.toggle_curve(line.key)
            self._runs.action_move(1)
            self._show_runs()

    def action_curves(self) -> None:
        """All curves, none, or the best."""
        if self.browser.table is not None:
            self.lab.say(self.browser.change_curves())
            self._show_runs()

    # --- chart ---------------------------------------------------------------------------------

    def action_smooth(self, direction: int) -> None:
        """Smooth the loss more, or less."""
        self.lab.remember("train.smoothing", self._chart.change_smoothing(direction))

    def action_quantity(self) -> None:
        """Show perplexity or accuracy in place of the loss."""
        self.lab.remember("train.quantity", self._chart.change_quantity())

    def action_log_steps(self) -> None:
        """Switch the axis of steps between linear and logarithmic."""
        self._chart.toggle_log_steps()
        self.lab.remember("train.log_steps", self._chart.is_log_steps)

    def action_log_loss(self) -> None:
        """Switch the axis of losses between linear and logarithmic."""
        self._chart.toggle_log_loss()
        self.lab.remember("train.log_loss", self._chart.is_log_loss)

    def action_along(self) -> None:
        """Draw over steps, tokens or training time."""
        self.lab.remember("train.along", self._chart.change_along())

    def action_whole(self) -> None:
        """Draw up to where the runs will end, or to where they have come."""
        self._chart.toggle_whole()

    def action_zoom(self, factor: float) -> None:
        """Show fewer or more steps."""
        self._chart.action_zoom(factor)

    def action_show_all(self) -> None:
        """Show the whole runs."""
        self._chart.action_show_all()

    # --- parts ---------------------------------------------------------------------------------

    def on_descendant_focus(self) -> None:
        self._show_pane(self._pane)

    def _show_pane(self, pane: str) -> None:
        """Where there is room for one picture only, show this one."""
        if not self.is_mounted:
            return
        self._pane = pane
        for name, _ in _PANES:
            self.set_class(name == pane, f"-pane-{name}")
        is_focused = self.focused is not None and self.focused.id == pane
        self.query_one(PaneTabs).show(_PANES, pane, is_focused=is_focused)

    @on(PaneTabs.Chosen)
    def _choose_pane(self, message: PaneTabs.Chosen) -> None:
        self._go_to(message.pane)

    def action_next_pane(self, direction: int) -> None:
        """From the table to the curves, to what a setting does, and round."""
        parts = ["runs", *(name for name, _ in _PANES)]
        here = self.focused.id if self.focused is not None and self.focused.id in parts else "runs"
        self._go_to(parts[(parts.index(here or "runs") + direction) % len(parts)])

    def _go_to(self, part: str) -> None:
        if part != "runs":
            self._show_pane(part)
        if self.has_class("-only-left") or self.has_class("-only-right"):
            self._enlarge(part)
        self.query_one(f"#{part}").focus()

    def action_enlarge(self) -> None:
        """Give the whole screen to the part that has the focus, or share it again."""
        if self.has_class("-only-left") or self.has_class("-only-right"):
            self.remove_class("-only-left", "-only-right")
        else:
            self._enlarge(self.focused.id if self.focused is not None else "runs")

    def _enlarge(self, part: str | None) -> None:
        self.set_class(part == "runs", "-only-left")
        self.set_class(part != "runs", "-only-right")


def _words_of(row: RunRow, table: ExperimentTable) -> str:
    """The settings that a run was given, as they are written to add another."""
    words = (
        [f"arm={row.trial.variant.arm}"] if row.trial.variant.arm in table.experiment.arms else []
    )
    values = row.trial.variant.values or {
        path: row.config.by_path()[path] for path in table.differing
    }
    words += [f"{short_name(path)}={value_text(path, value)}" for path, value in values.items()]
    return " ".join([*words, f"seed={row.trial.seed}"])


def _about(row: RunRow, table: ExperimentTable) -> Content:
    """What the row of a run has no room for."""
    if row.failure:
        return Content.assemble(
            (f"{visible(row.name)}: ", "bold"), (visible(row.failure), "$error")
        )
    parts = [Content.styled(visible(row.name), "bold"), Content(visible(row.trial.variant.label))]
    if row.pruned_at is not None:
        parts.append(Content(f"given up at step {row.pruned_at:,}: it would not have won"))
    best = [run for variant in table.best for run in variant.rows if run.text_key == row.text_key]
    if best and not any(run is row for run in best):
        paths = [p for p in differing_paths(row.texts, best[0].texts) if p != "training.seed"]
        theirs = " ".join(f"{short_name(p)}={best[0].texts[p] or 'empty'}" for p in paths)
        parts.append(Content.styled(f"{BEST} {visible(best[0].name)} has {theirs}", "$text-muted"))
    return Content(" · ").join(parts)


def _verdict(table: ExperimentTable) -> Content:
    lines = conclusions(table)
    if not lines:
        return Content("")
    first, *others = lines
    style = "$success" if table.best else "$text-muted"
    head = Content.styled(f"{BEST} {first}" if table.best else first, style)
    return Content("\n").join([head, *(Content.styled(line, "$text-muted") for line in others)])
