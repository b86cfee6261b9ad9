"""What happens between two training steps: evaluations, samples and checkpoints."""

import contextlib
import math
import time
from collections.abc import Callable

from shakespeare_tui.config.estimate.training_speed import evaluation_seconds
from shakespeare_tui.config.schema import SamplingConfig
from shakespeare_tui.decoding import Column, generate_columns
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.runs.events import (
    CheckpointEvaluated,
    CheckpointSaved,
    EvalCompleted,
    EvalProgressed,
    Event,
    SampleGenerated,
)
from shakespeare_tui.runs.folder import best_step
from shakespeare_tui.runs.losses import EXACT
from shakespeare_tui.sampling import strategy_from_flags
from shakespeare_tui.training.checkpoints import load_model, prune, save_checkpoint
from shakespeare_tui.training.evaluate import Evaluation, affordable_windows, evaluate
from shakespeare_tui.training.session import Session

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


class Boundary:
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

    def final_evaluation(self) -> float:
        """The exact validation loss of the final weights; it is written beside their checkpoint.

        Raises:
            CancelledError: The run was stopped meanwhile.
        """
        val, train = self._evaluate(None)
        self._session.run.record_exact_loss(self._session.progress.step, val.loss)
        self._report(val, train)
        return val.loss

    def evaluate_best(self) -> None:
        """Measure the best checkpoint exactly, too, where it is not the last: the two compare then.

        Raises:
            CancelledError: The run was stopped meanwhile.
        """
        session, best = self._session, self._session.progress.best_step
        if best is None or best == session.progress.step or best not in session.run.steps():
            return
        checkpoint = session.run.checkpoint(best)
        loss, accuracy = checkpoint.info.exact_val_loss, None
        # Known already where a run that had ended goes on; the log need not tell of it then.
        if loss is None:
            try:
                model, _ = load_model(checkpoint, session.learner.device)
            except UserError:
                # Damaged since: the run and its own figure are not.
                return
            report = self._progress_report()
            val = evaluate(model, session.val, cancelled=self._cancelled, progressed=report)
            loss, accuracy = val.loss, val.accuracy
            session.run.record_exact_loss(best, loss)
        self._emit(CheckpointEvaluated(step=best, val_loss=loss, protocol=EXACT, accuracy=accuracy))

    def name_best(self) -> None:
        """Name the best checkpoint anew: exact figures have come in."""
        run, last = self._session.run, self._session.progress.step
        run.write_index(best_step(run.checkpoints()), last)

    def seconds_at_end(self, tokens_per_second: float) -> float:
        """About how long what comes after the last step takes, the exact evaluation left out."""
        tokens = 2 * min(self._windows, self._windows_in_val) * self._context
        return evaluation_seconds(tokens, tokens_per_second) + self._sample_seconds

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
        precision = contextlib.nullcontext() if is_exact else session.learner.autocast()
        with session.learner.averaged() as model, precision:
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
                prompts = [(prompt, session.tokenizer.encode(prompt))]
            except UserError as error:
                self._emit_sample(prompt, f"({error})")
                return True
        session.learner.model.eval()
        try:
            samples = [(text, self._continue(tokens)) for text, tokens in prompts]
        except CancelledError:
            return False
        finally:
            session.learner.model.train()
        # All of them or none: those of a step that was cut short come again on resume.
        for text, sample in samples:
            self._emit_sample(text, sample)
        return True

    def _continue(self, tokens: list[int]) -> str:
        session, sampling = self._session, self._config.sampling
        with session.learner.averaged() as model:
            stream = generate_columns(
                model,
                tokens,
                [sampling_column(sampling)],
                max_tokens=sampling.max_tokens,
                cancelled=self._cancelled,
            )
            return session.tokenizer.decode(row[0] for row in stream)

    def _emit_sample(self, prompt: str, text: str) -> None:
        self._emit(SampleGenerated(step=self._session.progress.step, prompt=prompt, text=text))

    def want_save(self) -> None:
        """Save at the end of this boundary."""
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
        checkpoint = save_checkpoint(session.run, session.learner, progress, session.fingerprint)
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

    def save_if_whole(self) -> bool:
        """After an error: save, unless it came in the middle of an update or the weights diverged.

        Returns:
            Whether the state of the current step is on the disk.

        Raises:
            OSError: The disk is full.
            RunFailedError: The run's lock is gone.
        """
        learner = self._session.learner
        is_whole = learner.is_whole and learner.is_finite()
        if is_whole and (self._is_save_wanted or self.saved_step != self._session.progress.step):
            self.save()
        return is_whole

    def is_exact(self) -> bool:
        """Whether the current step's evaluation was exact already."""
        progress = self._session.progress
        return progress.evaluated_step == progress.step and progress.protocol == EXACT

    def _is_multiple(self, every: int) -> bool:
        step = self._session.progress.step
        return every > 0 and step > 0 and step % every == 0
