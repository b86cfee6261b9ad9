"""``train``: make a run or resume one."""

import argparse
import contextlib
import gc
import math
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import FrameType
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
    discard,
    print_json,
    progresses,
    reader_may_leave,
    say,
)
from shakespeare_tui.errors import RunFailedError, UserError
from shakespeare_tui.machine import Launched, backend_of, launched, map_torch

if TYPE_CHECKING:
    from shakespeare_tui.config.schema import Config
    from shakespeare_tui.runs.events import Event, RunFinished
    from shakespeare_tui.runs.losses import Quantity
    from shakespeare_tui.training.request import TrainingRequest
    from shakespeare_tui.training.session import ChooseBackend, Hooks, Session

# Few numbers learn, and begin at nothing: they bear ten times the usual rate of fine-tuning.
_LORA_RATE = "1e-3"
# The default preset is none of them: it is a plain transformer that every export takes.
_RECIPES = ("sprint", "dash", "lap", "mile", "best")
REFERENCE_TOKENS_PER_SECOND = 27_000
"""How fast the default preset trains where the recipes were measured: two cores, otherwise idle."""
# From here on, in minutes of the machine of the recipes, several models and a student of theirs
# end lower than one; teachers and student have equal shares, the reading of teachers the last.
_LEAST_FOR_TEACHERS, _SHARES = 48, 5
# What a config computes with, not what.
_MACHINE_SETTINGS = ("training.backend", "training.device", "training.precision")


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
        "with --minutes the best preset known for the time, else quick",
    )
    completes(config, config_names)
    add_overrides(parser)
    corpus = parser.add_argument(
        "--corpus", metavar="NAME|PATH", help="short for --set data.corpus=…"
    )
    completes(corpus, corpus_names)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--max-steps", metavar="N", help="train for N steps")
    length.add_argument("--minutes", metavar="TIME", help="time budget: 100s, 1m 40s, or minutes")
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
    parser.add_argument("--name", help="the run's name; default: the config's name and a number")
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
    request = (place and _gone_on_with(arguments.name, place)) or _request(
        arguments, tuple(overrides)
    )
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
    from shakespeare_tui.training.distributed import Group, follow

    with contextlib.ExitStack() as stack:
        try:
            group = stack.enter_context(Group.joined(place))
        except RunFailedError:  # which the first process finds, too
            return 1
        for number in _stopping_signals():
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


def _request(arguments: argparse.Namespace, overrides: tuple[str, ...]) -> "TrainingRequest":
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
    elif arguments.minutes is not None:
        spec = stem = _recipe(overrides)
    else:
        spec = stem = DEFAULT_PRESET
        notice, changes = _against_memorising(overrides)
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


@cache
def recipe_minutes() -> Mapping[str, float]:
    """The presets that are the best known for a time, each with its minutes, the shortest first."""
    from shakespeare_tui.config.load import load_config

    return {name: load_config(name).training.minutes or math.inf for name in _RECIPES}


def recipe_for(
    minutes: float,
    tokens_per_second: float,
    train_tokens: int | None = None,
    overrides: Sequence[str] = (),
) -> str:
    """The recipe whose own time is nearest, as a ratio, to what ``minutes`` of this machine are.

    Args:
        minutes: Time budget.
        tokens_per_second: How fast the default preset trains here.
        train_tokens: To learn from: recipes that would memorise so few are passed over; None where
            that is not known.
        overrides: Settings of the user's, which may keep a recipe from that.
    """
    from shakespeare_tui.config.estimate.advice import advise_on_memorising
    from shakespeare_tui.config.load import load_config

    worth = minutes * tokens_per_second / REFERENCE_TOKENS_PER_SECOND
    known = recipe_minutes()
    nearest = sorted(known, key=lambda name: abs(math.log(known[name] / worth)))
    if train_tokens:
        epochs = 60 * minutes * tokens_per_second / train_tokens
        for name in nearest:
            config = load_config(name, overrides)
            if not advise_on_memorising(config, epochs, config.decay_for(train_tokens, epochs)):
                return name
    return nearest[0]


def _recipe(overrides: tuple[str, ...]) -> str:
    """The best preset known for a time budget on this machine, whose speed is measured for that."""
    from shakespeare_tui.config.load import DEFAULT_PRESET, load_config
    from shakespeare_tui.experiments.schema import ELSEWHERE
    from shakespeare_tui.formatting import format_duration
    from shakespeare_tui.training.measure_speed import measure_throughput

    config = load_config(DEFAULT_PRESET, overrides)
    minutes = config.training.minutes or 0.0
    characters = _train_characters(config)
    how = [o for o in overrides if o.partition("=")[0].strip() in _MACHINE_SETTINGS]
    speed = measure_throughput(load_config(DEFAULT_PRESET, how))
    name = recipe_for(minutes, speed, characters, overrides)
    nearest = recipe_for(minutes, speed)
    known = f"known for about {format_duration(recipe_minutes()[nearest] * 60)} on two cores"
    ratio = speed / REFERENCE_TOKENS_PER_SECOND
    say(
        f"preset {name}, the best {known}"
        + ("" if name == nearest else f" that does not memorise so short a text ({nearest} would)")
        + f"; this machine trains {ratio:.2g} times as fast as those"
    )
    if name == _RECIPES[-1] and minutes * ratio >= _LEAST_FOR_TEACHERS:
        settings = (o for o in overrides if o.partition("=")[0].strip() not in ELSEWHERE)
        words = [word for override in settings for word in ("--set", override)]
        say(
            "note: in that time three such models, and one that learns from them, end lower: "
            f"shakespeare-tui experiment run hour --minutes {60 * minutes / _SHARES:.0f}s"
            + "".join(f" {shlex.quote(word)}" for word in words)
        )
    return name


