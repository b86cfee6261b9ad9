"""The training loop: one step after another, and commands in between."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator

from shakespeare_tui.config.estimate.speed import MOST_OF_BUDGET, SpeedMeter, evaluation_seconds
from shakespeare_tui.config.schema import SamplingConfig
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.streaming_text import StopTexts, StreamedText
from shakespeare_tui.diagnosis import Doctor
from shakespeare_tui.diagnosis.findings import describe_refused
from shakespeare_tui.errors import CancelledError, RunFailedError, UserError
from shakespeare_tui.formatting import per_second
from shakespeare_tui.machine import CORES, give_back_freed_memory
from shakespeare_tui.runs.commands import (
    Command,
    CommandInbox,
    ExtendRun,
    GenerateSample,
    Pause,
    Resume,
    SaveCheckpoint,
    SetLearningRate,
    Stop,
)
from shakespeare_tui.runs.event_log import EventLog, read_events
from shakespeare_tui.runs.events import (
    ROLL_BACK,
    CheckpointEvaluated,
    CheckpointSaved,
    CommandApplied,
    DiagnosisRaised,
    EvalCompleted,
    EvalProgressed,
    Event,
    LayerStatistics,
    RunFailed,
    RunFinished,
    RunStarted,
    SampleGenerated,
    StepCompleted,
)
from shakespeare_tui.runs.folder import best_step
from shakespeare_tui.runs.losses import EXACT
from shakespeare_tui.runs.series import RunningMean
from shakespeare_tui.sampling import strategy_from_flags
from shakespeare_tui.training.checkpoints import (
    Progress,
    explain_disk_error,
    prune,
    read_state,
    restore,
    save_checkpoint,
)
from shakespeare_tui.training.evaluate import (
    Evaluation,
    affordable_windows,
    evaluate,
    windows_within,
)
from shakespeare_tui.training.schedules import learning_rate_factor
from shakespeare_tui.training.session import Session
from shakespeare_tui.training.train_state import WorkerLostError

_SECONDS_BETWEEN_SAVES = 600.0


def sampling_column(sampling: SamplingConfig) -> Column:
    """How a config's samples are drawn."""
    strategy = strategy_from_flags(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        repetition_penalty=sampling.repetition_penalty,
    )
    return Column(strategy=strategy, seed=sampling.seed)


@contextlib.contextmanager
def _memory_apart() -> Iterator[None]:
    """What the block takes is not taken beside what the allocator keeps for steps."""
    give_back_freed_memory()
    try:
        yield
    finally:
        give_back_freed_memory()


