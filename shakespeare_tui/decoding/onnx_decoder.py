"""Models in ONNX files, run by ONNX Runtime: plain graphs, and graphs with a KV cache.

A graph takes ``input_ids`` [B, T] and gives ``logits`` [B, T, V]. One with a cache takes besides,
for each layer, ``past_key_values.N.key`` and ``.value`` [B, K, S, D] of the S tokens read before,
and gives ``present.N.key`` and ``.value`` [B, K, S + T, D]: the names that Optimum and
Transformers.js use. What a short convolution reads is ``.convolved``, [B, 1, S, C].
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from shakespeare_tui.decoding.logits_model import LogitsModel, no_hidden_states
from shakespeare_tui.errors import UserError
from shakespeare_tui.machine import usable_cores

CONTEXT_KEY, VOCAB_KEY = "shakespeare_tui.context", "shakespeare_tui.vocab_size"
"""Of the metadata."""
TOKENS, LOGITS = "input_ids", "logits"
"""Names of an input and an output."""


PAST, PRESENT = "past_key_values", "present"
"""What names of inputs and outputs with the cache begin with."""


def cached(shape: ModelConfig) -> dict[str, tuple[int, int]]:
    """What a graph with a cache remembers, by the ends of names: K and D of [B, K, S, D]."""
    names = [f"{n}.{kind}" for n in range(shape.n_layers) for kind in ("key", "value")]
    found = dict.fromkeys(names, (shape.key_heads, shape.head_width))
    if shape.short_convolution:
        found |= {f"{n}.convolved": (1, shape.d_model) for n in range(shape.n_layers)}
    return found


def open_onnx(path: Path) -> tuple[Callable[[ModelConfig], LogitsModel], dict[str, str]]:
    """What makes the model in a file of ours, given its shape, and the file's metadata.

    Raises:
        UserError: It is none, damaged, or the package is missing.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            "running ONNX files takes a package that is not installed: "
            "pip install 'shakespeare-tui[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001 — the package raises nothing narrower
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is damaged or no ONNX file ({words})") from None
    metadata: dict[str, str] = session.get_modelmeta().custom_metadata_map
    try:
        context, vocab_size = int(metadata[CONTEXT_KEY]), int(metadata[VOCAB_KEY])
    except (KeyError, ValueError):
        raise UserError(
            f"{path} was not exported by this program: it does not say its context and "
            "vocabulary; export the run again"
        ) from None
    graph = _Graph(session, vocab_size, context)
    make = graph.make_decoder if graph.past else None
    return lambda shape: LogitsModel(graph.logits, shape, vocab_size, context, make), metadata


class _Graph:
    """A session with the shapes of its cache."""

    def __init__(self, session: Any, vocab_size: int, context: int) -> None:
        self.session = session
        self.vocab_size, self.context = vocab_size, context
        inputs = [entry for entry in session.get_inputs() if entry.name != TOKENS]
        self.past = [entry.name for entry in inputs]
        # K and D of [B, K, S, D].
        self.widths = [(entry.shape[1], entry.shape[3]) for entry in inputs]

    def empty(self, streams: int) -> list[FloatArray]:
        """Keys and values of no tokens."""
        return [np.zeros((streams, heads, 0, width), np.float32) for heads, width in self.widths]

    def run(self, tokens: IntArray, past: list[FloatArray]) -> tuple[FloatArray, list[FloatArray]]:
        """Logits [B, T, V] of tokens [B, T], and keys and values of all tokens so far."""
        values = dict(zip(self.past, past, strict=True))
        ids = np.ascontiguousarray(tokens, np.int64)
        logits, *present = self.session.run(None, {TOKENS: ids, **values})
        return logits, present

    def logits(self, tokens: IntArray) -> FloatArray:
        """Logits [B, T, V] of tokens [B, T]."""
        return self.run(tokens, self.empty(len(tokens)))[0]

    def make_decoder(self, streams: int) -> Decoder:
        """One that remembers."""
        return _CachedDecoder(self, streams)


class _CachedDecoder:
    """Gives the graph the keys and values of what was read before."""

    def __init__(self, graph: _Graph, streams: int) -> None:
        self.vocab_size, self.context = graph.vocab_size, graph.context
        self.make_drafter: Callable[[], Drafter | None] | None = None
        self.write_ahead: WriteAhead | None = None
        self._graph = graph
        self._streams = streams
        self._past = graph.empty(streams)

    @property
    def streams(self) -> int:
        return self._streams

    @property
    def length(self) -> int:
        read: int = self._past[0].shape[2]
        return read

    @property
    def hidden(self) -> FloatArray:
        raise no_hidden_states()

    def read(self, tokens: IntArray) -> FloatArray:
        return self.read_all(tokens)[:, -1]

    def read_all(self, tokens: IntArray) -> FloatArray:
        check_room(self.length + tokens.shape[1], self.context)
        logits, self._past = self._graph.run(tokens, self._past)
        return logits

    def rewind(self, length: int) -> None:
        self._past = [array[:, :, :length] for array in self._past]

    def reorder(self, rows: IntArray) -> None:
        self._past = [array[rows] for array in self._past]
        self._streams = len(rows)
