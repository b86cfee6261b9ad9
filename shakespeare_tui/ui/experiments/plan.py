"""What the runs of an experiment will be, before any is trained: ``--dry-run`` as a screen."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ValidationError
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from shakespeare_tui.config.schema import Config
from shakespeare_tui.errors import UserError
from shakespeare_tui.experiments.estimate import Estimate, Plan, Planner
from shakespeare_tui.experiments.folder import ExperimentFolder, new_folder
from shakespeare_tui.experiments.plan import Changes, read_definition
from shakespeare_tui.experiments.runner import threads_per_job
from shakespeare_tui.experiments.schema import Budget
from shakespeare_tui.formatting import counted, format_bytes, format_count, format_duration
from shakespeare_tui.ui.jobs import Job, Jobs
from shakespeare_tui.ui.lab_screen import LabScreen
from shakespeare_tui.ui.widgets.ask_bar import AskBar
from shakespeare_tui.ui.widgets.line_table import LEAD, LineTable, Part, TableColumn
from shakespeare_tui.ui.widgets.text_glyphs import fitted


@dataclass(frozen=True)
class PlanLine:
    """A run that is to be."""

    key: str
    estimate: Estimate


_FIGURES = (
    TableColumn("parameters", "Params", 7),
    TableColumn("memory", "Memory", 8),
    TableColumn("steps", "Steps", 8),
    TableColumn("time", "Time", 8),
    TableColumn("tokens", "Tokens", 7),
    TableColumn("epochs", "Epochs", 6),
    TableColumn("speed", "Tok/s", 8),
)
_LEAST_LABEL = 24


class PlanTable(LineTable[PlanLine]):
    """The runs with size, memory and time."""

    def fit_columns(self, width: int) -> Sequence[TableColumn]:
        """The label, and as many figures as leave room for it."""
        figures = list(_FIGURES)
        while figures and width - LEAD - sum(f.width + 1 for f in figures) < _LEAST_LABEL:
            del figures[-1]
        label = width - LEAD - sum(figure.width + 1 for figure in figures) - 1
        return [TableColumn("label", "Run", max(1, label), False), *figures]

    def parts_of(self, line: PlanLine) -> Sequence[Part]:
        """The cells of a line."""
        return [
            (
                " " * (n > 0)
                + fitted(_cell(line.estimate, column.name), column.width, is_right=column.is_right),
                "run" if column.name == "label" else "value",
            )
            for n, column in enumerate(self.columns)
        ]


def _cell(estimate: Estimate, name: str) -> str:
    figures = estimate.figures
    about = "" if estimate.is_measured else "~"
    match name:
        case "label":
            return estimate.label
        case "parameters":
            return format_count(figures.parameter_count)
        case "memory":
            return format_bytes(figures.memory.total)
        case "steps" if figures.steps is not None:
            return f"{'~' * figures.is_budget}{figures.steps:,.0f}"
        case "time" if figures.seconds is not None:
            return f"{'' if figures.is_budget else about}{format_duration(figures.seconds)}"
        case "tokens" if figures.tokens is not None:
            return format_count(figures.tokens)
        case "epochs" if figures.epochs is not None:
            return f"{figures.epochs:.2g}"
        case "speed" if figures.tokens_per_second is not None:
            return f"{about}{figures.tokens_per_second:,.0f}"
    return "-"


class PlanScreen(LabScreen):
    """The runs of an experiment that is about to begin; keys change how long and how many.

    Args:
        spec: An experiment file, or the name of one that ships.
        name: Of the experiment.
        begin: Called with its folder once it has been begun.
    """

    MODE: ClassVar[str] = "experiments"
    HELP: ClassVar[str] = """\
What the runs of the experiment will be, before any is trained. Times are for this machine, one run
after the other: the speed of a few configs is measured, a second each, and that of the others is
reckoned from them and has a ~.

