"""Read a corpus once and publish what is known of it so far, for a screen that shows it live."""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from threading import Event
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shakespeare_tui.data.download import Report
from shakespeare_tui.data.inspect.characters import (
    N_CODE_POINTS,
    CorpusScanner,
    TextStatistics,
    code_points,
)
from shakespeare_tui.data.inspect.line_index import ByteStream, LineIndex, LineIndexBuilder
from shakespeare_tui.data.inspect.ngrams import (
    BASELINE_ORDERS,
    HIGHEST_BASELINE_ORDER,
    MAX_TOKENS,
    baselines,
    capped_split,
    ngram_loss,
)
from shakespeare_tui.data.inspect.words import WordCounter, WordCounts
from shakespeare_tui.data.source import TextSource
from shakespeare_tui.data.tokens import TextParts, split_point, validation_parts
from shakespeare_tui.errors import UserError, check_cancelled

N_MOST_COMMON = 20
N_RAREST = 20
# Scanning takes most of the time; the second pass only has to find the text around the split.
_SCAN_SHARE = 0.8


@dataclass(frozen=True)
class Split:
    """Sizes in characters of the parts, training first in time."""

    val_fraction: float | None
    """None where the corpus brings its own validation text."""
    train: int
    validation: int

    @classmethod
    def of(
        cls, source: TextSource, characters: int, val_fraction: float, *, is_streamed: bool = False
    ) -> "Split":
        """The split of a corpus of so many characters, those of its validation text included.

        Args:
            source: The corpus.
            characters: Of all its text.
            val_fraction: Share of the text, at its end, where it brings no validation text.
            is_streamed: Whether training keeps whole parts at its end.

        Raises:
            UserError: The validation text cannot be read.
        """
        if source.validation is not None:
            validation = source.validation.survey().characters
            return cls(None, characters - validation, validation)
        train = split_point(characters, val_fraction)
        if is_streamed:
            parts = TextParts(source)
            first = len(parts) - validation_parts(len(parts), val_fraction)
            if first > 0:  # training refuses a shorter text
                train = characters - sum(map(len, parts.pieces(range(first, len(parts)))))
        return cls(val_fraction, train, characters - train)


@dataclass(frozen=True)
class Baselines:
    """Reference losses and the text they were taken from."""

    losses: dict[str, float]
    """Nats per character by model; empty where the text is too short for any."""
    train: int
    """Characters counted, the last of the training part."""
    validation: int
    """Characters predicted, the first of the validation part."""


@dataclass(frozen=True)
class CorpusReport:
    """What ``inspect_corpus`` found."""

    source: TextSource
    """What was read is the whole of it."""
    sha256: str
    statistics: TextStatistics
    split: Split
    baselines: Baselines

    def to_json(self) -> dict[str, Any]:
        """The report as plain dictionaries, lists, strings and finite numbers."""
        statistics = self.statistics
        return {
            "name": self.source.name,
            "title": self.source.title,
            "files": [str(path) for path in self.source.whole.paths],
            "size_bytes": self.source.whole.size_bytes,
            "sha256": self.sha256,
            "characters": statistics.characters,
            "lines": statistics.lines,
            "longest_line_characters": statistics.longest_line_characters,
            "vocab_size": statistics.vocab_size,
            "vocabulary": list(statistics.vocabulary),
            "shares": asdict(statistics.shares),
            "most_common": [asdict(c) for c in statistics.most_common(N_MOST_COMMON)],
            "rarest": [asdict(c) for c in statistics.rarest(N_RAREST)],
            "play": asdict(statistics.play) if statistics.play else None,
            "split": asdict(self.split),
            "baselines": self.baselines.losses,
            "baseline_characters": {
                "train": self.baselines.train,
                "validation": self.baselines.validation,
            },
            "first_lines": list(statistics.first_lines),
        }


