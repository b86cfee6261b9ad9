"""Measure a model's loss by a named protocol; losses of different protocols do not compare."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shakespeare_tui.config.estimate.speed import evaluation_seconds
from shakespeare_tui.config.schema import Config, ModelConfig
from shakespeare_tui.data.source import TextSource, open_corpus
from shakespeare_tui.data.tokenizers.tokenizer import TokenArray, Tokenizer
from shakespeare_tui.data.tokens import encode_split
from shakespeare_tui.data.windows import gather_windows
from shakespeare_tui.errors import CancelledError, UserError, never
from shakespeare_tui.models.parameters import MOST_LOGITS, evaluation_windows
from shakespeare_tui.paths import cache_folder
from shakespeare_tui.runs.losses import EXACT, NANOGPT


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        loss: Mean cross-entropy in nats per token.
        accuracy: Share of tokens to which the model gave the highest probability.
        tokens: Tokens that were predicted.
        protocol: ``exact``: every token of the split but its first once, in non-overlapping
            windows of the model's context. ``subset-N``: N such windows, evenly spaced.
            ``nanogpt``: random windows.
    """

    loss: float
    accuracy: float
    tokens: int
    protocol: str


class LossModel(Protocol):
    """A model whose loss can be measured.

    Attributes:
        config: The shape.
        context: The most tokens that it reads together.
        is_fused: Whether it never holds all the scores of attention.
    """

    config: ModelConfig
    context: int
    is_fused: bool

    def sum_losses(self, batches: Iterable[npt.NDArray[np.int64]]) -> tuple[float, int]:
        """Cross-entropy in nats, and how many tokens had the highest probability, over all.

        Dropout is off. The next batch is taken after the one before has been worked off.

        Args:
            batches: Windows of inputs and targets in one, each [B, T + 1].
        """


