"""Texts as they are written for a request: pieces with their tokens, whole, and from memory."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from shakespeare_tui.data.tokenizers.tokenizer import Tokenizer, shown_token
from shakespeare_tui.decoding.columns import Column, generate_columns
from shakespeare_tui.decoding.score import logits_of
from shakespeare_tui.decoding.streaming_text import StopTexts, StreamedText
from shakespeare_tui.sampling import Recording, Strategy
from shakespeare_tui.sampling.logits import FloatArray
from shakespeare_tui.serve.models import Opened

Reason = Literal["stop", "length"]


@dataclass(frozen=True)
class TextOrder:
    """All that decides what is written: equal ones are answered equally.

    Attributes:
        model: Its name.
        prompt: Token ids.
        strategy: How tokens are chosen.
        samples: How many texts.
        seed: Text i draws by (seed, i).
        max_tokens: The most tokens of each; 0 writes nothing.
        stop: What ends a text.
        keeps_stop: Whether that is part of the text.
        past_end: Write on where the model has ended its text.
        top_logprobs: How many of the likeliest tokens are told at each place; None tells none.
        scores_prompt: Whether the prompt's tokens are scored, too.
    """

    model: str
    prompt: tuple[int, ...]
    strategy: Strategy
    samples: int
    seed: int
    max_tokens: int
    stop: tuple[str, ...] = ()
    keeps_stop: bool = False
    past_end: bool = False
    top_logprobs: int | None = None
    scores_prompt: bool = False


@dataclass(frozen=True)
class TokenScore:
    """What the model made of a token.

    Attributes:
        text: The token by itself, its bytes in angle brackets where they are no text.
        bytes: What it stands for.
        logprob: Log-probability by the model, before any step of the strategy; None of the first
            token of all.
        top: The likeliest tokens with theirs, likeliest first.
    """

    text: str
    bytes: bytes
    logprob: float | None
    top: tuple["TokenScore", ...] = ()


@dataclass(frozen=True)
class Piece:
    """What a few tokens have added to a text.

    Attributes:
        sample: Which text; −1 is the prompt.
        text: Whole characters.
        tokens: How many tokens were written.
        scores: Of those tokens that are shown, where they were asked for.
        reason: Why the text is over; None while it is not.
    """

    sample: int
    text: str
    tokens: int
    scores: tuple[TokenScore, ...] = ()
    reason: Reason | None = None


def write_pieces(order: TextOrder, opened: Opened, tokenizer: Tokenizer) -> Iterator[Piece]:
    """Write what was ordered, piece by piece; the last of each text has its reason."""
    if order.scores_prompt:
        yield _scored_prompt(order, opened, tokenizer)
    if not order.max_tokens:
        for sample in range(order.samples):
            yield Piece(sample, "", 0, (), "length")
        return
    stops = StopTexts(order.stop, tokenizer, past_end=order.past_end)
    recordings = [
        Recording(4 * tokenizer.vocab_size * order.max_tokens)
        for _ in range(order.samples if order.top_logprobs is not None else 0)
    ]
    streams = [
        _Stream(order, sample, tokenizer, stops, recordings[sample] if recordings else None)
        for sample in range(order.samples)
    ]
    rows = generate_columns(
        opened.make_decoder(),
        order.prompt,
        [Column(strategy=order.strategy, samples=order.samples, seed=order.seed)],
        max_tokens=order.max_tokens,
        stop=stops or None,
        recordings=recordings,
    )
    for row in rows:
        for stream, token in zip(streams, row, strict=True):
            if token >= 0 and (piece := stream.feed(token)) is not None:
                yield piece
    for stream in streams:
        yield stream.end()


class _Stream:
    """One text: holds back what may be the beginning of a stop text that is no part of it."""

    def __init__(
        self,
        order: TextOrder,
        sample: int,
        tokenizer: Tokenizer,
        stops: StopTexts,
        recording: Recording | None,
    ) -> None:
        self._sample, self._tokenizer, self._stops = sample, tokenizer, stops
        self._recording, self._top = recording, order.top_logprobs or 0
        self._hidden_stops = () if order.keeps_stop else order.stop
        self._text = StreamedText(tokenizer, stops)
        self._written: list[int] = []
        self._held: list[Piece] = []
        self._is_stopped = False

    def feed(self, token: int) -> Piece | None:
        self._written.append(token)
        text = self._text.feed(token)
        self._is_stopped = bool(self._stops) and self._stops(self._written)
        scores: tuple[TokenScore, ...] = ()
        draw = self._recording.at(len(self._written) - 1) if self._recording else None
        if draw is not None and token not in self._stops.end_tokens:
            scores = (score_token(self._tokenizer, draw.logits, token, self._top),)
        self._held.append(Piece(self._sample, text, 1, scores))
        return None if self._is_stopped else self._released()

    def end(self) -> Piece:
        """All that was held back, and why the text is over."""
        if rest := self._text.flush():
            self._held.append(Piece(self._sample, rest, 0))
        if self._is_stopped:
            self._cut()
        reason: Reason = "stop" if self._is_stopped else "length"
        return _joined(self._sample, self._held, reason)

    def _released(self) -> Piece | None:
        text = "".join(piece.text for piece in self._held)
        safe = len(text) - self._begun(text)
        count = end = 0
        for piece in self._held:
            end += len(piece.text)
            if end > safe:
                break
            count += 1
        ready, self._held = self._held[:count], self._held[count:]
        return _joined(self._sample, ready) if ready else None

    def _begun(self, text: str) -> int:
        """How many of the last characters may be the beginning of a stop text."""
        longest = max(map(len, self._hidden_stops), default=1) - 1
        return next(
            (
                count
                for count in range(min(longest, len(text)), 0, -1)
                if any(stop.startswith(text[-count:]) for stop in self._hidden_stops)
            ),
            0,
        )

    def _cut(self) -> None:
        """Take the stop text, with which what is held ends, away again."""
        text = "".join(piece.text for piece in self._held)
        ends = [len(stop) for stop in self._hidden_stops if text.endswith(stop)]
        left, kept = len(text) - max(ends, default=0), []
        for piece in self._held:
            whole = len(piece.text) <= left
            shown = piece.text[: max(left, 0)]
            kept.append(
                Piece(self._sample, shown, piece.tokens, piece.scores if whole or shown else ())
            )
            left -= len(piece.text)
        self._held = kept


def _joined(sample: int, pieces: Sequence[Piece], reason: Reason | None = None) -> Piece:
    return Piece(
        sample,
        "".join(piece.text for piece in pieces),
        sum(piece.tokens for piece in pieces),
        tuple(score for piece in pieces for score in piece.scores),
        reason,
    )


def joined_by_sample(pieces: Sequence[Piece]) -> list[Piece]:
    """One piece a text, in the order of the texts; the prompt, where it is there, first."""
    found = []
    for sample in sorted({piece.sample for piece in pieces}):
        own = [piece for piece in pieces if piece.sample == sample]
        found.append(_joined(sample, own, own[-1].reason))
    return found


def score_token(tokenizer: Tokenizer, logits: FloatArray, token: int, top: int) -> TokenScore:
    """A token's log-probability, with those of the ``top`` likeliest, by ``logits`` [V]."""
    shifted = logits.astype(np.float64) - logits.max()
    logprobs = shifted - np.log(np.exp(shifted).sum())
    best = np.argsort(-logprobs, kind="stable")[:top].tolist()

    def scored(each: int) -> TokenScore:
        return TokenScore(
            shown_token(tokenizer, each), tokenizer.token_bytes(each), float(logprobs[each])
        )

    own = scored(token)
    return TokenScore(own.text, own.bytes, own.logprob, tuple(map(scored, best)))