def inspect_corpus(
    source: TextSource,
    val_fraction: float = 0.1,
    report: Report | None = None,
    cancelled: Event | None = None,
    *,
    max_baseline_tokens: int = MAX_TOKENS,
) -> CorpusReport:
    """Read a corpus twice, streaming, and measure it; memory does not grow with its size.

    The split is at ``int((1 - val_fraction) * n)`` of its n characters, in time order, or before
    the validation text that it brings. Reference losses of a long corpus are taken from the text
    around the split.

    Args:
        source: The corpus.
        val_fraction: Share of the text, at its end, kept for validation.
        report: Told about the work done, in units of the corpus's bytes.
        cancelled: Set it from another thread to call the inspection off.
        max_baseline_tokens: How much of the text reference losses are taken from.

    Raises:
        UserError: A file is not readable UTF-8 text, there is none in it, or ``val_fraction`` is
            not between 0 and 1.
        CancelledError: ``cancelled`` was set.
    """
    check_val_fraction(val_fraction)
    report = report or (lambda done, total: None)
    cancelled = cancelled or Event()
    scanner = CorpusScanner()
    hasher = hashlib.sha256()
    whole = source.whole
    scan_report = _part_of(report, whole.size_bytes, 0.0, _SCAN_SHARE)
    for text in whole.iter_text(hasher=hasher, report=scan_report):
        check_cancelled(cancelled.is_set, "the inspection")
        scanner.feed(text)
    statistics = scanner.snapshot()
    if statistics.characters == 0:
        raise UserError(f"{source.title} has no characters; name a file with some text in it")
    split = Split.of(source, statistics.characters, val_fraction)
    second_report = _part_of(report, whole.size_bytes, _SCAN_SHARE, 1 - _SCAN_SHARE)
    measured = _measure_baselines(
        whole, statistics, split, second_report, cancelled, max_baseline_tokens
    )
    report(whole.size_bytes, whole.size_bytes)
    digest = source.sha256() if source.validation else hasher.hexdigest()
    return CorpusReport(source, digest, statistics, split, measured)


def check_val_fraction(val_fraction: float) -> None:
    """Refuse a share that leaves nothing to train on or nothing to validate with.

    Raises:
        UserError: It does not lie between 0 and 1.
    """
    if not 0 < val_fraction < 1:
        raise UserError(f"the validation fraction must lie between 0 and 1, not {val_fraction:g}")


def _measure_baselines(
    source: TextSource,
    statistics: TextStatistics,
    split: Split,
    report: Report,
    cancelled: Event,
    max_tokens: int,
) -> Baselines:
    n_train, n_val = capped_split(split.train, split.validation, max_tokens)
    if n_train < HIGHEST_BASELINE_ORDER or n_val == 0:
        return Baselines({}, 0, 0)
    ids_of_codes = np.zeros(N_CODE_POINTS, np.int32)
    codes = code_points(statistics.vocabulary)
    ids_of_codes[codes] = np.arange(len(codes), dtype=np.int32)
    tokens = np.empty(n_train + n_val, np.int32)
    filled = 0
    start = split.train - n_train
    for piece in _characters_between(source, start, split.train + n_val, report, cancelled):
        tokens[filled : filled + len(piece)] = ids_of_codes[piece]
        filled += len(piece)
    if filled < len(tokens):
        raise UserError(f"{source.title} became shorter while it was read; try again")
    losses = baselines(tokens[:n_train], tokens[n_train:], statistics.vocab_size)
    return Baselines(losses, n_train, n_val)


def _characters_between(
    source: TextSource, start: int, stop: int, report: Report, cancelled: Event
) -> Iterator[npt.NDArray[np.unsignedinteger]]:
    """Yield the code points of the characters from ``start`` up to ``stop``."""
    position = 0
    for text in source.iter_text(report=report):
        check_cancelled(cancelled.is_set, "the inspection")
        end = position + len(text)
        if end > start:
            yield code_points(text[max(0, start - position) : stop - position])
        if end >= stop:
            return
        position = end


def _part_of(report: Report, size_bytes: int, begun: float, share: float) -> Report:
    """A report for a pass that is ``share`` of the whole work, after the ``begun`` share."""
    return lambda done, total: report(int(begun * size_bytes + share * done), size_bytes)


