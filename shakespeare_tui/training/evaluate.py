"""Measure a model's loss by a named protocol; losses of different protocols do not compare."""

import math
from collections.abc import Callable, Iterable, Iterator
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
from shakespeare_tui.models.parameters import evaluation_windows
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
    seq_len = model.context
    if len(tokens) < 2:
        raise UserError("an evaluation needs at least two tokens; use a longer text")
    whole, rest = divmod(len(tokens) - 1, seq_len)
    chosen = np.arange(whole, dtype=np.int64)
    protocol = EXACT
    if windows is not None and windows < whole:
        chosen = np.arange(windows, dtype=np.int64) * whole // windows
        protocol, rest = f"subset-{windows}", 0
    rows = evaluation_windows(model.config, seq_len, is_fused=model.is_fused)

    def batches() -> Iterator[npt.NDArray[np.int64]]:
        # Made one at a time: a split may be larger than memory.
        for first in range(0, len(chosen), rows):
            yield gather_windows(tokens, chosen[first : first + rows] * seq_len, seq_len)
        if rest:
            yield tokens[None, len(tokens) - 1 - rest :].astype(np.int64)

    total = len(chosen) * seq_len + rest
    return _measure(model, batches(), protocol, cancelled, lambda done: progressed(done, total))


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
