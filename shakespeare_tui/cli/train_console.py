"""Tell a run's events in lines, and print its result."""

import contextlib
import math
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from shakespeare_tui.cli.console import print_result, rule, say, terminal_width
from shakespeare_tui.config.estimate.advice import advise_on_memorising
from shakespeare_tui.config.estimate.figures import EVALUATION_SHARE
from shakespeare_tui.config.estimate.speed import MOST_OF_BUDGET, SpeedMeter, evaluation_seconds
from shakespeare_tui.config.schema import Config
from shakespeare_tui.data.tokenizers.kinds import token_noun
from shakespeare_tui.formatting import (
    counted,
    format_accuracy,
    format_count,
    format_duration,
    format_loss,
)
from shakespeare_tui.runs.events import (
    CommandApplied,
    DiagnosisRaised,
    EvalCompleted,
    EvalProgressed,
    Event,
    RunFinished,
    RunStarted,
    SampleGenerated,
    StepCompleted,
)
from shakespeare_tui.runs.length import RunLength
from shakespeare_tui.runs.losses import EXACT, bits, perplexity
from shakespeare_tui.runs.series import TRAIN_LOSS_STEPS, RunningMean
from shakespeare_tui.runs.state import END_REASONS, state_after
from shakespeare_tui.visible_text import visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from shakespeare_tui.runs.folder import Checkpoint

_SECONDS_BETWEEN_LINES = 10.0
_LONG_STEP_SECONDS, _STEPS_TO_SETTLE = 0.5, 5


