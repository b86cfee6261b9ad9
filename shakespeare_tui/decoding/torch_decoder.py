"""Decoders of PyTorch's models: prepacked on the CPU, as they are on any device."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from shakespeare_tui.decoding.cpu_decoder import SMALL_HEAD, CpuDecoder
from shakespeare_tui.decoding.decoder import Decoder, Drafter, FloatArray, IntArray, Precision
from shakespeare_tui.decoding.torch_kernels import can_prepack, prepacked
from shakespeare_tui.errors import UserError
from shakespeare_tui.models.transformer import Transformer

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
        # Of many tokens few are drafted right, and each draft's last layer is dear.
        and model.embedding.weight.nbytes < SMALL_HEAD * weights
        and shape.d_model % _BLOCK == 0
        and shape.feedforward_width % _BLOCK == 0
        and torch.backends.cpu.get_cpu_capability() in _FAST_INSTRUCTIONS
    )


def make_torch_decoder(
    model: Transformer, streams: int, precision: Precision, cancelled: Callable[[], bool]
) -> Decoder:
    """What ``make_decoder`` takes for a model of PyTorch.

    Raises:
        UserError: The precision is not there on the model's device.
        CancelledError: ``cancelled``, polled while weights are copied, became true.
    """
    if can_prepack(model):

        def make_drafter() -> Drafter:
            return CpuDecoder(prepacked(model, "int8"), 1)

        drafts = precision == "auto" and streams == 1 and is_worth_drafting(model)
        weights = prepacked(model, precision, cancelled)
        return CpuDecoder(weights, streams, make_drafter if drafts else None)
    if precision == "int8":
        device = model.embedding.weight.device.type
        raise UserError(f"precision int8 works on the CPU only, not on {device}; take bfloat16")
    return TorchDecoder(model, streams, torch.bfloat16 if precision == "bfloat16" else None)


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
        self.make_drafter: Callable[[], Drafter] | None = None
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
        if self._hidden is not None:
            self._hidden = self._hidden[index]


def _as_array(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array
