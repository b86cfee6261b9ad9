"""Scripted writers and readers for the Playground: no model, no chance, no clock."""

import functools
import itertools
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from shakespeare_tui.data.tokenizers.byte_pair import BytePairTokenizer
from shakespeare_tui.data.tokenizers.tokenizer import shown_token, token_starts
from shakespeare_tui.measures import Measures, Memorisation, Passage
from shakespeare_tui.ui.engine.generation import GenerationJob, GenerationRequest
from shakespeare_tui.ui.engine.scoring import Expectation, Reals, Scored
from shakespeare_tui.ui.services import Engine

TEXT = """
What is the king that shall be [so much] spoke,
And let the world upon my heart be done.

JULIET:
I would not have thee [b]stay[/b], nor bid thee go:
The morning is a lark that will not sing."""


def measures(column: int) -> Measures:
    """Measures that differ by column; the second has copied a line."""
    passage = Passage(7, 40, source_line=1234, source_start=56_789)
    copies = Memorisation(
        longest=33 if column == 1 else 12,
        share=0.14 if column == 1 else 0.0,
        passages=(passage,) if column == 1 else (),
        longest_passage=passage if column == 1 else None,
        is_whole=True,
    )
    return Measures(
        characters=190,
        mean_surprise=1.2 + column / 10,
        distinct_1=0.9,
        distinct_2=0.8 - column / 20,
        distinct_3=0.95,
        longest_loop=0,
        repeated_share=column / 50,
        real_word_rate=0.97 - column / 100,
        wellformed_share=0.5,
        known_speaker_share=1.0,
        memorisation=copies,
    )


def write(request: GenerationRequest, job: GenerationJob) -> None:
    """A text a column, each a little longer than the one before, all at once."""
    n_columns = len(request.strategies)
    job.add([TEXT + "\n" + "la " * column for column in range(n_columns)], 0.125)
    for column in range(n_columns):
        job.measure(column, measures(column))


def write_pairs(request: GenerationRequest, job: GenerationJob) -> None:
    """The same texts, in as many pieces as their tokens, byte pairs, say."""
    n_columns = len(request.strategies)
    tokenizer = pairs()
    for column in range(n_columns):
        tokens = tokenizer.encode(TEXT + "\n" + "la " * column)
        decoder = tokenizer.decoder()
        for token in tokens.tolist():
            piece = decoder.feed(token)
            job.recordings[column].place(len(piece))
            job.add([piece if place == column else "" for place in range(n_columns)], 0.125)
        job.measure(column, measures(column))


CHARACTERS = tuple(sorted(set("\n !'(),-.:;?[]/" + string.ascii_letters)))


def score_text(reference: str, runs_root: Path, text: str, prompt_length: int) -> Scored:
    """Surprise grows with a character's place in its word; one passage is copied."""
    nats = np.array([0.05 + 0.9 * (ord(c) % 7) for c in text], np.float32)
    nats[0] = np.nan
    rank = np.array([1 + ord(c) % 7 for c in text])
    rank[0] = 0
    return Scored(nats, np.full(len(text), 1.25, np.float32), rank, measures(1))


def expectation_at(reference: str, runs_root: Path, text: str, position: int) -> Expectation:
    """The characters in an order that depends on the place, each half as likely as the last."""
    n = len(CHARACTERS)
    logits = -0.6 * ((np.arange(n) * 7 + position) % n).astype(np.float32)
    tokens = np.array([CHARACTERS.index(c) for c in text[:position]], np.int64)
    return Expectation(logits, tokens, CHARACTERS, position, text[position : position + 1])


def attention_of(reference: str, runs_root: Path, text: str, position: int) -> Reals:
    """Two layers of two heads, each looking further back than the one before."""
    weights = np.zeros((2, 2, position), np.float32)
    for head in range(4):
        weights[head // 2, head % 2, max(0, position - 1 - 3 * head)] = 0.7
        weights[head // 2, head % 2, 0] += 0.3
    return weights


def attention_on_pairs(reference: str, runs_root: Path, text: str, position: int) -> Reals:
    """As ``attention_of``, on the first characters of tokens."""
    found = np.zeros((2, 2, position), np.float32)
    starts = token_starts(pairs(), pairs().encode(text[:position]))
    places = np.searchsorted(starts, np.arange(position), side="right") - 1
    weights = attention_of(reference, runs_root, text, position)
    np.add.at(found.transpose(2, 0, 1), starts[places], weights.transpose(2, 0, 1))
    return found


def score_pairs(reference: str, runs_root: Path, text: str, prompt_length: int) -> Scored:
    """As ``score_text``, by tokens that are byte pairs learned from the text that is written."""
    tokenizer = pairs()
    starts = token_starts(tokenizer, tokenizer.encode(text)).tolist()
    scored = score_text(reference, runs_root, text, prompt_length)
    for start, stop in itertools.pairwise(starts):
        scored.nats[start:stop] = scored.nats[start]
        scored.rank[start:stop] = scored.rank[start]
    return replace(scored, starts=tuple(starts))


def expectation_of_pairs(reference: str, runs_root: Path, text: str, position: int) -> Expectation:
    """As ``expectation_at``; a token that is no text is among the likely ones."""
    tokenizer = pairs()
    tokens = tokenizer.encode(text).astype(np.int64)
    starts = token_starts(tokenizer, tokens)
    place = int(np.searchsorted(starts, position, side="right")) - 1
    shown = tuple(shown_token(tokenizer, token) for token in range(tokenizer.vocab_size))
    logits = -0.6 * ((np.arange(len(shown)) * 7 + place) % len(shown)).astype(np.float32)
    chosen = shown[tokens[place]] if place < len(tokens) else ""
    parts = frozenset(text for text in shown if text.startswith("<"))
    return Expectation(logits, tokens[:place], shown, int(starts[place]), chosen, parts)


@functools.cache
def pairs() -> BytePairTokenizer:
    return BytePairTokenizer.from_corpus([TEXT * 4], 360)


class ScriptedEngine(Engine):
    """Scripts stand where the models are; others take their places by name: ``write=…``."""

    def __init__(self, **scripts: Callable[..., object]) -> None:
        usual = {
            "write": write,
            "score": score_text,
            "expectation": expectation_at,
            "attention": attention_of,
        }
        vars(self).update(usual | scripts)
