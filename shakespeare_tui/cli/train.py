"""``train``: make a run or resume one."""

import argparse
import contextlib
import gc
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from shakespeare_tui.cli.completion import (
    checkpoint_names,
    completes,
    config_names,
    corpus_names,
)
from shakespeare_tui.cli.config import add_overrides
from shakespeare_tui.cli.console import (
    add_chart,
    print_json,
    print_result,
    progresses,
    reader_may_leave,
    say,
)
from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.machine import Launched, backend_of, launched, map_torch

if TYPE_CHECKING:
    from shakespeare_tui.config.schema import Config
    from shakespeare_tui.experiments.plan import Definition
    from shakespeare_tui.experiments.table import ExperimentTable
    from shakespeare_tui.runs.events import Event, RunFinished
    from shakespeare_tui.runs.folder import RunFolder
    from shakespeare_tui.runs.losses import Quantity
    from shakespeare_tui.training.request import TrainingRequest
    from shakespeare_tui.training.session import ChooseBackend, Hooks, Session
    from shakespeare_tui.ui.app import LabApp

# Few numbers learn, and begin at nothing: they bear ten times the usual rate of fine-tuning.
_LORA_RATE = "1e-3"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser(
        "train",
        help="train a model, or resume a run",
        description="Train a model on a corpus, or resume a run exactly where it stopped.",
        epilog="Example: shakespeare-tui train --no-ui --config tiny --max-steps 100",
    )
    parser.add_argument("--no-ui", action="store_true", help="print instead of opening the lab")
    config = parser.add_argument(
        "--config",
        metavar="NAME|FILE",
        help="a preset (see `config list`) or a YAML file; default: that of the run of --from, "
        "with --minutes the best known for the time, else quick",
    )
    completes(config, config_names)
    add_overrides(parser)
    corpus = parser.add_argument(
        "--corpus", metavar="NAME|PATH", help="short for --set data.corpus=…"
    )
    completes(corpus, corpus_names)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--max-steps", metavar="N", help="train for N steps")
    length.add_argument(
        "--minutes",
        metavar="TIME",
        help="time budget: 100s, 1m 40s, or minutes; without a config, an hour trains several "
        "models and one that learns from them, as an experiment",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        help="the same seed gives the same losses; short for --set training.seed=N",
    )
    parser.add_argument(
        "--backend",
        choices=("auto", "torch", "numpy"),
        help="what computes: PyTorch, or NumPy without it; short for --set training.backend=…",
    )
    parser.add_argument(
        "--name",
        help="the run's name, or the experiment's; default: the config's name and a number",
    )
    start = parser.add_mutually_exclusive_group()
    resumed = start.add_argument("--resume", metavar="RUN[@STEP]", help="resume a run")
    completes(resumed, checkpoint_names)
    parent = start.add_argument(
        "--from", dest="start_from", metavar="RUN[@REF]", help="start from a checkpoint's weights"
    )
    completes(parent, checkpoint_names)
    teachers = parser.add_argument(
        "--distill",
        nargs="+",
        metavar="RUN[@REF]",
        help="learn from the mean probabilities of these teachers, too; corpus and tokenizer are "
        "theirs, and the config where none is named; how much: --set training.distill_weight=…",
    )
    completes(teachers, checkpoint_names)
    less = parser.add_mutually_exclusive_group()
    less.add_argument(
        "--lora",
        metavar="RANK",
        help=f"learn products of this rank beside frozen matrices, at a rate of {_LORA_RATE} where "
        "none is set; short for --set training.lora_rank=RANK",
    )
    less.add_argument(
        "--freeze",
        metavar="N",
        help="freeze all but the last N blocks; short for --set training.train_blocks=N",
    )
    parser.add_argument(
        "--tensorboard",
        nargs="?",
        const="tensorboard",
        metavar="DIR",
        help="with --no-ui: write DIR/RUN for TensorBoard, too (tensorboard)",
    )
    # What `experiment run` tells of the runs that it starts; nothing for a person to give.
    parser.add_argument("--experiment", help=argparse.SUPPRESS)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    output = parser.add_mutually_exclusive_group()
    add_chart(
        output, "with --no-ui: draw the loss curve at the end also where stdout is no terminal"
    )
    output.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train in the lab, or without screens; 0 when done, 130 when interrupted (state saved)."""
    is_plain = arguments.no_ui or arguments.json
    with _uncollected() if is_plain else contextlib.nullcontext():
        return _run(arguments, is_plain=is_plain)


def _run(arguments: argparse.Namespace, *, is_plain: bool) -> int:
    place = launched()
    if place is not None and place.rank:
        return _follow(place)
    if place is not None and not is_plain:
        raise UserError("torchrun has no screens; train with --no-ui")
    if arguments.resume is not None and (arguments.config or arguments.name):
        raise UserError("--resume keeps the run's own config and name; use --set to change")
    if arguments.resume is not None and arguments.distill:
        raise UserError("--resume keeps the run's own teachers; leave --distill out")
    overrides = list(arguments.overrides)
    if arguments.lora is not None:
        overrides.insert(0, f"training.learning_rate={_LORA_RATE}")
        overrides.append(f"training.lora_rank={arguments.lora}")
    if arguments.freeze is not None:
        overrides.append(f"training.train_blocks={arguments.freeze}")
    if arguments.corpus is not None:
        overrides.append(f"data.corpus={_quoted(arguments.corpus)}")
    if arguments.max_steps is not None:
        overrides += [f"training.max_steps={arguments.max_steps}", "training.minutes=null"]
    if arguments.minutes is not None:
        overrides.append(f"training.minutes={arguments.minutes}")
    if arguments.seed is not None:
        overrides.append(f"training.seed={arguments.seed}")
    if arguments.backend is not None:
        overrides.append(f"training.backend={arguments.backend}")
    request = _gone_on_with(arguments.name, place) if place else None
    if request is None:
        preset, lesson = _recipe(arguments, overrides, place)
        if lesson is not None:
            return _train_student(arguments, lesson, is_plain=is_plain)
        request = _request(arguments, tuple(overrides), preset)
    request.check()  # before the lab is opened, or the corpus fetched
    if not is_plain:
        from shakespeare_tui.cli.lab import is_terminal, open_lab

        if is_terminal():
            return open_lab("train", lambda app: app.start_training(request))
        say("no terminal here: training without the lab")
    if request.config is not None and backend_of(request.config.training.backend) == "torch":
        # Beside the imports that do without it.
        threading.Thread(target=map_torch, daemon=True).start()
    from shakespeare_tui.training.session import open_session

    with (
        _setup_hooks() as hooks,
        _backend_choice(place) as choose,
        open_session(request, hooks, choose) as session,
    ):
        if request.resume is not None and session.is_new:
            say(f"{session.run.name} has no checkpoint yet: starting it from its config")
        elif request.resume is not None:
            say(f"resuming {session.run.name} at step {session.progress.step:,}")
        return _train(
            session,
            as_json=arguments.json,
            chart=arguments.chart,
            tensorboard=arguments.tensorboard,
        )


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """What is imported to begin with stays: the garbage collector need not look for cycles in it.

    It did so again and again, for a tenth of the time until the first step.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def _collect_from_here() -> None:
    """Look for cycles in what is made from now on."""
    gc.freeze()
    gc.enable()


