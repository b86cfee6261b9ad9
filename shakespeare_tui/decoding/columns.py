"""Many strategies, each with many samples, written side by side with one pass a token."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from shakespeare_tui.decoding.choosers import ENDED, Chooser, DrawingChooser, Stops
from shakespeare_tui.decoding.cpu_decoder import FastDecoder, packed
from shakespeare_tui.decoding.decoder import Decoder, IntArray, Precision
from shakespeare_tui.decoding.factory import make_decoder
from shakespeare_tui.decoding.search import BeamChooser, ContrastiveChooser
from shakespeare_tui.decoding.speculative import is_worth_drafting, write_from_drafts
from shakespeare_tui.decoding.window import WindowReader
from shakespeare_tui.errors import CancelledError, UserError
from shakespeare_tui.models.transformer import Transformer
from shakespeare_tui.sampling import Recording, Strategy
from shakespeare_tui.sampling.drawing import MOST_SEED


@dataclass(frozen=True, kw_only=True)
class Column:
    """One strategy to continue the prompt with.

    Attributes:
        strategy: How tokens are chosen.
        samples: How many continuations.
        seed: Sample i draws by (seed, i): columns of one seed share their random numbers.

    Raises:
        UserError: The seed is out of range, or so many samples cannot be had.
    """

    strategy: Strategy
    samples: int = 1
    seed: int = 42

    def __post_init__(self) -> None:
        if not 0 <= self.seed <= MOST_SEED:
            raise UserError(f"the seed must be from 0 to 2^63 - 1, got {self.seed}")
        if self.samples < 1:
            raise UserError(f"samples must be at least 1, got {self.samples}")
        if self.strategy.method == "beam":
            width = self.strategy.steps[-1].values["width"]
            if self.samples > width:
                raise UserError(f"beam={width} finds {width} texts; ask for {width} or fewer")


@torch.inference_mode()
def generate_columns(
    model: Transformer,
    prompt: Sequence[int],
    columns: Sequence[Column],
    *,
    max_tokens: int,
    stop: Sequence[Sequence[int]] = (),
    cancelled: Callable[[], bool] = lambda: False,
    precision: Precision = "auto",
    use_cache: bool = True,
    recordings: Sequence[Recording] = (),
) -> Iterator[list[int]]:
    """Yield rows with one token of every stream, column by column and sample by sample.

    A stream that has ended has ``ENDED`` in its place; one whose next token is not known yet, as
    during a search, has ``WAITING``, and its tokens come in later rows. Both are negative.

    Args:
        model: In evaluation mode.
        prompt: Token ids that every stream continues; at least one.
        columns: The strategies.
        max_tokens: The most tokens of each stream.
        stop: Token sequences that end a stream; they are part of it.
        cancelled: Polled before each pass.
        precision: Of the matrix products, as ``make_decoder`` has it.
        use_cache: Remember what was read; without, every pass reads its window again, with the
            same result.
        recordings: One a stream, in which is noted what each of its tokens was chosen from; or
            none. A search fills them at the end.

    Raises:
        UserError: The prompt is empty, or the model's device lacks the precision.
        CancelledError: ``cancelled`` became true.
    """
    if not prompt:
        raise UserError("the prompt is empty; give at least one character, a newline for example")
    stops = tuple(tuple(sequence) for sequence in stop if sequence)
    starts = np.cumsum([0, *(column.samples for column in columns)]).tolist()
    choosers = [
        _make_chooser(column, stops, recordings[start : start + column.samples])
        for column, start in zip(columns, starts, strict=False)
    ]
    decoder = make_decoder(model, 1, precision=precision, use_cache=use_cache, cancelled=cancelled)
    alone = choosers[0] if len(choosers) == 1 and choosers[0].rows == 1 else None
    if (
        precision == "auto"
        and isinstance(decoder, FastDecoder)
        and isinstance(alone, DrawingChooser)
        and is_worth_drafting(model)
    ):

        def make_drafter() -> FastDecoder:
            return FastDecoder(packed(model, "int8"), 1)

        yield from write_from_drafts(decoder, make_drafter, prompt, alone, max_tokens, cancelled)
        return
    yield from _write(decoder, prompt, choosers, max_tokens, cancelled)
    yield from _left(choosers)


def _make_chooser(column: Column, stops: Stops, recordings: Sequence[Recording]) -> Chooser:
    strategy, samples = column.strategy, column.samples
    if strategy.method == "beam":
        return BeamChooser(strategy, samples, stops, recordings)
    if strategy.method == "contrastive":
        return ContrastiveChooser(strategy, samples, stops, recordings)
    return DrawingChooser(strategy, samples, column.seed, stops, recordings)


def _write(
    decoder: Decoder,
    prompt: Sequence[int],
    choosers: list[Chooser],
    max_tokens: int,
    cancelled: Callable[[], bool],
) -> Iterator[list[int]]:
    """One row a pass, until all is written or has ended."""
    ends = np.cumsum([chooser.rows for chooser in choosers]).tolist()
    places = [slice(end - chooser.rows, end) for chooser, end in zip(choosers, ends, strict=True)]
    first = len(prompt)
    last = first + max_tokens + max(chooser.lag for chooser in choosers)
    # [R, L]: the whole text, filled as it grows
    text = np.empty((ends[-1], last), np.int64)
    text[:, :first] = prompt
    reader = WindowReader(decoder)
    for length in range(first, last):
        if cancelled():
            raise CancelledError("generation was stopped")
        if length == first:
            # The prompt is the same for all and is read once.
            logits = reader.read(text[:1, :length])
            decoder.reorder(np.zeros(ends[-1], np.int64))
            logits = np.repeat(logits, ends[-1], axis=0)
        else:
            logits = reader.read(text[:, :length])
        row: list[int] = []
        for chooser, place in zip(choosers, places, strict=True):
            if chooser.is_over or length >= first + max_tokens + chooser.lag:
                row += [ENDED] * chooser.samples
            else:
                row += chooser.choose(logits[place], text[place, :length], decoder, place)
        yield row
        if all(chooser.is_over for chooser in choosers):
            return
        _follow(decoder, text[:, :length], choosers, places)
        text[:, length] = np.concatenate([chooser.tokens for chooser in choosers])


def _follow(decoder: Decoder, text: IntArray, choosers: list[Chooser], places: list[slice]) -> None:
    """Let every row go on from its parent."""
    if all(chooser.parents is None for chooser in choosers):
        return
    rows = np.arange(len(text))
    for chooser, place in zip(choosers, places, strict=True):
        if chooser.parents is not None:
            rows[place] = chooser.parents + place.start
    decoder.reorder(rows)
    text[:] = text[rows]


def _left(choosers: list[Chooser]) -> Iterator[list[int]]:
    """What searches found, in rows of their own."""
    left = [tokens for chooser in choosers for tokens in chooser.left()]
    for place in range(max(map(len, left))):
        yield [tokens[place] if place < len(tokens) else ENDED for tokens in left]