# Pieces are small, so that a thread that draws never waits long for this one.
_CHUNK_BYTES = 1 << 18
_PUBLISH_SECONDS = 0.2


@dataclass(frozen=True)
class ScanState:
    """What is known of a corpus; the parts that need the whole text come last."""

    source: TextSource
    """What is read is the whole of it."""
    phase: Literal["reading", "predicting", "done"]
    done_bytes: int
    statistics: TextStatistics
    index: LineIndex
    words: WordCounts
    speech_lengths: dict[int, int]
    """Speeches by length in characters."""
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
    *,
    is_streamed: bool = False,
    chunk_bytes: int = _CHUNK_BYTES,
    publish_seconds: float = _PUBLISH_SECONDS,
) -> ScanState:
    """Measure a corpus as ``inspect_corpus`` does, in one reading, and index it for a viewer.

    Args:
        source: The corpus.
        publish: Told what is known, while it is read and at the end of each part; called on this
            thread. What it gets never changes afterwards.
        cancelled: Set it from another thread to call the scan off.
        val_fraction: Share of the text, at its end, kept for validation.
        is_streamed: As for ``Split.of``.
        chunk_bytes: Read at a time.
        publish_seconds: Between two times that ``publish`` is told, while it is read.

    Raises:
        UserError: A file is not readable UTF-8 text or there is none in it.
        CancelledError: ``cancelled`` was set.
    """
    check_val_fraction(val_fraction)
    whole = source.whole
    reader = _Reader(source)
    published = time.monotonic()
    for text in whole.iter_text(chunk_bytes, hasher=reader.hasher, report=reader.report):
        check_cancelled(cancelled.is_set, "the scan")
        reader.feed(text)
        now = time.monotonic()
        if now - published >= publish_seconds:
            publish(reader.state())
            published = now
    state = reader.state()
    n_characters = state.statistics.characters
    if n_characters == 0:
        raise UserError(f"{source.title} has no characters; name a file with some text in it")
    state = replace(
        state,
        phase="predicting",
        done_bytes=whole.size_bytes,
        sha256=source.sha256() if source.validation else reader.hasher.hexdigest(),
        split=Split.of(source, n_characters, val_fraction, is_streamed=is_streamed),
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
        self._index = LineIndexBuilder(ByteStream(source.whole))
        self._words = WordCounter()

    def report(self, done: int, total: int | None) -> None:
        self._done_bytes = done

    def feed(self, text: str) -> None:
        for part in (self._scanner, self._index, self._words):
            part.feed(text)

    def state(self) -> ScanState:
        return ScanState(
            source=self._source,
            phase="reading",
            done_bytes=self._done_bytes,
            statistics=self._scanner.snapshot(),
            index=self._index.snapshot(),
            words=self._words.snapshot(),
            speech_lengths=self._scanner.speech_lengths(),
        )


def _predict(state: ScanState) -> Iterator[Baselines]:
    """Yield the reference losses, one model more each time."""
    assert state.split is not None
    n_train, n_val = capped_split(state.split.train, state.split.validation, MAX_TOKENS)
    if n_train < HIGHEST_BASELINE_ORDER or n_val == 0:
        return
    vocabulary = state.statistics.vocabulary
    losses = {"uniform": math.log(len(vocabulary))}
    yield Baselines(dict(losses), n_train, n_val)
    start = state.split.train - n_train
    tokens = _token_ids(state.index.text(start, state.split.train + n_val), vocabulary)
    if len(tokens) < n_train + n_val:
        raise UserError(f"{state.source.title} became shorter while it was read; try again")
    for name, order in BASELINE_ORDERS.items():
        losses[name] = ngram_loss(tokens[:n_train], tokens[n_train:], len(vocabulary), order)
        yield Baselines(dict(losses), n_train, n_val)


def _token_ids(text: str, vocabulary: str) -> npt.NDArray[np.int64]:
    """Places of the characters in the vocabulary, shape (len(text),)."""
    places = np.searchsorted(code_points(vocabulary), code_points(text))
    return np.minimum(places, len(vocabulary) - 1)