def _follow(place: Launched) -> int:
    """Take part in what the first process trains; that one decides when it is to stop."""
    from shakespeare_tui.cli.signals import stopping_signals
    from shakespeare_tui.training.distributed import Group, follow

    with contextlib.ExitStack() as stack:
        try:
            group = stack.enter_context(Group.joined(place))
        except RunFailedError:  # which the first process finds, too
            return 1
        for number in stopping_signals():
            signal.signal(number, signal.SIG_IGN)
        follow(group)
    return 0


@contextlib.contextmanager
def _backend_choice(place: Launched | None) -> "Iterator[ChooseBackend]":
    """What computes: this process, or all that ``torchrun`` has started."""
    if place is None or place.processes == 1:
        from shakespeare_tui.training.backends import choose_backend

        yield choose_backend
        return
    from functools import partial

    from shakespeare_tui.training.distributed import Group, SharedBackend

    with Group.joined(place) as group:
        yield partial(SharedBackend, group)


def _recipe(
    arguments: argparse.Namespace, overrides: Sequence[str], place: Launched | None
) -> "tuple[str, Definition | None]":
    """What is the best known where nothing but a time is said: a preset, or several runs.

    The preset is empty where more is said.
    """
    others = (arguments.config, arguments.resume, arguments.start_from, arguments.distill)
    if arguments.minutes is None or any(others):
        return "", None
    from shakespeare_tui.cli.recipes import choose_recipe
    from shakespeare_tui.formatting import format_duration

    recipe = choose_recipe(overrides)
    objection = ""
    if recipe.benefits:
        lesson = _objection_to_teachers(arguments, place) or _lesson(
            arguments, recipe.preset, overrides
        )
        if isinstance(lesson, str):
            objection = lesson
        else:
            first, *_, last = (60 * (run.config.training.minutes or 0) for run in lesson.runs())
            say(
                f"three models of preset {recipe.preset}, {format_duration(first)} each, and one "
                f"that learns from them, {format_duration(last)}: the best known for so much time "
                f"(--config {recipe.preset} trains one model); {recipe.here}"
            )
            return recipe.preset, lesson
    say(f"preset {recipe.preset}, the best {recipe.known}; {recipe.here}")
    if objection:
        say(f"note: several such models, and one that learns from them, end lower; but {objection}")
    return recipe.preset, None


