"""Compare an export with the model that it was made of: logits, greedy text, size, speed, loss."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.data.tokenizers.tokenizer import TokenArray
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.factory import AnyModel, make_decoder
from shakespeare_tui.errors import RunFailedError, UserError, check_cancelled, never
from shakespeare_tui.export.registry import Reopened
from shakespeare_tui.export.source import ExportSource
from shakespeare_tui.formatting import per_second
from shakespeare_tui.runs.folder import pretrained_note
from shakespeare_tui.runs.losses import perplexity
from shakespeare_tui.sampling import parse_strategy
from shakespeare_tui.training.evaluate import evaluate, open_splits

_LONGEST = 512
"""Of the texts that are compared: a model of a large context is read in the same minutes."""
_MOST_LOGITS = 2**23
TOLERANCE = 1e-4
"""Of the logits of an exact export, where they are at most 1; times the largest, where not."""
GREEDY_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found.

    Attributes:
        opened_by: The program that opened the export.
        lengths: Of the texts that were compared, in tokens.
        batches: How many of each.
        logit_difference: The largest.
        largest_logit: Of the model's.
        greedy_tokens: Tokens of the likeliest text that were compared.
        greedy_equal: How many of them are the same from the first on.
        tokens_per_second: Of one text, as written here with the export.
    """

    opened_by: str
    lengths: tuple[int, ...]
    batches: tuple[int, ...]
    logit_difference: float
    largest_logit: float
    greedy_tokens: int
    greedy_equal: int
    tokens_per_second: float

    @property
    def greedy_words(self) -> str:
        """How far the likeliest text is the same."""
        if self.greedy_equal == self.greedy_tokens:
            return f"equal for {self.greedy_tokens} tokens"
        return f"differs after {self.greedy_equal} of {self.greedy_tokens} tokens"

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "opened_by": self.opened_by,
            "lengths": list(self.lengths),
            "batches": list(self.batches),
            "largest_logit_difference": self.logit_difference,
            "largest_logit": self.largest_logit,
            "greedy_tokens": self.greedy_tokens,
            "greedy_tokens_equal": self.greedy_equal,
        }


def texts_to_compare(vocab_size: int, context: int) -> list[NDArray[np.int64]]:
    """Random tokens [B, T] of many lengths, one token and the whole context among them."""
    generator = np.random.default_rng(7)
    longest = max(1, min(context, _LONGEST, _MOST_LOGITS // vocab_size))
    lengths = sorted({1, 2, 3, min(7, longest), (longest + 1) // 2, longest})
    return [
        generator.integers(vocab_size, size=(1 + place % 3, length))
        for place, length in enumerate(length for length in lengths if length <= longest)
    ]


def verify(
    source: ExportSource,
    reopened: Reopened,
    *,
    is_exact: bool,
    cancelled: Callable[[], bool] = never,
) -> Verification:
    """Compare; every export goes through this before it gets its name.

    Raises:
        RunFailedError: An exact one computes something else, or any no numbers.
        CancelledError: ``cancelled``, polled between texts, became true.
    """
    texts = texts_to_compare(source.model.vocab_size, source.model.context)
    difference, largest = 0.0, 0.0
    for tokens in texts:
        check_cancelled(cancelled, "the export")
        ours = source.model.last_logits(tokens, tokens.shape[1])
        theirs = reopened.model.last_logits(tokens, tokens.shape[1])
        if theirs.shape != ours.shape:
            raise RunFailedError(
                f"the export gives logits of the shape {list(theirs.shape)}, not "
                f"{list(ours.shape)}; nothing was written"
            )
        difference = max(difference, float(np.abs(ours - theirs).max()))
        largest = max(largest, float(np.abs(ours).max()))
    is_wrong = is_exact and difference > TOLERANCE * max(1.0, largest)
    if is_wrong or not math.isfinite(difference):
        raise RunFailedError(
            f"the export does not compute what the model does: opened by {reopened.opened_by}, "
            f"its logits differ by up to {difference:.3g}; nothing was written"
        )
    _check_tokenizer(source, reopened)
    ours_text, _ = _greedy(source, source.model, cancelled)
    theirs_text, speed = _greedy(source, reopened.model, cancelled)
    same = [a == b for a, b in zip(ours_text, theirs_text, strict=True)]
    return Verification(
        opened_by=reopened.opened_by,
        lengths=tuple(tokens.shape[1] for tokens in texts),
        batches=tuple(len(tokens) for tokens in texts),
        logit_difference=difference,
        largest_logit=largest,
        greedy_tokens=len(same),
        greedy_equal=same.index(False) if False in same else len(same),
        tokens_per_second=speed,
    )


def _greedy(
    source: ExportSource, model: AnyModel, cancelled: Callable[[], bool]
) -> tuple[list[int], float]:
    """The likeliest continuation of the run's prompt, and tokens by the second."""
    rows = generate_columns(
        make_decoder(model, 1),
        prompt_tokens(source),
        [Column(strategy=parse_strategy("greedy"))],
        max_tokens=GREEDY_TOKENS,
        cancelled=cancelled,
    )
    first = next(rows)[0]
    started = time.perf_counter()
    rest = [row[0] for row in rows]
    return [first, *rest], per_second(len(rest), time.perf_counter() - started)


def prompt_tokens(source: ExportSource) -> list[int]:
    """The first of the run's prompts that can be expressed."""
    for prompt in (*source.config.sampling.prompts, "\n"):
        try:
            tokens: list[int] = source.tokenizer.encode(prompt).tolist()
        except UserError:
            continue
        if tokens:
            return tokens
    return [0]


def _check_tokenizer(source: ExportSource, reopened: Reopened) -> None:
    """Text must become the same tokens by the tokenizer that was written.

    Raises:
        RunFailedError: It does not.
    """
    theirs = reopened.tokenizer
    if theirs is None:
        return
    generator = np.random.default_rng(3)
    for size in (1, 10, 200):
        drawn = generator.integers(source.tokenizer.vocab_size, size=size).tolist()
        text = source.tokenizer.decode(drawn).replace("\N{REPLACEMENT CHARACTER}", "")
        try:
            ours = source.tokenizer.encode(text)
        except UserError:
            continue
        if not np.array_equal(ours, theirs.encode(text)) or theirs.decode(ours) != text:
            raise RunFailedError(
                "the tokenizer that was written splits text otherwise than the run's; nothing was "
                "written"
            )


def validation_tokens(source: ExportSource, notice: Callable[[str], None]) -> TokenArray | None:
    """The tokens that perplexities are measured on; None where they are not here.

    Args:
        source: Of whose run.
        notice: Told why there are none, and what is to be known of the figures.
    """
    try:
        *_, val = open_splits(
            source.config, source.tokenizer, source.info.corpus_sha256, source.info.name
        )
    except UserError as error:
        notice(f"no perplexity is measured: {error}")
        return None
    if source.info.pretrained is not None:
        notice(pretrained_note(source.info.pretrained))
    return val


def measured_perplexity(
    model: AnyModel,
    tokens: TokenArray,
    progressed: Callable[[int, int], None],
    cancelled: Callable[[], bool] = never,
) -> float | None:
    """Of the validation part, exactly: every token but the first once."""
    return perplexity(evaluate(model, tokens, progressed=progressed, cancelled=cancelled).loss)
