"""What happens between two training steps: evaluations, samples and checkpoints."""

import math
from collections.abc import Callable

from shakespeare_tui.core.config import SamplingConfig
from shakespeare_tui.core.errors import CancelledError, UserError
from shakespeare_tui.core.events import CheckpointSaved, EvalCompleted, Event, SampleGenerated
from shakespeare_tui.core.sampling import strategy_from_flags
from shakespeare_tui.engine.checkpoints import prune, rank, save_checkpoint
from shakespeare_tui.engine.decoding import Column, generate_columns
from shakespeare_tui.engine.evaluation import EXACT, Evaluation, affordable_windows, evaluate
from shakespeare_tui.engine.session import Session

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
        self._context = session.config.model.max_seq_len
        tokens_a_step = (
            session.config.seq_len
            * session.config.training.batch_size
            * session.config.training.grad_accumulation
        )
        self._windows = affordable_windows(
            seq_len=self._context,
            tokens_between_evaluations=tokens_a_step * session.config.training.eval_every,
        )
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
        progress.protocol = val.protocol
        if progress.best_loss is None or val.loss < progress.best_loss:
            progress.best_loss, progress.best_step = val.loss, progress.step
            progress.evaluations_without_gain = 0
        else:
            progress.evaluations_without_gain += 1
        # A checkpoint of this step that does not know its loss yet is written again.
        self._is_save_wanted |= self.saved_step == progress.step or self._is_to_keep(val.loss)
        self._report(val, train)
        return True

    def _is_to_keep(self, loss: float) -> bool:
        """Whether a loss is among the best few, whatever ``save_every`` says."""
        keep_best = self._config.checkpoints.keep_best
        best = [c.info.val_loss for c in rank(self._session.run)[:keep_best]]
        return len(best) < keep_best or any(other is None or loss < other for other in best)

    def final_evaluation(self) -> Evaluation:
        """The exact figure of the final weights.

        Raises:
            CancelledError: The run was stopped meanwhile.
        """
        val, train = self._evaluate(None)
        self._report(val, train)
        return val

    def _evaluate(self, windows: int | None) -> tuple[Evaluation, Evaluation]:
        session = self._session
        in_val = max(1, (len(session.val) - 1) // self._context)
        in_train = min(windows or in_val, in_val)
        with session.learner.averaged() as model, session.learner.autocast():
            val = evaluate(model, session.val, windows=windows, cancelled=self._cancelled)
            train = evaluate(model, session.train, windows=in_train, cancelled=self._cancelled)
        return val, train

    def _report(self, val: Evaluation, train: Evaluation) -> None:
        self._emit(
            EvalCompleted(
                step=self._session.progress.step,
                train_loss=train.loss,
                val_loss=val.loss,
                protocol=val.protocol,
                accuracy=val.accuracy,
            )
        )

    def sample_if_due(self, *, is_end: bool) -> None:
        """Draw the config's samples where it or the run's end asks for them."""
        progress = self._session.progress
        is_due = is_end or self._is_multiple(self._config.sampling.every)
        if is_due and progress.sampled_step != progress.step and self.sample():
            progress.sampled_step = progress.step

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
        checkpoint = save_checkpoint(session.run, session.learner, progress)
        best = prune(
            session.run,
            keep_best=self._config.checkpoints.keep_best,
            keep_every=self._config.checkpoints.every,
            last=progress.step,
        )
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

    def is_exact(self) -> bool:
        """Whether the current step's evaluation was exact already."""
        progress = self._session.progress
        return progress.evaluated_step == progress.step and progress.protocol == EXACT

    def _is_multiple(self, every: int) -> bool:
        step = self._session.progress.step
        return every > 0 and step > 0 and step % every == 0