def _train_characters(config: "Config") -> int | None:
    """About how many there are to learn from; None where several corpora are to be fetched."""
    from shakespeare_tui.data.catalogue import CATALOGUE
    from shakespeare_tui.data.source import locate_corpus

    data = config.data
    source = locate_corpus(data.corpus, data.validation)
    if source is not None:
        size, is_apart = source.size_bytes, source.validation is not None
    elif entry := CATALOGUE.get(data.corpus):
        size, is_apart = entry.size_bytes or entry.about_bytes or 0, entry.validation is not None
    else:
        return None
    return round(size * (1 if is_apart else 1 - data.val_fraction))


def _against_memorising(overrides: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Settings of the default preset for a text that it would memorise, but for those given.

    Returns:
        What is to be said of them, and they.
    """
    from shakespeare_tui.config.estimate.advice import advise_on_memorising
    from shakespeare_tui.config.load import DEFAULT_PRESET, load_config

    config = load_config(DEFAULT_PRESET, overrides)
    training, characters = config.training, _train_characters(config)
    if not characters:
        return "", ()
    tokens: float = training.max_steps * config.tokens_per_step
    if training.minutes is not None:
        tokens = 60 * training.minutes * REFERENCE_TOKENS_PER_SECOND
    epochs = tokens / characters
    advice = advise_on_memorising(config, epochs, config.decay_for(characters, epochs))
    given = {override.partition("=")[0].strip() for override in overrides}
    changes = [c for c in (advice.overrides if advice else ()) if c[0] not in given]
    if not changes:
        return "", ()
    settings = tuple(f"{path}={text}" for path, text in changes)
    # How often it is seen is told when the run's own speed is known.
    return f"for so short a text, not to memorise it: {', '.join(settings)}", settings


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
    from shakespeare_tui.cli.train_console import TrainConsole
    from shakespeare_tui.runs.commands import CommandInbox, Stop
    from shakespeare_tui.runs.events import Event
    from shakespeare_tui.training.loop import run_training
    from shakespeare_tui.visible_text import write_line

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
    if finished.is_early:
        command = f"shakespeare-tui train --no-ui --resume {run.name}"
    else:
        prompt = shlex.quote(write_line(session.prompts[0][0])) if session.prompts else "..."
        command = f"shakespeare-tui generate {run.name} --prompt {prompt}"
    with reader_may_leave():
        if as_json:
            print_json(_summary(session, finished))
        else:
            if chart or sys.stdout.isatty():
                from shakespeare_tui.cli.charts import print_losses, run_curves
                from shakespeare_tui.data.tokenizers.kinds import token_noun

                quantity = chart or "loss"
                noun = token_noun(session.config.data.tokenizer)
                print_losses(run_curves(run.events_path, quantity), quantity, noun)
            console.print_summary(finished, run.best(), str(run.path), command)
    return 130 if interrupted else 0


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


def _summary(session: "Session", finished: "RunFinished") -> dict[str, object]:
    from shakespeare_tui.runs.losses import perplexity

    return {
        "run": session.run.name,
        "path": str(session.run.path),
        "reason": finished.reason,
        "step": session.progress.step,
        "val_loss": finished.val_loss,
        "perplexity": perplexity(finished.val_loss),
        "accuracy": finished.accuracy,
        "protocol": finished.protocol,
        "best_step": session.run.index().get("best"),
        "elapsed_seconds": session.progress.elapsed_seconds,
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


@contextlib.contextmanager
def signals_stop(stop: Callable[[], None], words: str) -> Iterator[list[int]]:
    """Turn the first Ctrl-C, SIGTERM or hang-up into an orderly stop; a second Ctrl-C abandons it.

    After a hang-up nothing is printed to the terminal that is gone. Where hang-ups are ignored
    (nohup), they stay so.

    Args:
        stop: Asks for the stop; called at each signal.
        words: Said at the first.

    Yields:
        A list that holds the signals received.
    """
    received: list[int] = []

    def act(number: int, frame: FrameType | None) -> None:
        stop()
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        if number == hang_up:
            for stream in terminals:
                discard(stream)
        say(words)

    hang_up = getattr(signal, "SIGHUP", None)
    # Asked now: a terminal that is gone does not say that it was one.
    terminals = [stream for stream in (sys.stdout, sys.stderr) if stream.isatty()]
    before = {number: signal.signal(number, act) for number in _stopping_signals()}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopping_signals() -> list[signal.Signals]:
    """Ctrl-C, SIGTERM and, unless it is ignored (nohup), a hang-up."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) != signal.SIG_IGN:
        numbers.append(hang_up)
    return numbers
