"""Write one stream exactly as the model would, from rough drafts that it checks several at a time.

For one stream, a token takes as long as reading the weights from memory. A copy of the model with
8-bit weights reads a quarter of the bytes. It drafts a few tokens by the same random numbers; then
the model reads all of them at once and chooses every token itself. While its choice is what was
drafted, the next has been computed already; where it is not, the rest of the draft is dropped. So a
bad draft costs time and never changes the text.

The copy begins each draft from the keys and values of the model itself, so it need not read what
the model has read, and attends to better ones than its own.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from shakespeare_tui.decoding.choosers import DrawingChooser
from shakespeare_tui.decoding.cpu_decoder import FastDecoder
from shakespeare_tui.decoding.decoder import FloatArray, IntArray
from shakespeare_tui.decoding.window import WindowReader
from shakespeare_tui.errors import CancelledError
from shakespeare_tui.models.transformer import Transformer

# The model reads twelve tokens in the time of eight.
_DRAFTED_TOKENS = 11
# Smaller models stay in the processor's cache, where reading them is no bound.
_LEAST_BYTES = 12_000_000
# The 8-bit kernel is slow without vectors, and takes whole blocks of outputs and inputs only.
_FAST_INSTRUCTIONS = ("AVX2", "AVX512")
_BLOCK = 32


def is_worth_drafting(model: Transformer) -> bool:
    """Whether a copy with 8-bit weights would be much faster than the model."""
    shape = model.config
    weights = sum(parameter.nbytes for parameter in model.blocks.parameters())
    return (
        weights >= _LEAST_BYTES
        and shape.d_model % _BLOCK == 0
        and shape.feedforward_width % _BLOCK == 0
        and torch.backends.cpu.get_cpu_capability() in _FAST_INSTRUCTIONS
    )


def write_from_drafts(
    decoder: FastDecoder,
    make_drafter: Callable[[], FastDecoder],
    prompt: Sequence[int],
    chooser: DrawingChooser,
    max_tokens: int,
    cancelled: Callable[[], bool],
) -> Iterator[list[int]]:
    """Yield rows of one token.

    Args:
        decoder: The model; has read nothing, one stream.
        make_drafter: Makes the copy, after the first token, so that it is not waited for.
        prompt: At least one token.
        chooser: Of one stream.
        max_tokens: The most tokens.
        cancelled: Polled before each token.

    Raises:
        CancelledError: ``cancelled`` became true.
    """
    length, last = len(prompt), len(prompt) + max_tokens
    text = np.empty((1, last), np.int64)
    text[:, :length] = prompt
    reader = WindowReader(decoder)
    drafter: FastDecoder | None = None
    while length < last and not chooser.is_over:
        count = 0
        reader.forget_after(length - 1)
        if length > len(prompt) and reader.unread(length) == 1:
            drafter = drafter or make_drafter()
            count = min(_DRAFTED_TOKENS, reader.room(length), last - length - 1)
            drafter.follow(decoder)
            for end in range(length, length + count):
                text[:, end] = chooser.draft(drafter.read(text[:, end - 1 : end]), text[:, :end])
        logits = reader.read_all(text[:, : length + count], count + 1)
        for token in _checked(chooser, logits, text, length, cancelled):
            length += 1
            yield [token]


def _checked(
    chooser: DrawingChooser,
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
        (token,) = chooser.choose(logits[:, place], text[:, :end])
        has_draft = place + 1 < logits.shape[1]
        is_as_drafted = has_draft and token == text[0, end]
        text[0, end] = token
        yield token
        if chooser.is_over or not is_as_drafted:
            return
