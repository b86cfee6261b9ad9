"""Continue one prompt by many strategies or checkpoints, and measure what each of them wrote."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakespeare_tui.cli.console import progress
from shakespeare_tui.cli.sampling_options import stop_texts
from shakespeare_tui.cli.speed import say_if_precision_is_slower
from shakespeare_tui.cli.writing import Limits, encode_prompt, open_model, reference_of, write
from shakespeare_tui.errors import UserError

if TYPE_CHECKING:
    from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer
    from shakespeare_tui.decoding.columns import Column
    from shakespeare_tui.decoding.decoder import Precision
    from shakespeare_tui.measures import CorpusReference, Measures
    from shakespeare_tui.runs.folder import Checkpoint
    from shakespeare_tui.sampling import Strategy

MOST_COLUMNS = 64


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be written: every checkpoint by every strategy, all from the same seed.

    Attributes:
        checkpoints: At least one.
        strategies: At least one, with what suits a tokenizer where it is not written.
        prompt: The text that all continue.
        max_tokens: The most tokens of each text.
        seed: Of all columns.
        stop: Texts that end a text.
        past_end: Write on where the model ends it.
        precision: Of the matrix products.
        use_cache: Remember what was read.
        device: As ``--device`` has it.
    """

    checkpoints: "Sequence[Checkpoint]"
    strategies: "Callable[[Tokenizer], Sequence[Strategy]]"
    prompt: str
    max_tokens: int
    seed: int
    stop: Sequence[str]
    past_end: bool
    precision: "Precision"
    use_cache: bool
    device: str


@dataclass(frozen=True, kw_only=True)
class TextColumn:
    """One text that was written.

    Attributes:
        checkpoint: Its reference.
        strategy: How its tokens were chosen.
        settings: By name, for JSON.
        text: What follows the prompt.
        measures: Of that.
    """

    checkpoint: str
    strategy: "Strategy"
    settings: dict[str, Any]
    text: str
    measures: "Measures"

    def as_json(self) -> dict[str, Any]:
        return {
            "checkpoint": self.checkpoint,
            "strategy": self.strategy.text,
            "settings": self.settings,
            "text": self.text,
            "measures": self.measures.as_json(),
        }


def check_columns(count: int, advice: str) -> None:
    """Refuse more columns than can be looked at.

    Raises:
        UserError: There are too many.
    """
    if count > MOST_COLUMNS:
        raise UserError(f"{count:,} columns are too many, {MOST_COLUMNS} are the most; {advice}")


def write_columns(order: Order) -> list[TextColumn]:
    """Write and measure all texts: one checkpoint's after another's, its strategies at once.

    Raises:
        UserError: A model does not know the prompt, or cannot be loaded.
    """
    from shakespeare_tui.decoding.columns import Column

    # All prompts are checked before the first model is loaded: a wrong one fails at once.
    encoded = [_encode(order, checkpoint) for checkpoint in order.checkpoints]
    columns: list[TextColumn] = []
    references: dict[Path, CorpusReference | None] = {}
    for number, (checkpoint, (tokens, limits)) in enumerate(
        zip(order.checkpoints, encoded, strict=True), start=1
    ):
        what = f"writing {number} of {len(encoded)}" if len(encoded) > 1 else "writing"
        strategies = order.strategies(checkpoint.run.tokenizer())
        written_by = [Column(strategy=strategy, seed=order.seed) for strategy in strategies]
        with progress(what, "tokens") as report:
            texts, surprises = _write_one(order, checkpoint, tokens, written_by, limits, report)
        folder = checkpoint.run.path
        if folder not in references:
            references[folder] = reference_of(checkpoint.run)
        columns += _measured(order, checkpoint, strategies, texts, surprises, references[folder])
    return columns


def _encode(order: Order, checkpoint: "Checkpoint") -> tuple[list[int], Limits]:
    tokenizer = checkpoint.run.tokenizer()
    try:
        tokens = encode_prompt(order.prompt, tokenizer)
        stops = stop_texts(order.stop, tokenizer, past_end=order.past_end)
    except UserError as error:
        if len(order.checkpoints) == 1:
            raise
        raise UserError(f"{checkpoint.reference}: {error}") from None
    return tokens, Limits(order.max_tokens, stops, order.precision, order.use_cache)


def _write_one(
    order: Order,
    checkpoint: "Checkpoint",
    tokens: list[int],
    columns: "Sequence[Column]",
    limits: Limits,
    report: Callable[[int, int | None], None],
) -> tuple[list[str], list[float | None]]:
    """What one checkpoint writes, and its mean surprise at each of its texts."""
    import numpy as np

    from shakespeare_tui.data.tokenizers.tokenizer import token_starts
    from shakespeare_tui.decoding.score import score_tokens

    model, tokenizer = open_model(checkpoint, order.device, order.precision)
    # A search passes once more or hands over at the end what it found: no more than is asked for.
    passes = map(min, itertools.count(1), itertools.repeat(order.max_tokens))
    written = write(
        model, tokenizer, tokens, columns, limits, lambda _: report(next(passes), order.max_tokens)
    )
    say_if_precision_is_slower(order.precision, written.steady, model, tokens, columns)
    surprises = []
    for stream in written.streams:
        starts = token_starts(tokenizer, np.array(tokens + stream))
        surprise = score_tokens(model, tokens + stream)
        surprises.append(surprise.nats_per_character(starts, int(starts[len(tokens)])))
    return written.texts, surprises


def _measured(
    order: Order,
    checkpoint: "Checkpoint",
    strategies: "Sequence[Strategy]",
    texts: list[str],
    surprises: list[float | None],
    reference: "CorpusReference | None",
) -> Iterator[TextColumn]:
    from shakespeare_tui.measures import measure_text

    for strategy, text, surprise in zip(strategies, texts, surprises, strict=True):
        measures = measure_text(order.prompt + text, reference, len(order.prompt))
        yield TextColumn(
            checkpoint=checkpoint.reference,
            strategy=strategy,
            settings={
                **strategy.parameters,
                "seed": order.seed,
                "precision": order.precision,
                "max_tokens": order.max_tokens,
            },
            text=text,
            measures=measures.with_surprise(surprise),
        )
