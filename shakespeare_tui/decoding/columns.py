"""Many strategies, each with many samples, written side by side with one pass a token."""

import functools
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.decoding.choosers import ENDED, Chooser, DrawingChooser
from shakespeare_tui.decoding.decoder import Decoder, Drafter, FloatArray, IntArray, WriteAhead
from shakespeare_tui.decoding.draws import MOST_DRAFTS, Chain, Draws
from shakespeare_tui.decoding.search import BeamChooser, ContrastiveChooser
from shakespeare_tui.decoding.streaming_text import Stop
from shakespeare_tui.decoding.window import WindowReader
from shakespeare_tui.errors import CancelledError, UserError, never
from shakespeare_tui.machine import CORES
from shakespeare_tui.sampling import Recording, Strategy
from shakespeare_tui.sampling.random_draws import MOST_SEED


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


def generate_columns(
    decoder: Decoder,
    prompt: Sequence[int],
    columns: Sequence[Column],
    *,
    max_tokens: int,
    stop: Stop | None = None,
    cancelled: Callable[[], bool] = never,
    recordings: Sequence[Recording] = (),
) -> Iterator[list[int]]:
    """Yield rows with one token of every stream, column by column and sample by sample.

    A stream that has ended has ``ENDED`` in its place; one whose next token is not known yet, as
    during a search, has ``WAITING``, and its tokens come in later rows. Both are negative.

    Args:
        decoder: Of one stream; has read nothing.
        prompt: Token ids that every stream continues; at least one.
        columns: The strategies.
        max_tokens: The most tokens of each stream.
        stop: What ends a stream, as ``StopTexts`` does; the last token is part of it.
        cancelled: Polled before each pass.
        recordings: One a stream, in which is noted what each of its tokens was chosen from; or
            none. A search fills them at the end.

    Raises:
        UserError: The prompt is empty.
        CancelledError: ``cancelled`` became true.
    """
    bursts = generate_bursts(
        decoder,
        prompt,
        columns,
        max_tokens=max_tokens,
        stop=stop,
        cancelled=cancelled,
        recordings=recordings,
    )
    return itertools.chain.from_iterable(bursts)


def generate_bursts(
    decoder: Decoder,
    prompt: Sequence[int],
    columns: Sequence[Column],
    *,
    max_tokens: int,
    stop: Stop | None = None,
    cancelled: Callable[[], bool] = never,
    recordings: Sequence[Recording] = (),
    draw_ahead: bool = False,
) -> Iterator[list[list[int]]]:
    """Yield the rows of ``generate_columns``, in one list those that were drawn together.

    No list is empty. With ``draw_ahead`` a thread draws the next ones while the caller works on
    those that it has, unless a run is trained beside. ``decoder`` may then have read beyond the
    text, and is the thread's until the iterator ends or is closed.
    """
    if not prompt:
        raise UserError("the prompt is empty; give at least one character, a newline for example")
    starts = np.cumsum([0, *(column.samples for column in columns)]).tolist()
    choosers = [
        _make_chooser(column, stop, recordings[start : start + column.samples])
        for column, start in zip(columns, starts, strict=False)
    ]
    alone = choosers[0] if len(choosers) == 1 else None
    # What a decoder draws by itself it also drafts by itself.
    is_drawn = isinstance(alone, DrawingChooser) and alone.chain is not None
    make_drafter = None if is_drawn else decoder.make_drafter
    if make_drafter and isinstance(alone, DrawingChooser) and alone.rows == 1:
        yield from _write_from_drafts(decoder, make_drafter, prompt, alone, max_tokens, cancelled)
        return
    # Its thread begins with the first burst that is drawn ahead.
    thread = ThreadPoolExecutor(1, "draw ahead") if draw_ahead else None
    try:
        yield from _write(decoder, prompt, choosers, max_tokens, cancelled, thread)
    finally:
        if thread is not None:
            thread.shutdown(cancel_futures=True)
    if left := list(_left(choosers)):
        yield left


def _make_chooser(column: Column, stop: Stop | None, recordings: Sequence[Recording]) -> Chooser:
    strategy, samples = column.strategy, column.samples
    if strategy.method == "beam":
        return BeamChooser(strategy, samples, stop, recordings)
    if strategy.method == "contrastive":
        return ContrastiveChooser(strategy, samples, stop, recordings)
    return DrawingChooser(strategy, samples, column.seed, stop, recordings)