def _scored_prompt(order: TextOrder, opened: Opened, tokenizer: Tokenizer) -> Piece:
    first, *others = order.prompt
    logits = logits_of(opened.model, np.array(order.prompt[:-1], np.int64))  # type: ignore[arg-type]
    scores = [TokenScore(shown_token(tokenizer, first), tokenizer.token_bytes(first), None)]
    for row, token in zip(logits, others, strict=True):
        scores.append(score_token(tokenizer, row, token, order.top_logprobs or 0))
    return Piece(-1, tokenizer.decode(order.prompt), 0, tuple(scores))


@dataclass
class TextCache:
    """Texts that were written by their order, those used last.

    Attributes:
        most_bytes: About what they may take.
    """

    most_bytes: int
    _texts: OrderedDict[TextOrder, tuple[Piece, ...]] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, order: TextOrder) -> tuple[Piece, ...] | None:
        """What was written, one piece a text."""
        with self._lock:
            found = self._texts.get(order)
            if found is not None:
                self._texts.move_to_end(order)
            return found

    def put(self, order: TextOrder, pieces: Sequence[Piece]) -> None:
        """Keep what was written."""
        joined = tuple(joined_by_sample(pieces))
        size = _size(order, joined)
        with self._lock:
            if order in self._texts or size > self.most_bytes:
                return
            self._texts[order] = joined
            self._bytes += size
            while self._bytes > self.most_bytes:
                self._bytes -= _size(*self._texts.popitem(last=False))


def _size(order: TextOrder, pieces: Sequence[Piece]) -> int:
    scores = sum(1 + len(score.top) for piece in pieces for score in piece.scores)
    return 500 + 8 * len(order.prompt) + sum(4 * len(p.text) for p in pieces) + 300 * scores
