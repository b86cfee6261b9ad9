"""Read a corpus once and publish what is known of it so far, for a screen that shows it live."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Literal

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.inspect.byte_stream import ByteStream
from shakespeare_tui.data.inspect.characters import CorpusScanner, TextStatistics, code_points
from shakespeare_tui.data.inspect.inspect import Baselines, CorpusReport, Split, check_val_fraction
from shakespeare_tui.data.inspect.line_index import LineIndex, LineIndexBuilder
from shakespeare_tui.data.inspect.ngrams import MAX_TOKENS, capped_split, ngram_loss
from shakespeare_tui.data.inspect.speech_lengths import SpeechLengthScanner
from shakespeare_tui.data.inspect.words import WordCounter, WordCounts
from shakespeare_tui.data.text import TextSource
from shakespeare_tui.errors import UserError, check_cancelled

# Pieces are small, so that a thread that draws never waits long for this one.
_CHUNK_BYTES = 1 << 18
_PUBLISH_SECONDS = 0.2
_MODEL_ORDERS = {"unigram": 1, "bigram": 2, "5-gram": 5}


@dataclass(frozen=True)
class ScanState:
    """What is known of a corpus; the parts that need the whole text come last."""

    source: TextSource
    phase: Literal["reading", "predicting", "done"]
    done_bytes: int
    statistics: TextStatistics
    index: LineIndex
    words: WordCounts
    speech_lengths: dict[int, int]
    """Speeches by length in characters."""
    speech_lengths_are_whole: bool
    sha256: str | None = None
    split: Split | None = None
    baselines: Baselines = field(default_factory=lambda: Baselines({}, 0, 0))
    """Losses arrive one by one while ``phase`` is ``predicting``."""

    @property
    def is_read(self) -> bool:
        """Whether the figures are those of the whole text."""
        return self.phase != "reading"

    def report(self) -> CorpusReport | None:
        """The report that ``inspect_corpus`` gives; None until everything is measured."""
        if self.phase != "done" or self.sha256 is None or self.split is None:
            return None
        return CorpusReport(self.source, self.sha256, self.statistics, self.split, self.baselines)


def scan_corpus(
    source: TextSource,
    publish: Callable[[ScanState], None],
    cancelled: Event,
    val_fraction: float = 0.1,
) -> ScanState:
    """Measure a corpus as ``inspect_corpus`` does, in one reading, and index it for a viewer.

    Args:
        source: The corpus.
        publish: Told what is known, about five times a second and at the end of each part; called
            on this thread. What it gets never changes afterwards.
        cancelled: Set it from another thread to call the scan off.
        val_fraction: Share of the text, at its end, kept for validation.

    Raises:
        UserError: A file is not readable UTF-8 text or there is none in it.
        CancelledError: ``cancelled`` was set.
    """
    check_val_fraction(val_fraction)
    reader = _Reader(source)
    published = time.monotonic()
    for text in source.iter_text(_CHUNK_BYTES, hasher=reader.hasher, report=reader.report):
        check_cancelled(cancelled.is_set, "the scan")
        reader.feed(text)
        now = time.monotonic()
        if now - published >= _PUBLISH_SECONDS:
            publish(reader.state())
            published = now
    state = reader.state()
    n_characters = state.statistics.characters
    if n_characters == 0:
        raise UserError(f"{source.title} has no characters; name a file with some text in it")
    n_train = int((1 - val_fraction) * n_characters)
    state = replace(
        state,
        phase="predicting",
        done_bytes=source.size_bytes,
        sha256=reader.hasher.hexdigest(),
        split=Split(val_fraction, n_train, n_characters - n_train),
    )
    publish(state)
    for found in _predict(state):
        check_cancelled(cancelled.is_set, "the scan")
        state = replace(state, baselines=found)
        publish(state)
    state = replace(state, phase="done")
    publish(state)
    return state


class _Reader:
    """Everything that looks at the text while it is read."""

    def __init__(self, source: TextSource) -> None:
        self.hasher = hashlib.sha256()
        self._source = source
        self._done_bytes = 0
        self._scanner = CorpusScanner()
        self._index = LineIndexBuilder(ByteStream(source))
        self._words = WordCounter()
        self._lengths = SpeechLengthScanner()

    def report(self, done: int, total: int | None) -> None:
        self._done_bytes = done

    def feed(self, text: str) -> None:
        for part in (self._scanner, self._index, self._words, self._lengths):
            part.feed(text)

    def state(self) -> ScanState:
        return ScanState(
            source=self._source,
            phase="reading",
            done_bytes=self._done_bytes,
            statistics=self._scanner.snapshot(),
            index=self._index.snapshot(),
            words=self._words.snapshot(),
            speech_lengths=self._lengths.lengths(),
            speech_lengths_are_whole=self._lengths.is_whole,
        )


def _predict(state: ScanState) -> Iterator[Baselines]:
    """Yield the reference losses, one model more each time."""
    assert state.split is not None
    n_train, n_val = capped_split(state.split.train, state.split.validation, MAX_TOKENS)
    if n_train < max(_MODEL_ORDERS.values()) or n_val == 0:
        return
    vocabulary = state.statistics.vocabulary
    losses = {"uniform": math.log(len(vocabulary))}
    yield Baselines(dict(losses), n_train, n_val)
    start = state.split.train - n_train
    tokens = _token_ids(state.index.text(start, state.split.train + n_val), vocabulary)
    if len(tokens) < n_train + n_val:
        raise UserError(f"{state.source.title} became shorter while it was read; try again")
    for name, order in _MODEL_ORDERS.items():
        losses[name] = ngram_loss(tokens[:n_train], tokens[n_train:], len(vocabulary), order)
        yield Baselines(dict(losses), n_train, n_val)


def _token_ids(text: str, vocabulary: str) -> npt.NDArray[np.int64]:
    """Places of the characters in the vocabulary, shape (len(text),)."""
    places = np.searchsorted(code_points(vocabulary), code_points(text))
    return np.minimum(places, len(vocabulary) - 1)