class TrainConsole:
    """Tells steps and samples on stderr, beside a progress bar; the result goes to stdout.

    Args:
        config: The run's config.
        length: The run's, with what commands have added before.
        token_size: Characters and bytes per token of its validation split.
    """

    def __init__(
        self, config: Config, length: RunLength, token_size: tuple[float, float | None]
    ) -> None:
        self._config = config
        self._tokens_a_step = config.tokens_per_step
        self._length = length
        self._token_size = token_size
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._first: StepCompleted | None = None
        self._is_time_told = False
        self._latest: StepCompleted | None = None
        self._mean_loss = RunningMean(TRAIN_LOSS_STEPS)
        self._train_loss = math.nan
        self._evaluated_step = -1
        self._speed = SpeedMeter()
        self._train_tokens = 0
        self._exact_tokens = 0.0
        self._is_rounded = False
        self._said_at = time.monotonic()

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Show the progress bar where stderr is a terminal."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[left]}", markup=False),
        )
        with Progress(
            *columns,
            console=Console(stderr=True, highlight=False),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=True,
            refresh_per_second=4,
        ) as self._bar:
            self._task = self._bar.add_task("", total=1.0, left="")
            yield
        self._bar = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, StepCompleted):
            self._on_step(event)
        elif isinstance(event, EvalCompleted):
            if event.step == self._evaluated_step:
                # The same weights, measured once more and exactly.
                val = format_loss(event.val_loss)
                accuracy = format_accuracy(event.accuracy)
                figures = [f"val_loss: {val} ({event.protocol})", f"accuracy: {accuracy}"]
                parts = [f"Step {event.step}", *figures]
                self._say(fit_line(parts, terminal_width(sys.stderr)))
            else:
                self._print_line(event)
            self._evaluated_step = event.step
        elif isinstance(event, EvalProgressed):
            self._show_evaluation(event)
        elif isinstance(event, SampleGenerated):
            title = f"step {event.step:,}: {event.prompt!r}"
            line, end = rule(title, sys.stderr), rule("", sys.stderr)
            self._say(f"{line}\n{event.prompt + event.text}\n{end}")
        elif isinstance(event, DiagnosisRaised):
            kind = event.kind.replace("_", " ")
            say(f"doctor, step {event.step:,}: {kind}: {event.evidence}. Try: {event.advice}")
        elif isinstance(event, RunStarted):
            self._print_header(event)
        elif isinstance(event, CommandApplied):
            added = event.arguments
            self._length = self._length.extended(added.get("steps", 0), added.get("minutes", 0.0))

    def expect(self, train_tokens: int, val_tokens: int, precision: str) -> None:
        """Know how large the splits are, and in what the exact evaluation at the end computes.

        ``train_tokens`` are 0 where nothing is to be said of how often they are seen.
        """
        self._train_tokens = train_tokens
        self._exact_tokens, self._is_rounded = val_tokens, precision != "float32"

    def _tell_time(self, event: StepCompleted) -> None:
        """How long the run will take, by a step that has been made."""
        if not event.tokens_per_second:
            return
        tokens = self._tokens_a_step
        step_seconds = tokens / event.tokens_per_second
        exact = self._exact_seconds()
        step = f"a step of {counted(tokens, 'token')} takes {_brief(step_seconds)}"
        minutes, a_step = self._length.budget_minutes, step_seconds * (1 + EVALUATION_SHARE)
        if minutes is not None:
            left = max(0.0, 60 * minutes - event.elapsed_seconds)
            steps = round((left - exact if exact <= MOST_OF_BUDGET * left else left) / a_step)
            whole = f"about {counted(steps, 'step')} more in {format_duration(left)}"
        else:
            steps = max(0, self._length.last_step - event.step)
            time_left = format_duration(steps * a_step + exact)
            whole = f"about {time_left} for {counted(steps, 'step')} more"
        self._say(_row("time", f"{step}: {whole}", sys.stderr))
        if self._train_tokens:
            epochs = (event.step + steps) * tokens / self._train_tokens
            weight_decay = self._config.decay_for(self._train_tokens, epochs)
            if advice := advise_on_memorising(self._config, epochs, weight_decay):
                changes = " ".join(f"--set {path}={text}" for path, text in advice.overrides)
                self._say(f"{advice.text}. Try: {changes}")

    def _say(self, text: str) -> None:
        self._said_at = time.monotonic()
        say(text)

    def _print_header(self, event: RunStarted) -> None:
        training = self._config.training
        if training.minutes is not None:
            length = f"as many as fit into {format_duration(training.minutes * 60)}"
        else:
            length = f"{training.max_steps:,}"
        is_apart = event.corpus_tokens != event.characters
        tokens = [("tokens", f"{event.corpus_tokens:,}")] if is_apart else []
        rows = (
            ("run", event.run),
            ("device", f"{event.device}, {event.precision}"),
            ("corpus", event.corpus),
            ("characters", f"{event.characters:,}"),
            *tokens,
            ("vocabulary", f"{event.vocab_size:,}"),
            ("parameters", f"{event.parameters:,} ({format_count(event.parameters)})"),
            *([("teachers", self._teachers(event))] if event.teachers else []),
            ("steps", length),
        )
        self._say("\n".join(_row(name, value, sys.stderr) for name, value in rows))

    def _teachers(self, event: RunStarted) -> str:
        weight = self._config.training.distill_weight
        names = ", ".join(event.teachers)
        return f"{names}; weight {weight:g}: the losses shown are of the text alone"

    def _on_step(self, event: StepCompleted) -> None:
        self._first = self._first or event
        self._latest = event
        self._speed.observe(event.tokens_per_second)
        if event.loss is not None:
            self._train_loss = self._mean_loss.observe(event.step, event.loss)
        self._update_bar(event)
        # Not by the first, in which memory is taken, nor by the few that a GPU makes before it
        # knows how; where one takes long, the next has to do.
        made, tokens = event.step - self._first.step, self._tokens_a_step
        is_long = tokens > _LONG_STEP_SECONDS * event.tokens_per_second
        if not self._is_time_told and (made >= _STEPS_TO_SETTLE or (made and is_long)):
            self._is_time_told = True
            self._tell_time(event)
        if time.monotonic() - self._said_at > _SECONDS_BETWEEN_LINES:
            self._print_line(None)

    def _print_line(self, evaluation: EvalCompleted | None) -> None:
        step = evaluation.step if evaluation else self._latest.step if self._latest else 0
        parts = [f"Step {step}", f"train_loss: {self._train_loss:.3f}"]
        if evaluation and evaluation.val_loss is not None:
            parts.append(f"val_loss: {evaluation.val_loss:.3f}")
        if self._latest:
            parts.append(f"lr: {self._latest.learning_rate:.1e}")
            speed = self._speed.tokens_per_second
            parts.append(f"{speed:,.0f} tok/s" if speed else "- tok/s")
        width = terminal_width(sys.stderr)
        if evaluation and evaluation.accuracy is not None:
            longer = [*parts[:3], f"accuracy: {format_accuracy(evaluation.accuracy)}", *parts[3:]]
            # It is told at the end in any case: no second line for it.
            parts = longer if len(" | ".join(longer)) <= width else parts
        self._say(fit_line(parts, width))

    def _seconds_left(self, event: StepCompleted) -> float:
        minutes = self._length.budget_minutes
        if minutes is not None:
            return 60 * minutes - event.elapsed_seconds
        first = self._first or event
        done = event.step - first.step
        if done == 0:
            return math.nan
        seconds_a_step = (event.elapsed_seconds - first.elapsed_seconds) / done
        steps_left = self._length.last_step - event.step
        return seconds_a_step * steps_left + self._exact_seconds()

    def _exact_seconds(self) -> float:
        """About how long the exact evaluation at the end takes."""
        speed = self._speed.tokens_per_second
        return evaluation_seconds(self._exact_tokens, speed, is_rounded=self._is_rounded)

    def _show_evaluation(self, event: EvalProgressed) -> None:
        if self._bar is not None and self._task is not None:
            share = event.done / max(1, event.total)
            self._bar.update(self._task, left=f"measuring the loss: {share:.0%}")

    def _update_bar(self, event: StepCompleted) -> None:
        if self._bar is None or self._task is None:
            return
        minutes = self._length.budget_minutes
        if minutes is not None:
            share = event.elapsed_seconds / (60 * minutes)
        else:
            share = event.step / self._length.last_step
        left = self._seconds_left(event)
        shown = f"{format_duration(left)} left" if math.isfinite(left) else ""
        self._bar.update(self._task, completed=min(share, 1.0), left=shown)

    def print_summary(
        self,
        finished: RunFinished,
        best: "Checkpoint | None",
        folder: str,
        command: str,
    ) -> None:
        """Print the result, where it is and what to do next.

        Args:
            finished: The last event.
            best: The run's best checkpoint.
            folder: The run's folder.
            command: The command line that generates from, or resumes, the run.
        """
        latest = self._latest
        seconds = latest.elapsed_seconds if latest else 0.0
        reason = END_REASONS.get(finished.reason)
        ending = f"{state_after(finished)}, {counted(finished.step, 'step')}"
        rows = [("state", f"{ending}; {reason}" if reason else ending)]
        rows.append(("time", format_duration(seconds)))
        if finished.val_loss is not None:
            rows.append(("val_loss", self._figures(finished.val_loss, finished.protocol)))
            rows.append(("accuracy", _foretold(finished.accuracy)))
        if best is not None and best.info.loss is not None:
            rows.append(("best", f"{best.info.loss}, at step {best.info.step:,}"))
        if finished.protocol != EXACT and not finished.is_early:
            measure = f"shakespeare-tui eval {best.reference}" if best else "shakespeare-tui eval"
            rows.append(("exact loss", f"no time was left for it: {measure} measures it"))
        rows.append(("saved in", folder))
        rows.append(("next", command))
        print_result("\n".join((rule(), *(_row(name, value, sys.stdout) for name, value in rows))))

    def _figures(self, loss: float, protocol: str) -> str:
        likely = perplexity(loss)
        shown = f"{likely:.2f}" if likely is not None else "-"
        value, unit = bits(loss, *self._token_size)
        per_word = " nats per word" if token_noun(self._config.data.tokenizer) == "word" else ""
        by_text = "" if value is None else f", {value:.3f} {unit}"
        return f"{format_loss(loss)}{per_word}, {protocol}, perplexity {shown}{by_text}"


def _foretold(accuracy: float | None) -> str:
    share = format_accuracy(accuracy)
    return share if accuracy is None else f"{share} of the tokens were the first guess"


def _row(name: str, value: str, stream: TextIO) -> str:
    """A label and a value; one that is too long goes on below, broken only at spaces."""
    width = max(terminal_width(stream), 30)
    value = visible(value)
    if name in ("saved in", "next"):  # to be copied
        return f"{name:<12}{value}"
    indent = " " * 12
    return textwrap.fill(
        value,
        width,
        initial_indent=f"{name:<12}",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _brief(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def fit_line(parts: list[str], width: int) -> str:
    """Join by `` | ``; where that is wider than ``width``, break between parts and indent."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += f" | {part}"
        else:
            lines.append(f"  {part}")
    return "\n".join(lines)