def _objection_to_teachers(arguments: argparse.Namespace, place: Launched | None) -> str:
    """What keeps several runs from being trained; empty for nothing.

    Raises:
        UserError: The name is no good.
    """
    import tempfile

    from shakespeare_tui.cli.recipes import HOUR
    from shakespeare_tui.experiments.compose import unbegun
    from shakespeare_tui.files import reason
    from shakespeare_tui.paths import experiments_folder

    if place is not None:
        return "torchrun trains a single run"
    if arguments.tensorboard is not None:
        return "--tensorboard follows a single run"
    root = experiments_folder()
    unbegun(arguments.name, HOUR, root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root):
            return ""
    except OSError as error:
        why = reason(error)
        return f"{root} cannot be written to ({why}); SHAKESPEARE_TUI_EXPERIMENTS moves it"


def _lesson(
    arguments: argparse.Namespace, preset: str, overrides: Sequence[str]
) -> "Definition | str":
    """Several runs of a preset and one that learns from them, or why they cannot be.

    What is wrong with the corpus is found here and once, and not left to each of the runs to say.

    Raises:
        UserError: No run could be trained.
    """
    from shakespeare_tui.cli.recipes import HOUR
    from shakespeare_tui.config.load import load_config
    from shakespeare_tui.data.download import FetchFailedError
    from shakespeare_tui.data.source import open_corpus
    from shakespeare_tui.data.tokens import check_variety, open_tokenizer, whole_survey
    from shakespeare_tui.experiments.compose import for_time
    from shakespeare_tui.paths import cache_folder
    from shakespeare_tui.training.backends import choose_backend
    from shakespeare_tui.training.distillation import check_room
    from shakespeare_tui.training.measure_speed import measure_throughput
    from shakespeare_tui.training.session import check_fits, load_tokens

    config = load_config(preset, overrides)
    if config.data.windows == "streamed":
        return "a streamed text is never there as a whole"
    with _setup_hooks() as hooks:
        cancelled = hooks.cancelled.is_set
        try:
            source = open_corpus(
                config.data.corpus,
                lambda done, total: hooks.report("fetching the corpus", done, total),
                validation=config.data.validation,
            )
        except FetchFailedError as error:
            if not _is_first_run(arguments):
                raise
            return error.reason
        survey = whole_survey(source, hooks.report, cancelled)
        check_variety(len(survey.vocabulary) == 1)
        tokenizer = open_tokenizer(config.tokens, source, hooks.report, cancelled, survey=survey)
        check_fits(config, tokenizer, choose_backend(config), hooks)
        train, _, _ = load_tokens(source, tokenizer, config, hooks)
        try:
            check_room(len(train) - 1, tokenizer.vocab_size, cache_folder() / "soft_targets")
        except UserError as error:
            return str(error)
        lesson = for_time(HOUR, config, overrides)
        if config.training.weight_decay is None:
            # By how often one of them sees the text, which an experiment's runs do not measure.
            hooks.report("measuring the speed", 0, None)
            speed = measure_throughput(config, cancelled=cancelled, vocab_size=tokenizer.vocab_size)
            minutes = lesson.experiment.budget.minutes or 0.0
            decay = config.decay_for(len(train), 60 * minutes * speed / len(train))
            lesson = for_time(HOUR, config, [*overrides, f"training.weight_decay={decay}"])
    return lesson