b changes how long each run is, l how many there are (the first ones; every variant comes before
any has its second seed, and who learns from others after them), e the seeds, n the name. s starts;
escape leaves everything as it is."""
    DEFAULT_CSS: ClassVar[str] = """
    PlanScreen #question { height: auto; max-height: 3; padding: 0 1; }
    PlanScreen #total {
        height: auto;
        max-height: 4;
        padding: 0 1;
        border-top: solid $border-blurred;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "begin", "Start", id="plan.begin"),
        Binding("b", "budget", "Length", id="plan.budget"),
        Binding("l", "limit", "How many", id="plan.limit"),
        Binding("e", "seeds", "Seeds", id="plan.seeds"),
        Binding("n", "rename", "Name", id="plan.name"),
        Binding("escape", "leave", "Back", id="plan.leave"),
    ]

    def __init__(self, spec: str, name: str, begin: Callable[[ExperimentFolder], object]) -> None:
        super().__init__()
        self._spec, self._experiment, self._begin = spec, name, begin
        self._changes = Changes()
        self._jobs = Jobs(self)
        self._planner = Planner()
        self.plan: Plan | None = None
        """What is shown; None before it is known."""

    def compose_body(self) -> ComposeResult:
        """The question, the runs, and what they come to."""
        yield Static("", id="question", markup=False)
        yield PlanTable(id="runs")
        yield Static("Reading …", id="total", markup=False)
        yield AskBar()

    @property
    def home(self) -> PlanTable:
        return self.query_one(PlanTable)

    def on_mount(self) -> None:
        self._plan()

    def on_unmount(self) -> None:
        self._jobs.close()

    # --- what it will be -----------------------------------------------------------------------

    def _plan(self) -> None:
        """Reckon at once, and again with speeds that are measured."""
        changes, spec = self._changes, self._spec
        services = self.lab.services

        def reckon(job: Job[Plan]) -> Plan:
            return self._planner.plan(read_definition(spec, changes))

        def measured(job: Job[Plan]) -> Plan:
            def measure(config: Config, vocab_size: int) -> float:
                return services.engine.measure_speed(config, job.cancelled.is_set, vocab_size)[0]

            definition = read_definition(spec, changes)
            return self._planner.plan(definition, measure=measure, report=job.report)

        def take(job: Job[Plan]) -> None:
            if job.result is None:
                self._show_problem(job.error)
            else:
                self._show(job.result)
                # A run in training is not to be disturbed, nor would the speed be the machine's.
                if not services.training.is_at_work:
                    self._jobs.start("speed", measured, show)

        def show(job: Job[Plan]) -> None:
            if job.result is not None:
                self._show(job.result)

        self._jobs.cancel("speed")
        self._jobs.start("plan", reckon, take)

    def _show_problem(self, problem: str) -> None:
        self.query_one("#total", Static).update(Content.styled(problem, "$error"))

    def _show(self, plan: Plan) -> None:
        self.plan = plan
        question = plan.definition.experiment.question
        head = [Content.styled(self._experiment, "bold")]
        if question:
            head.append(Content(question))
        self.query_one("#question", Static).update(Content("   ").join(head))
        lines = [PlanLine(str(n), estimate) for n, estimate in enumerate(plan.estimates)]
        self.home.show(lines, ())
        self.query_one("#total", Static).update(_total(plan))
        if self.focused is None:
            self.home.focus()

    # --- changes -------------------------------------------------------------------------------

    def _take(self, changes: Changes) -> None:
        """Plan with changes, which must come to something.

        Raises:
            UserError: They do not.
        """
        read_definition(self._spec, changes).runs()
        self._changes = changes
        self._plan()

    def action_budget(self) -> None:
        """Ask how long each run is."""

        def answer(text: str) -> None:
            self._take(dataclasses.replace(self._changes, budget=read_budget(text)))

        hint = "of each run: 600 steps, 3m, or 1e6 tokens"
        self.query_one(AskBar).ask("Length", hint, self._budget_text(), answer)

    def _budget_text(self) -> str:
        budget = self.plan.definition.experiment.budget if self.plan else Budget()
        if budget.minutes is not None:
            return format_duration(60 * budget.minutes)
        if budget.tokens is not None:
            return f"{budget.tokens} tokens"
        return f"{budget.steps} steps" if budget.steps is not None else ""

    def action_limit(self) -> None:
        """Ask how many runs there are to be."""

        def answer(text: str) -> None:
            if text.strip() and (not text.strip().isdecimal() or int(text) < 1):
                raise UserError("write a number, or nothing for all")
            limit = int(text) if text.strip() else None
            self._take(dataclasses.replace(self._changes, limit=limit))

        value = str(self._changes.limit or "")
        self.query_one(AskBar).ask("The first", "runs; empty: all", value, answer)

    def action_seeds(self) -> None:
        """Ask for the seeds."""

        def answer(text: str) -> None:
            words = [word.strip() for word in text.split(",") if word.strip()]
            if not all(word.isdecimal() and int(word) < 2**63 for word in words):
                raise UserError("write whole numbers such as 1, 2, 3")
            if len(set(map(int, words))) < len(words):
                raise UserError("a seed stands there twice")
            self._take(dataclasses.replace(self._changes, seeds=tuple(map(int, words))))

        seeds = self.plan.definition.seeds if self.plan else ()
        value = ", ".join(map(str, seeds))
        self.query_one(AskBar).ask("Seeds", "every variant once with each", value, answer)

    def action_rename(self) -> None:
        """Ask for the experiment's name."""

        def answer(text: str) -> None:
            new_folder(text.strip(), self.lab.services.experiments_root)
            self._experiment = text.strip()
            if self.plan is not None:
                self._show(self.plan)

        self.query_one(AskBar).ask("Name", "of the experiment", self._experiment, answer)

    # --- and then ------------------------------------------------------------------------------

    def action_begin(self) -> None:
        """Begin the experiment and train its runs."""
        services = self.lab.services
        try:
            definition = read_definition(self._spec, self._changes)
            if definition.experiment.search is not None:
                definition.ends()
            folder = new_folder(self._experiment, services.experiments_root)
            folder.prepare(
                definition, services.runs_root, threads=threads_per_job(1), may_replace=False
            )
        except (UserError, OSError) as error:
            self._show_problem(str(error))
            return
        self.dismiss()
        self._begin(folder)

    def action_leave(self) -> None:
        """Leave everything as it is."""
        self.dismiss()


def read_budget(text: str) -> Budget | None:
    """A length as a person writes it; None of nothing.

    Raises:
        UserError: It is none.
    """
    words = text.strip().lower()
    if not words:
        return None
    for name in ("steps", "tokens"):
        if words.endswith((name, name[:-1])):
            given = {name: words.removesuffix(name).removesuffix(name[:-1]).strip()}
            break
    else:
        given = {"minutes": words} if not words.replace(",", "").isdecimal() else {"steps": words}
    try:
        return Budget.model_validate(given)
    except ValidationError:
        raise UserError("write 600 steps, 3m, or 1e6 tokens") from None


def _total(plan: Plan) -> Content:
    runs = counted(plan.count, "run")
    search = plan.definition.experiment.search
    if search is not None:
        runs = f"a search of {counted(search.trials, 'trial')}, {runs} at most; above, its ends"
    seconds = plan.seconds
    about = "" if seconds is None else f", about {format_duration(seconds)} on this machine"
    text = Content.assemble((runs, "bold"), about, ("   s starts", "$text-muted"))
    for note in dict.fromkeys(plan.notes()):
        text = text + Content.styled(f"\n! {note}", "$warning")
    return text
