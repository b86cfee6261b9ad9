"""What decides, after each pass of the model, how a column's streams go on."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shakespeare_tui.decoding.decoder import Decoder, FloatArray, IntArray
from shakespeare_tui.decoding.draws import chain_of
from shakespeare_tui.decoding.streaming_text import Stop
from shakespeare_tui.sampling import Recording, Sampler, Strategy

ENDED = -1
"""Stands for the token of a stream that has ended."""
WAITING = -2
"""Stands for the token of a stream whose next token is not known yet."""


class Chooser(Protocol):
    """Goes on with one column, which has ``rows`` streams in the decoder.

    Attributes:
        samples: How many continuations it gives.
        rows: How many streams it follows; more than samples where a search follows
            several beginnings.
        tokens: What was chosen for the end of each row, [rows]; set by ``choose``.
        parents: The rows that they follow, [rows]; None where each follows itself.
        is_over: Whether nothing more comes from ``choose``.
        lag: How many passes a token is behind: 1 where it is chosen after it was read.
    """

    lag: int
    samples: int
    rows: int
    tokens: IntArray
    parents: IntArray | None
    is_over: bool

    def choose(
        self, logits: FloatArray, text: IntArray, decoder: Decoder, rows: slice
    ) -> list[int]:
        """Choose from ``logits`` [rows, V] what follows the ``text`` [rows, L].

        Args:
            logits: Of the column's rows.
            text: All of it, the prompt too.
            decoder: Has just read it; ``rows`` are the column's in it.
            rows: As a slice.

        Returns:
            For each sample a token, ``ENDED`` or ``WAITING``.
        """

    def left(self) -> list[list[int]]:
        """What ``choose`` has not returned yet, for each sample, after the last pass."""


class DrawingChooser:
    """Draws every token, or takes the likeliest: one row a sample.

    Args:
        strategy: Without a search.
        samples: How many streams.
        seed: Stream i draws by (seed, i).
        stop: What ends a stream; None is nothing.
        recordings: Of the samples, to note what each token was drawn from; or none.
    """

    lag = 0

    def __init__(
        self,
        strategy: Strategy,
        samples: int,
        seed: int,
        stop: Stop | None,
        recordings: Sequence[Recording] = (),
    ) -> None:
        self.samples = self.rows = samples
        self.tokens = np.zeros(samples, np.int64)
        self.parents: IntArray | None = None
        self.is_over = False
        self.chain = chain_of(strategy)
        """The strategy for decoders that draw by themselves; None where they cannot."""
        self._sampler = Sampler(strategy, samples, seed)
        self._stop = stop
        self._recordings = recordings
        self._has_ended = [False] * samples
        self._written: list[list[int]] = [[] for _ in range(samples)]

    def draft(self, logits: FloatArray, text: IntArray) -> IntArray:
        """What ``choose`` would choose by these logits, without settling on it."""
        return self._sampler.draw(self._sampler.probabilities(logits, text))

    def choose(
        self, logits: FloatArray, text: IntArray, decoder: Decoder, rows: slice
    ) -> list[int]:
        """Choose a token for every stream that has not ended."""
        return self._settle(self._sampler.draw(self._sampler.probabilities(logits, text)))

    def uniforms(self, length: int, count: int) -> NDArray[np.float64]:
        """The numbers [rows, count] by which tokens from ``length`` on are drawn."""
        return self._sampler.uniforms(length, count)

    def accept(self, tokens: IntArray, logits: FloatArray | None, length: int) -> list[list[int]]:
        """Take the tokens that a decoder drew after ``length`` by ``chain``, as if chosen.

        Returns what ``choose`` would have for each of the T places, up to the last stream's end.

        Args:
            tokens: [rows, T].
            logits: What they were drawn from, [rows, T, V]; not needed where nothing records it.
            length: Of the text before them.
        """
        self._sampler.follow(length, tokens.shape[1])
        if self._stop is None:
            chosen: list[list[int]] = tokens.T.tolist()
            counts = [len(chosen)] * self.samples
        else:
            chosen, counts = self._until_stopped(tokens)
        self.tokens = tokens[:, len(chosen) - 1]
        if logits is not None:
            for stream, recording in enumerate(self._recordings):
                drawn = logits[stream, : counts[stream]]
                recording.extend(self._sampler.bases(stream, drawn, length))
        return chosen

    def _until_stopped(self, tokens: IntArray) -> tuple[list[list[int]], list[int]]:
        """The rows of ``tokens`` [rows, T] up to the end of all, and how many each stream has."""
        chosen: list[list[int]] = []
        counts = [0] * self.samples
        for row in tokens.T.tolist():
            for stream, token in enumerate(row):
                counts[stream] += not self._has_ended[stream]
                row[stream] = self._unless_ended(stream, token)
            chosen.append(row)
            self.is_over = all(self._has_ended)
            if self.is_over:
                break
        return chosen, counts

    def _unless_ended(self, stream: int, token: int) -> int:
        """The token, unless its stream has ended; the stream may end with it."""
        if self._stop is None:
            return token
        if self._has_ended[stream]:
            return ENDED
        self._written[stream].append(token)
        self._has_ended[stream] = self._stop(self._written[stream])
        return token

    @property
    def is_recorded(self) -> bool:
        """Whether what tokens are drawn from is noted."""
        return bool(self._recordings)

    def _settle(self, tokens: IntArray) -> list[int]:
        for stream, recording in enumerate(self._recordings):
            if not self._has_ended[stream]:
                recording.add(self._sampler.basis(stream))
        self.tokens = tokens
        self._sampler.observe(tokens)
        chosen = [self._unless_ended(*each) for each in enumerate(tokens.tolist())]
        self.is_over = all(self._has_ended)
        return chosen

    def left(self) -> list[list[int]]:
        """Nothing."""
        return [[] for _ in range(self.rows)]