def _train_student(arguments: argparse.Namespace, lesson: "Definition", *, is_plain: bool) -> int:
    """Train several models and a student of theirs: the runs of an experiment."""
    from shakespeare_tui.cli.experiment import exit_code, train_runs
    from shakespeare_tui.cli.recipes import HOUR
    from shakespeare_tui.experiments.compose import unbegun
    from shakespeare_tui.machine import blas_threads
    from shakespeare_tui.paths import experiments_folder, runs_folder

    root, runs_root = experiments_folder(), runs_folder()
    folder = unbegun(arguments.name, HOUR, root)
    notes = _notes_on_earlier(lesson, folder.name)
    folder.prepare(lesson, runs_root, threads=blas_threads(), may_replace=False)
    if not is_plain:
        from shakespeare_tui.cli.lab import is_terminal, open_lab

        if is_terminal():

            def opening(app: "LabApp") -> None:
                app.train_experiment(folder)
                for note in notes:
                    app.say(note)

            return open_lab("experiments", opening, experiment=folder.name)
        say("no terminal here: training without the lab")
    for note in notes:
        say(f"note: {note}")
    _collect_from_here()
    table = train_runs(folder)
    with reader_may_leave():
        _print_student(table, as_json=arguments.json, chart=arguments.chart)
    return exit_code(folder, table)


def _notes_on_earlier(lesson: "Definition", name: str) -> list[str]:
    """What is to be said of experiments like it that are not finished, beside the new one."""
    from pathlib import Path

    from shakespeare_tui.experiments.folder import list_experiments
    from shakespeare_tui.experiments.table import ExperimentReader
    from shakespeare_tui.paths import experiments_folder, runs_folder

    notes = []
    for earlier in list_experiments(experiments_folder()):
        with contextlib.suppress(UserError):  # a damaged one is told of elsewhere
            file = earlier.record().definition.filename
            if Path(file).name != Path(lesson.filename).name:
                continue
            table = ExperimentReader(earlier, runs_folder()).read()
            program = "shakespeare-tui experiment"
            if table.count("training", "paused"):
                notes.append(
                    f"{earlier.name} is in training, too, and slows {name} down; {program} stop "
                    f"{earlier.name} saves and stops it"
                )
            elif not table.is_complete:
                retry = " --retry" if table.count("failed") else ""
                notes.append(
                    f"{name} is a new experiment; {earlier.name} is not finished, and goes on "
                    f"with: {program} run {earlier.name}{retry}"
                )
    return notes