def _write(
    decoder: Decoder,
    prompt: Sequence[int],
    choosers: list[Chooser],
    max_tokens: int,
    cancelled: Callable[[], bool],
    thread: ThreadPoolExecutor | None,
) -> Iterator[list[list[int]]]:
    """The rows of each pass, until all is written or has ended."""
    ends = np.cumsum([chooser.rows for chooser in choosers]).tolist()
    places = [slice(end - chooser.rows, end) for chooser, end in zip(choosers, ends, strict=True)]
    first = len(prompt)
    last = first + max_tokens + max(chooser.lag for chooser in choosers)
    # [R, L]: the whole text, filled as it grows
    text = np.empty((ends[-1], last), np.int64)
    text[:, :first] = prompt
    reader = WindowReader(decoder)
    ahead: _Ahead | None = None
    length = first
    while length < last:
        if cancelled():
            raise CancelledError("generation was stopped")
        ahead = ahead or _Ahead.of(reader, choosers, thread)
        if ahead is not None and length > first and (drawn := ahead.rows(text, length)):
            yield drawn
            if all(chooser.is_over for chooser in choosers):
                return
            length += len(drawn)
            continue
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
        yield [row]
        if all(chooser.is_over for chooser in choosers):
            return
        _follow(decoder, text[:, :length], choosers, places)
        text[:, length] = np.concatenate([chooser.tokens for chooser in choosers])
        length += 1


class Pace:
    """How many tokens to draw at once, by how long the last calls took.

    Long enough that what is done between calls does not count, short enough for a text to stream
    evenly. The fastest of a few calls tells: one that was interrupted says nothing about the next.
    """

    _SECONDS, _CALLS, _FIRST, _MOST = 0.02, 4, 4, 64

    def __init__(self) -> None:
        self.tokens = self._FIRST
        self._costs: deque[float] = deque(maxlen=self._CALLS)

    def took(self, seconds: float, tokens: int) -> None:
        """Take what a call of so many tokens took."""
        self._costs.append(seconds / tokens)
        fitting = int(self._SECONDS / max(min(self._costs), self._SECONDS / self._MOST))
        self.tokens = max(1, min(fitting, 2 * tokens))


class _Burst(NamedTuple):
    """Tokens that are drawn together.

    Attributes:
        tokens: T, how many they are of each of B streams.
        given: What they are drawn from, [B, T, V]; [B, 0, V] where it is not noted.
        done: Waits for them; returns how many could be drawn.
    """

    tokens: int
    given: FloatArray
    done: Callable[[], int]


# One that is being drawn and one that can be begun without waiting for Python's lock.
_BURSTS_AHEAD = 2


