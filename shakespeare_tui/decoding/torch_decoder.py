"""Decoders of PyTorch's models: packed for the CPU, as they are on any device."""

import weakref
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from shakespeare_tui.decoding.cpu_decoder import make_cpu_decoder
from shakespeare_tui.decoding.decoder import (
    Decoder,
    Drafter,
    FloatArray,
    IntArray,
    Precision,
    WriteAhead,
)
from shakespeare_tui.decoding.packed import ModelArrays, PackedWeights, pack
from shakespeare_tui.errors import UserError, never
from shakespeare_tui.models.transformer import Transformer

# Bytes of weights, times streams, below which the CPU writes sooner than a GPU: there a token is
# some two hundred kernels, whose launches take 5 ms whatever they compute.
_MOST_FROM_GPU = 100_000_000


def make_torch_decoder(
    model: Transformer,
    streams: int,
    precision: Precision,
    is_settled: bool,
    cancelled: Callable[[], bool],
) -> Decoder:
    """What ``make_decoder`` takes for a model of PyTorch.

    Raises:
        UserError: The precision is not there on the model's device.
        CancelledError: ``cancelled``, polled while weights are copied, became true.
    """
    if can_pack(model, streams):
        return make_cpu_decoder(
            lambda exactly: packed_weights(model, exactly, cancelled, is_settled=is_settled),
            streams,
            precision,
            cancelled,
        )
    if precision == "int8":
        device = model.embedding.weight.device.type
        raise UserError(f"precision int8 works on the CPU only, not on {device}; take bfloat16")
    return TorchDecoder(model, streams, torch.bfloat16 if precision == "bfloat16" else None)


def arrays_of(model: Transformer) -> ModelArrays:
    """A model of float32; on the CPU the arrays share its memory."""
    named = model.named_parameters()
    weights = {name: parameter.detach().cpu().numpy() for name, parameter in named}
    return ModelArrays(model.config, weights, model.context, model.embedding_scale)


def can_pack(model: Transformer, streams: int) -> bool:
    """Whether ``packed_weights`` is the way: float32, on the CPU, or small enough on a GPU."""
    weight = model.embedding.weight
    size = sum(parameter.nbytes for parameter in model.parameters())
    is_small = weight.device.type == "cuda" and size * streams <= _MOST_FROM_GPU
    return weight.dtype == torch.float32 and (weight.device.type == "cpu" or is_small)


_Checksums = tuple[int, ...]
_MOST_BYTES_KEPT = 1_000_000_000
_Kept = dict[Precision, tuple[_Checksums, PackedWeights]]
_kept: weakref.WeakKeyDictionary[Transformer, _Kept] = weakref.WeakKeyDictionary()


def packed_weights(
    model: Transformer,
    precision: Precision,
    cancelled: Callable[[], bool] = never,
    *,
    is_settled: bool = False,
) -> PackedWeights:
    """What ``pack`` makes of the model as it is now, from memory where it has not changed.

    Looking whether it has takes a tenth of packing it, so that every text but the first begins
    sooner; of a model that is settled not even that is done. It is kept as long as the model is;
    the largest models, whose copies would be a burden, are packed for each text.

    Raises:
        CancelledError: ``cancelled``, polled between layers, became true.
    """
    parameters = list(model.parameters())
    # An autocast is of a training under way, not of the text.
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        if sum(parameter.nbytes for parameter in parameters) > _MOST_BYTES_KEPT:
            return pack(arrays_of(model), precision, cancelled)
        kept = _kept.setdefault(model, {})
        if is_settled and precision in kept:
            return kept[precision][1]
        # By value: not all that changes weights leaves a trace in PyTorch's version numbers.
        checksums = tuple(map(_checksum, parameters))
        if precision not in kept or kept[precision][0] != checksums:
            # What is out of date goes first: large models would otherwise be there twice as often.
            kept.pop(precision, None)
            kept[precision] = checksums, pack(arrays_of(model), precision, cancelled)
        return kept[precision][1]


def _checksum(parameter: Tensor) -> int:
    """By its bits, eight bytes at once where there are so many."""
    whole = torch.int64 if parameter.size(-1) % 2 == 0 else torch.int32
    return int(parameter.view(whole).sum())


def forget_packed(model: Transformer) -> None:
    """Give up what is kept of a model whose weights are about to change."""
    _kept.pop(model, None)


class TorchDecoder:
    """The model with its own key-value cache.

    Args:
        model: In evaluation mode.
        streams: B.
        dtype: Type of matrix products; None leaves the model's.
    """

    def __init__(self, model: Transformer, streams: int, dtype: torch.dtype | None = None) -> None:
        self.vocab_size = model.vocab_size
        self.context = model.context
        self.make_drafter: Callable[[], Drafter | None] | None = None
        self.write_ahead: WriteAhead | None = None
        self._model = model
        self._dtype = dtype
        self._cache = model.make_cache(streams)
        self._hidden: Tensor | None = None

    @property
    def streams(self) -> int:
        """B."""
        return self._cache.keys.size(1)

    @property
    def length(self) -> int:
        """How many tokens of each stream have been read."""
        return self._cache.length

    @property
    def hidden(self) -> FloatArray:
        """Hidden states [B, T, C] after the last norm, of the tokens of the last read."""
        if self._hidden is None:
            raise ValueError("nothing has been read yet")
        return _as_array(self._hidden)

    def read(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, V] of what comes next."""
        return self._read(tokens, all_of_them=False)

    def read_all(self, tokens: IntArray) -> FloatArray:
        """Read on with ``tokens`` [B, T]; returns the logits [B, T, V] after each of them."""
        return self._read(tokens, all_of_them=True)

    @torch.inference_mode()
    def _read(self, tokens: IntArray, *, all_of_them: bool) -> FloatArray:
        device = self._cache.keys.device
        ids = torch.from_numpy(np.ascontiguousarray(tokens)).to(device)
        with torch.autocast(device.type, self._dtype, enabled=self._dtype is not None):
            self._hidden = self._model.hidden_states(ids, self._cache)
            shown = self._hidden if all_of_them else self._hidden[:, -1]
            return _as_array(self._model.head(shown))

    def rewind(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        self._cache.length = min(length, self._cache.length)

    def reorder(self, rows: IntArray) -> None:
        """Let stream i go on from stream ``rows[i]``; more or fewer rows change B."""
        index = torch.from_numpy(rows).to(self._cache.keys.device)
        self._cache.keys = self._cache.keys[:, index]
        self._cache.values = self._cache.values[:, index]
        self._cache.tokens = self._cache.tokens[index]
        self._cache.convolved = self._cache.convolved[:, index]
        if self._hidden is not None:
            self._hidden = self._hidden[index]


def _as_array(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array