def _print_student(table: "ExperimentTable", *, as_json: bool, chart: "Quantity | None") -> None:
    """Print what became of the run that learns from others, and of those."""
    from shakespeare_tui.cli.experiment_table import print_experiment
    from shakespeare_tui.runs.events import RunFinished
    from shakespeare_tui.runs.folder import RunFolder

    student = next(row for row in table.rows if row.trial.teachers)
    run = RunFolder(student.path) if student.path else None
    if as_json:
        finished, figures = student.history.finished, student.figures
        ending = finished or RunFinished(
            step=figures.step, reason=student.state, val_loss=None, protocol=""
        )
        summary = _summary(run, ending, figures.elapsed_seconds)
        print_json({**summary, "run": student.name, **table.as_json()})
        return
    print_experiment(table)
    if run is None or student.state != "finished":
        return
    _print_chart(run, student.config, chart)
    prompt = next((sample.prompt for sample in student.history.samples), None)
    print_result(f"saved in    {run.path}")
    print_result(f"next        {_generating(run, prompt)}")


def _request(
    arguments: argparse.Namespace, overrides: tuple[str, ...], preset: str
) -> "TrainingRequest":
    from pathlib import Path

    from shakespeare_tui.config.load import DEFAULT_PRESET, load_config
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.folder import find_checkpoint
    from shakespeare_tui.training.request import TrainingRequest, text_of

    if arguments.resume is not None:
        return TrainingRequest(root=runs_folder(), resume=arguments.resume, overrides=overrides)
    teachers = tuple(arguments.distill or ())
    if teachers:
        teacher = find_checkpoint(teachers[0], runs_folder()).run
        overrides = (*text_of(teacher.config()), *overrides)
    spec: str | Path
    notice = ""
    if arguments.config is not None:
        spec, stem = arguments.config, Path(arguments.config).stem
    elif arguments.start_from is not None:
        parent = find_checkpoint(arguments.start_from, runs_folder()).run
        spec, stem = parent.path / "config.yaml", parent.name
    elif teachers:
        spec, stem = teacher.path / "config.yaml", "distilled"
    elif preset:
        spec = stem = preset
    else:
        spec = stem = DEFAULT_PRESET
        from shakespeare_tui.cli.recipes import against_memorising

        notice, changes = against_memorising(overrides)
        overrides = (*changes, *overrides)
    return TrainingRequest(
        root=runs_folder(),
        config=load_config(spec, overrides),
        name=arguments.name,
        stem=stem,
        start_from=arguments.start_from,
        teachers=teachers,
        fallback_to_sample=_is_first_run(arguments),
        experiment=arguments.experiment,
        variant=arguments.variant,
        notice=notice,
    )


def _gone_on_with(name: str | None, place: Launched) -> "TrainingRequest | None":
    """The run of a name, where ``torchrun`` starts all processes again that had begun it."""
    from shakespeare_tui.paths import runs_folder
    from shakespeare_tui.runs.folder import find_run
    from shakespeare_tui.training.request import TrainingRequest

    if name is None or not place.restarts:
        return None
    with contextlib.suppress(UserError):  # they ended before there was one
        return TrainingRequest(root=runs_folder(), resume=find_run(name, runs_folder()).name)
    return None


def _is_first_run(arguments: argparse.Namespace) -> bool:
    """Whether nothing was chosen: then the sample may stand in for the corpus."""
    chosen = (arguments.config, arguments.corpus, arguments.overrides, arguments.distill)
    return not any(chosen)


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)


