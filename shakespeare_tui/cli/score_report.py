"""Lay out what ``score`` found as plain text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, set_cell_size

from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer, shown_token
from shakespeare_tui.formatting import format_accuracy
from shakespeare_tui.measures import LEAST_COPY_CHARACTERS, MEASURES, Measures, Passage
from shakespeare_tui.runs.losses import perplexity
from shakespeare_tui.visible_text import visible

if TYPE_CHECKING:
    from shakespeare_tui.decoding.score import Surprise

_SHOWN_PASSAGES = 20
_SHOWN_PLACES = 5
_PLACES_APART = 8
_BEFORE, _AFTER = 24, 12


@dataclass(frozen=True)
class ScoredText:
    """A text and what a checkpoint made of its N tokens.

    Attributes:
        text: The text.
        checkpoint: Its reference.
        tokenizer: The checkpoint's.
        noun: What a token of it is called.
        surprise: At each token.
        starts: The first character of each token, and the text's end, [N + 1].
        unsaid: The share of tokens that do not say the text.
    """

    text: str
    checkpoint: str
    tokenizer: Tokenizer
    noun: str
    surprise: "Surprise"
    starts: "npt.NDArray[np.int64]"
    unsaid: float


def score_lines(scored: ScoredText, measures: Measures, width: int) -> Iterator[str]:
    """Yield the report line by line, none longer than ``width`` columns."""
    for line in _lines(scored, measures):
        yield (set_cell_size(line, width) if cell_len(line) > width else line).rstrip()


def _lines(scored: ScoredText, measures: Measures) -> Iterator[str]:
    text, surprise = scored.text, scored.surprise
    mean = measures.mean_surprise
    likely = perplexity(mean)
    yield f"{'checkpoint':<16}{scored.checkpoint}"
    yield f"{'characters':<16}{len(text):,}"
    yield f"{'mean surprise':<16}{'-' if mean is None else f'{mean:.4f} nats per character'}"
    per_token = None if scored.tokenizer.name == "char" else surprise.mean()
    if per_token is not None:
        yield f"{'':<16}{per_token:.4f} nats per {scored.noun}"
    if scored.unsaid:
        yield f"{'unknown words':<16}{scored.unsaid:.1%} of the tokens"
    yield f"{'perplexity':<16}{'-' if likely is None else f'{likely:.4f}'}"
    yield f"{'accuracy':<16}{format_accuracy(surprise.accuracy())}"
    yield ""
    for name, kind in MEASURES.items():
        if name != "mean_surprise":
            yield f"{kind.label:<16}{kind.format(measures.value(name)):>8}  {kind.help}"
    if measures.memorisation is not None:
        yield ""
        yield from _copies(text, measures)
    yield ""
    yield from _surprising(scored)


def _copies(text: str, measures: Measures) -> Iterator[str]:
    found = measures.memorisation
    assert found is not None
    if not found.passages:
        yield f"nothing of {LEAST_COPY_CHARACTERS} characters or more is copied; the longest:"
        if found.longest_passage is not None:
            yield _passage(text, found.longest_passage, len(str(len(text))))
        return
    yield f"copied, {LEAST_COPY_CHARACTERS} characters or more: place, line of the corpus, text"
    for passage in found.passages[:_SHOWN_PASSAGES]:
        yield _passage(text, passage, len(str(len(text))))
    hidden = len(found.passages) - _SHOWN_PASSAGES
    if hidden > 0:
        yield f"  and {hidden:,} more; --json has all"


def _passage(text: str, passage: Passage, digits: int) -> str:
    copied = visible(text[passage.start : passage.end])
    place = f"{passage.start:>{digits}} to {passage.end:<{digits}}"
    return f"  {place}  line {passage.source_line:<8,}{copied}"


def _surprising(scored: ScoredText) -> Iterator[str]:
    text, surprise, tokenizer = scored.text, scored.surprise, scored.tokenizer
    yield "most surprising tokens: nats, rank, what was expected"
    starts = scored.starts.tolist()
    for place in _most_surprising(surprise):
        start, end = starts[place], starts[place + 1]
        (best,) = surprise.top_candidates(place, 1)
        expected = f"'{visible(shown_token(tokenizer, best.token))}' {best.probability:.0%}"
        before = visible(text[max(0, start - _BEFORE) : start])[-_BEFORE:]
        after = visible(text[end : end + _AFTER])
        token = shown_token(tokenizer, int(surprise.tokens[place]))
        yield (
            f"  {surprise.nats[place]:>6.2f}  {surprise.rank[place]:>4}  {expected:<10}"
            f"{before:>{_BEFORE}} [{visible(token)}] {after}"
        )


def _most_surprising(surprise: "Surprise") -> list[int]:
    """Places of the highest surprises, highest first, not side by side."""
    chosen: list[int] = []
    for place in (np.argsort(-surprise.nats[1:], kind="stable") + 1).tolist():
        if all(abs(place - other) >= _PLACES_APART for other in chosen):
            chosen.append(place)
            if len(chosen) == _SHOWN_PLACES:
                break
    return chosen
