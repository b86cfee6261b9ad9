"""A model that is only a function from tokens to logits, such as an exported file."""

from collections.abc import Callable, Iterable

import numpy as np

from shakespeare_tui.config.schema import ModelConfig
from shakespeare_tui.decoding.decoder import (
    Decoder,
    Drafter,
    FloatArray,
    IntArray,
    WriteAhead,
    check_room,
)
from shakespeare_tui.errors import UserError


class LogitsModel:
    """What evaluation, scores and decoders need, by a function.

    Args:
        logits: Of what comes after each of the tokens [B, T] given to it, [B, T, V].
        config: The shape.
        vocab_size: V.
        context: The most tokens that are read together.
        make_decoder: Makes a decoder of so many streams that remembers what it has read; None
            lets one read all its tokens anew with each.
    """

    def __init__(
        self,
        logits: Callable[[IntArray], FloatArray],
        config: ModelConfig,
        vocab_size: int,
        context: int,
        make_decoder: Callable[[int], Decoder] | None = None,
    ) -> None:
        self.config, self.vocab_size, self.context = config, vocab_size, context
        # Whatever computes it: it is not known to do without all the scores of attention.
        self.is_fused = False
        self._logits = logits
        self._make_decoder = make_decoder

    def make_decoder(self, streams: int) -> Decoder:
        """A decoder of ``streams`` streams."""
        make = self._make_decoder
        return _Decoder(self, streams) if make is None else make(streams)

    def last_logits(self, tokens: IntArray, count: int) -> FloatArray:
        """Logits [B, P, V] of what comes after each of the last P of ``tokens`` [B, T]."""
        return self._logits(np.ascontiguousarray(tokens, np.int64))[:, -count:]

    def attention_weights(self, tokens: IntArray) -> FloatArray:
        """Nothing of the kind comes out of such a model.

        Raises:
            UserError: Always.
        """
        raise UserError("an exported model does not show its attention; take the run itself")

    def sum_losses(self, batches: Iterable[IntArray]) -> tuple[float, int]:
        """Cross-entropy in nats, and how many tokens had the highest probability, over all.

        Args:
            batches: Windows of inputs and targets in one, each [B, T + 1].
        """
        total, correct = 0.0, 0
        for batch in batches:
            logits = self.last_logits(batch[:, :-1], batch.shape[1] - 1)
            targets = batch[:, 1:, None]
            largest = logits.max(-1, keepdims=True)
            normal = np.log(np.exp(logits - largest).sum(-1, keepdims=True)) + largest
            losses = normal - np.take_along_axis(logits, targets, -1)
            total += float(losses.sum(dtype=np.float64))
            correct += int((logits.argmax(-1) == targets[..., 0]).sum())
        return total, correct


class _Decoder:
    """Reads all its tokens again with every new one."""

    def __init__(self, model: LogitsModel, streams: int) -> None:
        self.vocab_size, self.context = model.vocab_size, model.context
        self.make_drafter: Callable[[], Drafter | None] | None = None
        self.write_ahead: WriteAhead | None = None
        self._model = model
        self._tokens = np.empty((streams, 0), np.int64)

    @property
    def streams(self) -> int:
        return len(self._tokens)

    @property
    def length(self) -> int:
        return self._tokens.shape[1]

    @property
    def hidden(self) -> FloatArray:
        raise no_hidden_states()

    def read(self, tokens: IntArray) -> FloatArray:
        return self._read(tokens, 1)[:, 0]

    def read_all(self, tokens: IntArray) -> FloatArray:
        return self._read(tokens, tokens.shape[1])

    def _read(self, tokens: IntArray, count: int) -> FloatArray:
        check_room(self.length + tokens.shape[1], self.context)
        self._tokens = np.concatenate((self._tokens, tokens), axis=1)
        return self._model.last_logits(self._tokens, count)

    def rewind(self, length: int) -> None:
        self._tokens = self._tokens[:, :length]

    def reorder(self, rows: IntArray) -> None:
        self._tokens = self._tokens[rows]


def no_hidden_states() -> UserError:
    """What to raise where a decoder of logits alone is asked for more."""
    return UserError(
        "contrastive search compares hidden states, which an exported model does not give; take "
        "the run itself, or another strategy"
    )