class PredictingModel(LossModel, Protocol):
    """A model that also tells the logits that its loss comes from.

    Attributes:
        vocab_size: V.
    """

    vocab_size: int

    def last_logits(self, tokens: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
        """Logits [B, P, V] of what comes after each of the last P of ``tokens`` [B, T]."""


def evaluate(
    model: LossModel,
    tokens: TokenArray,
    *,
    windows: int | None = None,
    cancelled: Callable[[], bool] = never,
    progressed: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Evaluate on non-overlapping windows of the model's context.

    Args:
        model: The model.
        tokens: A split, shape [n].
        windows: Evaluate this many evenly spaced whole windows; None, or as many as there are,
            evaluates every one, the shorter last one too.
        cancelled: Polled between passes.
        progressed: Told after each pass how many of how many tokens have been predicted.

    Raises:
        UserError: The split is shorter than two tokens.
        CancelledError: ``cancelled`` became true.
    """
    whole, rest = divmod(len(tokens) - 1, model.context)
    protocol, total = EXACT, len(tokens) - 1
    if windows is not None and windows < whole:
        protocol, total = f"subset-{windows}", windows * model.context
    batches = _batches(model, tokens, windows)
    return _measure(model, batches, protocol, cancelled, lambda done: progressed(done, total))


def _batches(
    model: LossModel, tokens: TokenArray, windows: int | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """Windows [B, T + 1] of a model's context, one after the other, as ``evaluate`` takes them.

    Raises:
        UserError: The split is shorter than two tokens.
    """
    if len(tokens) < 2:
        raise UserError("an evaluation needs at least two tokens; use a longer text")
    seq_len = model.context
    whole, rest = divmod(len(tokens) - 1, seq_len)
    chosen = np.arange(whole, dtype=np.int64)
    if windows is not None and windows < whole:
        chosen, rest = np.arange(windows, dtype=np.int64) * whole // windows, 0
    rows = evaluation_windows(model.config, seq_len, is_fused=model.is_fused)
    # Made one at a time: a split may be larger than memory.
    for first in range(0, len(chosen), rows):
        yield gather_windows(tokens, chosen[first : first + rows] * seq_len, seq_len)
    if rest:
        yield tokens[None, len(tokens) - 1 - rest :].astype(np.int64)


def evaluate_nanogpt(
    model: LossModel, tokens: TokenArray, *, batches: int, batch_size: int, seed: int
) -> Evaluation:
    """Evaluate nanoGPT's way: the mean over random windows, with replacement.

    Its published figures take 200 batches of 64 windows of 256 (or 20 of 12 of 64 on a CPU), and
    the lowest of about 21 evaluations: the standard error of one is 0.012 or more.

    Raises:
        UserError: The split is shorter than a window.
    """
    seq_len = model.context
    if len(tokens) <= seq_len:
        raise UserError(f"{len(tokens):,} tokens are too few for windows of {seq_len}")
    generator = np.random.default_rng(seed)
    drawn = (
        gather_windows(tokens, generator.integers(0, len(tokens) - seq_len, batch_size), seq_len)
        for _ in range(batches)
    )
    return _measure(model, drawn, NANOGPT, never, lambda done: None)


def evaluate_ensemble(
    models: Sequence[PredictingModel],
    tokens: TokenArray,
    *,
    cancelled: Callable[[], bool] = never,
    progressed: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Evaluation, list[Evaluation]]:
    """Evaluate the mean of models' probabilities, exactly, and each of the models.

    Each reads non-overlapping windows of its own context, as when it is evaluated alone, so that
    contexts may differ. The arithmetic mean of probabilities, not of logits, is what an ensemble of
    networks foretells (Lakshminarayanan et al. 2017, arXiv:1612.01474).

    Args:
        models: Of one tokenizer.
        tokens: A split, shape [n].
        cancelled: Polled between passes.
        progressed: Told after each pass how many of how many tokens have been predicted.

    Returns:
        That of all together, and those of each.

    Raises:
        UserError: The split is shorter than two tokens.
        CancelledError: ``cancelled`` became true.
    """
    total = len(tokens) - 1
    losses, right = np.zeros(len(models) + 1), np.zeros(len(models) + 1, np.int64)
    done = 0
    for pieces in _together([_log_probabilities(m, _batches(m, tokens)) for m in models]):
        if cancelled():
            raise CancelledError("the evaluation was stopped")
        targets = tokens[1 + done : 1 + done + len(pieces[0])].astype(np.int64)
        places = np.arange(len(targets)), targets
        # By the logarithm of a mean of powers: no probability is too small for it.
        of_targets = np.stack([piece[places] for piece in pieces]).astype(np.float64)
        of_mean = np.logaddexp.reduce(of_targets) - math.log(len(models))
        losses -= [*of_targets.sum(1), of_mean.sum()]
        mean = np.exp(pieces[0])
        for piece in pieces[1:]:
            mean += np.exp(piece)
        right += [(each.argmax(-1) == targets).sum() for each in (*pieces, mean)]
        done += len(targets)
        progressed(done, total)
    *each, ensemble = (
        Evaluation(
            loss=float(loss) / total, accuracy=int(hits) / total, tokens=total, protocol=EXACT
        )
        for loss, hits in zip(losses, right, strict=True)
    )
    return ensemble, each


def _log_probabilities(
    model: PredictingModel, batches: Iterable[npt.NDArray[np.int64]]
) -> Iterator[npt.NDArray[np.float32]]:
    """Logarithms of the probabilities of all tokens, [N, V], window after window."""
    for batch in batches:
        rows = max(1, MOST_LOGITS // (model.vocab_size * batch.shape[1]))
        for first in range(0, len(batch), rows):
            windows = batch[first : first + rows, :-1]
            yield log_softmax(model.last_logits(windows, windows.shape[1])).reshape(
                -1, model.vocab_size
            )


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Logarithms of the probabilities that logits [..., V] stand for."""
    shifted = logits - logits.max(-1, keepdims=True)
    found: npt.NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


def _together(
    streams: Sequence[Iterator[npt.NDArray[np.float32]]],
) -> Iterator[list[npt.NDArray[np.float32]]]:
    """Rows [N, V] of streams that come in pieces of different lengths, cut to the same N."""
    held = [np.empty((0, 0), np.float32)] * len(streams)
    while True:
        for number, stream in enumerate(streams):
            if not len(held[number]):
                following = next(stream, None)
                if following is None:
                    return
                held[number] = following
        rows = min(map(len, held))
        yield [piece[:rows] for piece in held]
        held = [piece[rows:] for piece in held]


def open_splits(
    config: Config,
    tokenizer: Tokenizer,
    corpus_sha256: str = "",
    whose: str = "",
) -> tuple[TextSource, TokenArray, TokenArray]:
    """A config's corpus, its training tokens and its validation tokens, to be measured on.

    Args:
        config: Says which corpus, and how it is split.
        tokenizer: Of the model.
        corpus_sha256: What the text must be; empty for any, as of a model from elsewhere.
        whose: Run, for the message.

    Raises:
        UserError: The corpus is not there, or another text than it was.
    """
    source = open_corpus(config.data.corpus, validation=config.data.validation)
    if corpus_sha256 and source.sha256() != corpus_sha256:
        raise UserError(
            f"the corpus {source.name} has changed since run {whose} was trained on it; put the "
            "old text back to compare losses"
        )
    train, val = encode_split(
        source,
        tokenizer,
        config.data.val_fraction,
        config.seq_len,
        cache_folder() / "tokens",
        is_streamed=config.data.windows == "streamed",
    )
    return source, train, val


def affordable_windows(
    *, seq_len: int, tokens_between_evaluations: int, share: float = 0.05
) -> int:
    """Windows of each split that cost at most ``share`` of the training between evaluations.

    By arithmetic, not by the clock, so that a run repeats exactly: a forward pass costs about a
    third of a training pass, and two splits are evaluated.
    """
    return max(8, int(share * 3 * tokens_between_evaluations / 2 / seq_len))


def windows_within(seconds: float, tokens_per_second: float, seq_len: int) -> int:
    """The power of two, at least 8, of windows that both splits are evaluated on in ``seconds``.

    Args:
        seconds: For both together.
        tokens_per_second: The speed of training.
        seq_len: T.
    """
    a_window = evaluation_seconds(2 * seq_len, tokens_per_second)
    return 1 << max(3, int(math.log2(max(1.0, seconds / a_window)))) if a_window else 8


def _measure(
    model: LossModel,
    batches: Iterable[npt.NDArray[np.int64]],
    protocol: str,
    cancelled: Callable[[], bool],
    progressed: Callable[[int], None],
) -> Evaluation:
    count = 0

    def counted() -> Iterator[npt.NDArray[np.int64]]:
        nonlocal count
        for batch in batches:
            if cancelled():
                raise CancelledError("the evaluation was stopped")
            yield batch
            count += batch[:, 1:].size
            progressed(count)

    loss, correct = model.sum_losses(counted())
    return Evaluation(loss=loss / count, accuracy=correct / count, tokens=count, protocol=protocol)
