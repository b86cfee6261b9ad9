"""Choose the decoder for a model."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, Union

from shakespeare_tui.decoding.cpu_decoder import CpuDecoder, ModelArrays, prepack
from shakespeare_tui.decoding.decoder import (
    PRECISIONS,
    Decoder,
    Drafter,
    Precision,
    RereadingDecoder,
)
from shakespeare_tui.errors import UserError, never
from shakespeare_tui.models.numpy_gpt import GPT

if TYPE_CHECKING:
    from shakespeare_tui.models.transformer import Transformer

Model: TypeAlias = Union[GPT, "Transformer"]
"""A model of either library; what is NumPy's needs no torch."""

# Smaller models stay in the processor's cache, where reading them is no bound.
_LEAST_BYTES = 12_000_000
# The 8-bit kernel is slow without vectors, and takes whole blocks of outputs and inputs only.
_FAST_INSTRUCTIONS = ("AVX2", "AVX512")
_BLOCK = 32


def is_worth_drafting(model: "Transformer") -> bool:
    """Whether a copy with 8-bit weights would be much faster than the model."""
    import torch

    shape = model.config
    weights = sum(parameter.nbytes for parameter in model.blocks.parameters())
    return (
        weights >= _LEAST_BYTES
        and shape.d_model % _BLOCK == 0
        and shape.feedforward_width % _BLOCK == 0
        and torch.backends.cpu.get_cpu_capability() in _FAST_INSTRUCTIONS
    )


def make_decoder(
    model: Model,
    streams: int,
    *,
    precision: Precision = "auto",
    use_cache: bool = True,
    cancelled: Callable[[], bool] = never,
) -> Decoder:
    """A decoder of ``streams`` streams: the fast one on the CPU, the plain one elsewhere.

    Args:
        model: In evaluation mode; on the CPU its weights are copied.
        streams: B.
        precision: ``auto`` and ``float32`` compute what the model does. ``bfloat16`` and ``int8``
            round the weights of the layers to 8 and about 7 significant bits: faster, and
            approximate.
        use_cache: Remember what was read; without, every read begins anew, with the same result.
        cancelled: Polled while weights are copied.

    Raises:
        UserError: There is no such precision, or not on the model's device.
        CancelledError: ``cancelled`` became true.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision}")
    if isinstance(model, GPT):
        arrays = ModelArrays(model.config, model.weights, model.context, model.embedding_scale)
        decoder: Decoder = CpuDecoder(prepack(arrays, precision, cancelled), streams)
    else:
        decoder = _of_torch(model, streams, precision, cancelled)
    return decoder if use_cache else RereadingDecoder(decoder)


def _of_torch(
    model: "Transformer", streams: int, precision: Precision, cancelled: Callable[[], bool]
) -> Decoder:
    import torch

    from shakespeare_tui.decoding.torch_decoder import PlainDecoder
    from shakespeare_tui.decoding.torch_kernels import can_prepack, prepacked

    if can_prepack(model):
        make_drafter: Callable[[], Drafter] | None = None
        if precision == "auto" and streams == 1 and is_worth_drafting(model):
            make_drafter = lambda: CpuDecoder(prepacked(model, "int8"), 1)  # noqa: E731
        return CpuDecoder(prepacked(model, precision, cancelled), streams, make_drafter)
    if precision == "int8":
        device = model.embedding.weight.device.type
        raise UserError(f"precision int8 works on the CPU only, not on {device}; take bfloat16")
    return PlainDecoder(model, streams, torch.bfloat16 if precision == "bfloat16" else None)