class StepEnd:
    """Does what is due at a step's end, once, also where a run stopped in the middle of it.

    Args:
        session: The run.
        emit: Takes every event.
        sync_log: Brings the events emitted so far to the disk.
        cancelled: Polled during evaluations and samples; what is given up is due again on resume.
    """

    def __init__(
        self,
        session: Session,
        emit: Callable[[Event], None],
        *,
        sync_log: Callable[[], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self._session = session
        self._config = session.config
        self._emit = emit
        self._sync_log = sync_log
        self._cancelled = cancelled
        self._context = session.config.seq_len
        tokens_a_step = (
            session.config.seq_len
            * session.config.training.batch_size
            * session.config.training.grad_accumulation
        )
        self._windows = affordable_windows(
            seq_len=self._context,
            tokens_between_evaluations=tokens_a_step * session.config.training.eval_every,
        )
        self._windows_in_val = max(1, (len(session.val) - 1) // self._context)
        self._sample_seconds = 0.0
        self._is_save_wanted = False
        self.saved_step = -1 if session.is_new else session.progress.step
        self._saved_at_seconds = session.progress.elapsed_seconds

    def evaluate_if_due(self, *, is_end: bool) -> bool:
        """Evaluate both splits where the config or the run's end asks for it.

        Returns:
            Whether the weights are sound: False where a loss is not finite; it is not recorded.
        """
        progress = self._session.progress
        is_due = is_end or self._is_multiple(self._config.training.eval_every)
        if not is_due or progress.step == 0 or progress.evaluated_step == progress.step:
            return True
        try:
            val, train = self._evaluate(self._windows)
        except CancelledError:
            return True
        if not math.isfinite(val.loss + train.loss):
            return False
        progress.evaluated_step = progress.step
        progress.val_loss, progress.train_loss = val.loss, train.loss
        progress.accuracy = val.accuracy
        # A run that is resumed with other settings may be measured differently: the best so far
        # does not compare then.
        is_comparable = progress.protocol == val.protocol and progress.best_loss is not None
        progress.protocol = val.protocol
        if not is_comparable or val.loss < (progress.best_loss or 0.0):
            progress.best_loss, progress.best_step = val.loss, progress.step
            progress.evaluations_without_gain = 0
        else:
            progress.evaluations_without_gain += 1
        # A checkpoint of this step that does not know its loss yet is written again.
        self._is_save_wanted |= self.saved_step == progress.step or self._is_to_keep(val)
        self._report(val, train)
        return True

    def _is_to_keep(self, val: Evaluation) -> bool:
        """Whether a loss is among the best few of its protocol, whatever ``save_every`` says."""
        keep_best = self._config.checkpoints.keep_best
        known = [
            loss.value
            for checkpoint in self._session.run.checkpoints()
            for loss in checkpoint.info.losses
            if loss.protocol == val.protocol
        ]
        return len(known) < keep_best or val.loss < sorted(known)[keep_best - 1]

    def final_evaluation(self) -> Evaluation:
        """The exact evaluation of the final weights; it is written beside their checkpoint.

        Raises:
            CancelledError: The run was stopped meanwhile.
        """
        val, train = self._evaluate(None)
        step = self._session.progress.step
        self._session.run.record_exact_loss(step, val.loss, val.accuracy)
        self._report(val, train)
        return val

    def evaluate_best(self) -> None:
        """Measure the best checkpoint exactly, too, where it is not the last: the two compare then.

        Raises:
            CancelledError: The run was stopped meanwhile.
        """
        session, best = self._session, self._session.progress.best_step
        if best is None or best == session.progress.step or best not in session.run.steps():
            return
        checkpoint = session.run.checkpoint(best)
        loss, accuracy = checkpoint.info.exact_val_loss, checkpoint.info.exact_accuracy
        # Known already where a run that had ended goes on; the log need not tell of it then.
        if loss is None:
            try:
                model = session.backend.load_model(checkpoint)
            except UserError:
                # Damaged since: the run and its own figure are not.
                return
            report = self._progress_report()
            val = evaluate(model, session.val, cancelled=self._cancelled, progressed=report)
            loss, accuracy = val.loss, val.accuracy
            session.run.record_exact_loss(best, loss, accuracy)
        self._emit(CheckpointEvaluated(step=best, val_loss=loss, protocol=EXACT, accuracy=accuracy))

    def name_best(self) -> None:
        """Name the best checkpoint anew: exact figures have come in."""
        run, last = self._session.run, self._session.progress.step
        run.write_index(best_step(run.checkpoints()), last)

    def seconds_at_end(self, tokens_per_second: float) -> float:
        """About how long what comes after the last step takes, the exact evaluation left out."""
        tokens = 2 * min(self._windows, self._windows_in_val) * self._context
        return evaluation_seconds(tokens, tokens_per_second) + self._sample_seconds

    def limit_windows(self, seconds: float, tokens_per_second: float) -> None:
        """Evaluate on fewer windows from now on, where both splits would take longer than that.

        A power of two, so that most runs of one speed are measured alike.
        """
        most = windows_within(seconds, tokens_per_second, self._context)
        if most < min(self._windows, self._windows_in_val):
            self._windows = most

    def exact_seconds(self, tokens_per_second: float) -> float:
        """About how long the exact evaluation at the end takes; 0 where each one is exact."""
        if self._windows >= self._windows_in_val:
            return 0.0
        session = self._session
        is_best_apart = session.progress.evaluations_without_gain > 0
        tokens = (1 + is_best_apart) * len(session.val) + self._windows * self._context
        is_rounded = session.progress.precision != "float32"
        return evaluation_seconds(tokens, tokens_per_second, is_rounded=is_rounded)

    def _evaluate(self, windows: int | None) -> tuple[Evaluation, Evaluation]:
        """Both splits: validation on ``windows``, or exactly; training on no more than a subset."""
        session = self._session
        in_train = min(self._windows, self._windows_in_val)
        is_exact = windows is None or windows >= self._windows_in_val
        # What is called exact is not rounded, whatever the run trains in.
        with _memory_apart(), session.state.averaged(is_exact=is_exact) as model:
            val = evaluate(
                model,
                session.val,
                windows=windows,
                cancelled=self._cancelled,
                progressed=self._progress_report(),
            )
            train = evaluate(model, session.train, windows=in_train, cancelled=self._cancelled)
        return val, train

    def _progress_report(self) -> Callable[[int, int], None]:
        """Tells of an evaluation that takes long: at each twentieth, once a second at most."""
        told_at, told = time.monotonic(), 0

        def report(done: int, total: int) -> None:
            nonlocal told_at, told
            now, part = time.monotonic(), 20 * done // total
            if part > told and now - told_at >= 1:
                told_at, told = now, part
                step = self._session.progress.step
                self._emit(EvalProgressed(step=step, done=done, total=total))

        return report

    def _report(self, val: Evaluation, train: Evaluation) -> None:
        self._emit(
            EvalCompleted(
                step=self._session.progress.step,
                train_loss=train.loss,
                val_loss=val.loss,
                protocol=val.protocol,
                accuracy=val.accuracy,
                train_protocol=train.protocol,
            )
        )

    def sample_if_due(self, *, is_end: bool) -> None:
        """Draw the config's samples where it or the run's end asks for them."""
        progress = self._session.progress
        is_due = is_end or self._is_multiple(self._config.sampling.every)
        if is_due and progress.sampled_step != progress.step:
            began = time.monotonic()
            if self.sample():
                progress.sampled_step = progress.step
                self._sample_seconds = time.monotonic() - began

    def sample(self, prompt: str | None = None) -> bool:
        """Continue ``prompt``, or the config's prompts; whether it came to an end.

        Training's generators are not touched: samples have their own, of a fixed seed.
        """
        session = self._session
        prompts = session.prompts
        if prompt is not None:
            try:
                prompts = [(prompt, session.tokenizer.encode(prompt).tolist())]
            except UserError as error:
                self._emit_sample(prompt, f"({error})")
                return True
        try:
            with _memory_apart():
                samples = [(text, self._continue(tokens)) for text, tokens in prompts]
        except CancelledError:
            return False
        # All of them or none: those of a step that was cut short come again on resume.
        for text, sample in samples:
            self._emit_sample(text, sample)
        return True

    def _continue(self, tokens: list[int]) -> str:
        session, sampling = self._session, self._config.sampling
        stops = StopTexts((), session.tokenizer)
        text = StreamedText(session.tokenizer, stops)
        with session.state.decoder(self._cancelled) as decoder:
            stream = generate_columns(
                decoder,
                tokens,
                [sampling_column(sampling)],
                max_tokens=sampling.max_tokens,
                stop=stops or None,
                cancelled=self._cancelled,
            )
            return "".join([*(text.feed(row[0]) for row in stream), text.flush()])

    def _emit_sample(self, prompt: str, text: str) -> None:
        self._emit(SampleGenerated(step=self._session.progress.step, prompt=prompt, text=text))

    def want_save(self) -> None:
        """Save before the next step."""
        self._is_save_wanted = True

    def renew_save(self) -> None:
        """Save again where this step's checkpoint does not know what has just changed."""
        self._is_save_wanted |= self.saved_step == self._session.progress.step

    def save_if_due(self, *, is_end: bool) -> None:
        """Write a checkpoint where a command, the config, the clock or the end asks for it."""
        progress, checkpoints = self._session.progress, self._config.checkpoints
        is_due = self._is_save_wanted or (
            self.saved_step != progress.step
            and (
                is_end
                or self._is_multiple(checkpoints.save_every or self._config.training.eval_every)
                or self._is_multiple(checkpoints.every)
                or progress.elapsed_seconds - self._saved_at_seconds > _SECONDS_BETWEEN_SAVES
            )
        )
        if is_due:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of the current step and remove what need not be kept.

        Raises:
            OSError: The disk is full; earlier checkpoints are untouched.
            RunFailedError: The run's lock is gone.
        """
        session, progress = self._session, self._session.progress
        session.run.check_lock()
        self._sync_log()
        with _memory_apart():
            checkpoint = save_checkpoint(session.run, session.state, progress, session.fingerprint)
        best = prune(session.run, self._config.checkpoints, progress.step)
        self.saved_step, self._saved_at_seconds = progress.step, progress.elapsed_seconds
        self._is_save_wanted = False
        self._emit(
            CheckpointSaved(
                step=progress.step,
                path=checkpoint.folder.name,
                val_loss=checkpoint.info.val_loss,
                best=best == progress.step,
            )
        )

    def save_if_sound(self) -> bool:
        """After an error: save, unless it came in the middle of an update or the weights diverged.

        Returns:
            Whether the state of the current step is on the disk.

        Raises:
            OSError: The disk is full.
            RunFailedError: The run's lock is gone.
        """
        is_sound = self._session.state.is_sound()
        if is_sound and (self._is_save_wanted or self.saved_step != self._session.progress.step):
            self.save()
        return is_sound

    def is_exact(self) -> bool:
        """Whether the current step's evaluation was exact already."""
        progress = self._session.progress
        return progress.evaluated_step == progress.step and progress.protocol == EXACT

    def _is_multiple(self, every: int) -> bool:
        step = self._session.progress.step
        return every > 0 and step > 0 and step % every == 0


def run_training(
    session: Session, inbox: CommandInbox, *sinks: Callable[[Event], None]
) -> RunFinished:
    """Train a session to its end.

    Args:
        session: The run; its lock is held by the caller.
        inbox: Commands.
        sinks: Take every event, in order, once it is in the run's log; they must not block.

    Raises:
        RunFailedError: Training diverged, the disk is full, memory ran out or the program has an
            error; what was sound is saved.
    """
    with EventLog(session.run.events_path, every=session.config.logging.every) as log:

        def emit(event: Event) -> None:
            log(event)
            for sink in sinks:
                sink(event)

        return Trainer(session, emit, inbox, sync_log=log.sync).run()


_log = logging.getLogger(__name__)
_MOST_ROLLBACKS = 5
_PAUSE_POLL_SECONDS = 0.05


class Trainer:
    """Trains one session to its end, emitting events and obeying commands.

    Args:
        session: The run; its lock is held by the caller.
        emit: Takes every event, in order, on the training thread; it must not block. It raises
            OSError only where the log could not be written.
        inbox: Commands; a ``Stop`` also ends evaluations and samples under way.
        sync_log: Brings every event emitted so far to the disk. Called before a checkpoint
            appears there: a resume from it does not make the steps before it again.
    """

    def __init__(
        self,
        session: Session,
        emit: Callable[[Event], None],
        inbox: CommandInbox,
        *,
        sync_log: Callable[[], None],
    ) -> None:
        config = session.config
        self._session = session
        self._training = config.training
        self._emit_raw = emit
        self._inbox = inbox
        self._step_end = StepEnd(
            session, self._emit, sync_log=sync_log, cancelled=lambda: inbox.stop_requested
        )
        self._doctor = Doctor(
            vocab_size=session.tokenizer.vocab_size,
            baselines=session.baselines,
            learning_rate=config.training.learning_rate,
            warmup_steps=config.training.warmup_steps,
            config=config,
        )
        self._speed = SpeedMeter()
        self._end_seconds = 0.0
        self._is_exact_planned = True
        self._stop_reason: str | None = None
        self._clock = time.perf_counter()

    def run(self) -> RunFinished:
        """Train to the end and return the last event.

        Raises:
            RunFailedError: Training diverged, the disk is full, memory ran out or the program has
                an error; what was sound is saved.
        """
        failure: RunFailedError
        cause: BaseException | None
        try:
            self._begin()
            return self._train()
        except WorkerLostError as error:
            failure, cause = self._rescued(error), error
        except RunFailedError as error:
            failure, cause = error, error.__cause__
        except OSError as error:
            failure, cause = explain_disk_error(error, self._session.run), error
        except Exception as error:  # noqa: BLE001 (whatever it is, hours of training are at stake)
            failure, cause = self._rescued(error), error
        self._report(failure)
        raise failure from cause

    def _rescued(self, error: Exception) -> RunFailedError:
        """Save what an error has left whole, and say so in one line."""
        run = self._session.run
        try:
            is_saved = self._step_end.save_if_sound()
        except (OSError, RunFailedError):
            is_saved = False
        steps = run.steps()
        if is_saved:
            kept = f"the run is saved at step {self._session.progress.step:,}"
        else:
            kept = f"the last checkpoint is of step {steps[-1]:,}" if steps else "nothing was saved"
        if isinstance(error, WorkerLostError):
            return RunFailedError(f"{error}; {kept}: --resume {run.name}")
        if self._session.backend.is_out_of_memory(error):
            return RunFailedError(
                "memory ran out; lower training.batch_size and raise training.grad_accumulation "
                f"by as much in a new run (--from {run.name}@last keeps the weights); {kept}"
            )
        _log.error("training ended by an error of the program", exc_info=error)
        reason = " ".join(str(error).split())
        return RunFailedError(
            f"an error of the program ended training ({type(error).__name__}: {reason}); {kept}: "
            f"--resume {run.name}"
        )

    def _begin(self) -> None:
        session = self._session
        if not session.is_new:
            for event in read_events(session.run.events_path):
                self._doctor.observe(event)
            return
        info = session.run.info()
        self._emit(
            RunStarted(
                run=session.run.name,
                config=session.config.model_dump(mode="json"),
                parameters=info.parameters,
                device=session.backend.device_name(),
                corpus=info.corpus,
                characters=info.characters,
                vocab_size=info.vocab_size,
                tokenizer_sha256=info.tokenizer_sha256 or "",
                bytes_per_token=info.bytes_per_token or 0.0,
                pretrained=info.pretrained or "",
                teachers=[*(info.teachers or ())],
                train_tokens=0 if session.config.data.windows == "streamed" else len(session.train),
                val_tokens=len(session.val),
                precision=session.progress.precision,
                baselines=session.baselines,
                tokens=len(session.train) + len(session.val),
                characters_per_token=session.characters_per_token,
            )
        )
        if session.config.sampling.every:
            # What the model writes before it has learned anything: the samples begin with it.
            self._step_end.sample()
        # So that a run that dies before its first evaluation, or diverges, has a way back.
        self._step_end.save()

    def _emit(self, event: Event) -> None:
        self._emit_raw(event)
        for diagnosis in self._doctor.observe(event):
            self._emit_raw(diagnosis)

    def _report(self, failure: RunFailedError) -> None:
        try:
            self._emit_raw(RunFailed(step=self._session.progress.step, error=str(failure)))
        except OSError:
            # The log's disk is what failed; the caller hears of it all the same.
            return

    def _train(self) -> RunFinished:
        self._clock = time.perf_counter()
        while True:
            self._tick()
            for command in self._inbox.drain():
                self._apply(command)
            if not self._step_end.evaluate_if_due(is_end=self._is_over() is not None):
                self._handle_divergence(
                    "the loss of the evaluation is not finite after step "
                    f"{self._session.progress.step:,}"
                )
                continue
            end = self._is_over()
            self._step_end.sample_if_due(is_end=end is not None)
            if self._stop_reason is None and self._inbox.stop_requested:
                # What the stop cut short is due again on resume: no step may come before it.
                continue
            reason = self._stop_reason or end
            self._step_end.save_if_due(is_end=reason is not None)
            if reason is not None:
                return self._finish(reason)
            self._step()

    def _finish(self, reason: str) -> RunFinished:
        progress = self._session.progress
        val_loss, protocol, accuracy = progress.val_loss, progress.protocol, progress.accuracy
        if reason != self._stop_reason and self._is_exact_due():
            try:
                exact = self._step_end.final_evaluation()
                val_loss, protocol, accuracy = exact.loss, exact.protocol, exact.accuracy
                self._step_end.evaluate_best()
                self._step_end.name_best()
            except CancelledError:
                for command in self._inbox.drain():
                    self._apply(command)
                reason = self._stop_reason or "stopped"
        finished = RunFinished(
            step=progress.step,
            reason=reason,
            val_loss=val_loss,
            protocol=protocol or EXACT,
            accuracy=accuracy,
        )
        self._emit(finished)
        return finished

    def _is_exact_due(self) -> bool:
        """Whether the final weights are still to be measured exactly, and there is time to.

        An experiment compares its runs: for that, they are measured whatever time it takes.
        """
        is_wanted = self._is_exact_planned or bool(self._session.run.info().experiment)
        return is_wanted and not self._step_end.is_exact()

    def _plan_end(self, tokens_per_second: float) -> None:
        """Keep time for what comes after the last step, and let it take no more than its share."""
        self._step_end.limit_windows(self._longest_end() / 2, tokens_per_second)
        exact = self._step_end.exact_seconds(tokens_per_second)
        self._is_exact_planned = exact <= self._longest_end()
        # Long steps may be too few for a steady speed.
        is_late = self._session.progress.elapsed_seconds > self._longest_end()
        if self._speed.is_steady or is_late:
            seconds = self._step_end.seconds_at_end(tokens_per_second)
            # It never falls, so that the rate never rises.
            self._end_seconds = max(
                self._end_seconds, seconds + (exact if self._is_exact_planned else 0.0)
            )

    def _longest_end(self) -> float:
        """How many seconds of a time budget may go to what comes after the last step."""
        return MOST_OF_BUDGET * self._budget_seconds()

    def _is_over(self) -> str | None:
        """Why the run has reached its end, or None."""
        progress, training = self._session.progress, self._training
        if training.minutes is None:
            is_over = progress.step >= self._session.length.last_step
        else:
            is_over = progress.elapsed_seconds >= self._training_seconds()
        if is_over:
            return "completed"
        if self._is_train_target_reached():
            return "train_target"
        if progress.evaluated_step != progress.step or progress.val_loss is None:
            return None
        if training.target_loss is not None and progress.val_loss <= training.target_loss:
            return "target"
        if training.patience and progress.evaluations_without_gain >= training.patience:
            return "patience"
        return None

    def _is_train_target_reached(self) -> bool:
        mean, target = self._session.progress.running_loss, self._training.target_train_loss
        is_settled = self._session.progress.step >= self._training.train_loss_steps
        return target is not None and mean is not None and is_settled and mean <= target

    def _budget_seconds(self) -> float:
        return 60 * (self._session.length.budget_minutes or 0.0)

    def _training_seconds(self) -> float:
        """A time budget without what comes after the last step."""
        return self._budget_seconds() - min(self._end_seconds, self._longest_end())

    def _tick(self) -> None:
        now = time.perf_counter()
        self._session.progress.elapsed_seconds += now - self._clock
        self._clock = now

    # --- steps -------------------------------------------------------------------------------

    def _step(self) -> None:
        session, progress = self._session, self._session.progress
        started = time.perf_counter()
        factor = self._rate_factor()
        last = progress.batches + self._training.grad_accumulation
        batches = range(progress.batches, last)
        windows = [session.windows(batch) for batch in batches]
        taught = session.soft_targets
        soft_targets = [] if taught is None else [taught(batch) for batch in batches]
        every, step = session.config.logging.layers_every, progress.step + 1
        is_measured = every > 0 and (step == 1 or step % every == 0)
        result = session.state.step(
            windows, factor, soft_targets=soft_targets, measures_layers=is_measured
        )
        if not result.applied:
            evidence = describe_refused(step, result.loss, result.grad_norm)
            self._handle_divergence(f"{evidence}; the step was not applied")
            return
        progress.step += 1
        progress.batches += len(windows)
        progress.running_loss = self._running_loss(result.loss)
        self._tick()
        tokens = len(windows) * self._training.batch_size * session.config.seq_len
        speed = per_second(tokens, self._clock - started)
        self._speed.observe(speed)
        if self._training.minutes is not None:
            self._plan_end(self._speed.tokens_per_second)
        self._emit(
            StepCompleted(
                step=progress.step,
                loss=result.loss,
                learning_rate=self._training.learning_rate * factor,
                grad_norm=result.grad_norm,
                tokens_per_second=speed,
                elapsed_seconds=progress.elapsed_seconds,
            )
        )
        if (layers := result.layers) is not None:
            self._emit(
                LayerStatistics(
                    step=progress.step,
                    layers=layers.layers,
                    grad_norms=layers.grad_norms,
                    update_ratios=layers.update_ratios,
                )
            )

    def _running_loss(self, loss: float) -> float:
        """The running mean with one more step, from nothing but what a checkpoint keeps."""
        progress = self._session.progress
        mean = RunningMean(self._training.train_loss_steps)
        mean.restart(progress.step - 1, progress.running_loss)
        return mean.observe(progress.step, loss)

    def _rate_factor(self) -> float:
        progress, training = self._session.progress, self._training
        if training.minutes is None:
            last_step = self._session.length.last_step
            share = progress.step / last_step
            warmup_share = min(1.0, training.warmup_steps / last_step)
        else:
            share = progress.elapsed_seconds / self._training_seconds()
            warmup_share = 0.0
        factor = learning_rate_factor(training, progress.step, min(share, 1.0), warmup_share)
        return factor * progress.rate_scale

    def _handle_divergence(self, evidence: str) -> None:
        progress = self._session.progress
        if self._training.on_nan == "rollback" and progress.rollbacks < _MOST_ROLLBACKS:
            self._roll_back()
            step = self._session.progress.step
            scale = self._session.progress.rate_scale
            arguments = {"rate_scale": scale, "evidence": evidence}
            self._emit(CommandApplied(step=step, command=ROLL_BACK, arguments=arguments))
            advice = f"went back to step {step}; the LR is {scale:g} of the config's now"
            self._emit(DiagnosisRaised(step=step, kind="nan", evidence=evidence, advice=advice))
            return
        advice = self._doctor.advice_on_failure()
        step = progress.step + 1
        self._emit(DiagnosisRaised(step=step, kind="nan", evidence=evidence, advice=advice))
        advice = f"{advice[0].lower()}{advice[1:]}".rstrip(".")
        raise RunFailedError(f"training diverged: {evidence}; {advice}")

    def _roll_back(self) -> None:
        session, before = self._session, self._session.progress
        progress = self._restore_sound()
        progress.rate_scale = before.rate_scale / 2
        progress.rollbacks = before.rollbacks + 1
        progress.rolled_back_to = progress.step
        progress.elapsed_seconds = before.elapsed_seconds
        # What a person has added to the run is no part of what went wrong.
        progress.extra_steps, progress.extra_minutes = before.extra_steps, before.extra_minutes
        session.progress = progress
        # At once, so that no crash forgets any of it. What came after goes with it.
        self._step_end.save()

    def _restore_sound(self) -> Progress:
        """Go back to the last checkpoint that was evaluated, or where that is damaged before it."""
        run, before = self._session.run, self._session.progress.rolled_back_to
        checkpoints = run.checkpoints()[::-1]
        evaluated = [checkpoint for checkpoint in checkpoints if checkpoint.info.losses]
        choice = evaluated or checkpoints
        if len(choice) > 1 and choice[0].info.step == before:
            # It was gone back to already, and did not hold.
            choice = choice[1:]
        for checkpoint in choice:
            with contextlib.suppress(UserError):
                return restore(read_state(checkpoint), self._session.state)
        raise RunFailedError(
            f"training diverged, and no checkpoint of run {run.name} can be used to go back to"
        )

    # --- commands ----------------------------------------------------------------------------

    def _apply(self, command: Command) -> None:
        progress = self._session.progress
        self._emit(
            CommandApplied(
                step=progress.step, command=type(command).__name__, arguments=command.arguments()
            )
        )
        if isinstance(command, Stop):
            self._stop_reason = command.reason
        elif isinstance(command, SaveCheckpoint):
            self._step_end.want_save()
        elif isinstance(command, SetLearningRate):
            progress.rate_scale = command.learning_rate / self._training.learning_rate
            self._step_end.renew_save()
        elif isinstance(command, ExtendRun):
            progress.extra_steps += command.steps
            progress.extra_minutes += command.minutes
            # A crash must not shorten the run again.
            self._step_end.want_save()
        elif isinstance(command, GenerateSample):
            self._step_end.sample(command.prompt or None)
        elif isinstance(command, Pause):
            with CORES.paused():
                self._wait()

    def _wait(self) -> None:
        self._tick()
        is_paused = True
        while is_paused and self._stop_reason is None:
            for command in self._inbox.drain():
                if isinstance(command, Resume):
                    is_paused = False
                if not (isinstance(command, Pause) and is_paused):
                    self._apply(command)
            self._step_end.save_if_due(is_end=False)
            time.sleep(_PAUSE_POLL_SECONDS)
        # The pause does not count as training time.
        self._clock = time.perf_counter()