class _Ahead:
    """Lets a decoder draw many tokens at once, where every stream is drawn by common steps."""

    def __init__(
        self,
        reader: WindowReader,
        write: WriteAhead,
        choosers: list[DrawingChooser],
        chains: list[Chain],
        thread: ThreadPoolExecutor | None,
    ) -> None:
        self._reader, self._write, self._thread = reader, write, thread
        self._choosers, self._chains = choosers, chains
        ends = np.cumsum([chooser.rows for chooser in choosers]).tolist()
        self._places = [slice(e - c.rows, e) for c, e in zip(choosers, ends, strict=True)]
        self._is_recorded = any(chooser.is_recorded for chooser in choosers)
        self._pace = Pace()
        # What is being drawn, where the next one begins, and whether one has come out short.
        self._begun: deque[_Burst] = deque()
        self._next = 0
        self._is_short = False

    @classmethod
    def of(
        cls, reader: WindowReader, choosers: Sequence[Chooser], thread: ThreadPoolExecutor | None
    ) -> "_Ahead | None":
        """None where the decoder or one of the strategies does not allow it.

        With a ``thread`` what comes next is drawn there, while the caller is at work.
        """
        write = reader.decoder.write_ahead
        drawing = [each for each in choosers if isinstance(each, DrawingChooser)]
        chains = [
            each.chain for each in drawing for _ in range(each.rows) if each.chain is not None
        ]
        if write is None or len(chains) < sum(chooser.rows for chooser in choosers):
            return None
        return cls(reader, write, drawing, chains, thread)

    def rows(self, text: IntArray, length: int) -> list[list[int]]:
        """Draw some tokens after the first ``length`` of ``text`` [R, L]; returns their rows.

        There are none where the model gives numbers that no token can be drawn by.
        """
        if not self._begun:
            self._next = length
            self._begin(text, None)
        burst = self._begun.popleft()
        done = burst.done()
        if done < burst.tokens:
            while self._begun:
                self._begun.popleft().done()
            self._is_short = False
        elif self._thread is not None and CORES.beside is None and CORES.usable > 1:
            while len(self._begun) < _BURSTS_AHEAD and self._next < text.shape[1]:
                self._begin(text, self._thread)
        if not done:
            return []
        parts: list[list[list[int]]] = []
        for chooser, rows in zip(self._choosers, self._places, strict=True):
            drawn: list[list[int]] = []
            if not chooser.is_over:
                logits = burst.given[rows, :done] if self._is_recorded else None
                drawn = chooser.accept(text[rows, length : length + done], logits, length)
            parts.append(drawn)
        if len(parts) == 1:
            return parts[0]
        for chooser, drawn in zip(self._choosers, parts, strict=True):
            drawn += [[ENDED] * chooser.samples] * (max(map(len, parts)) - len(drawn))
        return [list(itertools.chain(*row)) for row in zip(*parts, strict=True)]

    def _begin(self, text: IntArray, thread: ThreadPoolExecutor | None) -> None:
        """Begin to draw in ``thread``; without one, it is done when that is asked for."""
        length, vocab_size = self._next, self._reader.decoder.vocab_size
        # A large model's tokens take long, and are drafted: fewer at once would be dearer.
        is_drafted = len(text) == 1 and self._reader.decoder.make_drafter is not None
        wanted = max(self._pace.tokens, MOST_DRAFTS + 1 if is_drafted else 1)
        count = min(wanted, self._reader.room(length) + 1, text.shape[1] - length)
        uniforms = np.concatenate([c.uniforms(length, count) for c in self._choosers])
        given = np.empty((len(text), count if self._is_recorded else 0, vocab_size), np.float32)
        work = functools.partial(self._draw, text, length, uniforms, given)
        self._begun.append(_Burst(count, given, thread.submit(work).result if thread else work))
        self._next += count

    def _draw(
        self, text: IntArray, length: int, uniforms: NDArray[np.float64], given: FloatArray
    ) -> int:
        """Draw what can be drawn, nothing after a burst that came out short or failed."""
        if self._is_short:
            return 0
        self._is_short = True
        started = time.perf_counter()
        draws = Draws.of(self._chains, text[:, :length], given.shape[2], uniforms)
        unread, count = self._reader.to_read(text[:, :length]).shape[1], uniforms.shape[1]
        done = self._write(text, length, draws, given, unread)
        if done == count >= self._pace.tokens:
            self._pace.took(time.perf_counter() - started, done)
        self._is_short = done < count
        return done


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


def _write_from_drafts(
    decoder: Decoder,
    make_drafter: Callable[[], Drafter | None],
    prompt: Sequence[int],
    chooser: DrawingChooser,
    max_tokens: int,
    cancelled: Callable[[], bool],
) -> Iterator[list[list[int]]]:
    """The rows of each pass; the drafter is made after the first, so that it is not waited for."""
    length, last = len(prompt), len(prompt) + max_tokens
    text = np.empty((1, last), np.int64)
    text[:, :length] = prompt
    reader = WindowReader(decoder)
    drafter: Drafter | None = None
    while length < last and not chooser.is_over:
        count = 0
        reader.forget_after(length - 1)
        if length > len(prompt) and reader.unread(length) == 1:
            drafter = drafter or make_drafter()
        if drafter is not None and reader.unread(length) == 1:
            count = min(MOST_DRAFTS, reader.room(length), last - length - 1)
            drafter.follow(decoder)
            for end in range(length, length + count):
                drafted = drafter.read(text[:, end - 1 : end])
                text[:, end] = chooser.draft(drafted, text[:, :end])
        logits = reader.read_all(text[:, : length + count], count + 1)
        for token in _checked(chooser, decoder, logits, text, length, cancelled):
            length += 1
            yield [[token]]


def _checked(
    chooser: DrawingChooser,
    decoder: Decoder,
    logits: FloatArray,
    text: IntArray,
    length: int,
    cancelled: Callable[[], bool],
) -> Iterator[int]:
    """Choose tokens by ``logits`` [1, T, V] into ``text`` from ``length`` on, while drafts hold."""
    for place in range(logits.shape[1]):
        if cancelled():
            raise CancelledError("generation was stopped")
        end = length + place
        (token,) = chooser.choose(logits[:, place], text[:, :end], decoder, slice(1))
        has_draft = place + 1 < logits.shape[1]
        is_as_drafted = has_draft and token == text[0, end]
        text[0, end] = token
        yield token
        if chooser.is_over or not is_as_drafted:
            return