def _train(
    session: "Session", *, as_json: bool, chart: "Quantity | None", tensorboard: str | None
) -> int:
    from shakespeare_tui.cli.signals import signals_stop
    from shakespeare_tui.cli.train_console import TrainConsole
    from shakespeare_tui.runs.commands import CommandInbox, Stop
    from shakespeare_tui.runs.events import Event
    from shakespeare_tui.training.loop import run_training

    run = session.run
    token_size = (session.characters_per_token, session.run.info().bytes_per_token)
    console = TrainConsole(session.config, session.length, token_size)
    inbox = CommandInbox(run.commands_path)
    # What weights knew before is not memorised here, and of a streamed text this is a part.
    is_plain = session.is_new and session.run.info().parent is None
    is_whole = is_plain and session.config.data.windows != "streamed"
    train_tokens = len(session.train) if is_whole else 0
    console.expect(train_tokens, len(session.val), session.progress.precision)
    _collect_from_here()

    def show(event: Event) -> None:
        # Where the terminal is gone there is nobody to tell, and the run is none the worse.
        with contextlib.suppress(OSError):
            console(event)

    def stop() -> None:
        inbox.post(Stop(reason="interrupted"))

    words = "stopping after this step"
    if launched() is None:  # torchrun hands on the first Ctrl-C alone
        words += "; press Ctrl-C again to abandon"
    with (
        _tensorboard(session, tensorboard) as sinks,
        signals_stop(stop, words) as interrupted,
        console.live(),
    ):
        finished = run_training(session, inbox, show, *sinks)
    command = _generating(run, session.prompts[0][0] if session.prompts else None)
    if finished.is_early:
        command = f"shakespeare-tui train --no-ui --resume {run.name}"
    with reader_may_leave():
        if as_json:
            print_json(_summary(run, finished, session.progress.elapsed_seconds))
        else:
            _print_chart(run, session.config, chart)
            console.print_summary(finished, run.best(), str(run.path), command)
    return 130 if interrupted else 0


def _generating(run: "RunFolder", prompt: str | None) -> str:
    """The command line that writes with a run."""
    from shakespeare_tui.visible_text import write_line

    shown = "..." if prompt is None else shlex.quote(write_line(prompt))
    return f"shakespeare-tui generate {run.name} --prompt {shown}"


def _print_chart(run: "RunFolder", config: "Config", chart: "Quantity | None") -> None:
    """Draw a run's curve where that was asked for, and on a terminal its loss in any case."""
    if not chart and not sys.stdout.isatty():
        return
    from shakespeare_tui.cli.charts import print_losses, run_curves
    from shakespeare_tui.data.tokenizers.kinds import token_noun

    quantity, noun = chart or "loss", token_noun(config.data.tokenizer)
    print_losses(run_curves(run.events_path, quantity), quantity, noun)


@contextlib.contextmanager
def _tensorboard(
    session: "Session", folder: str | None
) -> "Iterator[list[Callable[[Event], None]]]":
    """The sink that writes for TensorBoard, where a folder was named."""
    if folder is None:
        yield []
        return
    from pathlib import Path

    from shakespeare_tui.runs.event_log import read_events
    from shakespeare_tui.runs.events import RunStarted
    from shakespeare_tui.runs.export import TensorBoardWriter

    with TensorBoardWriter(Path(folder) / session.run.name) as writer:
        first = next(read_events(session.run.events_path), None)
        if isinstance(first, RunStarted):
            writer.resume(first)
        yield [writer]


def _summary(
    run: "RunFolder | None", finished: "RunFinished", elapsed_seconds: float
) -> dict[str, object]:
    """What became of a run; without its folder where it was not begun."""
    from shakespeare_tui.runs.losses import perplexity

    return {
        "run": run and run.name,
        "path": run and str(run.path),
        "reason": finished.reason,
        "step": finished.step,
        "val_loss": finished.val_loss,
        "perplexity": perplexity(finished.val_loss),
        "accuracy": finished.accuracy,
        "protocol": finished.protocol or None,
        "best_step": run and run.index().get("best"),
        "elapsed_seconds": elapsed_seconds,
    }


@contextlib.contextmanager
def _setup_hooks() -> "Iterator[Hooks]":
    """Hooks that show a progress bar, on a terminal only, while work is long."""
    from shakespeare_tui.training.session import Hooks

    def warn(question: str) -> bool:
        say(f"warning: {question}; Ctrl-C stops")
        return True

    with progresses() as report:
        yield Hooks(report=report, notice=lambda text: say(f"note: {text}"), confirm=warn)
